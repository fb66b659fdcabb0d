//! Data sets that need no file: one real series, and a generator.

mod synthetic;

pub use synthetic::SyntheticHourly;

use std::str::FromStr;

use nd_core::Real;

use crate::csv::{CsvOptions, read_csv_from};
use crate::error::DataError;
use crate::panel::Panel;

/// The file as it is: `Month,#Passengers`, 144 rows.
const AIR_PASSENGERS: &str = include_str!("../../data/air_passengers.csv");

/// Monthly totals of international airline passengers in thousands, 1949 to 1960: one series of 144 rows.
///
/// (Box, Jenkins and Reinsel, "Time series analysis: forecasting and control", series G; public domain.)
///
/// ```
/// let panel = nd_data::datasets::air_passengers::<f32>()?;
/// assert_eq!(panel.unique_id(0), "#Passengers");
/// assert_eq!(panel.series_y(0)[..3], [112.0, 118.0, 132.0]);
/// assert_eq!(panel.format_ds(panel.future_ds(0, 1)?[0]), "1961-01");
/// # Ok::<(), nd_data::DataError>(())
/// ```
///
/// # Errors
/// None in practice: the file is part of the crate and its tests read it.
pub fn air_passengers<R: Real + FromStr>() -> Result<Panel<R>, DataError> {
    let options = CsvOptions::single("Month", "#Passengers");
    read_csv_from(AIR_PASSENGERS.as_bytes(), "air_passengers.csv", &options)
}
