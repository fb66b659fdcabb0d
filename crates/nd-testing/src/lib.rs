//! Test support: tolerances, ULP distances, gradient checks, golden files and a counting allocator.
