//! The best settings out of many, by cross-validation.
//!
//! In its simple form: for each point, train and test on every fold, then sort by the mean score. As many points run at the same
//! time as there are threads; when there are fewer points than threads, each gets an equal share of the threads. The unit of work is
//! one fold of one point, so a few points of many folds still keep every thread busy.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nd_core::Samples;

use crate::config::ParallelConfig;
use crate::cross_validation::{FoldScore, deviation, mean, run_fold};
use crate::error::{ParallelError, TaskFailure};
use crate::folds::Folds;
use crate::grid::Grid;
use crate::lanes::{Done, attempt};
use crate::parallel::Parallel;
use crate::traits::{Fit, Tune};

/// A point whose every fold has a score.
#[derive(Clone, Debug)]
pub struct RankedPoint<P> {
    /// Its place in the grid.
    pub index: usize,
    /// Its settings.
    pub params: P,
    /// The mean of its scores; smaller is better.
    pub score: f64,
    /// Their sample standard deviation; `None` for a single fold.
    pub std: Option<f64>,
    /// What each fold gave.
    pub folds: Vec<FoldScore>,
}

/// A point that cannot be ranked, because its settings are impossible or a fold failed.
#[derive(Clone, Debug)]
pub struct FailedPoint<P> {
    /// Its settings.
    pub params: P,
    /// The first reason; its index is the place of the point in the grid.
    pub failure: TaskFailure,
    /// The fold that failed; `None` when the settings did.
    pub fold: Option<usize>,
    /// What the other folds gave; `None` for those that failed or did not begin.
    pub folds: Vec<Option<FoldScore>>,
}

/// A point that the search ended before.
#[derive(Clone, Debug)]
pub struct UnfinishedPoint<P> {
    /// Its place in the grid.
    pub index: usize,
    /// Its settings.
    pub params: P,
    /// What each fold gave; `None` for those that were not done.
    pub folds: Vec<Option<FoldScore>>,
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchEnd {
    /// Every point was tried.
    Completed,
    /// The budget of trials was smaller than the grid.
    Trials,
    /// The budget of time was used up; the first point is done all the same.
    Time,
    /// The call was cancelled.
    Cancelled,
}

/// What a grid search found.
#[derive(Clone, Debug)]
#[must_use]
pub struct GridSearch<P> {
    /// Every point with all its scores, the best first; equal ones in the order of the grid.
    pub ranking: Vec<RankedPoint<P>>,
    /// Every point that failed, in the order of the grid.
    pub failed: Vec<FailedPoint<P>>,
    /// Every point that was not tried, or not on every fold, in the order of the grid.
    pub unfinished: Vec<UnfinishedPoint<P>>,
    /// Why the search ended.
    pub end: SearchEnd,
}

impl<P> GridSearch<P> {
    /// The best point; `None` when none has all its scores.
    #[must_use]
    pub fn best(&self) -> Option<&RankedPoint<P>> {
        self.ranking.first()
    }
}

/// One fold of one point.
enum Trial {
    Score(FoldScore),
    /// The fold that failed; `None` when the settings did.
    Failed(Option<usize>, TaskFailure),
    /// Cancelled while it ran, or too late to begin.
    NotDone,
}

impl Parallel<'_> {
    /// Scores every point of a grid on the folds of [`Parallel::folds`], within the budgets.
    ///
    /// # Errors
    /// A configuration, folds, a grid or a budget that cannot be. Points that fail are in the result.
    pub fn grid_search<D: Samples, G: Grid + ?Sized, M: Fit<D> + Tune<G::Point>>(
        &self,
        model: &M,
        data: &D,
        grid: &G,
    ) -> Result<GridSearch<G::Point>, ParallelError> {
        self.config.validate()?;
        let points = grid.points()?;
        if points.is_empty() {
            return Err(ParallelError::EmptyGrid);
        }
        let three = || Folds::expanding(3);
        let folds = self.folds.clone().unwrap_or_else(three).of(data)?;
        let tried = match self.trials {
            Some(0) => return Err(ParallelError::ZeroTrials),
            trials => points.len().min(trials.unwrap_or(usize::MAX)),
        };
        // A grid of one point has only its folds to run side by side.
        let lanes = self.lanes(if tried == 1 { folds.len() } else { tried })?;
        let run = self.run(Some(tried * folds.len()));
        let models: Vec<OnceLock<Result<M, TaskFailure>>> =
            (0..tried).map(|_| OnceLock::new()).collect();
        let out_of_time = AtomicBool::new(false);
        let found = run.tasks(&lanes, tried * folds.len(), |task| {
            let (point, fold) = (task.index() / folds.len(), task.index() % folds.len());
            // The first point is always done, so that a search has something to show for its time. Its folds have begun before this one.
            if point > 0 && self.time.is_some_and(|time| run.elapsed() >= time) {
                out_of_time.store(true, Ordering::Relaxed);
                run.stop();
                return Trial::NotDone;
            }
            // Folds that begin at the same time may each tune the point. One that waited for another could wait for itself: a
            // tuning that is parallel may take up other tasks on its thread.
            let tuned = match models[point].get() {
                Some(tuned) => tuned,
                None => {
                    let tune = || model.tune(&points[point]);
                    let tuned = attempt(point, &self.cancel, tune);
                    models[point].get_or_init(|| tuned)
                }
            };
            let result = match tuned {
                Err(failure) => Err((None, failure.clone())),
                Ok(model) => attempt(point, &self.cancel, || {
                    run_fold(model, data, &folds[fold], task)
                })
                .map_err(|failure| (Some(fold), failure)),
            };
            match result {
                Err((_, failure)) if failure.is_cancellation() => Trial::NotDone,
                Err((fold, failure)) => {
                    run.report(Done { done: 1, failed: 1 });
                    Trial::Failed(fold, failure)
                }
                Ok(score) => {
                    run.report(Done { done: 1, failed: 0 });
                    Trial::Score(score)
                }
            }
        });
        // What is missing was cancelled, or there was no time for it.
        let late = out_of_time.into_inner() && !self.cancel.is_cancelled();
        if late {
            run.report_rest_skipped();
        }
        let cut = if late {
            SearchEnd::Time
        } else {
            SearchEnd::Cancelled
        };
        Ok(sort(points, folds.len(), tried, found, cut))
    }
}

