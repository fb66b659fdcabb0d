//! Sums and their kin of arrays: over everything, or along one axis.
//!
//! Results are accumulated in f64 and rounded once to the element type. They do not depend on whether an array is copied on
//! the way, but on the order in which its elements are read: memory order where they lie without gaps, else logical order.

use ndarray::{Array, ArrayRef, Axis, Dimension, RemoveAxis};

use super::{
    Moments, all_finite_slice, dot_slice, max_slice, mean_slice, moments, row_sums, sum_slice,
};
use crate::dispatch::SimdLevel;
use crate::lanes::SimdReal;
use crate::layout::{Order, check_axis, from_values, level, pieces, same_shape, standard};

/// The sum of f64 results of pieces.
fn total<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>, f: impl Fn(SimdLevel, &[R]) -> f64) -> f64 {
    let (level, mut total) = (level(), 0.0);
    pieces(Order::Any, [x], |_, [x]| total += f(level, x));
    total
}

/// The sum of all elements; zero without any.
///
/// ```
/// use ndarray::{arr2, s};
/// let x = arr2(&[[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
/// assert_eq!(nd_simd::reduce::sum(&x), 21.0);
/// assert_eq!(nd_simd::reduce::sum(&x.slice(s![.., ..;-2])), 14.0);
/// ```
#[must_use]
pub fn sum<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>) -> R {
    R::from_f64(total(x, sum_slice))
}

/// The arithmetic mean; NaN without elements.
#[must_use]
pub fn mean<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>) -> R {
    R::from_f64(total(x, sum_slice) / x.len() as f64)
}

/// The mean of squared deviations from the mean, `sum (x - mean)^2 / (n - ddof)`, accurate also where the mean is large
/// beside the spread; NaN without elements. `ddof` 0 is the population's variance, 1 the sample's.
#[must_use]
pub fn variance<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>, ddof: f64) -> R {
    let (level, mut all) = (level(), Moments::EMPTY);
    pieces(Order::Any, [x], |_, [x]| all = all.merge(moments(level, x)));
    R::from_f64(all.squared_deviations / (all.count - ddof))
}

/// The largest element; NaN when one is NaN, `-inf` without elements.
#[must_use]
pub fn max<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>) -> R {
    let (level, mut best) = (level(), R::from_f64(f64::NEG_INFINITY));
    pieces(Order::Any, [x], |_, [x]| {
        let found = max_slice(level, x);
        if found > best || found.is_nan() {
            best = if best.is_nan() { best } else { found };
        }
    });
    best
}

/// `sum a_i b_i` over all elements of two arrays of one shape.
///
/// # Panics
/// The shapes differ.
#[must_use]
#[track_caller]
pub fn dot<R: SimdReal, D: Dimension>(a: &ArrayRef<R, D>, b: &ArrayRef<R, D>) -> R {
    same_shape("a", a.shape(), "b", b.shape());
    let (level, mut total) = (level(), 0.0);
    pieces(Order::Any, [a, b], |_, [a, b]| {
        total += dot_slice(level, a, b)
    });
    R::from_f64(total)
}

/// The Euclidean norm, `sqrt(sum x_i^2)`.
///
/// Squares are added in the element type within blocks, so f32 elements beyond about 1e19 make it infinite.
#[must_use]
pub fn l2_norm<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>) -> R {
    R::from_f64(total(x, |level, x| dot_slice(level, x, x)).sqrt())
}

/// Whether no element is infinite or NaN.
#[must_use]
pub fn all_finite<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>) -> bool {
    let (level, mut finite) = (level(), true);
    pieces(Order::Any, [x], |_, [x]| {
        finite &= all_finite_slice(level, x)
    });
    finite
}

/// A number for each row along an axis.
fn along<R: SimdReal, D: RemoveAxis>(
    x: &ArrayRef<R, D>,
    axis: Axis,
    f: impl FnOnce(&[R], usize, &mut [R]),
) -> Array<R, D::Smaller> {
    let mut turned = x.view();
    // The other axes keep their order.
    for at in axis.index()..x.ndim() - 1 {
        turned.swap_axes(at, at + 1);
    }
    let dim = x.raw_dim().remove_axis(axis);
    let mut out = vec![R::ZERO; dim.size()];
    f(&standard(&turned), x.len_of(axis), &mut out);
    from_values(dim, out)
}

/// The sums along an axis.
///
/// # Panics
/// There is no such axis.
#[must_use]
#[track_caller]
pub fn sum_axis<R: SimdReal, D: RemoveAxis>(
    x: &ArrayRef<R, D>,
    axis: Axis,
) -> Array<R, D::Smaller> {
    check_axis("x", x.shape(), axis);
    along(x, axis, |x, len, out| row_sums(level(), x, len, 1.0, out))
}

/// The means along an axis; NaN where it has no elements.
///
/// # Panics
/// There is no such axis.
#[must_use]
#[track_caller]
pub fn mean_axis<R: SimdReal, D: RemoveAxis>(
    x: &ArrayRef<R, D>,
    axis: Axis,
) -> Array<R, D::Smaller> {
    check_axis("x", x.shape(), axis);
    along(x, axis, |x, len, out| each_row(x, len, out, mean_slice))
}

/// The variances along an axis: see [`variance`].
///
/// # Panics
/// There is no such axis.
#[must_use]
#[track_caller]
pub fn variance_axis<R: SimdReal, D: RemoveAxis>(
    x: &ArrayRef<R, D>,
    axis: Axis,
    ddof: f64,
) -> Array<R, D::Smaller> {
    check_axis("x", x.shape(), axis);
    along(x, axis, |x, len, out| {
        each_row(x, len, out, |level, row| {
            let moments = moments(level, row);
            moments.squared_deviations / (moments.count - ddof)
        });
    })
}

/// The largest elements along an axis: see [`max`].
///
/// # Panics
/// There is no such axis.
#[must_use]
#[track_caller]
pub fn max_axis<R: SimdReal, D: RemoveAxis>(
    x: &ArrayRef<R, D>,
    axis: Axis,
) -> Array<R, D::Smaller> {
    check_axis("x", x.shape(), axis);
    along(x, axis, |x, len, out| {
        each_row(x, len, out, |level, row| max_slice(level, row).to_f64());
    })
}

fn each_row<R: SimdReal>(x: &[R], len: usize, out: &mut [R], f: impl Fn(SimdLevel, &[R]) -> f64) {
    let level = level();
    for (r, out) in out.iter_mut().enumerate() {
        *out = R::from_f64(f(level, &x[r * len..][..len]));
    }
}
