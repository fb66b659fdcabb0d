//! Mixed-precision training, one batch at a time.

use std::sync::Arc;

use nd_core::autograd::Params;
use nd_core::{Batch, Loss, Network, Objective, Precision, RunOptions, TrainState};
use nd_simd::SimdReal;

use crate::config::MixedPrecisionConfig;
use crate::error::StepError;
use crate::optimizer::{Clip, Optimizer};
use crate::step::{Outcome, TrainStep};

/// What can be trained: a network and its loss.
pub trait Trainable<R: SimdReal = f32> {
    /// Both, borrowed.
    fn objective(&self) -> Objective<'_, R>;
}

impl<R: SimdReal> Trainable<R> for Objective<'_, R> {
    fn objective(&self) -> Objective<'_, R> {
        *self
    }
}

impl<R: SimdReal, N: Network<R>, L: Loss<R>> Trainable<R> for (N, L) {
    fn objective(&self) -> Objective<'_, R> {
        Objective {
            network: &self.0,
            loss: &self.1,
        }
    }
}

/// What a trainer has counted.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct MixedPrecisionStats {
    /// Steps taken.
    pub steps: u64,
    /// Steps skipped.
    pub skipped: u64,
    /// How often the scale has changed.
    pub scale_updates: u64,
    /// How often loss or gradient were not finite.
    pub overflow_count: u64,
    /// The scale of the next step.
    pub current_scale: f64,
}

/// Trains in sixteen bits with f32 master weights, which live here: the model is shared and unchanged.
///
/// The first step initialises the weights from the seed. A step whose loss or gradient is not finite is skipped: weights, moments
/// and the step's number stay, and the scale shrinks. The learning rate is constant unless
/// [`MixedPrecisionTrainer::set_learning_rate`] changes it.
#[derive(Debug)]
pub struct MixedPrecisionTrainer {
    config: MixedPrecisionConfig,
    options: RunOptions,
    seed: u64,
    learning_rate: f64,
    step: TrainStep<f32>,
    run: Option<Run>,
    stats: Counts,
    skip: bool,
}

#[derive(Debug)]
struct Run {
    params: Arc<Params<f32>>,
    state: TrainState<f32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    steps: u64,
    skipped: u64,
    scale_updates: u64,
}

impl MixedPrecisionTrainer {
    /// A trainer with [`Precision::auto`] (f32 when the configuration is not enabled), Adam, a learning rate of 0.001 and seed 1.
    #[must_use]
    pub fn new(config: MixedPrecisionConfig) -> Self {
        let precision = if config.enabled {
            Precision::auto()
        } else {
            Precision::F32
        };
        Self {
            config,
            options: RunOptions {
                precision,
                ..RunOptions::default()
            },
            seed: 1,
            learning_rate: 1e-3,
            step: TrainStep::new(Optimizer::default(), Clip::Off),
            run: None,
            stats: Counts::default(),
            skip: false,
        }
    }

    /// The same trainer in another format; without effect when the configuration is not enabled.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        if self.config.enabled {
            self.options.precision = precision;
        }
        self
    }

    /// The same trainer with another optimizer.
    #[must_use]
    pub fn with_optimizer(mut self, optimizer: Optimizer) -> Self {
        self.step = TrainStep::new(optimizer, self.step.clip());
        self
    }

    /// The same trainer with clipped gradients.
    #[must_use]
    pub fn with_clip(mut self, clip: Clip) -> Self {
        self.step = TrainStep::new(self.step.optimizer(), clip);
        self
    }

    /// The same trainer with another seed of initial weights and dropout.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The same trainer with another learning rate.
    #[must_use]
    pub fn with_learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = learning_rate;
        self
    }

    /// The same trainer with other choices of SIMD level, attention and threads; the format stays.
    #[must_use]
    pub fn with_options(mut self, options: RunOptions) -> Self {
        self.options = RunOptions {
            precision: self.options.precision,
            ..options
        };
        self
    }

    /// The same trainer, going on from parameters and the state of a run; the result is the same to the bit as if that run had
    /// not been interrupted.
    #[must_use]
    pub fn resume(mut self, params: impl Into<Arc<Params<f32>>>, state: TrainState<f32>) -> Self {
        self.run = Some(Run {
            params: params.into(),
            state,
        });
        self
    }

    /// The learning rate from the next step on.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    /// Takes a step on a batch and gives its loss, which is NaN or infinite when that is why the step was skipped.
    ///
    /// It has the threads of its options, or within a rayon pool those that are there.
    ///
    /// # Errors
    /// A setting that cannot be, a model of another layout than the first one's, too many threads, or
    /// [`crate::MAX_SKIPPED_IN_ROW`] skipped steps in a row.
    pub fn train_step<M: Trainable + ?Sized>(
        &mut self,
        data: &Batch<f32>,
        model: &M,
    ) -> Result<f64, StepError> {
        self.config.validate()?;
        let objective = model.objective();
        let layout = objective.network.layout();
        let (config, seed) = (self.config, self.seed);
        let moments = self.step.optimizer().moments();
        let run = match &mut self.run {
            Some(run) => run,
            none => {
                // Refuses a wrong number of threads before anything is drawn: a corrected setting begins with its own seed.
                let draw = || Params::init(layout, seed);
                let params = Arc::new(nd_parallel::install(self.options.threads, draw)?);
                let mut state = TrainState::new(layout, seed, moments);
                state.loss_scale = config.initial_state();
                none.insert(Run { params, state })
            }
        };
        run.params.require(layout)?;
        let before = run.state.loss_scale.scale;
        let (step, options, lr) = (&mut self.step, self.options, self.learning_rate);
        let work = || {
            step.run_scaled(
                objective,
                &mut run.params,
                &mut run.state,
                data,
                options,
                lr,
                &config,
            )
        };
        let outcome = nd_parallel::install(options.threads, work)?;
        self.stats.scale_updates += u64::from(run.state.loss_scale.scale != before);
        self.skip = !matches!(outcome, Ok(Outcome::Taken(_)));
        self.stats.steps += u64::from(!self.skip);
        self.stats.skipped += u64::from(self.skip);
        match outcome? {
            Outcome::Taken(report) => Ok(report.loss),
            Outcome::Skipped { loss } => Ok(loss),
        }
    }

    /// Whether the last step was skipped.
    #[must_use]
    pub fn should_skip_step(&self) -> bool {
        self.skip
    }

    /// What has been counted since this trainer was made.
    #[must_use]
    pub fn stats(&self) -> MixedPrecisionStats {
        let Counts {
            steps,
            skipped,
            scale_updates,
        } = self.stats;
        let initial = self.config.initial_state().scale;
        MixedPrecisionStats {
            steps,
            skipped,
            scale_updates,
            overflow_count: skipped,
            current_scale: self
                .run
                .as_ref()
                .map_or(initial, |run| run.state.loss_scale.scale),
        }
    }

    /// The master weights; `None` before the first step.
    #[must_use]
    pub fn params(&self) -> Option<&Arc<Params<f32>>> {
        self.run.as_ref().map(|run| &run.params)
    }

    /// The state of the run, which a checkpoint keeps; `None` before the first step.
    #[must_use]
    pub fn state(&self) -> Option<&TrainState<f32>> {
        self.run.as_ref().map(|run| &run.state)
    }

    /// The format of products, attention and saved activations.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.options.precision
    }
}
