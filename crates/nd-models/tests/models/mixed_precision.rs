//! Every model of the zoo in bf16 and f16, through the same tape; and what becomes of steps that overflow.

use std::sync::Arc;

use crate::common::{Run, long, panel};
use nd_amp::{MAX_SKIPPED_IN_ROW, MixedPrecisionConfig, MixedPrecisionTrainer, StepError};
use nd_core::{Batch, BatchLayout, Loss, Network, Objective, Precision, RunOptions};
use nd_models::checkpoint;
use nd_models::loss::LossConfig;
use nd_models::nn::ModelDims;
use nd_models::{Forecaster, ModelConfig, ZOO};
use nd_testing::cases::normals;

const HALVES: [Precision; 2] = [Precision::Bf16, Precision::F16];

#[test]
fn every_model_learns_in_sixteen_bits_what_it_learns_in_f32() {
    let panel = panel();
    // Enough windows for two shards, the second of them smaller.
    let (windows, steps) = if long() { (128, 30) } else { (40, 20) };
    let later = 2 * steps / 3;
    for entry in ZOO {
        let train = |precision| {
            let run = Run::new(&panel, entry, &(entry.config)(), windows, 2);
            let mut run = run.in_precision(precision);
            (0..steps).map(|_| run.step()).collect::<Vec<f64>>()
        };
        let full = train(Precision::F32);
        for precision in HALVES {
            let half = train(precision);
            // The first loss sees the rounding of one forward pass, the last ones that of a whole run.
            let first = (half[0] - full[0]).abs() / full[0];
            assert!(
                first < 0.01,
                "{} {precision}: {} {}",
                entry.name,
                half[0],
                full[0]
            );
            // Trajectories drift apart while the loss still falls steeply, so the last steps are compared by where they have come to.
            let mean =
                |losses: &[f64]| losses[later..].iter().sum::<f64>() / (steps - later) as f64;
            let (full_end, half_end) = (mean(&full), mean(&half));
            assert!(
                half_end < 2.0 * full_end && half_end < full[0],
                "{} {precision}: {half_end} after {later} steps, {full_end} in f32, {} at first",
                entry.name,
                full[0]
            );
        }
    }
}

#[test]
fn a_forecaster_trains_and_predicts_in_sixteen_bits() {
    let panel = panel();
    let forecast = |precision| {
        let mut forecaster = Forecaster::new("NHITS", 96, 24).expect("a model");
        let train = &mut forecaster.config_mut().train;
        (train.max_steps, train.windows_batch_size) = (20, Some(64));
        let fitted = forecaster
            .with_options(RunOptions {
                precision,
                ..RunOptions::default()
            })
            .fit(&panel)
            .expect("a fit");
        fitted.predict(&panel).expect("a forecast").series[0]
            .values
            .clone()
    };
    let full = forecast(Precision::F32);
    let spread = full.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    for precision in HALVES {
        for (half, full) in forecast(precision).iter().zip(&full) {
            assert!(
                (half - full).abs() < 0.1 * spread,
                "{precision}: {half} for {full}"
            );
        }
    }
}

/// A small network with its loss, and batches of noise.
struct Task {
    network: Box<dyn Network<f32>>,
    loss: Box<dyn Loss<f32>>,
    layout: BatchLayout,
}

impl Task {
    fn new(model: &str) -> Self {
        let dims = ModelDims::univariate(24, 6);
        let config = ModelConfig::default_for(model).expect("a model");
        Self {
            network: config.build::<f32>(&dims).expect("a network"),
            loss: LossConfig::default().build(6).expect("a loss"),
            layout: dims.layout(),
        }
    }

    fn objective(&self) -> Objective<'_, f32> {
        Objective {
            network: &*self.network,
            loss: &*self.loss,
        }
    }

    /// Noise of a given size, and targets that are the mean of the inputs.
    fn batch(&self, seed: u64, size: f64) -> Batch<f32> {
        let mut batch = Batch::new(self.layout);
        batch.resize(32);
        let noise = normals(seed, batch.insample_y.len());
        for (slot, x) in batch.insample_y.iter_mut().zip(&noise) {
            *slot = (size * x) as f32;
        }
        for (row, targets) in batch.outsample_y.chunks_mut(6).enumerate() {
            let inputs = &noise[row * 24..][..24];
            targets.fill((size * inputs.iter().sum::<f64>() / 24.0) as f32);
        }
        batch.insample_mask.fill(1.0);
        batch.outsample_mask.fill(1.0);
        batch.scale.fill(1.0);
        batch
    }
}

fn flat(trainer: &MixedPrecisionTrainer) -> Vec<f32> {
    let params = trainer.params().expect("after a step");
    params.flat().to_vec()
}

