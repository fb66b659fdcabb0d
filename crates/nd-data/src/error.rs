//! What can be wrong with a user's data, and how it is said.
//!
//! Every message has the same four parts: where it is (file, line, column, series), what was found, what was expected,
//! and what to do about it. The parts are fields, so a program can read them too.

use std::fmt;

use crate::calendar::Frequency;

/// Where in the input something is: the parts that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Location {
    /// The file, as it was named.
    pub file: Option<String>,
    /// The line, counted from 1 with the header.
    pub line: Option<u64>,
    /// The row within its series, counted from 0, where there is no line.
    pub row: Option<usize>,
    /// The name of the column.
    pub column: Option<String>,
    /// The `unique_id` of the series.
    pub series: Option<String>,
}

impl Location {
    /// The same place with a column named.
    #[must_use]
    pub(crate) fn column(mut self: Box<Self>, column: &str) -> Box<Self> {
        self.column = Some(excerpt(column));
        self
    }

    /// The same place with a series named.
    #[must_use]
    pub(crate) fn series(mut self: Box<Self>, series: &str) -> Box<Self> {
        self.series = Some(excerpt(series));
        self
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut part = |f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>| {
            let result = write!(f, "{separator}{text}");
            separator = ", ";
            result
        };
        if let Some(file) = &self.file {
            part(f, format_args!("{file}"))?;
        }
        if let Some(line) = self.line {
            part(f, format_args!("line {line}"))?;
        }
        if let Some(column) = &self.column {
            part(f, format_args!("column `{column}`"))?;
        }
        if let Some(series) = &self.series {
            part(f, format_args!("series `{series}`"))?;
        }
        if let Some(row) = self.row {
            part(f, format_args!("row {row}"))?;
        }
        if self == &Self::default() {
            f.write_str("the data")?;
        }
        Ok(())
    }
}

