//! Frequencies as text, in the aliases of pandas.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use super::{Frequency, FrequencyUnit, Month, Weekday};
use crate::error::DataError;

const WEEKDAYS: [&str; 7] = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"];
const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];

impl Weekday {
    /// The three letters of the day in an alias (`MON`).
    #[must_use]
    pub fn alias(self) -> &'static str {
        WEEKDAYS[self.index() as usize]
    }
}

impl Month {
    /// The three letters of the month in an alias (`JAN`).
    #[must_use]
    pub fn alias(self) -> &'static str {
        MONTHS[self.index() as usize]
    }
}

impl fmt::Display for Frequency {
    /// The alias of pandas: `h`, `15min`, `MS`, `W-SUN`, `QS-JAN`; an integer step is the number alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use FrequencyUnit as U;
        if self.is_integer() {
            return write!(f, "{}", self.count());
        }
        if self.count() != 1 {
            write!(f, "{}", self.count())?;
        }
        match self.unit() {
            U::Integer => Ok(()),
            U::Millisecond => f.write_str("ms"),
            U::Second => f.write_str("s"),
            U::Minute => f.write_str("min"),
            U::Hour => f.write_str("h"),
            U::Day => f.write_str("D"),
            U::BusinessDay => f.write_str("B"),
            U::Week(day) => write!(f, "W-{}", day.alias()),
            U::MonthStart => f.write_str("MS"),
            U::MonthEnd => f.write_str("ME"),
            U::QuarterStart(month) => write!(f, "QS-{}", month.alias()),
            U::QuarterEnd(month) => write!(f, "QE-{}", month.alias()),
            U::YearStart(month) => write!(f, "YS-{}", month.alias()),
            U::YearEnd(month) => write!(f, "YE-{}", month.alias()),
        }
    }
}

impl FromStr for Frequency {
    type Err = DataError;

    /// Reads an alias: an optional count, a unit, an optional anchor (`2h`, `15min`, `W-MON`, `QS-FEB`); digits alone
    /// are an integer step.
    ///
    /// The older spellings `H`, `T`, `S`, `M`, `Q`, `A`, `AS` and `Y` are understood too.
    ///
    /// # Errors
    /// [`DataError::UnknownFrequency`] for anything else, a count of zero included.
    fn from_str(text: &str) -> Result<Self, DataError> {
        parse(text.trim()).ok_or_else(|| DataError::UnknownFrequency {
            found: crate::error::excerpt(text),
        })
    }
}

fn parse(text: &str) -> Option<Frequency> {
    use FrequencyUnit as U;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, alias) = text.split_at(digits);
    let count = if count.is_empty() {
        NonZeroU32::MIN
    } else {
        count.parse::<NonZeroU32>().ok()?
    };
    if alias.is_empty() {
        return (digits > 0).then(|| Frequency::new(count, U::Integer));
    }
    let (alias, anchor) = match alias.split_once('-') {
        Some((alias, anchor)) => (alias, Some(anchor)),
        None => (alias, None),
    };
    let unit = match (alias, anchor) {
        ("ms" | "L", None) => U::Millisecond,
        ("s" | "S", None) => U::Second,
        ("min" | "T", None) => U::Minute,
        ("h" | "H", None) => U::Hour,
        ("D" | "d", None) => U::Day,
        ("B", None) => U::BusinessDay,
        ("W", anchor) => U::Week(weekday(anchor.unwrap_or("SUN"))?),
        ("MS", None) => U::MonthStart,
        ("ME" | "M", None) => U::MonthEnd,
        ("QS", anchor) => U::QuarterStart(month(anchor.unwrap_or("JAN"))?),
        ("QE" | "Q", anchor) => U::QuarterEnd(month(anchor.unwrap_or("DEC"))?),
        ("YS" | "AS", anchor) => U::YearStart(month(anchor.unwrap_or("JAN"))?),
        ("YE" | "Y" | "A", anchor) => U::YearEnd(month(anchor.unwrap_or("DEC"))?),
        _ => return None,
    };
    Some(Frequency::new(count, unit))
}

fn weekday(alias: &str) -> Option<Weekday> {
    WEEKDAYS
        .iter()
        .position(|w| w.eq_ignore_ascii_case(alias))
        .map(|i| Weekday::ALL[i])
}

fn month(alias: &str) -> Option<Month> {
    MONTHS
        .iter()
        .position(|m| m.eq_ignore_ascii_case(alias))
        .map(|i| Month::ALL[i])
}
