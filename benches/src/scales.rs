//! What the settings of a loss scale do to a training run in f16.
//!
//! In its simple form: train the same network on the same windows from the same weights, once for each setting, and count skipped
//! steps. Nothing is timed, so the numbers are the same on a busy machine.

use nd_amp::{MixedPrecisionConfig, MixedPrecisionStats, MixedPrecisionTrainer};
use nd_core::train_state::SamplerState;
use nd_core::{Batch, Precision, WindowSource};
use nd_models::ModelConfig;
use nd_models::train::gather::gather;
use nd_models::train::sampler::Sampler;

use crate::workloads::training::TrainingWorkload;

/// Windows of a step.
const WINDOWS: usize = 64;
/// The seed of weights and windows.
const SEED: u64 = 1;
/// Steps at the end whose losses are averaged.
const LAST: usize = 100;

/// What a run has shown.
#[derive(Clone, Copy, Debug)]
pub struct ScaledRun {
    /// Steps, skips and the scale at the end.
    pub stats: MixedPrecisionStats,
    /// The mean loss of the last hundred steps that were taken.
    pub loss: f64,
}

/// Trains an MLP in f16 with these settings; skipped steps count.
///
/// # Errors
/// Settings that cannot be, no step that was taken, or fifty skipped ones in a row.
pub fn train(config: MixedPrecisionConfig, steps: usize) -> Result<ScaledRun, String> {
    let prepared = TrainingWorkload {
        name: "MLP",
        summary: "MLP with its defaults, 64 windows a step, L 96, h 24",
        input_size: 96,
        horizon: 24,
        windows: WINDOWS,
        config: || ModelConfig::Mlp(Default::default()),
    }
    .prepare()?;
    let source = prepared.source()?;
    let mut batch = Batch::new(source.layout());
    let (mut sampler, mut state) = (Sampler::default(), SamplerState::new(SEED));
    let mut trainer = MixedPrecisionTrainer::new(config)
        .with_precision(Precision::F16)
        .with_optimizer(prepared.train.optimizer)
        .with_learning_rate(prepared.train.learning_rate)
        .with_seed(SEED);
    let mut losses = Vec::with_capacity(steps);
    for _ in 0..steps {
        let series = prepared.train.batch_size;
        let drawn = sampler.draw(&source, &mut state, series, Some(WINDOWS));
        gather(&source, drawn, &mut batch, false);
        let loss = trainer
            .train_step(&batch, &prepared.objective())
            .map_err(|error| error.to_string())?;
        if !trainer.should_skip_step() {
            losses.push(loss);
        }
    }
    if losses.is_empty() {
        return Err(format!("all {steps} steps were skipped: take more steps"));
    }
    let last = &losses[losses.len().saturating_sub(LAST)..];
    Ok(ScaledRun {
        stats: trainer.stats(),
        loss: last.iter().sum::<f64>() / last.len() as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_scale_costs_steps_and_a_short_interval_grows_it() {
        let large = MixedPrecisionConfig {
            initial_scale: 2f64.powi(40),
            max_scale: 2f64.powi(40),
            ..MixedPrecisionConfig::default()
        };
        let run = train(large, 40).unwrap();
        assert!(run.stats.skipped > 0 && run.stats.steps > 0);
        assert_eq!(run.stats.skipped + run.stats.steps, 40);
        assert!(run.loss.is_finite());
        let eager = MixedPrecisionConfig {
            initial_scale: 4.0,
            growth_interval: 5,
            ..MixedPrecisionConfig::default()
        };
        let run = train(eager, 11).unwrap();
        assert_eq!((run.stats.skipped, run.stats.current_scale), (0, 16.0));
    }
}
