//! Every core used, and the same bits on any number of them.
//!
//! What is parallel here is what surrounds a model: predicting many samples, preparing data, training folds and points of a grid,
//! running the members of an ensemble, and adding up the gradients of one training step. A model is anything that implements the
//! traits of this crate: [`Predict`], [`PredictUncertain`], [`Fit`], [`Tune`], [`Preprocess`].
//!
//! ```
//! use nd_parallel as parallel;
//! use nd_parallel::{BoxError, EnsembleAggregation, Fit, ParallelConfig, Predict, Task, Tune};
//! # use nd_parallel::{Ask, PredictUncertain, Uncertain, Uncertainty};
//!
//! /// Forecasts the mean of the last values.
//! #[derive(Clone)]
//! struct MovingAverage { window: usize }
//!
//! impl Predict for MovingAverage {
//!     fn predict(&self, history: &Vec<f32>) -> Result<Vec<f32>, BoxError> {
//!         let last = &history[history.len().saturating_sub(self.window)..];
//!         Ok(vec![last.iter().sum::<f32>() / last.len() as f32])
//!     }
//! }
//!
//! impl Fit<Vec<f32>> for MovingAverage {
//!     type Fitted = Self;
//!     fn fit(&self, _: &Vec<f32>, _: &Task<'_>) -> Result<Self, BoxError> {
//!         Ok(self.clone())
//!     }
//!     fn score(&self, fitted: &Self, data: &Vec<f32>, test: std::ops::Range<usize>, _: &Task<'_>) -> Result<f64, BoxError> {
//!         let mut error = 0.0;
//!         for t in test.clone() {
//!             error += f64::from((fitted.predict(&data[..t].to_vec())?[0] - data[t]).abs());
//!         }
//!         Ok(error / test.len() as f64)
//!     }
//! }
//!
//! impl Tune<usize> for MovingAverage {
//!     fn tune(&self, window: &usize) -> Result<Self, BoxError> {
//!         Ok(Self { window: *window })
//!     }
//! }
//! # impl PredictUncertain for MovingAverage {
//! #     fn predict_uncertain(&self, samples: &[Vec<f32>], _: &Ask<'_>) -> Result<Vec<Uncertain<Vec<f32>>>, BoxError> {
//! #         samples.iter().map(|x| {
//! #             let y = self.predict(x)?;
//! #             Ok((y.clone(), Uncertainty { mean: y.clone(), std: vec![1.0], intervals: Vec::new() }))
//! #         }).collect()
//! #     }
//! # }
//!
//! let model = MovingAverage { window: 2 };
//! let data = vec![vec![1.0, 3.0], vec![5.0, 5.0, 8.0]];
//! let config = ParallelConfig {
//!     max_threads: None,  // Use all cores
//!     chunk_size: 32,     // Batch size per thread
//! };
//! let predictions = parallel::parallel_batch_inference(&model, &data, &config)?;
//! assert_eq!(predictions, [[2.0], [6.5]]);
//! let (predictions, uncertainties) = parallel::parallel_batch_inference_with_uncertainty(&model, &data, &config)?;
//! # assert_eq!((predictions.len(), uncertainties.len()), (2, 2));
//!
//! let models = vec![MovingAverage { window: 1 }, MovingAverage { window: 3 }];
//! let ensemble_pred = parallel::parallel_ensemble_predict(
//!     &models,
//!     &data,
//!     EnsembleAggregation::Mean,
//!     &config,
//! )?;
//! assert_eq!(ensemble_pred, [[2.5], [7.0]]);
//!
//! let data: Vec<f32> = (0..100).map(|t| (t as f32 / 5.0).sin()).collect();
//! let k_folds = 5;
//! let cv_results = parallel::parallel_cross_validation(&model, &data, k_folds, &config)?;
//! assert_eq!(cv_results.scores().count(), 5);
//! let param_grid = vec![1, 2, 4, 8];
//! let best_params = parallel::parallel_grid_search(&model, &data, &param_grid, &config)?;
//! assert_eq!(best_params.best().map(|best| best.params), Some(1));
//! # Ok::<(), nd_parallel::ParallelError>(())
//! ```
//!
//! [`Parallel`] does the same with progress, cancellation and partial results, and streams more samples than memory holds
//! ([`Parallel::stream`]).
//!
//! **Threads.** `max_threads` is exact. A call has one budget, which its tasks share: a grid search over four points on sixteen
//! threads gives each fit four. Parallel calls within a task, or from a pool of your own, run on the threads that are there, however many
//! calls there are and whatever they ask for: see [`ParallelConfig::max_threads`].
//!
//! **Same results.** Threads and chunks decide when something is computed, never how. What one task does, a panic included, is
//! the matter of that task: its failure has its index and message, and every other result is kept.
//!
//! **Training.** [`GradientEngine`] computes the loss of a batch and its gradient by every parameter. How the batch is cut is decided
//! by a [`ShardPlan`] from shapes alone; partial gradients are added in a fixed tree; random numbers are keyed by row. Gradients of
//! several processes are combined through [`AllReduce`], whose one implementation so far is a single process, [`SingleProcess`].
#![forbid(unsafe_code)]

mod config;
mod cross_validation;
mod engine;
mod ensemble;
mod error;
mod folds;
mod grid;
mod grid_search;
mod inference;
mod lanes;
mod outcome;
mod parallel;
mod reduce;
mod shard;
mod statistics;
mod stream;
mod task;
mod traits;
mod tree;
mod uncertainty;

pub use config::ParallelConfig;
pub use cross_validation::{CrossValidation, FoldScore, parallel_cross_validation};
pub use engine::{GradientEngine, GradientError, Gradients, NotFinite, StepOptions};
pub use ensemble::{EnsembleAggregation, parallel_ensemble_predict};
pub use error::{BoxError, Cancelled, FailureKind, ParallelError, TaskFailure};
pub use folds::{Fold, FoldStyle, Folds};
pub use grid::{Grid, ParamGrid, ParamPoint, ParamValue};
pub use grid_search::{
    FailedPoint, GridSearch, RankedPoint, SearchEnd, UnfinishedPoint, parallel_grid_search,
};
pub use inference::{parallel_batch_inference, parallel_preprocess};
pub use lanes::install;
pub use nd_core::samples::{Rows, Samples};
pub use outcome::Outcome;
pub use parallel::Parallel;
pub use reduce::{AllReduce, ReduceError, SingleProcess};
pub use shard::ShardPlan;
pub use stream::{CHUNKS_PER_LANE, StreamSummary};
pub use task::{Cancel, Progress, Task};
pub use traits::{Fit, Predict, Preprocess, Tune, Values};
pub use uncertainty::{
    Ask, Draw, DrawKey, Interval, MonteCarlo, PredictUncertain, Quantiles, Spread, Uncertain,
    Uncertainty, parallel_batch_inference_with_uncertainty,
};
