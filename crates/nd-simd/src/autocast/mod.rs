//! Runs in sixteen bits: what is rounded where.
//!
//! A tape in f32 whose options ask for bf16 or f16 ([`nd_core::Precision`]) computes by this table; no model knows of it, and on a
//! tape in f64 nothing changes.
//!
//! | op | operands of products | arithmetic | output kept in |
//! |---|---|---|---|
//! | `linear`, `matmul`, `matmul_transposed` | sixteen bits | f32 sums, f32 bias and activation | sixteen bits |
//! | `lstm` | input and hidden state in sixteen bits | f32 gates, f32 cell from step to step | sixteen bits, saved gates and cells too |
//! | `gru`, `rnn` | input and hidden state in sixteen bits | f32 gates | sixteen bits, saved gates too |
//! | attention (`nd-attention`) of many keys | bf16 q, k, v, probabilities and their gradients, where the processor multiplies bf16; else as below | f32 scores, softmax and sums | sixteen bits |
//! | attention of few keys | widened q, k, v | f32 | sixteen bits, scores too |
//! | `activation`, `dropout`, `add_dropout`, `add_bias`, `batch_norm`, `narrow` | | f32 | the format of the input |
//! | `layer_norm`, `rms_norm`, `softmax`, `log_softmax`, arithmetic, pooling, interpolation, everything else | | f32 | f32 |
//! | losses, reductions, gradients, optimizer, master weights | | f32 | f32 |
//!
//! Where the processor multiplies bf16, weights are rounded once per step and shared by all shards ([`nd_core::autograd::PackCache`]); elsewhere, and
//! in f16, by each op that reads them. In the backward pass the gradient of a
//! product's output is rounded to the same format. The gradient of a value that is kept in sixteen bits is too, when these ops bring it
//! and are the first to; what dense layers, LSTMs and attention over few keys add is added in f32 and the sum rounded again, as in PyTorch; what
//! others add makes it f32. Gradients of parameters are f32.
//!
//! The tricks: products round blocks of results while these are in a near cache;
//! elementwise ops and batch norms widen and round blocks that stay in the first or second. So sixteen-bit values pass through memory, and f32
//! ones do not. Known weakness: the other norms and softmax widen their whole input.

mod argument;
mod blocks;
mod input;
mod products;
mod sums;
mod weights;
mod widened;

use nd_core::autograd::{Stored, StoredRef, Tape};
use nd_core::{DType, Precision};

pub(crate) use argument::Argument;
pub(crate) use blocks::{Format, HalfMut, for_each_part, map_stored, narrow_all, read, wide};
pub(crate) use input::InputSlot;
pub(crate) use products::{
    Gradient, InputGradient, LayerGradients, Place, add_rounded_product, linear_backward,
    linear_forward, rounded_product,
};
pub(crate) use sums::column_sums_of;
pub(crate) use weights::weight_copy;

use crate::lanes::SimdReal;

/// The format of products on a tape: that of its options on an f32 tape, [`Precision::F32`] otherwise.
pub(crate) fn precision<R: SimdReal>(tape: &Tape<R>) -> Precision {
    if R::DTYPE == DType::F32 {
        tape.options().precision
    } else {
        Precision::F32
    }
}

/// A slice of the one type that `R` is; `None` for f64.
pub(crate) fn as_f32<R: SimdReal>(x: &[R]) -> Option<&[f32]> {
    // SAFETY: `Real` is sealed, and its implementor with this constant is f32: the types are the same.
    (R::DTYPE == DType::F32)
        .then(|| unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), x.len()) })
}

/// As [`as_f32`], to be written.
pub(crate) fn as_f32_mut<R: SimdReal>(x: &mut [R]) -> Option<&mut [f32]> {
    // SAFETY: as in `as_f32`; the borrow is handed on.
    (R::DTYPE == DType::F32)
        .then(|| unsafe { std::slice::from_raw_parts_mut(x.as_mut_ptr().cast(), x.len()) })
}

/// A value of an f32 tape, whatever it is kept in.
///
/// # Panics
/// The tape is not f32; ask [`precision`] first.
#[track_caller]
pub(crate) fn stored_f32<R: SimdReal>(x: StoredRef<'_, R>) -> StoredRef<'_, f32> {
    match x {
        StoredRef::Full(x) => StoredRef::Full(as_f32(x).expect("autocast is for f32 tapes")),
        StoredRef::Bf16(x) => StoredRef::Bf16(x),
        StoredRef::F16(x) => StoredRef::F16(x),
    }
}

/// A result of an f32 computation as a value of the f32 tape that `R` stands for.
///
/// # Panics
/// The tape is not f32; ask [`precision`] first.
#[track_caller]
pub(crate) fn from_f32<R: SimdReal>(x: Stored<f32>) -> Stored<R> {
    match x {
        Stored::Bf16(x) => Stored::Bf16(x),
        Stored::F16(x) => Stored::F16(x),
        Stored::Full(_) => unreachable!("results of autocast ops are kept in sixteen bits"),
    }
}

/// Whether a value is kept in sixteen bits.
pub(crate) fn is_half<R: SimdReal>(x: StoredRef<'_, R>) -> bool {
    x.precision() != Precision::F32
}