/// What can be wrong with a file, a panel or its options.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file cannot be opened or read.
    #[error("{file}: cannot be read: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds nothing, not even a header.
    #[error(
        "{file}: the file is empty; expected a header line with column names and one row per observation"
    )]
    EmptyFile {
        /// The file.
        file: String,
    },
    /// There is a header but not a single row.
    #[error("{at}: there is no row of data; expected at least one observation")]
    NoRows {
        /// The file.
        at: Box<Location>,
    },
    /// The first line holds data instead of column names.
    #[error(
        "{file}, line 1: expected column names, found data (`{found}`); add a header line such as `unique_id,ds,y`"
    )]
    MissingHeader {
        /// The file.
        file: String,
        /// The beginning of the line.
        found: String,
    },
    /// A column that is needed does not exist.
    #[error("{file}, line 1: no column `{column}` (wanted as {role}); the file has: {found}{hint}")]
    MissingColumn {
        /// The file.
        file: String,
        /// The name looked for.
        column: String,
        /// What the column is for.
        role: &'static str,
        /// The names there are.
        found: String,
        /// A name that differs only in case or blanks, or another way out.
        hint: String,
    },
    /// Two columns have one name, or one column was given two roles.
    #[error(
        "{file}, line 1: column `{column}` appears twice ({first} and {second}); rename or remove one"
    )]
    DuplicateColumn {
        /// The file.
        file: String,
        /// The name.
        column: String,
        /// Where it is first.
        first: String,
        /// Where it is again.
        second: String,
    },
    /// A column has no name.
    #[error(
        "{file}, line 1: column {position} has no name; name it, or put \"\" into the columns to ignore if it is an exported index"
    )]
    UnnamedColumn {
        /// The file.
        file: String,
        /// The position, counted from 1.
        position: usize,
    },
    /// The header is one field that holds another delimiter.
    #[error(
        "{file}, line 1: expected columns separated by {expected}, but the header looks separated by {found}; set the delimiter option to {found}"
    )]
    WrongDelimiter {
        /// The file.
        file: String,
        /// The delimiter of the options.
        expected: &'static str,
        /// The delimiter the header seems to use.
        found: &'static str,
    },
    /// Bytes that are not text in the expected encoding.
    #[error("{at}: byte {byte} is not UTF-8: {found}; {advice}")]
    Encoding {
        /// The place.
        at: Box<Location>,
        /// The offset in the file of the offending byte, or of the record that holds it.
        byte: u64,
        /// The bytes.
        found: String,
        /// How to convert.
        advice: &'static str,
    },
    /// A row has more or fewer fields than the header.
    #[error(
        "{at}: expected {expected} fields as in the header, found {found}; check for a missing or an unquoted delimiter"
    )]
    RaggedRow {
        /// The place.
        at: Box<Location>,
        /// Fields of the header.
        expected: usize,
        /// Fields of the row.
        found: usize,
    },
    /// One record is longer than any sensible row.
    #[error(
        "{at}: a row longer than {limit} bytes; an opening quote (\") without its end makes the rest of a file one row; if rows are that long, raise longest_row"
    )]
    RecordTooLong {
        /// The place where the row begins.
        at: Box<Location>,
        /// The longest row allowed.
        limit: u64,
    },
    /// A field is no number.
    #[error("{at}: expected a number ({expected}), found `{found}`")]
    BadNumber {
        /// The place.
        at: Box<Location>,
        /// The text.
        found: String,
        /// The form expected.
        expected: &'static str,
    },
    /// A number is infinite, or too large for its type.
    #[error(
        "{at}: expected a finite number, found `{found}`; remove the row, or leave the field empty and choose a policy for missing values"
    )]
    NotFinite {
        /// The place.
        at: Box<Location>,
        /// The text.
        found: String,
    },
    /// A value is missing (empty, `NaN`, `NA`) and the policy forbids it.
    #[error(
        "{at}: the value is missing; fill it, or choose the policy mask, forward fill or zero for missing values{detail}"
    )]
    MissingValue {
        /// The place.
        at: Box<Location>,
        /// More about it.
        detail: &'static str,
    },
    /// An availability flag is neither 0 nor 1.
    #[error("{at}: expected 0 (missing) or 1 (observed), found `{found}`")]
    BadMask {
        /// The place.
        at: Box<Location>,
        /// The text.
        found: String,
    },
    /// A field is no time stamp.
    #[error("{at}: expected a time stamp ({expected}), found `{found}`: {reason}")]
    BadTime {
        /// The place.
        at: Box<Location>,
        /// The text.
        found: String,
        /// Why it is none.
        reason: String,
        /// The forms understood.
        expected: &'static str,
    },
    /// A series without a name.
    #[error("{at}: the series identifier is empty; every row must name its series")]
    EmptySeriesId {
        /// The place.
        at: Box<Location>,
    },
    /// A time stamp occurs twice in a series.
    #[error(
        "{at}: the time stamp {ds} occurs again{earlier}; remove one, or choose the policy keep first, keep last or mean for duplicates"
    )]
    Duplicate {
        /// The place of the second.
        at: Box<Location>,
        /// The time stamp.
        ds: String,
        /// Where it occurred first, as ` (first in line 3)`.
        earlier: String,
    },
    /// A time stamp lies before its predecessor in the same series.
    #[error(
        "{at}: the time stamp {ds} comes after {previous}; sort the rows by series and time, or choose the policy sort"
    )]
    Unsorted {
        /// The place.
        at: Box<Location>,
        /// The time stamp.
        ds: String,
        /// The one before it.
        previous: String,
    },
    /// Time stamps are missing between two neighbours.
    #[error(
        "{at}: {missing} time stamps are missing between {after} and {before} at frequency {frequency}; add the rows, or choose the policy mask, forward fill, linear or keep for gaps"
    )]
    Gap {
        /// The place of the row after the gap.
        at: Box<Location>,
        /// The stamp before the gap.
        after: String,
        /// The stamp after the gap.
        before: String,
        /// How many are missing.
        missing: i64,
        /// The frequency.
        frequency: Frequency,
    },
    /// Filling the gaps would multiply the data.
    #[error(
        "{at}: filling the gaps at frequency {frequency} would add {missing} rows to the {rows} {what}, so that most were invented; check the time stamps for a mistyped year, name the frequency if the data are sparse, or choose the policy keep for gaps"
    )]
    GapTooLarge {
        /// The place of the row after the gap.
        at: Box<Location>,
        /// The frequency.
        frequency: Frequency,
        /// Rows that would be added: in this gap alone, or up to and including it.
        missing: u64,
        /// Rows there are.
        rows: usize,
        /// Whose rows: `of the series`, whose gap alone is too long, or `of all series`.
        what: &'static str,
    },
    /// A time stamp that the frequency never reaches.
    #[error(
        "{at}: the time stamp {ds} is not a whole number of steps of frequency {frequency} after {previous}; correct it, name another frequency, or choose the policy keep for gaps"
    )]
    OffCalendar {
        /// The place.
        at: Box<Location>,
        /// The stamp.
        ds: String,
        /// The stamp before it, or the stamp itself if it is the first.
        previous: String,
        /// The frequency.
        frequency: Frequency,
    },
    /// The frequency cannot be inferred.
    #[error("{}the frequency cannot be inferred{}: {found}; name it (for example `h`, `15min`, `D`, `B`, `W-SUN`, `MS`, `QS`, `YS`, or a whole number for integer time stamps)", file_prefix(.file), series_suffix(.series))]
    FrequencyUnknown {
        /// The file, where the stamps come from one.
        file: Option<String>,
        /// What the stamps look like.
        found: String,
        /// A series that contradicts the others.
        series: Option<String>,
    },
    /// A text that names no frequency.
    #[error(
        "expected a frequency such as `h`, `15min`, `D`, `B`, `W-SUN`, `MS`, `ME`, `QS`, `YS`, or a whole number from 1 to 4294967295, found `{found}`"
    )]
    UnknownFrequency {
        /// The text.
        found: String,
    },
    /// A dated frequency for numbered stamps, or the other way round.
    #[error("{}the frequency {frequency} does not fit time stamps that are {found}; {advice}", file_prefix(.file))]
    FrequencyKind {
        /// The file, where the stamps come from one.
        file: Option<String>,
        /// The frequency.
        frequency: Frequency,
        /// What the stamps are.
        found: &'static str,
        /// What to name instead.
        advice: &'static str,
    },
    /// Future stamps were asked of a panel without a frequency, or beyond the calendar.
    #[error(
        "series `{series}`: the {horizon} time stamps after {last} cannot be computed: {reason}"
    )]
    NoFuture {
        /// The series.
        series: String,
        /// The last stamp.
        last: String,
        /// How many were asked for.
        horizon: usize,
        /// Why not.
        reason: &'static str,
    },
    /// A column that should be constant within a series is not.
    #[error("{at}: a static column must hold one value per series; found {found} after {first}")]
    StaticVaries {
        /// The place.
        at: Box<Location>,
        /// The value.
        found: f64,
        /// The value of the first row.
        first: f64,
    },
    /// Columns of different lengths, or a number of values that does not fit the panel.
    #[error("{at}: expected {expected} values, found {found}")]
    Length {
        /// The place.
        at: Box<Location>,
        /// Values expected.
        expected: usize,
        /// Values found.
        found: usize,
    },
    /// Two series of one name were given to a builder.
    #[error(
        "series `{series}` was added twice; put all its rows into one series, or give the second another name"
    )]
    DuplicateSeries {
        /// The name.
        series: String,
    },
    /// Something was asked for by a name that the panel does not have.
    #[error("no {what} `{name}`; there are: {found}")]
    NotFound {
        /// What was asked for.
        what: &'static str,
        /// The name.
        name: String,
        /// The names there are.
        found: String,
    },
    /// An option has a value it cannot have.
    #[error("option `{option}`: expected {expected}, found {found}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// No window fits the data.
    #[error(
        "no window of {input_size} inputs and {horizon} targets fits: {reason}; shorten input_size or the horizon, enable start_padding, or give longer series"
    )]
    NoWindows {
        /// Inputs of a window.
        input_size: usize,
        /// Targets of a window.
        horizon: usize,
        /// Which series is too short, and by how much.
        reason: String,
    },
    /// Windows fit the data, but none has enough observed values to learn from.
    #[error(
        "no training window of {input_size} inputs and {horizon} targets has enough observed values: {observed} of {rows} training rows are observed, the others are missing or masked; fill the missing values, or check the column they come from"
    )]
    NoObservedWindows {
        /// Inputs of a window.
        input_size: usize,
        /// Targets of a window.
        horizon: usize,
        /// Training rows that are observed.
        observed: usize,
        /// Training rows.
        rows: usize,
    },
    /// Future values are missing for a series that is to be forecast.
    #[error("series `{series}`: {reason}")]
    FutureValues {
        /// The series.
        series: String,
        /// What is wrong with the values.
        reason: String,
    },
}

