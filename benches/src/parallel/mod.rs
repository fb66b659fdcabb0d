//! What threads are worth: the parallel calls over real models, from one thread to all.
//!
//! [`scaling`] times the same work on one thread and on more, in turns; [`overhead`] what a task costs that does nothing, and what the
//! size of a chunk is worth; [`zoo`] how long one sample and many samples take with every model.

pub mod overhead;
pub mod scaling;
pub mod zoo;

use nd_data::Panel;
use nd_data::datasets::SyntheticHourly;
use nd_models::{Fitted, Forecaster};
use nd_parallel::ParallelConfig;

/// Past hours of a window.
pub const INPUT_SIZE: usize = 96;
/// Hours to forecast.
pub const HORIZON: usize = 24;

/// Threads and chunks of a call.
#[must_use]
pub fn config(threads: usize, chunk_size: usize) -> ParallelConfig {
    ParallelConfig {
        max_threads: Some(threads),
        chunk_size,
    }
}

/// Generated hours.
///
/// # Errors
/// None for lengths above zero.
pub fn panel(series: usize, hours: usize) -> Result<Panel<f32>, String> {
    let data = SyntheticHourly {
        n_series: series,
        length: hours,
        ..SyntheticHourly::default()
    };
    data.panel().map_err(|error| error.to_string())
}

/// The pasts of `count` series.
///
/// # Errors
/// As [`panel`].
pub fn histories(count: usize) -> Result<Vec<Vec<f32>>, String> {
    let panel = panel(count, INPUT_SIZE)?;
    Ok((0..count).map(|i| panel.series_y(i).to_vec()).collect())
}

/// A model with its default settings, to be trained for a few steps only: what it computes takes as long as after many.
///
/// # Errors
/// There is no such model.
pub fn forecaster(model: &str, steps: u64, windows: usize) -> Result<Forecaster, String> {
    let mut forecaster =
        Forecaster::new(model, INPUT_SIZE, HORIZON).map_err(|error| error.to_string())?;
    let train = &mut forecaster.config_mut().train;
    train.max_steps = steps;
    train.windows_batch_size = Some(windows);
    Ok(forecaster)
}

/// The same, trained for one step.
///
/// # Errors
/// There is no such model.
pub fn fitted(model: &str) -> Result<Fitted, String> {
    let forecaster = forecaster(model, 1, 32)?;
    forecaster
        .fit(&panel(2, 400)?)
        .map_err(|error| error.to_string())
}

/// A number that two results share only if all their bits are the same, as good as certainly.
#[must_use]
pub fn digest<'a>(values: impl IntoIterator<Item = &'a f32>) -> u64 {
    // FNV-1a.
    values
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, value| {
            (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0000_0100_0000_01b3)
        })
}
