//! Finding the frequency of a panel in its time stamps.
//!
//! The simple version: take the most common distance between neighbouring stamps; if every other distance is a
//! multiple of it, that is the step, and the multiples are gaps. Months, quarters and years have no constant distance,
//! so stamps that all fall on first (or last) days of months are compared by month instead. Days without weekends are
//! business days.
//!
//! Known weakness: two stamps are enough for a guess (31 January to 29 February is read as month ends), because a short
//! panel should still load; a wrong guess is corrected by naming the frequency. Several business days at a time (`2B`)
//! must be named.

use super::{
    Frequency, FrequencyUnit, MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MILLI, MICROS_PER_MINUTE,
    MICROS_PER_SECOND, Month, TimeKind, Timestamp, Weekday, date_of_day, split_day,
};
use std::num::NonZeroU32;

use crate::error::DataError;

/// How many different distances are told apart; a regular series, even with gaps, has a handful.
const DISTANCES: usize = 64;

/// Infers the frequency of a panel from the stamps of its series, each ascending.
///
/// # Errors
/// [`DataError::FrequencyUnknown`] if no series has two dates (numbers then count in ones), or the distances do not fit one frequency.
pub fn infer_frequency<'a, I>(series: I, kind: TimeKind) -> Result<Frequency, DataError>
where
    I: IntoIterator<Item = &'a [Timestamp]>,
{
    infer_checked(series, kind).map_err(|failure| DataError::FrequencyUnknown {
        file: None,
        found: failure.found,
        series: None,
    })
}

/// What the stamps looked like when no frequency fits them.
pub(crate) struct InferFailure {
    pub(crate) found: String,
    /// The step that at least three quarters of the neighbours take, if there is one.
    pub(crate) dominant: Option<Frequency>,
}

pub(crate) fn infer_checked<'a, I>(series: I, kind: TimeKind) -> Result<Frequency, InferFailure>
where
    I: IntoIterator<Item = &'a [Timestamp]>,
{
    let mut evidence = Evidence::new(kind);
    for stamps in series {
        for pair in stamps.windows(2) {
            evidence.add(pair[0], pair[1]);
        }
    }
    evidence.conclude()
}

/// A small count of distances in order of appearance.
#[derive(Default)]
struct Histogram {
    bins: Vec<(i64, u64)>,
    divisor: u64,
    total: u64,
}

impl Histogram {
    fn add(&mut self, distance: i64) {
        self.total += 1;
        self.divisor = gcd(self.divisor, distance.unsigned_abs());
        // The common case first: a regular series keeps hitting the same bin.
        if let Some(bin) = self.bins.iter_mut().find(|bin| bin.0 == distance) {
            bin.1 += 1;
        } else if self.bins.len() < DISTANCES {
            self.bins.push((distance, 1));
        }
    }

