//! Layers and the few ops that only these models need.

mod basis;
mod batch_norm;
mod casts;
mod decomposition;
mod dims;
mod linear;
mod lstm;
mod names;
mod pooled;
mod revin;
mod rows;
mod steps;
mod windows;

pub use basis::TrendBasis;
pub use batch_norm::BatchNormLayer;
pub use decomposition::decomposition_weight;
pub use dims::ModelDims;
pub use linear::Linear;
pub use lstm::LstmLayer;
pub use names::{ActivationName, InterpolationMode, PoolingMode};

pub(crate) use basis::SeasonalityBasis;
pub(crate) use casts::{
    Cast, add_forecast, naive_forecast, reversed, reversed_mask, subtract_backcast,
};
pub(crate) use pooled::{pooled_exogenous, pooled_input};
pub(crate) use revin::{RevIn, RevInConfig, normalized_windows};
pub(crate) use rows::denormalize_rows;
pub(crate) use steps::{append_future, mix_steps, step_dropout};
pub(crate) use windows::{centered_windows, flat_windows, sequence_inputs};
