//! Filling what is missing: values of rows that exist, and rows that do not.
//!
//! The simple version: a row that was not observed holds the last value observed before it, and the mask says that it is
//! none. Losses, metrics and statistics skip it; but a model still sees the value among its inputs, and a naive forecast
//! may repeat it, so it must be one that the series could have had. Zero, which NeuralForecast's documentation fills in by hand,
//! is none: a window scaled by its observed values turns it into an outlier of many deviations.
//!
//! Known weakness: before the first observation there is none to repeat. The first one stands there, which a model
//! must not be judged by: those rows are masked too, and no target of theirs counts.

use nd_core::Real;

use super::assemble::{Assembly, Stamps};
use super::{GapPolicy, MissingPolicy, RawColumn, Role};
use crate::calendar::{Frequency, Timestamp};
use crate::error::DataError;

/// An inferred frequency is that of most rows, so gaps add at most one row per row there is: more, and most of the panel would be
/// invented, which a mistyped year does ...
const MOST_FILLED_INFERRED: u64 = 1;
/// ... while one that the user names may belong to sparse data (a sale a month, by day), up to this many rows per row. A
/// hundred years of minutes would not fit in memory.
const MOST_FILLED_NAMED: u64 = 64;
/// This many may be added in any case, so that panels of a few rows are not refused.
const FILLED_FREELY: u64 = 100;
/// A single gap may be as long as its series, or this long: three years of days.
const LONGEST_GAP_FREELY: u64 = 1100;

/// Replaces every NaN by what the policy says.
pub(super) fn fill_missing<R: Real>(
    assembly: &mut Assembly<R>,
    policy: MissingPolicy,
) -> Result<(), DataError> {
    let mut mask = assembly.mask.take();
    let mut target = assembly.target.take();
    let mut columns = std::mem::take(&mut assembly.columns);
    let name = assembly.target_name.clone();
    if let Some(values) = &mut target {
        fill_column(assembly, &name, None, values, &mut mask, policy)?;
    }
    for column in &mut columns {
        let RawColumn { name, role, values } = column;
        fill_column(assembly, name, Some(*role), values, &mut mask, policy)?;
    }
    assembly.mask = mask;
    assembly.target = target;
    assembly.columns = columns;
    Ok(())
}

/// Fills one variable: the target, which has no role, or an exogenous column.
fn fill_column<R: Real>(
    assembly: &Assembly<R>,
    name: &str,
    role: Option<Role>,
    values: &mut [R],
    mask: &mut Option<Vec<bool>>,
    policy: MissingPolicy,
) -> Result<(), DataError> {
    if !values.iter().any(|v| v.is_nan()) {
        return Ok(());
    }
    let n_rows = values.len();
    for series in 0..assembly.ids.len() {
        let rows = assembly.offsets[series]..assembly.offsets[series + 1];
        if !values[rows.clone()].iter().any(|v| v.is_nan()) {
            continue;
        }
        // The mask speaks of the target: an exogenous value beside a missing target was observed.
        let observed = |row: usize, value: R, mask: &Option<Vec<bool>>| {
            !value.is_nan() && (role.is_some() || mask.as_ref().is_none_or(|mask| mask[row]))
        };
        let first = rows.clone().find(|&row| observed(row, values[row], mask));
        let mut last = first.map_or(R::ZERO, |row| values[row]);
        for row in rows.clone() {
            if !values[row].is_nan() {
                if observed(row, values[row], mask) {
                    last = values[row];
                }
                continue;
            }
            let fail = |detail| {
                let at = assembly.place(series, row - rows.start).column(name);
                Err(DataError::MissingValue { at, detail })
            };
            if role == Some(Role::Static) {
                return fail("; a static value cannot be filled");
            }
            // A row that the input itself marks as not observed owes no value.
            let excused = mask.as_ref().is_some_and(|mask| !mask[row]);
            values[row] = match policy {
                _ if excused => last,
                MissingPolicy::Error => return fail(""),
                MissingPolicy::Mask => {
                    mask.get_or_insert_with(|| vec![true; n_rows])[row] = false;
                    last
                }
                MissingPolicy::ForwardFill if row == rows.start => {
                    return fail(
                        "; it is the first of its series, so nothing can be carried forward",
                    );
                }
                MissingPolicy::ForwardFill => values[row - 1],
                MissingPolicy::Zero => R::ZERO,
            };
        }
    }
    Ok(())
}

/// Where each row of the filled panel comes from.
enum Source {
    /// A row that exists.
    Row(usize),
    /// Between a row and the next: so much of the way.
    Between(usize, f64),
}

