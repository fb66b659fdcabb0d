//! Batch norm over all dimensions but the last.
//!
//! In training it uses the statistics of the batch and moves the running ones (buffer parameters, updated once the step is
//! over); otherwise it uses the running ones. A network with a batch norm couples its rows: it runs on one tape.

use nd_core::Buffer;
use nd_core::autograd::{Accumulate, Backward, NodeId, Op, ParamId, Var};

use crate::autocast;
use crate::lanes::SimdReal;
use crate::norm::{
    BatchNorm, BatchNormSaved, batch_moments, batch_norm_apply, batch_norm_backward,
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
        let x = autocast::wide(tape, self.stored());
        let (g, b) = (gain.value(), bias.value());
        let (mut mean, mut variance) = (tape.scratch(cols), tape.scratch(cols));
        let of_batch = tape.is_training() || running.is_none();
        if of_batch {
            let mut scratch = tape.scratch(batch_norm_scratch(rows, cols));
            batch_moments(level, parallel, &x, &mut mean, &mut variance, &mut scratch);
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
        let mut y = tape.scratch(rows * cols);
        let saved = BatchNormSaved {
            eps: config.eps,
            mean: &mean,
            variance: &variance,
            gain: &g,
        };
        batch_norm_apply(level, parallel, saved, &b, &x, &mut y);
        let y = autocast::narrow_all(tape, self.stored().precision(), y);
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
