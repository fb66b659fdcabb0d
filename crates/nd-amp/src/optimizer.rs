//! Which optimizer, and how gradients are clipped.

use nd_core::autograd::ParamLayout;
use nd_core::{SimdLevel, TrainState};
use nd_simd::SimdReal;
use nd_simd::optim::{self, Adam, RmsProp, Sgd};
use serde::{Deserialize, Serialize};

/// An optimizer and its constants; the learning rate comes with each step. Defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Optimizer {
    /// Adam (arXiv 1412.6980); decay is added to the gradient.
    Adam {
        /// The decay of the first moment.
        beta1: f64,
        /// The decay of the second moment.
        beta2: f64,
        /// Added to the root of the second moment.
        eps: f64,
        /// L2 regularisation.
        weight_decay: f64,
    },
    /// Adam with decoupled decay (arXiv 1711.05101).
    AdamW {
        /// The decay of the first moment.
        beta1: f64,
        /// The decay of the second moment.
        beta2: f64,
        /// Added to the root of the second moment.
        eps: f64,
        /// The share of a weight, times the learning rate, that each step takes away.
        weight_decay: f64,
    },
    /// Gradient descent with momentum.
    Sgd {
        /// The decay of the velocity.
        momentum: f64,
        /// L2 regularisation.
        weight_decay: f64,
        /// Whether to look ahead.
        nesterov: bool,
    },
    /// RMSprop.
    RmsProp {
        /// The decay of the mean of squares.
        alpha: f64,
        /// Added to the root of the mean of squares.
        eps: f64,
        /// L2 regularisation.
        weight_decay: f64,
    },
}

impl Default for Optimizer {
    /// [`Optimizer::adam`].
    fn default() -> Self {
        Self::adam()
    }
}

impl Optimizer {
    /// Adam with PyTorch's defaults.
    #[must_use]
    pub fn adam() -> Self {
        Self::Adam {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
        }
    }

    /// AdamW with PyTorch's defaults.
    #[must_use]
    pub fn adamw() -> Self {
        Self::AdamW {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
        }
    }

    /// Plain gradient descent.
    #[must_use]
    pub fn sgd() -> Self {
        Self::Sgd {
            momentum: 0.0,
            weight_decay: 0.0,
            nesterov: false,
        }
    }

    /// RMSprop with PyTorch's defaults.
    #[must_use]
    pub fn rmsprop() -> Self {
        Self::RmsProp {
            alpha: 0.99,
            eps: 1e-8,
            weight_decay: 0.0,
        }
    }

    /// How many moments the optimizer keeps for each weight.
    #[must_use]
    pub fn moments(&self) -> usize {
        match self {
            Self::Adam { .. } | Self::AdamW { .. } => 2,
            Self::Sgd { .. } | Self::RmsProp { .. } => 1,
        }
    }

    /// Checks the constants: decays of moments in `[0, 1)`, all others finite and not negative.
    ///
    /// # Errors
    /// The constant, its value and what it must be.
    pub fn validate(&self) -> Result<(), (&'static str, f64, &'static str)> {
        let (decays, others) = match *self {
            Self::Adam {
                beta1,
                beta2,
                eps,
                weight_decay,
            }
            | Self::AdamW {
                beta1,
                beta2,
                eps,
                weight_decay,
            } => (
                [("beta1", beta1), ("beta2", beta2)],
                [("eps", eps), ("weight_decay", weight_decay)],
            ),
            Self::Sgd {
                momentum,
                weight_decay,
                ..
            } => (
                [("momentum", momentum); 2],
                [("weight_decay", weight_decay); 2],
            ),
            Self::RmsProp {
                alpha,
                eps,
                weight_decay,
            } => (
                [("alpha", alpha); 2],
                [("eps", eps), ("weight_decay", weight_decay)],
            ),
        };
        for (name, value) in decays {
            if !(0.0..1.0).contains(&value) {
                return Err((name, value, "it must be at least 0 and below 1"));
            }
        }
        for (name, value) in others {
            if !(value >= 0.0 && value.is_finite()) {
                return Err((name, value, "it must be finite and not negative"));
            }
        }
        Ok(())
    }

