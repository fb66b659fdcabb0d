//! The same work on one thread and on several, in turns.
//!
//! Before it is timed, the work is done once for each number of threads and the results are compared to the bit; results are compared
//! and freed while the clock stands. The machine's neighbours may take a core away for a while; so multiply-adds that touch no memory
//! have a turn beside every turn of the work, and a table says what they had from the same number of threads. Two rows say what the
//! machine itself gives: these multiply-adds, and copies that are nothing else. Two more are what a training step of NHITS mostly consists
//! of: products of hidden layers, each
//! reading what the one before wrote, and those of their weights' gradients.

use std::hint::black_box;

use nd_core::{Buffer, RunOptions, SimdLevel, Threads, threads};
use nd_parallel::{
    EnsembleAggregation, Folds, Parallel, ParamGrid, parallel_batch_inference,
    parallel_cross_validation, parallel_ensemble_predict,
};
use nd_simd::matmul::{MatMut, MatRef, multiply, multiply_parallel};

use super::{config, digest, fitted, forecaster, histories, panel};
use crate::limits;
use crate::statistics::Interval;
use crate::turns::{Effort, Turns};
use crate::workloads::training::TrainingWorkload;

/// The names of all cases, in the order of the table.
pub const CASES: [&str; 14] = [
    "limit: multiply-adds",
    "limit: copy of 64 MiB",
    "products x w, 1024 x 512 x 512",
    "products x^T dz, 512 x 1024 x 512",
    "inference PatchTST, 512 samples",
    "inference NHITS, 4096 samples",
    "inference LSTM, 512 samples",
    "inference DLinear, 65536 samples",
    "cross-validation NHITS, 4 folds",
    "cross-validation PatchTST, 4 folds",
    "grid search PatchTST, 4 points",
    "ensemble of 4 PatchTST, 256 samples",
    "training step NHITS, 1024 windows",
    "training step PatchTST, 1024 windows",
];

/// Samples of a chunk whose activations stay in a core's own cache; no slower on one thread than four times as many, and the last
/// task of a call is a quarter as long.
const FEW: usize = 8;

/// What some work gave.
enum Found {
    /// A number that stands for all bits of the result.
    Bits(u64),
    /// Forecasts.
    Forecasts(Vec<Vec<f32>>),
}

impl Found {
    /// A number that two results share only if all their bits are the same.
    fn bits(&self) -> u64 {
        match self {
            Self::Bits(bits) => *bits,
            Self::Forecasts(forecasts) => digest(forecasts.iter().flatten()),
        }
    }
}

/// Work that is done on a number of threads.
type Work<'a> = dyn FnMut(usize) -> Result<Found, String> + 'a;

/// How far multiply-adds may be from as many cores as threads, either way, in a round that counts as one in which the machine was free.
pub const FREE: f64 = 0.05;

/// The times of a case for each number of threads, and those of multiply-adds in the same rounds.
pub struct Row {
    /// The case.
    pub name: &'static str,
    counts: Vec<usize>,
    turns: Turns,
}

impl Row {
    /// The median time on one thread, in seconds.
    #[must_use]
    pub fn alone(&self) -> f64 {
        self.turns.median(0)
    }

    /// How much faster the `i`-th number of threads is than the first.
    #[must_use]
    pub fn speed_up(&self, i: usize) -> Interval {
        self.turns.speed_ratio(2 * i, 0)
    }

    /// The same for the multiply-adds of the same rounds: what the machine had to give.
    #[must_use]
    pub fn limit(&self, i: usize) -> Interval {
        self.turns.speed_ratio(2 * i + 1, 1)
    }

    /// The speed-up over the rounds in which the multiply-adds had the cores to themselves, and how many those were.
    #[must_use]
    pub fn speed_up_when_free(&self, i: usize) -> Option<(usize, Interval)> {
        let cores = self.counts[i] as f64 / self.counts[0] as f64;
        let free = (1.0 - FREE) * cores..=(1.0 + FREE) * cores;
        let probe = (2 * i + 1, 1);
        self.turns.speed_ratio_when((2 * i, 0), probe, free)
    }
}

/// Measures the cases whose name contains `filter` on each of these numbers of threads; `visit` sees each as soon as it is there.
///
/// # Errors
/// A result that differs, or work that fails.
pub fn measure(
    filter: &str,
    counts: &[usize],
    effort: Effort,
    mut visit: impl FnMut(Row),
) -> Result<(), String> {
    for name in CASES.into_iter().filter(|name| name.contains(filter)) {
        with_case(name, counts, &mut |work| {
            let turns = take(name, counts, effort, work)?;
            let counts = counts.to_vec();
            visit(Row {
                name,
                counts,
                turns,
            });
            Ok(())
        })?;
    }
    Ok(())
}

