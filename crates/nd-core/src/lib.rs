//! Tensors, a recycling memory pool, counter-based random numbers, a thread budget and an autograd tape.

pub mod autograd;
pub mod element;
pub mod error;
pub mod options;

pub use element::{DType, Element, Real, bf16, f16};
pub use error::CoreError;
pub use options::{AttentionKind, Precision, RunOptions, SimdLevel};
