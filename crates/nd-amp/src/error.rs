//! Steps that cannot be taken.

use nd_parallel::NotFinite;

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
}

nd_core::debug_as_display!(StepError);

impl StepError {
    pub(crate) fn loss(step: u64, found: &NotFinite) -> Self {
        let place = found
            .place
            .as_ref()
            .map_or("the loss itself".to_owned(), ToString::to_string);
        Self::Loss { step, place }
    }
}
