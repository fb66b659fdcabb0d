//! Panels from vectors.

use std::collections::HashSet;

use nd_core::Real;

use super::{Panel, RawColumn, RawRows, RawTimes, Repair, Role, assemble};
use crate::calendar::{TimeStyle, Timestamp};
use crate::error::{DataError, Location};

/// One series with its columns, to be put into a [`PanelBuilder`].
///
/// NaN stands for a missing value, which the builder's [`Repair`] handles.
#[derive(Clone, Debug)]
pub struct Series<R = f32> {
    unique_id: String,
    ds: Vec<Timestamp>,
    y: Option<Vec<R>>,
    mask: Option<Vec<bool>>,
    columns: Vec<(String, Role, Vec<R>)>,
}

impl<R: Real> Series<R> {
    /// A series with a time stamp for every value.
    #[must_use]
    pub fn new(unique_id: impl Into<String>, ds: Vec<Timestamp>, y: Vec<R>) -> Self {
        Self {
            unique_id: unique_id.into(),
            ds,
            y: Some(y),
            mask: None,
            columns: Vec::new(),
        }
    }

    /// A series numbered 1, 2, 3, ...
    #[must_use]
    pub fn numbered(unique_id: impl Into<String>, y: Vec<R>) -> Self {
        let ds = (1..=y.len() as i64).collect();
        Self::new(unique_id, ds, y)
    }

    /// Time stamps without a target, to carry future values of exogenous columns.
    #[must_use]
    pub fn without_target(unique_id: impl Into<String>, ds: Vec<Timestamp>) -> Self {
        Self {
            unique_id: unique_id.into(),
            ds,
            y: None,
            mask: None,
            columns: Vec::new(),
        }
    }

    /// Marks which values are observed.
    #[must_use]
    pub fn available_mask(mut self, mask: Vec<bool>) -> Self {
        self.mask = Some(mask);
        self
    }

    /// Adds a column known up to the forecast's origin.
    #[must_use]
    pub fn historic(self, name: impl Into<String>, values: Vec<R>) -> Self {
        self.column(name, Role::Historic, values)
    }

    /// Adds a column known beyond the forecast's origin.
    #[must_use]
    pub fn future(self, name: impl Into<String>, values: Vec<R>) -> Self {
        self.column(name, Role::Future, values)
    }

    /// Adds a value that holds for the whole series.
    #[must_use]
    pub fn constant(self, name: impl Into<String>, value: R) -> Self {
        let values = vec![value; self.ds.len()];
        self.column(name, Role::Static, values)
    }

    fn column(mut self, name: impl Into<String>, role: Role, values: Vec<R>) -> Self {
        self.columns.push((name.into(), role, values));
        self
    }
}

/// Builds a [`Panel`] from vectors.
#[derive(Clone, Debug)]
pub struct PanelBuilder<R = f32> {
    series: Vec<Series<R>>,
    repair: Repair,
    style: TimeStyle,
}

impl<R: Real> Default for PanelBuilder<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Real> PanelBuilder<R> {
    /// A builder for series with whole numbers as time stamps.
    #[must_use]
    pub fn new() -> Self {
        Self {
            series: Vec::new(),
            repair: Repair::default(),
            style: TimeStyle::INTEGER,
        }
    }

    /// How time stamps are to be understood and written.
    #[must_use]
    pub fn time_style(mut self, style: TimeStyle) -> Self {
        self.style = style;
        self
    }

    /// How to repair irregular data; it also names the frequency.
    #[must_use]
    pub fn repair(mut self, repair: Repair) -> Self {
        self.repair = repair;
        self
    }

    /// Adds a series. Each needs a name of its own.
    #[must_use]
    pub fn series(mut self, series: Series<R>) -> Self {
        self.series.push(series);
        self
    }

    /// Builds the panel.
    ///
    /// # Errors
    /// [`DataError::DuplicateSeries`] for two series of one name, [`DataError::Length`] for columns of different lengths,
    /// [`DataError::MissingColumn`] for a column that only some
    /// series have, and every error that the [`Repair`] policies describe.
    pub fn build(self) -> Result<Panel<R>, DataError> {
        let mut rows = RawRows {
            file: None,
            ids: Vec::new(),
            runs: Vec::new(),
            n_rows: 0,
            times: RawTimes::PerRow(Vec::new()),
            style: self.style,
            target_name: "y".into(),
            target: None,
            mask: None,
            columns: Vec::new(),
            lines: None,
        };
        let mut stamps = Vec::new();
        let mut known = HashSet::new();
        for (position, series) in self.series.into_iter().enumerate() {
            check_lengths(&series)?;
            if !known.insert(series.unique_id.clone()) {
                let series = crate::error::excerpt(&series.unique_id);
                return Err(DataError::DuplicateSeries { series });
            }
            if position == 0 {
                rows.target = series.y.as_ref().map(|_| Vec::new());
                rows.columns = series
                    .columns
                    .iter()
                    .map(|(name, role, _)| RawColumn {
                        name: name.as_str().into(),
                        role: *role,
                        values: Vec::new(),
                    })
                    .collect();
                check_unique(&rows.columns)?;
            }
            append(&mut rows, &mut stamps, series)?;
        }
        rows.times = RawTimes::PerRow(stamps);
        assemble(rows, &self.repair)
    }
}

