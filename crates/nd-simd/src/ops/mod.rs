//! Kernels as ops on the tape.
//!
//! Each file is one op: an extension trait on [`nd_core::autograd::Var`] whose method computes the value and records the
//! op, and the op's backward pass below it. `use nd_simd::ops::prelude::*` brings every method into scope.
//!
//! Ops obey the options of their tape: the SIMD level, whether work may be split over threads, the mode, and the number format by
//! the table of [`crate::autocast`].

pub mod activation;
pub mod arithmetic;
pub mod batch_norm;
pub mod bias;
mod bias_gradient;
pub mod conv;
pub mod dropout;
pub mod gather;
pub mod interpolate;
pub mod layer_norm;
pub mod linear;
pub mod log_softmax;
mod lstm_half;
pub mod matmul;
pub mod moving_average;
pub mod patches;
pub mod permute;
pub mod pool;
pub mod recurrent;
pub mod slice;
pub mod softmax;

use nd_core::autograd::{Accumulate, Grad};

use crate::lanes::SimdReal;

/// Elements that one task of an op over elements handles: the same whatever the threads.
pub(crate) const BLOCK: usize = 16 * 1024;

/// The elements of whole rows that one task of an op over rows handles.
pub(crate) fn row_chunk(cols: usize) -> usize {
    let cols = cols.max(1);
    cols * (BLOCK / cols).max(1)
}

/// A gradient in the form that kernels with several of them take.
pub(crate) fn slot<'a, R: SimdReal>(
    grad: &'a mut Option<Grad<'_, R>>,
) -> Option<(&'a mut [R], Accumulate)> {
    grad.as_mut().map(|grad| {
        let accumulate = grad.accumulate;
        (&mut grad[..], accumulate)
    })
}

/// Every op as a method of [`nd_core::autograd::Var`].
pub mod prelude {
    pub use super::activation::ActivationExt;
    pub use super::arithmetic::ArithmeticExt;
    pub use super::batch_norm::{BatchNormExt, RunningMoments};
    pub use super::bias::BiasExt;
    pub use super::conv::Conv1dExt;
    pub use super::dropout::DropoutExt;
    pub use super::gather::GatherExt;
    pub use super::interpolate::InterpolateExt;
    pub use super::layer_norm::{LAYER_NORM_EPS, LayerNormExt};
    pub use super::linear::LinearExt;
    pub use super::log_softmax::LogSoftmaxExt;
    pub use super::matmul::MatmulExt;
    pub use super::moving_average::MovingAverageExt;
    pub use super::patches::PatchesExt;
    pub use super::permute::PermuteExt;
    pub use super::pool::PoolExt;
    pub use super::recurrent::{RecurrentExt, RecurrentWeights};
    pub use super::slice::{SliceExt, concat};
    pub use super::softmax::SoftmaxExt;
}
