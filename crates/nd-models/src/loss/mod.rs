//! What a forecast is trained to minimise.
//!
//! A loss is chosen by a [`LossConfig`], plain data with NeuralForecast's names, and built for a horizon and an element type. All but two
//! are weighted means: each entry counts as often as its mask times the weight of its step says. An entry of weight zero
//! counts nothing, whatever it holds. The sums and gradients are `nd_simd`'s kernels, one pass for both.
//!
//! The two others: [`LossKind::FreDf`] adds a mean over frequencies, which needs the whole batch at once; and
//! [`LossKind::NeuralForecastTukey`] averages over entries rather than weights.

mod config;
mod fredf;
mod masked;
mod quantiles;
mod tukey;

pub use config::{LossConfig, LossKind};
pub use quantiles::Quantiles;
