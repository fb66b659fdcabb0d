//! Matrix products of arrays.
//!
//! Transposes are strides here too: `gemm(&a.t(), &b)` multiplies by the transpose without a copy, and so does any array
//! whose elements lie without gaps, row-major, column-major or reversed. Rows of C run backwards where those of A do; an inner
//! dimension that runs backwards in both operands is walked forwards in both. Views with gaps between rows or with steps are
//! copied once (vectors times such matrices are not): a slice over their gaps could alias another view that is being written.
//!
//! Inside a thread pool (`nd_core::Threads::install`, rayon's `install`) of more than one thread, large products use its threads; the
//! bits are the same.

use std::borrow::Cow;

use ndarray::{Array1, Array2, ArrayRef1, ArrayRef2, ArrayView2, ArrayViewMut2, Axis, Dim};

use super::{MatMut, MatRef, multiply, multiply_parallel, multiply_vector};
use crate::lanes::SimdReal;
use crate::layout::{copy_standard, from_values, has_shape, level, parallel, standard};

/// Multiply-adds below which a product stays on its thread.
const PARALLEL: usize = 1 << 21;

#[track_caller]
fn check_inner(a: &[usize], b: &[usize]) {
    assert!(
        a[1] == b[0],
        "the product of `a` {a:?} and `b` {b:?}: `a` has {} columns but `b` {} rows; they must be equal",
        a[1],
        b[0]
    );
}

/// `C = A B`: a `[m, k]`, b `[k, n]`, the result `[m, n]` in standard layout.
///
/// ```
/// use ndarray::array;
/// use nd_simd::matmul::gemm;
///
/// let a = array![[1.0f32, 2.0], [3.0, 4.0]];
/// assert_eq!(gemm(&a, &a), array![[7.0, 10.0], [15.0, 22.0]]);
/// assert_eq!(gemm(&a.t(), &a), array![[10.0, 14.0], [14.0, 20.0]]);
/// ```
///
/// # Panics
/// `a` has not as many columns as `b` has rows.
#[must_use]
#[track_caller]
pub fn gemm<R: SimdReal>(a: &ArrayRef2<R>, b: &ArrayRef2<R>) -> Array2<R> {
    check_inner(a.shape(), b.shape());
    let (m, n) = (a.nrows(), b.ncols());
    let mut c = from_values(Dim([m, n]), vec![R::ZERO; m * n]);
    product(R::ONE, a.view(), b.view(), R::ZERO, c.view_mut());
    c
}

/// `C = alpha A B + beta C`; with `beta = 0`, C is not read and may hold anything.
///
/// # Panics
/// The shapes do not fit.
#[track_caller]
pub fn gemm_into<R: SimdReal>(
    alpha: R,
    a: &ArrayRef2<R>,
    b: &ArrayRef2<R>,
    beta: R,
    c: &mut ArrayRef2<R>,
) {
    check_inner(a.shape(), b.shape());
    let because = format!("the product of `a` {:?} and `b` {:?}", a.shape(), b.shape());
    has_shape("c", c.shape(), &[a.nrows(), b.ncols()], &because);
    product(alpha, a.view(), b.view(), beta, c.view_mut());
}

/// `y = A x`: a `[m, k]`, x `[k]`, y `[m]`.
///
/// # Panics
/// `a` has not as many columns as `x` has elements.
#[must_use]
#[track_caller]
pub fn gemv<R: SimdReal>(a: &ArrayRef2<R>, x: &ArrayRef1<R>) -> Array1<R> {
    let because = format!("the product with `a` {:?}", a.shape());
    has_shape("x", x.shape(), &[a.ncols()], &because);
    let mut y = vec![R::ZERO; a.nrows()];
    vector_product(R::ONE, a.view(), &standard(x), R::ZERO, &mut y);
    Array1::from_vec(y)
}

/// `y = alpha A x + beta y`; with `beta = 0`, y is not read and may hold anything.
///
/// # Panics
/// The shapes do not fit.
#[track_caller]
pub fn gemv_into<R: SimdReal>(
    alpha: R,
    a: &ArrayRef2<R>,
    x: &ArrayRef1<R>,
    beta: R,
    y: &mut ArrayRef1<R>,
) {
    let because = format!("the product with `a` {:?}", a.shape());
    has_shape("x", x.shape(), &[a.ncols()], &because);
    has_shape("y", y.shape(), &[a.nrows()], &because);
    let x = standard(x);
    if let Some(y) = y.as_slice_mut() {
        vector_product(alpha, a.view(), &x, beta, y);
        return;
    }
    let mut copy = standard(&*y).into_owned();
    vector_product(alpha, a.view(), &x, beta, &mut copy);
    y.assign(&Array1::from_vec(copy));
}

