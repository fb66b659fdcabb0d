//! Training steps taken one at a time, with a clock between their parts.
//!
//! In its simple form: draw windows, gather them into a batch, compute the gradient, update the weights; what the training loop
//! does, without schedule, validation and checkpoints. Every option of the run is a value, so trainers that differ in one
//! of them can take turns in one process.

use std::sync::Arc;
use std::time::Instant;

use nd_amp::{MixedPrecisionConfig, Outcome, StepReport, TrainStep};
use nd_core::autograd::{Mode, Params};
use nd_core::rng::Key;
use nd_core::train_state::LossScaleState;
use nd_core::{Batch, Objective, Precision, RunOptions, Threads, TrainState, WindowSource};
use nd_data::{PanelWindows, WindowScaler};
use nd_models::train::TrainConfig;
use nd_models::train::gather::gather;
use nd_models::train::inference::Forward;
use nd_models::train::sampler::Sampler;
use nd_models::train::schedule::learning_rate;

/// What one step took, in seconds, and what it found.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Drawing the windows.
    pub sample: f64,
    /// Copying them into the batch and scaling them.
    pub gather: f64,
    /// Forward, backward, check and optimizer.
    pub update: f64,
    /// Loss and gradient before the update.
    pub report: StepReport,
}

impl Taken {
    /// The whole step.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.sample + self.gather + self.update
    }
}

/// What trainers of the same work share.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Network and loss.
    pub objective: Objective<'a, f32>,
    /// Where the windows come from.
    pub source: &'a PanelWindows<'a, f32>,
    /// Optimizer, clipping, learning rate, series of a step, seed.
    pub train: &'a TrainConfig,
}

/// Takes the steps of one side of a comparison; holds everything that they change.
pub struct Trainer<'a> {
    work: Work<'a>,
    options: RunOptions,
    threads: Threads,
    step: TrainStep<f32>,
    params: Arc<Params<f32>>,
    state: TrainState<f32>,
    batch: Batch<f32>,
    sampler: Sampler,
}

impl<'a> Trainer<'a> {
    /// A trainer that begins with initial weights drawn from the settings' seed.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn new(work: Work<'a>, options: RunOptions) -> Result<Self, String> {
        let params = Params::init(work.objective.network.layout(), work.train.seed);
        Self::with_params(work, options, params)
    }

    /// The same with the given weights.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn with_params(
        work: Work<'a>,
        options: RunOptions,
        params: Params<f32>,
    ) -> Result<Self, String> {
        let train = work.train;
        let layout = work.objective.network.layout();
        Ok(Self {
            options,
            threads: Threads::new(options.threads).map_err(|error| error.to_string())?,
            step: TrainStep::new(train.optimizer, train.clip),
            params: Arc::new(params),
            state: TrainState::new(layout, train.seed, train.optimizer.moments()),
            batch: Batch::new(work.source.layout()),
            sampler: Sampler::default(),
            work,
        })
    }

    /// The steps after this are taken by so many threads, with the same weights, moments and idle memory.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn use_threads(&mut self, count: usize) -> Result<(), String> {
        self.threads = Threads::new(Some(count)).map_err(|error| error.to_string())?;
        self.options.threads = Some(count);
        Ok(())
    }

    /// Takes the next step on `windows` windows.
    ///
    /// # Errors
    /// The loss or its gradient is not finite.
    pub fn step(&mut self, windows: usize) -> Result<Taken, String> {
        let Self {
            work,
            options,
            threads,
            step,
            params,
            state,
            batch,
            sampler,
        } = self;
        let parallel = threads.count() > 1;
        threads.install(|| {
            let start = Instant::now();
            let drawn = sampler.draw(
                work.source,
                &mut state.sampler,
                work.train.batch_size,
                Some(windows),
            );
            let sampled = Instant::now();
            gather(work.source, drawn, batch, parallel);
            let gathered = Instant::now();
            let lr = learning_rate(work.train, state.step);
            let report = if options.precision == Precision::F32 {
                let report = step.run(work.objective, params, state, &*batch, *options, lr);
                report.map_err(|error| error.to_string())?
            } else {
                let mixed = MixedPrecisionConfig::default();
                if state.loss_scale == LossScaleState::default() {
                    state.loss_scale = mixed.initial_state();
                }
                let objective = work.objective;
                let outcome =
                    step.run_scaled(objective, params, state, &*batch, *options, lr, &mixed);
                match outcome.map_err(|error| error.to_string())? {
                    Outcome::Taken(report) => report,
                    Outcome::Skipped { .. } => return Err("the step overflowed".to_owned()),
                }
            };
            Ok(Taken {
                sample: (sampled - start).as_secs_f64(),
                gather: (gathered - sampled).as_secs_f64(),
                update: gathered.elapsed().as_secs_f64(),
                report,
            })
        })
    }

    /// What a forward pass with these weights and options needs to know; `scaler` is how the windows were scaled.
    #[must_use]
    pub fn forward(&self, scaler: WindowScaler) -> Forward<'_, f32> {
        Forward {
            objective: self.work.objective,
            params: &self.params,
            source: self.work.source,
            scaler,
            options: self.options,
            mode: Mode::Infer,
            key: Key::default(),
            first_row: 0,
            max_chunk: 1024,
        }
    }

    /// The options of its steps.
    #[must_use]
    pub fn options(&self) -> RunOptions {
        self.options
    }

    /// The weights after the steps taken so far.
    #[must_use]
    pub fn params(&self) -> &Params<f32> {
        &self.params
    }

    /// The windows of the last step.
    #[must_use]
    pub fn batch(&self) -> &Batch<f32> {
        &self.batch
    }

    /// The gradient of the last step, not yet unscaled or clipped.
    #[must_use]
    pub fn gradients(&self) -> &[f32] {
        self.step.engine().gradients().flat()
    }
}
