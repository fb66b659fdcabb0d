//! Normalisation over rows (layer norm, RMS norm) and over columns (batch norm), forward and backward.
//!
//! All work on row-major matrices `[rows, cols]` with one gain and one bias per column. What is added over rows (statistics of
//! the batch, gradients of gains and biases) is added in fixed blocks of rows whose sums are merged in a fixed tree, so
//! any number of threads gives the same bits; the caller lends the memory for the blocks' sums.

mod array;
mod batch_norm;
mod layer_norm;
mod partials;
mod rms_norm;
mod row_norm;

pub use array::{
    BatchNormOutput, NormGradients, batch_norm, batch_norm_gradient, batch_norm_inference,
    layer_norm, layer_norm_gradient, rms_norm, rms_norm_gradient,
};
pub use batch_norm::{
    BatchNorm, BatchNormSaved, batch_moments, batch_norm_apply, batch_norm_backward,
    batch_norm_frozen_backward, batch_norm_scratch, update_running_moments,
};
pub(crate) use batch_norm::{
    HalfInputGradient, batch_moments_half, batch_norm_apply_half, batch_norm_backward_half, fits,
};
pub use layer_norm::{layer_norm_backward, layer_norm_forward, layer_norm_scratch};
pub use rms_norm::{rms_norm_backward, rms_norm_forward, rms_norm_scratch};
