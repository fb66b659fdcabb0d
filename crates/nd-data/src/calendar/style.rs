//! Reading a time stamp, and writing it back the way it was written.

use std::fmt::Write;

use jiff::civil::Date;

use super::{
    MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND, Timestamp, date_of_day, day_of_date,
    join_day, split_day,
};

/// What a file's time stamps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TimeKind {
    /// Whole numbers: `1`, `700`.
    Integer,
    /// Months: `1949-01`.
    Month,
    /// Dates: `2016-07-01`.
    Date,
    /// Dates with a time: `2016-07-01 13:00:00`.
    DateTime,
}

/// How a file writes its time stamps, learned from the stamps it holds.
///
/// ```
/// use nd_data::TimeStyle;
/// use nd_data::calendar::timestamp;
/// let ts = timestamp(2016, 7, 1, 13, 0, 0).unwrap();
/// assert_eq!(TimeStyle::DATE_TIME.format(ts), "2016-07-01 13:00:00");
/// assert_eq!(TimeStyle::INTEGER.format(701), "701");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeStyle {
    kind: TimeKind,
    /// Between year, month and day: `-` or `/`.
    date_separator: u8,
    /// Between date and time: a space or `T`.
    time_separator: u8,
    /// Whether seconds are written.
    seconds: bool,
    /// Digits of the fraction of a second.
    fraction_digits: u8,
    offset: Offset,
}

/// The offset from UTC that stamps carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Offset {
    /// None written.
    Absent,
    /// `Z`.
    Zulu,
    /// `+hh:mm`, in minutes.
    Minutes(i16),
}

impl Offset {
    fn micros(self) -> i64 {
        match self {
            Self::Absent | Self::Zulu => 0,
            Self::Minutes(minutes) => i64::from(minutes) * MICROS_PER_MINUTE,
        }
    }
}

impl TimeStyle {
    /// Whole numbers.
    pub const INTEGER: Self = Self::plain(TimeKind::Integer);
    /// `1949-01`.
    pub const MONTH: Self = Self::plain(TimeKind::Month);
    /// `2016-07-01`.
    pub const DATE: Self = Self::plain(TimeKind::Date);
    /// `2016-07-01 13:00:00`.
    pub const DATE_TIME: Self = Self::plain(TimeKind::DateTime);

    const fn plain(kind: TimeKind) -> Self {
        Self {
            kind,
            date_separator: b'-',
            time_separator: b' ',
            seconds: true,
            fraction_digits: 0,
            offset: Offset::Absent,
        }
    }

    /// What the stamps are.
    #[must_use]
    pub fn kind(&self) -> TimeKind {
        self.kind
    }

    /// The text of a stamp; see [`TimeStyle::write`].
    #[must_use]
    pub fn format(&self, ts: Timestamp) -> String {
        let mut text = String::with_capacity(32);
        self.write(ts, &mut text);
        text
    }

    /// Appends the text of a stamp.
    ///
    /// Parts that the style leaves out but the stamp has (a time of day in a file of dates, a day within a month, a
    /// fraction of a second) are written all the same, because losing them would make two stamps look alike. A stamp
    /// outside the years -9999 to 9999 is written as its number of microseconds.
    pub fn write(&self, ts: Timestamp, text: &mut String) {
        // Writing into a String cannot fail.
        let _ = self.write_parts(ts, text);
    }

    fn write_parts(&self, ts: Timestamp, text: &mut String) -> std::fmt::Result {
        if self.kind == TimeKind::Integer {
            return write!(text, "{ts}");
        }
        let (day, micros) = split_day(ts);
        let Some(date) = date_of_day(day) else {
            return write!(text, "{ts}");
        };
        let separator = char::from(self.date_separator);
        write!(text, "{:04}{separator}{:02}", date.year(), date.month())?;
        let at_midnight = micros == 0;
        if self.kind == TimeKind::Month && at_midnight && date.day() == 1 {
            return Ok(());
        }
        write!(text, "{separator}{:02}", date.day())?;
        if self.kind != TimeKind::DateTime && at_midnight {
            return Ok(());
        }
        let (hour, minute) = (
            micros / MICROS_PER_HOUR,
            micros % MICROS_PER_HOUR / MICROS_PER_MINUTE,
        );
        let second = micros % MICROS_PER_MINUTE / MICROS_PER_SECOND;
        let mut fraction = micros % MICROS_PER_SECOND;
        write!(
            text,
            "{}{hour:02}:{minute:02}",
            char::from(self.time_separator)
        )?;
        if self.seconds || second != 0 || fraction != 0 {
            write!(text, ":{second:02}")?;
        }
        let mut digits = usize::from(self.fraction_digits.min(6));
        if fraction != 0 && fraction % 10_i64.pow(6 - digits as u32) != 0 {
            digits = 6;
        }
        if digits > 0 {
            fraction /= 10_i64.pow(6 - digits as u32);
            write!(text, ".{fraction:0digits$}")?;
        }
        match self.offset {
            Offset::Absent => Ok(()),
            Offset::Zulu => text.write_str("Z"),
            Offset::Minutes(minutes) => {
                let sign = if minutes < 0 { '-' } else { '+' };
                write!(
                    text,
                    "{sign}{:02}:{:02}",
                    minutes.abs() / 60,
                    minutes.abs() % 60
                )
            }
        }
    }
}