#[test]
fn a_scale_that_overflows_is_skipped_and_recovers() {
    let task = Task::new("MLP");
    let config = MixedPrecisionConfig {
        initial_scale: 2f64.powi(40),
        max_scale: 2f64.powi(40),
        ..MixedPrecisionConfig::default()
    };
    let mut trainer = MixedPrecisionTrainer::new(config).with_precision(Precision::F16);
    let mut skipped = 0;
    let mut before: Option<Vec<f32>> = None;
    loop {
        let loss = trainer
            .train_step(&task.batch(1, 1.0), &task.objective())
            .expect("a step that is taken or skipped");
        // The loss itself is not scaled, so it is known also where the gradient overflows.
        assert!(loss.is_finite());
        if !trainer.should_skip_step() {
            break;
        }
        skipped += 1;
        let now = flat(&trainer);
        assert!(
            before.is_none_or(|before| before == now),
            "weights moved at step {skipped}"
        );
        before = Some(now);
        let state = trainer.state().expect("a state");
        assert_eq!((state.step, state.loss_scale.skipped_in_row), (0, skipped));
        assert_eq!(
            trainer.stats().current_scale,
            2f64.powi(40 - skipped as i32)
        );
    }
    assert!((5..35).contains(&skipped), "{skipped} steps were skipped");
    assert!(
        before != Some(flat(&trainer)),
        "the first clean step moves the weights"
    );
    let stats = trainer.stats();
    assert_eq!((stats.steps, stats.skipped), (1, skipped));
    assert_eq!(
        (stats.overflow_count, stats.scale_updates),
        (skipped, skipped)
    );
}

#[test]
fn a_loss_that_is_not_a_number_is_skipped_and_forgotten() {
    let task = Task::new("NHITS");
    for precision in HALVES {
        let mut trainer = MixedPrecisionTrainer::new(MixedPrecisionConfig::default())
            .with_precision(precision)
            .with_seed(3);
        let good = task.batch(2, 1.0);
        let mut bad = good.clone();
        bad.outsample_y[17] = f32::NAN;
        trainer
            .train_step(&good, &task.objective())
            .expect("a step");
        let weights = flat(&trainer);
        let loss = trainer
            .train_step(&bad, &task.objective())
            .expect("a skipped step");
        assert!(loss.is_nan() && trainer.should_skip_step());
        assert_eq!(flat(&trainer), weights);
        assert_eq!(trainer.stats().current_scale, 32_768.0);
        let loss = trainer
            .train_step(&good, &task.objective())
            .expect("a step");
        assert!(loss.is_finite() && !trainer.should_skip_step());
        let stats = trainer.stats();
        assert_eq!(
            (stats.steps, stats.skipped, stats.overflow_count),
            (2, 1, 1)
        );
    }
}

#[test]
fn fifty_skipped_steps_in_a_row_name_the_first_bad_parameter() {
    let task = Task::new("MLP");
    let mut trainer =
        MixedPrecisionTrainer::new(MixedPrecisionConfig::default()).with_precision(Precision::F16);
    let good = task.batch(2, 1.0);
    trainer
        .train_step(&good, &task.objective())
        .expect("a step");
    // A weight that is not a number makes every loss one that is not.
    let layout = task.network.layout();
    let broken = layout.ids().nth(2).expect("a third parameter");
    let name = layout.entry(broken).name.clone();
    let mut params = nd_core::autograd::Params::<f32>::init(layout, 1);
    params.get_mut(broken)[0] = f32::NAN;
    let state = trainer.state().expect("a state").clone();
    let mut trainer = trainer.resume(params, state);
    for step in 1..=MAX_SKIPPED_IN_ROW {
        let found = trainer.train_step(&good, &task.objective());
        assert!(trainer.should_skip_step());
        if step < MAX_SKIPPED_IN_ROW {
            found.expect("a skipped step");
            continue;
        }
        let error = found.expect_err("the fiftieth");
        let text = error.to_string();
        let StepError::Overflow {
            step,
            skipped,
            scale,
            parameter,
        } = error
        else {
            panic!("{text}");
        };
        assert_eq!((step, skipped, scale.as_str()), (2, 50, "1"));
        assert_eq!(parameter, name);
        assert!(
            text.contains(&parameter) && text.contains("50 steps"),
            "{text}"
        );
    }
}

#[test]
fn gradients_that_underflow_grow_the_scale_until_the_weights_move() {
    let task = Task::new("MLP");
    let config = MixedPrecisionConfig {
        initial_scale: 2f64.powi(-20),
        min_scale: 2f64.powi(-20),
        growth_interval: 2,
        ..MixedPrecisionConfig::default()
    };
    let mut trainer = MixedPrecisionTrainer::new(config)
        .with_precision(Precision::F16)
        .with_optimizer(nd_amp::Optimizer::sgd())
        .with_learning_rate(0.1);
    let batch = task.batch(4, 1.0);
    // The first weights: below this layer's gradient everything is rounded to zero while the scale is so small.
    let first_layer = |trainer: &MixedPrecisionTrainer| {
        let params = trainer.params().expect("after a step");
        let id = params.layout().ids().next().expect("a parameter");
        params.get(id).to_vec()
    };
    trainer
        .train_step(&batch, &task.objective())
        .expect("a step");
    let start = first_layer(&trainer);
    let mut moved_at = None;
    for step in 2..100 {
        trainer
            .train_step(&batch, &task.objective())
            .expect("a step");
        assert!(moved_at.is_some() || !trainer.should_skip_step());
        if moved_at.is_none() && first_layer(&trainer) != start {
            moved_at = Some(step);
        }
    }
    let moved_at = moved_at.expect("the scale grows until gradients reach the weights");
    assert!(
        moved_at > 4,
        "the gradients did not underflow: moved at step {moved_at}"
    );
    // Where the scale becomes too large again, a step is skipped and the scale shrinks.
    let stats = trainer.stats();
    assert_eq!(stats.steps + stats.skipped, 99);
    assert_eq!(stats.overflow_count, stats.skipped);
    assert!(
        stats.scale_updates > 20 && stats.current_scale > 1.0,
        "{stats:?}"
    );
}

