//! Arrays with their axes in another order, in memory too.

use ndarray::{Array, ArrayRef, Dimension};

use crate::lanes::SimdReal;
use crate::layout::{from_values, standard};

/// A copy in standard layout, of an array of any layout: blocks of a transposed array are turned in registers.
///
/// ```
/// let x = ndarray::Array2::<f32>::zeros((3, 5));
/// assert!(nd_simd::permute::to_standard(&x.t()).is_standard_layout());
/// ```
#[must_use]
pub fn to_standard<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>) -> Array<R, D> {
    from_values(x.raw_dim(), standard(x).into_owned())
}

/// A copy with the axes in another order, in standard layout: axis `i` of the result is axis `axes[i]` of `x`.
///
/// # Panics
/// `axes` is not an order of all axes.
#[must_use]
#[track_caller]
pub fn permuted<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>, axes: &[usize]) -> Array<R, D> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    assert!(
        sorted.iter().copied().eq(0..x.ndim()),
        "{axes:?} is not an order of the axes of `x` {:?}",
        x.shape()
    );
    let mut order = D::zeros(x.ndim());
    for (slot, &axis) in order.slice_mut().iter_mut().zip(axes) {
        *slot = axis;
    }
    to_standard(&x.view().permuted_axes(order))
}
