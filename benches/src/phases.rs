//! Where the time of a training step goes, phase by phase.
//!
//! The steps are those of the training loop, taken one by one with a clock between their parts. What is left of a step
//! after its windows are drawn and gathered and its parameters updated is forward and backward; a step on a single
//! window of the smallest network shows what the tape costs when there is nothing to compute.

use std::hint::black_box;
use std::time::Instant;

use nd_core::{Loss, Network, Objective, RunOptions, Threads};
use nd_data::{Exogenous, Panel, PanelWindows, WindowConfig, WindowSet};
use nd_models::loss::LossConfig;
use nd_models::train::TrainConfig;
use nd_models::{ModelDims, ZooEntry};
use nd_simd::optim::{Adam, adam_step, check_norm};
use serde::Serialize;

use crate::statistics::Measure;
use crate::trainer::{Trainer, Work};

/// The parts of a step, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Phases {
    /// The model.
    pub model: String,
    /// Windows in a step.
    pub windows: usize,
    /// Trainable values.
    pub parameters: usize,
    /// Drawing the windows.
    pub sample: Measure,
    /// Copying them into the batch and scaling them.
    pub gather: Measure,
    /// Forward, backward, check and optimizer.
    pub step: Measure,
    /// The finite check and the norm of a gradient of this size, alone.
    pub check: Measure,
    /// Adam over parameters of this size, alone.
    pub optimizer: Measure,
    /// Bytes that Adam reads and writes over the time it takes, in GB/s.
    pub optimizer_bandwidth: f64,
    /// Bytes read and written by copying memory of the same size, in GB/s, on the same threads.
    pub copy_bandwidth: f64,
    /// A whole step on a single window: an upper bound of what the tape costs.
    pub one_window: Measure,
}

/// Measures the phases of a model's steps on a panel.
///
/// # Errors
/// Whatever keeps the model from being trained, in one message.
pub fn measure(
    model: &str,
    panel: &Panel<f32>,
    dims: &ModelDims,
    options: RunOptions,
    steps: usize,
) -> Result<Phases, String> {
    let entry = ZooEntry::find(model).map_err(|error| error.to_string())?;
    let config = TrainConfig::from(entry.training);
    let windows = config.windows_batch_size.unwrap_or(1);
    let timed = |windows| run(entry, panel, dims, options, &config, windows, steps);
    let [sample, gather, step] = timed(windows)?;
    let [.., one_window] = timed(1)?;
    let network = (entry.config)()
        .build::<f32>(dims)
        .map_err(|error| error.to_string())?;
    let threads = Threads::new(options.threads).map_err(|error| error.to_string())?;
    threads.install(|| {
        let len = network.layout().trainable_len();
        let (check, optimizer) = passes(options, len, steps);
        let copy = copy_bandwidth(len * 7 / 2, steps);
        Ok(Phases {
            model: model.to_owned(),
            windows,
            parameters: network.layout().trainable_count(),
            // Adam reads four values for each parameter and writes three.
            optimizer_bandwidth: (7 * 4 * len) as f64 / optimizer.median / 1e6,
            copy_bandwidth: copy,
            sample,
            gather,
            step,
            check,
            optimizer,
            one_window,
        })
    })
}

fn run(
    entry: &ZooEntry,
    panel: &Panel<f32>,
    dims: &ModelDims,
    options: RunOptions,
    config: &TrainConfig,
    windows: usize,
    steps: usize,
) -> Result<[Measure; 3], String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let network: Box<dyn Network<f32>> = (entry.config)().build(dims).map_err(|e| text(&e))?;
    let loss: Box<dyn Loss<f32>> = LossConfig::default()
        .build(dims.horizon)
        .map_err(|e| text(&e))?;
    let rules = WindowConfig::new(dims.input_size, dims.horizon);
    let source = PanelWindows::new(panel, &rules, WindowSet::Train, &Exogenous::default())
        .map_err(|e| text(&e))?
        .with_scaler(entry.training.scaler);
    let work = Work {
        objective: Objective {
            network: &*network,
            loss: &*loss,
        },
        source: &source,
        train: config,
    };
    let mut trainer = Trainer::new(work, options)?;
    let mut times = [const { Vec::new() }; 3];
    for index in 0..steps + 3 {
        let taken = trainer.step(windows)?;
        if index >= 3 {
            let parts = [taken.sample, taken.gather, taken.update];
            for (times, part) in times.iter_mut().zip(parts) {
                times.push(part * 1e3);
            }
        }
    }
    let [sample, gather, step] = times.map(|times| Measure::of(&times, "ms"));
    Option::zip(sample, gather)
        .zip(step)
        .map(|((sample, gather), step)| [sample, gather, step])
        .ok_or_else(|| "no step was timed: give --steps 1 or more".to_owned())
}

/// The finite check and Adam over vectors of `len`, alone.
fn passes(options: RunOptions, len: usize, steps: usize) -> (Measure, Measure) {
    let (grad, mut weight) = (vec![1e-3f32; len], vec![0.5f32; len]);
    let (mut mean, mut square) = (vec![0.0f32; len], vec![0.0f32; len]);
    let parallel = nd_core::threads::parallel();
    let (mut checks, mut updates) = (Vec::new(), Vec::new());
    for step in 1..=steps as u64 + 1 {
        let start = Instant::now();
        black_box(check_norm(options.simd, parallel, black_box(&grad)));
        let checked = Instant::now();
        let adam = Adam {
            step,
            ..Adam::default()
        };
        let grad = black_box(&grad);
        adam_step(
            options.simd,
            parallel,
            adam,
            1.0,
            grad,
            &mut weight,
            &mut mean,
            &mut square,
        );
        let done = Instant::now();
        black_box(&weight);
        if step > 1 {
            checks.push((checked - start).as_secs_f64() * 1e3);
            updates.push((done - checked).as_secs_f64() * 1e3);
        }
    }
    let measure =
        |times: &[f64]| Measure::of(times, "ms").unwrap_or_else(|| Measure::single(f64::NAN, "ms"));
    (measure(&checks), measure(&updates))
}

/// Bytes read and written a second by copying `len` numbers, in GB/s.
fn copy_bandwidth(len: usize, repeats: usize) -> f64 {
    let (source, mut target) = (vec![1.0f32; len], vec![0.0f32; len]);
    let parallel = nd_core::threads::parallel();
    let mut times = Vec::new();
    for _ in 0..=repeats {
        let start = Instant::now();
        nd_core::threads::for_each_chunk(parallel, &mut target, 1 << 16, |i, part| {
            let first = i << 16;
            part.copy_from_slice(black_box(&source[first..first + part.len()]));
        });
        black_box(&target);
        times.push(start.elapsed().as_secs_f64());
    }
    times.remove(0);
    let seconds = Measure::of(&times, "s").map_or(f64::NAN, |measure| measure.median);
    (8 * len) as f64 / seconds / 1e9
}
