//! Arrays of any layout as the slices that kernels take.
//!
//! The simple version copies each operand into standard order and wraps the result. That is what remains for views with gaps
//! or steps; what lies in memory without gaps is never copied:
//! * [`map`]: operands that lie in the same order, whatever it is (row-major, column-major, permuted, reversed), are one
//!   slice each, and the result gets that order;
//! * [`pieces`]: other operands are read in logical order, a piece at a time through a buffer of [`PIECE`] elements;
//! * [`standard`]: what needs whole rows gets them; arrays in permuted order pass through the transposing kernel.
//!
//! Known weakness: a view with steps in its last axis is gathered element by element.

use std::borrow::Cow;

use nd_core::threads;
pub(crate) use nd_core::threads::parallel;
use ndarray::iter::LanesIter;
use ndarray::{Array, ArrayRef, ArrayView1, Axis, Dimension, ShapeBuilder};

use crate::dispatch::SimdLevel;
use crate::lanes::SimdReal;
use crate::permute::permute_axes;

/// Elements of a piece: a multiple of every block that sums are made of, so that cutting changes no bit.
pub(crate) const PIECE: usize = 4096;

/// Elements that one task of an elementwise function handles.
const TASK: usize = 64 * 1024;

/// The axes that the transposing kernel takes.
const MAX_AXES: usize = 6;

/// The level that functions of arrays run at.
pub(crate) fn level() -> SimdLevel {
    SimdLevel::current()
}

/// Asserts that two arrays have the same shape, naming both.
#[track_caller]
pub(crate) fn same_shape(name: &str, shape: &[usize], other: &str, other_shape: &[usize]) {
    assert!(
        shape == other_shape,
        "`{name}` has the shape {shape:?} but `{other}` has {other_shape:?}; they must be equal"
    );
}

/// Asserts that an array has the shape that others ask for.
#[track_caller]
pub(crate) fn has_shape(name: &str, shape: &[usize], wanted: &[usize], because: &str) {
    assert!(
        shape == wanted,
        "`{name}` has the shape {shape:?} but {because} asks for {wanted:?}"
    );
}

/// An array in standard layout.
pub(crate) fn from_values<A, D: Dimension>(dim: D, values: Vec<A>) -> Array<A, D> {
    let len = values.len();
    match Array::from_shape_vec(dim, values) {
        Ok(array) => array,
        Err(error) => unreachable!("{len} values were made for the shape: {error}"),
    }
}

/// An array with the shape and the memory order of `x`, whose elements lie without gaps, from values in memory order.
fn like<A, T, D: Dimension>(x: &ArrayRef<A, D>, values: Vec<T>) -> Array<T, D> {
    if x.is_standard_layout() || x.is_empty() {
        return from_values(x.raw_dim(), values);
    }
    let mut strides = D::zeros(x.ndim());
    for (axis, &stride) in x.strides().iter().enumerate() {
        strides[axis] = stride.unsigned_abs();
    }
    let len = values.len();
    let mut y = match Array::from_shape_vec(x.raw_dim().strides(strides), values) {
        Ok(array) => array,
        Err(error) => unreachable!("{len} values have the strides of {len} others: {error}"),
    };
    for (axis, &stride) in x.strides().iter().enumerate() {
        if stride < 0 {
            y.invert_axis(Axis(axis));
        }
    }
    y
}

