//! What can go wrong: in a call as a whole, and in one task of many.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::lanes::guarded;

/// Any error of a model, a preprocessor or a fit of the user's.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a parallel call could not be made, or did not end with all results.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ParallelError {
    /// Chunks of no samples.
    #[error(
        "chunk_size is 0, but a chunk has at least 1 sample: give 16 to 128, or ..Default::default() for 32"
    )]
    ZeroChunkSize,
    /// No threads.
    #[error(
        "max_threads is Some(0), but somebody has to work: give Some(1) or more, or None for all cores"
    )]
    ZeroThreads,
    /// Threads that the system does not give.
    #[error("max_threads of the configuration: {0}")]
    Threads(#[from] nd_core::CoreError),
    /// Cross-validation without folds.
    #[error("cross-validation over 0 folds: give at least 1 fold in time order, 2 when shuffled")]
    ZeroFolds,
    /// Two different ways to cut the data.
    #[error(
        "the call was given the folds {set}, and its cross-validation {given}: give the latter alone"
    )]
    FoldsTwice {
        /// Those of [`Parallel::folds`](crate::Parallel::folds).
        set: String,
        /// Those of the argument.
        given: String,
    },
    /// One shuffled fold, which leaves nothing to train on.
    #[error(
        "a shuffled cross-validation of 1 fold would test on all samples and train on none: give at least 2 folds"
    )]
    OneShuffledFold,
    /// A part of a fold without samples.
    #[error("{what} of the folds is 0: give at least 1 sample, or leave it out for its default")]
    EmptyPart {
        /// Which part.
        what: &'static str,
    },
    /// Folds that need more samples than there are.
    #[error(
        "{folds} folds need at least {needed} samples ({explanation}), found {samples}: \
         give fewer folds, smaller ones, or more data"
    )]
    TooFewSamples {
        /// The folds asked for.
        folds: usize,
        /// The least number of samples above those there are that does.
        needed: usize,
        /// What makes them that many.
        explanation: String,
        /// The samples there are.
        samples: usize,
    },
    /// Data that could not say how many samples they have.
    #[error(
        "the samples of the data could not be counted ({message}): give data whose parts have the same number of rows"
    )]
    Samples {
        /// What they said.
        message: String,
    },
    /// Shuffled folds of a time series.
    #[error(
        "the samples are points in time, and shuffled folds would train on the future: use Folds::expanding or Folds::sliding"
    )]
    NotIndependent,
    /// A grid without points.
    #[error("the grid has no points: give at least one value for every parameter")]
    EmptyGrid,
    /// A grid of more points than could be kept, let alone tried.
    #[error(
        "the grid has {points} points, but at most {most} can be searched: give fewer parameters, or fewer values for each"
    )]
    LargeGrid {
        /// The points, as a number in words: there may be more than an integer holds.
        points: String,
        /// The most there may be.
        most: usize,
    },
    /// A parameter of a grid without a value, or named twice.
    #[error("the grid has {found} for the parameter {name:?}: {expected}")]
    GridAxis {
        /// The parameter.
        name: String,
        /// What was found.
        found: String,
        /// What to give instead.
        expected: &'static str,
    },
    /// A budget of no trials.
    #[error("the budget of the search is 0 trials: give at least 1, or no budget")]
    ZeroTrials,
    /// An ensemble without members.
    #[error("the ensemble has no models: give at least one")]
    EmptyEnsemble,
    /// Weights of an ensemble that do not match its models.
    #[error(
        "the weighted mean has {weights} weights for {models} models: give one weight for each model"
    )]
    WeightCount {
        /// The weights given.
        weights: usize,
        /// The models.
        models: usize,
    },
    /// A weight that cannot be.
    #[error(
        "weight {index} of the ensemble is {found}: weights are finite, as is their sum, not negative, and not all zero"
    )]
    Weight {
        /// Which weight.
        index: usize,
        /// Its value.
        found: f64,
    },
    /// A share or a level outside its range.
    #[error("{what} is {found}, but {expected}")]
    OutOfRange {
        /// What it is.
        what: &'static str,
        /// Its value.
        found: f64,
        /// The range.
        expected: &'static str,
    },
    /// Monte Carlo without enough draws for a standard deviation.
    #[error("{draws} draws have no standard deviation: give at least 2, better 30 or more")]
    TooFewDraws {
        /// The draws asked for.
        draws: usize,
    },
    /// Quantiles of a model from which there is no median, or not the intervals asked for.
    #[error("the model has the quantiles {found:?}, but {expected}")]
    Quantiles {
        /// Their probabilities.
        found: Vec<f64>,
        /// What is missing, and what to do.
        expected: String,
    },
    /// Some tasks failed; the others have their results in [`Outcome`](crate::Outcome).
    #[error(
        "{failed} of {total} {what} failed; the first: {first}; what the others found is in what the call on Parallel returns, \
         before complete()"
    )]
    Failed {
        /// What the tasks are.
        what: &'static str,
        /// How many failed.
        failed: usize,
        /// Of how many.
        total: usize,
        /// The first of them; the error of the task is its source.
        #[source]
        first: TaskFailure,
    },
    /// The call was cancelled before all tasks were done.
    #[error("cancelled when {done} of {total} {what} were done")]
    Cancelled {
        /// What the tasks are.
        what: &'static str,
        /// How many were done.
        done: usize,
        /// Of how many.
        total: usize,
    },
    /// The iterator that inputs come from panicked.
    #[error("the source of the inputs panicked after {read} samples: {message}")]
    Source {
        /// Samples that it gave before.
        read: usize,
        /// What it said.
        message: String,
    },
}

