//! Pooling of arrays along any axis.

use nd_core::autograd::Accumulate;
use ndarray::{Array, ArrayRef, Axis, Dimension};

use super::{Windows, avg_pool_backward, avg_pool_forward, max_pool_backward, max_pool_forward};
use crate::lanes::SimdReal;
use crate::layout::{check_axis, from_values, has_shape, level, standard, with_len};

/// The sizes around an axis, as the kernels take them.
fn sizes(shape: &[usize], axis: Axis) -> super::Axis {
    super::Axis::of(shape, axis.index())
}

/// The largest value of each window along an axis, in standard layout; NaN wins over everything.
///
/// ```
/// use ndarray::{Axis, arr2};
/// use nd_simd::pool::{Windows, max_pool};
/// let y = max_pool(&arr2(&[[1.0f32, 3.0, 2.0, 5.0, 4.0]]), Axis(1), Windows::tiles(2));
/// assert_eq!(y, arr2(&[[3.0, 5.0, 4.0]]));
/// ```
///
/// # Panics
/// There is no such axis, or the windows are impossible ([`Windows::count`]).
#[must_use]
#[track_caller]
pub fn max_pool<R: SimdReal, D: Dimension>(
    x: &ArrayRef<R, D>,
    axis: Axis,
    windows: Windows,
) -> Array<R, D> {
    check_axis("x", x.shape(), axis);
    let dim = with_len(&x.raw_dim(), axis.index(), windows.count(x.len_of(axis)));
    let mut y = vec![R::ZERO; dim.size()];
    max_pool_forward(
        level(),
        windows,
        sizes(x.shape(), axis),
        &standard(x),
        &mut y,
    );
    from_values(dim, y)
}

/// The gradient of [`max_pool()`] from its argument: each `dy` goes where the (first) maximum of its window was.
///
/// # Panics
/// As [`max_pool()`]; or `dy` does not have the shape of its result.
#[must_use]
#[track_caller]
pub fn max_pool_gradient<R: SimdReal, D: Dimension>(
    x: &ArrayRef<R, D>,
    dy: &ArrayRef<R, D>,
    axis: Axis,
    windows: Windows,
) -> Array<R, D> {
    check_axis("x", x.shape(), axis);
    let dim = with_len(&x.raw_dim(), axis.index(), windows.count(x.len_of(axis)));
    has_shape(
        "dy",
        dy.shape(),
        dim.slice(),
        &format!("pooling `x` {:?}", x.shape()),
    );
    let mut dx = vec![R::ZERO; x.len()];
    let (sizes, acc) = (sizes(x.shape(), axis), Accumulate::Write);
    max_pool_backward(
        level(),
        windows,
        sizes,
        &standard(x),
        &standard(dy),
        &mut dx,
        acc,
    );
    from_values(x.raw_dim(), dx)
}

/// The mean of each window along an axis, the padding counted as zeros, in standard layout.
///
/// # Panics
/// There is no such axis, or the windows are impossible ([`Windows::count`]).
#[must_use]
#[track_caller]
pub fn avg_pool<R: SimdReal, D: Dimension>(
    x: &ArrayRef<R, D>,
    axis: Axis,
    windows: Windows,
) -> Array<R, D> {
    check_axis("x", x.shape(), axis);
    let dim = with_len(&x.raw_dim(), axis.index(), windows.count(x.len_of(axis)));
    let mut y = vec![R::ZERO; dim.size()];
    avg_pool_forward(
        level(),
        windows,
        sizes(x.shape(), axis),
        &standard(x),
        &mut y,
    );
    from_values(dim, y)
}

/// The gradient of [`avg_pool()`] of `len` values along the axis.
///
/// # Panics
/// There is no such axis, or `dy` does not have the shape of the result.
#[must_use]
#[track_caller]
pub fn avg_pool_gradient<R: SimdReal, D: Dimension>(
    dy: &ArrayRef<R, D>,
    axis: Axis,
    windows: Windows,
    len: usize,
) -> Array<R, D> {
    check_axis("dy", dy.shape(), axis);
    let dim = with_len(&dy.raw_dim(), axis.index(), len);
    let wanted = with_len(&dim, axis.index(), windows.count(len));
    has_shape(
        "dy",
        dy.shape(),
        wanted.slice(),
        &format!("pooling {:?}", dim.slice()),
    );
    let mut dx = vec![R::ZERO; dim.size()];
    let (sizes, acc) = (sizes(dim.slice(), axis), Accumulate::Write);
    avg_pool_backward(level(), windows, sizes, &standard(dy), &mut dx, acc);
    from_values(dim, dx)
}
