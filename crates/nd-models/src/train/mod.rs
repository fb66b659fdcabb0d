//! Training and inference over windows: what NeuralForecast's `fit` and `predict` compute, without copying panels.
//!
//! [`Trainer`] drives the loop: [`sampler`] draws windows, [`gather`] copies them into a batch, `nd_amp::TrainStep` takes
//! the step, [`schedule`] sets the learning rate, [`inference`] validates, and the best weights are kept. Everything
//! that the loop carries is in one `nd_core::TrainState`, so a run can be resumed to the bit.

pub mod config;
pub mod gather;
pub mod inference;
pub mod sampler;
pub mod schedule;
mod trainer;

pub use config::TrainConfig;
pub use inference::Inference;
pub use trainer::{Checkpoints, Control, History, Progress, Save, Stop, Trainer};
