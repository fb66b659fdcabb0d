//! Interpolation along the last axis.

use nd_core::autograd::{Backward, NodeId, Op, Var};

use crate::interpolate::{Interpolation, interpolate_backward, interpolate_forward};
use crate::lanes::SimdReal;

/// Interpolation on the tape.
pub trait InterpolateExt: Sized {
    /// `[.., size]` from knots `[.., knots]`, as PyTorch's `interpolate` with `align_corners=False`.
    ///
    /// # Panics
    /// There are no knots.
    #[must_use]
    #[track_caller]
    fn interpolate(self, size: usize, mode: Interpolation) -> Self;
}

impl<R: SimdReal> InterpolateExt for Var<'_, R> {
    fn interpolate(self, size: usize, mode: Interpolation) -> Self {
        let tape = self.tape();
        let shape = self.shape().with_cols(size);
        let mut y = tape.scratch(shape.numel());
        let (level, knots) = (tape.options().simd, self.shape().cols());
        interpolate_forward(level, mode, knots, size, &self.value(), &mut y);
        tape.record(shape, y, &[self], || Interpolate {
            x: self.id(),
            size,
            mode,
        })
    }
}

struct Interpolate {
    x: NodeId,
    size: usize,
    mode: Interpolation,
}

impl<R: SimdReal> Op<R> for Interpolate {
    fn name(&self) -> &'static str {
        "interpolate"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let Some(mut dx) = step.grad(self.x) else {
            return;
        };
        let (level, accumulate) = (step.options().simd, dx.accumulate);
        let knots = step.shape(self.x).cols();
        interpolate_backward(
            level,
            self.mode,
            knots,
            self.size,
            step.dy(),
            &mut dx,
            accumulate,
        );
    }
}
