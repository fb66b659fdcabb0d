//! One sample and many samples, with every model.

use std::hint::black_box;
use std::time::Instant;

use nd_models::ZOO;
use nd_parallel::{Predict, parallel_batch_inference};

use super::{config, fitted, histories};
use crate::statistics::Interval;

/// Samples of one chunk: what is best for throughput of small models and large weights alike.
pub const CHUNK: usize = 256;

/// What a model takes.
#[derive(Clone, Debug)]
pub struct Row {
    /// The model.
    pub model: &'static str,
    /// Trainable values.
    pub parameters: usize,
    /// Seconds of a single prediction on one thread.
    pub latency: Interval,
    /// Samples a second on one thread.
    pub one: Interval,
    /// Samples a second on all threads.
    pub all: Interval,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Measures a model of the zoo: `seconds` for each of its three figures.
///
/// # Errors
/// There is no such model.
pub fn measure(model: &'static str, threads: usize, seconds: f64) -> Result<Row, String> {
    let fitted = fitted(model)?;
    let sample = &histories(1)?[0];
    let mut times = Vec::new();
    let begin = Instant::now();
    let mut first = true;
    while times.len() < 15 || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        let found: Vec<f32> = Predict::predict(&fitted, black_box(sample)).map_err(text)?;
        let taken = start.elapsed().as_secs_f64();
        assert_eq!(black_box(found).len(), super::HORIZON);
        if !std::mem::take(&mut first) {
            times.push(taken);
        }
    }
    let latency = Interval::of_median(&times);
    // Samples for some tens of milliseconds, at most as many as fit into some megabytes.
    let count = ((0.05 / latency.median) as usize * 4).clamp(2 * CHUNK, 1 << 16);
    let data = histories(count)?;
    let rate = |threads: usize| -> Result<Interval, String> {
        let mut rates = Vec::new();
        let begin = Instant::now();
        let mut first = true;
        while rates.len() < 7 || begin.elapsed().as_secs_f64() < seconds {
            let start = Instant::now();
            let found: Vec<Vec<f32>> =
                parallel_batch_inference(&fitted, &data, &config(threads, CHUNK)).map_err(text)?;
            let taken = start.elapsed().as_secs_f64();
            assert_eq!(black_box(found).len(), count);
            if !std::mem::take(&mut first) {
                rates.push(count as f64 / taken);
            }
        }
        Ok(Interval::of_median(&rates))
    };
    Ok(Row {
        model,
        parameters: fitted.params().layout().trainable_count(),
        latency,
        one: rate(1)?,
        all: rate(threads)?,
    })
}

/// The models, in the order of the table of the zoo.
pub fn models() -> impl Iterator<Item = &'static str> {
    ZOO.iter().map(|entry| entry.name)
}
