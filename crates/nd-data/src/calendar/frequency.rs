//! Which time stamp follows which.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use jiff::civil::Date;

use super::{
    MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MILLI, MICROS_PER_MINUTE, MICROS_PER_SECOND,
    Timestamp, date_of_day, day_of_date, join_day, split_day,
};

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Weekday {
    /// Monday.
    Monday,
    /// Tuesday.
    Tuesday,
    /// Wednesday.
    Wednesday,
    /// Thursday.
    Thursday,
    /// Friday.
    Friday,
    /// Saturday.
    Saturday,
    /// Sunday.
    Sunday,
}

impl Weekday {
    /// The days in order, Monday first.
    pub const ALL: [Self; 7] = [
        Self::Monday,
        Self::Tuesday,
        Self::Wednesday,
        Self::Thursday,
        Self::Friday,
        Self::Saturday,
        Self::Sunday,
    ];

    /// The day of the week of a day counted from 1970-01-01, which was a Thursday.
    pub(crate) fn of_day(day: i64) -> Self {
        Self::ALL[(day + 3).rem_euclid(7) as usize]
    }

    /// 0 for Monday to 6 for Sunday.
    pub(crate) fn index(self) -> i64 {
        self as i64
    }
}

/// A month of the year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Month {
    /// January.
    January,
    /// February.
    February,
    /// March.
    March,
    /// April.
    April,
    /// May.
    May,
    /// June.
    June,
    /// July.
    July,
    /// August.
    August,
    /// September.
    September,
    /// October.
    October,
    /// November.
    November,
    /// December.
    December,
}

impl Month {
    /// The months in order, January first.
    pub const ALL: [Self; 12] = [
        Self::January,
        Self::February,
        Self::March,
        Self::April,
        Self::May,
        Self::June,
        Self::July,
        Self::August,
        Self::September,
        Self::October,
        Self::November,
        Self::December,
    ];

    /// 0 for January to 11 for December.
    pub(crate) fn index(self) -> i64 {
        self as i64
    }
}

/// The unit that a [`Frequency`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FrequencyUnit {
    /// One, for integer-numbered series.
    Integer,
    /// A millisecond (`ms`).
    Millisecond,
    /// A second (`s`).
    Second,
    /// A minute (`min`).
    Minute,
    /// An hour (`h`).
    Hour,
    /// A day of 24 hours (`D`).
    Day,
    /// Monday to Friday (`B`).
    BusinessDay,
    /// A week whose stamps fall on the named day (`W-SUN`).
    Week(Weekday),
    /// The first day of a month (`MS`).
    MonthStart,
    /// The last day of a month (`ME`).
    MonthEnd,
    /// The first day of a quarter; the named month begins one (`QS-JAN`).
    QuarterStart(Month),
    /// The last day of a quarter; the named month ends one (`QE-DEC`).
    QuarterEnd(Month),
    /// The first day of the named month, once a year (`YS-JAN`).
    YearStart(Month),
    /// The last day of the named month, once a year (`YE-DEC`).
    YearEnd(Month),
}

/// The step of a regular series: so many of a [`FrequencyUnit`].
///
/// ```
/// use nd_data::{Frequency, calendar::timestamp};
/// let month_end: Frequency = "ME".parse()?;
/// let january = timestamp(2024, 1, 31, 0, 0, 0).unwrap();
/// assert_eq!(month_end.next(january, 1), timestamp(2024, 2, 29, 0, 0, 0));
/// assert_eq!(Frequency::minutes(15).to_string(), "15min");
/// # Ok::<(), nd_data::DataError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frequency {
    count: NonZeroU32,
    unit: FrequencyUnit,
}

/// The stamps of the years -9999 to 9999, which are those the calendar knows.
const CIVIL_RANGE: RangeInclusive<Timestamp> = -377_705_116_800_000_000..=253_402_300_799_999_999;

