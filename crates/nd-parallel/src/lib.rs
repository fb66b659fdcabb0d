//! Data-parallel gradients with the same bits on any number of threads.
//!
//! [`GradientEngine`] computes the loss of a batch and its gradient by every parameter. How the batch is cut is decided
//! by a [`ShardPlan`] from shapes alone; partial gradients are added in a fixed tree; random numbers are keyed by row.
//! So one, two or sixteen threads give the same bits. Gradients of several processes are combined through
//! [`AllReduce`], whose one implementation so far is a single process, [`SingleProcess`].
#![forbid(unsafe_code)]

mod engine;
mod reduce;
mod shard;

pub use engine::{GradientEngine, Gradients, NotFinite, StepOptions};
pub use reduce::{AllReduce, SingleProcess};
pub use shard::ShardPlan;
