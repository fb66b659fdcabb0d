//! What a user's configuration can do wrong at this level.

use crate::options::SimdLevel;

/// Gives error types a `Debug` that is their `Display` text.
///
/// A `main` that returns `Result<(), Box<dyn Error>>` prints an error with `Debug`, and so does `unwrap`: the sentence that
/// helps must stand there, not the fields of the enum. Every error of this workspace goes through this macro.
///
/// ```
/// #[derive(thiserror::Error)]
/// #[error("expected {expected}, found {found}")]
/// struct WrongSize { expected: usize, found: usize }
///
/// nd_core::debug_as_display!(WrongSize);
///
/// let error = WrongSize { expected: 3, found: 4 };
/// assert_eq!(format!("{error:?}"), "expected 3, found 4");
/// ```
#[macro_export]
macro_rules! debug_as_display {
    ($($error:ty),+ $(,)?) => {$(
        impl ::std::fmt::Debug for $error {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(self, f)
            }
        }
    )+};
}

debug_as_display!(CoreError);

/// An error of `nd-core`.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// No SIMD level has this name.
    #[error("no SIMD level is called {found:?}: use one of scalar, neon, avx2, avx512 or auto")]
    UnknownSimd {
        /// The name that was given.
        found: String,
    },
    /// No number format has this name.
    #[error("no number format is called {found:?}: use one of f32, bf16, f16 or auto")]
    UnknownPrecision {
        /// The name that was given.
        found: String,
    },
    /// The machine lacks a SIMD level that was asked for.
    #[error(
        "this machine cannot run the SIMD level {wanted}: its best is {best}; ask for that one, or for none"
    )]
    UnsupportedSimd {
        /// What was asked for.
        wanted: SimdLevel,
        /// What the machine has.
        best: SimdLevel,
    },
    /// A thread count of zero.
    #[error(
        "a run needs at least one thread, found threads = 0: give a positive number, or none for all cores"
    )]
    ZeroThreads,
    /// More threads than any machine has use for.
    #[error(
        "a run may have up to {most} threads, found threads = {wanted}: give a smaller number, or none for all cores"
    )]
    TooManyThreads {
        /// How many were asked for.
        wanted: usize,
        /// How many there may be.
        most: usize,
    },
    /// The operating system gave no threads.
    #[error("could not start {wanted} worker threads: {reason}; ask for fewer threads")]
    ThreadPool {
        /// How many were asked for.
        wanted: usize,
        /// What the system said.
        reason: String,
    },
    /// Parameters of one layout were given where another was expected.
    #[error("the parameters do not fit the network: expected {expected}, found {found}")]
    LayoutMismatch {
        /// The layout of the network.
        expected: String,
        /// The layout of the parameters.
        found: String,
    },
}
