//! A forecaster on the folds of a panel.

use std::ops::Range;

use nd_data::Panel;
use nd_parallel::{BoxError, Fit, Task};

use crate::forecast::Forecast;
use crate::forecaster::{FitHooks, Fitted, Forecaster};
use crate::train::{Control, Progress};

/// A sample is a time step of the panel. The score is the mean absolute error over all series, in the units of the data: of windows
/// of a horizon each, one behind the other, in the tested time steps; of a quantile forecast that of its median.
impl Fit<Panel<f32>> for Forecaster {
    type Fitted = Fitted;

    fn fit(&self, train: &Panel<f32>, task: &Task<'_>) -> Result<Fitted, BoxError> {
        let mut stop_when_cancelled = |_: &Progress| {
            if task.is_cancelled() {
                Control::Stop
            } else {
                Control::Continue
            }
        };
        let hooks = FitHooks {
            progress: Some(&mut stop_when_cancelled),
            ..FitHooks::default()
        };
        let fitted = self.fit_with(train, hooks)?;
        // Half a training says nothing about the settings.
        task.check()?;
        Ok(fitted)
    }

    fn score(
        &self,
        fitted: &Fitted,
        data: &Panel<f32>,
        test: Range<usize>,
        _: &Task<'_>,
    ) -> Result<f64, BoxError> {
        let horizon = fitted.config().horizon;
        if test.len() < horizon {
            return Err(format!(
                "a test of {} time steps is shorter than the horizon of {horizon}: give fewer folds, or larger tests",
                test.len()
            )
            .into());
        }
        let forecast = fitted.back_test(data, test.len(), horizon)?;
        mean_absolute_error(&forecast).ok_or_else(|| "the test has no observed value".into())
    }
}

/// Over every observed value; of several outputs the median counts, or the middle one.
fn mean_absolute_error(forecast: &Forecast) -> Option<f64> {
    let outputs = forecast.columns.len();
    let median = forecast
        .columns
        .iter()
        .position(|name| name.ends_with("-median"));
    let point = median.unwrap_or(outputs / 2);
    let (mut sum, mut count) = (0.0, 0u64);
    for series in &forecast.series {
        let values = series.values.iter().skip(point).step_by(outputs);
        for (value, y) in values.zip(&series.y).filter(|(_, y)| !y.is_nan()) {
            sum += f64::from((value - y).abs());
            count += 1;
        }
    }
    (count > 0).then(|| sum / count as f64)
}