/// How a frequency computes.
enum Rule {
    /// A constant number of microseconds (or of ones).
    Fixed(i64),
    /// Business days.
    Business,
    /// Weeks: stamps on the day of the week with this index.
    Weekly(i64),
    /// Months: one stamp every `period` months, in months whose index is `phase` modulo `period`.
    Monthly {
        period: i64,
        phase: i64,
        at_end: bool,
    },
}

impl Frequency {
    /// One hour.
    pub const HOUR: Self = Self::one(FrequencyUnit::Hour);
    /// One day.
    pub const DAY: Self = Self::one(FrequencyUnit::Day);
    /// Monday to Friday.
    pub const BUSINESS_DAY: Self = Self::one(FrequencyUnit::BusinessDay);
    /// The first of every month.
    pub const MONTH_START: Self = Self::one(FrequencyUnit::MonthStart);
    /// The last of every month.
    pub const MONTH_END: Self = Self::one(FrequencyUnit::MonthEnd);

    const fn one(unit: FrequencyUnit) -> Self {
        Self {
            count: NonZeroU32::MIN,
            unit,
        }
    }

    /// So many of a unit.
    #[must_use]
    pub const fn new(count: NonZeroU32, unit: FrequencyUnit) -> Self {
        Self { count, unit }
    }

    #[track_caller]
    fn counted(count: u32, unit: FrequencyUnit) -> Self {
        match NonZeroU32::new(count) {
            Some(count) => Self { count, unit },
            None => {
                panic!("a frequency of 0 x {unit:?} does not advance; the count must be positive")
            }
        }
    }

    /// Integer-numbered series that advance by `step`.
    ///
    /// # Panics
    /// If `step` is zero.
    #[must_use]
    #[track_caller]
    pub fn integer(step: u32) -> Self {
        Self::counted(step, FrequencyUnit::Integer)
    }

    /// Every `n` minutes.
    ///
    /// # Panics
    /// If `n` is zero.
    #[must_use]
    #[track_caller]
    pub fn minutes(n: u32) -> Self {
        Self::counted(n, FrequencyUnit::Minute)
    }

    /// Every `n` hours.
    ///
    /// # Panics
    /// If `n` is zero.
    #[must_use]
    #[track_caller]
    pub fn hours(n: u32) -> Self {
        Self::counted(n, FrequencyUnit::Hour)
    }

    /// Every `n` days.
    ///
    /// # Panics
    /// If `n` is zero.
    #[must_use]
    #[track_caller]
    pub fn days(n: u32) -> Self {
        Self::counted(n, FrequencyUnit::Day)
    }

    /// Every week on the same day.
    #[must_use]
    pub const fn weekly(day: Weekday) -> Self {
        Self::one(FrequencyUnit::Week(day))
    }

