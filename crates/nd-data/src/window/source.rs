//! The values of a window, copied into a row of a batch and scaled.

use std::ops::Range;

use nd_core::{BatchLayout, BatchMut, Real, WindowSource};

use super::{WindowConfig, WindowSet, Windows};
use crate::calendar::Timestamp;
use crate::error::DataError;
use crate::panel::{Panel, Role, not_found};
use crate::scaler::{WindowScaler, WindowStatistics};

/// The exogenous columns that a model takes, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exogenous {
    /// Columns whose past is used; columns known in the future may be among them.
    pub historic: Vec<String>,
    /// Columns whose past and future are used.
    pub future: Vec<String>,
    /// Columns with one value per series.
    pub statics: Vec<String>,
}

impl Exogenous {
    /// Every column of a panel, in the panel's order.
    #[must_use]
    pub fn all<R: Real>(panel: &Panel<R>) -> Self {
        let names = |role| {
            panel
                .column_names(role)
                .into_iter()
                .map(str::to_string)
                .collect::<Vec<_>>()
        };
        Self {
            historic: names(Role::Historic),
            future: names(Role::Future),
            statics: names(Role::Static),
        }
    }
}

/// The windows of a panel with their values: what a training loop draws from.
///
/// ```
/// use nd_core::{Batch, WindowSource};
/// use nd_data::window::{Exogenous, PanelWindows, WindowConfig, WindowSet};
/// use nd_data::{PanelBuilder, Series, WindowScaler};
/// let y = (0..10).map(|t| t as f32).collect();
/// let panel = PanelBuilder::new().series(Series::numbered("a", y)).build()?;
/// let config = WindowConfig::new(4, 2);
/// let source = PanelWindows::new(&panel, &config, WindowSet::Predict, &Exogenous::default())?
///     .with_scaler(WindowScaler::Identity);
/// let mut batch = Batch::new(source.layout());
/// batch.resize(1);
/// source.gather(0, 0, batch.view_mut().row(0));
/// assert_eq!(batch.insample_y, [6.0, 7.0, 8.0, 9.0]);
/// assert_eq!(batch.outsample_mask, [0.0, 0.0]);
/// # Ok::<(), nd_data::DataError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PanelWindows<'a, R: Real = f32> {
    panel: &'a Panel<R>,
    windows: Windows,
    scaler: WindowScaler,
    /// Positions in `panel.columns`.
    historic: Vec<usize>,
    future: Vec<usize>,
    /// Positions in `panel.statics`.
    statics: Vec<usize>,
    /// Values of the future columns behind the end of each series.
    beyond: Option<Beyond<'a, R>>,
}

/// Where the known future of each series is.
#[derive(Clone, Debug)]
struct Beyond<'a, R> {
    panel: &'a Panel<R>,
    /// For each series the first row in `panel`, whose rows follow the series without a hole.
    first_row: Vec<usize>,
    /// Positions in `panel.columns`, one for each future column.
    columns: Vec<usize>,
}

/// One column of one series, as windows see it: zeros on both sides.
struct Track<'a, R> {
    values: &'a [R],
    /// Known values that follow.
    beyond: &'a [R],
}

impl<R: Real> Track<'_, R> {
    /// Copies `count` values from row `start` on to `out[0]`, `out[stride]`, ...
    fn copy(&self, start: i64, count: usize, out: &mut [R], stride: usize) {
        let pieces = [
            inside(start, count, 0, self.values.len()),
            inside(start, count, self.values.len(), self.beyond.len()),
        ];
        let sources = [self.values, self.beyond];
        if stride == 1 {
            let out = &mut out[..count];
            out.fill(R::ZERO);
            for ((place, rows), values) in pieces.into_iter().zip(sources) {
                out[place..place + rows.len()].copy_from_slice(&values[rows]);
            }
            return;
        }
        // One place per chunk; the last chunk may be shorter.
        let mut places = out
            .chunks_mut(stride)
            .map(|chunk| &mut chunk[0])
            .take(count);
        let mut next = 0;
        for ((place, rows), values) in pieces.into_iter().zip(sources) {
            if rows.is_empty() {
                continue;
            }
            places
                .by_ref()
                .take(place - next)
                .for_each(|out| *out = R::ZERO);
            next = place + rows.len();
            for (out, &value) in places.by_ref().take(rows.len()).zip(&values[rows]) {
                *out = value;
            }
        }
        places.for_each(|out| *out = R::ZERO);
    }
}

