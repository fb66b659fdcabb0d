//! Predictions of several models, combined.
//!
//! In its simple form: predict every sample with every model, then combine number by number. Every (model, chunk) is a task of its
//! own, a model's chunks one after the other so that its weights stay in the cache; the combination is a second, short pass.
//!
//! Known weakness: until then the predictions of all models are in memory.

use crate::config::ParallelConfig;
use crate::error::{BoxError, ParallelError, TaskFailure};
use crate::inference::chunk_of;
use crate::lanes::attempt;
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
    /// The mean of the middle ones, with this share of the models left out at either end, rounded down; at least 0, below 0.5.
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
            Self::WeightedMean(weights) => {
                let terms = values.iter().zip(weights);
                // A model without weight has no say, infinite or not; NaN is passed on all the same.
                let sum: f64 = terms
                    .map(|(&x, &w)| if w == 0.0 && !x.is_nan() { 0.0 } else { x * w })
                    .sum();
                sum / weights.iter().sum::<f64>()
            }
            _ if !statistics::sort(values) => f64::NAN,
            Self::Median => statistics::quantile(values, 0.5),
            Self::TrimmedMean => {
                let cut = (n / 5).max(usize::from(n >= 3));
                mean(&values[cut..n - cut])
            }
            Self::TrimmedMeanOf(share) => {
                let cut = (n as f64 * share) as usize;
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

impl Parallel<'_> {
    /// Predicts samples with every model; a list for each sample, with a prediction by each model.
    ///
    /// A sample that a model cannot predict fails as a whole, and the failure names the model.
    pub(crate) fn members<X: Sync, Y: Send>(
        &self,
        models: &[impl Predict<X, Y>],
        samples: &[X],
    ) -> Result<Found<Vec<Y>>, ParallelError> {
        self.config.validate()?;
        let size = self.config.chunk_size;
        let chunks = samples.len().div_ceil(size);
        let lanes = self.lanes(models.len() * chunks)?;
        let run = self.run(Some(models.len() * samples.len()));
        let found = run.tasks(&lanes, models.len() * chunks, |task| {
            let (model, chunk) = (&models[task.index() / chunks], task.index() % chunks);
            let first = chunk * size;
            let samples = &samples[first..samples.len().min(first + size)];
            let alone = |_, sample: &X| model.predict(sample);
            let results = chunk_of(first, samples, |chunk| model.predict_batch(chunk), alone);
            let failed = results.iter().filter(|result| result.is_err()).count();
            run.report(results.len(), failed);
            results
        });
        let mut all: Vec<_> = samples
            .iter()
            .map(|_| Some(Ok(Vec::with_capacity(models.len()))))
            .collect();
        for (task, results) in found.into_iter().enumerate() {
            let (model, first) = (task / chunks, task % chunks * size);
            match results {
                None => {
                    let end = samples.len().min(first + size);
                    for slot in &mut all[first..end] {
                        // A failure that is known says more than a task that did not begin.
                        if !matches!(slot, Some(Err(_))) {
                            *slot = None;
                        }
                    }
                }
                Some(results) => {
                    for (slot, result) in all[first..].iter_mut().zip(results) {
                        match (slot.as_mut(), result) {
                            (Some(Ok(members)), Ok(value)) => members.push(value),
                            (Some(Err(_)), _) | (None, Ok(_)) => {}
                            (_, Err(failure)) => *slot = Some(Err(failure.of_model(model))),
                        }
                    }
                }
            }
        }
        Ok(all)
    }

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
        aggregation.validate(models.len())?;
        let members = self.members(models, samples)?;
        self.combine(members, |index, members, buffer| {
            attempt(index, || {
                let mut combined = Vec::new();
                each_number(members, buffer, |column| {
                    combined.push(aggregation.combine(column));
                })?;
                Ok(members[0].with_values(&combined))
            })
        })
    }

    /// Makes one result of the predictions of all models, sample by sample.
    pub(crate) fn combine<Y: Send + Sync, Z: Send>(
        &self,
        members: Found<Vec<Y>>,
        work: impl Fn(usize, &[Y], &mut Vec<f64>) -> Result<Z, TaskFailure> + Sync,
    ) -> Result<Outcome<Z>, ParallelError> {
        // Some nanoseconds a number: pieces large enough that waking a thread pays.
        const SAMPLES: usize = 256;
        // Neither progress nor cancellation: the predictions are there, and combining them takes no time beside them.
        let quiet = Parallel::new(self.config);
        let lanes = quiet.lanes(members.len().div_ceil(SAMPLES))?;
        let run = quiet.run(None);
        let found = run.tasks(&lanes, members.len().div_ceil(SAMPLES), |task| {
            let first = task.index() * SAMPLES;
            let members = &members[first..members.len().min(first + SAMPLES)];
            let mut buffer = Vec::new();
            let one = |(i, members): (usize, &Option<Result<Vec<Y>, TaskFailure>>)| match members {
                None => None,
                Some(Err(failure)) => Some(Err(failure.clone())),
                Some(Ok(members)) => Some(work(first + i, members, &mut buffer)),
            };
            members.iter().enumerate().map(one).collect::<Vec<_>>()
        });
        Ok(Outcome::new(
            "samples",
            found.into_iter().flatten().flatten(),
        ))
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
