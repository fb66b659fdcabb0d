//! Predictions of several models, combined.
//!
//! In its simple form: predict every sample with every model, then combine number by number. The tricks: samples go in groups of a few
//! chunks. Every (group, model) is a task, all models of a group one after the other, so finished samples exist early, few predictions
//! are in memory, and all threads have work when there are few samples. Whichever task is the last of its group combines. A model has
//! the chunks of a group in a row, so that its weights stay in the cache.

use std::sync::{Mutex, PoisonError};

use crate::config::ParallelConfig;
use crate::error::{BoxError, ParallelError, TaskFailure};
use crate::inference::chunk_of;
use crate::lanes::{Done, attempt, lock};
use crate::outcome::{Found, Outcome};
use crate::parallel::Parallel;
use crate::statistics;
use crate::traits::{Predict, Values};

/// How the predictions of an ensemble become one, number by number.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum EnsembleAggregation {
    /// Their mean.
    Mean,
    /// Their median; the mean of the two middle ones when their number is even.
    Median,
    /// The mean of the middle ones: a fifth of the models (rounded down, at least one of three or more) is left out at either end.
    TrimmedMean,
    /// The mean of the middle ones, with this share of the models left out at either end, rounded down; at least 0, below 0.5. A share
    /// that is a whole number of models but for rounding, such as 0.29 of 100, is that number.
    TrimmedMeanOf(f64),
    /// The mean with a weight for each model; weights are divided by their sum.
    WeightedMean(Vec<f64>),
    /// A quantile, by linear interpolation between neighbours; a probability from 0 to 1.
    Quantile(f64),
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

impl EnsembleAggregation {
    /// Checks that it can combine so many models.
    ///
    /// # Errors
    /// No models; weights that do not match them or cannot be; a share or a probability outside its range.
    pub fn validate(&self, models: usize) -> Result<(), ParallelError> {
        if models == 0 {
            return Err(ParallelError::EmptyEnsemble);
        }
        match self {
            Self::WeightedMean(weights) => {
                if weights.len() != models {
                    let weights = weights.len();
                    return Err(ParallelError::WeightCount { weights, models });
                }
                let bad = |w: &f64| !(w.is_finite() && *w >= 0.0);
                let sum: f64 = weights.iter().sum();
                let of_sum = || {
                    let largest = (0..models).max_by(|&a, &b| weights[a].total_cmp(&weights[b]));
                    largest.filter(|_| sum == 0.0 || !sum.is_finite())
                };
                let bad = weights.iter().position(bad).or_else(of_sum);
                bad.map_or(Ok(()), |index| {
                    let found = weights[index];
                    Err(ParallelError::Weight { index, found })
                })
            }
            &Self::TrimmedMeanOf(found) if !(0.0..0.5).contains(&found) => {
                Err(ParallelError::OutOfRange {
                    what: "the share of a trimmed mean",
                    found,
                    expected: "it is left out at either end: give at least 0 and less than 0.5",
                })
            }
            &Self::Quantile(found) if !(0.0..=1.0).contains(&found) => {
                Err(ParallelError::OutOfRange {
                    what: "the probability of a quantile",
                    found,
                    expected: "a probability lies between 0 and 1",
                })
            }
            _ => Ok(()),
        }
    }

    /// Combines the predictions of all models for one number; NaN if one of them is. The order of `values` may change.
    fn combine(&self, values: &mut [f64]) -> f64 {
        let n = values.len();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        match self {
            Self::Mean => mean(values),
            Self::WeightedMean(weights) => statistics::weighted_mean(values, weights),
            _ if !statistics::sort(values) => f64::NAN,
            Self::Median => statistics::quantile(values, 0.5),
            Self::TrimmedMean => {
                let cut = (n / 5).max(usize::from(n >= 3));
                mean(&values[cut..n - cut])
            }
            Self::TrimmedMeanOf(share) => {
                let cut = statistics::share_of(n, *share).min((n - 1) / 2);
                mean(&values[cut..n - cut])
            }
            Self::Quantile(q) => statistics::quantile(values, *q),
            Self::Min => values[0],
            Self::Max => values[n - 1],
        }
    }
}

