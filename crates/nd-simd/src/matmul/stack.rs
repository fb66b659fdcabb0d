//! Stacks: equal matrices, each a fixed step further in one slice.

use nd_core::Real;

use super::view::{MatMut, MatRef};

/// `count` read-only matrices; the first is given, each next one starts `step` elements later.
///
/// The step may be zero: the same matrix every time.
#[derive(Clone, Copy, Debug)]
pub struct StackRef<'a, R> {
    pub(super) first: MatRef<'a, R>,
    pub(super) count: usize,
    pub(super) step: usize,
}

/// `count` writable matrices that share no element.
#[derive(Debug)]
pub struct StackMut<'a, R> {
    pub(super) first: MatMut<'a, R>,
    pub(super) count: usize,
    pub(super) step: usize,
}

/// How many elements a matrix spans.
fn span((rows, cols): (usize, usize), (row_stride, col_stride): (usize, usize)) -> usize {
    if rows == 0 || cols == 0 {
        0
    } else {
        (rows - 1) * row_stride + (cols - 1) * col_stride + 1
    }
}

#[track_caller]
fn check_fit(len: usize, count: usize, step: usize, span: usize) {
    if count > 0 && span > 0 {
        let needed = (count - 1)
            .checked_mul(step)
            .and_then(|start| start.checked_add(span));
        assert!(
            needed.is_some_and(|needed| needed <= len),
            "a stack of {count} matrices of {span} elements, {step} apart, needs {needed:?} elements; its \
             slice has {len}"
        );
    }
}

impl<'a, R: Real> StackRef<'a, R> {
    /// `count` matrices like `first`, whose slice must reach to the end of the last one.
    ///
    /// # Panics
    /// The slice is too short.
    #[must_use]
    #[track_caller]
    pub fn new(first: MatRef<'a, R>, count: usize, step: usize) -> Self {
        let shape = (first.rows(), first.cols());
        let strides = (first.row_stride(), first.col_stride());
        check_fit(first.data().len(), count, step, span(shape, strides));
        Self { first, count, step }
    }

    /// The matrices side by side: `data` is `[count, rows, cols]`.
    ///
    /// # Panics
    /// The slice has another length.
    #[must_use]
    #[track_caller]
    pub fn contiguous(data: &'a [R], count: usize, rows: usize, cols: usize) -> Self {
        assert_eq!(
            data.len(),
            count * rows * cols,
            "a stack of {count} {rows} x {cols} matrices"
        );
        // A stack of none has no first matrix; one without rows stands in.
        let rows = if count == 0 { 0 } else { rows };
        Self::new(
            MatRef::strided(data, rows, cols, cols, 1),
            count,
            rows * cols,
        )
    }

    /// The number of matrices.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// One of the matrices.
    #[track_caller]
    pub(crate) fn get(&self, index: usize) -> MatRef<'a, R> {
        let first = self.first;
        let data = first.data_for(index * self.step);
        MatRef::strided(
            data,
            first.rows(),
            first.cols(),
            first.row_stride(),
            first.col_stride(),
        )
    }

    /// All matrices transposed.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            first: self.first.t(),
            ..self
        }
    }
}

impl<'a, R: Real> StackMut<'a, R> {
    /// `count` matrices like `first`, whose slice must reach to the end of the last one.
    ///
    /// Two arrangements keep the matrices apart: one behind the other, or interleaved row by row (the heads of
    /// `[tokens, heads, head_dim]`: `step = head_dim`).
    ///
    /// # Panics
    /// The slice is too short, or the matrices overlap.
    #[must_use]
    #[track_caller]
    pub fn new(mut first: MatMut<'a, R>, count: usize, step: usize) -> Self {
        let shape = (first.rows(), first.cols());
        let strides = (first.row_stride(), first.col_stride());
        let whole = span(shape, strides);
        check_fit(first.data_mut().len(), count, step, whole);
        if count > 1 && whole > 0 {
            let row = span((1, shape.1), strides);
            let interleaved = step >= row && (count - 1) * step + row <= strides.0;
            assert!(
                step >= whole || interleaved,
                "matrices of {} x {} with strides {strides:?}, {step} apart, overlap",
                shape.0,
                shape.1
            );
        }
        Self { first, count, step }
    }

    /// The matrices side by side: `data` is `[count, rows, cols]`.
    ///
    /// # Panics
    /// The slice has another length.
    #[must_use]
    #[track_caller]
    pub fn contiguous(data: &'a mut [R], count: usize, rows: usize, cols: usize) -> Self {
        assert_eq!(
            data.len(),
            count * rows * cols,
            "a stack of {count} {rows} x {cols} matrices"
        );
        let rows = if count == 0 { 0 } else { rows };
        Self::new(
            MatMut::strided(data, rows, cols, cols, 1),
            count,
            rows * cols,
        )
    }

    /// One of the matrices.
    #[track_caller]
    pub(crate) fn get_mut(&mut self, index: usize) -> MatMut<'_, R> {
        self.first.later(index * self.step)
    }
}
