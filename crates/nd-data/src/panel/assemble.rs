//! From rows in the order of the input to a panel: group, sort, merge, fill, find the frequency.
//!
//! The simple version: sort the rows by (series, time) and walk over neighbours. The trick: most inputs are already
//! grouped and sorted, and then no row moves and no index is made.

use std::sync::Arc;

use nd_core::Real;

use super::fill::{fill_gaps, fill_missing};
use super::{
    Column, DuplicatePolicy, GapPolicy, Lines, OrderPolicy, Panel, RawColumn, RawRows, RawTimes,
    Repair, Role, Times,
};
use crate::calendar::{Frequency, TimeKind, TimeStyle, Timestamp, infer_checked};
use crate::error::{DataError, Location};

/// Rows grouped by series, on their way to a panel.
pub(super) struct Assembly<R> {
    file: Option<String>,
    pub(super) ids: Vec<Box<str>>,
    pub(super) offsets: Vec<usize>,
    pub(super) ds: Stamps,
    pub(super) style: TimeStyle,
    pub(super) target_name: Box<str>,
    pub(super) target: Option<Vec<R>>,
    pub(super) mask: Option<Vec<bool>>,
    pub(super) columns: Vec<RawColumn<R>>,
    /// The row of the input for each row, if rows have moved.
    pub(super) origin: Option<Vec<usize>>,
    lines: Option<Lines>,
    /// Rows that were inserted into gaps.
    pub(super) inserted: usize,
}

/// The time stamps of grouped rows.
pub(super) enum Stamps {
    PerRow(Vec<Timestamp>),
    Shared(Arc<[Timestamp]>),
}

/// Turns raw rows into a panel.
pub(crate) fn assemble<R: Real>(rows: RawRows<R>, repair: &Repair) -> Result<Panel<R>, DataError> {
    let mut assembly = Assembly::group(rows)?;
    assembly.sort(repair.order)?;
    assembly.merge_duplicates(repair.duplicates)?;
    fill_missing(&mut assembly, repair.missing)?;
    let frequency = assembly.frequency(repair)?;
    let irregular = match frequency {
        Some((frequency, inferred)) => assembly.check_regular(frequency, inferred, repair.gaps)?,
        None => vec![true; assembly.ids.len()],
    };
    let fills = !matches!(repair.gaps, GapPolicy::Error | GapPolicy::Keep);
    if let (Some((frequency, inferred)), true, true) = (frequency, fills, irregular.contains(&true))
    {
        fill_gaps(&mut assembly, frequency, inferred, repair.gaps)?;
        return assembly.finish(Some(frequency), &[]);
    }
    assembly.finish(frequency.map(|(frequency, _)| frequency), &irregular)
}

impl<R: Real> Assembly<R> {
    /// Groups rows by series in order of first appearance.
    fn group(rows: RawRows<R>) -> Result<Self, DataError> {
        if rows.n_rows == 0 {
            let at = Box::new(Location {
                file: rows.file,
                ..Location::default()
            });
            return Err(DataError::NoRows { at });
        }
        let n_series = rows.ids.len();
        let mut offsets = vec![0; n_series + 1];
        let ends = rows
            .runs
            .iter()
            .skip(1)
            .map(|run| run.1)
            .chain([rows.n_rows]);
        let runs: Vec<_> = rows
            .runs
            .iter()
            .zip(ends)
            .map(|(&(s, a), b)| (s, a..b))
            .collect();
        for (series, run) in &runs {
            offsets[series + 1] += run.len();
        }
        for series in 0..n_series {
            offsets[series + 1] += offsets[series];
        }
        let grouped = runs
            .iter()
            .zip(runs.iter().skip(1))
            .all(|(a, b)| a.0 <= b.0);
        let mut assembly = Self {
            file: rows.file,
            ids: rows.ids,
            offsets,
            ds: match rows.times {
                RawTimes::PerRow(ds) => Stamps::PerRow(ds),
                RawTimes::Shared(ds) => Stamps::Shared(ds),
            },
            style: rows.style,
            target_name: rows.target_name,
            target: rows.target,
            mask: rows.mask,
            columns: rows.columns,
            origin: None,
            lines: rows.lines,
            inserted: 0,
        };
        if !grouped {
            let mut next = assembly.offsets.clone();
            let mut order = vec![0; rows.n_rows];
            for (series, run) in runs {
                for row in run {
                    order[next[series]] = row;
                    next[series] += 1;
                }
            }
            assembly.reorder(&order);
        }
        // A series that was named but has no row would make an empty slice everywhere.
        let empty = assembly.offsets.windows(2).position(|w| w[0] == w[1]);
        if let Some(series) = empty {
            let at = Box::new(Location {
                file: assembly.file,
                ..Location::default()
            });
            return Err(DataError::NoRows {
                at: at.series(&assembly.ids[series]),
            });
        }
        Ok(assembly)
    }

