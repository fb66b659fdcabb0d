//! ndarray views as heads of tokens.

use nd_core::Element;
use ndarray::{ArrayRef, CowArray, Dimension, Ix2, Ix3, Ix4};

use super::{HeadLayout, HeadsRef};

/// Arrays that attention takes: two, three or four dimensions.
pub trait AttentionDimension: Dimension {
    /// Batch, heads, tokens and channels of a shape, and the strides of the first three.
    fn parts(shape: &[usize], strides: &[isize]) -> ([usize; 4], [isize; 3]);
}

impl AttentionDimension for Ix2 {
    fn parts(shape: &[usize], strides: &[isize]) -> ([usize; 4], [isize; 3]) {
        ([1, 1, shape[0], shape[1]], [0, 0, strides[0]])
    }
}

impl AttentionDimension for Ix3 {
    fn parts(shape: &[usize], strides: &[isize]) -> ([usize; 4], [isize; 3]) {
        (
            [shape[0], 1, shape[1], shape[2]],
            [strides[0], 0, strides[1]],
        )
    }
}

impl AttentionDimension for Ix4 {
    fn parts(shape: &[usize], strides: &[isize]) -> ([usize; 4], [isize; 3]) {
        (
            [shape[0], shape[1], shape[2], shape[3]],
            [strides[0], strides[1], strides[2]],
        )
    }
}

/// An array whose channels are side by side and whose strides are not negative: itself, or a copy.
pub(super) fn readable<R: Element, D: AttentionDimension>(
    x: &ArrayRef<R, D>,
) -> CowArray<'_, R, D> {
    let strides = x.strides();
    let beside = x.shape()[strides.len() - 1] <= 1 || strides[strides.len() - 1] == 1;
    if beside && strides.iter().all(|&stride| stride >= 0) {
        x.view().into()
    } else {
        x.as_standard_layout().into_owned().into()
    }
}

pub(super) fn layout<R, D: AttentionDimension>(x: &ArrayRef<R, D>) -> HeadLayout {
    let ([batch, heads, tokens, channels], strides) = D::parts(x.shape(), x.strides());
    HeadLayout {
        batch,
        heads,
        tokens,
        channels,
        strides: strides.map(isize::unsigned_abs),
    }
}

/// The elements of an array that [`readable`] returned, from the first one on.
pub(super) fn heads<'a, R: Element, D: AttentionDimension>(
    x: &'a CowArray<'_, R, D>,
) -> HeadsRef<'a, R> {
    let layout = layout(x);
    let span = if x.is_empty() {
        0
    } else {
        let last: usize = x
            .shape()
            .iter()
            .zip(x.strides())
            .map(|(&len, &stride)| (len - 1) * stride.unsigned_abs())
            .sum();
        last + 1
    };
    // SAFETY: strides are not negative, so the array's elements are inside the `span` places from its first one on, which all
    // belong to its one allocation; it is borrowed for as long as the slice. Elements between may belong to other views, which read
    // them too.
    let data = unsafe { std::slice::from_raw_parts(x.as_ptr(), span) };
    HeadsRef::new(data, layout)
}
