//! The best settings out of many, by cross-validation.
//!
//! In its simple form: for each point, train and test on every fold, then sort by the mean score. As many points run at the same
//! time as there are threads; when there are fewer points than threads, each gets an equal share of the threads. The unit of work is
//! one fold of one point, so a few points of many folds still keep every thread busy.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use nd_core::Samples;

use crate::config::ParallelConfig;
use crate::cross_validation::{FoldScore, deviation, mean, run_fold};
use crate::error::{ParallelError, TaskFailure};
use crate::grid::Grid;
use crate::lanes::attempt;
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

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchEnd {
    /// Every point was tried.
    Completed,
    /// The budget of trials was smaller than the grid.
    Trials,
    /// The budget of time was used up.
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
    /// Points that were not tried, or not on every fold: their place in the grid and their settings.
    pub unfinished: Vec<(usize, P)>,
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
    Settings(TaskFailure),
    Fold(TaskFailure),
    OutOfTime,
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
        let folds = self.folds.of(data)?;
        let tried = match self.trials {
            Some(0) => return Err(ParallelError::ZeroTrials),
            trials => points.len().min(trials.unwrap_or(usize::MAX)),
        };
        // A grid of one point has only its folds to run side by side.
        let lanes = self.lanes(if tried == 1 { folds.len() } else { tried })?;
        let run = self.run(Some(tried * folds.len()));
        let models: Vec<OnceLock<Result<M, TaskFailure>>> =
            (0..tried).map(|_| OnceLock::new()).collect();
        let begun = AtomicUsize::new(0);
        let found = run.tasks(&lanes, tried * folds.len(), |task| {
            let (point, fold) = (task.index() / folds.len(), task.index() % folds.len());
            // The first task always runs, so that a search has something to show for its time.
            let first = begun.fetch_add(1, Ordering::Relaxed) == 0;
            if !first && self.time.is_some_and(|time| run.elapsed() >= time) {
                return Trial::OutOfTime;
            }
            let tuned = models[point].get_or_init(|| attempt(point, || model.tune(&points[point])));
            let trial = match tuned {
                Err(failure) => Trial::Settings(failure.clone()),
                Ok(model) => match attempt(point, || run_fold(model, data, &folds[fold], task)) {
                    Ok(score) => Trial::Score(score),
                    Err(failure) => Trial::Fold(failure),
                },
            };
            run.report(1, usize::from(!matches!(trial, Trial::Score(_))));
            trial
        });
        Ok(sort(points, folds.len(), tried, found))
    }
}

/// Sorts points into ranked, failed and unfinished ones.
fn sort<P: Clone>(
    points: Vec<P>,
    folds: usize,
    tried: usize,
    found: Vec<Option<Trial>>,
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
        for (fold, trial) in found.by_ref().take(folds).enumerate() {
            let mut score = None;
            match trial {
                Some(Trial::Score(found)) => score = Some(found),
                Some(Trial::Fold(found)) if found.is_cancellation() => {
                    (unfinished, end) = (true, SearchEnd::Cancelled);
                }
                Some(Trial::Settings(found)) => failure = failure.or(Some((None, found))),
                Some(Trial::Fold(found)) => failure = failure.or(Some((Some(fold), found))),
                Some(Trial::OutOfTime) => {
                    unfinished = true;
                    if end != SearchEnd::Cancelled {
                        end = SearchEnd::Time;
                    }
                }
                None => (unfinished, end) = (true, SearchEnd::Cancelled),
            }
            scores.push(score);
        }
        if let Some((fold, failure)) = failure {
            search.failed.push(FailedPoint {
                params,
                failure,
                fold,
                folds: scores,
            });
        } else if unfinished {
            search.unfinished.push((index, params));
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
