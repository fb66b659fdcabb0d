//! The tuning tables of the quick reference: what a setting costs or gains on this machine, in turns.
//!
//! ```text
//! tuning [block_size] [chunk_size] [max_threads] [initial_scale] [growth_interval]
//! ```

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::process::ExitCode;

use nd_amp::MixedPrecisionConfig;
use nd_attention::flash::{FlashAttention, FlashAttentionConfig};
use nd_bench::machine::cores;
use nd_bench::scales;
use nd_bench::turns::{Effort, Turns};
use nd_core::Threads;
use nd_parallel::{BoxError, ParallelConfig, Predict, parallel_batch_inference};
use nd_simd::{SimdLevel, activations, matmul};
use ndarray::{Array2, Array3, ArrayView2};

type Table = (&'static str, fn() -> Result<(), String>);

const TABLES: [Table; 5] = [
    ("block_size", block_size),
    ("chunk_size", chunk_size),
    ("max_threads", max_threads),
    ("initial_scale", initial_scale),
    ("growth_interval", growth_interval),
];

const EFFORT: Effort = Effort {
    rounds: 15,
    seconds: 2.0,
    turn: 5e-3,
};

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for name in &wanted {
        if TABLES.iter().all(|(known, _)| known != name) {
            let names = TABLES.map(|(known, _)| known).join(", ");
            eprintln!("error: there is no table {name:?}; there are: {names}");
            return ExitCode::from(2);
        }
    }
    println!(
        "{} of {} cores, {}\n",
        cores(),
        cores(),
        SimdLevel::current()
    );
    for (name, table) in TABLES {
        if !wanted.is_empty() && wanted.iter().all(|wanted| wanted != name) {
            continue;
        }
        if let Err(message) = table() {
            eprintln!("error: {name}: {message}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Flash attention of four heads, 2048 tokens, 64 channels, on one thread, by block size.
fn block_size() -> Result<(), String> {
    const SIZES: [usize; 7] = [16, 32, 64, 128, 256, 512, 0];
    let of = |seed: usize| {
        Array3::<f32>::from_shape_fn((4, 2048, 64), |(h, i, c)| {
            ((h * 31 + i * 17 + c * 7 + seed) % 29) as f32 / 14.5 - 1.0
        })
    };
    let (q, k, v) = (of(1), of(2), of(3));
    let kinds = SIZES.map(|block_size| {
        FlashAttention::new(FlashAttentionConfig {
            block_size,
            ..FlashAttentionConfig::auto(64)
        })
        .single_threaded()
    });
    let saved = kinds[0].forward_saving(&q, &k, &v);
    let forward = Turns::take(SIZES.len(), EFFORT, |i| {
        black_box(kinds[i].forward(&q, &k, &v));
    });
    let backward = Turns::take(SIZES.len(), EFFORT, |i| {
        black_box(kinds[i].backward(&q, &k, &v, &saved, &q));
    });
    println!("| block_size | forward, ms | backward, ms | less working memory than standard |");
    println!("|---:|---:|---:|---:|");
    for (i, kind) in kinds.iter().enumerate() {
        let name = match SIZES[i] {
            0 => "0 (chosen)".to_owned(),
            size => size.to_string(),
        };
        println!(
            "| {name} | {:.1} | {:.1} | {:.0}x |",
            forward.median(i) * 1e3,
            backward.median(i) * 1e3,
            kind.memory_savings_ratio(2048)
        );
    }
    println!();
    Ok(())
}

/// A network of two layers, 96 to 256 to 24.
struct Network {
    hidden: Array2<f32>,
    output: Array2<f32>,
}

impl Network {
    fn new() -> Self {
        Self {
            hidden: Array2::from_elem((96, 256), 0.01),
            output: Array2::from_elem((256, 24), 0.01),
        }
    }
}

impl Predict for Network {
    fn predict(&self, sample: &Vec<f32>) -> Result<Vec<f32>, BoxError> {
        let x = ArrayView2::from_shape((1, sample.len()), sample)?;
        let y = matmul::gemm(
            &activations::relu(&matmul::gemm(&x, &self.hidden)),
            &self.output,
        );
        Ok(y.into_raw_vec_and_offset().0)
    }

    fn predict_batch(&self, samples: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, BoxError> {
        let mut x = Array2::zeros((samples.len(), 96));
        for (mut row, sample) in x.rows_mut().into_iter().zip(samples) {
            row.as_slice_mut()
                .ok_or("rows are contiguous")?
                .copy_from_slice(sample);
        }
        let y = matmul::gemm(
            &activations::relu(&matmul::gemm(&x, &self.hidden)),
            &self.output,
        );
        Ok(y.rows().into_iter().map(|row| row.to_vec()).collect())
    }
}

fn samples() -> Vec<Vec<f32>> {
    (0..8192)
        .map(|i| (0..96).map(|t| ((i + t) as f32 / 9.0).sin()).collect())
        .collect()
}

/// Times inference under several configurations and prints a row for each.
fn inference(title: &str, rows: &[(String, ParallelConfig)]) -> Result<(), String> {
    let (network, samples) = (Network::new(), samples());
    let mut failed = None;
    let turns = Turns::take(rows.len(), EFFORT, |i| {
        match parallel_batch_inference(&network, &samples, &rows[i].1) {
            Ok(predictions) => {
                black_box(predictions);
            }
            Err(error) => failed = Some(error.to_string()),
        }
    });
    if let Some(message) = failed {
        return Err(message);
    }
    println!("| {title} | samples/s | beside the first row |\n|---:|---:|---:|");
    for (i, (name, _)) in rows.iter().enumerate() {
        println!(
            "| {name} | {:.0} | {:.2}x |",
            samples.len() as f64 / turns.median(i),
            turns.speed_ratio(i, 0).median
        );
    }
    println!();
    Ok(())
}

/// Inference of 8192 samples with a small network, by chunk size.
fn chunk_size() -> Result<(), String> {
    let rows = [1, 4, 16, 32, 64, 128, 1024, 8192].map(|chunk_size| {
        let config = ParallelConfig {
            chunk_size,
            ..ParallelConfig::default()
        };
        (chunk_size.to_string(), config)
    });
    inference("chunk_size", &rows)
}

/// The same by number of threads.
fn max_threads() -> Result<(), String> {
    let all = Threads::new(None)
        .map_err(|error| error.to_string())?
        .count();
    let mut counts: Vec<usize> = [1, 2, 4, 8, 16, 32]
        .into_iter()
        .filter(|&n| n < all)
        .collect();
    counts.push(all);
    let mut rows: Vec<(String, ParallelConfig)> = counts
        .into_iter()
        .map(|count| {
            let config = ParallelConfig {
                max_threads: Some(count),
                ..ParallelConfig::default()
            };
            (format!("Some({count})"), config)
        })
        .collect();
    rows.push(("None".to_owned(), ParallelConfig::default()));
    inference("max_threads", &rows)
}

/// Prints a row for each setting of the loss scale: what a training run of so many steps in f16 made of it.
fn loss_scale(
    title: &str,
    steps: usize,
    rows: &[(String, MixedPrecisionConfig)],
) -> Result<(), String> {
    println!(
        "| {title} | steps skipped, of {steps} | times the scale changed | scale at the end | loss at the end |"
    );
    println!("|---:|---:|---:|---:|---:|");
    for (name, config) in rows {
        let run = scales::train(*config, steps)?;
        println!(
            "| {name} | {} | {} | 2^{:.0} | {:.4} |",
            run.stats.skipped,
            run.stats.scale_updates,
            run.stats.current_scale.log2(),
            run.loss
        );
    }
    println!();
    Ok(())
}

/// 1000 steps of an MLP in f16, by the scale of the first one.
fn initial_scale() -> Result<(), String> {
    let rows = [0, 8, 12, 16, 20, 24, 32].map(|power| {
        let initial_scale = 2f64.powi(power);
        let config = MixedPrecisionConfig {
            initial_scale,
            max_scale: 2f64.powi(32),
            ..MixedPrecisionConfig::default()
        };
        (format!("2^{power}"), config)
    });
    loss_scale("initial_scale", 1000, &rows)
}

/// 10,000 steps of the same, by the steps without an overflow after which the scale grows.
fn growth_interval() -> Result<(), String> {
    let rows = [100, 500, 1000, 2000, 5000].map(|growth_interval| {
        let config = MixedPrecisionConfig {
            growth_interval,
            max_scale: 2f64.powi(32),
            ..MixedPrecisionConfig::default()
        };
        (growth_interval.to_string(), config)
    });
    loss_scale("growth_interval", 10_000, &rows)
}
