//! Batch norm over all dimensions but the last.
//!
//! In training it uses the statistics of the batch and moves the running ones (buffer parameters, updated once the step is
//! over); otherwise it uses the running ones. A network with a batch norm couples its rows: it runs on one tape.

use nd_core::Buffer;
use nd_core::autograd::{
    Accumulate, Backward, Grad, NodeId, Op, ParamId, Stored, StoredRef, Tape, Var,
};

use crate::autocast::{self, Format};
use crate::lanes::SimdReal;
use crate::norm::{
    self, BatchNorm, BatchNormSaved, HalfInputGradient, batch_moments, batch_moments_half,
    batch_norm_apply, batch_norm_apply_half, batch_norm_backward, batch_norm_backward_half,
    batch_norm_frozen_backward, batch_norm_scratch, update_running_moments,
};

/// The buffer parameters of a batch norm, each of `[C]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningMoments {
    /// The running mean.
    pub mean: ParamId,
    /// The running (unbiased) variance.
    pub variance: ParamId,
}

/// Batch norm on the tape.
pub trait BatchNormExt: Sized {
    /// `(x - mean) / sqrt(variance + eps) gain + bias`, each column of the last dimension by itself.
    ///
    /// With the tape in training, mean and variance are those of the batch, and the running ones move towards them; otherwise
    /// they are the running ones. Without running moments they are always the batch's.
    ///
    /// # Panics
    /// Gain, bias or running moments have not the length of the last dimension; there is no row.
    #[must_use]
    #[track_caller]
    fn batch_norm(
        self,
        gain: Self,
        bias: Self,
        running: Option<RunningMoments>,
        config: BatchNorm,
    ) -> Self;
}

impl<R: SimdReal> BatchNormExt for Var<'_, R> {
    fn batch_norm(
        self,
        gain: Self,
        bias: Self,
        running: Option<RunningMoments>,
        config: BatchNorm,
    ) -> Self {
        let tape = self.tape();
        let (level, parallel) = (tape.options().simd, tape.parallel());
        let (rows, cols) = (self.shape().rows(), self.shape().cols());
        for (row, name) in [(gain, "gain"), (bias, "bias")] {
            assert_eq!(
                row.shape().numel(),
                cols,
                "the {name} {} of a batch norm over {}",
                row.shape(),
                self.shape()
            );
        }
        let stored = self.stored();
        let in_blocks = autocast::is_half(stored) && norm::fits(cols) && rows > 0;
        let x = (!in_blocks).then(|| autocast::wide(tape, stored));
        let (g, b) = (gain.value(), bias.value());
        let (mut mean, mut variance) = (tape.scratch(cols), tape.scratch(cols));
        let of_batch = tape.is_training() || running.is_none();
        if of_batch {
            let mut scratch = tape.scratch(batch_norm_scratch(rows, cols));
            match &x {
                Some(x) => {
                    batch_moments(level, parallel, x, &mut mean, &mut variance, &mut scratch);
                }
                None => half_moments(tape, stored, &mut mean, &mut variance, &mut scratch),
            }
        } else if let Some(running) = running {
            mean.copy_from_slice(&tape.param(running.mean).value());
            variance.copy_from_slice(&tape.param(running.variance).value());
        }
        if let Some(running) = running.filter(|_| tape.is_training()) {
            let pool = tape.pool();
            let mut running_mean = pool.take_copy(&tape.param(running.mean).value());
            let mut running_variance = pool.take_copy(&tape.param(running.variance).value());
            update_running_moments(
                config,
                rows,
                &mean,
                &variance,
                &mut running_mean,
                &mut running_variance,
            );
            tape.update_buffer(running.mean, running_mean);
            tape.update_buffer(running.variance, running_variance);
        }
        let saved = BatchNormSaved {
            eps: config.eps,
            mean: &mean,
            variance: &variance,
            gain: &g,
        };
        let y = match &x {
            Some(x) => {
                let mut y = tape.scratch(rows * cols);
                batch_norm_apply(level, parallel, saved, &b, x, &mut y);
                autocast::narrow_all(tape, stored.precision(), y)
            }
            None => half_apply(tape, saved, &b, stored),
        };
        tape.record_stored(self.shape(), y, &[self, gain, bias], || BatchNormOp {
            x: self.id(),
            gain: gain.id(),
            bias: bias.id(),
            eps: config.eps,
            mean,
            variance,
            of_batch,
        })
    }
}

struct BatchNormOp<R: SimdReal> {
    x: NodeId,
    gain: NodeId,
    bias: NodeId,
    eps: f64,
    mean: Buffer<R>,
    variance: Buffer<R>,
    /// Whether mean and variance depend on `x`.
    of_batch: bool,
}

