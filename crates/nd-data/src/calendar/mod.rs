//! Time stamps, frequencies and their text forms.
//!
//! The simple version: a time stamp is one `i64`. For dates and date-times it counts the microseconds of the *civil*
//! clock since 1970-01-01T00:00:00; for series that are merely numbered it is the number itself. No time zone takes
//! part, so a day always has 24 hours and daylight saving cannot make a regular series irregular. A [`Frequency`] says
//! which stamp follows which; a [`TimeStyle`] remembers how the file wrote its stamps, so that forecasts are written
//! the same way.
//!
//! The tricks: fixed steps (seconds to weeks) are integer arithmetic on the `i64`; business days are arithmetic on
//! (week, day of week); only month-based frequencies visit the civil calendar, which is `jiff`'s.
//!
//! Known weakness: the resolution is one microsecond, and a stamp with an offset (`+02:00`) is moved to the offset of
//! the file's first stamp, so a daily series cut at local midnight across a daylight-saving change is not regular.

mod alias;
mod frequency;
mod infer;
mod style;

pub use frequency::{Frequency, FrequencyUnit, Month, Weekday};
pub(crate) use infer::infer_checked;
pub use infer::infer_frequency;
pub(crate) use style::{TIME_FORMS, TimeFault, TimeParser};
pub use style::{TimeKind, TimeStyle};

use jiff::civil::Date;

/// Microseconds since 1970-01-01T00:00:00 on the civil clock, or the number itself for integer-numbered series.
pub type Timestamp = i64;

pub(crate) const MICROS_PER_MILLI: i64 = 1_000;
pub(crate) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(crate) const MICROS_PER_MINUTE: i64 = 60 * MICROS_PER_SECOND;
pub(crate) const MICROS_PER_HOUR: i64 = 60 * MICROS_PER_MINUTE;
pub(crate) const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;

const EPOCH: Date = Date::constant(1970, 1, 1);

/// The number of days from 1970-01-01 to a date, negative before it.
pub(crate) fn day_of_date(date: Date) -> i64 {
    date.duration_since(EPOCH).as_secs() / 86_400
}

/// The date so many days after 1970-01-01; `None` outside the years -9999 to 9999.
pub(crate) fn date_of_day(day: i64) -> Option<Date> {
    let hours = day.checked_mul(24)?;
    // SignedDuration holds any number of hours whose seconds fit an i64.
    hours.checked_mul(3600)?;
    EPOCH
        .checked_add(jiff::SignedDuration::from_hours(hours))
        .ok()
}

/// Splits a stamp into its day since the epoch and the microseconds since midnight.
pub(crate) fn split_day(ts: Timestamp) -> (i64, i64) {
    (ts.div_euclid(MICROS_PER_DAY), ts.rem_euclid(MICROS_PER_DAY))
}

/// The stamp at so many microseconds after the midnight that begins a day.
pub(crate) fn join_day(day: i64, micros: i64) -> Option<Timestamp> {
    day.checked_mul(MICROS_PER_DAY)?.checked_add(micros)
}

/// The stamp of a civil date and time.
///
/// `None` if there is no such date or time, or the year lies outside -9999 to 9999.
///
/// ```
/// assert_eq!(nd_data::calendar::timestamp(1970, 1, 2, 0, 0, 1), Some(86_401_000_000));
/// assert_eq!(nd_data::calendar::timestamp(2023, 2, 29, 0, 0, 0), None);
/// ```
#[must_use]
pub fn timestamp(
    year: i16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
) -> Option<Timestamp> {
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let date = Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    join_day(day_of_date(date), seconds * MICROS_PER_SECOND)
}
