//! Neural time-series forecasting on ordinary CPUs.
//!
//! This crate is the way in: [`prelude`] has what a program needs that reads series, fits a model and forecasts,
//! [`optimizations`] has the kernels and training machinery by what they speed up, and each crate of the workspace is here under
//! a short name.
//!
//! ```
//! use neuro_divergent::prelude::*;
//!
//! let panel: Panel = air_passengers()?;
//! let mut forecaster = Forecaster::new("NLinear", 24, 12)?; // sees 24 months, forecasts 12
//! forecaster.config_mut().train.max_steps = 100;
//! let forecast = forecaster.fit(&panel)?.predict(&panel)?;
//! assert_eq!(forecast.column(0, 0).len(), 12);
//! assert_eq!(panel.format_ds(forecast.series[0].ds[0]), "1961-01");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

#[cfg(doctest)]
mod documents;
pub mod optimizations;

pub use nd_amp as amp;
pub use nd_attention as attention;
pub use nd_core as core;
pub use nd_data as data;
pub use nd_models as models;
pub use nd_parallel as parallel;
pub use nd_simd as simd;

/// What a forecasting program needs.
pub mod prelude {
    pub use nd_core::{RunOptions, SimdLevel};
    pub use nd_data::csv::{CsvOptions, read_csv};
    pub use nd_data::datasets::air_passengers;
    pub use nd_data::{
        DataError, DuplicatePolicy, Frequency, GapPolicy, MissingPolicy, OrderPolicy, Panel,
        PanelBuilder, Repair, Role, Series, WindowScaler,
    };
    pub use nd_models::loss::{LossConfig, LossKind};
    pub use nd_models::train::{Control, Progress, TrainConfig};
    pub use nd_models::{
        FitHooks, Fitted, Forecast, Forecaster, ForecasterConfig, ModelConfig, ModelError, ZOO,
    };
}
