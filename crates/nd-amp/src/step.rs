//! One training step.

use std::sync::Arc;

use nd_core::autograd::{Mode, Params};
use nd_core::{Batch, Objective, Real, RunOptions, TrainState};
use nd_parallel::{GradientEngine, GradientError, NotFinite, StepOptions};
use nd_simd::SimdReal;
use nd_simd::optim::check_norm;

use crate::config::{MAX_SKIPPED_IN_ROW, MixedPrecisionConfig};
use crate::error::StepError;
use crate::optimizer::{Clip, Optimizer, Pass};
use crate::scaler::GradScaler;

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The loss before the step.
    pub loss: f64,
    /// The Euclidean norm of its gradient before clipping.
    pub gradient_norm: f64,
    /// The sum of the weights of all windows.
    pub weight: f64,
}

/// What became of a step under a moving loss scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// It was taken.
    Taken(StepReport),
    /// Loss or gradient were not finite: parameters, moments and the number of the step are as before, the scale has shrunk.
    Skipped {
        /// The loss; NaN when it was not finite.
        loss: f64,
    },
}

/// The windows of a step that this process has.
///
/// A batch alone is all of it: `TrainStep::run(.., &batch, ..)`.
#[derive(Clone, Copy, Debug)]
pub struct BatchPart<'a, R: Real = f32> {
    /// The windows.
    pub batch: &'a Batch<R>,
    /// The place of the first of them in the batch that the processes share ([`StepOptions::first_row`]).
    pub first_row: usize,
}

impl<'a, R: Real> From<&'a Batch<R>> for BatchPart<'a, R> {
    fn from(batch: &'a Batch<R>) -> Self {
        let first_row = 0;
        Self { batch, first_row }
    }
}

/// Takes training steps; keeps tapes and gradient buffers between them.
///
/// The order of a step: gradients of the scaled loss over shards, one pass for norm and finiteness, the clipping factor,
/// one optimizer pass that unscales and clips on loading, buffer updates of the forward pass.
#[derive(Debug)]
pub struct TrainStep<R: SimdReal = f32> {
    engine: GradientEngine<R>,
    optimizer: Optimizer,
    clip: Clip,
}

impl<R: SimdReal> TrainStep<R> {
    /// Steps of an optimizer.
    #[must_use]
    pub fn new(optimizer: Optimizer, clip: Clip) -> Self {
        Self::with_engine(GradientEngine::new(), optimizer, clip)
    }

    /// Steps whose gradients come from an engine of the caller's.
    #[must_use]
    pub fn with_engine(engine: GradientEngine<R>, optimizer: Optimizer, clip: Clip) -> Self {
        Self {
            engine,
            optimizer,
            clip,
        }
    }

    /// The optimizer.
    #[must_use]
    pub fn optimizer(&self) -> Optimizer {
        self.optimizer
    }

    /// The gradients of the last step, not yet unscaled or clipped.
    #[must_use]
    pub fn engine(&self) -> &GradientEngine<R> {
        &self.engine
    }

    /// How gradients are clipped.
    #[must_use]
    pub fn clip(&self) -> Clip {
        self.clip
    }

