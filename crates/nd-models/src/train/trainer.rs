//! The training loop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nd_amp::{MixedPrecisionConfig, Outcome, TrainStep};
use nd_core::autograd::{Mode, Params};
use nd_core::train_state::Best;
use nd_core::train_state::LossScaleState;
use nd_core::{Batch, Buffer, Objective, Precision, RunOptions, TrainState, WindowSource};
use nd_data::WindowScaler;
use nd_simd::SimdReal;

use super::config::TrainConfig;
use super::gather::gather;
use super::inference::{Forward, Inference};
use super::sampler::{Sampler, WindowIndex};
use super::schedule::learning_rate;
use crate::error::ModelError;

/// What is known after a step; given to the caller's callback.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Steps taken, this one included.
    pub step: u64,
    /// Steps to take in all.
    pub max_steps: u64,
    /// The training loss of the step.
    pub loss: f64,
    /// The norm of its gradient before clipping.
    pub gradient_norm: f64,
    /// The learning rate of the step.
    pub learning_rate: f64,
    /// The validation loss, after the steps that validate.
    pub validation: Option<f64>,
    /// The time since training began or was resumed.
    pub elapsed: Duration,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Take the next step.
    Continue,
    /// Stop here and keep what has been learned.
    Stop,
}

/// Why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// All steps were taken.
    Completed,
    /// Validation did not improve for too long; the best weights were put back.
    Early,
    /// The callback said so.
    Cancelled,
}

/// What happened during training.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// The training loss of every step taken by this call.
    pub losses: Vec<f64>,
    /// Step and validation loss of every validation of this call.
    pub validations: Vec<(u64, f64)>,
    /// Why training ended.
    pub stop: Stop,
    /// The step whose weights were kept, when early stopping put back the best ones.
    pub best_step: Option<u64>,
    /// The time taken.
    pub elapsed: Duration,
}

/// Saves parameters and state now and then during a run.
pub struct Checkpoints<'c, R: SimdReal = f32> {
    /// Steps from one to the next; the last step of a run is saved too.
    pub every: u64,
    /// Saves them; an error ends the run.
    pub save: &'c mut Save<'c, R>,
}

/// Writes parameters and state somewhere.
pub type Save<'c, R> = dyn FnMut(&Params<R>, &TrainState<R>) -> Result<(), ModelError> + Send + 'c;

impl<R: SimdReal> std::fmt::Debug for Checkpoints<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoints")
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

/// Trains the parameters of a network on windows.
pub struct Trainer<'a, R: SimdReal = f32> {
    /// The network and its loss.
    pub objective: Objective<'a, R>,
    /// The windows to learn from, scaled.
    pub train: &'a dyn WindowSource<R>,
    /// The windows to validate on, scaled in the same way; `None` when nothing was kept for that.
    pub validation: Option<&'a dyn WindowSource<R>>,
    /// How windows are scaled.
    pub scaler: WindowScaler,
    /// The settings.
    pub config: &'a TrainConfig,
    /// The choices of the run.
    pub options: RunOptions,
}

