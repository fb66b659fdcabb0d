//! A model trained and tested on every fold.

use std::time::{Duration, Instant};

use nd_core::{Rows, Samples};

use crate::config::ParallelConfig;
use crate::error::{BoxError, ParallelError, TaskFailure};
use crate::folds::{Fold, Folds};
use crate::lanes::{Done, attempt};
use crate::parallel::Parallel;
use crate::task::Task;
use crate::traits::Fit;

/// What one fold gave.
#[derive(Clone, Debug)]
pub struct FoldScore {
    /// The samples trained and tested on.
    pub fold: Fold,
    /// The score of the test; smaller is better.
    pub score: f64,
    /// The time from the beginning of its training to the end of its test. Where folds share a pool, a thread that waits inside one may
    /// take up others, whose time is then counted twice.
    pub elapsed: Duration,
}

/// What all folds gave.
#[derive(Clone, Debug)]
#[must_use]
pub struct CrossValidation {
    /// A score for each fold, the earliest test first; `None` for those that failed or did not begin.
    pub folds: Vec<Option<FoldScore>>,
    /// The folds that failed. A score that is NaN or minus infinity is a failure.
    pub failures: Vec<TaskFailure>,
    /// Whether the call was cancelled before every fold was done.
    pub cancelled: bool,
}

impl CrossValidation {
    /// The scores that are there.
    pub fn scores(&self) -> impl Iterator<Item = f64> + '_ {
        self.folds.iter().flatten().map(|fold| fold.score)
    }

    /// The mean of the scores that are there; `None` without any.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        mean(self.scores())
    }

    /// Their sample standard deviation; `None` for fewer than two.
    #[must_use]
    pub fn std(&self) -> Option<f64> {
        deviation(self.scores())
    }

    /// Itself when every fold has a score, or the first reason why not.
    ///
    /// # Errors
    /// A fold failed, or the call was cancelled.
    pub fn complete(self) -> Result<Self, ParallelError> {
        let (what, total) = ("folds", self.folds.len());
        if let Some(first) = self.failures.first() {
            return Err(ParallelError::Failed {
                what,
                failed: self.failures.len(),
                total,
                first: first.clone(),
            });
        }
        let done = self.scores().count();
        if done < total {
            return Err(ParallelError::Cancelled { what, done, total });
        }
        Ok(self)
    }
}

pub(crate) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), x| (sum + x, count + 1.0));
    (count > 0.0).then_some(sum / count)
}

pub(crate) fn deviation(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    let mean = mean(values.iter().copied())?;
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// Trains and tests on one fold.
pub(crate) fn run_fold<D: Samples, M: Fit<D> + ?Sized>(
    model: &M,
    data: &D,
    fold: &Fold,
    task: &Task<'_>,
) -> Result<FoldScore, BoxError> {
    task.check()?;
    let start = Instant::now();
    let part = |rows: &Rows| data.select(rows);
    let train = part(&fold.train);
    let fitted = model.fit(&train, task)?;
    // Tests may need as much memory as training; the data it used are no longer needed.
    drop(train);
    task.check()?;
    let (rows, test) = fold.evaluation();
    let score = model.score(&fitted, &part(&rows), test, task)?;
    // Infinity ranks last; its opposite would rank first, and is no better than NaN.
    if score.is_nan() || score == f64::NEG_INFINITY {
        let tested = match &fold.test {
            Rows::Range(range) => format!("rows {} to {}", range.start, range.end - 1),
            Rows::Picked(rows) => format!("{} picked rows", rows.len()),
        };
        return Err(format!(
            "the score over {tested} is {score}, expected a number, smaller for a better model: look for missing values there, or \
             for a training that diverged"
        )
        .into());
    }
    Ok(FoldScore {
        fold: fold.clone(),
        score,
        elapsed: start.elapsed(),
    })
}

impl Parallel<'_> {
    /// Trains and tests a model on every fold; folds run at the same time and share the threads.
    ///
    /// # Errors
    /// A configuration or folds that cannot be, or other folds than those of [`Parallel::folds`], if these are set. Folds that fail are in
    /// the result.
    pub fn cross_validation<D: Samples>(
        &self,
        model: &(impl Fit<D> + ?Sized),
        data: &D,
        folds: impl Into<Folds>,
    ) -> Result<CrossValidation, ParallelError> {
        self.config.validate()?;
        let folds = folds.into();
        if let Some(set) = self.folds.as_ref().filter(|set| **set != folds) {
            let (set, given) = (format!("{set:?}"), format!("{folds:?}"));
            return Err(ParallelError::FoldsTwice { set, given });
        }
        let folds = folds.of(data)?;
        let lanes = self.lanes(folds.len())?;
        let run = self.run(Some(folds.len()));
        let found = run.tasks(&lanes, folds.len(), |task| {
            let index = task.index();
            let result = attempt(index, &self.cancel, || {
                run_fold(model, data, &folds[index], task)
            });
            run.report(Done::of([&result]));
            result
        });
        let outcome = crate::Outcome::new("folds", found.into_iter());
        Ok(CrossValidation {
            folds: outcome.results,
            failures: outcome.failures,
            cancelled: outcome.cancelled,
        })
    }
}

/// Trains and tests a model on `k_folds` folds on all cores: a number is expanding folds in time order, [`Folds`] has the others.
///
/// # Errors
/// A configuration or folds that cannot be, or the first fold that failed; [`Parallel::cross_validation`] keeps the others.
pub fn parallel_cross_validation<D: Samples>(
    model: &(impl Fit<D> + ?Sized),
    data: &D,
    k_folds: impl Into<Folds>,
    config: &ParallelConfig,
) -> Result<CrossValidation, ParallelError> {
    Parallel::new(*config)
        .cross_validation(model, data, k_folds)?
        .complete()
}
