//! What makes training and forecasting fast, under the names by which people look for it.
//!
//! Each module is one crate of the workspace, whole: [`flash_attention`] is nd-attention, [`simd`] nd-simd, [`parallel`]
//! nd-parallel, [`mixed_precision`] nd-amp. All of it is in every build. Which of it a run uses is a value, [`RunOptions`], and
//! [`default_options`] is the one that the cargo features of this crate ask for.
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

use nd_core::{AttentionKind, Precision, RunOptions, SimdLevel};

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

/// The options that the cargo features of this crate ask for.
///
/// | feature | with it | without it |
/// |---|---|---|
/// | `simd` (default) | the best instruction set, or the one that `ND_SIMD` names | [`SimdLevel::Scalar`], textbook loops |
/// | `flash-attention` (default) | [`AttentionKind::Flash`] | [`AttentionKind::Standard`] |
/// | `parallel` (default) | all threads | one thread |
/// | `mixed-precision` | [`Precision::Bf16`] | [`Precision::F32`] |
///
/// Features choose this value and nothing else: no code is left out, and [`RunOptions::default`], which a forecaster starts with, stays what
/// nd-core says. Hand it to [`Forecaster::with_options`](nd_models::Forecaster::with_options).
///
/// ```
/// use neuro_divergent::optimizations::default_options;
/// use neuro_divergent::prelude::*;
///
/// let forecaster = Forecaster::new("NLinear", 24, 12)?.with_options(default_options());
/// # let _ = forecaster;
/// # Ok::<(), ModelError>(())
/// ```
///
/// # Panics
/// `ND_SIMD` names an instruction set that does not exist or that this machine lacks.
#[must_use]
#[track_caller]
pub fn default_options() -> RunOptions {
    RunOptions {
        simd: if cfg!(feature = "simd") {
            SimdLevel::current()
        } else {
            SimdLevel::Scalar
        },
        attention: if cfg!(feature = "flash-attention") {
            AttentionKind::Flash
        } else {
            AttentionKind::Standard
        },
        precision: if cfg!(feature = "mixed-precision") {
            Precision::Bf16
        } else {
            Precision::F32
        },
        threads: if cfg!(feature = "parallel") {
            None
        } else {
            Some(1)
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_set_the_defaults() {
        let options = default_options();
        assert_eq!(
            options.attention == AttentionKind::Flash,
            cfg!(feature = "flash-attention")
        );
        assert_eq!(options.threads.is_none(), cfg!(feature = "parallel"));
        assert_eq!(
            options.precision == Precision::Bf16,
            cfg!(feature = "mixed-precision")
        );
        let simd = if cfg!(feature = "simd") {
            SimdLevel::current()
        } else {
            SimdLevel::Scalar
        };
        assert_eq!(options.simd, simd);
    }
}