/// Sorts points into ranked, failed and unfinished ones; `cut` is why folds are missing, if some are.
fn sort<P: Clone>(
    points: Vec<P>,
    folds: usize,
    tried: usize,
    found: Vec<Option<Trial>>,
    cut: SearchEnd,
) -> GridSearch<P> {
    let mut end = if tried < points.len() {
        SearchEnd::Trials
    } else {
        SearchEnd::Completed
    };
    let mut search = GridSearch {
        ranking: Vec::new(),
        failed: Vec::new(),
        unfinished: Vec::new(),
        end,
    };
    let mut found = found.into_iter();
    for (index, params) in points.into_iter().enumerate() {
        let mut scores: Vec<Option<FoldScore>> = Vec::new();
        let mut failure = None;
        let mut unfinished = index >= tried;
        for trial in found.by_ref().take(folds) {
            let mut score = None;
            match trial {
                Some(Trial::Score(found)) => score = Some(found),
                Some(Trial::Failed(fold, found)) => failure = failure.or(Some((fold, found))),
                Some(Trial::NotDone) | None => (unfinished, end) = (true, cut),
            }
            scores.push(score);
        }
        scores.resize_with(folds, || None);
        if let Some((fold, failure)) = failure {
            search.failed.push(FailedPoint {
                params,
                failure,
                fold,
                folds: scores,
            });
        } else if unfinished {
            search.unfinished.push(UnfinishedPoint {
                index,
                params,
                folds: scores,
            });
        } else {
            let folds: Vec<FoldScore> = scores.into_iter().flatten().collect();
            let scores = || folds.iter().map(|fold| fold.score);
            search.ranking.push(RankedPoint {
                index,
                params,
                score: mean(scores()).unwrap_or(f64::INFINITY),
                std: deviation(scores()),
                folds,
            });
        }
    }
    // Stable: points of equal score keep the order of the grid, whichever was done first.
    search.ranking.sort_by(|a, b| a.score.total_cmp(&b.score));
    search.end = end;
    search
}

/// Scores every point of a grid on three expanding folds on all cores, and ranks them.
///
/// # Errors
/// A configuration or a grid that cannot be, or data that are too short. Points that fail are in the result, not fatal.
pub fn parallel_grid_search<D: Samples, G: Grid + ?Sized, M: Fit<D> + Tune<G::Point>>(
    model: &M,
    data: &D,
    param_grid: &G,
    config: &ParallelConfig,
) -> Result<GridSearch<G::Point>, ParallelError> {
    Parallel::new(*config).grid_search(model, data, param_grid)
}
