//! Kernels as ops on the tape.
//!
//! Each file is one op: an extension trait on [`nd_core::autograd::Var`] whose method computes the value and records the
//! op, and the op's backward pass below it. `use nd_simd::ops::prelude::*` brings every method into scope.
//!
//! Ops obey the options of their tape: the SIMD level, whether work may be split over threads, the mode.

pub mod linear;

/// Every op as a method of [`nd_core::autograd::Var`].
pub mod prelude {
    pub use super::linear::LinearExt;
}