/// The loop of the quick reference, word for word but for the data.
#[test]
fn the_quick_references_loop_trains() -> Result<(), StepError> {
    let task = Task::new("DLinear");
    let (data, model, epochs) = (task.batch(1, 1.0), task.objective(), 60);
    let config = MixedPrecisionConfig {
        enabled: true,
        initial_scale: 2.0f64.powi(16), // Start with 65536
        growth_factor: 2.0,
        backoff_factor: 0.5,
        growth_interval: 2000,
        min_scale: 1.0,
        max_scale: 2.0f64.powi(24),
    };

    let mut trainer = MixedPrecisionTrainer::new(config);

    let mut losses = Vec::new();
    // Training loop
    for _epoch in 0..epochs {
        let loss = trainer.train_step(&data, &model)?;

        // Check for gradient overflow/underflow
        if trainer.should_skip_step() {
            println!("Skipping step due to gradient issues");
            continue;
        }
        losses.push(loss);
    }

    // Get statistics
    let stats = trainer.stats();
    println!("Scale updates: {}", stats.scale_updates);
    println!("Overflow events: {}", stats.overflow_count);
    assert!(
        losses[59] < 0.8 * losses[0],
        "{} to {}",
        losses[0],
        losses[59]
    );
    Ok(())
}

#[test]
fn a_run_that_is_off_is_one_in_f32() {
    let task = Task::new("DLinear");
    let config = MixedPrecisionConfig {
        enabled: false,
        ..MixedPrecisionConfig::default()
    };
    let mut trainer = MixedPrecisionTrainer::new(config).with_precision(Precision::F16);
    assert_eq!(trainer.precision(), Precision::F32);
    trainer
        .train_step(&task.batch(1, 1.0), &task.objective())
        .expect("a step");
    assert_eq!(trainer.stats().current_scale, 1.0);
}

#[test]
fn a_model_of_another_layout_is_refused() {
    let mut trainer = MixedPrecisionTrainer::new(MixedPrecisionConfig::default());
    let (first, other) = (Task::new("DLinear"), Task::new("NLinear"));
    trainer
        .train_step(&first.batch(1, 1.0), &first.objective())
        .expect("a step");
    let error = trainer
        .train_step(&other.batch(1, 1.0), &other.objective())
        .expect_err("another layout");
    assert!(
        error.to_string().contains("do not fit the network"),
        "{error}"
    );
}

#[test]
fn a_run_resumed_with_the_scalers_state_ends_with_the_same_bits() {
    let task = Task::new("PatchTST");
    // Twelve steps with growth in between and an overflow on the way.
    let config = MixedPrecisionConfig {
        initial_scale: 2f64.powi(22),
        growth_interval: 3,
        ..MixedPrecisionConfig::default()
    };
    let path = std::env::temp_dir().join(format!("nd-amp-{}.safetensors", std::process::id()));
    for precision in HALVES {
        let fresh = || MixedPrecisionTrainer::new(config).with_precision(precision);
        let step = |trainer: &mut MixedPrecisionTrainer, index: u64| {
            let batch = task.batch(index, 1.0);
            trainer
                .train_step(&batch, &task.objective())
                .expect("a step")
        };
        let mut whole = fresh();
        let losses: Vec<f64> = (0..12).map(|i| step(&mut whole, i)).collect();
        let mut first = fresh();
        for i in 0..5 {
            step(&mut first, i);
        }
        let params = first.params().expect("parameters");
        checkpoint::save(&path, "{}", params, first.state()).expect("a file");
        let raw = checkpoint::read(&path).expect("the file");
        let layout = task.network.layout();
        let params = raw.params::<f32>(layout).expect("parameters");
        let state = raw
            .state::<f32>(layout)
            .expect("a state")
            .expect("it was saved");
        let mut second = fresh().resume(Arc::new(params), state);
        let later: Vec<f64> = (5..12).map(|i| step(&mut second, i)).collect();
        assert_eq!(losses[5..], later[..]);
        assert_eq!(flat(&whole), flat(&second));
        assert_eq!(
            whole.state().map(|s| s.loss_scale),
            second.state().map(|s| s.loss_scale)
        );
    }
    std::fs::remove_file(&path).expect("the file is there");
}
