//! What a task costs that does nothing, and what the size of a chunk is worth.

use std::hint::black_box;
use std::time::Instant;

use nd_parallel::{BoxError, Predict, parallel_batch_inference};

use super::config;
use crate::statistics::Interval;
use crate::turns::{Effort, Turns};

/// Does nothing.
struct Empty;

impl Predict<u32, u32> for Empty {
    fn predict(&self, x: &u32) -> Result<u32, BoxError> {
        Ok(*x)
    }
}

/// Takes so many rounds of a chain of dependent multiplications.
struct Busy {
    rounds: u32,
}

impl Predict<u32, u32> for Busy {
    fn predict(&self, x: &u32) -> Result<u32, BoxError> {
        Ok(black_box(
            (0..self.rounds).fold(*x | 1, |x, _| black_box(x.wrapping_mul(3))),
        ))
    }
}

/// Seconds that a call with empty tasks takes for each, a chunk of one sample being a task; median over rounds.
///
/// # Errors
/// The threads cannot be started.
pub fn empty_task(threads: usize, rounds: usize) -> Result<Interval, String> {
    let data = vec![7; 200_000];
    let config = config(threads, 1);
    let mut times = Vec::new();
    for round in 0..=rounds {
        let start = Instant::now();
        let found = parallel_batch_inference(&Empty, &data, &config).map_err(|e| e.to_string())?;
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(black_box(found).len(), data.len());
        if round > 0 {
            times.push(seconds / data.len() as f64);
        }
    }
    Ok(Interval::of_median(&times))
}

/// Sizes of chunks that are compared; the first is what must not be much worse than the best.
pub const CHUNKS: [usize; 7] = [1, 4, 8, 16, 32, 64, 128];

/// The times of a call over 1024 samples of 50 us for each size of a chunk, and how long a sample took in truth.
///
/// # Errors
/// The threads cannot be started.
pub fn chunk_sizes(threads: usize, effort: Effort) -> Result<(Turns, f64), String> {
    let time = |model: &Busy| {
        let start = Instant::now();
        for x in 0..200 {
            black_box(model.predict(&x)).map_err(|e| e.to_string())?;
        }
        Ok::<f64, String>(start.elapsed().as_secs_f64() / 200.0)
    };
    let mut busy = Busy { rounds: 20_000 };
    // Twice: the first call finds a cold clock.
    for _ in 0..2 {
        let seconds = time(&busy)?;
        busy.rounds = (f64::from(busy.rounds) * 50e-6 / seconds) as u32;
    }
    let seconds = time(&busy)?;
    let data: Vec<u32> = (0..1024).collect();
    let mut failed = None;
    let turns = Turns::take(CHUNKS.len(), effort, |i| {
        match parallel_batch_inference(&busy, &data, &config(threads, CHUNKS[i])) {
            Ok(found) => assert_eq!(black_box(found).len(), data.len()),
            Err(error) => failed = Some(error.to_string()),
        }
    });
    failed.map_or(Ok((turns, seconds)), Err)
}
