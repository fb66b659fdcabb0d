//! Predictions with their uncertainty: mean, standard deviation, intervals.
//!
//! A model says how sure it is by [`PredictUncertain`]. Three ways to get there are ready: [`MonteCarlo`] draws many predictions
//! from a random model (dropout left on; Gal and Ghahramani, "Dropout as a Bayesian approximation", 2016), [`Spread`] takes the
//! members of an ensemble for the draws (Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using deep
//! ensembles", 2017), [`Quantiles`] reads the quantiles that a model was trained to predict.
//!
//! Random draws are keyed by (seed, sample, draw), never by chunk or thread.

use crate::config::ParallelConfig;
use crate::ensemble::each_number;
use crate::error::{BoxError, ParallelError};
use crate::inference::chunk_of;
use crate::outcome::Outcome;
use crate::parallel::Parallel;
use crate::statistics::{QuantileFunction, moments, quantile, sort};
use crate::traits::{Predict, Values, through_pointers};

/// Levels of the intervals of draws when none are asked for.
const LEVELS: [f64; 2] = [0.8, 0.95];

/// Draws for which room is made beforehand.
const MOST_RESERVED: usize = 1 << 12;

/// How sure a prediction is, number by number.
#[derive(Clone, Debug, PartialEq)]
pub struct Uncertainty<Y> {
    /// The mean of the predictive distribution.
    pub mean: Y,
    /// Its standard deviation.
    pub std: Y,
    /// Central intervals.
    pub intervals: Vec<Interval<Y>>,
}

/// Where the truth lies with a given probability, according to the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval<Y> {
    /// The probability.
    pub level: f64,
    /// The lower end, the quantile of `(1 - level) / 2`.
    pub low: Y,
    /// The upper end, the quantile of `(1 + level) / 2`.
    pub high: Y,
}

/// A prediction and its uncertainty.
pub type Uncertain<Y> = (Y, Uncertainty<Y>);

/// What is asked of an uncertain prediction.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Ask<'a> {
    /// The levels of the intervals; `None` leaves them to the model.
    pub levels: Option<&'a [f64]>,
    /// The number of random draws.
    pub draws: usize,
    /// The seed of random draws.
    pub seed: u64,
    /// The place of the first sample within the data: what random draws are keyed by.
    pub first: usize,
}

/// A model that predicts samples with their uncertainty.
pub trait PredictUncertain<X = Vec<f32>, Y = Vec<f32>>: Send + Sync {
    /// Whether the model can give what is asked, whatever the samples: looked at once, before any of them.
    ///
    /// # Errors
    /// It cannot, which fails the call.
    fn check(&self, _: &Ask<'_>) -> Result<(), ParallelError> {
        Ok(())
    }

    /// Predicts a chunk of samples, one result for each, independent of its neighbours.
    ///
    /// # Errors
    /// Some sample is impossible, or the model cannot give what is asked.
    fn predict_uncertain(
        &self,
        samples: &[X],
        ask: &Ask<'_>,
    ) -> Result<Vec<Uncertain<Y>>, BoxError>;
}

