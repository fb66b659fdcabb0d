//! Reverse-mode differentiation on a tape of few, coarse, fused ops.

mod accumulate;

pub use accumulate::Accumulate;
