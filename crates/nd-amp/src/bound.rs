//! An optimizer that owns the parameters it moves.

use std::sync::Arc;

use nd_core::autograd::Params;
use nd_core::{SimdLevel, TrainState};
use nd_simd::SimdReal;

use crate::gradients::Gradients;
use crate::optimizer::{Optimizer, Pass};

/// An [`Optimizer`] with parameters, moments and a learning rate: for training loops written by hand.
#[derive(Debug)]
pub struct BoundOptimizer<R: SimdReal = f32> {
    optimizer: Optimizer,
    learning_rate: f64,
    params: Arc<Params<R>>,
    state: TrainState<R>,
}

impl Optimizer {
    /// Gives the optimizer parameters to move.
    #[must_use]
    pub fn bind<R: SimdReal>(
        self,
        params: impl Into<Arc<Params<R>>>,
        learning_rate: f64,
    ) -> BoundOptimizer<R> {
        let params = params.into();
        let state = TrainState::new(params.layout(), 0, self.moments());
        BoundOptimizer {
            optimizer: self,
            learning_rate,
            params,
            state,
        }
    }
}

impl<R: SimdReal> BoundOptimizer<R> {
    /// Moves the parameters against the gradients, given in the layout of the trainable parameters.
    ///
    /// # Panics
    /// There is not one gradient for each trainable value, gaps included ([`nd_core::autograd::ParamLayout::trainable_len`]).
    #[track_caller]
    pub fn step<G: Gradients<Real = R> + ?Sized>(&mut self, gradients: &G) {
        let layout = Arc::clone(self.params.layout());
        let values = gradients.values();
        assert_eq!(
            values.len(),
            layout.trainable_len(),
            "gradients for parameters with so many trainable values"
        );
        let pass = Pass {
            level: SimdLevel::current(),
            parallel: false,
            lr: self.learning_rate,
            factor: 1.0,
        };
        let owned = Arc::make_mut(&mut self.params);
        self.optimizer.apply(
            pass,
            &layout,
            values,
            owned.trainable_mut(),
            &mut self.state,
        );
        self.state.step += 1;
    }

    /// The parameters.
    #[must_use]
    pub fn params(&self) -> &Arc<Params<R>> {
        &self.params
    }

    /// The learning rate of the next step.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    /// Changes the learning rate.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.state.step
    }
}
