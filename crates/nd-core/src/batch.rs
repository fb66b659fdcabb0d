//! Windows of one step, gathered: what a network sees and what a loss compares with.
//!
//! A *row* is one window. For univariate networks a row is a window of one series (`n_series = 1`); for multivariate ones
//! it is one time slice of all series. Every field is row-major with the row first, so a shard of the batch is a range of
//! every field ([`Batch::view`]).
//!
//! | field | shape of a row |
//! |---|---|
//! | `insample_y`, `insample_mask` | `[L, n]` |
//! | `outsample_y`, `outsample_mask`, `outsample_original` | `[h, n]` |
//! | `hist_exog`, `hist_cat` | `[L, X]`, multivariate `[X, L, n]` |
//! | `futr_exog`, `futr_cat` | `[L + h, F]`, multivariate `[F, L + h, n]` |
//! | `stat_exog`, `stat_cat` | `[S]`, multivariate `[n, S]` |
//! | `loc`, `scale` | `[n]` |
//!
//! `L` is the input size, `h` the horizon, `n` the number of series. A mask is 1 where the value was observed.

use std::ops::Range;

use crate::element::Real;

/// The sizes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct BatchLayout {
    /// Time steps that the network sees, `L`.
    pub input_size: usize,
    /// Time steps to forecast, `h`.
    pub horizon: usize,
    /// Series in a row, `n`: 1 for univariate networks.
    pub n_series: usize,
    /// Numeric exogenous variables known for the past only, `X`.
    pub hist_exog: usize,
    /// Numeric exogenous variables known for past and future, `F`.
    pub futr_exog: usize,
    /// Numeric exogenous variables that do not change in time, `S`.
    pub stat_exog: usize,
    /// Categorical variables known for the past only.
    pub hist_cat: usize,
    /// Categorical variables known for past and future.
    pub futr_cat: usize,
    /// Categorical variables that do not change in time.
    pub stat_cat: usize,
}

impl BatchLayout {
    /// Univariate windows without exogenous variables.
    #[must_use]
    pub fn univariate(input_size: usize, horizon: usize) -> Self {
        Self {
            input_size,
            horizon,
            n_series: 1,
            ..Self::default()
        }
    }
}