    fn decay(&self) -> f64 {
        match *self {
            Self::Adam { weight_decay, .. }
            | Self::AdamW { weight_decay, .. }
            | Self::Sgd { weight_decay, .. }
            | Self::RmsProp { weight_decay, .. } => weight_decay,
        }
    }

    /// One step over all trainable values: decayed ones first, then those that are never decayed.
    ///
    /// # Panics
    /// The state has not [`Optimizer::moments`] moments of the layout.
    pub(crate) fn apply<R: SimdReal>(
        &self,
        pass: Pass,
        layout: &ParamLayout,
        grad: &[R],
        weight: &mut [R],
        state: &mut TrainState<R>,
    ) {
        assert_eq!(
            state.moments.len(),
            self.moments(),
            "moments in the state of the run, for the optimizer {self:?}"
        );
        let decayed = if self.decay() == 0.0 {
            weight.len()
        } else {
            layout.decayed_len()
        };
        let mut moments = state
            .moments
            .iter_mut()
            .map(|moment| moment.split_at_mut(decayed));
        let first = moments.next().unwrap_or_default();
        let second = moments.next().unwrap_or_default();
        let (weight_left, weight_right) = weight.split_at_mut(decayed);
        let (grad_left, grad_right) = grad.split_at(decayed);
        let step = state.step + 1;
        self.run(pass, step, 1.0, grad_left, weight_left, first.0, second.0);
        if !grad_right.is_empty() {
            self.run(pass, step, 0.0, grad_right, weight_right, first.1, second.1);
        }
    }

    fn run<R: SimdReal>(
        &self,
        pass: Pass,
        step: u64,
        decay: f64,
        grad: &[R],
        weight: &mut [R],
        first: &mut [R],
        second: &mut [R],
    ) {
        let Pass {
            level,
            parallel,
            lr,
            factor,
        } = pass;
        match *self {
            Self::Adam {
                beta1,
                beta2,
                eps,
                weight_decay,
            } => {
                let coupled_decay = weight_decay * decay;
                let adam = Adam {
                    lr,
                    beta1,
                    beta2,
                    eps,
                    coupled_decay,
                    decoupled_decay: 0.0,
                    step,
                };
                optim::adam_step(level, parallel, adam, factor, grad, weight, first, second);
            }
            Self::AdamW {
                beta1,
                beta2,
                eps,
                weight_decay,
            } => {
                let decoupled_decay = weight_decay * decay;
                let adam = Adam {
                    lr,
                    beta1,
                    beta2,
                    eps,
                    coupled_decay: 0.0,
                    decoupled_decay,
                    step,
                };
                optim::adam_step(level, parallel, adam, factor, grad, weight, first, second);
            }
            Self::Sgd {
                momentum,
                weight_decay,
                nesterov,
            } => {
                let sgd = Sgd {
                    lr,
                    momentum,
                    weight_decay: weight_decay * decay,
                    nesterov,
                };
                optim::sgd_step(level, parallel, sgd, factor, grad, weight, first);
            }
            Self::RmsProp {
                alpha,
                eps,
                weight_decay,
            } => {
                let rmsprop = RmsProp {
                    lr,
                    alpha,
                    eps,
                    weight_decay: weight_decay * decay,
                };
                optim::rmsprop_step(level, parallel, rmsprop, factor, grad, weight, first);
            }
        }
    }
}

/// What an optimizer pass needs beside its slices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass {
    pub(crate) level: SimdLevel,
    pub(crate) parallel: bool,
    pub(crate) lr: f64,
    /// What the gradient is multiplied with on loading.
    pub(crate) factor: f64,
}

/// How gradients are kept from being too large.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(
    tag = "by",
    content = "max",
    rename_all = "lowercase",
    deny_unknown_fields
)]
pub enum Clip {
    /// Not at all.
    #[default]
    Off,
    /// The whole gradient is scaled down when its Euclidean norm is above this.
    Norm(f64),
}

/// Added to the norm before dividing, as PyTorch's `clip_grad_norm_` does.
const CLIP_EPS: f64 = 1e-6;

impl Clip {
    /// The factor for a gradient of this norm.
    pub(crate) fn factor(self, norm: f64) -> f64 {
        match self {
            Self::Off => 1.0,
            Self::Norm(max) => (max / (norm + CLIP_EPS)).min(1.0),
        }
    }
}