    /// Takes one step with the learning rate `lr`.
    ///
    /// Call it inside [`nd_core::Threads::install`]. Of several processes every one gives its [`BatchPart`]; a bare batch is for a
    /// process alone. When somebody else holds the parameters too, they keep the old values.
    ///
    /// # Errors
    /// The loss or its gradient is not finite, or processes could not be combined: parameters and state are unchanged.
    ///
    /// # Panics
    /// The parameters are not those of the network, or the state has not the optimizer's moments.
    pub fn run<'a>(
        &mut self,
        objective: Objective<'_, R>,
        params: &mut Arc<Params<R>>,
        state: &mut TrainState<R>,
        batch: impl Into<BatchPart<'a, R>>,
        options: RunOptions,
        lr: f64,
    ) -> Result<StepReport, StepError> {
        let step = state.step + 1;
        let found = self.try_step(objective, params, state, batch.into(), options, lr)?;
        found.map_err(|bad| match bad {
            Bad::Loss(found) => StepError::loss(step, &found),
            Bad::Gradient { parameter, .. } => {
                let parameter = parameter.unwrap_or_default();
                StepError::Gradient { step, parameter }
            }
        })
    }

    /// As [`TrainStep::run`], under a loss scale that moves: a step whose loss or gradient is not finite is skipped.
    ///
    /// The scale is that of the state ([`TrainState::loss_scale`]), which must begin at [`MixedPrecisionConfig::initial_state`].
    ///
    /// # Errors
    /// [`StepError::Overflow`] when [`MAX_SKIPPED_IN_ROW`] steps have been skipped in a row; [`StepError::Processes`], which leaves the
    /// scale as it is.
    ///
    /// # Panics
    /// As [`TrainStep::run`].
    pub fn run_scaled<'a>(
        &mut self,
        objective: Objective<'_, R>,
        params: &mut Arc<Params<R>>,
        state: &mut TrainState<R>,
        batch: impl Into<BatchPart<'a, R>>,
        options: RunOptions,
        lr: f64,
        config: &MixedPrecisionConfig,
    ) -> Result<Outcome, StepError> {
        let found = self.try_step(objective, params, state, batch.into(), options, lr)?;
        let mut scaler = GradScaler::resume(*config, state.loss_scale);
        scaler.update(found.is_err());
        state.loss_scale = scaler.state();
        let bad = match found {
            Ok(report) => return Ok(Outcome::Taken(report)),
            Err(bad) => bad,
        };
        if state.loss_scale.skipped_in_row >= MAX_SKIPPED_IN_ROW {
            let weight = params.first_non_finite().map(str::to_owned);
            let near = match &bad {
                Bad::Loss(found) => found.place.as_ref().and_then(|place| place.near.clone()),
                Bad::Gradient { parameter, .. } => parameter.clone(),
            };
            return Err(StepError::Overflow {
                step: state.step + 1,
                skipped: state.loss_scale.skipped_in_row,
                scale: state.loss_scale.scale.to_string(),
                parameter: weight.or(near).unwrap_or_else(|| match &bad {
                    Bad::Loss(found) => {
                        format!("none: the first bad value came from {}", found.origin())
                    }
                    Bad::Gradient { .. } => "none: the sum of the gradients' squares".to_owned(),
                }),
            });
        }
        let loss = match bad {
            Bad::Loss(_) => f64::NAN,
            Bad::Gradient { loss, .. } => loss,
        };
        Ok(Outcome::Skipped { loss })
    }

    /// A step, or the value of it that is not finite.
    ///
    /// # Errors
    /// [`StepError::Processes`].
    fn try_step(
        &mut self,
        objective: Objective<'_, R>,
        params: &mut Arc<Params<R>>,
        state: &mut TrainState<R>,
        part: BatchPart<'_, R>,
        options: RunOptions,
        lr: f64,
    ) -> Result<Result<StepReport, Bad>, StepError> {
        let step = StepOptions {
            options,
            key: state.key(),
            mode: Mode::Train,
            loss_scale: state.loss_scale.scale,
            first_row: part.first_row,
        };
        let found = match self.engine.compute(objective, params, part.batch, step) {
            Ok(found) => found,
            Err(GradientError::NotFinite(found)) => return Ok(Err(Bad::Loss(found))),
            Err(source) => {
                let step = state.step + 1;
                return Err(StepError::Processes { step, source });
            }
        };

        let parallel = nd_core::threads::parallel();
        let grads = self.engine.gradients();
        let check = check_norm(options.simd, parallel, grads.flat());
        if !check.is_finite {
            let layout = grads.layout();
            let bad = layout
                .ids()
                .filter(|&id| layout.entry(id).kind.is_trainable())
                .find(|&id| grads.get(id).iter().any(|g| !g.is_finite()));
            return Ok(Err(Bad::Gradient {
                loss: found.loss,
                parameter: bad.map(|id| layout.entry(id).name.clone()),
            }));
        }
        let gradient_norm = check.norm() * found.factor.abs();
        let factor = found.factor * self.clip.factor(gradient_norm);

        let pass = Pass {
            level: options.simd,
            parallel,
            lr,
            factor,
        };
        let layout = Arc::clone(params.layout());
        let owned = Arc::make_mut(params);
        self.optimizer
            .apply(pass, &layout, grads.flat(), owned.trainable_mut(), state);
        for update in self.engine.take_updates() {
            owned.get_mut(update.param).copy_from_slice(&update.values);
        }
        state.step += 1;
        Ok(Ok(StepReport {
            loss: found.loss,
            gradient_norm,
            weight: found.weight,
        }))
    }
}

/// What of a step is not finite: whether anything is, is the same in every process.
enum Bad {
    Loss(NotFinite),
    Gradient {
        loss: f64,
        parameter: Option<String>,
    },
}