through_pointers!(PredictUncertain {
    fn check(&self, ask: &Ask<'_>) -> Result<(), ParallelError>;
    fn predict_uncertain(&self, samples: &[X], ask: &Ask<'_>) -> Result<Vec<Uncertain<Y>>, BoxError>;
});

/// Where a random prediction stands: equal places give equal predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrawKey {
    /// The seed of the call.
    pub seed: u64,
    /// The place of the first sample of the chunk within the data; the others follow.
    pub first: usize,
    /// The number of the draw.
    pub draw: usize,
}

/// A model whose predictions can be drawn at random, such as a network with its dropout left on.
pub trait Draw<X = Vec<f32>, Y = Vec<f32>>: Send + Sync {
    /// Draws one prediction for each sample. The randomness of sample `i` depends on `(seed, first + i, draw)` alone.
    ///
    /// # Errors
    /// Some sample is impossible.
    fn draw(&self, samples: &[X], key: DrawKey) -> Result<Vec<Y>, BoxError>;
}

through_pointers!(Draw {
    fn draw(&self, samples: &[X], key: DrawKey) -> Result<Vec<Y>, BoxError>;
});

/// Uncertainty from many random predictions; the prediction is their mean.
#[derive(Clone, Copy, Debug)]
pub struct MonteCarlo<M>(pub M);

impl<X: Sync, Y: Values, M: Draw<X, Y>> PredictUncertain<X, Y> for MonteCarlo<M> {
    fn check(&self, ask: &Ask<'_>) -> Result<(), ParallelError> {
        if ask.draws < 2 {
            return Err(ParallelError::TooFewDraws { draws: ask.draws });
        }
        Ok(())
    }

    fn predict_uncertain(
        &self,
        samples: &[X],
        ask: &Ask<'_>,
    ) -> Result<Vec<Uncertain<Y>>, BoxError> {
        PredictUncertain::<X, Y>::check(self, ask)?;
        let mut of_sample: Vec<Vec<Y>> = samples
            .iter()
            .map(|_| Vec::with_capacity(ask.draws.min(MOST_RESERVED)))
            .collect();
        for draw in 0..ask.draws {
            let (seed, first) = (ask.seed, ask.first);
            let drawn = self.0.draw(samples, DrawKey { seed, first, draw })?;
            if drawn.len() != samples.len() {
                let (found, given) = (drawn.len(), samples.len());
                return Err(
                    format!("the model drew {found} predictions for {given} samples").into(),
                );
            }
            for (all, value) in of_sample.iter_mut().zip(drawn) {
                all.push(value);
            }
        }
        of_sample
            .iter()
            .map(|draws| summarise(draws, ask.levels))
            .collect()
    }
}

/// Uncertainty from the members of an ensemble; the prediction is their mean.
#[derive(Clone, Copy, Debug)]
pub struct Spread<'a, M>(pub &'a [M]);

impl<X: Sync, Y: Values, M: Predict<X, Y>> PredictUncertain<X, Y> for Spread<'_, M> {
    fn check(&self, _: &Ask<'_>) -> Result<(), ParallelError> {
        match self.0.len() {
            0 => Err(ParallelError::EmptyEnsemble),
            1 => Err(ParallelError::OutOfRange {
                what: "the number of models of a spread",
                found: 1.0,
                expected: "one model has no standard deviation: give at least 2 models",
            }),
            _ => Ok(()),
        }
    }

    fn predict_uncertain(
        &self,
        samples: &[X],
        ask: &Ask<'_>,
    ) -> Result<Vec<Uncertain<Y>>, BoxError> {
        PredictUncertain::<X, Y>::check(self, ask)?;
        let mut of_sample: Vec<Vec<Y>> = samples.iter().map(|_| Vec::new()).collect();
        for (number, model) in self.0.iter().enumerate() {
            let found = model
                .predict_batch(samples)
                .map_err(|error| format!("model {number}: {error}"))?;
            if found.len() != samples.len() {
                let (found, given) = (found.len(), samples.len());
                return Err(
                    format!("model {number} gave {found} predictions for {given} samples").into(),
                );
            }
            for (all, value) in of_sample.iter_mut().zip(found) {
                all.push(value);
            }
        }
        of_sample
            .iter()
            .map(|members| summarise(members, ask.levels))
            .collect()
    }
}

