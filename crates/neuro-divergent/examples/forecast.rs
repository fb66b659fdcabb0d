//! Trains a model and prints its forecast: on the embedded airline passengers, or on a CSV file with the columns `unique_id`, `ds`, `y`.
//!
//! ```text
//! cargo run --release --package neuro-divergent --example forecast [-- FILE]
//! ```

use std::error::Error;

use neuro_divergent::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    let panel: Panel = match std::env::args_os().nth(1) {
        Some(file) => read_csv(file, &CsvOptions::default())?,
        None => air_passengers()?,
    };
    // Sees 24 steps, forecasts 12; instruction set, attention and threads as the cargo features say.
    let mut forecaster = Forecaster::new("NHITS", 24, 12)?;
    forecaster.config_mut().train.max_steps = 200;
    let forecast = forecaster.fit(&panel)?.predict(&panel)?;
    forecast.write_csv(std::io::stdout())?;
    Ok(())
}