impl<R: SimdReal> Trainer<'_, R> {
    /// Takes the steps that are left, from the state given to the end.
    ///
    /// A fresh state starts from the beginning; the state of an interrupted run goes on from there, and the result is
    /// the same to the bit. The callback sees every step. With early stopping, the weights of the best validation are
    /// put back at the end.
    ///
    /// # Errors
    /// Bad settings, no windows to learn from, a step whose loss or gradient is not finite (in sixteen bits: fifty of them in a
    /// row, each skipped), or a checkpoint that cannot be saved; parameters and state are then those after the last good
    /// step.
    ///
    /// # Panics
    /// The parameters are not those of the network, or the state has not the optimizer's moments.
    pub fn run(
        &self,
        params: &mut Arc<Params<R>>,
        state: &mut TrainState<R>,
        progress: &mut (dyn FnMut(&Progress) -> Control + Send),
        checkpoints: Option<Checkpoints<'_, R>>,
    ) -> Result<History, ModelError> {
        self.config.validate()?;
        if self.train.total_windows() == 0 {
            return Err(ModelError::NoWindows {
                layout: self.train.layout(),
            });
        }
        let run = || self.run_steps(params, state, progress, checkpoints);
        nd_parallel::install(self.options.threads, run)?
    }

    fn run_steps(
        &self,
        params: &mut Arc<Params<R>>,
        state: &mut TrainState<R>,
        progress: &mut (dyn FnMut(&Progress) -> Control + Send),
        mut checkpoints: Option<Checkpoints<'_, R>>,
    ) -> Result<History, ModelError> {
        let config = self.config;
        let start = Instant::now();
        let parallel = nd_core::threads::parallel();
        let mut step = TrainStep::new(config.optimizer, config.clip);
        let mut sampler = Sampler::default();
        let mut batch = Batch::new(self.train.layout());
        let validation = self.validation.map(|source| (source, all_windows(source)));
        let inference = Inference::default();
        let steps_left = config.max_steps.saturating_sub(state.step);
        // A run of so many steps that their losses need more than a few MB grows the list as it goes.
        let mut losses = Vec::with_capacity(steps_left.min(1 << 20) as usize);
        let mut validations = Vec::new();
        let mut stop = Stop::Completed;
        // What sampling has taken from the state, to be put back when the step fails.
        let mut before = state.sampler.clone();
        let is_over = |state: &TrainState<R>| {
            let checks = state.early_stopping.checks_since_best;
            config
                .early_stop_patience
                .is_some_and(|patience| checks >= patience)
        };
        if is_over(state) {
            stop = Stop::Early;
        }
        let mixed = (self.options.precision != Precision::F32).then(MixedPrecisionConfig::default);
        if let Some(mixed) = &mixed
            && state.loss_scale == LossScaleState::default()
        {
            state.loss_scale = mixed.initial_state();
        }
        while state.step < config.max_steps && stop == Stop::Completed {
            before.clone_from(&state.sampler);
            let windows = sampler.draw(
                self.train,
                &mut state.sampler,
                config.batch_size,
                config.windows_batch_size,
            );
            gather(self.train, windows, &mut batch, parallel);
            let lr = learning_rate(config, state.step);
            let objective = self.objective;
            let outcome = match &mixed {
                None => (step.run(objective, params, state, &batch, self.options, lr))
                    .map(Outcome::Taken),
                Some(mixed) => {
                    step.run_scaled(objective, params, state, &batch, self.options, lr, mixed)
                }
            };
            let report = match outcome {
                Ok(Outcome::Taken(report)) => report,
                // The next batch, with a smaller loss scale.
                Ok(Outcome::Skipped { .. }) => continue,
                Err(error) => {
                    state.sampler.clone_from(&before);
                    if let Some(Checkpoints { save, .. }) = &mut checkpoints {
                        save(params, state)?;
                    }
                    return Err(error.into());
                }
            };
            losses.push(report.loss);
            let last = state.step == config.max_steps;
            let regular = state.step.is_multiple_of(config.validation_interval());
            let mut found = None;
            if let Some((source, windows)) = validation.as_ref().filter(|_| regular || last) {
                let loss = self.validate(&inference, params, *source, windows);
                let loss = loss.ok_or(ModelError::NoValidationTargets)?;
                validations.push((state.step, loss));
                if config.early_stop_patience.is_some() {
                    remember(state, params, loss, regular);
                }
                found = Some(loss);
            }
            let patience_is_over = is_over(state);
            let control = progress(&Progress {
                step: state.step,
                max_steps: config.max_steps,
                loss: report.loss,
                gradient_norm: report.gradient_norm,
                learning_rate: lr,
                validation: found,
                elapsed: start.elapsed(),
            });
            if let Some(Checkpoints { every, save }) = &mut checkpoints
                && (last
                    || patience_is_over
                    || control == Control::Stop
                    || state.step.is_multiple_of((*every).max(1)))
            {
                save(params, state)?;
            }
            if patience_is_over {
                stop = Stop::Early;
                break;
            }
            if control == Control::Stop {
                stop = Stop::Cancelled;
                break;
            }
        }
        let mut best_step = None;
        if config.early_stop_patience.is_some()
            && stop != Stop::Cancelled
            && let Some(best) = &state.early_stopping.best
        {
            Arc::make_mut(params).flat_mut().copy_from_slice(&best.flat);
            best_step = Some(best.step);
        }
        if let Some(parameter) = params.first_non_finite() {
            return Err(ModelError::Weights {
                step: state.step,
                parameter: parameter.to_owned(),
            });
        }
        Ok(History {
            losses,
            validations,
            stop,
            best_step,
            elapsed: start.elapsed(),
        })
    }

    fn validate(
        &self,
        inference: &Inference<R>,
        params: &Arc<Params<R>>,
        source: &dyn WindowSource<R>,
        windows: &[WindowIndex],
    ) -> Option<f64> {
        let forward = Forward {
            objective: self.objective,
            params,
            source,
            scaler: self.scaler,
            options: self.options,
            mode: Mode::Infer,
            key: nd_core::rng::Key::default(),
            first_row: 0,
            max_chunk: self.config.inference_windows_batch_size,
        };
        inference.evaluate(&forward, windows)
    }
}

/// Every window of a source, in order.
#[must_use]
pub(crate) fn all_windows<R: SimdReal>(source: &dyn WindowSource<R>) -> Vec<WindowIndex> {
    let of = |group| (0..source.windows(group)).map(move |window| WindowIndex { group, window });
    (0..source.groups()).flat_map(of).collect()
}

/// Keeps the weights when the loss is the best so far, and counts the validations since. A loss that is not finite is no
/// improvement; a validation between two regular ones (after the last step) does not count against patience.
fn remember<R: SimdReal>(state: &mut TrainState<R>, params: &Params<R>, loss: f64, regular: bool) {
    let step = state.step;
    let stopping = &mut state.early_stopping;
    let is_better = match &stopping.best {
        Some(best) => loss < best.loss,
        None => loss.is_finite(),
    };
    if !is_better {
        stopping.checks_since_best += u64::from(regular);
        return;
    }
    stopping.checks_since_best = 0;
    match &mut stopping.best {
        Some(best) => {
            best.loss = loss;
            best.step = step;
            best.flat.copy_from_slice(params.flat());
        }
        None => {
            let flat = Buffer::from_slice(params.flat());
            stopping.best = Some(Best { loss, step, flat });
        }
    }
}