/// The part of a window of `count` rows from `start` on that lies in rows `first..first + len`: its place in the window, and
/// the rows counted from `first`.
fn inside(start: i64, count: usize, first: usize, len: usize) -> (usize, Range<usize>) {
    let from = start.max(first as i64);
    let to = (start + count as i64).min((first + len) as i64);
    if from >= to {
        return (0, 0..0);
    }
    (
        (from - start) as usize,
        from as usize - first..to as usize - first,
    )
}

impl<'a, R: Real> PanelWindows<'a, R> {
    /// The windows of a set, unscaled, with the named exogenous columns.
    ///
    /// # Errors
    /// The errors of [`Windows::new`]; [`DataError::NotFound`] for a column the panel does not have in that role;
    /// [`DataError::InvalidOption`] for a panel without a target.
    pub fn new(
        panel: &'a Panel<R>,
        config: &WindowConfig,
        set: WindowSet,
        exogenous: &Exogenous,
    ) -> Result<Self, DataError> {
        if !panel.has_target() {
            return Err(DataError::InvalidOption {
                option: "panel",
                expected: "a panel with a target".into(),
                found: "a table of future values".into(),
            });
        }
        let windows = Windows::new(panel, config, set)?;
        let find = |name: &String, roles: &[Role], what| {
            let fits = |c: &&crate::panel::Column<R>| *c.name == **name && roles.contains(&c.role);
            panel.columns.iter().position(|c| fits(&c)).ok_or_else(|| {
                let names = panel.columns.iter().filter(|c| roles.contains(&c.role));
                not_found(what, name, names.map(|c| &*c.name))
            })
        };
        let historic = exogenous
            .historic
            .iter()
            .map(|name| {
                find(
                    name,
                    &[Role::Historic, Role::Future],
                    "historic exogenous column",
                )
            })
            .collect::<Result<Vec<_>, _>>()?;
        let future = exogenous
            .future
            .iter()
            .map(|name| find(name, &[Role::Future], "future exogenous column"))
            .collect::<Result<Vec<_>, _>>()?;
        let statics = exogenous
            .statics
            .iter()
            .map(|name| {
                panel
                    .statics
                    .iter()
                    .position(|c| *c.name == **name)
                    .ok_or_else(|| {
                        let names = panel.statics.iter().map(|c| &*c.name);
                        not_found("static column", name, names)
                    })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            panel,
            windows,
            scaler: WindowScaler::Identity,
            historic,
            future,
            statics,
            beyond: None,
        })
    }

    /// The same windows, scaled by their own statistics.
    #[must_use]
    pub fn with_scaler(mut self, scaler: WindowScaler) -> Self {
        self.scaler = scaler;
        self
    }

