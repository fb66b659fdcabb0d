//! Tiny models, as a user would write them.

use std::ops::Range;

use nd_parallel::{BoxError, Draw, DrawKey, Fit, Predict, Task, Tune};

/// Computes something of a sample alone that rounding would show; fails and panics on marked samples.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waves {
    pub(crate) scale: f32,
    /// Samples that begin with this number make the model panic.
    pub(crate) panics_at: Option<f32>,
    /// Samples that begin with this number are an error.
    pub(crate) fails_at: Option<f32>,
}

impl Waves {
    pub(crate) fn new(scale: f32) -> Self {
        Self {
            scale,
            ..Self::default()
        }
    }
}

impl Predict for Waves {
    fn predict(&self, sample: &Vec<f32>) -> Result<Vec<f32>, BoxError> {
        let first = sample.first().copied();
        assert!(
            first.is_none() || first != self.panics_at,
            "cannot look at {first:?}"
        );
        if first.is_some() && first == self.fails_at {
            return Err(format!("cannot use {first:?}").into());
        }
        let sum: f32 = sample.iter().map(|x| (x * self.scale).sin()).sum();
        Ok(vec![sum, sum.exp()])
    }
}

/// `n` samples of some lengths.
pub(crate) fn samples(n: usize) -> Vec<Vec<f32>> {
    (0..n)
        .map(|i| (0..1 + i % 7).map(|t| (i + 10 * t) as f32).collect())
        .collect()
}

/// Forecasts the mean of its training part times a factor; knows which rows it saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level {
    pub(crate) factor: f64,
}

impl Fit<Vec<f64>> for Level {
    type Fitted = f64;

    fn fit(&self, train: &Vec<f64>, task: &Task<'_>) -> Result<f64, BoxError> {
        task.check()?;
        Ok(self.factor * train.iter().sum::<f64>() / train.len() as f64)
    }

    fn score(
        &self,
        level: &f64,
        data: &Vec<f64>,
        test: Range<usize>,
        _: &Task<'_>,
    ) -> Result<f64, BoxError> {
        let n = test.len() as f64;
        Ok(data[test].iter().map(|y| (y - level).abs()).sum::<f64>() / n)
    }
}

impl Tune<f64> for Level {
    fn tune(&self, factor: &f64) -> Result<Self, BoxError> {
        if *factor == 13.0 {
            panic!("thirteen");
        }
        if *factor < 0.0 {
            return Err(format!("a factor of {factor} is negative").into());
        }
        Ok(Self { factor: *factor })
    }
}

/// A prediction plus noise that depends on its place alone.
pub(crate) struct Noisy;

impl Draw for Noisy {
    fn draw(&self, samples: &[Vec<f32>], key: DrawKey) -> Result<Vec<Vec<f32>>, BoxError> {
        let one = |(i, sample): (usize, &Vec<f32>)| {
            let key = nd_core::rng::Key {
                seed: key.seed,
                step: key.draw as u32,
                op: (key.first + i) as u32,
            };
            let mut stream = nd_core::rng::Stream::new(key);
            sample
                .iter()
                .map(|x| x + 2.0 * stream.normal() as f32)
                .collect()
        };
        Ok(samples.iter().enumerate().map(one).collect())
    }
}
