//! One training step.

use std::sync::Arc;

use nd_core::autograd::{Mode, Params};
use nd_core::{Batch, Objective, RunOptions, TrainState};
use nd_parallel::{GradientEngine, StepOptions};
use nd_simd::SimdReal;
use nd_simd::optim::check_norm;

use crate::error::StepError;
use crate::optimizer::{Clip, Optimizer, Pass};

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

    /// Takes one step with the learning rate `lr`.
    ///
    /// Call it inside [`nd_core::Threads::install`]. When somebody else holds the parameters too, they keep the old values.
    ///
    /// # Errors
    /// The loss or its gradient is not finite: parameters and state are unchanged.
    ///
    /// # Panics
    /// The parameters are not those of the network, or the state has not the optimizer's moments.
    pub fn run(
        &mut self,
        objective: Objective<'_, R>,
        params: &mut Arc<Params<R>>,
        state: &mut TrainState<R>,
        batch: &Batch<R>,
        options: RunOptions,
        lr: f64,
    ) -> Result<StepReport, StepError> {
        let number = state.step + 1;
        let step = StepOptions {
            options,
            key: state.key(),
            mode: Mode::Train,
            loss_scale: state.loss_scale.scale,
        };
        let found = self
            .engine
            .compute(objective, params, batch, step)
            .map_err(|not_finite| StepError::loss(number, &not_finite))?;

        let parallel = rayon::current_num_threads() > 1;
        let grads = self.engine.gradients();
        let check = check_norm(options.simd, parallel, grads.flat());
        if !check.is_finite {
            let layout = grads.layout();
            let bad = layout
                .ids()
                .filter(|&id| layout.entry(id).kind.is_trainable())
                .find(|&id| grads.get(id).iter().any(|g| !g.is_finite()));
            let parameter = bad.map_or(String::new(), |id| layout.entry(id).name.clone());
            return Err(StepError::Gradient {
                step: number,
                parameter,
            });
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
        state.step = number;
        Ok(StepReport {
            loss: found.loss,
            gradient_norm,
            weight: found.weight,
        })
    }
}