/// The operands as slices in one common memory order.
fn common_order<'a, A, D: Dimension, const N: usize>(
    operands: &[&'a ArrayRef<A, D>; N],
) -> Option<[&'a [A]; N]> {
    let first = operands[0];
    let same = |other: &ArrayRef<A, D>| {
        let strides = first.strides().iter().zip(other.strides());
        let mut axes = first.shape().iter().zip(strides);
        axes.all(|(&len, (a, b))| len <= 1 || a == b)
    };
    let mut slices: [&'a [A]; N] = [&[]; N];
    if first.is_empty() {
        return Some(slices);
    }
    for (slice, &operand) in slices.iter_mut().zip(operands) {
        if !same(operand) {
            return None;
        }
        *slice = operand.as_slice_memory_order()?;
    }
    Some(slices)
}

/// An operand that is read in logical order, once.
enum Reader<'a, A, D: Dimension> {
    Slice(&'a [A]),
    Rows {
        rows: LanesIter<'a, A, D::Smaller>,
        /// What is left of the present row.
        row: ArrayView1<'a, A>,
        buffer: Vec<A>,
    },
}

impl<'a, A: Copy, D: Dimension> Reader<'a, A, D> {
    fn new(x: &'a ArrayRef<A, D>) -> Self {
        match x.as_slice() {
            Some(slice) => Self::Slice(slice),
            None => Self::Rows {
                rows: x.rows().into_iter(),
                row: ArrayView1::from(&[]),
                buffer: Vec::with_capacity(PIECE.min(x.len())),
            },
        }
    }

    /// The next `len` elements, of which there are as many.
    fn next(&mut self, len: usize) -> &[A] {
        match self {
            Self::Slice(slice) => {
                let (piece, rest) = slice.split_at(len);
                *slice = rest;
                piece
            }
            Self::Rows { rows, row, buffer } => {
                buffer.clear();
                while buffer.len() < len {
                    if row.is_empty() {
                        match rows.next() {
                            Some(next) => *row = next,
                            None => unreachable!("an array has as many elements as its rows"),
                        }
                        continue;
                    }
                    let (piece, rest) = row.split_at(Axis(0), row.len().min(len - buffer.len()));
                    match piece.to_slice() {
                        Some(piece) => buffer.extend_from_slice(piece),
                        None => buffer.extend(piece.iter().copied()),
                    }
                    *row = rest;
                }
                buffer
            }
        }
    }
}

/// The order in which operands may be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Any, the same for all.
    Any,
    /// The last index first.
    Logical,
}

/// Calls `visit(start, pieces)` for consecutive pieces of at most [`PIECE`] elements of operands of one shape.
///
/// Returns whether they were read in the memory order of the first operand rather than in logical order.
pub(crate) fn pieces<A: Copy, D: Dimension, const N: usize>(
    order: Order,
    operands: [&ArrayRef<A, D>; N],
    mut visit: impl FnMut(usize, [&[A]; N]),
) -> bool {
    let len = operands[0].len();
    let starts = || (0..len).step_by(PIECE);
    let standard = operands.iter().all(|operand| operand.is_standard_layout());
    let slices = if order == Order::Any || standard {
        common_order(&operands)
    } else {
        None
    };
    if let Some(slices) = slices {
        for start in starts() {
            let end = len.min(start + PIECE);
            visit(start, slices.map(|slice| &slice[start..end]));
        }
        return true;
    }
    let mut readers = operands.map(Reader::new);
    for start in starts() {
        let size = PIECE.min(len - start);
        let mut pieces: [&[A]; N] = [&[]; N];
        for (piece, reader) in pieces.iter_mut().zip(&mut readers) {
            *piece = reader.next(size);
        }
        visit(start, pieces);
    }
    false
}

/// The array whose elements, in the order that [`pieces`] read the first operand, are `values`.
pub(crate) fn in_read_order<A, T, D: Dimension>(
    memory_order: bool,
    x: &ArrayRef<A, D>,
    values: Vec<T>,
) -> Array<T, D> {
    if memory_order {
        like(x, values)
    } else {
        from_values(x.raw_dim(), values)
    }
}

/// An elementwise function of operands of one shape; `f` maps slices to slices.
///
/// The result has the memory order of the operands where that is one and without gaps, else standard layout.
pub(crate) fn map<A, T, D, const N: usize>(
    operands: [&ArrayRef<A, D>; N],
    f: impl Fn([&[A]; N], &mut [T]) + Sync,
) -> Array<T, D>
where
    A: Copy + Sync,
    T: nd_core::Element,
    D: Dimension,
{
    let mut values = vec![T::ZERO; operands[0].len()];
    if let Some(slices) = common_order(&operands) {
        threads::for_each_chunk(parallel(), &mut values, TASK, |i, y| {
            f(slices.map(|slice| &slice[i * TASK..][..y.len()]), y);
        });
        return like(operands[0], values);
    }
    pieces(Order::Logical, operands, |start, slices| {
        f(slices, &mut values[start..start + slices[0].len()]);
    });
    from_values(operands[0].raw_dim(), values)
}

