//! What many tasks gave.

use crate::error::{ParallelError, TaskFailure};

/// What each of some samples gave; `None` for those that did not begin.
pub(crate) type Found<T> = Vec<Option<Result<T, TaskFailure>>>;

/// The results of many samples: those that are there, those that failed, and whether the call was cancelled.
#[derive(Clone, Debug)]
#[must_use]
pub struct Outcome<T> {
    /// A result for each sample, in their order; `None` for those that failed or did not begin.
    pub results: Vec<Option<T>>,
    /// The failures, by their place among the samples.
    pub failures: Vec<TaskFailure>,
    /// Whether the call was cancelled before every sample was done.
    pub cancelled: bool,
    what: &'static str,
}

impl<T> Outcome<T> {
    /// Sorts what the samples gave; `None` did not begin.
    pub(crate) fn new(
        what: &'static str,
        found: impl Iterator<Item = Option<Result<T, TaskFailure>>>,
    ) -> Self {
        let mut failures = Vec::new();
        let mut all_begun = true;
        let results = found
            .map(|result| match result {
                Some(Ok(value)) => Some(value),
                Some(Err(failure)) => {
                    failures.push(failure);
                    None
                }
                None => {
                    all_begun = false;
                    None
                }
            })
            .collect();
        Self::of(what, results, failures, all_begun)
    }

    /// What is there, and what failed, in any order. Failures that are the cancellation's are none.
    pub(crate) fn of(
        what: &'static str,
        results: Vec<Option<T>>,
        mut failures: Vec<TaskFailure>,
        all_begun: bool,
    ) -> Self {
        let failed = failures.len();
        failures.retain(|failure| !failure.is_cancellation());
        let cancelled = !all_begun || failures.len() < failed;
        failures.sort_by_key(|failure| failure.index);
        let failures = failures.into_iter().map(|failure| failure.among(what));
        let failures = failures.collect();
        Self {
            results,
            failures,
            cancelled,
            what,
        }
    }

    /// The number of samples that have a result.
    #[must_use]
    pub fn done(&self) -> usize {
        self.results.iter().flatten().count()
    }

    /// Every result, or the first reason why some are missing.
    ///
    /// # Errors
    /// A sample failed, or the call was cancelled.
    pub fn complete(self) -> Result<Vec<T>, ParallelError> {
        let total = self.results.len();
        if let Some(first) = self.failures.first() {
            return Err(ParallelError::Failed {
                what: self.what,
                failed: self.failures.len(),
                total,
                first: first.clone(),
            });
        }
        let done = self.done();
        if done < total {
            return Err(ParallelError::Cancelled {
                what: self.what,
                done,
                total,
            });
        }
        Ok(self.results.into_iter().flatten().collect())
    }
}