/// Why a text is no time stamp of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TimeFault {
    /// Not in a known form.
    Syntax,
    /// In a known form, but there is no such date, time or number: the part that does not exist.
    Range(&'static str),
    /// A number among dates, or a date among numbers.
    Mixed(TimeKind),
    /// Some stamps carry an offset from UTC and others do not.
    OffsetMixed,
}

/// What the messages name as understood.
pub(crate) const TIME_FORMS: &str = "2016-07-01, 2016-07-01 13:00, 2016-07-01 13:00:00, 2016-07-01T13:00:00Z, \
     2016-07-01T13:00:00+02:00, 2016-07 (also with `/` for `-`), or a whole number";

/// Reads the time stamps of one file, and learns their style.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimeParser {
    style: Option<TimeStyle>,
}

impl TimeParser {
    /// The style of the stamps read so far; integers if there were none.
    pub(crate) fn style(&self) -> TimeStyle {
        self.style.unwrap_or(TimeStyle::INTEGER)
    }

    /// Reads one stamp. Blanks around it must be gone.
    pub(crate) fn parse(&mut self, text: &[u8]) -> Result<Timestamp, TimeFault> {
        if is_whole_number(text) {
            return self.parse_integer(text);
        }
        let parsed = parse_civil(text)?;
        match &mut self.style {
            None => self.style = Some(parsed.style),
            Some(style) => {
                if style.kind == TimeKind::Integer {
                    return Err(TimeFault::Mixed(TimeKind::Integer));
                }
                // A bare date among date-times is its midnight; it says nothing about offsets.
                let dated = parsed.style.kind == TimeKind::DateTime;
                if dated && style.kind == TimeKind::DateTime {
                    let without = (
                        style.offset == Offset::Absent,
                        parsed.style.offset == Offset::Absent,
                    );
                    if without.0 != without.1 {
                        return Err(TimeFault::OffsetMixed);
                    }
                    style.seconds |= parsed.style.seconds;
                    style.fraction_digits = style.fraction_digits.max(parsed.style.fraction_digits);
                } else if parsed.style.kind > style.kind {
                    *style = parsed.style;
                }
            }
        }
        // Every instant is expressed in the offset of the first stamp.
        let own = parsed.style.offset.micros();
        let common = self.style().offset.micros();
        parsed
            .civil
            .checked_add(common - own)
            .ok_or(TimeFault::Range("time"))
    }

    fn parse_integer(&mut self, text: &[u8]) -> Result<Timestamp, TimeFault> {
        let style = self.style.get_or_insert(TimeStyle::INTEGER);
        if style.kind != TimeKind::Integer {
            return Err(TimeFault::Mixed(style.kind));
        }
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let mut value: i64 = 0;
        for &digit in digits {
            let digit = i64::from(digit - b'0');
            value = value
                .checked_mul(10)
                .and_then(|v| {
                    if negative {
                        v.checked_sub(digit)
                    } else {
                        v.checked_add(digit)
                    }
                })
                .ok_or(TimeFault::Range("number (more than 64 bits)"))?;
        }
        Ok(value)
    }
}

fn is_whole_number(text: &[u8]) -> bool {
    let digits = match text {
        [b'-' | b'+', rest @ ..] => rest,
        _ => text,
    };
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

struct Civil {
    civil: Timestamp,
    style: TimeStyle,
}

/// Two digits at the front of a text.
fn two_digits(text: &[u8]) -> Option<(i64, &[u8])> {
    match text {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] => {
            Some((i64::from(tens - b'0') * 10 + i64::from(ones - b'0'), rest))
        }
        _ => None,
    }
}