/// For each row, the row whose target a masked row behind it repeats: the last one observed up to it, the first one of its
/// series before that, or the row itself in a series without any.
fn carried_from(offsets: &[usize], observed: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut from = Vec::with_capacity(offsets.last().copied().unwrap_or(0));
    for bounds in offsets.windows(2) {
        let rows = bounds[0]..bounds[1];
        let mut last = rows.clone().find(|&row| observed(row));
        for row in rows {
            if observed(row) {
                last = Some(row);
            }
            from.push(last.unwrap_or(row));
        }
    }
    from
}

/// Inserts the rows that the frequency asks for. The stamps must be on the calendar and ascend. `inferred` says whether the
/// frequency was read off the stamps.
pub(super) fn fill_gaps<R: Real>(
    assembly: &mut Assembly<R>,
    frequency: Frequency,
    inferred: bool,
    policy: GapPolicy,
) -> Result<(), DataError> {
    let n_rows = assembly.n_rows();
    let per_row = if inferred {
        MOST_FILLED_INFERRED
    } else {
        MOST_FILLED_NAMED
    };
    let limit = (n_rows as u64).saturating_mul(per_row).max(FILLED_FREELY);
    let mut sources = Vec::with_capacity(n_rows);
    let mut ds: Vec<Timestamp> = Vec::with_capacity(n_rows);
    let mut offsets = vec![0];
    let mut filled: u64 = 0;
    for series in 0..assembly.ids.len() {
        let stamps = assembly.stamps(series);
        let start = assembly.offsets[series];
        for (row, &ts) in stamps.iter().enumerate() {
            sources.push(Source::Row(start + row));
            ds.push(ts);
            let Some(&next) = stamps.get(row + 1) else {
                continue;
            };
            let steps = frequency.steps_between(ts, next).unwrap_or(1);
            let gap = steps.unsigned_abs() - 1;
            filled = filled.saturating_add(gap);
            let too_long = gap > LONGEST_GAP_FREELY.max(stamps.len() as u64);
            if too_long || filled > limit {
                let (missing, rows, what) = if too_long {
                    (gap, stamps.len(), "of the series")
                } else {
                    (filled, n_rows, "of all series")
                };
                return Err(DataError::GapTooLarge {
                    at: assembly.place(series, row + 1),
                    frequency,
                    missing,
                    rows,
                    what,
                });
            }
            for k in 1..steps {
                sources.push(Source::Between(start + row, k as f64 / steps as f64));
                ds.push(frequency.next(ts, k).unwrap_or(ts));
            }
        }
        offsets.push(sources.len());
    }
    let mask = assembly.mask.take();
    let observed = |row: usize| mask.as_ref().is_none_or(|mask| mask[row]);
    assembly.mask = Some(
        sources
            .iter()
            .map(|source| match (source, policy) {
                (Source::Row(row), _) => observed(*row),
                (Source::Between(row, _), GapPolicy::ForwardFill) => observed(*row),
                (Source::Between(row, _), GapPolicy::Linear) => {
                    observed(*row) && observed(*row + 1)
                }
                (Source::Between(..), _) => false,
            })
            .collect(),
    );
    let carried = carried_from(&assembly.offsets, observed);
    let expand = |values: &[R], role: Option<Role>| -> Vec<R> {
        // Every exogenous value was observed or filled by now; the target of a masked row need not be one.
        let last = |row: usize| match role {
            None => values[carried[row]],
            Some(_) => values[row],
        };
        let value = |source: &Source| match *source {
            Source::Row(row) => values[row],
            Source::Between(row, way) => match policy {
                _ if role == Some(Role::Static) => values[row],
                GapPolicy::Linear if observed(row) && observed(row + 1) => {
                    let (a, b) = (values[row].to_f64(), values[row + 1].to_f64());
                    R::from_f64(a * (1.0 - way) + b * way)
                }
                _ => last(row),
            },
        };
        sources.iter().map(value).collect()
    };
    if let Some(target) = &mut assembly.target {
        *target = expand(target, None);
    }
    for column in &mut assembly.columns {
        column.values = expand(&column.values, Some(column.role));
    }
    assembly.inserted = sources.len() - n_rows;
    let row_of = |source: &Source| match source {
        Source::Row(row) | Source::Between(row, _) => *row,
    };
    assembly.origin = Some(match assembly.origin.take() {
        Some(origin) => sources
            .iter()
            .map(|source| origin[row_of(source)])
            .collect(),
        None => sources.iter().map(row_of).collect(),
    });
    assembly.ds = Stamps::PerRow(ds);
    assembly.offsets = offsets;
    Ok(())
}
