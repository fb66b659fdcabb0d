//! Ranges of an axis, values side by side along an axis, and rows of a table.

use std::ops::Range;

use nd_core::autograd::{Accumulate, Backward, NodeId, Op, Stored, StoredRef, Tape, Var};
use nd_core::shape::{MAX_RANK, Shape};
use nd_core::{Buffer, Element};

use super::gather::StoredIds;
use crate::gather::{gather_rows_backward, gather_rows_forward, read_range, write_range};
use crate::lanes::SimdReal;
use crate::pool::Axis;

/// Values that [`concat()`] joins at most; more are joined in two steps.
pub const MAX_PARTS: usize = 12;

/// Ranges and rows on the tape.
pub trait SliceExt: Sized {
    /// A range of an axis.
    ///
    /// # Panics
    /// There is no such axis, or the range leaves it.
    #[must_use]
    #[track_caller]
    fn narrow(self, axis: usize, range: Range<usize>) -> Self;

    /// Rows of a table `[rows, width]` by their numbers: `[ids.len(), width]`.
    ///
    /// # Panics
    /// The table is not a matrix, or there is no such row.
    #[must_use]
    #[track_caller]
    fn gather_rows(self, ids: &[u32]) -> Self;
}

/// The shape with another size of one axis.
fn with_axis(shape: Shape, axis: usize, len: usize) -> Shape {
    let mut dims = [0; MAX_RANK];
    dims[..shape.len()].copy_from_slice(&shape);
    dims[axis] = len;
    Shape::new(&dims[..shape.len()])
}

impl<R: SimdReal> SliceExt for Var<'_, R> {
    fn narrow(self, axis: usize, range: Range<usize>) -> Self {
        let tape = self.tape();
        let whole = Axis::of(&self.shape(), axis);
        assert!(
            range.start <= range.end && range.end <= whole.len,
            "{range:?} of axis {axis} of {}",
            self.shape()
        );
        let shape = with_axis(self.shape(), axis, range.len());
        let half = match self.stored() {
            StoredRef::Full(_) => None,
            StoredRef::Bf16(x) => Some(Stored::Bf16(copy_range(tape, whole, &range, x))),
            StoredRef::F16(x) => Some(Stored::F16(copy_range(tape, whole, &range, x))),
        };
        if let Some(y) = half {
            return tape.record_stored(shape, y, &[self], || Narrow {
                x: self.id(),
                axis: whole,
                range,
            });
        }
        let mut y = tape.scratch(shape.numel());
        read_range(
            whole,
            range.clone(),
            &self.value(),
            &mut y,
            Accumulate::Write,
        );
        tape.record(shape, y, &[self], || Narrow {
            x: self.id(),
            axis: whole,
            range,
        })
    }

    fn gather_rows(self, ids: &[u32]) -> Self {
        let tape = self.tape();
        assert_eq!(
            self.shape().len(),
            2,
            "rows of a table, found {}",
            self.shape()
        );
        let width = self.shape().cols();
        let mut y = tape.scratch(ids.len() * width);
        gather_rows_forward(
            width,
            &self.value(),
            ids.iter().map(|&id| id as usize),
            &mut y,
        );
        tape.record([ids.len(), width], y, &[self], || GatherRows {
            table: self.id(),
            ids: StoredIds::new(tape, ids),
        })
    }
}

/// A range of an axis of values that are moved as they are.
fn copy_range<R: SimdReal, E: Element>(
    tape: &Tape<R>,
    axis: Axis,
    range: &Range<usize>,
    x: &[E],
) -> Buffer<E> {
    let mut y = tape.pool().take(axis.outer * range.len() * axis.inner);
    let (from, to) = (axis.len * axis.inner, range.len() * axis.inner);
    if to > 0 {
        for (x, y) in x.chunks_exact(from).zip(y.chunks_exact_mut(to)) {
            y.copy_from_slice(&x[range.start * axis.inner..][..to]);
        }
    }
    y
}

struct Narrow {
    x: NodeId,
    axis: Axis,
    range: Range<usize>,
}