    /// The same windows with the values that the future columns take behind the end of each series.
    ///
    /// `future` is a panel (with or without a target) that holds, for every series, at least `h` rows that follow
    /// its last one; further series and rows are ignored.
    ///
    /// # Errors
    /// [`DataError::FutureValues`] for a series without such rows, [`DataError::NotFound`] for a missing column.
    pub fn with_future(mut self, future: &'a Panel<R>) -> Result<Self, DataError> {
        let columns = self
            .future
            .iter()
            .map(|&column| {
                let name = &self.panel.columns[column].name;
                future
                    .columns
                    .iter()
                    .position(|c| c.name == *name)
                    .ok_or_else(|| {
                        let names = future.columns.iter().map(|c| &*c.name);
                        not_found("column of future values", name, names)
                    })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let horizon = self.windows.horizon();
        let mut by_name: Vec<usize> = (0..future.n_series()).collect();
        by_name.sort_by(|&a, &b| future.ids[a].cmp(&future.ids[b]));
        let mut first_row = Vec::with_capacity(self.panel.n_series());
        for series in 0..self.panel.n_series() {
            let id = self.panel.unique_id(series);
            let fail = |reason: String| DataError::FutureValues {
                series: id.to_string(),
                reason,
            };
            let found = by_name
                .binary_search_by(|&s| (*future.ids[s]).cmp(id))
                .map_err(|_| fail("the table of future values has no row of it".into()))?;
            let other = by_name[found];
            let wanted = self.panel.future_ds(series, horizon)?;
            let len = future.series_len(other);
            let offset = (0..len).find(|&row| future.ds_at(other, row) == wanted[0]);
            let show = |ts| self.panel.format_ds(ts);
            let offset = offset.ok_or_else(|| {
                fail(format!(
                    "future values must begin at {}, right after its end",
                    show(wanted[0])
                ))
            })?;
            for (k, &ts) in wanted.iter().enumerate() {
                if offset + k >= len || future.ds_at(other, offset + k) != ts {
                    return Err(fail(format!("future values of {} are missing", show(ts))));
                }
            }
            first_row.push(future.rows_of(other).start + offset);
        }
        self.beyond = Some(Beyond {
            panel: future,
            first_row,
            columns,
        });
        Ok(self)
    }

    /// Which windows these are.
    #[must_use]
    pub fn indices(&self) -> &Windows {
        &self.windows
    }

    /// The panel they are of.
    #[must_use]
    pub fn panel(&self) -> &'a Panel<R> {
        self.panel
    }

    /// How they are scaled.
    #[must_use]
    pub fn scaler(&self) -> WindowScaler {
        self.scaler
    }

    /// Whether windows that need future values have them: false only for windows behind the end of the panel with
    /// future columns and no [`with_future`](Self::with_future).
    #[must_use]
    pub fn has_future(&self) -> bool {
        self.future.is_empty() || self.beyond.is_some()
    }

    /// The time stamps of a window's targets, which may lie behind the end of the series.
    ///
    /// `group` is the series itself, or 0 for multivariate windows. The forecast's origin (NeuralForecast's `cutoff`) is the
    /// stamp of the row before.
    ///
    /// # Errors
    /// [`DataError::NoFuture`] if stamps behind the end are needed and the panel has no frequency.
    ///
    /// # Panics
    /// If there is no such group, window or series, or a target lies before the first row.
    #[track_caller]
    pub fn target_ds(
        &self,
        group: usize,
        window: usize,
        series: usize,
    ) -> Result<Vec<Timestamp>, DataError> {
        let first =
            self.windows.first_row(group, window, series) + self.windows.input_size() as i64;
        let Ok(row) = usize::try_from(first) else {
            panic!(
                "targets from row {first} of series `{}` on",
                self.panel.unique_id(series)
            );
        };
        self.panel.ds_after(series, row, self.windows.horizon())
    }

    fn series_of(&self, group: usize) -> Range<usize> {
        if self.windows.is_multivariate() {
            0..self.panel.n_series()
        } else {
            group..group + 1
        }
    }

    fn visible<'s>(&self, values: &'s [R], series: usize) -> &'s [R] {
        let start = self.panel.offsets[series];
        &values[start..start + self.windows.end(series)]
    }

    fn target(&self, series: usize) -> Track<'_, R> {
        Track {
            values: self.visible(self.panel.y(), series),
            beyond: &[],
        }
    }

    fn exogenous(&self, column: usize, series: usize) -> Track<'_, R> {
        let values = self.visible(&self.panel.columns[column].values, series);
        let beyond = self.beyond.as_ref().and_then(|beyond| {
            // Only windows that end with the panel can look beyond it.
            if self.windows.end(series) != self.panel.series_len(series) {
                return None;
            }
            let place = self.future.iter().position(|&c| c == column)?;
            let first = beyond.first_row[series];
            let values = &beyond.panel.columns[beyond.columns[place]].values;
            Some(&values[first..first + self.windows.horizon()])
        });
        Track {
            values,
            beyond: beyond.unwrap_or(&[]),
        }
    }

    /// The statistics of the observed inputs of a track; `scratch` has `L` places.
    fn statistics(
        &self,
        track: &Track<'_, R>,
        series: usize,
        start: i64,
        scratch: &mut [R],
    ) -> WindowStatistics<R> {
        if self.scaler == WindowScaler::Identity {
            return WindowStatistics {
                shift: R::ZERO,
                scale: R::ONE,
            };
        }
        let l = self.windows.input_size() as i64;
        let end = track.values.len() as i64;
        let (from, to) = (
            start.clamp(0, end) as usize,
            (start + l).clamp(0, end) as usize,
        );
        let inputs = &track.values[from..to];
        let count = match self.panel.series_mask(series) {
            None => {
                scratch[..inputs.len()].copy_from_slice(inputs);
                inputs.len()
            }
            Some(mask) => {
                let mut count = 0;
                for (&x, _) in inputs
                    .iter()
                    .zip(&mask[from..to])
                    .filter(|(_, seen)| **seen)
                {
                    scratch[count] = x;
                    count += 1;
                }
                count
            }
        };
        self.scaler.statistics(&mut scratch[..count])
    }

    /// Writes `count` scaled values of a track, from row `start` on, to `out[0]`, `out[stride]`, ...
    fn write(
        &self,
        track: &Track<'_, R>,
        start: i64,
        count: usize,
        statistics: WindowStatistics<R>,
        out: &mut [R],
        stride: usize,
    ) {
        track.copy(start, count, out, stride);
        if stride == 1 {
            self.scaler.transform(statistics, &mut out[..count]);
        } else {
            let places = out
                .chunks_mut(stride)
                .take(count)
                .map(|chunk| &mut chunk[0]);
            self.scaler.transform_each(statistics, places);
        }
    }

    /// Writes one for each observed row of `count` from `start` on, and zero for the others.
    fn write_mask(&self, series: usize, start: i64, count: usize, out: &mut [R], stride: usize) {
        let (place, rows) = inside(start, count, 0, self.windows.end(series));
        let seen = place..place + rows.len();
        if let Some(mask) = self.panel.series_mask(series) {
            let mask = &mask[rows];
            for (t, out) in out.chunks_mut(stride).take(count).enumerate() {
                let seen = seen.contains(&t) && mask[t - seen.start];
                out[0] = if seen { R::ONE } else { R::ZERO };
            }
        } else if stride == 1 {
            out[..count].fill(R::ZERO);
            out[seen].fill(R::ONE);
        } else {
            for (t, out) in out.chunks_mut(stride).take(count).enumerate() {
                out[0] = if seen.contains(&t) { R::ONE } else { R::ZERO };
            }
        }
    }
}

