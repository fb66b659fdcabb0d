//! Cancellation and progress, and what a task knows of itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::{BoxError, Cancelled};

/// A switch that stops a parallel call: no new task begins, and tasks that look at it end early.
///
/// Clones share the switch, so one can be kept by a signal handler or another thread.
///
/// ```
/// let cancel = nd_parallel::Cancel::new();
/// let other = cancel.clone();
/// other.cancel();
/// assert!(cancel.is_cancelled());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A switch that is off.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the calls that were given this switch.
    pub fn cancel(&self) {
        // It carries no data: whoever sees it only stops.
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was switched.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a callback is told after every task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// What is done so far, failed ones included: samples, folds (of every point of a grid), or predictions of a sample by a model of
    /// an ensemble. What the cancellation cut short is not done.
    pub done: usize,
    /// How many there are; `None` for a stream, whose end nobody knows.
    pub total: Option<usize>,
    /// How many of those done have failed.
    pub failed: usize,
    /// How many will not be done because the time of the search is used up; 0 until then.
    pub skipped: usize,
    /// The time since the call began.
    pub elapsed: Duration,
}

/// What a task knows of itself while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    pub(crate) index: usize,
    pub(crate) cancel: &'a Cancel,
}

impl Task<'_> {
    /// Its number among the tasks of the call, from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The threads it may use, itself included: those of the rayon pool that it runs in, or one where the call may have no more.
    ///
    /// They are its own, unless the call was made within a pool, whose threads its tasks share.
    #[must_use]
    pub fn threads(&self) -> usize {
        nd_core::threads::current().unwrap_or(1)
    }

    /// Whether the call was cancelled. A long task looks now and then, and ends with [`Task::check`].
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Fails with [`Cancelled`] if the call was cancelled, so that `task.check()?` ends the task.
    ///
    /// # Errors
    /// The call was cancelled.
    pub fn check(&self) -> Result<(), BoxError> {
        if self.is_cancelled() {
            return Err(Cancelled.into());
        }
        Ok(())
    }
}
