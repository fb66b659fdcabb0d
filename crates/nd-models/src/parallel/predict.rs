//! Predictions of a trained model, one series or one panel after another, with their uncertainty.

use nd_core::WindowSource;
use nd_core::autograd::Mode;
use nd_core::rng::Key;
use nd_data::Panel;
use nd_parallel::{
    Ask, BoxError, Draw, DrawKey, MonteCarlo, ParallelError, Predict, PredictUncertain, Quantiles,
    Uncertain, Values,
};

use super::histories::Histories;
use crate::error::ModelError;
use crate::forecast::Forecast;
use crate::forecaster::Fitted;
use crate::train::sampler::WindowIndex;

impl Fitted {
    /// Forecasts series that are given by their past alone, `[h, Q]` each.
    fn predict_series(
        &self,
        series: &[Vec<f32>],
        mode: Mode,
        key: Key,
        first_row: usize,
    ) -> Result<Vec<Vec<f32>>, BoxError> {
        let config = &self.config;
        let columns = [&config.hist_exog, &config.futr_exog, &config.stat_exog];
        if columns.iter().any(|columns| !columns.is_empty()) {
            let names: Vec<&str> = columns.into_iter().flatten().map(String::as_str).collect();
            return Err(format!(
                "the model uses the columns {}, which a plain series has not: predict panels instead",
                names.join(", ")
            )
            .into());
        }
        let source = Histories {
            series,
            layout: nd_core::BatchLayout::univariate(config.input_size, config.horizon),
            scaler: config.scaler,
        };
        source.check()?;
        let windows: Vec<WindowIndex> = (0..source.groups())
            .map(|group| WindowIndex { group, window: 0 })
            .collect();
        let values = self.forward(&source, &windows, mode, key, first_row)?;
        let per_window = values.len() / series.len().max(1);
        Ok(values
            .chunks(per_window.max(1))
            .map(<[f32]>::to_vec)
            .collect())
    }

    /// Whether the network drops anything, so that its predictions can be drawn.
    fn has_dropout(&self) -> bool {
        self.config.model.has_dropout()
    }
}

/// A sample is the past of a series, the last value last; NaN where nothing was observed. Of a longer past the last `input_size`
/// values are used. The prediction is `[h, Q]`, in the units of the series.
impl Predict<Vec<f32>, Vec<f32>> for Fitted {
    fn predict(&self, sample: &Vec<f32>) -> Result<Vec<f32>, BoxError> {
        let mut found = self.predict_batch(std::slice::from_ref(sample))?;
        found.pop().ok_or_else(|| "no forecast".into())
    }

    fn predict_batch(&self, samples: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, BoxError> {
        self.predict_series(samples, Mode::Infer, Key::default(), 0)
    }
}

/// A sample is a panel, the prediction its forecast.
impl Predict<Panel<f32>, Forecast> for Fitted {
    fn predict(&self, sample: &Panel<f32>) -> Result<Forecast, BoxError> {
        Ok(Fitted::predict(self, sample)?)
    }
}

/// Dropout is left on; each draw has a mask of its own for each sample.
impl Draw<Vec<f32>, Vec<f32>> for Fitted {
    fn draw(&self, samples: &[Vec<f32>], key: DrawKey) -> Result<Vec<Vec<f32>>, BoxError> {
        if !self.has_dropout() {
            return Err(ModelError::NoUncertainty {
                model: self.config.model.name(),
            }
            .into());
        }
        let step = u32::try_from(key.draw).map_err(|_| format!("draw {} of 2^32", key.draw))?;
        let random = Key {
            seed: key.seed,
            step,
            op: 0,
        };
        self.predict_series(samples, Mode::InferWithDropout, random, key.first)
    }
}

impl Fitted {
    fn uncertain(&self) -> Box<dyn PredictUncertain + '_> {
        match self.config.loss.kind.quantiles() {
            Some(probabilities) => Box::new(Quantiles {
                model: self,
                probabilities,
            }),
            None => Box::new(MonteCarlo(self)),
        }
    }
}

/// A model that was trained with quantiles gives these ([`Quantiles`]); another one with dropout is drawn from ([`MonteCarlo`]).
impl PredictUncertain<Vec<f32>, Vec<f32>> for Fitted {
    fn check(&self, ask: &Ask<'_>) -> Result<(), ParallelError> {
        self.uncertain().check(ask)
    }

    fn predict_uncertain(
        &self,
        samples: &[Vec<f32>],
        ask: &Ask<'_>,
    ) -> Result<Vec<Uncertain<Vec<f32>>>, BoxError> {
        self.uncertain().predict_uncertain(samples, ask)
    }
}

/// The numbers of all series and cutoffs; ids, dates and observations stay those of the first.
impl Values for Forecast {
    fn extend_values(&self, out: &mut Vec<f64>) {
        let values = self.series.iter().flat_map(|series| &series.values);
        out.extend(values.map(|&value| f64::from(value)));
    }

    fn with_values(&self, values: &[f64]) -> Self {
        let mut forecast = self.clone();
        let places = forecast
            .series
            .iter_mut()
            .flat_map(|series| &mut series.values);
        for (place, &value) in places.zip(values) {
            *place = value as f32;
        }
        forecast
    }
}
