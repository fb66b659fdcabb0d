//! Strided views of matrices: a slice, a shape and two strides, checked once.
//!
//! A transpose is an exchange of strides, so `a.t()` costs nothing and every product of this module takes any
//! combination of row-major, column-major and strided operands.

use nd_core::Element;

use crate::autocast;
use crate::lanes::SimdReal;

/// A read-only matrix: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, R> {
    data: &'a [R],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// A writable matrix: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
#[derive(Debug)]
pub struct MatMut<'a, R> {
    data: &'a mut [R],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// How many elements a strided matrix spans, or `None` when that number does not exist.
fn span(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> Option<usize> {
    if rows == 0 || cols == 0 {
        return Some(0);
    }
    (rows - 1)
        .checked_mul(row_stride)?
        .checked_add((cols - 1).checked_mul(col_stride)?)?
        .checked_add(1)
}

#[track_caller]
fn check_span(len: usize, rows: usize, cols: usize, row_stride: usize, col_stride: usize) {
    let needed = span(rows, cols, row_stride, col_stride);
    assert!(
        needed.is_some_and(|needed| needed <= len),
        "a {rows} x {cols} matrix with strides ({row_stride}, {col_stride}) needs {needed:?} elements, \
         its slice has {len}"
    );
}

impl<'a, R: Element> MatRef<'a, R> {
    /// A contiguous row-major matrix.
    ///
    /// # Panics
    /// `data` does not hold exactly `rows * cols` elements.
    #[must_use]
    #[track_caller]
    pub fn row_major(data: &'a [R], rows: usize, cols: usize) -> Self {
        assert_eq!(
            data.len(),
            rows * cols,
            "the slice of a contiguous {rows} x {cols} matrix"
        );
        Self {
            data,
            rows,
            cols,
            row_stride: cols,
            col_stride: 1,
        }
    }

    /// A matrix with any strides; a stride may be zero (a broadcast) or make elements overlap.
    ///
    /// # Panics
    /// The last element lies beyond the slice.
    #[must_use]
    #[track_caller]
    pub fn strided(
        data: &'a [R],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Self {
        check_span(data.len(), rows, cols, row_stride, col_stride);
        Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride,
        }
    }

    /// The slice from an element on.
    pub(super) fn data_for(self, start: usize) -> &'a [R] {
        self.data.get(start..).unwrap_or_default()
    }

    /// The transpose.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Rows `start..start + count`.
    ///
    /// # Panics
    /// The range leaves the matrix.
    #[must_use]
    #[track_caller]
    pub fn row_block(self, start: usize, count: usize) -> Self {
        assert!(
            start <= self.rows && count <= self.rows - start,
            "rows {start}..{start}+{count} of a matrix of {} rows",
            self.rows
        );
        let data = if count == 0 {
            &[]
        } else {
            self.data.get(start * self.row_stride..).unwrap_or(&[])
        };
        Self {
            data,
            rows: count,
            ..self
        }
    }

    /// Columns `start..start + count`.
    ///
    /// # Panics
    /// The range leaves the matrix.
    #[must_use]
    #[track_caller]
    pub fn col_block(self, start: usize, count: usize) -> Self {
        self.t().row_block(start, count).t()
    }

    /// One element.
    ///
    /// # Panics
    /// The indices leave the matrix.
    #[must_use]
    #[track_caller]
    pub fn at(&self, i: usize, j: usize) -> R {
        assert!(
            i < self.rows && j < self.cols,
            "({i}, {j}) of {} x {}",
            self.rows,
            self.cols
        );
        self.data[i * self.row_stride + j * self.col_stride]
    }
}

impl<R> MatRef<'_, R> {
    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The distance between rows, in elements.
    #[must_use]
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// The distance between columns, in elements.
    #[must_use]
    pub fn col_stride(&self) -> usize {
        self.col_stride
    }

    /// The elements, from `(0, 0)` on.
    #[must_use]
    pub fn data(&self) -> &[R] {
        self.data
    }
}

impl<'a, R: Element> MatMut<'a, R> {
    /// A contiguous row-major matrix.
    ///
    /// # Panics
    /// `data` does not hold exactly `rows * cols` elements.
    #[must_use]
    #[track_caller]
    pub fn row_major(data: &'a mut [R], rows: usize, cols: usize) -> Self {
        assert_eq!(
            data.len(),
            rows * cols,
            "the slice of a contiguous {rows} x {cols} matrix"
        );
        Self {
            data,
            rows,
            cols,
            row_stride: cols,
            col_stride: 1,
        }
    }

