//! The training step, in one place: gradients over shards, finite check and norm in one pass, clipping, optimizer.
//!
//! [`TrainStep::run`] takes an objective of any network and loss, the parameters, the state of the run and a batch. The
//! factor of the gradients (loss scale, the loss's own factor, clipping) is applied inside the optimizer's single pass.
//! A step whose loss or gradient is not finite changes nothing and says where the first bad value stands.
//!
//! The loss scale of the state is obeyed and unscaled here; nothing in this crate moves it yet, so runs keep the
//! neutral scale 1 that [`nd_core::TrainState::new`] sets.
#![forbid(unsafe_code)]

mod error;
mod optimizer;
mod step;

pub use error::StepError;
pub use optimizer::{Clip, Optimizer};
pub use step::{StepReport, TrainStep};
