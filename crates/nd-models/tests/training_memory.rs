//! The peak memory of training steps in sixteen bits against f32, by a counting allocator, part by part. One test: the counter sees the
//! whole process.
//!
//! Packed operands of products and gradients of parameters, which stay f32, come on top, so that a little more than half remains.
//!
//! `cargo test --test training_memory -- --nocapture` prints the table.

use std::process::Command;
use std::sync::Arc;

use nd_amp::{Clip, MixedPrecisionConfig, Optimizer, TrainStep};
use nd_core::autograd::Params;
use nd_core::{Batch, Objective, Precision, RunOptions, Threads, TrainState};
use nd_models::ModelConfig;
use nd_models::loss::LossConfig;
use nd_models::nn::ModelDims;
use nd_testing::alloc::{CountingAllocator, measure};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const MIB: f64 = 1024.0 * 1024.0;

/// What a run takes, in MiB.
struct Parts {
    masters: f64,
    moments: f64,
    gradients: f64,
    /// Activations, their gradients and packed weights: the peak of a step above what it began with, less the gradients of the
    /// parameters.
    step: f64,
}

fn parts(model: &str, windows: usize, horizon: usize, precision: Precision) -> Parts {
    let dims = ModelDims::univariate(96, horizon);
    let config = ModelConfig::default_for(model).expect("a model");
    let network = config.build::<f32>(&dims).expect("a network");
    let loss = LossConfig::default().build(horizon).expect("a loss");
    let layout = network.layout();
    let optimizer = Optimizer::adam();
    let mut params = Arc::new(Params::<f32>::init(layout, 1));
    let mut state = TrainState::new(layout, 1, optimizer.moments());
    let mixed = MixedPrecisionConfig::default();
    if precision != Precision::F32 {
        state.loss_scale = mixed.initial_state();
    }
    let mut batch = Batch::new(dims.layout());
    batch.resize(windows);
    for (i, x) in batch.insample_y.iter_mut().enumerate() {
        *x = ((i * 7919 % 2003) as f32 / 1001.5 - 1.0) * 2.0;
    }
    batch.insample_mask.fill(1.0);
    batch.outsample_mask.fill(1.0);
    batch.scale.fill(1.0);
    let options = RunOptions {
        precision,
        ..RunOptions::default()
    };
    let objective = Objective {
        network: &*network,
        loss: &*loss,
    };
    let threads = Threads::new(Some(1)).expect("a thread");
    let ((), used) = measure(|| {
        threads.install(|| {
            let mut step = TrainStep::new(optimizer, Clip::Off);
            for _ in 0..2 {
                let (params, state) = (&mut params, &mut state);
                step.run_scaled(objective, params, state, &batch, options, 1e-3, &mixed)
                    .expect("a step");
            }
        });
    });
    let numbers = |n: usize| 4.0 * n as f64 / MIB;
    let gradients = numbers(layout.trainable_len());
    Parts {
        masters: numbers(layout.len()),
        moments: numbers(2 * layout.trainable_len()),
        gradients,
        step: used.peak_bytes as f64 / MIB - gradients,
    }
}

/// What a copy of this program is to measure: model, windows, horizon and format.
const PART: &str = "ND_TRAINING_MEMORY_PART";

/// Measures one part in a process of its own: so what products keep between steps is counted for each format.
fn part_alone(model: &str, windows: usize, horizon: usize, precision: Precision) -> Parts {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", TEST, "--nocapture"])
        .env(PART, format!("{model} {windows} {horizon} {precision}"))
        .output()
        .expect("a copy of this program");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix(READY));
    let numbers: Vec<f64> = line
        .unwrap_or_else(|| panic!("{model} in {precision} ended early: {text}"))
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect();
    let [masters, moments, gradients, step] = numbers[..] else {
        panic!("four numbers of {model} in {precision}: {text}");
    };
    Parts {
        masters,
        moments,
        gradients,
        step,
    }
}

/// The copy's side of [`part_alone`].
fn measure_part(wanted: &str) {
    let words: Vec<&str> = wanted.split(' ').collect();
    let [model, windows, horizon, precision] = words[..] else {
        panic!("four words, found {wanted}");
    };
    let number = |word: &str| word.parse().expect("a number");
    let precision = Precision::ALL
        .into_iter()
        .find(|known| known.to_string() == precision)
        .expect("a format");
    let Parts {
        masters,
        moments,
        gradients,
        step,
    } = parts(model, number(windows), number(horizon), precision);
    println!("\n{READY}{masters} {moments} {gradients} {step}");
}

const TEST: &str = "activations_take_little_more_than_half_the_memory";
const READY: &str = "measured: ";

#[test]
fn activations_take_little_more_than_half_the_memory() {
    if let Ok(wanted) = std::env::var(PART) {
        return measure_part(&wanted);
    }
    println!(
        "MiB              format  masters  moments  gradients   step  step + gradients  of f32"
    );
    for (model, windows, horizon) in [("PatchTST", 1024, 24), ("LSTM", 128, 24)] {
        let mut full = None;
        for precision in Precision::ALL {
            let Parts {
                masters,
                moments,
                gradients,
                step,
            } = part_alone(model, windows, horizon, precision);
            let sum = step + gradients;
            let full = *full.get_or_insert(sum);
            println!(
                "{model:16} {precision:>6} {masters:8.2} {moments:8.2} {gradients:10.2} {step:6.1} {sum:17.1} {:7.3}",
                sum / full
            );
            let bound = if precision == Precision::F32 {
                1.0
            } else {
                0.55
            };
            assert!(
                sum <= bound * full,
                "{model} in {precision}: {sum:.1} MiB of {full:.1} MiB in f32"
            );
        }
    }
}