fn take(
    name: &str,
    counts: &[usize],
    effort: Effort,
    work: &mut Work<'_>,
) -> Result<Turns, String> {
    let first = work(counts[0])?.bits();
    for &threads in &counts[1..] {
        let found = work(threads)?.bits();
        if found != first {
            return Err(format!(
                "{name}: the result on {threads} threads is not that on {}",
                counts[0]
            ));
        }
    }
    let mut failed = None;
    // The machine's own limit has its turn after that of the work: a core that another machine takes away is missing in both.
    let turns = Turns::take_apart(
        2 * counts.len(),
        effort,
        |i| {
            let threads = counts[i / 2];
            let found = if i % 2 == 0 {
                work(threads)
            } else {
                chains(threads)
            };
            black_box(found)
        },
        |_, found| failed = failed.take().or(found.err()),
    );
    failed.map_or(Ok(turns), Err)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Makes the data of a case and hands its work to `run`.
fn with_case(
    name: &str,
    counts: &[usize],
    run: &mut dyn FnMut(&mut Work<'_>) -> Result<(), String>,
) -> Result<(), String> {
    match name.split([' ', ':', ',']).next() {
        Some("limit") if name.contains("copy") => copies(run),
        Some("limit") => run(&mut |threads| chains(threads)),
        Some("products") => products(name.contains("dz"), run),
        Some("inference") => inference(name, run),
        Some("cross-validation") => cross_validation(name, run),
        Some("grid") => grid_search(run),
        Some("ensemble") => ensemble(run),
        _ => training(name, counts, run),
    }
}

/// Multiply-adds that touch no memory, as many on any number of threads.
fn chains(threads: usize) -> Result<Found, String> {
    let pool = Threads::new(Some(threads)).map_err(text)?;
    pool.install(|| {
        threads::for_each_index(threads > 1, 512, |_| {
            black_box(limits::multiply_adds(SimdLevel::best()));
        });
    });
    Ok(Found::Bits(0))
}

fn copies(run: &mut dyn FnMut(&mut Work<'_>) -> Result<(), String>) -> Result<(), String> {
    const PIECE: usize = 1 << 16;
    let from = Buffer::<f32>::zeroed(16 << 20);
    let mut to = Buffer::<f32>::zeroed(16 << 20);
    run(&mut |threads| {
        let pool = Threads::new(Some(threads)).map_err(text)?;
        pool.install(|| {
            threads::for_each_chunk(threads > 1, &mut to, PIECE, |i, to| {
                limits::copy(&from[i * PIECE..(i + 1) * PIECE], to);
            });
        });
        Ok(Found::Bits(0))
    })
}

/// Four products, of layers or of the gradients of their weights.
fn products(
    of_weights: bool,
    run: &mut dyn FnMut(&mut Work<'_>) -> Result<(), String>,
) -> Result<(), String> {
    const ROWS: usize = 1024;
    const UNITS: usize = 512;
    // Uniform numbers of the variance that keeps values of one size from layer to layer.
    let numbers = |len: usize, seed: u32| -> Vec<f32> {
        let hash = |i: usize| (i as u32 ^ seed).wrapping_mul(2_654_435_761) >> 8;
        let width = 2.0 * (3.0 / UNITS as f32).sqrt();
        (0..len)
            .map(|i| (hash(i) as f32 / (1 << 24) as f32 - 0.5) * width)
            .collect()
    };
    let (input, weight) = (numbers(ROWS * UNITS, 1), numbers(UNITS * UNITS, 7));
    let (mut x, mut y) = (input.clone(), numbers(ROWS * UNITS, 3));
    let mut gradient = vec![0.0; UNITS * UNITS];
    let level = SimdLevel::best();
    run(&mut |threads| {
        let multiply = if threads > 1 {
            multiply_parallel::<f32>
        } else {
            multiply::<f32>
        };
        let pool = Threads::new(Some(threads)).map_err(text)?;
        pool.install(|| {
            for layer in 0..4 {
                let from = if layer == 0 { &input } else { &x };
                let from = MatRef::row_major(from, ROWS, UNITS);
                if of_weights {
                    let dz = MatRef::row_major(&y, ROWS, UNITS);
                    let dw = MatMut::row_major(&mut gradient, UNITS, UNITS);
                    multiply(level, 1.0, from.t(), dz, 0.0, dw);
                } else {
                    let w = MatRef::row_major(&weight, UNITS, UNITS);
                    let to = MatMut::row_major(&mut y, ROWS, UNITS);
                    multiply(level, 1.0, from, w, 0.0, to);
                    std::mem::swap(&mut x, &mut y);
                }
            }
        });
        let result = if of_weights { &gradient } else { &x };
        Ok(Found::Bits(digest(result.iter())))
    })
}

fn inference(
    name: &str,
    run: &mut dyn FnMut(&mut Work<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let word = |i: usize| name.split([' ', ',']).filter(|w| !w.is_empty()).nth(i);
    let model = fitted(word(1).unwrap_or(""))?;
    let count: usize = word(2).unwrap_or("").parse().map_err(text)?;
    let data = histories(count)?;
    let chunk_size = match model.config().model.name() {
        // Large weights are read once for each chunk: more samples for each reading.
        "NHITS" => 64,
        // Half a microsecond a sample: more samples for each task.
        "DLinear" => 128,
        _ => FEW,
    };
    run(&mut |threads| {
        let config = config(threads, chunk_size);
        let found = parallel_batch_inference(&model, &data, &config);
        Ok(Found::Forecasts(found.map_err(text)?))
    })
}

/// Scores as one number.
fn scores(values: impl Iterator<Item = f64>) -> Found {
    Found::Bits(values.fold(0, |sum, x| sum.wrapping_mul(31) ^ x.to_bits()))
}

fn cross_validation(
    name: &str,
    run: &mut dyn FnMut(&mut Work<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let model = if name.contains("NHITS") {
        forecaster("NHITS", 3, 256)?
    } else {
        forecaster("PatchTST", 2, 128)?
    };
    let data = panel(1, 2000)?;
    let folds = Folds::sliding(4, 1800).test_samples(super::HORIZON);
    run(&mut |threads| {
        let config = config(threads, 1);
        let found = parallel_cross_validation(&model, &data, folds.clone(), &config);
        Ok(scores(found.map_err(text)?.scores()))
    })
}

fn grid_search(run: &mut dyn FnMut(&mut Work<'_>) -> Result<(), String>) -> Result<(), String> {
    let model = forecaster("PatchTST", 2, 128)?;
    let data = panel(1, 2000)?;
    let grid = ParamGrid::new()
        .axis("learning_rate", [1e-3, 1e-4])
        .axis("dropout", [0.1, 0.2]);
    run(&mut |threads| {
        let found = Parallel::new(config(threads, 1))
            .folds(Folds::sliding(1, 1800).test_samples(super::HORIZON))
            .grid_search(&model, &data, &grid)
            .map_err(text)?;
        if found.ranking.len() != 4 {
            return Err(format!("{} of 4 points were ranked", found.ranking.len()));
        }
        Ok(scores(found.ranking.iter().map(|point| point.score)))
    })
}

fn ensemble(run: &mut dyn FnMut(&mut Work<'_>) -> Result<(), String>) -> Result<(), String> {
    let models = (0..4)
        .map(|_| fitted("PatchTST"))
        .collect::<Result<Vec<_>, _>>()?;
    let data = histories(256)?;
    run(&mut |threads| {
        let config = config(threads, FEW);
        let median = EnsembleAggregation::Median;
        let found = parallel_ensemble_predict(&models, &data, median, &config);
        Ok(Found::Forecasts(found.map_err(text)?))
    })
}

fn training(
    name: &str,
    counts: &[usize],
    run: &mut dyn FnMut(&mut Work<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let model = name.split([' ', ',']).nth(2).unwrap_or("");
    let prepared = TrainingWorkload::find(model)?.prepare()?;
    let source = prepared.source()?;
    let trainer = |threads: usize| {
        let options = RunOptions {
            threads: Some(threads),
            ..RunOptions::default()
        };
        prepared.trainer(&source, options)
    };
    // One trainer takes all the steps that are timed: every number of threads works in the same pages of memory. The first step of each
    // number of threads is that of a fresh one, so that all of these start from the same weights; it is the one that is compared.
    let mut timed = trainer(counts[0])?;
    let mut compared = Vec::new();
    run(&mut |threads| {
        let taken = if compared.contains(&threads) {
            timed.use_threads(threads)?;
            timed.step(prepared.workload.windows)?
        } else {
            compared.push(threads);
            trainer(threads)?.step(prepared.workload.windows)?
        };
        Ok(Found::Bits(taken.report.loss.to_bits()))
    })
}
