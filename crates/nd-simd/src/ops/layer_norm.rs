//! Layer norm and RMS norm over the last dimension.

use nd_core::Buffer;
use nd_core::autograd::{Backward, NodeId, Op, Var};

use super::row_chunk;
use crate::lanes::SimdReal;
use crate::norm::{
    layer_norm_backward, layer_norm_forward, layer_norm_scratch, rms_norm_backward,
    rms_norm_forward, rms_norm_scratch,
};
use crate::tree;

/// PyTorch's `eps` of a layer norm.
pub const LAYER_NORM_EPS: f64 = 1e-5;

/// Norms of rows.
pub trait LayerNormExt: Sized {
    /// `(x - mean) / sqrt(variance + eps) gain + bias` over the last dimension, with `gain` and `bias` of `[C]`.
    ///
    /// # Panics
    /// The gain or the bias has not the length of the last dimension.
    #[must_use]
    #[track_caller]
    fn layer_norm(self, gain: Self, bias: Self, eps: f64) -> Self;

    /// `x / sqrt(mean(x^2) + eps) gain` over the last dimension, with `gain` of `[C]`.
    ///
    /// # Panics
    /// The gain has not the length of the last dimension.
    #[must_use]
    #[track_caller]
    fn rms_norm(self, gain: Self, eps: f64) -> Self;
}

#[track_caller]
fn check<R: SimdReal>(x: Var<'_, R>, row: Var<'_, R>, name: &str) {
    assert_eq!(
        row.shape().numel(),
        x.shape().cols(),
        "the {name} {} of a norm over the last dimension of {}",
        row.shape(),
        x.shape()
    );
}

impl<R: SimdReal> LayerNormExt for Var<'_, R> {
    fn layer_norm(self, gain: Self, bias: Self, eps: f64) -> Self {
        check(self, gain, "gain");
        check(self, bias, "bias");
        let tape = self.tape();
        let (level, rows, cols) = (
            tape.options().simd,
            self.shape().rows(),
            self.shape().cols(),
        );
        let (x, g, b) = (self.value(), gain.value(), bias.value());
        let (g, b): (&[R], &[R]) = (&g, &b);
        let mut y = tape.scratch(rows * cols);
        let (mut mean, mut rstd) = (tape.scratch(rows), tape.scratch(rows));
        tree::for_each_block(
            (&x[..], &mut y[..], &mut mean[..], &mut rstd[..]),
            rows,
            row_chunk(cols) / cols.max(1),
            tape.parallel(),
            &|(x, y, mean, rstd): (&[R], &mut [R], &mut [R], &mut [R]), at| {
                let (x, x_right) = x.split_at(at * cols);
                let (y, y_right) = y.split_at_mut(at * cols);
                let (mean, mean_right) = mean.split_at_mut(at);
                let (rstd, rstd_right) = rstd.split_at_mut(at);
                (
                    (x, y, mean, rstd),
                    (x_right, y_right, mean_right, rstd_right),
                )
            },
            &|(x, y, mean, rstd)| layer_norm_forward(level, eps, x, g, b, y, mean, rstd),
        );
        tape.record(self.shape(), y, &[self, gain, bias], || LayerNorm {
            x: self.id(),
            gain: gain.id(),
            bias: bias.id(),
            mean,
            rstd,
        })
    }

    fn rms_norm(self, gain: Self, eps: f64) -> Self {
        check(self, gain, "gain");
        let tape = self.tape();
        let (level, rows, cols) = (
            tape.options().simd,
            self.shape().rows(),
            self.shape().cols(),
        );
        let (x, g) = (self.value(), gain.value());
        let g: &[R] = &g;
        let mut y = tape.scratch(rows * cols);
        let mut rstd = tape.scratch(rows);
        tree::for_each_block(
            (&x[..], &mut y[..], &mut rstd[..]),
            rows,
            row_chunk(cols) / cols.max(1),
            tape.parallel(),
            &|(x, y, rstd): (&[R], &mut [R], &mut [R]), at| {
                let (x, x_right) = x.split_at(at * cols);
                let (y, y_right) = y.split_at_mut(at * cols);
                let (rstd, rstd_right) = rstd.split_at_mut(at);
                ((x, y, rstd), (x_right, y_right, rstd_right))
            },
            &|(x, y, rstd)| rms_norm_forward(level, eps, x, g, y, rstd),
        );
        tape.record(self.shape(), y, &[self, gain], || RmsNorm {
            x: self.id(),
            gain: gain.id(),
            rstd,
        })
    }
}

struct LayerNorm<R: SimdReal> {
    x: NodeId,
    gain: NodeId,
    bias: NodeId,
    mean: Buffer<R>,
    rstd: Buffer<R>,
}

impl<R: SimdReal> Op<R> for LayerNorm<R> {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let (x, gain) = (step.value(self.x), step.value(self.gain));
        let mut scratch = step.scratch(layer_norm_scratch(self.rstd.len(), gain.len()));
        let (mut dx, mut dgain) = (step.grad(self.x), step.grad(self.gain));
        let mut dbias = step.grad(self.bias);
        layer_norm_backward(
            step.options().simd,
            step.parallel(),
            &x,
            &gain,
            &self.mean,
            &self.rstd,
            step.dy(),
            super::slot(&mut dx),
            super::slot(&mut dgain),
            super::slot(&mut dbias),
            &mut scratch,
        );
    }
}

struct RmsNorm<R: SimdReal> {
    x: NodeId,
    gain: NodeId,
    rstd: Buffer<R>,
}

impl<R: SimdReal> Op<R> for RmsNorm<R> {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let (x, gain) = (step.value(self.x), step.value(self.gain));
        let mut scratch = step.scratch(rms_norm_scratch(self.rstd.len(), gain.len()));
        let (mut dx, mut dgain) = (step.grad(self.x), step.grad(self.gain));
        rms_norm_backward(
            step.options().simd,
            step.parallel(),
            &x,
            &gain,
            &self.rstd,
            step.dy(),
            super::slot(&mut dx),
            super::slot(&mut dgain),
            &mut scratch,
        );
    }
}
