//! What to do about data that are not as a panel needs them.

use crate::calendar::Frequency;

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
    /// Insert rows of zeros that are marked as not observed.
    Mask,
    /// Insert copies of the row before the gap.
    ForwardFill,
    /// Insert rows on the straight line between the rows around the gap (also for exogenous columns, flags included).
    /// Where one of those rows is itself not observed, the inserted rows are marked as not observed.
    Linear,
    /// Leave irregular series as they are: models then see rows, not time, as NeuralForecast's do.
    Keep,
}

/// What to do about a value that is missing: an empty field, `NaN`, `NA` (or a NaN given from code).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MissingPolicy {
    /// Refuse the data.
    #[default]
    Error,
    /// Store zero and mark the whole row as not observed. Losses, metrics and window statistics skip such rows; a
    /// missing exogenous value masks its row too.
    Mask,
    /// Repeat the value before it; a series that begins with a missing value is refused.
    ForwardFill,
    /// Store zero as if it had been observed.
    Zero,
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
