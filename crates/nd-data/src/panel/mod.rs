//! Many series in a few contiguous columns.
//!
//! The simple version: a panel is a table sorted by (`unique_id`, `ds`). Each variable (the target `y`, every
//! exogenous column) is one contiguous vector over all rows, and `offsets` says where each series begins, so a series
//! of a column is a slice and nothing is padded. A mask of observed rows exists only if some row is not observed.
//!
//! The tricks: time stamps of a regular series are three numbers (start, frequency, count); series without a frequency
//! keep their list, and the channels of a wide file share one. Static columns hold one value per series.
//!
//! Known weakness: everything is in memory. A panel of `n` rows and `c` columns of `f32` takes `4 n c` bytes.

mod assemble;
mod builder;
mod fill;
mod repair;
mod rows;
mod samples;

use std::ops::Range;
use std::sync::Arc;

use nd_core::Real;

pub(crate) use assemble::assemble;
pub use builder::{PanelBuilder, Series};
pub use repair::{DuplicatePolicy, GapPolicy, MissingPolicy, OrderPolicy, Repair};
pub(crate) use rows::{Lines, RawColumn, RawRows, RawTimes};

use crate::calendar::{Frequency, TimeStyle, Timestamp};
use crate::error::{DataError, Location};

/// What is known of an exogenous column, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Known up to the forecast's origin (`hist_exog`): weather that was measured.
    Historic,
    /// Known beyond the origin too (`futr_exog`): the calendar, a planned price.
    Future,
    /// One value per series (`stat_exog`): a region, a size.
    Static,
}

impl Role {
    /// The role as a word for messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Historic => "historic",
            Self::Future => "future",
            Self::Static => "static",
        }
    }
}

/// An exogenous column with a value for every row of the panel.
#[derive(Clone, Debug, PartialEq)]
pub struct Column<R> {
    pub(crate) name: Box<str>,
    pub(crate) role: Role,
    pub(crate) values: Vec<R>,
}

impl<R> Column<R> {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is historic or future.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// One value per row of the panel, `[rows]`; static columns one per series, `[series]`.
    #[must_use]
    pub fn values(&self) -> &[R] {
        &self.values
    }
}

/// The time stamps of one series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Times {
    /// The stamp of row `r` is `r` steps of the panel's frequency after this one.
    Regular(Timestamp),
    /// One stamp per row.
    Explicit(Arc<[Timestamp]>),
}

/// A set of time series with their exogenous columns.
///
/// Rows are sorted by series (in order of first appearance) and by time. Values are finite: a missing value is either
/// repaired on the way in, or stored as the last observed value of its variable with [`Panel::available_mask`] `false`
/// (the first observed one where none is before it, zero in a series without any).
///
/// ```
/// use nd_data::{Panel, PanelBuilder, Series};
/// let panel: Panel = PanelBuilder::new()
///     .series(Series::numbered("a", vec![1.0, 2.0, 3.0]))
///     .series(Series::numbered("b", vec![10.0, 20.0]))
///     .build()?;
/// assert_eq!(panel.n_series(), 2);
/// assert_eq!(panel.series_y(1), &[10.0, 20.0]);
/// assert_eq!(panel.future_ds(0, 2)?, vec![4, 5]);
/// # Ok::<(), nd_data::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Panel<R = f32> {
    pub(crate) ids: Vec<Box<str>>,
    pub(crate) offsets: Vec<usize>,
    pub(crate) times: Vec<Times>,
    pub(crate) frequency: Option<Frequency>,
    pub(crate) style: TimeStyle,
    pub(crate) target: Option<Vec<R>>,
    pub(crate) mask: Option<Vec<bool>>,
    pub(crate) columns: Vec<Column<R>>,
    pub(crate) statics: Vec<Column<R>>,
    pub(crate) inserted: usize,
}

impl<R: Real> Panel<R> {
    /// The number of series.
    #[must_use]
    pub fn n_series(&self) -> usize {
        self.ids.len()
    }

