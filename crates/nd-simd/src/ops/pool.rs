//! Pooling along one axis.

use nd_core::autograd::{Backward, NodeId, Op, Var};
use nd_core::threads;

use super::BLOCK;
use crate::lanes::SimdReal;
use crate::pool::{
    Axis, Windows, avg_pool_backward, avg_pool_forward, max_pool_backward, max_pool_forward,
};

/// Pooling on the tape.
pub trait PoolExt: Sized {
    /// The largest value of each window along an axis.
    ///
    /// # Panics
    /// There is no such axis, or the windows are impossible ([`Windows::count`]).
    #[must_use]
    #[track_caller]
    fn max_pool(self, axis: usize, windows: Windows) -> Self;

    /// The mean of each window along an axis, the padding counted as zeros.
    ///
    /// # Panics
    /// There is no such axis, or the windows are impossible ([`Windows::count`]).
    #[must_use]
    #[track_caller]
    fn avg_pool(self, axis: usize, windows: Windows) -> Self;
}

impl<R: SimdReal> PoolExt for Var<'_, R> {
    fn max_pool(self, axis: usize, windows: Windows) -> Self {
        pool(self, axis, windows, Kind::Max)
    }

    fn avg_pool(self, axis: usize, windows: Windows) -> Self {
        pool(self, axis, windows, Kind::Average)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Max,
    Average,
}

/// The values of one index before the axis, and how many such indices one task handles.
fn task(axis: Axis) -> (usize, usize) {
    let each = axis.len * axis.inner;
    (each, (BLOCK / each.max(1)).max(1))
}

#[track_caller]
fn pool<R: SimdReal>(x: Var<'_, R>, axis: usize, windows: Windows, kind: Kind) -> Var<'_, R> {
    let tape = x.tape();
    let shape = x.shape();
    let whole = Axis::of(&shape, axis);
    let out = whole.with_len(windows.count(whole.len));
    let mut y = tape.scratch(out.numel());
    let value = x.value();
    let (values, level): (&[R], _) = (&value, tape.options().simd);
    let (each, outers) = task(whole);
    let out_each = (out.len * out.inner).max(1);
    threads::for_each_chunk(tape.parallel(), &mut y, outers * out_each, |i, y| {
        let part = Axis {
            outer: y.len() / out_each,
            ..whole
        };
        let x = &values[i * outers * each..][..part.numel()];
        match kind {
            Kind::Max => max_pool_forward(level, windows, part, x, y),
            Kind::Average => avg_pool_forward(level, windows, part, x, y),
        }
    });
    let mut dims = [0; nd_core::shape::MAX_RANK];
    dims[..shape.len()].copy_from_slice(&shape);
    dims[axis] = out.len;
    let op = || Pool {
        x: x.id(),
        axis: whole,
        windows,
        kind,
    };
    tape.record(&dims[..shape.len()], y, &[x], op)
}

struct Pool {
    x: NodeId,
    axis: Axis,
    windows: Windows,
    kind: Kind,
}

impl<R: SimdReal> Op<R> for Pool {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Max => "max_pool",
            Kind::Average => "avg_pool",
        }
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let Some(mut dx) = step.grad(self.x) else {
            return;
        };
        let (level, dy, windows) = (step.options().simd, step.dy(), self.windows);
        let value = matches!(self.kind, Kind::Max).then(|| step.value(self.x));
        let x: Option<&[R]> = value.as_deref();
        let (each, outers) = task(self.axis);
        let out_each = windows.count(self.axis.len) * self.axis.inner;
        let accumulate = dx.accumulate;
        threads::for_each_chunk(step.parallel(), &mut dx, (outers * each).max(1), |i, dx| {
            let part = Axis {
                outer: dx.len() / each,
                ..self.axis
            };
            let dy = &dy[i * outers * out_each..][..part.outer * out_each];
            match x {
                Some(x) => {
                    let x = &x[i * outers * each..][..dx.len()];
                    max_pool_backward(level, windows, part, x, dy, dx, accumulate);
                }
                None => avg_pool_backward(level, windows, part, dy, dx, accumulate),
            }
        });
    }
}