    pub(super) fn n_rows(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// The stamps of a series.
    pub(super) fn stamps(&self, series: usize) -> &[Timestamp] {
        match &self.ds {
            Stamps::PerRow(ds) => &ds[self.offsets[series]..self.offsets[series + 1]],
            Stamps::Shared(ds) => ds,
        }
    }

    /// The place in the input of a row of a series.
    pub(super) fn place(&self, series: usize, row: usize) -> Box<Location> {
        let row = row + self.offsets[series];
        let origin = self.origin.as_ref().map_or(row, |origin| origin[row]);
        let line = self.lines.as_ref().map(|lines| lines.of(origin));
        Box::new(Location {
            file: self.file.clone(),
            line,
            row: line.is_none().then(|| row - self.offsets[series]),
            column: None,
            series: Some(crate::error::excerpt(&self.ids[series])),
        })
    }

    /// Gives every row its own stamp, so that rows of different series can differ.
    pub(super) fn own_stamps(&mut self) -> &mut Vec<Timestamp> {
        if let Stamps::Shared(shared) = &self.ds {
            let mut ds = Vec::with_capacity(self.n_rows());
            for _ in 0..self.ids.len() {
                ds.extend_from_slice(shared);
            }
            self.ds = Stamps::PerRow(ds);
        }
        match &mut self.ds {
            Stamps::PerRow(ds) => ds,
            Stamps::Shared(_) => unreachable!("replaced above"),
        }
    }

    /// Rearranges all columns: row `i` becomes the former row `order[i]`.
    fn reorder(&mut self, order: &[usize]) {
        fn gather<T: Copy>(values: &mut Vec<T>, order: &[usize]) {
            *values = order.iter().map(|&row| values[row]).collect();
        }
        gather(self.own_stamps(), order);
        if let Some(target) = &mut self.target {
            gather(target, order);
        }
        if let Some(mask) = &mut self.mask {
            gather(mask, order);
        }
        for column in &mut self.columns {
            gather(&mut column.values, order);
        }
        self.origin = Some(match self.origin.take() {
            Some(origin) => order.iter().map(|&row| origin[row]).collect(),
            None => order.to_vec(),
        });
    }

    /// Whether a series' stamps never descend; a shared list is looked at once.
    fn first_descent(&self, series: usize) -> Option<usize> {
        if matches!(self.ds, Stamps::Shared(_)) && series > 0 {
            return None;
        }
        self.stamps(series)
            .windows(2)
            .position(|w| w[1] < w[0])
            .map(|row| row + 1)
    }

    fn sort(&mut self, policy: OrderPolicy) -> Result<(), DataError> {
        let n_series = self.ids.len();
        let Some((series, row)) =
            (0..n_series).find_map(|s| self.first_descent(s).map(|row| (s, row)))
        else {
            return Ok(());
        };
        if policy == OrderPolicy::Error {
            let stamps = self.stamps(series);
            return Err(DataError::Unsorted {
                at: self.place(series, row),
                ds: self.style.format(stamps[row]),
                previous: self.style.format(stamps[row - 1]),
            });
        }
        self.own_stamps();
        let mut order: Vec<usize> = (0..self.n_rows()).collect();
        for series in 0..n_series {
            let (start, stamps) = (self.offsets[series], self.stamps(series));
            // Stable: rows of one stamp keep the order of the input, which `KeepFirst` and `KeepLast` speak of.
            order[start..start + stamps.len()].sort_by_key(|&row| stamps[row - start]);
        }
        self.reorder(&order);
        Ok(())
    }

    fn merge_duplicates(&mut self, policy: DuplicatePolicy) -> Result<(), DataError> {
        let repeats = |stamps: &[Timestamp]| stamps.windows(2).position(|w| w[0] == w[1]);
        let looked_at = match self.ds {
            Stamps::Shared(_) => 1,
            Stamps::PerRow(_) => self.ids.len(),
        };
        let Some((series, row)) =
            (0..looked_at).find_map(|s| repeats(self.stamps(s)).map(|row| (s, row)))
        else {
            return Ok(());
        };
        if policy == DuplicatePolicy::Error {
            let first = self.place(series, row);
            let earlier = match (first.line, first.row) {
                (Some(line), _) => format!(" (first in line {line})"),
                (None, Some(row)) => format!(" (first in row {row})"),
                (None, None) => String::new(),
            };
            let ds = self.style.format(self.stamps(series)[row]);
            return Err(DataError::Duplicate {
                at: self.place(series, row + 1),
                ds,
                earlier,
            });
        }
        self.own_stamps();
        // Each group of equal stamps becomes one row.
        let mut groups = Vec::with_capacity(self.n_rows());
        let mut offsets = vec![0];
        for series in 0..self.ids.len() {
            let start = self.offsets[series];
            let mut row = start;
            for group in self.stamps(series).chunk_by(|a, b| a == b) {
                groups.push(row..row + group.len());
                row += group.len();
            }
            offsets.push(groups.len());
        }
        if policy == DuplicatePolicy::Mean {
            self.average(&groups);
        }
        let kept: Vec<usize> = groups
            .iter()
            .map(|g| {
                if policy == DuplicatePolicy::KeepLast {
                    g.end - 1
                } else {
                    g.start
                }
            })
            .collect();
        self.reorder(&kept);
        self.offsets = offsets;
        Ok(())
    }

    /// Puts the mean of the observed values of each group into its first row.
    fn average(&mut self, groups: &[std::ops::Range<usize>]) {
        let mask = self.mask.take();
        let observed = |row: usize| mask.as_ref().is_none_or(|mask| mask[row]);
        let mean = |values: &mut [R], masked: bool| {
            for group in groups.iter().filter(|g| g.len() > 1) {
                let (mut sum, mut count) = (0.0, 0);
                for row in group.clone() {
                    let value = values[row].to_f64();
                    if !value.is_nan() && (!masked || observed(row)) {
                        sum += value;
                        count += 1;
                    }
                }
                if count > 0 {
                    values[group.start] = R::from_f64(sum / f64::from(count));
                }
            }
        };
        if let Some(target) = &mut self.target {
            mean(target, true);
        }
        for column in self.columns.iter_mut().filter(|c| c.role != Role::Static) {
            mean(&mut column.values, false);
        }
        self.mask = mask;
        if let Some(mask) = &mut self.mask {
            for group in groups {
                mask[group.start] = mask[group.clone()].contains(&true);
            }
        }
    }

    /// The frequency, and whether it was inferred; `None` if there is none and irregular stamps are kept.
    fn frequency(&self, repair: &Repair) -> Result<Option<(Frequency, bool)>, DataError> {
        let kind = self.style.kind();
        if let Some(frequency) = repair.frequency {
            if frequency.is_integer() != (kind == TimeKind::Integer) {
                let (found, advice) = if frequency.is_integer() {
                    ("dates", "name a dated frequency such as `h` or `D`")
                } else {
                    (
                        "whole numbers",
                        "name the distance of the numbers, such as `1`",
                    )
                };
                return Err(DataError::FrequencyKind {
                    file: self.file.clone(),
                    frequency,
                    found,
                    advice,
                });
            }
            return Ok(Some((frequency, false)));
        }
        let looked_at = match self.ds {
            Stamps::Shared(_) => 1,
            Stamps::PerRow(_) => self.ids.len(),
        };
        match infer_checked((0..looked_at).map(|s| self.stamps(s)), kind) {
            Ok(frequency) => Ok(Some((frequency, true))),
            Err(failure) => match (repair.gaps, failure.dominant) {
                (GapPolicy::Keep, _) => Ok(None),
                // One misplaced stamp among many: the check of each row will name it.
                (_, Some(frequency)) => Ok(Some((frequency, true))),
                (_, None) => Err(DataError::FrequencyUnknown {
                    file: self.file.clone(),
                    found: failure.found,
                    series: None,
                }),
            },
        }
    }

    /// Whether each series needs its stamps listed (or filled); errors name the first irregular row.
    fn check_regular(
        &self,
        frequency: Frequency,
        inferred: bool,
        policy: GapPolicy,
    ) -> Result<Vec<bool>, DataError> {
        let mut irregular = vec![false; self.ids.len()];
        for series in 0..self.ids.len() {
            if matches!(self.ds, Stamps::Shared(_)) && series > 0 {
                irregular[series] = irregular[0];
                continue;
            }
            let stamps = self.stamps(series);
            let first_fits = frequency.is_on(stamps[0]);
            let steps = |w: &[Timestamp]| frequency.steps_between(w[0], w[1]);
            let first_jump = stamps.windows(2).position(|w| steps(w) != Some(1));
            if first_fits && first_jump.is_none() {
                continue;
            }
            irregular[series] = true;
            if policy == GapPolicy::Keep {
                continue;
            }
            if inferred && stamps.len() >= 3 {
                let single = stamps.windows(2).filter(|w| steps(w) == Some(1)).count();
                let mostly_others = single * 2 < stamps.len() - 1;
                if let Some(error) = self
                    .contradiction(series, frequency)
                    .filter(|_| mostly_others)
                {
                    return Err(error);
                }
            }
            for (row, w) in stamps.windows(2).enumerate() {
                let taken = steps(w).filter(|&k| k > 0);
                if !first_fits || taken.is_none() {
                    let row = if first_fits { row + 1 } else { 0 };
                    return Err(self.off_calendar(series, row, frequency));
                }
                if let (Some(k @ 2..), GapPolicy::Error) = (taken, policy) {
                    return Err(DataError::Gap {
                        at: self.place(series, row + 1),
                        after: self.style.format(w[0]),
                        before: self.style.format(w[1]),
                        missing: k - 1,
                        frequency,
                    });
                }
            }
            if !first_fits {
                return Err(self.off_calendar(series, 0, frequency));
            }
        }
        Ok(irregular)
    }

    fn off_calendar(&self, series: usize, row: usize, frequency: Frequency) -> DataError {
        let stamps = self.stamps(series);
        DataError::OffCalendar {
            at: self.place(series, row),
            ds: self.style.format(stamps[row]),
            previous: self.style.format(stamps[row.saturating_sub(1)]),
            frequency,
        }
    }

    /// The error for a series that, looked at alone, has another frequency than the panel.
    fn contradiction(&self, series: usize, frequency: Frequency) -> Option<DataError> {
        let own = match infer_checked([self.stamps(series)], self.style.kind()) {
            Ok(own) if own == frequency => return None,
            Ok(own) => format!("it looks like `{own}`"),
            Err(failure) => failure.found,
        };
        Some(DataError::FrequencyUnknown {
            file: self.file.clone(),
            found: format!("{own}, while most of the data looks like `{frequency}`"),
            series: Some(crate::error::excerpt(&self.ids[series])),
        })
    }

    /// The panel; `irregular` says which series keep their stamps (an empty slice: none).
    fn finish(
        self,
        frequency: Option<Frequency>,
        irregular: &[bool],
    ) -> Result<Panel<R>, DataError> {
        let shared = match &self.ds {
            Stamps::Shared(ds) => Some(Arc::clone(ds)),
            Stamps::PerRow(_) => None,
        };
        let times = (0..self.ids.len())
            .map(|series| {
                let listed = irregular.get(series).copied().unwrap_or(false);
                match (&shared, listed || frequency.is_none()) {
                    (_, false) => Times::Regular(self.stamps(series)[0]),
                    (Some(shared), true) => Times::Explicit(Arc::clone(shared)),
                    (None, true) => Times::Explicit(self.stamps(series).into()),
                }
            })
            .collect();
        let mut columns = Vec::new();
        let mut statics = Vec::new();
        for column in &self.columns {
            if column.role == Role::Static {
                statics.push(self.reduce_static(column)?);
            }
        }
        for RawColumn { name, role, values } in self.columns {
            if role != Role::Static {
                columns.push(Column { name, role, values });
            }
        }
        Ok(Panel {
            ids: self.ids,
            offsets: self.offsets,
            times,
            frequency,
            style: self.style,
            target: self.target,
            mask: self.mask.filter(|mask| mask.contains(&false)),
            columns,
            statics,
            inserted: self.inserted,
        })
    }

    fn reduce_static(&self, column: &RawColumn<R>) -> Result<Column<R>, DataError> {
        let mut values = Vec::with_capacity(self.ids.len());
        for series in 0..self.ids.len() {
            let own = &column.values[self.offsets[series]..self.offsets[series + 1]];
            if let Some(row) = own.iter().position(|v| *v != own[0]) {
                return Err(DataError::StaticVaries {
                    at: self.place(series, row).column(&column.name),
                    found: own[row].to_f64(),
                    first: own[0].to_f64(),
                });
            }
            values.push(own[0]);
        }
        Ok(Column {
            name: column.name.clone(),
            role: Role::Static,
            values,
        })
    }
}
