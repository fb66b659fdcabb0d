//! Neural forecasting models and the loop that trains them.

#![forbid(unsafe_code)]

pub mod checkpoint;
mod defaults;
pub mod error;
pub mod forecast;
pub mod forecaster;
pub mod limits;
pub mod loss;
pub mod models;
pub mod nn;
pub mod parallel;
pub mod train;
pub mod zoo;

pub use defaults::default_options;
pub use error::ModelError;
pub use forecast::{Forecast, SeriesForecast};
pub use forecaster::{FitHooks, Fitted, Forecaster, ForecasterConfig};
pub use nn::ModelDims;
pub use zoo::{ModelConfig, ZOO, ZooEntry};

/// The crate of the panels that are trained on and forecast.
pub use nd_data;
