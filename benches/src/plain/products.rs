//! The three matrix products of plain code.

use std::borrow::Cow;
use std::fmt;

use ndarray::{Array2, ArrayView2};

/// Which matrix products plain code uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Products {
    /// The textbook's three loops: rows, columns, and their sum innermost.
    Textbook,
    /// The loops in an order whose innermost one runs along rows of B and C, so that the compiler vectorises it (to SSE2 on
    /// x86-64, whose baseline that is).
    Reordered,
    /// ndarray's `dot`: the crate matrixmultiply, which has kernels for AVX and FMA and packs its operands; one thread.
    Ndarray,
}

impl Products {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Textbook, Self::Reordered, Self::Ndarray];

    /// `a b`
    pub(super) fn of(self, a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> Array2<f32> {
        match self {
            Self::Textbook => textbook(a, b),
            Self::Reordered => reordered(a, b),
            Self::Ndarray => a.dot(&b),
        }
    }
}

impl fmt::Display for Products {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Textbook => "i-j-k loops",
            Self::Reordered => "i-k-j loops",
            Self::Ndarray => "ndarray",
        })
    }
}

/// A matrix in a slice: element `(i, j)` is at `i row + j col`.
struct Operand<'a> {
    values: Cow<'a, [f32]>,
    row: usize,
    col: usize,
}

impl<'a> Operand<'a> {
    /// Rows or columns without gaps are read in place; others are copied.
    fn new(view: ArrayView2<'a, f32>) -> Self {
        let (rows, cols) = view.dim();
        if let Some(values) = view.to_slice() {
            return Self {
                values: Cow::Borrowed(values),
                row: cols,
                col: 1,
            };
        }
        match view.reversed_axes().to_slice() {
            Some(values) => Self {
                values: Cow::Borrowed(values),
                row: 1,
                col: rows,
            },
            None => Self {
                values: Cow::Owned(view.iter().copied().collect()),
                row: cols,
                col: 1,
            },
        }
    }
}

fn textbook(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> Array2<f32> {
    let (m, k, n) = (a.nrows(), a.ncols(), b.ncols());
    let (a, b) = (Operand::new(a), Operand::new(b));
    let mut c = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            let mut sum = 0.0;
            for p in 0..k {
                sum += a.values[i * a.row + p * a.col] * b.values[p * b.row + j * b.col];
            }
            c[i * n + j] = sum;
        }
    }
    square(c, m, n)
}

fn reordered(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> Array2<f32> {
    let (m, k, n) = (a.nrows(), a.ncols(), b.ncols());
    let a = Operand::new(a);
    // Rows of B have to be rows in memory; a transposed B is turned first, which is cheap beside the product.
    let b = b.as_standard_layout();
    let b = b.as_slice().unwrap_or(&[]);
    let mut c = vec![0.0; m * n];
    let mut add = |i: usize, p: usize| {
        let x = a.values[i * a.row + p * a.col];
        for (c, &b) in c[i * n..][..n].iter_mut().zip(&b[p * n..][..n]) {
            *c += x * b;
        }
    };
    if a.col == 1 {
        (0..m).for_each(|i| (0..k).for_each(|p| add(i, p)));
    } else {
        // Both operands row by row: the sum of the rows' outer products.
        (0..k).for_each(|p| (0..m).for_each(|i| add(i, p)));
    }
    square(c, m, n)
}

fn square(values: Vec<f32>, rows: usize, cols: usize) -> Array2<f32> {
    Array2::from_shape_vec((rows, cols), values)
        .unwrap_or_else(|_| unreachable!("{rows} x {cols} values were made"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_products_agree_for_every_arrangement() {
        let fill = |rows: usize, cols: usize| {
            Array2::from_shape_fn((rows, cols), |(i, j)| ((i * 7 + j * 3) % 11) as f32 - 5.0)
        };
        let (a, b) = (fill(3, 5), fill(5, 4));
        let (at, bt) = (
            a.t().as_standard_layout().to_owned(),
            b.t().as_standard_layout().to_owned(),
        );
        let wide = fill(5, 9);
        for products in Products::ALL {
            let want = a.dot(&b);
            assert_eq!(products.of(a.view(), b.view()), want, "{products}");
            assert_eq!(products.of(at.t(), b.view()), want, "{products}");
            assert_eq!(products.of(a.view(), bt.t()), want, "{products}");
            let part = crate::plain::cols_of(&wide, 2..6);
            assert_eq!(products.of(a.view(), part), a.dot(&part), "{products}");
        }
    }
}
