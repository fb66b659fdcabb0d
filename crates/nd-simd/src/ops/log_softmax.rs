//! The logarithm of the softmax over the last dimension.

use nd_core::autograd::{Backward, NodeId, Op, Var};
use nd_core::threads;

use super::row_chunk;
use crate::lanes::SimdReal;
use crate::softmax::{log_softmax_backward, log_softmax_forward};

/// The logarithm of the softmax on the tape.
pub trait LogSoftmaxExt: Sized {
    /// `x - log sum e^x` over the last dimension; `-inf` entries stay `-inf`.
    #[must_use]
    #[track_caller]
    fn log_softmax(self) -> Self;
}

impl<R: SimdReal> LogSoftmaxExt for Var<'_, R> {
    fn log_softmax(self) -> Self {
        let tape = self.tape();
        let (level, value, cols) = (tape.options().simd, self.value(), self.shape().cols());
        let x: &[R] = &value;
        let mut y = tape.scratch(x.len());
        let chunk = row_chunk(cols);
        threads::for_each_chunk(tape.parallel(), &mut y, chunk, |i, y| {
            log_softmax_forward(level, cols, &x[i * chunk..][..y.len()], y);
        });
        tape.record(self.shape(), y, &[self], || LogSoftmax { x: self.id() })
    }
}

struct LogSoftmax {
    x: NodeId,
}

impl<R: SimdReal> Op<R> for LogSoftmax {
    fn name(&self) -> &'static str {
        "log_softmax"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let Some(mut dx) = step.grad(self.x) else {
            return;
        };
        let (value, cols) = (step.y(), step.shape(self.x).cols());
        let (level, y, dy): (_, &[R], _) = (step.options().simd, &value, step.dy());
        let (chunk, accumulate) = (row_chunk(cols), dx.accumulate);
        threads::for_each_chunk(step.parallel(), &mut dx, chunk, |i, dx| {
            let part = i * chunk..i * chunk + dx.len();
            log_softmax_backward(level, cols, &y[part.clone()], &dy[part], dx, accumulate);
        });
    }
}
