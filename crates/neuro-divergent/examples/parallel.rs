//! A model of one's own, predicted over all threads, tuned and combined.
//!
//! ```text
//! cargo run --release --package neuro-divergent --example parallel
//! ```

use std::ops::Range;

use neuro_divergent::optimizations::parallel::{
    self, BoxError, EnsembleAggregation, Fit, ParallelConfig, Predict, Task, Tune,
};

/// Forecasts the mean of the last `window` values.
#[derive(Clone)]
struct MovingAverage {
    window: usize,
}

impl Predict for MovingAverage {
    fn predict(&self, history: &Vec<f32>) -> Result<Vec<f32>, BoxError> {
        let last = &history[history.len().saturating_sub(self.window)..];
        Ok(vec![last.iter().sum::<f32>() / last.len() as f32])
    }
}

impl Fit<Vec<f32>> for MovingAverage {
    type Fitted = Self;

    fn fit(&self, _: &Vec<f32>, _: &Task<'_>) -> Result<Self, BoxError> {
        Ok(self.clone())
    }

    fn score(
        &self,
        fitted: &Self,
        data: &Vec<f32>,
        test: Range<usize>,
        _: &Task<'_>,
    ) -> Result<f64, BoxError> {
        let mut error = 0.0;
        for t in test.clone() {
            let history = data[..t].to_vec();
            error += f64::from((fitted.predict(&history)?[0] - data[t]).abs());
        }
        Ok(error / test.len() as f64)
    }
}

impl Tune<usize> for MovingAverage {
    fn tune(&self, window: &usize) -> Result<Self, BoxError> {
        Ok(Self { window: *window })
    }
}

fn main() -> Result<(), parallel::ParallelError> {
    let config = ParallelConfig::default();
    let model = MovingAverage { window: 4 };
    let series: Vec<f32> = (0..200).map(|t| (t as f32 / 6.0).sin()).collect();

    let folds = parallel::parallel_cross_validation(&model, &series, 5, &config)?;
    println!("five folds: {:.3?}", folds.scores().collect::<Vec<_>>());

    let grid = vec![1, 2, 4, 8, 16];
    let search = parallel::parallel_grid_search(&model, &series, &grid, &config)?;
    println!("best window: {:?}", search.best().map(|point| point.params));

    let models: Vec<MovingAverage> = grid
        .iter()
        .map(|&window| MovingAverage { window })
        .collect();
    let samples = vec![series];
    let median = parallel::parallel_ensemble_predict(
        &models,
        &samples,
        EnsembleAggregation::Median,
        &config,
    )?;
    println!("the next value, median of five models: {:.3}", median[0][0]);
    Ok(())
}
