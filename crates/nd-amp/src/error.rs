//! Steps that cannot be taken.

use nd_core::CoreError;
use nd_parallel::{GradientError, NotFinite};

/// Why a training step was not taken; parameters and state are as before.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The loss is infinite or NaN.
    #[error(
        "the loss of step {step} is not finite; the first bad value came from {place}. \
         Look for NaN or extreme values in the data (a mask hides them), lower the learning rate, or clip the gradient"
    )]
    Loss {
        /// The number of the step, from 1 on.
        step: u64,
        /// Where the first bad value stands.
        place: String,
    },
    /// The loss is finite, its gradient is not.
    #[error(
        "the gradient of step {step} is not finite, first at parameter {parameter}. \
         Lower the learning rate, or look for extreme values in the data"
    )]
    Gradient {
        /// The number of the step, from 1 on.
        step: u64,
        /// The first parameter with a bad gradient.
        parameter: String,
    },
    /// Step after step overflowed, whatever the loss scale.
    #[error(
        "{skipped} steps in a row were skipped because loss or gradient were not finite, down to a loss scale of {scale}; \
         the first bad parameter of step {step} is {parameter}. \
         Look for NaN or extreme values in the data (a mask hides them), lower the learning rate, or train in f32"
    )]
    Overflow {
        /// The number of the step, from 1 on.
        step: u64,
        /// Steps skipped in a row.
        skipped: u64,
        /// The loss scale of the last of them.
        scale: String,
        /// The first parameter that is not finite itself, or whose gradient is not, or that is nearest to the first bad value.
        parameter: String,
    },
    /// The gradients of several processes could not be combined.
    #[error("step {step} was not taken: {source}")]
    Processes {
        /// The number of the step, from 1 on.
        step: u64,
        /// What stood in the way.
        source: GradientError,
    },
    /// A setting that cannot be.
    #[error("{field} of mixed precision: expected {expected}, found {found}")]
    Config {
        /// The setting.
        field: &'static str,
        /// Its value.
        found: String,
        /// What it must be.
        expected: String,
    },
    /// Parameters of another network, or threads that cannot be had.
    #[error(transparent)]
    Core(#[from] CoreError),
}

nd_core::debug_as_display!(StepError);

impl StepError {
    pub(crate) fn loss(step: u64, found: &NotFinite) -> Self {
        let place = found.origin();
        Self::Loss { step, place }
    }
}