macro_rules! batch_fields {
    ($($(#[$doc:meta])* $field:ident: $type:ty = |$layout:ident| $len:expr;)*) => {
        /// The windows of one step; memory is kept from step to step.
        #[derive(Clone, Debug, Default)]
        pub struct Batch<R: Real> {
            layout: BatchLayout,
            rows: usize,
            $($(#[$doc])* pub $field: Vec<$type>,)*
        }

        /// Rows of a [`Batch`].
        #[derive(Clone, Copy, Debug)]
        pub struct BatchView<'a, R: Real> {
            layout: BatchLayout,
            first_row: usize,
            rows: usize,
            $($(#[$doc])* pub $field: &'a [$type],)*
        }

        /// Rows of a [`Batch`], to be filled.
        #[derive(Debug)]
        pub struct BatchMut<'a, R: Real> {
            layout: BatchLayout,
            first_row: usize,
            rows: usize,
            $($(#[$doc])* pub $field: &'a mut [$type],)*
        }

        impl<R: Real> Batch<R> {
            /// Changes the number of rows; new rows hold zeros.
            pub fn resize(&mut self, rows: usize) {
                self.rows = rows;
                $({
                    let $layout = &self.layout;
                    let len = rows * $len;
                    self.$field.resize(len, Default::default());
                })*
            }

            /// Rows of the batch.
            ///
            /// # Panics
            /// The range goes beyond the batch.
            #[must_use]
            #[track_caller]
            pub fn view(&self, rows: Range<usize>) -> BatchView<'_, R> {
                require_rows(&rows, self.rows);
                BatchView {
                    layout: self.layout,
                    first_row: rows.start,
                    rows: rows.len(),
                    $($field: {
                        let $layout = &self.layout;
                        let len = $len;
                        &self.$field[rows.start * len..rows.end * len]
                    },)*
                }
            }

            /// Every row, to be filled.
            pub fn view_mut(&mut self) -> BatchMut<'_, R> {
                BatchMut {
                    layout: self.layout,
                    first_row: 0,
                    rows: self.rows,
                    $($field: &mut self.$field,)*
                }
            }
        }

        impl<'a, R: Real> BatchView<'a, R> {
            /// Rows of these rows.
            ///
            /// # Panics
            /// The range goes beyond them.
            #[must_use]
            #[track_caller]
            pub fn view(&self, rows: Range<usize>) -> BatchView<'a, R> {
                require_rows(&rows, self.rows);
                BatchView {
                    layout: self.layout,
                    first_row: self.first_row + rows.start,
                    rows: rows.len(),
                    $($field: {
                        let $layout = &self.layout;
                        let len = $len;
                        &self.$field[rows.start * len..rows.end * len]
                    },)*
                }
            }
        }

        impl<'a, R: Real> BatchMut<'a, R> {
            /// The rows before `row` and the others.
            ///
            /// # Panics
            /// There are fewer rows.
            #[must_use]
            #[track_caller]
            pub fn split_at(self, row: usize) -> (Self, Self) {
                require_rows(&(0..row), self.rows);
                $(let $field = {
                    let $layout = &self.layout;
                    self.$field.split_at_mut(row * $len)
                };)*
                (
                    Self {
                        layout: self.layout,
                        first_row: self.first_row,
                        rows: row,
                        $($field: $field.0,)*
                    },
                    Self {
                        layout: self.layout,
                        first_row: self.first_row + row,
                        rows: self.rows - row,
                        $($field: $field.1,)*
                    },
                )
            }

            /// One of the rows.
            ///
            /// # Panics
            /// There are fewer rows.
            #[must_use]
            #[track_caller]
            pub fn row(&mut self, row: usize) -> BatchMut<'_, R> {
                require_rows(&(row..row + 1), self.rows);
                BatchMut {
                    layout: self.layout,
                    first_row: self.first_row + row,
                    rows: 1,
                    $($field: {
                        let $layout = &self.layout;
                        let len = $len;
                        &mut self.$field[row * len..(row + 1) * len]
                    },)*
                }
            }
        }
    };
}

batch_fields! {
    /// The past of the target, scaled: `[rows, L, n]`.
    insample_y: R = |l| l.input_size * l.n_series;
    /// 1 where `insample_y` was observed.
    insample_mask: R = |l| l.input_size * l.n_series;
    /// The future of the target, scaled like the past: `[rows, h, n]`.
    outsample_y: R = |l| l.horizon * l.n_series;
    /// 1 where `outsample_y` was observed.
    outsample_mask: R = |l| l.horizon * l.n_series;
    /// The future of the target in its own units: `[rows, h, n]`.
    outsample_original: R = |l| l.horizon * l.n_series;
    /// Numeric variables of the past, scaled: `[rows, L, X]` or `[rows, X, L, n]`.
    hist_exog: R = |l| l.hist_exog * l.input_size * l.n_series;
    /// Numeric variables of past and future, scaled: `[rows, L + h, F]` or `[rows, F, L + h, n]`.
    futr_exog: R = |l| l.futr_exog * (l.input_size + l.horizon) * l.n_series;
    /// Numeric variables that do not change: `[rows, S]` or `[rows, n, S]`.
    stat_exog: R = |l| l.stat_exog * l.n_series;
    /// Categories of the past; 0 is a category not seen in training.
    hist_cat: u32 = |l| l.hist_cat * l.input_size * l.n_series;
    /// Categories of past and future; 0 is a category not seen in training.
    futr_cat: u32 = |l| l.futr_cat * (l.input_size + l.horizon) * l.n_series;
    /// Categories that do not change; 0 is a category not seen in training.
    stat_cat: u32 = |l| l.stat_cat * l.n_series;
    /// What the window scaler subtracted: `[rows, n]`.
    loc: R = |l| l.n_series;
    /// What the window scaler divided by: `[rows, n]`.
    scale: R = |l| l.n_series;
}

#[track_caller]
fn require_rows(asked: &Range<usize>, rows: usize) {
    assert!(
        asked.start <= asked.end && asked.end <= rows,
        "rows {asked:?} were asked of a batch of {rows} rows"
    );
}

impl<R: Real> Batch<R> {
    /// A batch without rows.
    #[must_use]
    pub fn new(layout: BatchLayout) -> Self {
        Self {
            layout,
            ..Self::default()
        }
    }

    /// The sizes of a row.
    #[must_use]
    pub fn layout(&self) -> BatchLayout {
        self.layout
    }

    /// The number of windows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Every row.
    #[must_use]
    pub fn all(&self) -> BatchView<'_, R> {
        self.view(0..self.rows)
    }
}

impl<R: Real> BatchView<'_, R> {
    /// The sizes of a row.
    #[must_use]
    pub fn layout(&self) -> BatchLayout {
        self.layout
    }

    /// The number of windows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The place of the first row within the whole batch.
    #[must_use]
    pub fn first_row(&self) -> usize {
        self.first_row
    }
}