fn parse_civil(text: &[u8]) -> Result<Civil, TimeFault> {
    let syntax = TimeFault::Syntax;
    let (century, rest) = two_digits(text).ok_or_else(|| syntax.clone())?;
    let (years, rest) = two_digits(rest).ok_or_else(|| syntax.clone())?;
    let (&date_separator, rest) = rest.split_first().ok_or_else(|| syntax.clone())?;
    if !matches!(date_separator, b'-' | b'/') {
        return Err(syntax);
    }
    let (month, rest) = two_digits(rest).ok_or_else(|| syntax.clone())?;
    let mut style = TimeStyle {
        date_separator,
        ..TimeStyle::MONTH
    };
    let (day, rest) = match rest {
        [] => (1, rest),
        [separator, rest @ ..] if *separator == date_separator => {
            style.kind = TimeKind::Date;
            two_digits(rest).ok_or_else(|| syntax.clone())?
        }
        _ => return Err(syntax),
    };
    if !(1..=12).contains(&month) {
        return Err(TimeFault::Range("month"));
    }
    let date = Date::new((century * 100 + years) as i16, month as i8, day as i8)
        .map_err(|_| TimeFault::Range("day"))?;
    let mut micros = 0;
    if let [separator @ (b' ' | b'T'), rest @ ..] = rest {
        style.kind = TimeKind::DateTime;
        style.time_separator = *separator;
        micros = parse_time(rest, &mut style)?;
    } else if !rest.is_empty() {
        return Err(syntax);
    }
    let civil = join_day(day_of_date(date), micros).ok_or(TimeFault::Range("year"))?;
    Ok(Civil { civil, style })
}

/// Reads `hh:mm`, `hh:mm:ss`, `hh:mm:ss.ffffff`, each with an optional offset, as microseconds since midnight.
fn parse_time(text: &[u8], style: &mut TimeStyle) -> Result<i64, TimeFault> {
    let syntax = TimeFault::Syntax;
    let (hour, rest) = two_digits(text).ok_or_else(|| syntax.clone())?;
    let rest = rest.strip_prefix(b":").ok_or_else(|| syntax.clone())?;
    let (minute, mut rest) = two_digits(rest).ok_or_else(|| syntax.clone())?;
    let (mut second, mut fraction) = (0, 0);
    style.seconds = false;
    if let Some(after) = rest.strip_prefix(b":") {
        style.seconds = true;
        (second, rest) = two_digits(after).ok_or_else(|| syntax.clone())?;
        if let Some(after) = rest.strip_prefix(b".") {
            let digits = after.iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 || digits > 9 {
                return Err(syntax);
            }
            // Nanoseconds are read, and refused below if they are not whole microseconds.
            let mut nanos: i64 = 0;
            for place in 0..9 {
                let digit = if place < digits {
                    i64::from(after[place] - b'0')
                } else {
                    0
                };
                nanos = nanos * 10 + digit;
            }
            if nanos % 1000 != 0 {
                return Err(TimeFault::Range(
                    "fraction of a second (finer than a microsecond)",
                ));
            }
            fraction = nanos / 1000;
            style.fraction_digits = digits.min(6) as u8;
            rest = &after[digits..];
        }
    }
    style.offset = parse_offset(rest)?;
    for (value, limit, name) in [
        (hour, 23, "hour"),
        (minute, 59, "minute"),
        (second, 59, "second"),
    ] {
        if value > limit {
            return Err(TimeFault::Range(name));
        }
    }
    Ok(hour * MICROS_PER_HOUR + minute * MICROS_PER_MINUTE + second * MICROS_PER_SECOND + fraction)
}

/// Reads nothing, `Z`, `+hh`, `+hhmm` or `+hh:mm`.
fn parse_offset(text: &[u8]) -> Result<Offset, TimeFault> {
    let (negative, rest) = match text {
        [] => return Ok(Offset::Absent),
        [b'Z' | b'z'] => return Ok(Offset::Zulu),
        [b'+', rest @ ..] => (false, rest),
        [b'-', rest @ ..] => (true, rest),
        _ => return Err(TimeFault::Syntax),
    };
    let (hours, rest) = two_digits(rest).ok_or(TimeFault::Syntax)?;
    let rest = rest.strip_prefix(b":").unwrap_or(rest);
    let minutes = match rest {
        [] => 0,
        _ => match two_digits(rest) {
            Some((minutes, [])) => minutes,
            _ => return Err(TimeFault::Syntax),
        },
    };
    if hours > 23 || minutes > 59 {
        return Err(TimeFault::Range("offset from UTC"));
    }
    let minutes = (hours * 60 + minutes) as i16;
    Ok(Offset::Minutes(if negative { -minutes } else { minutes }))
}