    /// The number of rows of all series together.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// The rows of a series within the columns.
    ///
    /// # Panics
    /// If there is no such series.
    #[must_use]
    #[track_caller]
    pub fn rows_of(&self, series: usize) -> Range<usize> {
        assert!(
            series < self.n_series(),
            "series {series} of a panel of {} series",
            self.n_series()
        );
        self.offsets[series]..self.offsets[series + 1]
    }

    /// The number of rows of a series.
    ///
    /// # Panics
    /// If there is no such series.
    #[must_use]
    #[track_caller]
    pub fn series_len(&self, series: usize) -> usize {
        self.rows_of(series).len()
    }

    /// The number of rows of the longest series.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.offsets
            .windows(2)
            .map(|w| w[1] - w[0])
            .max()
            .unwrap_or(0)
    }

    /// The names of the series in order.
    pub fn unique_ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.ids.iter().map(|id| &**id)
    }

    /// The name of a series.
    ///
    /// # Panics
    /// If there is no such series.
    #[must_use]
    #[track_caller]
    pub fn unique_id(&self, series: usize) -> &str {
        assert!(
            series < self.n_series(),
            "series {series} of a panel of {} series",
            self.n_series()
        );
        &self.ids[series]
    }

    /// The position of a series by name (a linear search).
    ///
    /// # Errors
    /// [`DataError::NotFound`] with the first names there are.
    pub fn series_index(&self, unique_id: &str) -> Result<usize, DataError> {
        self.ids
            .iter()
            .position(|id| &**id == unique_id)
            .ok_or_else(|| not_found("series", unique_id, self.unique_ids()))
    }

    /// Whether the panel has a target; a table of future values has none.
    #[must_use]
    pub fn has_target(&self) -> bool {
        self.target.is_some()
    }

    /// The target of all series one after the other, `[rows]`; empty if there is none.
    #[must_use]
    pub fn y(&self) -> &[R] {
        self.target.as_deref().unwrap_or(&[])
    }

    /// The target, to change in place; empty if there is none.
    pub fn y_mut(&mut self) -> &mut [R] {
        self.target.as_deref_mut().unwrap_or(&mut [])
    }

    /// The target of one series; empty if there is none.
    ///
    /// # Panics
    /// If there is no such series.
    #[must_use]
    #[track_caller]
    pub fn series_y(&self, series: usize) -> &[R] {
        let rows = self.rows_of(series);
        self.target.as_deref().map_or(&[], |y| &y[rows])
    }

    /// Which rows are observed, `[rows]`; `None` if all are.
    #[must_use]
    pub fn available_mask(&self) -> Option<&[bool]> {
        self.mask.as_deref()
    }

    /// Which rows of one series are observed; `None` if all rows of all series are.
    ///
    /// # Panics
    /// If there is no such series.
    #[must_use]
    #[track_caller]
    pub fn series_mask(&self, series: usize) -> Option<&[bool]> {
        let rows = self.rows_of(series);
        self.mask.as_deref().map(|mask| &mask[rows])
    }

    /// The number of rows that were inserted into gaps when the panel was built; parts of a panel keep the number of the whole.
    #[must_use]
    pub fn inserted_rows(&self) -> usize {
        self.inserted
    }

    /// The historic and future columns, in order.
    #[must_use]
    pub fn columns(&self) -> &[Column<R>] {
        &self.columns
    }

    /// The static columns, in order; their values are one per series.
    #[must_use]
    pub fn static_columns(&self) -> &[Column<R>] {
        &self.statics
    }

    /// The names of the columns of a role, in order.
    #[must_use]
    pub fn column_names(&self, role: Role) -> Vec<&str> {
        self.columns
            .iter()
            .chain(&self.statics)
            .filter(|c| c.role == role)
            .map(Column::name)
            .collect()
    }

    /// A column by name, whatever its role.
    ///
    /// # Errors
    /// [`DataError::NotFound`] with the names there are.
    pub fn column(&self, name: &str) -> Result<&Column<R>, DataError> {
        let mut all = self.columns.iter().chain(&self.statics);
        all.find(|c| &*c.name == name).ok_or_else(|| {
            not_found(
                "column",
                name,
                self.columns.iter().chain(&self.statics).map(Column::name),
            )
        })
    }

    /// The frequency of all series; `None` if irregular stamps were kept and none was named.
    #[must_use]
    pub fn frequency(&self) -> Option<Frequency> {
        self.frequency
    }

    /// How time stamps are written.
    #[must_use]
    pub fn time_style(&self) -> TimeStyle {
        self.style
    }

    /// The time stamp of a row of a series.
    ///
    /// # Panics
    /// If there is no such series or row.
    #[must_use]
    #[track_caller]
    pub fn ds_at(&self, series: usize, row: usize) -> Timestamp {
        let len = self.series_len(series);
        assert!(
            row < len,
            "row {row} of series `{}`, which has {len} rows",
            self.ids[series]
        );
        match (&self.times[series], self.frequency) {
            (Times::Explicit(stamps), _) => stamps[row],
            // Every row of a regular series was on the calendar when the panel was built.
            (Times::Regular(start), Some(f)) => f.next(*start, row as i64).unwrap_or(*start),
            (Times::Regular(start), None) => *start,
        }
    }

    /// The time stamps of a series.
    ///
    /// # Panics
    /// If there is no such series.
    #[must_use]
    #[track_caller]
    pub fn ds(&self, series: usize) -> Vec<Timestamp> {
        (0..self.series_len(series))
            .map(|row| self.ds_at(series, row))
            .collect()
    }

    /// The `horizon` time stamps that follow a series.
    ///
    /// # Errors
    /// [`DataError::NoFuture`] if the panel has no frequency or the calendar ends.
    ///
    /// # Panics
    /// If there is no such series.
    #[track_caller]
    pub fn future_ds(&self, series: usize, horizon: usize) -> Result<Vec<Timestamp>, DataError> {
        self.ds_after(series, self.series_len(series), horizon)
    }

    /// The `horizon` time stamps from row `row` of a series on, which may lie past its end.
    ///
    /// # Errors
    /// [`DataError::NoFuture`] if stamps past the end are needed and the panel has no frequency or the calendar ends.
    ///
    /// # Panics
    /// If there is no such series, or `row` is past the row after the last.
    #[track_caller]
    pub fn ds_after(
        &self,
        series: usize,
        row: usize,
        horizon: usize,
    ) -> Result<Vec<Timestamp>, DataError> {
        let len = self.series_len(series);
        assert!(
            row <= len,
            "row {row} of series `{}`, which has {len} rows",
            self.ids[series]
        );
        let inside = horizon.min(len - row);
        let mut stamps: Vec<_> = (row..row + inside).map(|r| self.ds_at(series, r)).collect();
        if inside < horizon {
            let last = self.ds_at(series, len - 1);
            let fail = |reason| DataError::NoFuture {
                series: self.ids[series].to_string(),
                last: self.style.format(last),
                horizon,
                reason,
            };
            let frequency = self.frequency.ok_or_else(|| {
                fail("the panel has irregular time stamps and no frequency; name one when reading it")
            })?;
            for k in 1..=(horizon - inside) as i64 {
                let next = frequency.next(last, k);
                stamps.push(next.ok_or_else(|| fail("the calendar ends with the year 9999"))?);
            }
        }
        Ok(stamps)
    }

    /// The text of a time stamp in the style of the input.
    #[must_use]
    pub fn format_ds(&self, ts: Timestamp) -> String {
        self.style.format(ts)
    }

    /// Adds a static column with one value per series.
    ///
    /// # Errors
    /// [`DataError::Length`] for another number of values, [`DataError::NotFinite`] for NaN or infinity,
    /// [`DataError::DuplicateColumn`] if the name is taken.
    pub fn with_static(mut self, name: &str, values: Vec<R>) -> Result<Self, DataError> {
        let at = || Box::new(Location::default()).column(name);
        if self.column(name).is_ok() {
            return Err(DataError::DuplicateColumn {
                file: "the panel".into(),
                column: name.into(),
                first: "in the panel".into(),
                second: "as the added static column".into(),
            });
        }
        if values.len() != self.n_series() {
            let (expected, found) = (self.n_series(), values.len());
            return Err(DataError::Length {
                at: at(),
                expected,
                found,
            });
        }
        if let Some(series) = values.iter().position(|v| !v.is_finite()) {
            let at = at().series(&self.ids[series]);
            return Err(DataError::NotFinite {
                at,
                found: values[series].to_string(),
            });
        }
        self.statics.push(Column {
            name: name.into(),
            role: Role::Static,
            values,
        });
        Ok(self)
    }

    /// A copy that keeps a range of the rows of each series: `range(series, len)` says which.
    ///
    /// Series left without a row disappear.
    ///
    /// # Panics
    /// If a range does not lie within its series.
    #[must_use]
    pub fn select_rows(&self, mut range: impl FnMut(usize, usize) -> Range<usize>) -> Self {
        let mut kept = Vec::new();
        for series in 0..self.n_series() {
            let rows = self.rows_of(series);
            let wanted = range(series, rows.len());
            assert!(
                wanted.start <= wanted.end && wanted.end <= rows.len(),
                "rows {wanted:?} of series `{}`, which has {} rows",
                self.ids[series],
                rows.len()
            );
            if !wanted.is_empty() {
                kept.push((series, rows.start + wanted.start..rows.start + wanted.end));
            }
        }
        let mut offsets = vec![0];
        let mut times = Vec::with_capacity(kept.len());
        for (series, rows) in &kept {
            offsets.push(offsets[offsets.len() - 1] + rows.len());
            let first = rows.start - self.offsets[*series];
            times.push(match &self.times[*series] {
                Times::Regular(_) => Times::Regular(self.ds_at(*series, first)),
                Times::Explicit(stamps) => {
                    Times::Explicit(stamps[first..first + rows.len()].into())
                }
            });
        }
        let take = |values: &[R]| -> Vec<R> {
            kept.iter()
                .flat_map(|(_, rows)| values[rows.clone()].iter().copied())
                .collect()
        };
        let mask: Option<Vec<bool>> = self.mask.as_ref().map(|mask| {
            kept.iter()
                .flat_map(|(_, rows)| mask[rows.clone()].iter().copied())
                .collect()
        });
        Self {
            ids: kept
                .iter()
                .map(|(series, _)| self.ids[*series].clone())
                .collect(),
            offsets,
            times,
            frequency: self.frequency,
            style: self.style,
            target: self.target.as_deref().map(take),
            mask: mask.filter(|mask| mask.contains(&false)),
            columns: self
                .columns
                .iter()
                .map(|c| Column {
                    name: c.name.clone(),
                    role: c.role,
                    values: take(&c.values),
                })
                .collect(),
            statics: self
                .statics
                .iter()
                .map(|c| Column {
                    name: c.name.clone(),
                    role: c.role,
                    values: kept.iter().map(|(series, _)| c.values[*series]).collect(),
                })
                .collect(),
            inserted: self.inserted,
        }
    }

    /// A copy without the last `n` rows of each series.
    #[must_use]
    pub fn without_last(&self, n: usize) -> Self {
        self.select_rows(|_, len| 0..len.saturating_sub(n))
    }

    /// A copy of the last `n` rows of each series.
    #[must_use]
    pub fn last(&self, n: usize) -> Self {
        self.select_rows(|_, len| len.saturating_sub(n)..len)
    }
}

/// [`DataError::NotFound`] with the first few names.
pub(crate) fn not_found<'a>(
    what: &'static str,
    name: &str,
    names: impl Iterator<Item = &'a str>,
) -> DataError {
    DataError::NotFound {
        what,
        name: crate::error::excerpt(name),
        found: list_names(names),
    }
}

/// The first twelve names, and how many more there are.
pub(crate) fn list_names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let mut names = names.map(|name| format!("`{}`", crate::error::excerpt(name)));
    let shown: Vec<String> = names.by_ref().take(SHOWN).collect();
    let rest = names.count();
    match (shown.is_empty(), rest) {
        (true, _) => "none".into(),
        (false, 0) => shown.join(", "),
        (false, rest) => format!("{} and {rest} more", shown.join(", ")),
    }
}