fn check_lengths<R: Real>(series: &Series<R>) -> Result<(), DataError> {
    let at = |column: &str| {
        Box::new(Location::default())
            .column(column)
            .series(&series.unique_id)
    };
    if series.unique_id.is_empty() {
        return Err(DataError::EmptySeriesId { at: Box::default() });
    }
    let expected = series.ds.len();
    let target = series.y.as_ref().map(|y| ("y", y));
    let columns = series
        .columns
        .iter()
        .map(|(name, _, values)| (name.as_str(), values));
    for (name, values) in target.into_iter().chain(columns) {
        if values.len() != expected {
            return Err(DataError::Length {
                at: at(name),
                expected,
                found: values.len(),
            });
        }
        if let Some(row) = values.iter().position(|v| !v.is_finite() && !v.is_nan()) {
            let mut at = at(name);
            at.row = Some(row);
            return Err(DataError::NotFinite {
                at,
                found: values[row].to_string(),
            });
        }
    }
    match &series.mask {
        Some(mask) if mask.len() != expected => Err(DataError::Length {
            at: at("available_mask"),
            expected,
            found: mask.len(),
        }),
        _ => Ok(()),
    }
}

fn check_unique<R>(columns: &[RawColumn<R>]) -> Result<(), DataError> {
    for (i, column) in columns.iter().enumerate() {
        if columns[..i]
            .iter()
            .any(|earlier| earlier.name == column.name)
        {
            return Err(DataError::DuplicateColumn {
                file: "the series".into(),
                column: crate::error::excerpt(&column.name),
                first: "given once".into(),
                second: "given again".into(),
            });
        }
    }
    Ok(())
}

fn append<R: Real>(
    rows: &mut RawRows<R>,
    stamps: &mut Vec<Timestamp>,
    series: Series<R>,
) -> Result<(), DataError> {
    let missing = |column: &str, role: &'static str, found: String| DataError::MissingColumn {
        file: format!("series `{}`", crate::error::excerpt(&series.unique_id)),
        column: column.into(),
        role,
        found,
        hint: "; every series of a panel must have the same columns".into(),
    };
    let own = || {
        let names = series.columns.iter().map(|(name, ..)| name.as_str());
        super::list_names(series.y.iter().map(|_| "y").chain(names))
    };
    if rows.target.is_some() != series.y.is_some() {
        return Err(missing("y", "the target", own()));
    }
    for column in &rows.columns {
        let matching = |(name, role, _): &&(String, Role, Vec<R>)| {
            **name == *column.name && *role == column.role
        };
        if !series.columns.iter().any(|c| matching(&c)) {
            return Err(missing(&column.name, column.role.name(), own()));
        }
    }
    if series.columns.len() != rows.columns.len() {
        let extra = series
            .columns
            .iter()
            .find(|(name, ..)| rows.columns.iter().all(|c| *c.name != **name))
            .map_or("a column", |(name, ..)| name.as_str());
        let found = super::list_names(rows.columns.iter().map(|c| &*c.name));
        return Err(DataError::NotFound {
            what: "column in the first series",
            name: crate::error::excerpt(extra),
            found,
        });
    }
    let first = rows.n_rows;
    rows.n_rows += series.ds.len();
    rows.runs.push((rows.ids.len(), first));
    rows.ids.push(series.unique_id.as_str().into());
    if rows.mask.is_some() || series.mask.is_some() {
        let mask = rows.mask.get_or_insert_with(|| vec![true; first]);
        match &series.mask {
            Some(own) => mask.extend_from_slice(own),
            None => mask.resize(rows.n_rows, true),
        }
    }
    stamps.extend_from_slice(&series.ds);
    if let (Some(all), Some(y)) = (&mut rows.target, series.y) {
        all.extend_from_slice(&y);
    }
    for (name, _, values) in series.columns {
        for column in rows.columns.iter_mut().filter(|c| *c.name == *name) {
            column.values.extend_from_slice(&values);
        }
    }
    Ok(())
}
