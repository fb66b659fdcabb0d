//! Tensors, a recycling memory pool, counter-based random numbers, a thread budget and an autograd tape.

pub mod autograd;
pub mod batch;
pub mod buffer;
pub mod element;
pub mod error;
pub mod network;
pub mod options;
pub mod pool;
pub mod rng;
pub mod samples;
pub mod shape;
pub mod tensor;
pub mod threads;
pub mod train_state;

pub use batch::{Batch, BatchLayout, BatchMut, BatchView, WindowSource};
pub use buffer::Buffer;
pub use element::{DType, Element, Real, bf16, f16};
pub use error::CoreError;
pub use network::{Loss, LossValue, Network, Objective, RecurrentNetwork, RowCoupling};
pub use options::{AttentionKind, Precision, RunOptions, SimdLevel};
pub use pool::{MemoryPool, PoolStats};
pub use samples::{Rows, Samples};
pub use shape::Shape;
pub use tensor::Tensor;
pub use threads::Threads;
pub use train_state::TrainState;
