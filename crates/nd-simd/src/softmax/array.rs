//! Softmax and its logarithm of arrays: over the last axis, or over any.

use nd_core::autograd::Accumulate;
use nd_core::threads;
use ndarray::{Array, ArrayRef, Axis, Dimension};

use super::{log_softmax_backward, log_softmax_forward, softmax_backward, softmax_forward};
use crate::dispatch::SimdLevel;
use crate::lanes::SimdReal;
use crate::layout::{
    check_axis, cols, copy_standard, from_values, level, parallel, same_shape, standard,
};

/// Elements of the whole rows that one task handles.
const TASK: usize = 16 * 1024;

/// A function of rows, forward.
type Forward<R> = fn(SimdLevel, usize, &[R], &mut [R]);

/// Calls `f(first element, rows)` for blocks of whole rows of `y`, on the threads of the caller's pool if there is one.
fn for_rows<R: SimdReal>(cols: usize, y: &mut [R], f: impl Fn(usize, &mut [R]) + Sync) {
    let chunk = cols.max(1) * (TASK / cols.max(1)).max(1);
    threads::for_each_chunk(parallel(), y, chunk, |i, y| f(i * chunk, y));
}

fn over_rows<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>, f: Forward<R>) -> Array<R, D> {
    let (level, cols) = (level(), cols(x.shape()));
    let values = standard(x);
    let mut y = vec![R::ZERO; x.len()];
    for_rows(cols, &mut y, |start, y| {
        f(level, cols, &values[start..start + y.len()], y)
    });
    from_values(x.raw_dim(), y)
}

/// The same over any axis: the axis is put last, and back.
fn over_axis<R: SimdReal, D: Dimension>(
    x: &ArrayRef<R, D>,
    axis: Axis,
    f: Forward<R>,
) -> Array<R, D> {
    let last = x.ndim() - 1;
    if axis.index() == last {
        return over_rows(x, f);
    }
    let mut turned = x.view();
    turned.swap_axes(axis.index(), last);
    let mut y = over_rows(&turned, f);
    y.swap_axes(axis.index(), last);
    let mut values = vec![R::ZERO; y.len()];
    copy_standard(&y, &mut values);
    from_values(x.raw_dim(), values)
}

/// A function of rows, backward.
type Backward<R> = fn(SimdLevel, usize, &[R], &[R], &mut [R], Accumulate);

fn backward_over_rows<R: SimdReal, D: Dimension>(
    y: &ArrayRef<R, D>,
    dy: &ArrayRef<R, D>,
    f: Backward<R>,
) -> Array<R, D> {
    let (level, cols) = (level(), cols(y.shape()));
    let (values, dy) = (standard(y), standard(dy));
    let mut dx = vec![R::ZERO; y.len()];
    for_rows(cols, &mut dx, |start, dx| {
        let part = start..start + dx.len();
        f(
            level,
            cols,
            &values[part.clone()],
            &dy[part],
            dx,
            Accumulate::Write,
        );
    });
    from_values(y.raw_dim(), dx)
}

/// `y = e^x / sum e^x` over the last axis.
///
/// `-inf` entries get zero, rows of nothing else become zeros; NaN or `+inf` makes its row NaN. The result is in standard
/// layout.
///
/// ```
/// let y = nd_simd::activations::softmax(&ndarray::arr2(&[[0.0f64, 0.0], [0.0, f64::NEG_INFINITY]]));
/// assert_eq!(y, ndarray::arr2(&[[0.5, 0.5], [1.0, 0.0]]));
/// ```
#[must_use]
pub fn softmax<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>) -> Array<R, D> {
    over_rows(x, softmax_forward)
}

/// [`softmax()`] over any axis.
///
/// # Panics
/// There is no such axis.
#[must_use]
#[track_caller]
pub fn softmax_axis<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>, axis: Axis) -> Array<R, D> {
    check_axis("x", x.shape(), axis);
    over_axis(x, axis, softmax_forward)
}

/// The gradient of [`softmax()`] from its value: `dx = y (dy - sum y dy)` over the last axis.
///
/// # Panics
/// The shapes differ.
#[must_use]
#[track_caller]
pub fn softmax_gradient<R: SimdReal, D: Dimension>(
    y: &ArrayRef<R, D>,
    dy: &ArrayRef<R, D>,
) -> Array<R, D> {
    same_shape("y", y.shape(), "dy", dy.shape());
    backward_over_rows(y, dy, softmax_backward)
}

/// `y = x - log sum e^x` over the last axis, the logarithm of [`softmax()`] without its loss of digits where that is small.
///
/// `-inf` entries stay, NaN or `+inf` makes its row NaN. The result is in standard layout.
#[must_use]
pub fn log_softmax<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>) -> Array<R, D> {
    over_rows(x, log_softmax_forward)
}

/// [`log_softmax()`] over any axis.
///
/// # Panics
/// There is no such axis.
#[must_use]
#[track_caller]
pub fn log_softmax_axis<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>, axis: Axis) -> Array<R, D> {
    check_axis("x", x.shape(), axis);
    over_axis(x, axis, log_softmax_forward)
}

/// The gradient of [`log_softmax()`] from its value: `dx = dy - e^y sum dy` over the last axis.
///
/// # Panics
/// The shapes differ.
#[must_use]
#[track_caller]
pub fn log_softmax_gradient<R: SimdReal, D: Dimension>(
    y: &ArrayRef<R, D>,
    dy: &ArrayRef<R, D>,
) -> Array<R, D> {
    same_shape("y", y.shape(), "dy", dy.shape());
    backward_over_rows(y, dy, log_softmax_backward)
}
