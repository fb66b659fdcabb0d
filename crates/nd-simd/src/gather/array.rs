//! Rows and elements of arrays picked by number, and added back.

use nd_core::autograd::Accumulate;
use ndarray::{Array, Array2, ArrayRef, ArrayRef2, Axis, Dim, Dimension};

use super::{gather_rows_backward, gather_rows_forward, take_along_backward, take_along_forward};
use crate::lanes::SimdReal;
use crate::layout::{check_axis, from_values, has_shape, standard, with_len};

/// The dimensions of `ids` and the width of a row.
fn with_width<D: Dimension>(ids: &D, width: usize) -> D::Larger {
    let mut dim = D::Larger::zeros(ids.ndim() + 1);
    for (slot, &size) in dim
        .slice_mut()
        .iter_mut()
        .zip(ids.slice().iter().chain([&width]))
    {
        *slot = size;
    }
    dim
}

#[track_caller]
fn check_ids<D: Dimension>(rows: usize, ids: &ArrayRef<usize, D>) {
    for (at, &id) in ids.indexed_iter() {
        assert!(
            id < rows,
            "`ids`{at:?} is {id}, but the table has {rows} rows"
        );
    }
}

/// Rows of a table by their numbers: table `[rows, width]`, ids of any shape, the result `[.. ids, width]` in standard layout.
///
/// ```
/// use ndarray::array;
/// let table = array![[0.0f32, 0.5], [1.0, 1.5], [2.0, 2.5]];
/// let y = nd_simd::gather::embedding(&table, &array![2, 0]);
/// assert_eq!(y, array![[2.0, 2.5], [0.0, 0.5]]);
/// ```
///
/// # Panics
/// There is no such row.
#[must_use]
#[track_caller]
pub fn embedding<R: SimdReal, D: Dimension>(
    table: &ArrayRef2<R>,
    ids: &ArrayRef<usize, D>,
) -> Array<R, D::Larger> {
    check_ids(table.nrows(), ids);
    let width = table.ncols();
    let mut y = vec![R::ZERO; ids.len() * width];
    let ids_list = ids.as_standard_layout();
    if !y.is_empty() {
        gather_rows_forward(width, &standard(table), numbers(&ids_list), &mut y);
    }
    from_values(with_width(&ids.raw_dim(), width), y)
}

/// The numbers, in logical order.
fn numbers<D: Dimension>(ids: &ArrayRef<usize, D>) -> impl ExactSizeIterator<Item = usize> + Clone {
    match ids.as_slice() {
        Some(ids) => ids.iter().copied(),
        None => unreachable!("numbers are put in standard order first"),
    }
}

/// The gradient of [`embedding()`] in its table of `rows` rows: each row of `dy` is added to the row it came from.
///
/// # Panics
/// There is no such row, or `dy` does not have the shape of the result.
#[must_use]
#[track_caller]
pub fn embedding_gradient<R: SimdReal, D: Dimension>(
    rows: usize,
    ids: &ArrayRef<usize, D>,
    dy: &ArrayRef<R, D::Larger>,
) -> Array2<R> {
    let width = crate::layout::cols(dy.shape());
    let mut table = from_values(Dim([rows, width]), vec![R::ZERO; rows * width]);
    scatter_add(&mut table, ids, dy);
    table
}

/// Adds each row of `rows`, `[.. ids, width]`, to the row of `table`, `[rows, width]`, whose number is in `ids`; numbers may
/// repeat.
///
/// # Panics
/// There is no such row, or the shapes do not fit.
#[track_caller]
pub fn scatter_add<R: SimdReal, D: Dimension>(
    table: &mut ArrayRef2<R>,
    ids: &ArrayRef<usize, D>,
    rows: &ArrayRef<R, D::Larger>,
) {
    let width = table.ncols();
    let wanted = with_width(&ids.raw_dim(), width);
    let because = format!("`ids` {:?} and a table {:?}", ids.shape(), table.shape());
    has_shape("rows", rows.shape(), wanted.slice(), &because);
    check_ids(table.nrows(), ids);
    if rows.is_empty() {
        return;
    }
    let (rows, ids_list) = (standard(rows), ids.as_standard_layout());
    if let Some(table) = table.as_slice_mut() {
        gather_rows_backward(width, numbers(&ids_list), &rows, table, Accumulate::Add);
        return;
    }
    let mut copy = standard(&*table).into_owned();
    gather_rows_backward(width, numbers(&ids_list), &rows, &mut copy, Accumulate::Add);
    table.assign(&from_values(table.raw_dim(), copy));
}

/// The sizes around an axis, after a check that `ids` differs from `x` along it only.
#[track_caller]
fn lanes(name: &str, x: &[usize], ids: &[usize], axis: Axis) -> crate::pool::Axis {
    check_axis(name, x, axis);
    let fits = x.len() == ids.len() && (0..x.len()).all(|i| i == axis.index() || x[i] == ids[i]);
    assert!(
        fits,
        "`ids` has the shape {ids:?} but `{name}` {x:?}; they may differ along axis {} only",
        axis.index()
    );
    crate::pool::Axis::of(x, axis.index())
}

#[track_caller]
fn check_along<D: Dimension>(len: usize, ids: &ArrayRef<usize, D>, axis: Axis) {
    for (at, &id) in ids.indexed_iter() {
        assert!(
            id < len,
            "`ids`{at:?} is {id}, but axis {} has {len} elements",
            axis.index()
        );
    }
}

/// Elements picked along an axis: `y[.., j, ..] = x[.., ids[.., j, ..], ..]`, as NumPy's `take_along_axis` and PyTorch's `gather`; in
/// standard layout.
///
/// # Panics
/// There is no such axis or element, or the shapes differ along another axis.
#[must_use]
#[track_caller]
pub fn take_along<R: SimdReal, D: Dimension>(
    x: &ArrayRef<R, D>,
    ids: &ArrayRef<usize, D>,
    axis: Axis,
) -> Array<R, D> {
    let sizes = lanes("x", x.shape(), ids.shape(), axis);
    check_along(sizes.len, ids, axis);
    let mut y = vec![R::ZERO; ids.len()];
    let ids_list = ids.as_standard_layout();
    if !y.is_empty() {
        take_along_forward(sizes, &standard(x), numbers(&ids_list), &mut y);
    }
    from_values(ids.raw_dim(), y)
}

/// The gradient of [`take_along()`] of an array with `len` elements along the axis: each `dy` is added to the element it came
/// from. (A scatter: PyTorch's `scatter_add`.)
///
/// # Panics
/// There is no such axis or element, or `dy` does not have the shape of `ids`.
#[must_use]
#[track_caller]
pub fn take_along_gradient<R: SimdReal, D: Dimension>(
    dy: &ArrayRef<R, D>,
    ids: &ArrayRef<usize, D>,
    axis: Axis,
    len: usize,
) -> Array<R, D> {
    check_axis("dy", dy.shape(), axis);
    crate::layout::same_shape("dy", dy.shape(), "ids", ids.shape());
    let dim = with_len(&dy.raw_dim(), axis.index(), len);
    check_along(len, ids, axis);
    let mut dx = vec![R::ZERO; dim.size()];
    let ids_list = ids.as_standard_layout();
    if !dx.is_empty() && !dy.is_empty() {
        let sizes = crate::pool::Axis::of(dim.slice(), axis.index());
        take_along_backward(
            sizes,
            numbers(&ids_list),
            &standard(dy),
            &mut dx,
            Accumulate::Write,
        );
    }
    from_values(dim, dx)
}