    /// The most common distance, the smaller one of equals.
    fn mode(&self) -> Option<i64> {
        self.bins
            .iter()
            .max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(&a.0)))
            .map(|bin| bin.0)
    }

    /// The most common distance if it is three quarters of all.
    fn dominant(&self) -> Option<i64> {
        let mode = self.mode().filter(|&mode| mode > 0)?;
        let times = self.bins.iter().find(|bin| bin.0 == mode)?.1;
        (times * 4 >= self.total * 3).then_some(mode)
    }

    /// The most common distance if it divides all others.
    fn common_step(&self) -> Option<i64> {
        self.mode()
            .filter(|&mode| mode > 0 && self.divisor.is_multiple_of(mode.unsigned_abs()))
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

struct Evidence {
    kind: TimeKind,
    distances: Histogram,
    months: Histogram,
    all_month_starts: bool,
    all_month_ends: bool,
    all_weekdays: bool,
    over_weekend: bool,
    /// Any stamp: months and weeks are anchored on it.
    sample: Timestamp,
    /// Whole numbers that all read as `YYYYMMDD` dates.
    all_like_dates: bool,
}

impl Evidence {
    fn new(kind: TimeKind) -> Self {
        let civil = kind != TimeKind::Integer;
        Self {
            kind,
            distances: Histogram::default(),
            months: Histogram::default(),
            all_month_starts: civil,
            all_month_ends: civil,
            all_weekdays: civil,
            over_weekend: false,
            sample: 0,
            all_like_dates: !civil,
        }
    }

    fn add(&mut self, a: Timestamp, b: Timestamp) {
        let Some(distance) = b.checked_sub(a) else {
            return;
        };
        self.sample = b;
        self.distances.add(distance);
        if self.kind == TimeKind::Integer {
            self.all_like_dates &= looks_like_date(a) && looks_like_date(b);
            return;
        }
        let ((day_a, time_a), (day_b, time_b)) = (split_day(a), split_day(b));
        // A month has at least 28 days: below that no calendar is asked.
        if distance < 28 * MICROS_PER_DAY || time_a != time_b {
            self.all_month_starts = false;
            self.all_month_ends = false;
        }
        if self.all_month_starts || self.all_month_ends {
            match (date_of_day(day_a), date_of_day(day_b)) {
                (Some(a), Some(b)) => {
                    self.all_month_starts &= a.day() == 1 && b.day() == 1;
                    self.all_month_ends &=
                        a.day() == a.days_in_month() && b.day() == b.days_in_month();
                    let years = i64::from(b.year()) - i64::from(a.year());
                    self.months
                        .add(years * 12 + i64::from(b.month()) - i64::from(a.month()));
                }
                _ => (self.all_month_starts, self.all_month_ends) = (false, false),
            }
        }
        let (weekday_a, weekday_b) = (Weekday::of_day(day_a), Weekday::of_day(day_b));
        self.all_weekdays &=
            time_a == time_b && weekday_a < Weekday::Saturday && weekday_b < Weekday::Saturday;
        self.over_weekend |= weekday_a == Weekday::Friday && distance == 3 * MICROS_PER_DAY;
    }

    fn conclude(&self) -> Result<Frequency, InferFailure> {
        if self.distances.bins.is_empty() && self.kind == TimeKind::Integer {
            // Numbers without a second one to compare with: they count.
            return Ok(Frequency::integer(1));
        }
        if self.distances.bins.is_empty() {
            let found = "no series has two time stamps".into();
            return Err(InferFailure {
                found,
                dominant: None,
            });
        }
        let common = self.distances.common_step();
        self.by_month()
            .or_else(|| self.by_day())
            .or_else(|| self.by_step(common?))
            .ok_or_else(|| InferFailure {
                found: self.describe(),
                dominant: self
                    .distances
                    .dominant()
                    .and_then(|step| self.by_step(step)),
            })
    }

    fn by_month(&self) -> Option<Frequency> {
        use FrequencyUnit as U;
        if !(self.all_month_starts || self.all_month_ends) {
            return None;
        }
        let months = self.months.common_step()?;
        let month = Month::ALL[(date_of_day(split_day(self.sample).0)?.month() - 1) as usize];
        // Quarters are anchored on the canonical month of their phase, as `QS-JAN` and `QE-DEC` are.
        let quarter = |at_end: bool| {
            let phase = month.index() % 3;
            Month::ALL[(if at_end { phase + 9 } else { phase }) as usize]
        };
        let (count, unit) = match (months % 12 == 0, months % 3 == 0, self.all_month_starts) {
            (true, _, true) => (months / 12, U::YearStart(month)),
            (true, _, false) => (months / 12, U::YearEnd(month)),
            (false, true, true) => (months / 3, U::QuarterStart(quarter(false))),
            (false, true, false) => (months / 3, U::QuarterEnd(quarter(true))),
            (false, false, true) => (months, U::MonthStart),
            (false, false, false) => (months, U::MonthEnd),
        };
        counted(count, unit)
    }

    fn by_day(&self) -> Option<Frequency> {
        let daily = self.distances.mode()? == MICROS_PER_DAY;
        (daily && self.all_weekdays && self.over_weekend).then_some(Frequency::BUSINESS_DAY)
    }

    fn by_step(&self, step: i64) -> Option<Frequency> {
        use FrequencyUnit as U;
        if self.kind == TimeKind::Integer {
            return counted(step, U::Integer);
        }
        let week = 7 * MICROS_PER_DAY;
        let units = [
            (week, U::Week(Weekday::of_day(split_day(self.sample).0))),
            (MICROS_PER_DAY, U::Day),
            (MICROS_PER_HOUR, U::Hour),
            (MICROS_PER_MINUTE, U::Minute),
            (MICROS_PER_SECOND, U::Second),
            (MICROS_PER_MILLI, U::Millisecond),
        ];
        let (micros, unit) = units.into_iter().find(|(micros, _)| step % micros == 0)?;
        counted(step / micros, unit)
    }

    /// The three most common distances, for a message.
    fn describe(&self) -> String {
        let mut bins = self.distances.bins.clone();
        bins.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let shown: Vec<String> = bins
            .iter()
            .take(3)
            .map(|&(distance, count)| format!("{} ({count} times)", self.name(distance)))
            .collect();
        let mut text = format!(
            "distances between neighbouring time stamps of {}",
            shown.join(", ")
        );
        if bins.len() > 3 {
            text.push_str(&format!(" and {} more", bins.len() - 3));
        }
        if self.all_like_dates {
            text.push_str(
                "; the whole numbers look like dates written as YYYYMMDD, write them as YYYY-MM-DD",
            );
        }
        text
    }

    fn name(&self, distance: i64) -> String {
        if self.kind == TimeKind::Integer {
            return distance.to_string();
        }
        let units = [
            (MICROS_PER_DAY, "days"),
            (MICROS_PER_HOUR, "hours"),
            (MICROS_PER_MINUTE, "minutes"),
            (MICROS_PER_SECOND, "seconds"),
            (1, "microseconds"),
        ];
        let fitting = units.into_iter().find(|(micros, _)| distance % micros == 0);
        let (micros, name) = fitting.unwrap_or((1, "microseconds"));
        format!("{} {name}", distance / micros)
    }
}

fn counted(count: i64, unit: FrequencyUnit) -> Option<Frequency> {
    let count = NonZeroU32::new(u32::try_from(count).ok()?)?;
    Some(Frequency::new(count, unit))
}

/// Whether a number reads as a date between 1800 and 2200 written `YYYYMMDD`.
fn looks_like_date(number: i64) -> bool {
    (1800..2200).contains(&(number / 10_000))
        && (1..=12).contains(&(number / 100 % 100))
        && (1..=31).contains(&(number % 100))
}
