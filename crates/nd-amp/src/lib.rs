//! The training step, in one place: gradients over shards, finite check and norm in one pass, clipping, optimizer; and
//! mixed precision around it.
//!
//! [`TrainStep::run`] takes an objective of any network and loss, the parameters, the state of the run and a batch. The
//! factor of the gradients (loss scale, the loss's own factor, clipping) is applied inside the optimizer's single pass.
//! A step whose loss or gradient is not finite changes nothing and says where the first bad value stands.
//!
//! [`TrainStep::run_scaled`] is the same step with a loss scale that moves ([`GradScaler`]): a step that overflows is skipped.
//! [`MixedPrecisionTrainer`] keeps master weights in f32 and trains any network in bf16 or f16; what is rounded where says
//! the table of `nd_simd::ops`.
//!
//! ```
//! use nd_amp::{GradScaler, MixedPrecisionConfig, MixedPrecisionTrainer, Optimizer};
//! use nd_core::Precision;
//!
//! let config = MixedPrecisionConfig {
//!     enabled: true,
//!     initial_scale: 2.0f64.powi(16),
//!     growth_factor: 2.0,
//!     backoff_factor: 0.5,
//!     growth_interval: 2000,
//!     min_scale: 1.0,
//!     max_scale: 2.0f64.powi(24),
//! };
//! let trainer = MixedPrecisionTrainer::new(config)
//!     .with_precision(Precision::Bf16)
//!     .with_optimizer(Optimizer::adamw())
//!     .with_seed(7);
//! assert_eq!(trainer.stats().current_scale, 65536.0);
//! ```
#![forbid(unsafe_code)]

mod bound;
mod config;
mod error;
mod gradients;
mod optimizer;
mod scaler;
mod step;
mod trainer;

pub use bound::BoundOptimizer;
pub use config::{MAX_SKIPPED_IN_ROW, MixedPrecisionConfig};
pub use error::StepError;
pub use gradients::Gradients;
pub use optimizer::{Clip, Optimizer};
pub use scaler::GradScaler;
pub use step::{BatchPart, Outcome, StepReport, TrainStep};
pub use trainer::{MixedPrecisionStats, MixedPrecisionTrainer, Trainable};