/// Predictions of one sample by several models, number by number.
pub(crate) fn each_number<Y: Values>(
    members: &[Y],
    buffer: &mut Vec<f64>,
    mut visit: impl FnMut(&mut [f64]),
) -> Result<(), BoxError> {
    buffer.clear();
    let mut numbers = 0;
    for (model, member) in members.iter().enumerate() {
        let before = buffer.len();
        member.extend_values(buffer);
        let found = buffer.len() - before;
        if model > 0 && found != numbers {
            return Err(format!(
                "model {model} predicts {found} numbers, model 0 predicts {numbers}: all models of an ensemble need the same horizon and outputs"
            )
            .into());
        }
        numbers = found;
    }
    let mut column = vec![0.0; members.len()];
    for i in 0..numbers {
        for (value, member) in column.iter_mut().zip(buffer.chunks(numbers)) {
            *value = member[i];
        }
        visit(&mut column);
    }
    Ok(())
}

/// Chunks of a group, at most.
const MOST_CHUNKS: usize = 8;

/// The chunks of a group: many enough groups that every thread has several tasks, and that a call which is cancelled has whole ones.
fn group_of(chunks: usize, models: usize, lanes: usize) -> usize {
    let tasks = chunks.saturating_mul(models);
    (tasks / (4 * lanes)).min(chunks / 8).clamp(1, MOST_CHUNKS)
}

/// What the models gave for the samples of a group.
struct Gathered<Y> {
    /// Results by each model, in the order of the samples; those of a model that was cut short end early.
    by_model: Vec<Vec<Result<Y, TaskFailure>>>,
    /// Models that are through.
    ended: usize,
    /// The combined predictions.
    combined: Found<Y>,
}

impl Parallel<'_> {
    /// Predicts samples with every model and combines the predictions.
    ///
    /// # Errors
    /// A configuration or an aggregation that cannot be, or no models. Samples that a model fails at are in the outcome; they are not
    /// made of the remaining models.
    pub fn ensemble_predict<X: Sync, Y: Values>(
        &self,
        models: &[impl Predict<X, Y>],
        samples: &[X],
        aggregation: &EnsembleAggregation,
    ) -> Result<Outcome<Y>, ParallelError> {
        self.config.validate()?;
        aggregation.validate(models.len())?;
        let size = self.config.chunk_size;
        let chunks = samples.len().div_ceil(size);
        let lanes = self.lanes(chunks.saturating_mul(models.len()))?;
        let group = size.saturating_mul(group_of(chunks, models.len(), lanes.count()));
        let gather = |_: &[X]| {
            Mutex::new(Gathered {
                by_model: models.iter().map(|_| Vec::new()).collect(),
                ended: 0,
                combined: Vec::new(),
            })
        };
        let groups: Vec<_> = samples.chunks(group).map(gather).collect();
        let run = self.run(Some(models.len().saturating_mul(samples.len())));
        let combine = |number: usize, by_model: Vec<Vec<Result<Y, TaskFailure>>>| {
            let first = number * group;
            let count = group.min(samples.len() - first);
            self.combine(aggregation, first, count, by_model)
        };
        run.tasks(&lanes, groups.len() * models.len(), |task| {
            let (number, place) = (task.index() / models.len(), task.index() % models.len());
            let model = &models[place];
            let first = number * group;
            let mut results = Vec::new();
            for chunk in samples[first..samples.len().min(first + group)].chunks(size) {
                if run.is_over() {
                    break;
                }
                let first = first + results.len();
                let alone = |_, sample: &X| model.predict(sample);
                let at_once = |chunk: &[X]| model.predict_batch(chunk);
                let found = chunk_of(first, chunk, &self.cancel, at_once, alone);
                run.report(Done::of(&found));
                results.extend(found);
            }
            let mut gathered = lock(&groups[number]);
            gathered.by_model[place] = results;
            gathered.ended += 1;
            if gathered.ended == models.len() {
                let by_model = std::mem::take(&mut gathered.by_model);
                drop(gathered);
                let combined = combine(number, by_model);
                lock(&groups[number]).combined = combined;
            }
        });
        let found = groups.into_iter().enumerate().flat_map(|(number, group)| {
            let group = group.into_inner().unwrap_or_else(PoisonError::into_inner);
            if group.ended == models.len() {
                group.combined
            } else {
                // Cancelled: not every model came to it.
                combine(number, group.by_model)
            }
        });
        Ok(Outcome::new("samples", found))
    }

    /// Makes one prediction of those by all models, for each of `count` samples from `first` on. `None` without a prediction by each, unless
    /// one failed: that says more.
    fn combine<Y: Values>(
        &self,
        aggregation: &EnsembleAggregation,
        first: usize,
        count: usize,
        by_model: Vec<Vec<Result<Y, TaskFailure>>>,
    ) -> Found<Y> {
        let models = by_model.len();
        let mut by_model: Vec<_> = by_model.into_iter().map(Vec::into_iter).collect();
        let mut buffer = Vec::new();
        let one = |index| {
            let (mut members, mut failure) = (Vec::with_capacity(models), None);
            for (model, results) in by_model.iter_mut().enumerate() {
                match results.next() {
                    Some(Ok(value)) => members.push(value),
                    Some(Err(found)) if found.is_cancellation() => {}
                    Some(Err(found)) => failure = failure.or(Some(found.of_model(model))),
                    None => {}
                }
            }
            if let Some(failure) = failure {
                return Some(Err(failure));
            }
            (members.len() == models).then(|| {
                attempt(index, &self.cancel, || {
                    let mut combined = Vec::new();
                    each_number(&members, &mut buffer, |column| {
                        combined.push(aggregation.combine(column));
                    })?;
                    Ok(members[0].with_values(&combined))
                })
            })
        };
        (first..first + count).map(one).collect()
    }
}