impl<R: SimdReal> Op<R> for BatchNormOp<R> {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let tape = step.tape();
        let (x, cols) = (step.stored(self.x), step.shape(self.gain).numel());
        if norm::fits(cols) && step.shape(self.x).numel() > 0 {
            match x {
                StoredRef::Full(_) => {}
                StoredRef::Bf16(x) => return self.backward_in_blocks(step, x),
                StoredRef::F16(x) => return self.backward_in_blocks(step, x),
            }
        }
        let (x, gain) = (
            autocast::wide(tape, step.stored(self.x)),
            step.value(self.gain),
        );
        let cols = gain.len();
        let rows = x.len() / cols.max(1);
        let mut scratch = step.scratch(batch_norm_scratch(rows, cols));
        let saved = BatchNormSaved {
            eps: self.eps,
            mean: &self.mean,
            variance: &self.variance,
            gain: &gain,
        };
        let rounded = step.takes_half(self.x);
        let mut dx = match rounded {
            None => step.grad(self.x),
            Some(_) => None,
        };
        let mut fresh = rounded.map(|precision| (precision, step.scratch(x.len())));
        let (mut dgain, mut dbias) = (step.grad(self.gain), step.grad(self.bias));
        let backward = if self.of_batch {
            batch_norm_backward
        } else {
            batch_norm_frozen_backward
        };
        backward(
            step.options().simd,
            step.parallel(),
            saved,
            &x,
            &autocast::wide(tape, step.stored_dy()),
            match &mut fresh {
                Some((_, dx)) => Some((&mut dx[..], Accumulate::Write)),
                None => super::slot(&mut dx),
            },
            super::slot(&mut dgain),
            super::slot(&mut dbias),
            &mut scratch,
        );
        if let Some((precision, dx)) = fresh {
            step.give(self.x, autocast::narrow_all(tape, precision, dx));
        }
    }
}

/// Values of an f32 tape.
#[track_caller]
fn f32s<R: SimdReal>(x: &[R]) -> &[f32] {
    autocast::as_f32(x).expect("sixteen bits are for f32 tapes")
}

/// As [`f32s`], to be written.
#[track_caller]
fn f32s_mut<R: SimdReal>(x: &mut [R]) -> &mut [f32] {
    autocast::as_f32_mut(x).expect("sixteen bits are for f32 tapes")
}

/// What the forward pass leaves, on an f32 tape.
fn saved_f32<'a, R: SimdReal>(saved: BatchNormSaved<'a, R>) -> BatchNormSaved<'a, f32> {
    BatchNormSaved {
        eps: saved.eps,
        mean: f32s(saved.mean),
        variance: f32s(saved.variance),
        gain: f32s(saved.gain),
    }
}

/// Mean and variance of the columns of `x`, which is kept in sixteen bits.
fn half_moments<R: SimdReal>(
    tape: &Tape<R>,
    x: StoredRef<'_, R>,
    mean: &mut [R],
    variance: &mut [R],
    scratch: &mut [R],
) {
    let (level, parallel) = (tape.options().simd, tape.parallel());
    let [mean, variance, scratch] = [mean, variance, scratch].map(f32s_mut);
    match x {
        StoredRef::Bf16(x) => batch_moments_half(level, parallel, x, mean, variance, scratch),
        StoredRef::F16(x) => batch_moments_half(level, parallel, x, mean, variance, scratch),
        StoredRef::Full(_) => unreachable!("the caller has asked"),
    }
}

/// The normalised `x`, in its format of sixteen bits.
fn half_apply<R: SimdReal>(
    tape: &Tape<R>,
    saved: BatchNormSaved<'_, R>,
    bias: &[R],
    x: StoredRef<'_, R>,
) -> Stored<R> {
    fn run<H: Format, R: SimdReal>(
        tape: &Tape<R>,
        saved: BatchNormSaved<'_, R>,
        bias: &[R],
        x: &[H],
    ) -> Stored<R> {
        let (level, parallel) = (tape.options().simd, tape.parallel());
        let mut y: Buffer<H> = tape.pool().take(x.len());
        let (saved, bias) = (saved_f32(saved), f32s(bias));
        batch_norm_apply_half(level, parallel, saved, bias, x, &mut y);
        H::keep(y)
    }
    match x {
        StoredRef::Bf16(x) => run(tape, saved, bias, x),
        StoredRef::F16(x) => run(tape, saved, bias, x),
        StoredRef::Full(_) => unreachable!("the caller has asked"),
    }
}

impl<R: SimdReal> BatchNormOp<R> {
    /// The backward pass of an input in sixteen bits.
    fn backward_in_blocks<H: Format>(&self, step: &Backward<'_, R>, x: &[H]) {
        let gain = step.value(self.gain);
        let cols = gain.len();
        let mut scratch = step.scratch(batch_norm_scratch(x.len() / cols, cols));
        let saved = BatchNormSaved {
            eps: self.eps,
            mean: &self.mean,
            variance: &self.variance,
            gain: &gain,
        };
        let mut rounded = step
            .takes_half(self.x)
            .map(|_| step.pool().take::<H>(x.len()));
        let mut wide = match rounded {
            None => step.grad(self.x),
            Some(_) => None,
        };
        let dx = match (&mut rounded, slot_f32(&mut wide)) {
            (Some(dx), _) => HalfInputGradient::Rounded(&mut dx[..]),
            (None, Some((dx, how))) => HalfInputGradient::Wide(dx, how),
            (None, None) => HalfInputGradient::Unwanted,
        };
        let (mut dgain, mut dbias) = (step.grad(self.gain), step.grad(self.bias));
        batch_norm_backward_half(
            step.options().simd,
            step.parallel(),
            saved_f32(saved),
            x,
            autocast::stored_f32(step.stored_dy()),
            dx,
            slot_f32(&mut dgain),
            slot_f32(&mut dbias),
            f32s_mut(&mut scratch),
            self.of_batch,
        );
        if let Some(dx) = rounded {
            step.give(self.x, H::keep(dx));
        }
    }
}

/// A gradient of an f32 tape, where it is wanted.
fn slot_f32<'a, R: SimdReal>(
    grad: &'a mut Option<Grad<'_, R>>,
) -> Option<(&'a mut [f32], Accumulate)> {
    let (values, accumulate) = super::slot(grad)?;
    Some((f32s_mut(values), accumulate))
}