    /// How many units one step has.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count.get()
    }

    /// The unit.
    #[must_use]
    pub const fn unit(&self) -> FrequencyUnit {
        self.unit
    }

    /// Whether this frequency numbers its stamps instead of dating them.
    #[must_use]
    pub const fn is_integer(&self) -> bool {
        matches!(self.unit, FrequencyUnit::Integer)
    }

    /// Whether one step is as long as one of another frequency, wherever in a week, month or year it falls: `MS` and `ME`, `W-SUN` and
    /// `W-MON`, `24h` and `D`, `3MS` and `QS`.
    ///
    /// ```
    /// use nd_data::Frequency;
    /// let monthly: Frequency = "ME".parse()?;
    /// assert!(monthly.same_step(&Frequency::MONTH_START));
    /// assert!(!monthly.same_step(&Frequency::DAY));
    /// # Ok::<(), nd_data::DataError>(())
    /// ```
    #[must_use]
    pub fn same_step(&self, other: &Self) -> bool {
        // A kind of step, and how many of it: numbers, microseconds, business days, months.
        let length = |frequency: &Self| {
            let count = i128::from(frequency.count.get());
            match frequency.rule() {
                Rule::Fixed(_) if frequency.is_integer() => (0, count),
                Rule::Fixed(micros) => (1, count * i128::from(micros)),
                Rule::Weekly(_) => (1, count * i128::from(7 * MICROS_PER_DAY)),
                Rule::Business => (2, count),
                Rule::Monthly { period, .. } => (3, count * i128::from(period)),
            }
        };
        length(self) == length(other)
    }

    fn rule(&self) -> Rule {
        use FrequencyUnit as U;
        match self.unit {
            U::Integer => Rule::Fixed(1),
            U::Millisecond => Rule::Fixed(MICROS_PER_MILLI),
            U::Second => Rule::Fixed(MICROS_PER_SECOND),
            U::Minute => Rule::Fixed(MICROS_PER_MINUTE),
            U::Hour => Rule::Fixed(MICROS_PER_HOUR),
            U::Day => Rule::Fixed(MICROS_PER_DAY),
            U::BusinessDay => Rule::Business,
            U::Week(day) => Rule::Weekly(day.index()),
            U::MonthStart => Rule::Monthly {
                period: 1,
                phase: 0,
                at_end: false,
            },
            U::MonthEnd => Rule::Monthly {
                period: 1,
                phase: 0,
                at_end: true,
            },
            U::QuarterStart(m) => Rule::Monthly {
                period: 3,
                phase: m.index() % 3,
                at_end: false,
            },
            U::QuarterEnd(m) => Rule::Monthly {
                period: 3,
                phase: m.index() % 3,
                at_end: true,
            },
            U::YearStart(m) => Rule::Monthly {
                period: 12,
                phase: m.index(),
                at_end: false,
            },
            U::YearEnd(m) => Rule::Monthly {
                period: 12,
                phase: m.index(),
                at_end: true,
            },
        }
    }

    /// Whether a stamp can belong to this frequency: a business day, the right day of the week, the first of the month.
    ///
    /// Fixed steps accept every stamp. The time of day is free.
    #[must_use]
    pub fn is_on(&self, ts: Timestamp) -> bool {
        let (day, _) = split_day(ts);
        match self.rule() {
            Rule::Fixed(_) => true,
            Rule::Business => Weekday::of_day(day).index() < 5,
            Rule::Weekly(weekday) => Weekday::of_day(day).index() == weekday,
            Rule::Monthly {
                period,
                phase,
                at_end,
            } => date_of_day(day).is_some_and(|date| {
                let anchor = if at_end { date.days_in_month() } else { 1 };
                date.day() == anchor && month_index(date).rem_euclid(period) == phase
            }),
        }
    }

    /// The stamp `k` steps after `ts` (before it, for negative `k`).
    ///
    /// A stamp that is not [on](Self::is_on) the calendar counts from the last one before it when `k > 0` and from the
    /// first one after it when `k < 0`, so that one step always arrives on the calendar; with `k = 0` it is returned
    /// as it is. `None` if the result lies outside the calendar (years -9999 to 9999).
    #[must_use]
    pub fn next(&self, ts: Timestamp, k: i64) -> Option<Timestamp> {
        if k == 0 {
            return Some(ts);
        }
        let units = k.checked_mul(i64::from(self.count.get()))?;
        let (day, micros) = split_day(ts);
        let next = match self.rule() {
            Rule::Fixed(step) => ts.checked_add(units.checked_mul(step)?)?,
            Rule::Business => {
                let position = business_position(day, k < 0).checked_add(units)?;
                let (week, weekday) = (position.div_euclid(5), position.rem_euclid(5));
                join_day(
                    week.checked_mul(7)?.checked_add(weekday)?.checked_sub(3)?,
                    micros,
                )?
            }
            Rule::Weekly(weekday) => {
                let past = (Weekday::of_day(day).index() - weekday).rem_euclid(7);
                let anchored = if k < 0 && past != 0 {
                    day - past + 7
                } else {
                    day - past
                };
                join_day(anchored.checked_add(units.checked_mul(7)?)?, micros)?
            }
            Rule::Monthly {
                period,
                phase,
                at_end,
            } => {
                let date = date_of_day(day)?;
                let month = month_position(date, period, phase, at_end, k < 0)
                    .checked_add(units)?
                    .checked_mul(period)?
                    .checked_add(phase)?;
                let first = date_of_month(month)?;
                let date = if at_end { first.last_of_month() } else { first };
                join_day(day_of_date(date), micros)?
            }
        };
        (self.is_integer() || CIVIL_RANGE.contains(&next)).then_some(next)
    }

    /// How many steps lead from `a` to `b`; `None` if no whole number does.
    #[must_use]
    pub fn steps_between(&self, a: Timestamp, b: Timestamp) -> Option<i64> {
        let count = i64::from(self.count.get());
        let rule = self.rule();
        if let Rule::Fixed(step) = rule {
            let (difference, step) = (b.checked_sub(a)?, step * count);
            return (difference % step == 0).then_some(difference / step);
        }
        let ((day_a, time_a), (day_b, time_b)) = (split_day(a), split_day(b));
        if time_a != time_b || !self.is_on(a) || !self.is_on(b) {
            return None;
        }
        let units = match rule {
            Rule::Fixed(step) => (b - a) / step,
            Rule::Business => business_position(day_b, false) - business_position(day_a, false),
            Rule::Weekly(_) => (day_b - day_a) / 7,
            Rule::Monthly { period, .. } => {
                (month_index(date_of_day(day_b)?) - month_index(date_of_day(day_a)?)) / period
            }
        };
        (units % count == 0).then_some(units / count)
    }

    /// The stamps `start`, one step later, and so on: `count` of them.
    ///
    /// `None` if the last lies outside the calendar.
    #[must_use]
    pub fn range(&self, start: Timestamp, count: usize) -> Option<Vec<Timestamp>> {
        let last = i64::try_from(count.saturating_sub(1)).ok()?;
        self.next(start, last)?;
        (0..count).map(|k| self.next(start, k as i64)).collect()
    }
}

