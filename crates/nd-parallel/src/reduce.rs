//! Adding up over processes.

use std::error::Error;
use std::sync::Arc;

use nd_core::Real;

use crate::error::BoxError;

/// Combines sums over the processes that train one network together.
///
/// Within a process, shards are added in a fixed tree before any of these is called; so an implementation adds one
/// contribution per process, and must do so in a fixed order to keep the bits independent of timing.
///
/// A step calls `sum` with its weights, `sum_gradients`, and `sum` with its losses, in every process and in this order, whatever the
/// losses are.
pub trait AllReduce<R: Real>: Send + Sync {
    /// The number of processes.
    fn processes(&self) -> usize;

    /// The sum over all processes.
    ///
    /// # Errors
    /// Some process cannot be reached. The step ends with [`ReduceError`], which keeps the error.
    fn sum(&self, value: f64) -> Result<f64, BoxError>;

    /// The element-wise sum over all processes, in place.
    ///
    /// # Errors
    /// As [`Self::sum`]; the values are then lost.
    fn sum_gradients(&self, values: &mut [R]) -> Result<(), BoxError>;
}

/// There is one process: its sums are the sums.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleProcess;

impl<R: Real> AllReduce<R> for SingleProcess {
    fn processes(&self) -> usize {
        1
    }

    fn sum(&self, value: f64) -> Result<f64, BoxError> {
        Ok(value)
    }

    fn sum_gradients(&self, _: &mut [R]) -> Result<(), BoxError> {
        Ok(())
    }
}

/// A sum over processes that did not come about.
#[derive(Clone)]
pub struct ReduceError {
    /// What was added up: weights, gradients or losses.
    pub what: &'static str,
    cause: Arc<dyn Error + Send + Sync>,
}

impl ReduceError {
    pub(crate) fn new(what: &'static str, cause: BoxError) -> Self {
        let cause = Arc::from(cause);
        Self { what, cause }
    }
}

/// Equal when they are the same failure: causes of any type cannot be compared.
impl PartialEq for ReduceError {
    fn eq(&self, other: &Self) -> bool {
        self.what == other.what && Arc::ptr_eq(&self.cause, &other.cause)
    }
}

impl Eq for ReduceError {}

impl std::fmt::Display for ReduceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, cause } = self;
        write!(
            f,
            "the {what} of the processes could not be added up: {cause}; the weights are as before the step: \
             restore the connection and repeat it in every process, or resume all from a checkpoint"
        )
    }
}

impl Error for ReduceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}

nd_core::debug_as_display!(ReduceError);
