//! The moving average along one axis, and the decomposition of a series into trend and remainder.

use nd_core::autograd::{Backward, NodeId, Op, Var};
use nd_core::threads;

use super::BLOCK;
use super::arithmetic::ArithmeticExt;
use crate::lanes::SimdReal;
use crate::moving_average::{moving_average_backward, moving_average_forward};
use crate::pool::Axis;

/// Moving averages on the tape.
pub trait MovingAverageExt: Sized {
    /// The mean of `window` steps around each step along an axis, the ends repeated.
    ///
    /// # Panics
    /// An even window, or no such axis.
    #[must_use]
    #[track_caller]
    fn moving_average(self, axis: usize, window: usize) -> Self;

    /// `(trend, remainder)`: the moving average, and what is left of the series (Zeng et al. 2023).
    ///
    /// # Panics
    /// An even window, or no such axis.
    #[must_use]
    #[track_caller]
    fn decompose(self, axis: usize, window: usize) -> (Self, Self);
}

impl<R: SimdReal> MovingAverageExt for Var<'_, R> {
    fn moving_average(self, axis: usize, window: usize) -> Self {
        let tape = self.tape();
        let whole = Axis::of(&self.shape(), axis);
        let mut y = tape.scratch(whole.numel());
        let value = self.value();
        let (x, level): (&[R], _) = (&value, tape.options().simd);
        let chunk = chunk(whole);
        threads::for_each_chunk(tape.parallel(), &mut y, chunk, |i, y| {
            let x = &x[i * chunk..][..y.len()];
            moving_average_forward(level, window, part(whole, y.len()), x, y);
        });
        let op = || MovingAverage {
            x: self.id(),
            axis: whole,
            window,
        };
        tape.record(self.shape(), y, &[self], op)
    }

    fn decompose(self, axis: usize, window: usize) -> (Self, Self) {
        let trend = self.moving_average(axis, window);
        (trend, self.sub(trend))
    }
}

/// Elements of whole series that one task handles.
fn chunk(axis: Axis) -> usize {
    let each = (axis.len * axis.inner).max(1);
    each * (BLOCK / each).max(1)
}

/// The series among `len` elements.
fn part(axis: Axis, len: usize) -> Axis {
    Axis {
        outer: len / (axis.len * axis.inner).max(1),
        ..axis
    }
}

struct MovingAverage {
    x: NodeId,
    axis: Axis,
    window: usize,
}

impl<R: SimdReal> Op<R> for MovingAverage {
    fn name(&self) -> &'static str {
        "moving_average"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let Some(mut dx) = step.grad(self.x) else {
            return;
        };
        let (level, dy, accumulate) = (step.options().simd, step.dy(), dx.accumulate);
        let chunk = chunk(self.axis);
        threads::for_each_chunk(step.parallel(), &mut dx, chunk, |i, dx| {
            let (part, dy) = (part(self.axis, dx.len()), &dy[i * chunk..][..dx.len()]);
            moving_average_backward(level, self.window, part, dy, dx, accumulate);
        });
    }
}