impl<R: SimdReal> Op<R> for Narrow {
    fn name(&self) -> &'static str {
        "narrow"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        // Only a gradient in the same format moves as it is.
        if step.takes_half(self.x) == Some(step.stored_dy().precision()) {
            let dx = match step.stored_dy() {
                StoredRef::Bf16(dy) => Stored::Bf16(self.spread(step, dy)),
                StoredRef::F16(dy) => Stored::F16(self.spread(step, dy)),
                StoredRef::Full(_) => unreachable!("no input takes a gradient in full here"),
            };
            step.give(self.x, dx);
            return;
        }
        let Some(mut dx) = step.grad(self.x) else {
            return;
        };
        let accumulate = dx.accumulate;
        if accumulate == Accumulate::Write {
            for (outer, dx) in dx
                .chunks_mut((self.axis.len * self.axis.inner).max(1))
                .enumerate()
            {
                debug_assert!(outer < self.axis.outer);
                let inner = self.axis.inner;
                dx[..self.range.start * inner].fill(R::ZERO);
                dx[self.range.end * inner..].fill(R::ZERO);
            }
        }
        write_range(
            self.axis,
            self.range.clone(),
            step.dy(),
            &mut dx,
            accumulate,
        );
    }
}

impl Narrow {
    /// The gradient of the whole axis: zero outside the range.
    fn spread<R: SimdReal, E: Element>(&self, step: &Backward<'_, R>, dy: &[E]) -> Buffer<E> {
        let Axis { outer, len, inner } = self.axis;
        let mut dx = step.pool().take_zeroed(outer * len * inner);
        let from = self.range.len() * inner;
        if from > 0 {
            for (dx, dy) in dx.chunks_exact_mut(len * inner).zip(dy.chunks_exact(from)) {
                dx[self.range.start * inner..][..from].copy_from_slice(dy);
            }
        }
        dx
    }
}

struct GatherRows<R: SimdReal> {
    table: NodeId,
    ids: StoredIds<R>,
}

impl<R: SimdReal> Op<R> for GatherRows<R> {
    fn name(&self) -> &'static str {
        "gather_rows"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let Some(mut dtable) = step.grad(self.table) else {
            return;
        };
        let accumulate = dtable.accumulate;
        let width = step.shape(self.table).cols();
        gather_rows_backward(width, self.ids.iter(), step.dy(), &mut dtable, accumulate);
    }
}

/// Values side by side along an axis; all their other dimensions agree.
///
/// # Panics
/// No values or more than [`MAX_PARTS`], no such axis, or dimensions that differ.
#[must_use]
#[track_caller]
pub fn concat<'t, R: SimdReal>(parts: &[Var<'t, R>], axis: usize) -> Var<'t, R> {
    assert!(
        !parts.is_empty() && parts.len() <= MAX_PARTS,
        "concat joins 1 to {MAX_PARTS} values, found {}",
        parts.len()
    );
    let (first, tape) = (parts[0].shape(), parts[0].tape());
    assert!(axis < first.len(), "axis {axis} of {first}");
    let mut len = 0;
    for part in parts {
        let shape = part.shape();
        let fits = shape.len() == first.len()
            && (0..first.len()).all(|i| i == axis || shape[i] == first[i]);
        assert!(
            fits,
            "{shape} cannot be put beside {first} along axis {axis}"
        );
        len += shape[axis];
    }
    let shape = with_axis(first, axis, len);
    let whole = Axis::of(&shape, axis);
    let mut y = tape.scratch(shape.numel());
    let mut places = [None; MAX_PARTS];
    let mut start = 0;
    for (part, place) in parts.iter().zip(&mut places) {
        let range = start..start + part.shape()[axis];
        write_range(
            whole,
            range.clone(),
            &part.value(),
            &mut y,
            Accumulate::Write,
        );
        start = range.end;
        *place = Some((part.id(), range.start, range.end));
    }
    tape.record(shape, y, parts, || Concat {
        places,
        axis: whole,
    })
}

struct Concat {
    /// The parts and their ranges.
    places: [Option<(NodeId, usize, usize)>; MAX_PARTS],
    axis: Axis,
}

impl<R: SimdReal> Op<R> for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        for &(part, start, end) in self.places.iter().flatten() {
            if let Some(mut dx) = step.grad(part) {
                let accumulate = dx.accumulate;
                read_range(self.axis, start..end, step.dy(), &mut dx, accumulate);
            }
        }
    }
}
