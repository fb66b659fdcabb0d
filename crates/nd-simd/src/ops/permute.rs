//! Axes in another order, and reversed rows.

use nd_core::autograd::{Backward, NodeId, Op, Var};
use nd_core::shape::{MAX_RANK, Shape};

use crate::lanes::SimdReal;
use crate::permute::{permute_axes, reverse_rows};

/// Rearrangements on the tape.
pub trait PermuteExt: Sized {
    /// The axes in another order: axis `i` of the result is axis `axes[i]` of the value.
    ///
    /// # Panics
    /// `axes` is not an order of all axes.
    #[must_use]
    #[track_caller]
    fn permute(self, axes: &[usize]) -> Self;

    /// Two axes exchanged, as `[B, T, H, D]` to `[B, H, T, D]` or batch-major to time-major.
    ///
    /// # Panics
    /// There is no such axis.
    #[must_use]
    #[track_caller]
    fn swap_axes(self, a: usize, b: usize) -> Self;

    /// The last axis backwards.
    #[must_use]
    fn reverse(self) -> Self;
}

impl<R: SimdReal> PermuteExt for Var<'_, R> {
    fn permute(self, axes: &[usize]) -> Self {
        let tape = self.tape();
        let dims = self.shape();
        assert!(
            axes.len() == dims.len() && axes.iter().all(|&axis| axis < dims.len()),
            "{axes:?} is no order of the axes of {dims}"
        );
        let (mut order, mut out, mut inverse) = ([0; MAX_RANK], [0; MAX_RANK], [0; MAX_RANK]);
        for (i, &axis) in axes.iter().enumerate() {
            (order[i], out[i], inverse[axis]) = (axis, dims[axis], i);
        }
        let rank = axes.len();
        let mut y = tape.scratch(dims.numel());
        let level = tape.options().simd;
        let write = nd_core::autograd::Accumulate::Write;
        permute_axes(level, &dims, axes, &self.value(), &mut y, write);
        let shape = Shape::new(&out[..rank]);
        tape.record(shape, y, &[self], || Permute {
            x: self.id(),
            dims: shape,
            inverse,
        })
    }

    fn swap_axes(self, a: usize, b: usize) -> Self {
        let rank = self.shape().len();
        assert!(a < rank && b < rank, "axes {a} and {b} of {}", self.shape());
        let mut axes = [0; MAX_RANK];
        axes.iter_mut().enumerate().for_each(|(i, axis)| *axis = i);
        axes.swap(a, b);
        self.permute(&axes[..rank])
    }

    fn reverse(self) -> Self {
        let tape = self.tape();
        let mut y = tape.scratch(self.shape().numel());
        let (level, cols) = (tape.options().simd, self.shape().cols());
        let write = nd_core::autograd::Accumulate::Write;
        reverse_rows(level, cols, &self.value(), &mut y, write);
        tape.record(self.shape(), y, &[self], || Reverse { x: self.id() })
    }
}

struct Permute {
    x: NodeId,
    /// Of the result.
    dims: Shape,
    inverse: [usize; MAX_RANK],
}

impl<R: SimdReal> Op<R> for Permute {
    fn name(&self) -> &'static str {
        "permute"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let Some(mut dx) = step.grad(self.x) else {
            return;
        };
        let (level, accumulate) = (step.options().simd, dx.accumulate);
        let inverse = &self.inverse[..self.dims.len()];
        permute_axes(level, &self.dims, inverse, step.dy(), &mut dx, accumulate);
    }
}

struct Reverse {
    x: NodeId,
}

impl<R: SimdReal> Op<R> for Reverse {
    fn name(&self) -> &'static str {
        "reverse"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let Some(mut dx) = step.grad(self.x) else {
            return;
        };
        let (level, cols, accumulate) = (
            step.options().simd,
            step.shape(self.x).cols(),
            dx.accumulate,
        );
        reverse_rows(level, cols, step.dy(), &mut dx, accumulate);
    }
}
