//! Rows picked from a table by number (embeddings), elements picked along an axis, and ranges cut out of one.

mod along;
mod array;

pub use along::{take_along_backward, take_along_forward};
pub use array::{embedding, embedding_gradient, scatter_add, take_along, take_along_gradient};

use std::ops::Range;

use nd_core::Real;
use nd_core::autograd::Accumulate;

use crate::pool::Axis;

#[track_caller]
fn check_rows(
    width: usize,
    table: usize,
    mut ids: impl ExactSizeIterator<Item = usize>,
    picked: usize,
) {
    assert_eq!(
        picked,
        ids.len() * width,
        "values of {} rows of width {width}",
        ids.len()
    );
    assert!(
        table.is_multiple_of(width.max(1)),
        "a table of {table} values has no whole number of rows of width {width}"
    );
    let rows = table / width.max(1);
    if let Some(id) = ids.find(|&id| id >= rows) {
        panic!("row {id} of a table of {rows} rows");
    }
}

/// `y[i] = table[ids[i]]`: table `[rows, width]`, y `[ids, width]`.
///
/// # Panics
/// A slice has another size, or there is no such row.
#[track_caller]
pub fn gather_rows_forward<R: Real>(
    width: usize,
    table: &[R],
    ids: impl ExactSizeIterator<Item = usize> + Clone,
    y: &mut [R],
) {
    check_rows(width, table.len(), ids.clone(), y.len());
    if width == 0 {
        return;
    }
    for (id, y) in ids.zip(y.chunks_exact_mut(width)) {
        y.copy_from_slice(&table[id * width..][..width]);
    }
}

/// The gradient of [`gather_rows_forward`]: each row of `dy` is added to the row of the table it came from.
///
/// # Panics
/// As [`gather_rows_forward`].
#[track_caller]
pub fn gather_rows_backward<R: Real>(
    width: usize,
    ids: impl ExactSizeIterator<Item = usize> + Clone,
    dy: &[R],
    dtable: &mut [R],
    acc: Accumulate,
) {
    check_rows(width, dtable.len(), ids.clone(), dy.len());
    if acc == Accumulate::Write {
        dtable.fill(R::ZERO);
    }
    if width == 0 {
        return;
    }
    for (id, dy) in ids.zip(dy.chunks_exact(width)) {
        for (slot, &dy) in dtable[id * width..][..width].iter_mut().zip(dy) {
            *slot += dy;
        }
    }
}

#[track_caller]
fn check_range(axis: Axis, range: &Range<usize>, whole: usize, part: usize) {
    axis.check("the whole", whole);
    assert!(
        range.start <= range.end && range.end <= axis.len,
        "{range:?} of an axis of {}",
        axis.len
    );
    Axis {
        len: range.len(),
        ..axis
    }
    .check("the part", part);
}

/// `part [outer, range, inner] = whole [outer, len, inner]` at `range`.
///
/// # Panics
/// A slice has another size, or the range leaves the axis.
#[track_caller]
pub fn read_range<R: Real>(
    axis: Axis,
    range: Range<usize>,
    whole: &[R],
    part: &mut [R],
    acc: Accumulate,
) {
    check_range(axis, &range, whole.len(), part.len());
    if part.is_empty() {
        return;
    }
    let start = range.start * axis.inner;
    let rows = part.chunks_exact_mut(range.len() * axis.inner);
    for (whole, part) in whole.chunks_exact(axis.len * axis.inner).zip(rows) {
        move_values(&whole[start..start + part.len()], part, acc);
    }
}

/// `whole [outer, len, inner]` at `range` `= part [outer, range, inner]`; the rest of `whole` stays as it is.
///
/// # Panics
/// A slice has another size, or the range leaves the axis.
#[track_caller]
pub fn write_range<R: Real>(
    axis: Axis,
    range: Range<usize>,
    part: &[R],
    whole: &mut [R],
    acc: Accumulate,
) {
    check_range(axis, &range, whole.len(), part.len());
    if part.is_empty() {
        return;
    }
    let start = range.start * axis.inner;
    let rows = part.chunks_exact(range.len() * axis.inner);
    for (whole, part) in whole.chunks_exact_mut(axis.len * axis.inner).zip(rows) {
        move_values(part, &mut whole[start..start + part.len()], acc);
    }
}

/// Copies or adds.
pub(crate) fn move_values<R: Real>(source: &[R], target: &mut [R], acc: Accumulate) {
    match acc {
        Accumulate::Write => target.copy_from_slice(source),
        Accumulate::Add => {
            for (target, &source) in target.iter_mut().zip(source) {
                *target += source;
            }
        }
    }
}