/// Mean, deviation and intervals of draws.
fn summarise<Y: Values>(draws: &[Y], levels: Option<&[f64]>) -> Result<Uncertain<Y>, BoxError> {
    let levels = levels.unwrap_or(&LEVELS);
    let (mut means, mut deviations) = (Vec::new(), Vec::new());
    let mut ends = vec![(Vec::new(), Vec::new()); levels.len()];
    each_number(draws, &mut Vec::new(), |column| {
        // Summed in the order of the draws, whatever sorting does to it afterwards.
        let (mean, std) = moments(column);
        means.push(mean);
        deviations.push(std);
        let whole = sort(column);
        for (&level, (low, high)) in levels.iter().zip(&mut ends) {
            let at = |q| if whole { quantile(column, q) } else { f64::NAN };
            low.push(at((1.0 - level) / 2.0));
            high.push(at((1.0 + level) / 2.0));
        }
    })?;
    let like = |values: &[f64]| draws[0].with_values(values);
    let interval = |(&level, (low, high)): (&f64, &(Vec<f64>, Vec<f64>))| Interval {
        level,
        low: like(low),
        high: like(high),
    };
    let uncertainty = Uncertainty {
        mean: like(&means),
        std: like(&deviations),
        intervals: levels.iter().zip(&ends).map(interval).collect(),
    };
    Ok((like(&means), uncertainty))
}

/// Uncertainty from a model that predicts quantiles: `Q` numbers for each time step, `[h, Q]`. The prediction is the median.
///
/// Between its quantiles the distribution is a straight line; beyond them it has no tails, so the standard deviation is a lower
/// bound. Quantiles that cross are sorted. Without levels asked for, each pair `q` and `1 - q` gives an interval.
#[derive(Clone, Debug)]
pub struct Quantiles<M> {
    /// The model.
    pub model: M,
    /// The probabilities of its `Q` outputs, in their order.
    pub probabilities: Vec<f64>,
}

impl<M> Quantiles<M> {
    /// The probabilities in their order, and the levels of the intervals.
    fn plan(&self, ask: &Ask<'_>) -> Result<(Vec<f64>, Vec<f64>), ParallelError> {
        let mut probabilities = self.probabilities.clone();
        probabilities.sort_by(f64::total_cmp);
        let refused = |expected: String| {
            let found = self.probabilities.clone();
            Err(ParallelError::Quantiles { found, expected })
        };
        let (first, last) = match probabilities[..] {
            [first, .., last] if first > 0.0 && last < 1.0 => (first, last),
            _ => return refused("a distribution needs at least 2 between 0 and 1".into()),
        };
        if first > 0.5 + 1e-9 || last < 0.5 - 1e-9 {
            return refused(
                "the prediction is the median: train it with quantiles on both sides of 0.5".into(),
            );
        }
        let levels: Vec<f64> = match ask.levels {
            Some(levels) => levels.to_vec(),
            // Widest last, as levels are usually written.
            None => probabilities
                .iter()
                .rev()
                .filter(|&&q| q < 0.5 && probabilities.iter().any(|p| (p - (1.0 - q)).abs() < 1e-9))
                .map(|q| 1.0 - 2.0 * q)
                .collect(),
        };
        for level in &levels {
            let (low, high) = ((1.0 - level) / 2.0, (1.0 + level) / 2.0);
            if low < first - 1e-9 || high > last + 1e-9 {
                // As they would be written, without the rounding of the subtraction.
                let [low, high] = [low, high].map(|q| (q * 1e9).round() / 1e9);
                return refused(format!(
                    "an interval of {level} lies between the quantiles {low} and {high}: ask for smaller levels, or train with these"
                ));
            }
        }
        Ok((probabilities, levels))
    }
}

impl<X, M: Predict<X, Vec<f32>>> PredictUncertain<X, Vec<f32>> for Quantiles<M> {
    fn check(&self, ask: &Ask<'_>) -> Result<(), ParallelError> {
        self.plan(ask).map(|_| ())
    }

    fn predict_uncertain(
        &self,
        samples: &[X],
        ask: &Ask<'_>,
    ) -> Result<Vec<Uncertain<Vec<f32>>>, BoxError> {
        let (probabilities, levels) = self.plan(ask)?;
        let predictions = self.model.predict_batch(samples)?;
        predictions
            .iter()
            .map(|values| of_quantiles(values, &probabilities, &levels))
            .collect()
    }
}