impl<R: Real> BatchMut<'_, R> {
    /// The sizes of a row.
    #[must_use]
    pub fn layout(&self) -> BatchLayout {
        self.layout
    }

    /// The number of windows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The place of the first row within the whole batch.
    #[must_use]
    pub fn first_row(&self) -> usize {
        self.first_row
    }
}

/// Where windows come from: a panel in memory first, series blocks larger than memory later.
///
/// Windows are numbered within *groups*: a group is a series for univariate networks, and there is one group for
/// multivariate ones. Nothing is copied until a window is gathered.
pub trait WindowSource<R: Real>: Send + Sync {
    /// The sizes of a row.
    fn layout(&self) -> BatchLayout;

    /// The number of groups.
    fn groups(&self) -> usize;

    /// The number of windows of a group.
    fn windows(&self, group: usize) -> usize;

    /// Copies one window into a row, and scales it: every field of the row is written.
    ///
    /// # Panics
    /// The group or the window does not exist, or the row has another layout.
    fn gather(&self, group: usize, window: usize, row: BatchMut<'_, R>);

    /// The number of windows of all groups.
    fn total_windows(&self) -> usize {
        (0..self.groups()).map(|group| self.windows(group)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> BatchLayout {
        BatchLayout {
            input_size: 4,
            horizon: 2,
            n_series: 3,
            hist_exog: 2,
            futr_exog: 1,
            stat_exog: 5,
            futr_cat: 1,
            ..BatchLayout::default()
        }
    }

    #[test]
    fn a_shard_is_a_range_of_every_field() {
        let mut batch = Batch::<f32>::new(layout());
        batch.resize(5);
        for row in 0..5 {
            let mut all = batch.view_mut();
            let row_mut = all.row(row);
            row_mut.insample_y.fill(row as f32);
            row_mut.hist_exog.fill(10.0 + row as f32);
            row_mut.futr_cat.fill(row as u32);
            assert_eq!(row_mut.first_row(), row);
        }
        let shard = batch.view(2..4);
        assert_eq!((shard.rows(), shard.first_row()), (2, 2));
        assert_eq!(shard.insample_y.len(), 2 * 4 * 3);
        assert_eq!((shard.insample_y[0], shard.insample_y[12]), (2.0, 3.0));
        assert_eq!(shard.futr_cat.len(), 2 * 6 * 3);
        assert_eq!(shard.view(1..2).hist_exog[0], 13.0);
        assert_eq!(shard.view(1..2).first_row(), 3);
        assert_eq!(shard.stat_exog.len(), 2 * 5 * 3);
    }

    #[test]
    fn splitting_covers_every_row_once() {
        let mut batch = Batch::<f64>::new(layout());
        batch.resize(3);
        let (left, right) = batch.view_mut().split_at(1);
        left.scale.fill(1.0);
        right.scale.fill(2.0);
        assert_eq!(right.first_row(), 1);
        assert_eq!(batch.scale, [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]);
    }

    #[test]
    #[should_panic(expected = "rows 2..4 were asked of a batch of 3 rows")]
    fn rows_beyond_the_batch_are_refused() {
        let mut batch = Batch::<f32>::new(layout());
        batch.resize(3);
        let _ = batch.view(2..4);
    }
}
