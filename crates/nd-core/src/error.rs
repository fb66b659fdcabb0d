//! What a user's configuration can do wrong at this level.

use crate::options::SimdLevel;

/// An error of `nd-core`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// No SIMD level has this name.
    #[error("no SIMD level is called {found:?}: use one of scalar, neon, avx2, avx512 or auto")]
    UnknownSimd {
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
