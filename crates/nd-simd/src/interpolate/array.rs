//! Interpolation of arrays along the last axis.

use nd_core::autograd::Accumulate;
use ndarray::{Array, ArrayRef, Axis, Dimension};

use super::{Interpolation, interpolate_backward, interpolate_forward};
use crate::lanes::SimdReal;
use crate::layout::{check_axis, cols, from_values, level, standard, with_len};

#[track_caller]
fn check_last<R, D: Dimension>(name: &str, x: &ArrayRef<R, D>, knots: usize, size: usize) {
    check_axis(name, x.shape(), Axis(x.ndim().saturating_sub(1)));
    assert!(
        knots > 0 || size == 0,
        "{size} values cannot be interpolated from no knots: `{name}` has the shape {:?}",
        x.shape()
    );
}

/// `size` values from the knots of the last axis, as PyTorch's `interpolate` with `align_corners=False`; in standard layout.
///
/// ```
/// use ndarray::arr2;
/// use nd_simd::interpolate::{Interpolation, interpolate};
/// let y = interpolate(&arr2(&[[0.0f32, 4.0]]), 4, Interpolation::Linear);
/// assert_eq!(y, arr2(&[[0.0, 1.0, 3.0, 4.0]]));
/// ```
///
/// # Panics
/// An array without axes or knots.
#[must_use]
#[track_caller]
pub fn interpolate<R: SimdReal, D: Dimension>(
    x: &ArrayRef<R, D>,
    size: usize,
    mode: Interpolation,
) -> Array<R, D> {
    let knots = cols(x.shape());
    check_last("x", x, knots, size);
    let dim = with_len(&x.raw_dim(), x.ndim() - 1, size);
    let mut y = vec![R::ZERO; dim.size()];
    if !y.is_empty() {
        interpolate_forward(level(), mode, knots, size, &standard(x), &mut y);
    }
    from_values(dim, y)
}

/// The gradient of [`interpolate()`] from `knots` values: each `dy` goes to its knots by their weights.
///
/// # Panics
/// An array without axes, or no knots.
#[must_use]
#[track_caller]
pub fn interpolate_gradient<R: SimdReal, D: Dimension>(
    dy: &ArrayRef<R, D>,
    knots: usize,
    mode: Interpolation,
) -> Array<R, D> {
    let size = cols(dy.shape());
    check_last("dy", dy, knots, size);
    let dim = with_len(&dy.raw_dim(), dy.ndim() - 1, knots);
    let mut dx = vec![R::ZERO; dim.size()];
    if !dx.is_empty() && size > 0 {
        let acc = Accumulate::Write;
        interpolate_backward(level(), mode, knots, size, &standard(dy), &mut dx, acc);
    }
    from_values(dim, dx)
}