/// The number of business days since Monday 1969-12-29; a weekend counts as the Friday before it, or as the Monday
/// after it if `round_up`.
fn business_position(day: i64, round_up: bool) -> i64 {
    let monday_based = day + 3;
    let (week, weekday) = (monday_based.div_euclid(7), monday_based.rem_euclid(7));
    week * 5
        + if round_up {
            weekday.min(5)
        } else {
            weekday.min(4)
        }
}

/// Months since January of the year 0.
fn month_index(date: Date) -> i64 {
    i64::from(date.year()) * 12 + i64::from(date.month()) - 1
}

/// The first day of a month counted from January of the year 0.
fn date_of_month(month: i64) -> Option<Date> {
    let year = i16::try_from(month.div_euclid(12)).ok()?;
    let month = i8::try_from(month.rem_euclid(12)).ok()? + 1;
    Date::new(year, month, 1).ok()
}

/// The last anchor at or before a date (or the first at or after it, if `round_up`), as a count of periods.
fn month_position(date: Date, period: i64, phase: i64, at_end: bool, round_up: bool) -> i64 {
    let month = month_index(date) - phase;
    let position = month.div_euclid(period);
    let in_anchor_month = month.rem_euclid(period) == 0;
    let last = date.days_in_month();
    let on = in_anchor_month && date.day() == if at_end { last } else { 1 };
    if on {
        return position;
    }
    // The anchor of `position` lies after the date only for month ends inside the anchor month.
    let anchor_is_later = at_end && in_anchor_month;
    match (anchor_is_later, round_up) {
        (true, true) | (false, false) => position,
        (true, false) => position - 1,
        (false, true) => position + 1,
    }
}
