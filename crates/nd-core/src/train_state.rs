//! Everything that a training run carries from step to step.
//!
//! A run resumed from its [`TrainState`] and its [`crate::autograd::Params`] gives the same bits as one that was never
//! interrupted. Learning rates are functions of the step, so the schedule needs no state of its own.

use std::sync::Arc;

use crate::autograd::ParamLayout;
use crate::buffer::Buffer;
use crate::element::Real;
use crate::rng::{Key, StreamPosition};

/// Where the sampling of windows stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplerState {
    /// The random numbers.
    pub stream: StreamPosition,
    /// The groups of the current epoch that are still to come, in their order.
    pub epoch: Vec<u32>,
}

impl SamplerState {
    /// Before the first step.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Training steps count up from 0 and initial values use the last step number; this one is neither.
        let key = Key {
            seed,
            step: u32::MAX - 1,
            op: 0,
        };
        Self {
            stream: StreamPosition { key, drawn: 0 },
            epoch: Vec::new(),
        }
    }
}

/// Where dynamic loss scaling stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossScaleState {
    /// The factor of the loss.
    pub scale: f64,
    /// Steps without an overflow since the last change.
    pub clean_steps: u64,
    /// Steps skipped in a row.
    pub skipped_in_row: u64,
}

impl Default for LossScaleState {
    fn default() -> Self {
        Self {
            scale: 1.0,
            clean_steps: 0,
            skipped_in_row: 0,
        }
    }
}

/// The best weights so far.
#[derive(Clone, Debug)]
pub struct Best<R: Real> {
    /// Their validation loss.
    pub loss: f64,
    /// The step after which they were measured.
    pub step: u64,
    /// All parameter values, flat.
    pub flat: Buffer<R>,
}

/// What early stopping remembers.
#[derive(Clone, Debug)]
pub struct EarlyStopping<R: Real> {
    /// The best so far; `None` before the first validation.
    pub best: Option<Best<R>>,
    /// Validations since then.
    pub checks_since_best: u64,
}

impl<R: Real> Default for EarlyStopping<R> {
    fn default() -> Self {
        Self {
            best: None,
            checks_since_best: 0,
        }
    }
}

/// Everything that a training run carries from step to step; see the module.
#[derive(Clone, Debug)]
pub struct TrainState<R: Real> {
    /// Steps taken.
    pub step: u64,
    /// The seed of the run: initial values, sampling and random ops.
    pub seed: u64,
    /// Where sampling stands.
    pub sampler: SamplerState,
    /// The optimizer's moments, each in the layout of the trainable parameters.
    pub moments: Vec<Buffer<R>>,
    /// Where loss scaling stands.
    pub loss_scale: LossScaleState,
    /// What early stopping remembers.
    pub early_stopping: EarlyStopping<R>,
}

impl<R: Real> TrainState<R> {
    /// The state before the first step, with `moments` zeroed moments.
    #[must_use]
    pub fn new(layout: &Arc<ParamLayout>, seed: u64, moments: usize) -> Self {
        Self {
            step: 0,
            seed,
            sampler: SamplerState::new(seed),
            moments: (0..moments)
                .map(|_| Buffer::zeroed(layout.trainable_len()))
                .collect(),
            loss_scale: LossScaleState::default(),
            early_stopping: EarlyStopping::default(),
        }
    }

    /// The key of the random ops of the next step.
    #[must_use]
    pub fn key(&self) -> Key {
        // A run of 2^32 - 2 steps would take centuries; the wrap keeps the arithmetic defined.
        Key {
            seed: self.seed,
            step: (self.step % u64::from(u32::MAX - 1)) as u32,
            op: 0,
        }
    }
}