    /// A matrix with any strides that keep its elements apart.
    ///
    /// # Panics
    /// The last element lies beyond the slice, or two elements share a place.
    #[must_use]
    #[track_caller]
    pub fn strided(
        data: &'a mut [R],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Self {
        check_span(data.len(), rows, cols, row_stride, col_stride);
        let row_by_row =
            col_stride > 0 && row_stride > cols.saturating_sub(1).saturating_mul(col_stride);
        let col_by_col =
            row_stride > 0 && col_stride > rows.saturating_sub(1).saturating_mul(row_stride);
        // A single row or column has only one stride that matters.
        let line = (rows <= 1 && (col_stride > 0 || cols <= 1))
            || (cols <= 1 && (row_stride > 0 || rows <= 1));
        assert!(
            row_by_row || col_by_col || line,
            "strides ({row_stride}, {col_stride}) make elements of a {rows} x {cols} matrix overlap"
        );
        Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride,
        }
    }

    /// The transpose.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            data: self.data,
        }
    }

    /// The matrix of the same shape and strides that starts `step` elements later.
    ///
    /// # Panics
    /// It leaves the slice.
    #[track_caller]
    pub(super) fn later(&mut self, step: usize) -> MatMut<'_, R> {
        let Self {
            rows,
            cols,
            row_stride,
            col_stride,
            ..
        } = *self;
        let data = self.data.get_mut(step..).unwrap_or_default();
        check_span(data.len(), rows, cols, row_stride, col_stride);
        MatMut {
            data,
            rows,
            cols,
            row_stride,
            col_stride,
        }
    }

    /// The same matrix for a shorter time.
    #[must_use]
    pub fn reborrow(&mut self) -> MatMut<'_, R> {
        MatMut {
            data: &mut *self.data,
            ..*self
        }
    }

    /// The same matrix, read only.
    #[must_use]
    pub fn as_ref(&self) -> MatRef<'_, R> {
        MatRef {
            data: self.data,
            rows: self.rows,
            cols: self.cols,
            row_stride: self.row_stride,
            col_stride: self.col_stride,
        }
    }

    /// Rows `start..start + count`.
    ///
    /// # Panics
    /// The range leaves the matrix.
    #[must_use]
    #[track_caller]
    pub fn row_block(self, start: usize, count: usize) -> Self {
        assert!(
            start <= self.rows && count <= self.rows - start,
            "rows {start}..{start}+{count} of a matrix of {} rows",
            self.rows
        );
        let offset = if count == 0 {
            0
        } else {
            start * self.row_stride
        };
        Self {
            data: self.data.get_mut(offset..).unwrap_or_default(),
            rows: count,
            ..self
        }
    }

    /// Columns `start..start + count`.
    ///
    /// # Panics
    /// The range leaves the matrix.
    #[must_use]
    #[track_caller]
    pub fn col_block(self, start: usize, count: usize) -> Self {
        self.t().row_block(start, count).t()
    }

    /// A place in the matrix.
    ///
    /// # Panics
    /// The indices leave the matrix.
    #[must_use]
    #[track_caller]
    pub fn at_mut(&mut self, i: usize, j: usize) -> &mut R {
        assert!(
            i < self.rows && j < self.cols,
            "({i}, {j}) of {} x {}",
            self.rows,
            self.cols
        );
        &mut self.data[i * self.row_stride + j * self.col_stride]
    }
}

impl<'a, R: SimdReal> MatRef<'a, R> {
    /// The same matrix as the f32 matrix that it is; `None` for f64.
    pub(crate) fn into_f32(self) -> Option<MatRef<'a, f32>> {
        Some(MatRef {
            data: autocast::as_f32(self.data)?,
            rows: self.rows,
            cols: self.cols,
            row_stride: self.row_stride,
            col_stride: self.col_stride,
        })
    }
}

impl<'a, R: SimdReal> MatMut<'a, R> {
    /// The same matrix as the f32 matrix that it is; `None` for f64.
    pub(crate) fn into_f32(self) -> Option<MatMut<'a, f32>> {
        Some(MatMut {
            data: autocast::as_f32_mut(self.data)?,
            rows: self.rows,
            cols: self.cols,
            row_stride: self.row_stride,
            col_stride: self.col_stride,
        })
    }
}

impl<R> MatMut<'_, R> {
    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The distance between rows, in elements.
    #[must_use]
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// The distance between columns, in elements.
    #[must_use]
    pub fn col_stride(&self) -> usize {
        self.col_stride
    }

    /// The elements, from `(0, 0)` on.
    #[must_use]
    pub fn data_mut(&mut self) -> &mut [R] {
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposed_block_sees_the_same_elements() {
        let data: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let a = MatRef::row_major(&data, 3, 4);
        let block = a.row_block(1, 2).col_block(2, 2).t();
        assert_eq!((block.rows(), block.cols()), (2, 2));
        assert_eq!(
            [block.at(0, 0), block.at(0, 1), block.at(1, 0)],
            [6.0, 10.0, 7.0]
        );
        assert_eq!(a.row_block(3, 0).rows(), 0);
    }

    #[test]
    #[should_panic(expected = "needs Some(12) elements, its slice has 11")]
    fn a_slice_that_is_too_short_is_refused() {
        let _ = MatRef::strided(&[0.0_f32; 11], 3, 4, 4, 1);
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn overlapping_places_are_refused() {
        let _ = MatMut::strided(&mut [0.0_f32; 11], 3, 4, 2, 1);
    }
}