/// Predicts samples with every model on all cores, and combines the predictions number by number.
///
/// # Errors
/// A configuration or an aggregation that cannot be, no models, or the first sample that failed; [`Parallel::ensemble_predict`] keeps
/// the others.
pub fn parallel_ensemble_predict<X: Sync, Y: Values>(
    models: &[impl Predict<X, Y>],
    data: &[X],
    aggregation: EnsembleAggregation,
    config: &ParallelConfig,
) -> Result<Vec<Y>, ParallelError> {
    Parallel::new(*config)
        .ensemble_predict(models, data, &aggregation)?
        .complete()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_aggregation_combines() {
        let values = [5.0, 1.0, 2.0, 100.0, 3.0];
        let of = |aggregation: EnsembleAggregation| aggregation.combine(&mut values.clone());
        assert_eq!(of(EnsembleAggregation::Mean), 22.2);
        assert_eq!(of(EnsembleAggregation::Median), 3.0);
        assert_eq!(of(EnsembleAggregation::TrimmedMean), 10.0 / 3.0);
        assert_eq!(of(EnsembleAggregation::TrimmedMeanOf(0.4)), 3.0);
        assert_eq!(
            of(EnsembleAggregation::TrimmedMeanOf(0.5f64.next_down())),
            3.0
        );
        let mut hundred: Vec<f64> = (0..100).map(|i| f64::from(i * i)).collect();
        let trimmed = hundred[29..71].iter().sum::<f64>() / 42.0;
        let share = EnsembleAggregation::TrimmedMeanOf(0.29);
        assert_eq!(share.combine(&mut hundred), trimmed);
        let median = EnsembleAggregation::Median.combine(&mut [f64::NEG_INFINITY, 5.0]);
        assert_eq!(median, f64::NEG_INFINITY);
        let large = EnsembleAggregation::WeightedMean(vec![1e308, 1e307]);
        assert!(large.combine(&mut [1e10, 2.0]).is_finite());
        let weights = vec![0.0, 1.0, 1.0, 0.0, 2.0];
        assert_eq!(of(EnsembleAggregation::WeightedMean(weights)), 9.0 / 4.0);
        assert_eq!(of(EnsembleAggregation::Quantile(0.25)), 2.0);
        assert_eq!(
            (of(EnsembleAggregation::Min), of(EnsembleAggregation::Max)),
            (1.0, 100.0)
        );
    }

    #[test]
    fn a_nan_is_never_hidden() {
        for aggregation in [
            EnsembleAggregation::Mean,
            EnsembleAggregation::Median,
            EnsembleAggregation::TrimmedMean,
            EnsembleAggregation::WeightedMean(vec![1.0, 0.0, 1.0]),
            EnsembleAggregation::Min,
            EnsembleAggregation::Max,
        ] {
            let combined = aggregation.combine(&mut [1.0, f64::NAN, 2.0]);
            assert!(combined.is_nan(), "{aggregation:?}");
        }
    }
}
