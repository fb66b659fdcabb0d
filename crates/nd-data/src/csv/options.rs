//! What a CSV file looks like, and what to do where it does not.

use std::str::FromStr;

use crate::error::{DataError, choose};
use crate::panel::Repair;

/// Which columns mean what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One row per series and time stamp: `unique_id,ds,y[,exogenous...]`.
    Long {
        /// The column that names the series. `None` takes `unique_id` if there is one, and otherwise reads the file as
        /// a single series named after the target column.
        unique_id: Option<String>,
        /// The target column; `None` for a table of future values, which has none.
        y: Option<String>,
        /// The column of availability flags (0 or 1), used if the file has it.
        available_mask: String,
        /// Exogenous columns known up to the forecast's origin.
        historic: Vec<String>,
        /// Exogenous columns known beyond the forecast's origin.
        future: Vec<String>,
        /// Columns with one value per series.
        statics: Vec<String>,
        /// What to do with columns that no other option names.
        others: OtherColumns,
    },
    /// One row per time stamp, one column per series: `date,HUFL,HULL,...,OT`.
    Wide {
        /// The columns to read as series, in this order; empty for all.
        series: Vec<String>,
    },
}

/// What to do with a column that no option names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OtherColumns {
    /// Read it as an exogenous column known up to the forecast's origin.
    #[default]
    Historic,
    /// Read it as an exogenous column known beyond the forecast's origin.
    Future,
    /// Leave it out.
    Ignore,
    /// Refuse the file.
    Error,
}

/// What separates the columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Delimiter {
    /// `,`
    #[default]
    Comma,
    /// `;`
    Semicolon,
    /// A tabulator.
    Tab,
    /// `|`
    Pipe,
}

impl Delimiter {
    /// All delimiters, the likely ones first.
    pub(crate) const ALL: [Self; 4] = [Self::Comma, Self::Semicolon, Self::Tab, Self::Pipe];

    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
            Self::Pipe => b'|',
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Comma => "`,`",
            Self::Semicolon => "`;`",
            Self::Tab => "tabulators",
            Self::Pipe => "`|`",
        }
    }
}

impl FromStr for Delimiter {
    type Err = DataError;

    /// Reads the character, or its name: `comma`, `semicolon`, `tab`, `pipe`.
    fn from_str(text: &str) -> Result<Self, DataError> {
        let known = [
            (",", Self::Comma),
            (";", Self::Semicolon),
            ("\t", Self::Tab),
            ("|", Self::Pipe),
            ("comma", Self::Comma),
            ("semicolon", Self::Semicolon),
            ("tab", Self::Tab),
            ("pipe", Self::Pipe),
        ];
        choose("delimiter", text, &known)
    }
}

/// What separates the whole part of a number from its fraction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DecimalMark {
    /// `1.5`
    #[default]
    Point,
    /// `1,5`
    Comma,
}

impl FromStr for DecimalMark {
    type Err = DataError;

    /// Reads the character, or its name: `point`, `comma`.
    fn from_str(text: &str) -> Result<Self, DataError> {
        let known = [
            (".", Self::Point),
            (",", Self::Comma),
            ("point", Self::Point),
            ("comma", Self::Comma),
        ];
        choose("decimal", text, &known)
    }
}

/// How characters are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// UTF-8, with or without a byte order mark.
    #[default]
    Utf8,
    /// ISO 8859-1: every byte is a character.
    Latin1,
}

impl FromStr for Encoding {
    type Err = DataError;

    /// Reads `utf-8` or `latin-1`.
    fn from_str(text: &str) -> Result<Self, DataError> {
        choose(
            "encoding",
            text,
            &[("utf-8", Self::Utf8), ("latin-1", Self::Latin1)],
        )
    }
}

/// How to read a CSV file.
///
/// ```
/// use nd_data::csv::CsvOptions;
/// let ett = CsvOptions::wide("date");
/// let air = CsvOptions::single("Month", "#Passengers");
/// let long = CsvOptions { ds: "timestamp".into(), ..CsvOptions::default() };
/// assert_ne!(ett.layout, long.layout);
/// assert_eq!(air.ds, "Month");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CsvOptions {
    /// The column of time stamps.
    pub ds: String,
    /// What the other columns are.
    pub layout: Layout,
    /// Columns to leave out; `""` is a column without a name (an exported index).
    pub ignore: Vec<String>,
    /// What separates the columns.
    pub delimiter: Delimiter,
    /// What separates the fraction of a number.
    pub decimal: DecimalMark,
    /// How characters are stored.
    pub encoding: Encoding,
    /// Texts that mean "no value"; an empty field always does.
    pub missing_texts: Vec<String>,
    /// The longest row in bytes; a quote that is never closed is caught here instead of filling the memory.
    pub longest_row: u64,
    /// What to do about irregular data.
    pub repair: Repair,
}

impl Default for CsvOptions {
    /// The long layout `unique_id,ds,y`, every further column historic.
    fn default() -> Self {
        let missing = [
            "NaN", "nan", "NAN", "NA", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL", "None",
        ];
        Self {
            ds: "ds".into(),
            layout: Layout::Long {
                unique_id: None,
                y: Some("y".into()),
                available_mask: "available_mask".into(),
                historic: Vec::new(),
                future: Vec::new(),
                statics: Vec::new(),
                others: OtherColumns::default(),
            },
            ignore: Vec::new(),
            delimiter: Delimiter::default(),
            decimal: DecimalMark::default(),
            encoding: Encoding::default(),
            missing_texts: missing.map(Into::into).into(),
            longest_row: 1 << 20,
            repair: Repair::default(),
        }
    }
}

impl CsvOptions {
    /// One column per series, and the named column of time stamps.
    #[must_use]
    pub fn wide(ds: impl Into<String>) -> Self {
        Self {
            ds: ds.into(),
            layout: Layout::Wide { series: Vec::new() },
            ..Self::default()
        }
    }

    /// A single series in two columns; others are ignored.
    #[must_use]
    pub fn single(ds: impl Into<String>, y: impl Into<String>) -> Self {
        let mut options = Self {
            ds: ds.into(),
            ..Self::default()
        };
        if let Layout::Long {
            y: target, others, ..
        } = &mut options.layout
        {
            *target = Some(y.into());
            *others = OtherColumns::Ignore;
        }
        options
    }

    /// A table of future values in the long layout: no target, every further column known in the future.
    #[must_use]
    pub fn future_values() -> Self {
        let mut options = Self::default();
        if let Layout::Long { y, others, .. } = &mut options.layout {
            *y = None;
            *others = OtherColumns::Future;
        }
        options
    }

    /// The same options with these columns read as known in the future (long layout).
    #[must_use]
    pub fn with_future(mut self, columns: &[&str]) -> Self {
        if let Layout::Long { future, .. } = &mut self.layout {
            future.extend(columns.iter().map(ToString::to_string));
        }
        self
    }

    /// The same options with these columns read as known up to the origin (long layout).
    #[must_use]
    pub fn with_historic(mut self, columns: &[&str]) -> Self {
        if let Layout::Long { historic, .. } = &mut self.layout {
            historic.extend(columns.iter().map(ToString::to_string));
        }
        self
    }

    /// The same options with these columns read as constant within each series (long layout).
    #[must_use]
    pub fn with_static(mut self, columns: &[&str]) -> Self {
        if let Layout::Long { statics, .. } = &mut self.layout {
            statics.extend(columns.iter().map(ToString::to_string));
        }
        self
    }

    /// The same options with other repairs.
    #[must_use]
    pub fn with_repair(mut self, repair: Repair) -> Self {
        self.repair = repair;
        self
    }
}
