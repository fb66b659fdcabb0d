//! A parallel call with all that a configuration cannot hold.

use std::sync::Mutex;
use std::time::Duration;

use crate::config::ParallelConfig;
use crate::folds::Folds;
use crate::lanes::{Lanes, Run, Watch};
use crate::task::{Cancel, Progress};

/// Parallel work with a progress callback, a switch to cancel it, and the results of whatever was done.
///
/// The functions `parallel_*` of this crate are thin wrappers of its methods that give everything or an error.
///
/// ```
/// use nd_parallel::{BoxError, Cancel, Parallel, ParallelConfig};
///
/// let halve = |x: &i32| if x % 2 == 0 { Ok(x / 2) } else { Err(BoxError::from("odd")) };
/// let cancel = Cancel::new();
/// let mut last = 0;
/// let outcome = Parallel::new(ParallelConfig::default())
///     .cancel(&cancel)
///     .progress(|progress| last = progress.done)
///     .preprocess(&[2, 3, 4], &halve)?;
/// assert_eq!(outcome.results, [Some(1), None, Some(2)]);
/// assert_eq!(outcome.failures[0].to_string(), "number 1 of the samples, counted from 0, failed: odd");
/// # drop(outcome);
/// assert_eq!(last, 3);
/// # Ok::<(), nd_parallel::ParallelError>(())
/// ```
pub struct Parallel<'a> {
    pub(crate) config: ParallelConfig,
    pub(crate) cancel: Cancel,
    /// Those that were set, if any.
    pub(crate) folds: Option<Folds>,
    pub(crate) trials: Option<usize>,
    pub(crate) time: Option<Duration>,
    pub(crate) levels: Option<Vec<f64>>,
    pub(crate) draws: usize,
    pub(crate) seed: u64,
    watch: Option<Watch<'a>>,
}

impl<'a> Parallel<'a> {
    /// Calls with a configuration, three expanding folds for a grid search, no budget, and 100 draws of a random model.
    #[must_use]
    pub fn new(config: ParallelConfig) -> Self {
        Self {
            config,
            cancel: Cancel::new(),
            folds: None,
            trials: None,
            time: None,
            levels: None,
            draws: 100,
            seed: 1,
            watch: None,
        }
    }

    /// Calls `watch` after every task, from whichever thread ran it, one call at a time.
    ///
    /// Tasks that end meanwhile wait for it, so it must be short, and do nothing in parallel itself. A callback that panics ends the call
    /// with its panic.
    #[must_use]
    pub fn progress(mut self, watch: impl FnMut(&Progress) + Send + 'a) -> Self {
        self.watch = Some(Mutex::new(Box::new(watch)));
        self
    }

    /// Stops when `cancel` is switched: no further task begins, and what was done is given back.
    #[must_use]
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// The folds that each point of a grid search is scored on. A cross-validation takes its own as an argument, and fails when these
    /// are others.
    #[must_use]
    pub fn folds(mut self, folds: impl Into<Folds>) -> Self {
        self.folds = Some(folds.into());
        self
    }

    /// The points that a grid search tries at most, from the first on.
    #[must_use]
    pub fn trial_budget(mut self, trials: usize) -> Self {
        self.trials = Some(trials);
        self
    }

    /// The time after which a grid search begins no further fit. The folds of its first point are always begun, so that it has something
    /// to show.
    #[must_use]
    pub fn time_budget(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }

    /// The probabilities of the intervals around uncertain predictions, each between 0 and 1; without this, 0.8 and 0.95 of
    /// draws, or those that a model's quantiles give.
    #[must_use]
    pub fn levels(mut self, levels: impl Into<Vec<f64>>) -> Self {
        self.levels = Some(levels.into());
        self
    }

    /// The number of draws of Monte Carlo predictions.
    #[must_use]
    pub fn draws(mut self, draws: usize) -> Self {
        self.draws = draws;
        self
    }

    /// The seed of Monte Carlo predictions.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    pub(crate) fn lanes(&self, tasks: usize) -> Result<Lanes, crate::ParallelError> {
        Lanes::new(&self.config, tasks)
    }

    pub(crate) fn run(&self, total: Option<usize>) -> Run<'_> {
        Run::new(&self.cancel, self.watch.as_ref(), total)
    }
}

impl std::fmt::Debug for Parallel<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parallel")
            .field("config", &self.config)
            .field("folds", &self.folds)
            .finish_non_exhaustive()
    }
}