/// Whether an axis of more than one element runs backwards.
fn backwards<R>(x: &ArrayView2<'_, R>, axis: usize) -> bool {
    x.len_of(Axis(axis)) > 1 && x.strides()[axis] < 0
}

/// The strides of an array without gaps whose axes run forwards; of an axis of one element, whatever fits.
fn forward_strides<R>(x: &ArrayView2<'_, R>) -> (usize, usize) {
    let (rows, cols) = x.dim();
    if rows > 1 && cols > 1 && x.strides()[0].unsigned_abs() == 1 {
        (1, rows)
    } else {
        (cols, 1)
    }
}

/// A matrix, copied when its elements have gaps or run backwards.
struct Operand<'a, R: SimdReal> {
    data: Cow<'a, [R]>,
    dim: (usize, usize),
    strides: (usize, usize),
}

impl<'a, R: SimdReal> Operand<'a, R> {
    fn new(x: &'a ArrayView2<'_, R>) -> Self {
        let forwards = !backwards(x, 0) && !backwards(x, 1);
        match x.as_slice_memory_order() {
            Some(data) if forwards => Self {
                data: Cow::Borrowed(data),
                dim: x.dim(),
                strides: forward_strides(x),
            },
            _ => Self {
                data: standard(x),
                dim: x.dim(),
                strides: (x.ncols(), 1),
            },
        }
    }

    fn mat(&self) -> MatRef<'_, R> {
        let ((rows, cols), (row_stride, col_stride)) = (self.dim, self.strides);
        MatRef::strided(&self.data, rows, cols, row_stride, col_stride)
    }
}

fn product<R: SimdReal>(
    alpha: R,
    mut a: ArrayView2<'_, R>,
    mut b: ArrayView2<'_, R>,
    beta: R,
    mut c: ArrayViewMut2<'_, R>,
) {
    if c.is_empty() {
        return;
    }
    // C forwards: its rows are those of A, its columns those of B.
    if backwards(&c.view(), 0) {
        c.invert_axis(Axis(0));
        a.invert_axis(Axis(0));
    }
    if backwards(&c.view(), 1) {
        c.invert_axis(Axis(1));
        b.invert_axis(Axis(1));
    }
    // The terms of a sum may come in either order.
    if backwards(&a, 1) && backwards(&b, 0) {
        a.invert_axis(Axis(1));
        b.invert_axis(Axis(0));
    }
    let (a, b) = (Operand::new(&a), Operand::new(&b));
    let (m, n) = c.dim();
    let strides = forward_strides(&c.view());
    if let Some(data) = c.as_slice_memory_order_mut() {
        let c = MatMut::strided(data, m, n, strides.0, strides.1);
        run(alpha, a.mat(), b.mat(), beta, c);
        return;
    }
    let mut copy = vec![R::ZERO; m * n];
    if beta != R::ZERO {
        copy_standard(&c, &mut copy);
    }
    let target = MatMut::row_major(&mut copy, m, n);
    run(alpha, a.mat(), b.mat(), beta, target);
    c.assign(&from_values(Dim([m, n]), copy));
}

fn run<R: SimdReal>(alpha: R, a: MatRef<'_, R>, b: MatRef<'_, R>, beta: R, c: MatMut<'_, R>) {
    let work = a.rows().saturating_mul(a.cols()).saturating_mul(b.cols());
    let multiply = if work >= PARALLEL && parallel() {
        multiply_parallel
    } else {
        multiply
    };
    multiply(level(), alpha, a, b, beta, c);
}

fn vector_product<R: SimdReal>(alpha: R, a: ArrayView2<'_, R>, x: &[R], beta: R, y: &mut [R]) {
    let rows_have_gaps = a.as_slice_memory_order().is_none() || backwards(&a, 0);
    let level = level();
    if rows_have_gaps && a.ncols() > 0 && (a.ncols() == 1 || a.strides()[1] == 1) {
        for (row, y) in a.rows().into_iter().zip(y) {
            let row = standard(&row);
            let row = MatRef::row_major(&row, 1, x.len());
            multiply_vector(level, alpha, row, x, beta, std::slice::from_mut(y));
        }
        return;
    }
    let a = Operand::new(&a);
    let x = MatRef::row_major(x, x.len(), 1);
    let rows = y.len();
    run(alpha, a.mat(), x, beta, MatMut::row_major(y, rows, 1));
}
