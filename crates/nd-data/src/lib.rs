//! Time-series panels, calendars, windows, scalers and forecast metrics.
//!
//! Data flow: a CSV file or vectors become a [`Panel`] (owned columns); windows are (series, start) pairs over it, never
//! copies; a batch gathers the values of its windows; a window scaler normalises them with their own statistics.
#![forbid(unsafe_code)]

pub mod baseline;
pub mod calendar;
pub mod csv;
pub mod datasets;
mod error;
pub mod metrics;
pub mod panel;
pub mod scaler;
pub mod split;
pub mod window;

pub use calendar::{Frequency, FrequencyUnit, Month, TimeKind, TimeStyle, Timestamp, Weekday};
pub use error::{DataError, Location};
pub use panel::{
    Column, DuplicatePolicy, GapPolicy, MissingPolicy, OrderPolicy, Panel, PanelBuilder, Repair,
    Role, Series,
};
pub use scaler::{LocalScaler, LocalScalerKind, WindowScaler, WindowStatistics};
pub use window::{Exogenous, PanelWindows, WindowConfig, WindowSet, Windows};