/// The elements in standard order: borrowed where they lie so, else copied once.
pub(crate) fn standard<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>) -> Cow<'_, [R]> {
    if let Some(slice) = x.as_slice() {
        return Cow::Borrowed(slice);
    }
    let mut values = vec![R::ZERO; x.len()];
    copy_standard(x, &mut values);
    Cow::Owned(values)
}

/// Copies the elements in standard order.
pub(crate) fn copy_standard<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>, values: &mut [R]) {
    if let Some((dims, axes, slice)) = permuted(x) {
        let rank = x.ndim();
        let acc = nd_core::autograd::Accumulate::Write;
        permute_axes(level(), &dims[..rank], &axes[..rank], slice, values, acc);
        return;
    }
    pieces(Order::Logical, [x], |start, [piece]| {
        values[start..start + piece.len()].copy_from_slice(piece);
    });
}

/// The dimensions in memory order, for each axis its place in that order, and the elements; where `x` is a standard array
/// with its axes in another order.
fn permuted<R, D: Dimension>(
    x: &ArrayRef<R, D>,
) -> Option<([usize; MAX_AXES], [usize; MAX_AXES], &[R])> {
    let rank = x.ndim();
    let forward = x.shape().iter().zip(x.strides());
    if rank > MAX_AXES || x.is_empty() || forward.clone().any(|(&len, &s)| len > 1 && s < 0) {
        return None;
    }
    let slice = x.as_slice_memory_order()?;
    let mut order: [usize; MAX_AXES] = std::array::from_fn(|axis| axis);
    // The slowest first; where an axis of one element stands does not matter.
    order[..rank].sort_by_key(|&axis| std::cmp::Reverse(x.strides()[axis].unsigned_abs()));
    let (mut dims, mut axes) = ([0; MAX_AXES], [0; MAX_AXES]);
    for (place, &axis) in order[..rank].iter().enumerate() {
        dims[place] = x.shape()[axis];
        axes[axis] = place;
    }
    Some((dims, axes, slice))
}

/// Lends the elements of several arrays of one shape, to be changed in place; arrays that do not share one memory
/// order without gaps are copied there and back.
pub(crate) fn update<R: SimdReal, D: Dimension, const N: usize>(
    arrays: [&mut ArrayRef<R, D>; N],
    read: &ArrayRef<R, D>,
    f: impl FnOnce([&mut [R]; N], &[R]),
) {
    let same = |strides: &[isize]| {
        let axes = read.shape().iter().zip(read.strides().iter().zip(strides));
        axes.into_iter().all(|(&len, (a, b))| len <= 1 || a == b)
    };
    let shared = arrays.iter().all(|array| same(array.strides()));
    if read.is_empty() {
        return;
    }
    if let (true, Some(read)) = (shared, read.as_slice_memory_order()) {
        f(
            arrays.map(|array| match array.as_slice_memory_order_mut() {
                Some(slice) => slice,
                None => unreachable!("an array with the strides of one without gaps has none"),
            }),
            read,
        );
        return;
    }
    let mut copies: [Vec<R>; N] = std::array::from_fn(|i| standard(&*arrays[i]).into_owned());
    f(copies.each_mut().map(Vec::as_mut_slice), &standard(read));
    for (array, copy) in arrays.into_iter().zip(copies) {
        array.assign(&from_values(read.raw_dim(), copy));
    }
}

/// The number of elements of a row: the last axis, or one.
pub(crate) fn cols(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1)
}

/// The shape with another size of one axis.
pub(crate) fn with_len<D: Dimension>(dim: &D, axis: usize, len: usize) -> D {
    let mut dim = dim.clone();
    dim[axis] = len;
    dim
}

/// Asserts that there is such an axis.
#[track_caller]
pub(crate) fn check_axis(name: &str, shape: &[usize], axis: Axis) {
    assert!(
        axis.index() < shape.len(),
        "`{name}` of shape {shape:?} has no axis {}",
        axis.index()
    );
}
