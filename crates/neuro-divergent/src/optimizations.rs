//! What makes training and forecasting fast, under the names by which people look for it.
//!
//! Each module is one crate of the workspace, whole: [`flash_attention`] is nd-attention, [`simd`] nd-simd, [`parallel`]
//! nd-parallel, [`mixed_precision`] nd-amp. All of it is in every build. Which of it a run uses is a value,
//! [`RunOptions`](nd_core::RunOptions), and [`default_options`] is the one that the cargo features of this crate ask for and every
//! forecaster starts with.
//!
//! ```
//! use neuro_divergent::optimizations::flash_attention::{FlashAttention, FlashAttentionConfig};
//! use neuro_divergent::optimizations::simd::{self, ndarray::Array2};
//!
//! let x = Array2::<f32>::ones((100, 64));
//! let flash = FlashAttention::new(FlashAttentionConfig::auto(64));
//! let y = simd::activations::gelu(&flash.forward(&x, &x, &x));
//! assert_eq!(y.dim(), (100, 64));
//! ```

pub use nd_models::default_options;

/// Exact attention that never holds the matrix of scores, and the standard kind beside it.
pub mod flash_attention {
    pub use nd_attention::flash::*;
    pub use nd_attention::*;
}

/// Kernels for AVX2, AVX-512, NEON and scalar code, on arrays and on slices.
pub mod simd {
    pub use nd_simd::*;
}

/// Work over threads, with the same bits for any number of them.
pub mod parallel {
    pub use nd_core::Threads;
    pub use nd_parallel::*;
}

/// The training step: gradients, loss scale, finite check, clipping and the optimizer.
pub mod mixed_precision {
    pub use nd_amp::*;
    pub use nd_core::Precision;
}
