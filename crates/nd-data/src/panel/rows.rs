//! Rows as they came, before they are a panel.

use std::sync::Arc;

use super::Role;
use crate::calendar::{TimeStyle, Timestamp};

/// A column in the order of the input; NaN stands for a missing value.
pub(crate) struct RawColumn<R> {
    pub(crate) name: Box<str>,
    pub(crate) role: Role,
    pub(crate) values: Vec<R>,
}

/// The time stamps in the order of the input.
pub(crate) enum RawTimes {
    /// One per row.
    PerRow(Vec<Timestamp>),
    /// One list that every series has (wide files).
    Shared(Arc<[Timestamp]>),
}

/// Rows in the order of the input, with the series they belong to.
pub(crate) struct RawRows<R> {
    pub(crate) file: Option<String>,
    pub(crate) ids: Vec<Box<str>>,
    /// (series, first row) wherever the series changes from one row to the next.
    pub(crate) runs: Vec<(usize, usize)>,
    pub(crate) n_rows: usize,
    pub(crate) times: RawTimes,
    pub(crate) style: TimeStyle,
    pub(crate) target_name: Box<str>,
    pub(crate) target: Option<Vec<R>>,
    pub(crate) mask: Option<Vec<bool>>,
    pub(crate) columns: Vec<RawColumn<R>>,
    pub(crate) lines: Option<Lines>,
}

/// The line of each row, kept as the rows where the distance between the two changes.
#[derive(Default)]
pub(crate) struct Lines {
    jumps: Vec<(usize, u64)>,
    /// Rows of a wide file repeat for every series.
    pub(crate) period: Option<usize>,
}

impl Lines {
    /// Notes the line of the next row.
    pub(crate) fn push(&mut self, row: usize, line: u64) {
        let expected = self.jumps.last().map(|&(r, l)| l + (row - r) as u64);
        if expected != Some(line) {
            self.jumps.push((row, line));
        }
    }

    /// The line of a row.
    pub(crate) fn of(&self, row: usize) -> u64 {
        let row = self.period.map_or(row, |period| row % period.max(1));
        let after = self.jumps.partition_point(|&(r, _)| r <= row);
        match after.checked_sub(1).and_then(|i| self.jumps.get(i)) {
            Some(&(r, line)) => line + (row - r) as u64,
            None => 0,
        }
    }
}
