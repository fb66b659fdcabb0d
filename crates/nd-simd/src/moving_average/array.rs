//! The moving average of arrays along any axis.

use nd_core::autograd::Accumulate;
use ndarray::{Array, ArrayRef, Axis, Dimension};

use super::{moving_average_backward, moving_average_forward};
use crate::lanes::SimdReal;
use crate::layout::{check_axis, from_values, level, standard};

#[track_caller]
fn check<R, D: Dimension>(name: &str, x: &ArrayRef<R, D>, axis: Axis, window: usize) {
    check_axis(name, x.shape(), axis);
    assert!(
        window % 2 == 1,
        "a moving average of `{name}` {:?} needs an odd window to be centred, found {window}",
        x.shape()
    );
}

/// The mean of `window` values around each value along an axis, the first and the last value repeated beyond the ends; in
/// standard layout.
///
/// # Panics
/// There is no such axis, or the window is even.
#[must_use]
#[track_caller]
pub fn moving_average<R: SimdReal, D: Dimension>(
    x: &ArrayRef<R, D>,
    axis: Axis,
    window: usize,
) -> Array<R, D> {
    check("x", x, axis, window);
    let sizes = crate::pool::Axis::of(x.shape(), axis.index());
    let mut y = vec![R::ZERO; x.len()];
    moving_average_forward(level(), window, sizes, &standard(x), &mut y);
    from_values(x.raw_dim(), y)
}

/// The gradient of [`moving_average()`], its exact adjoint.
///
/// # Panics
/// As [`moving_average()`].
#[must_use]
#[track_caller]
pub fn moving_average_gradient<R: SimdReal, D: Dimension>(
    dy: &ArrayRef<R, D>,
    axis: Axis,
    window: usize,
) -> Array<R, D> {
    check("dy", dy, axis, window);
    let sizes = crate::pool::Axis::of(dy.shape(), axis.index());
    let mut dx = vec![R::ZERO; dy.len()];
    moving_average_backward(
        level(),
        window,
        sizes,
        &standard(dy),
        &mut dx,
        Accumulate::Write,
    );
    from_values(dy.raw_dim(), dx)
}
