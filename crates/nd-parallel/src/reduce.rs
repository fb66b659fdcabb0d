//! Adding up over processes.

use nd_core::Real;

/// Combines sums over the processes that train one network together.
///
/// Within a process, shards are added in a fixed tree before any of these is called; so an implementation adds one
/// contribution per process, and must do so in a fixed order to keep the bits independent of timing.
pub trait AllReduce<R: Real>: Send + Sync {
    /// The sum over all processes.
    fn sum(&self, value: f64) -> f64;

    /// The element-wise sum over all processes, in place.
    fn sum_gradients(&self, values: &mut [R]);
}

/// There is one process: its sums are the sums.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleProcess;

impl<R: Real> AllReduce<R> for SingleProcess {
    fn sum(&self, value: f64) -> f64 {
        value
    }

    fn sum_gradients(&self, _: &mut [R]) {}
}