impl<R: Real> WindowSource<R> for PanelWindows<'_, R> {
    fn layout(&self) -> BatchLayout {
        BatchLayout {
            n_series: if self.windows.is_multivariate() {
                self.panel.n_series()
            } else {
                1
            },
            hist_exog: self.historic.len(),
            futr_exog: self.future.len(),
            stat_exog: self.statics.len(),
            ..BatchLayout::univariate(self.windows.input_size(), self.windows.horizon())
        }
    }

    fn groups(&self) -> usize {
        self.windows.groups().len()
    }

    fn windows(&self, group: usize) -> usize {
        self.windows.groups()[group].len()
    }

    fn total_windows(&self) -> usize {
        self.windows.len()
    }

    fn gather(&self, group: usize, window: usize, row: BatchMut<'_, R>) {
        assert!(
            row.layout() == self.layout() && row.rows() == 1,
            "{} rows of layout {:?} were given for one window of layout {:?}",
            row.rows(),
            row.layout(),
            self.layout()
        );
        let (l, h) = (self.windows.input_size(), self.windows.horizon());
        let multivariate = self.windows.is_multivariate();
        let series = self.series_of(group);
        let n = series.len();
        let (x, f) = (self.historic.len(), self.future.len());
        // Where the values of variable `v` of the `i`-th series begin, and how far apart they are:
        // univariate [time, variables], multivariate [variables, time, n].
        let place = |v: usize, i: usize, variables: usize, len: usize| {
            if multivariate {
                (v * len * n + i, n)
            } else {
                (v, variables)
            }
        };
        // Statistics select in place; until the inputs are written, their own memory is the scratch.
        for (i, s) in series.clone().enumerate() {
            let start = self.windows.first_row(group, window, s);
            let scratch = &mut row.insample_y[..l];
            for (v, &column) in self.historic.iter().enumerate() {
                let track = self.exogenous(column, s);
                let statistics = self.statistics(&track, s, start, scratch);
                let (first, stride) = place(v, i, x, l);
                self.write(
                    &track,
                    start,
                    l,
                    statistics,
                    &mut row.hist_exog[first..],
                    stride,
                );
            }
            for (v, &column) in self.future.iter().enumerate() {
                let track = self.exogenous(column, s);
                let statistics = self.statistics(&track, s, start, scratch);
                let (first, stride) = place(v, i, f, l + h);
                self.write(
                    &track,
                    start,
                    l + h,
                    statistics,
                    &mut row.futr_exog[first..],
                    stride,
                );
            }
            for (v, &column) in self.statics.iter().enumerate() {
                row.stat_exog[i * self.statics.len() + v] = self.panel.statics[column].values[s];
            }
            let statistics = self.statistics(&self.target(s), s, start, scratch);
            // Kept here until every series has its statistics; the scratch is needed until then.
            row.loc[i] = statistics.shift;
            row.scale[i] = statistics.scale;
        }
        for (i, s) in series.enumerate() {
            let start = self.windows.first_row(group, window, s);
            let track = self.target(s);
            let statistics = WindowStatistics {
                shift: row.loc[i],
                scale: row.scale[i],
            };
            self.write(&track, start, l, statistics, &mut row.insample_y[i..], n);
            let ahead = start + l as i64;
            self.write(&track, ahead, h, statistics, &mut row.outsample_y[i..], n);
            track.copy(ahead, h, &mut row.outsample_original[i..], n);
            self.write_mask(s, start, l, &mut row.insample_mask[i..], n);
            self.write_mask(s, ahead, h, &mut row.outsample_mask[i..], n);
            (row.loc[i], row.scale[i]) = self.scaler.loc_scale(statistics);
        }
    }
}
