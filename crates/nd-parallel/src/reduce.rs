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
/// A step calls `sum` with its weights and then `sum_gradients`, in every process, whatever the losses are. No weight of the network
/// changes before both have succeeded.
///
/// # Contract
/// The engine has no other link to the other processes, so it cannot check any of this:
///
/// * **The same bits everywhere.** A call returns the same sum, bit for bit, in every process. Otherwise the weights of the processes drift
///   apart, and nothing says so.
/// * **An error in one process is an error in all.** A call that fails in one process fails in every process, or ends them. Otherwise those
///   that have the sum take a step that the others have not taken. Messages that can be lost cannot give this for certain;
///   an implementation comes near by failing every later call after the first failure, which ends the others at their next sum.
/// * **No endless wait.** A call that some process does not join, because it has failed, panicked or left, ends with an error.
/// * **One number of processes.** [`Self::processes`] is the same in every process and at every call.
///
/// After an error, an engine makes no further call, so that a step that is tried again cannot meet another call of the other processes.
pub trait AllReduce<R: Real>: Send + Sync {
    /// The number of processes.
    fn processes(&self) -> usize;

    /// The sum over all processes, the same in each.
    ///
    /// # Errors
    /// Some process cannot be reached, or an earlier sum has failed. The step ends with [`ReduceError`], which keeps the error.
    fn sum(&self, value: f64) -> Result<f64, BoxError>;

    /// The sum of the losses over all processes, and the element-wise sum of the gradients, in place: both or none.
    ///
    /// # Errors
    /// As [`Self::sum`]; the gradients are then lost.
    fn sum_gradients(&self, loss: f64, gradients: &mut [R]) -> Result<f64, BoxError>;
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

    fn sum_gradients(&self, loss: f64, _: &mut [R]) -> Result<f64, BoxError> {
        Ok(loss)
    }
}

/// A sum over processes that did not come about.
#[derive(Clone)]
pub struct ReduceError {
    /// What was added up: weights, or losses and gradients.
    pub what: &'static str,
    cause: Arc<dyn Error + Send + Sync>,
}

impl ReduceError {
    pub(crate) fn new(what: &'static str, cause: BoxError) -> Self {
        let cause = Arc::from(cause);
        Self { what, cause }
    }

    /// A step between whose sums something panicked.
    pub(crate) fn interrupted() -> Self {
        let cause = "a panic interrupted an earlier step of this process";
        Self::new("losses and gradients", cause.into())
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
            "the {what} of the processes could not be added up: {cause}; in this process the weights are as before the step, \
             another may have taken it: stop all processes and resume them from one checkpoint"
        )
    }
}

impl Error for ReduceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}

nd_core::debug_as_display!(ReduceError);
