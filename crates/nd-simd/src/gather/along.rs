//! Single elements picked along an axis by number, and put back.

use nd_core::Real;
use nd_core::autograd::Accumulate;

use crate::pool::Axis;

#[track_caller]
fn check(
    axis: Axis,
    mut ids: impl ExactSizeIterator<Item = usize>,
    whole: (&str, usize),
    picked: (&str, usize),
) {
    assert_eq!(whole.1, axis.numel(), "elements of {} {axis:?}", whole.0);
    assert_eq!(
        picked.1,
        ids.len(),
        "elements of {}, one for each number",
        picked.0
    );
    let lanes = axis.outer * axis.inner;
    assert!(
        ids.len().is_multiple_of(lanes.max(1)) && (lanes > 0 || ids.len() == 0),
        "{} numbers for {lanes} lanes of {axis:?}",
        ids.len()
    );
    if let Some(id) = ids.find(|&id| id >= axis.len) {
        panic!("element {id} of an axis of {}", axis.len);
    }
}

/// The place in `[outer, len, inner]` of each picked element, which lie `[outer, picks, inner]`.
fn places(axis: Axis, ids: impl ExactSizeIterator<Item = usize>) -> impl Iterator<Item = usize> {
    let per_outer = (ids.len() / axis.outer.max(1)).max(1);
    ids.enumerate().map(move |(at, id)| {
        let (outer, inner) = (at / per_outer, at % axis.inner.max(1));
        (outer * axis.len + id) * axis.inner + inner
    })
}

/// `y[o, j, i] = x[o, ids[o, j, i], i]`: x `[outer, len, inner]`, ids and y `[outer, picks, inner]` (PyTorch's `gather`, NumPy's
/// `take_along_axis`).
///
/// # Panics
/// A slice has another size, or there is no such element.
#[track_caller]
pub fn take_along_forward<R: Real>(
    axis: Axis,
    x: &[R],
    ids: impl ExactSizeIterator<Item = usize> + Clone,
    y: &mut [R],
) {
    check(axis, ids.clone(), ("x", x.len()), ("y", y.len()));
    for (place, y) in places(axis, ids).zip(y) {
        *y = x[place];
    }
}

/// The gradient of [`take_along_forward`], which is a scatter: each `dy` is added to the element it came from.
///
/// With [`Accumulate::Add`] this is PyTorch's `scatter_add_`.
///
/// # Panics
/// As [`take_along_forward`].
#[track_caller]
pub fn take_along_backward<R: Real>(
    axis: Axis,
    ids: impl ExactSizeIterator<Item = usize> + Clone,
    dy: &[R],
    dx: &mut [R],
    acc: Accumulate,
) {
    check(axis, ids.clone(), ("dx", dx.len()), ("dy", dy.len()));
    if acc == Accumulate::Write {
        dx.fill(R::ZERO);
    }
    for (place, &dy) in places(axis, ids).zip(dy) {
        dx[place] += dy;
    }
}
