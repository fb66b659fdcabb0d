//! What to do about data that are not as a panel needs them.

use std::str::FromStr;

use crate::calendar::Frequency;
use crate::error::{DataError, choose};

/// What to do when a time stamp occurs again in its series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DuplicatePolicy {
    /// Refuse the data.
    #[default]
    Error,
    /// Keep the row that comes first in the input.
    KeepFirst,
    /// Keep the row that comes last in the input.
    KeepLast,
    /// Average the observed values of each column; a column with none stays missing.
    Mean,
}

impl FromStr for DuplicatePolicy {
    type Err = DataError;

    /// Reads `error`, `first`, `last`, `mean`.
    fn from_str(text: &str) -> Result<Self, DataError> {
        let known = [
            ("error", Self::Error),
            ("first", Self::KeepFirst),
            ("last", Self::KeepLast),
            ("mean", Self::Mean),
        ];
        choose("duplicates", text, &known)
    }
}

/// What to do when the rows of a series do not ascend in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OrderPolicy {
    /// Refuse the data.
    #[default]
    Error,
    /// Sort by time; equal stamps keep their order.
    Sort,
}

/// What to do when stamps are missing between two rows of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GapPolicy {
    /// Refuse the data.
    #[default]
    Error,
    /// Insert rows that are marked as not observed and repeat the last observed value of each variable, as
    /// [`MissingPolicy::Mask`] does.
    Mask,
    /// Insert copies of the row before the gap.
    ForwardFill,
    /// Insert rows on the straight line between the rows around the gap (also for exogenous columns, flags included).
    /// Where one of those rows is itself not observed, the inserted rows are as those of [`GapPolicy::Mask`].
    Linear,
    /// Leave irregular series as they are: models then see rows, not time, as NeuralForecast's do.
    Keep,
}

impl FromStr for GapPolicy {
    type Err = DataError;

    /// Reads `error`, `mask`, `ffill`, `linear`, `keep`.
    fn from_str(text: &str) -> Result<Self, DataError> {
        let known = [
            ("error", Self::Error),
            ("mask", Self::Mask),
            ("ffill", Self::ForwardFill),
            ("linear", Self::Linear),
            ("keep", Self::Keep),
        ];
        choose("gaps", text, &known)
    }
}

/// What to do about a value that is missing: an empty field, `NaN`, `NA` (or a NaN given from code).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MissingPolicy {
    /// Refuse the data.
    #[default]
    Error,
    /// Mark the whole row as not observed. Losses, metrics and window statistics skip such rows; a missing exogenous value
    /// masks its row too. What stands there all the same, where a model's inputs have it, is the last observed value of the
    /// variable (before the first observation the first observed value, in a series without any zero).
    Mask,
    /// Repeat the value before it; a series that begins with a missing value is refused.
    ForwardFill,
    /// Store zero as if it had been observed.
    Zero,
}

impl FromStr for MissingPolicy {
    type Err = DataError;

    /// Reads `error`, `mask`, `ffill`, `zero`.
    fn from_str(text: &str) -> Result<Self, DataError> {
        let known = [
            ("error", Self::Error),
            ("mask", Self::Mask),
            ("ffill", Self::ForwardFill),
            ("zero", Self::Zero),
        ];
        choose("missing", text, &known)
    }
}

/// How to repair the input of a panel. The default refuses everything irregular, naming the place.
///
/// The steps run in this order: sort, merge duplicates, fill missing values, fill gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Repeated time stamps.
    pub duplicates: DuplicatePolicy,
    /// Rows out of order.
    pub order: OrderPolicy,
    /// Missing time stamps.
    pub gaps: GapPolicy,
    /// Missing values.
    pub missing: MissingPolicy,
    /// The frequency; inferred from the time stamps if `None`.
    pub frequency: Option<Frequency>,
}