fn of_quantiles(
    values: &[f32],
    probabilities: &[f64],
    levels: &[f64],
) -> Result<Uncertain<Vec<f32>>, BoxError> {
    let q = probabilities.len();
    if !values.len().is_multiple_of(q) {
        let found = values.len();
        return Err(format!(
            "the model gave {found} numbers, which are no multiple of its {q} quantiles"
        )
        .into());
    }
    let steps = values.len() / q;
    let (mut median, mut means) = (Vec::with_capacity(steps), Vec::with_capacity(steps));
    let mut deviations = Vec::with_capacity(steps);
    let mut intervals: Vec<Interval<Vec<f32>>> = levels
        .iter()
        .map(|&level| Interval {
            level,
            low: Vec::with_capacity(steps),
            high: Vec::with_capacity(steps),
        })
        .collect();
    for step in values.chunks(q) {
        let mut sorted: Vec<f64> = step.iter().map(|&x| f64::from(x)).collect();
        let whole = sort(&mut sorted);
        let function = QuantileFunction {
            probabilities,
            values: &sorted,
        };
        let number = |x: f64| if whole { x as f32 } else { f32::NAN };
        let (mean, std) = function.moments();
        median.push(number(function.at(0.5)));
        means.push(number(mean));
        deviations.push(number(std));
        for interval in &mut intervals {
            interval
                .low
                .push(number(function.at((1.0 - interval.level) / 2.0)));
            interval
                .high
                .push(number(function.at((1.0 + interval.level) / 2.0)));
        }
    }
    let uncertainty = Uncertainty {
        mean: means,
        std: deviations,
        intervals,
    };
    Ok((median, uncertainty))
}

impl Parallel<'_> {
    /// Predicts samples with their uncertainty: levels, draws and seed are those of this call.
    ///
    /// # Errors
    /// A configuration or a level that cannot be, or something asked that the model cannot give: fewer than two draws, a spread of fewer
    /// than two models, intervals beyond the quantiles of a model. Samples that fail are in the outcome.
    pub fn batch_inference_with_uncertainty<X: Sync, Y: Send>(
        &self,
        model: &(impl PredictUncertain<X, Y> + ?Sized),
        samples: &[X],
    ) -> Result<Outcome<Uncertain<Y>>, ParallelError> {
        for &found in self.levels.iter().flatten() {
            if !(found > 0.0 && found < 1.0) {
                return Err(ParallelError::OutOfRange {
                    what: "the level of an interval",
                    found,
                    expected: "it is a probability between 0 and 1, such as 0.9",
                });
            }
        }
        let ask = |first| Ask {
            levels: self.levels.as_deref(),
            draws: self.draws,
            seed: self.seed,
            first,
        };
        model.check(&ask(0))?;
        let predict = |first: usize, samples: &[X]| model.predict_uncertain(samples, &ask(first));
        self.chunks(samples, self.config.chunk_size, |first, chunk| {
            let alone = |index, sample: &X| {
                let one = predict(index, std::slice::from_ref(sample))?.pop();
                one.ok_or_else(|| "the model gave no prediction for the sample".into())
            };
            let at_once = |chunk: &[X]| predict(first, chunk);
            chunk_of(first, chunk, &self.cancel, at_once, alone)
        })
    }
}

/// Predicts samples with their uncertainty on all cores: predictions, and beside them mean, standard deviation and intervals.
///
/// # Errors
/// A configuration that cannot be, or the first sample that failed; [`Parallel::batch_inference_with_uncertainty`] keeps the others.
pub fn parallel_batch_inference_with_uncertainty<X: Sync, Y: Send>(
    model: &(impl PredictUncertain<X, Y> + ?Sized),
    data: &[X],
    config: &ParallelConfig,
) -> Result<(Vec<Y>, Vec<Uncertainty<Y>>), ParallelError> {
    let outcome = Parallel::new(*config).batch_inference_with_uncertainty(model, data)?;
    Ok(outcome.complete()?.into_iter().unzip())
}
