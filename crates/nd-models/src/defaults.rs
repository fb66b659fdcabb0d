//! What a run does when nobody says otherwise, chosen by cargo features.
//!
//! Kernels know nothing of features, and no code is left out without them: they choose the value that a
//! [`Forecaster`](crate::Forecaster) starts with. Known weakness: cargo adds features up, so a feature is on as soon as any
//! package of a build asks for it; a program that must have its own choice says so with
//! [`Forecaster::with_options`](crate::Forecaster::with_options).

use nd_core::{AttentionKind, Precision, RunOptions, SimdLevel};

/// The options that the cargo features ask for; every forecaster starts with them, new or loaded from a file.
///
/// | feature | with it | without it |
/// |---|---|---|
/// | `simd` (default) | the best instruction set, or the one that `ND_SIMD` names | [`SimdLevel::Scalar`], textbook loops |
/// | `flash-attention` (default) | [`AttentionKind::Flash`] | [`AttentionKind::Standard`] |
/// | `parallel` (default) | all threads | one thread |
/// | `mixed-precision` | [`Precision::Bf16`] | [`Precision::F32`] |
///
/// The features of nd-models and of the facade are the same. [`RunOptions::default`], with which a tape starts, stays what nd-core
/// says.
///
/// ```
/// use nd_models::{Forecaster, default_options};
///
/// let mut options = default_options();
/// options.threads = Some(1);
/// let forecaster = Forecaster::new("NLinear", 24, 12)?.with_options(options);
/// assert_eq!(forecaster.options(), options);
/// # Ok::<(), nd_models::ModelError>(())
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