nd_core::debug_as_display!(ParallelError, TaskFailure, Cancelled);

/// Whether a task gave an error back or panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// It returned an error.
    Error,
    /// It panicked.
    Panic,
}

/// One task of many that failed: a sample, a fold, a point of a grid.
#[derive(Clone)]
pub struct TaskFailure {
    /// Which task, in the order of the inputs.
    pub index: usize,
    /// Whether it returned an error or panicked.
    pub kind: FailureKind,
    /// What it said.
    pub message: String,
    cancelled: bool,
    /// What the tasks are, where that is known.
    what: Option<&'static str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl TaskFailure {
    /// An error of the caller's code; `switched` says whether the call is cancelled.
    pub(crate) fn error(index: usize, error: BoxError, switched: bool) -> Self {
        let cancelled = error.is::<Cancelled>();
        let message = if cancelled && !switched {
            "it returned Cancelled, but nobody cancelled the call: return that when Task::check does, another error otherwise".to_owned()
        } else {
            guarded(|| error.to_string())
                .unwrap_or_else(|panic| format!("an error whose Display panicked: {panic}"))
        };
        Self {
            index,
            kind: FailureKind::Error,
            message,
            cancelled: cancelled && switched,
            what: None,
            source: Some(Arc::from(error)),
        }
    }

    pub(crate) fn panic(index: usize, payload: Box<dyn Any + Send>) -> Self {
        Self {
            index,
            kind: FailureKind::Panic,
            message: panic_message(payload),
            cancelled: false,
            what: None,
            source: None,
        }
    }

    pub(crate) fn at(self, index: usize) -> Self {
        Self { index, ..self }
    }

    /// The same failure, of one of some samples or folds.
    pub(crate) fn among(self, what: &'static str) -> Self {
        let what = Some(what);
        Self { what, ..self }
    }

    /// The failure of a member of an ensemble, as that of a sample.
    pub(crate) fn of_model(mut self, model: usize) -> Self {
        self.message = format!("model {model}: {}", self.message);
        self
    }

    /// Whether the task stopped because the call was cancelled.
    pub(crate) fn is_cancellation(&self) -> bool {
        self.cancelled
    }
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, message, .. } = self;
        write!(f, "number {index}")?;
        if let Some(what) = self.what {
            write!(f, " of the {what}, counted from 0,")?;
        }
        match self.kind {
            FailureKind::Error => write!(f, " failed: {message}"),
            FailureKind::Panic => write!(f, " panicked: {message}"),
        }
    }
}

impl Error for TaskFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|error| &**error as _)
    }
}

/// What a task returns that stopped because the call was cancelled: it counts as not done instead of failed.
///
/// Of a call that was not cancelled it is a failure like any other.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

/// What a panic said.
pub(crate) fn panic_message(payload: Box<dyn Any + Send>) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned());
    // A payload may panic once more when it is dropped, and what that leaves as well: it stays where it is.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
    text.unwrap_or_else(|| "a panic without a message".to_owned())
}
