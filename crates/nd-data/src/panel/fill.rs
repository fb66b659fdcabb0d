//! Filling what is missing: values of rows that exist, and rows that do not.

use nd_core::Real;

use super::assemble::{Assembly, Stamps};
use super::{GapPolicy, MissingPolicy, Role};
use crate::calendar::{Frequency, Timestamp};
use crate::error::DataError;

/// Gaps may add at most this many rows per row there is ...
///
/// One mistyped year in an hourly file is 8760 rows; a hundred years of minutes would not fit in memory. Sparse but
/// honest data (a sale a month, by day) stays below it.
const MOST_FILLED_PER_ROW: u64 = 64;
/// ... and this many in any case, so that small panels are not refused.
const FILLED_FREELY: u64 = 100_000;

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
        fill_column(assembly, &name, Role::Historic, values, &mut mask, policy)?;
    }
    for column in &mut columns {
        fill_column(
            assembly,
            &column.name,
            column.role,
            &mut column.values,
            &mut mask,
            policy,
        )?;
    }
    assembly.mask = mask;
    assembly.target = target;
    assembly.columns = columns;
    Ok(())
}

fn fill_column<R: Real>(
    assembly: &Assembly<R>,
    name: &str,
    role: Role,
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
        for row in rows.clone() {
            if !values[row].is_nan() {
                continue;
            }
            let fail = |detail| {
                let at = assembly.place(series, row - rows.start).column(name);
                Err(DataError::MissingValue { at, detail })
            };
            if role == Role::Static {
                return fail("; a static value cannot be filled");
            }
            // A row that the input itself marks as not observed owes no value.
            let excused = mask.as_ref().is_some_and(|mask| !mask[row]);
            values[row] = match policy {
                _ if excused => R::ZERO,
                MissingPolicy::Error => return fail(""),
                MissingPolicy::Mask => {
                    mask.get_or_insert_with(|| vec![true; n_rows])[row] = false;
                    R::ZERO
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

/// Inserts the rows that the frequency asks for. The stamps must be on the calendar and ascend.
pub(super) fn fill_gaps<R: Real>(
    assembly: &mut Assembly<R>,
    frequency: Frequency,
    policy: GapPolicy,
) -> Result<(), DataError> {
    let n_rows = assembly.n_rows();
    let limit = (n_rows as u64)
        .saturating_mul(MOST_FILLED_PER_ROW)
        .max(FILLED_FREELY);
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
            filled = filled.saturating_add(steps.unsigned_abs() - 1);
            if filled > limit {
                let at = assembly.place(series, row + 1);
                return Err(DataError::GapTooLarge {
                    at,
                    frequency,
                    missing: filled,
                    rows: n_rows,
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
    let expand = |values: &[R], role: Role| -> Vec<R> {
        let value = |source: &Source| match (source, policy, role) {
            (Source::Row(row), ..) => values[*row],
            (Source::Between(row, _), _, Role::Static)
            | (Source::Between(row, _), GapPolicy::ForwardFill, _) => values[*row],
            (Source::Between(row, way), GapPolicy::Linear, _) => {
                if !(observed(*row) && observed(*row + 1)) {
                    return R::ZERO;
                }
                let (a, b) = (values[*row].to_f64(), values[*row + 1].to_f64());
                R::from_f64(a * (1.0 - way) + b * way)
            }
            (Source::Between(..), ..) => R::ZERO,
        };
        sources.iter().map(value).collect()
    };
    if let Some(target) = &mut assembly.target {
        *target = expand(target, Role::Historic);
    }
    for column in &mut assembly.columns {
        column.values = expand(&column.values, column.role);
    }
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