nd_core::debug_as_display!(DataError);

fn file_prefix(file: &Option<String>) -> String {
    file.as_ref()
        .map(|file| format!("{file}: "))
        .unwrap_or_default()
}

fn series_suffix(series: &Option<String>) -> String {
    series
        .as_ref()
        .map(|name| format!(" (series `{name}`)"))
        .unwrap_or_default()
}

/// The value that a text names, whatever its case; the error lists the names.
pub(crate) fn choose<T: Copy>(
    option: &'static str,
    text: &str,
    known: &[(&str, T)],
) -> Result<T, DataError> {
    let found = known.iter().find(|(name, _)| {
        // A tabulator is a value, and blank.
        name.eq_ignore_ascii_case(text) || name.eq_ignore_ascii_case(text.trim())
    });
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words = known.iter().map(|(name, _)| excerpt(name));
        DataError::InvalidOption {
            option,
            expected: words.collect::<Vec<_>>().join(" or "),
            found: format!("`{}`", excerpt(text)),
        }
    })
}

/// A text of the user's for a message: control characters made visible, and cut when long.
pub(crate) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text
        .chars()
        .take(LONGEST)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// [`excerpt`] of bytes that need not be text.
pub(crate) fn excerpt_bytes(bytes: &[u8]) -> String {
    excerpt(&String::from_utf8_lossy(&bytes[..bytes.len().min(256)]))
}
