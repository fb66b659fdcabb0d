//! Exact attention and its backward pass for CPUs.
