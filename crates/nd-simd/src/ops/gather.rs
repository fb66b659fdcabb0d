//! Elements of an axis by number, and rows added up by number.

use nd_core::Buffer;
use nd_core::autograd::{Accumulate, Backward, NodeId, Op, Tape, Var};

use crate::gather::{
    gather_rows_backward, gather_rows_forward, take_along_backward, take_along_forward,
};
use crate::lanes::SimdReal;
use crate::pool::Axis;

/// Picking and scattering on the tape.
pub trait GatherExt: Sized {
    /// Elements picked along an axis: `y[.., j, ..] = x[.., ids[.., j, ..], ..]` with `ids` of the shape of `x` but `picks`
    /// long along the axis (PyTorch's `gather`).
    ///
    /// # Panics
    /// There is no such axis or element, or another number of `ids`.
    #[must_use]
    #[track_caller]
    fn take_along(self, axis: usize, picks: usize, ids: &[u32]) -> Self;

    /// Rows `[ids.len(), width]` added up by number: row `i` goes to row `ids[i]` of the result, `[rows, width]`, which is zero
    /// where nothing goes (PyTorch's `index_add`).
    ///
    /// # Panics
    /// Not a matrix of as many rows as `ids`, or a number that is no row.
    #[must_use]
    #[track_caller]
    fn scatter_rows(self, rows: usize, ids: &[u32]) -> Self;
}

/// Row numbers in a recycled buffer: two exact halves of each, because f32 holds whole numbers up to 2^24 only.
pub(crate) struct StoredIds<R: SimdReal>(Buffer<R>);

impl<R: SimdReal> StoredIds<R> {
    pub(crate) fn new(tape: &Tape<R>, ids: &[u32]) -> Self {
        let mut halves = tape.scratch(2 * ids.len());
        for (&id, halves) in ids.iter().zip(halves.chunks_exact_mut(2)) {
            halves[0] = R::from_usize((id >> 16) as usize);
            halves[1] = R::from_usize((id & 0xffff) as usize);
        }
        Self(halves)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = usize> + Clone {
        let whole =
            |halves: &[R]| ((halves[0].to_f64() as usize) << 16) | halves[1].to_f64() as usize;
        self.0.chunks_exact(2).map(whole)
    }
}

fn numbers(ids: &[u32]) -> impl ExactSizeIterator<Item = usize> + Clone {
    ids.iter().map(|&id| id as usize)
}

impl<R: SimdReal> GatherExt for Var<'_, R> {
    fn take_along(self, axis: usize, picks: usize, ids: &[u32]) -> Self {
        let (tape, shape) = (self.tape(), self.shape());
        let sizes = Axis::of(&shape, axis);
        let mut dims = [0; nd_core::shape::MAX_RANK];
        dims[..shape.len()].copy_from_slice(&shape);
        dims[axis] = picks;
        let dims = &dims[..shape.len()];
        assert_eq!(
            ids.len(),
            dims.iter().product::<usize>(),
            "the numbers of {picks} elements along axis {axis} of {shape}"
        );
        let mut y = tape.scratch(ids.len());
        take_along_forward(sizes, &self.value(), numbers(ids), &mut y);
        tape.record(dims, y, &[self], || TakeAlong {
            x: self.id(),
            axis: sizes,
            ids: StoredIds::new(tape, ids),
        })
    }

    fn scatter_rows(self, rows: usize, ids: &[u32]) -> Self {
        let (tape, shape) = (self.tape(), self.shape());
        assert!(
            shape.len() == 2 && shape[0] == ids.len(),
            "{} numbers for the rows of {shape}",
            ids.len()
        );
        let width = shape.cols();
        let mut y = tape.scratch(rows * width);
        gather_rows_backward(
            width,
            numbers(ids),
            &self.value(),
            &mut y,
            Accumulate::Write,
        );
        tape.record([rows, width], y, &[self], || ScatterRows {
            x: self.id(),
            ids: StoredIds::new(tape, ids),
        })
    }
}

struct TakeAlong<R: SimdReal> {
    x: NodeId,
    axis: Axis,
    ids: StoredIds<R>,
}

impl<R: SimdReal> Op<R> for TakeAlong<R> {
    fn name(&self) -> &'static str {
        "take_along"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let Some(mut dx) = step.grad(self.x) else {
            return;
        };
        let accumulate = dx.accumulate;
        take_along_backward(self.axis, self.ids.iter(), step.dy(), &mut dx, accumulate);
    }
}

struct ScatterRows<R: SimdReal> {
    x: NodeId,
    ids: StoredIds<R>,
}

impl<R: SimdReal> Op<R> for ScatterRows<R> {
    fn name(&self) -> &'static str {
        "scatter_rows"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let Some(mut dx) = step.grad(self.x) else {
            return;
        };
        let width = step.shape(self.x).cols();
        if dx.accumulate == Accumulate::Write {
            gather_rows_forward(width, step.dy(), self.ids.iter(), &mut dx);
            return;
        }
        for (id, dx) in self.ids.iter().zip(dx.chunks_exact_mut(width.max(1))) {
            for (dx, &dy) in dx.iter_mut().zip(&step.dy()[id * width..][..width]) {
                *dx += dy;
            }
        }
    }
}
