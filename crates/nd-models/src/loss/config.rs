//! Losses as data.

use nd_core::Loss;
use nd_simd::SimdReal;
use nd_simd::losses::PointLoss;
use serde::{Deserialize, Serialize};

use super::fredf::FreDf;
use super::masked::{MaskedLoss, Term};
use super::quantiles::Quantiles;
use super::tukey::NeuralForecastTukey;
use crate::error::ModelError;
use crate::limits::{MAX_WAVE_HORIZON, require_at_most};

/// A loss and the weights of the steps of the horizon.
///
/// ```
/// use nd_models::loss::{LossConfig, LossKind};
/// let loss = LossConfig::from(LossKind::Huber { delta: 0.5 }).build::<f32>(24)?;
/// assert_eq!(loss.outputs_per_step(), 1);
/// let loss = LossConfig::from(LossKind::multi_quantile(&[80.0, 90.0])).build::<f32>(24)?;
/// assert_eq!(loss.output_names()[..2], ["-median", "-lo-90"]);
/// # Ok::<(), nd_models::ModelError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Which loss.
    pub kind: LossKind,
    /// A weight for each step of the horizon; empty for equal weights.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub horizon_weight: Vec<f64>,
}

/// Which loss; `e` is the forecast minus the truth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", deny_unknown_fields)]
#[non_exhaustive]
pub enum LossKind {
    /// `|e|`
    #[default]
    #[serde(rename = "MAE")]
    Mae,
    /// `e^2`
    #[serde(rename = "MSE")]
    Mse,
    /// The root of the weighted mean of `e^2`.
    #[serde(rename = "RMSE")]
    Rmse,
    /// `|e| / |y|`, zero where `y` is.
    #[serde(rename = "MAPE")]
    Mape,
    /// `2 |e| / (|y| + |y_hat|)`, zero where both are.
    #[serde(rename = "SMAPE")]
    Smape,
    /// `|e|` over the mean of `|y_t - y_{t - s}|` in the window's own input; zero where that is (Hyndman and Koehler 2006).
    /// NeuralForecast 3.3.0 multiplies with the inverse scales of all windows of the batch instead.
    #[serde(rename = "MASE")]
    Mase {
        /// The season `s`: 24 for hours of a day, 12 for months of a year.
        seasonality: usize,
    },
    /// `e^2 / 2` up to `delta`, `delta (|e| - delta / 2)` beyond (Huber 1964).
    #[serde(rename = "HuberLoss")]
    Huber {
        /// Where the parabola ends.
        #[serde(default = "one")]
        delta: f64,
    },
    /// Tukey's biweight: `c^2 / 6 (1 - (1 - (e / c)^2)^3)` up to `c`, `c^2 / 6` beyond (Beaton and Tukey 1974).
    #[serde(rename = "Tukey")]
    Tukey {
        /// Errors beyond this count no more than it does.
        #[serde(default = "tukey_c")]
        c: f64,
    },
    /// What NeuralForecast 3.3.0 computes as `TukeyLoss`: `c^2 / 6 (1 - (e / c)^2)^3` up to `c`, `c^2 / 6` beyond, the mean over
    /// all entries. It is *largest* where the error is zero, so it cannot be trained with; [`LossKind::Tukey`] can.
    #[serde(rename = "TukeyLoss")]
    NeuralForecastTukey {
        /// Where the curve has its lowest point.
        #[serde(default = "tukey_c")]
        c: f64,
        /// Whether errors are divided by the deviation of the series of a step, plus 0.01.
        #[serde(default = "yes")]
        normalize: bool,
    },
    /// `q max(-e, 0) + (1 - q) max(e, 0)` (Koenker and Bassett 1978).
    #[serde(rename = "QuantileLoss")]
    Quantile {
        /// The quantile, between zero and one.
        q: f64,
    },
    /// The sum of the quantile losses of several quantiles, an output for each. (A sum, as NeuralForecast computes it; its text says mean.)
    #[serde(rename = "MQLoss")]
    MultiQuantile {
        /// Which quantiles.
        #[serde(default)]
        quantiles: Quantiles,
    },
    /// The Huber loss, times `q` where `e < 0` and `1 - q` elsewhere.
    #[serde(rename = "HuberQLoss")]
    HuberQuantile {
        /// The quantile, between zero and one.
        q: f64,
        /// Where the parabola ends.
        #[serde(default = "one")]
        delta: f64,
    },
    /// The sum over several quantiles of the Huber loss of `q max(-e, 0)` and `(1 - q) max(e, 0)`, an output for each.
    #[serde(rename = "HuberMQLoss")]
    HuberMultiQuantile {
        /// Which quantiles.
        #[serde(default)]
        quantiles: Quantiles,
        /// Where the parabola ends.
        #[serde(default = "one")]
        delta: f64,
    },
    /// `1 - alpha` times the mean of `e^2` plus `alpha` times the mean size of the Fourier coefficients of `e` (Wang et al., "FreDF:
    /// Learning to forecast in the frequency domain", ICLR 2025).
    #[serde(rename = "FreDF")]
    FreDf {
        /// The share of the frequencies.
        #[serde(default = "half")]
        alpha: f64,
    },
    /// A loss that is not of this library, by its name; [`Forecaster::with_loss`](crate::Forecaster::with_loss) sets it.
    #[serde(rename = "custom")]
    Custom {
        /// What its [`Loss::name`] returns.
        loss: String,
    },
}

fn one() -> f64 {
    1.0
}

fn half() -> f64 {
    0.5
}

fn tukey_c() -> f64 {
    4.685
}

fn yes() -> bool {
    true
}

impl From<LossKind> for LossConfig {
    fn from(kind: LossKind) -> Self {
        Self {
            kind,
            horizon_weight: Vec::new(),
        }
    }
}

impl LossKind {
    /// The multi-quantile loss of central intervals that cover the given percentages, and of the median.
    #[must_use]
    pub fn multi_quantile(levels: &[f64]) -> Self {
        Self::MultiQuantile {
            quantiles: Quantiles::Level(levels.to_vec()),
        }
    }

    /// The name in reports and checkpoints.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mae => "MAE",
            Self::Mse => "MSE",
            Self::Rmse => "RMSE",
            Self::Mape => "MAPE",
            Self::Smape => "SMAPE",
            Self::Mase { .. } => "MASE",
            Self::Huber { .. } => "HuberLoss",
            Self::Tukey { .. } => "Tukey",
            Self::NeuralForecastTukey { .. } => "TukeyLoss",
            Self::Quantile { .. } => "QuantileLoss",
            Self::MultiQuantile { .. } => "MQLoss",
            Self::HuberQuantile { .. } => "HuberQLoss",
            Self::HuberMultiQuantile { .. } => "HuberMQLoss",
            Self::FreDf { .. } => "FreDF",
            Self::Custom { .. } => "custom",
        }
    }

    /// The quantiles that it forecasts, in the order of its outputs; `None` when it forecasts none, or only one.
    #[must_use]
    pub fn quantiles(&self) -> Option<Vec<f64>> {
        match self {
            Self::MultiQuantile { quantiles } | Self::HuberMultiQuantile { quantiles, .. } => {
                Some(quantiles.values()).filter(|found: &Vec<f64>| found.len() > 1)
            }
            _ => None,
        }
    }

    /// Suffixes of the forecast columns, one for each output of a time step; those of a custom loss only it knows.
    #[must_use]
    pub fn output_names(&self) -> Vec<String> {
        match self {
            Self::MultiQuantile { quantiles } | Self::HuberMultiQuantile { quantiles, .. } => {
                quantiles.names()
            }
            Self::Quantile { q } => vec![format!("_ql{q:?}")],
            Self::HuberQuantile { q, delta } => vec![format!("_q{q:?}_d{delta:?}")],
            _ => vec![String::new()],
        }
    }
}

impl LossConfig {
    /// The loss, for windows of a horizon.
    ///
    /// # Errors
    /// A parameter is outside its range, there is not one finite weight of at least zero for each step of the horizon, or the
    /// loss is not of this library.
    pub fn build<R: SimdReal>(&self, horizon: usize) -> Result<Box<dyn Loss<R>>, ModelError> {
        let name = self.kind.name();
        self.validate(horizon)?;
        let term = match &self.kind {
            LossKind::Mae => Term::Point(PointLoss::Absolute),
            LossKind::Mse => Term::Point(PointLoss::Squared),
            LossKind::Rmse => Term::RootOfSquares,
            LossKind::Mape => Term::Point(PointLoss::Mape),
            LossKind::Smape => Term::Point(PointLoss::Smape),
            &LossKind::Mase { seasonality } => Term::Scaled { seasonality },
            &LossKind::Huber { delta } => Term::Point(PointLoss::Huber { delta }),
            &LossKind::Tukey { c } => Term::Point(PointLoss::Tukey { c }),
            &LossKind::Quantile { q } => Term::Point(PointLoss::Quantile { q }),
            &LossKind::HuberQuantile { q, delta } => {
                Term::Point(PointLoss::HuberQuantile { q, delta })
            }
            LossKind::MultiQuantile { quantiles } => Term::MultiQuantile {
                quantiles: quantiles.values(),
            },
            LossKind::HuberMultiQuantile { quantiles, delta } => Term::HuberMultiQuantile {
                quantiles: quantiles.values(),
                delta: R::from_f64(*delta),
            },
            &LossKind::NeuralForecastTukey { c, normalize } => {
                return Ok(Box::new(NeuralForecastTukey { c, normalize }));
            }
            LossKind::Custom { loss } => {
                return Err(ModelError::LossNeeded { loss: loss.clone() });
            }
            &LossKind::FreDf { alpha } => {
                let time = MaskedLoss::new(
                    name,
                    Term::Point(PointLoss::Squared),
                    self.kind.output_names(),
                    &self.horizon_weight,
                );
                return Ok(Box::new(FreDf::new(alpha, horizon, time)));
            }
        };
        let names = self.kind.output_names();
        Ok(Box::new(MaskedLoss::new(
            name,
            term,
            names,
            &self.horizon_weight,
        )))
    }

    /// Checks the parameters, before anything is computed from them.
    pub(crate) fn validate(&self, horizon: usize) -> Result<(), ModelError> {
        let name = self.kind.name();
        let positive = |field, found: f64| {
            if found > 0.0 && found.is_finite() {
                return Ok(());
            }
            Err(ModelError::config(
                name,
                field,
                found,
                "it must be a number above 0",
            ))
        };
        let share = |field, found: f64, low: bool| {
            let inside = found > 0.0 && found < 1.0 || low && (found == 0.0 || found == 1.0);
            let ends = if low {
                "0 and 1, both included"
            } else {
                "0 and 1"
            };
            if inside {
                return Ok(());
            }
            Err(ModelError::config(
                name,
                field,
                found,
                format!("it must lie between {ends}"),
            ))
        };
        match &self.kind {
            LossKind::Mae | LossKind::Mse | LossKind::Rmse | LossKind::Mape | LossKind::Smape => {}
            &LossKind::Mase { seasonality } => {
                ModelError::require_positive(name, "seasonality", seasonality)?;
            }
            &LossKind::Huber { delta } => positive("delta", delta)?,
            &LossKind::Tukey { c } => positive("c", c)?,
            &LossKind::NeuralForecastTukey { c, .. } => {
                positive("c", c)?;
                if !self.horizon_weight.is_empty() {
                    let expected = "this loss weighs no steps: leave it empty";
                    let found = &self.horizon_weight;
                    return Err(ModelError::config(name, "horizon_weight", found, expected));
                }
            }
            &LossKind::Quantile { q } => share("q", q, false)?,
            &LossKind::HuberQuantile { q, delta } => {
                share("q", q, false)?;
                positive("delta", delta)?;
            }
            LossKind::MultiQuantile { quantiles } => quantiles.validate(name)?,
            LossKind::HuberMultiQuantile { quantiles, delta } => {
                quantiles.validate(name)?;
                positive("delta", *delta)?;
            }
            &LossKind::FreDf { alpha } => {
                share("alpha", alpha, true)?;
                require_at_most(name, "the horizon", horizon, MAX_WAVE_HORIZON)?;
            }
            LossKind::Custom { .. } => {
                if !self.horizon_weight.is_empty() {
                    let expected = "a loss of your own weighs the steps itself: leave it empty";
                    let found = &self.horizon_weight;
                    return Err(ModelError::config(name, "horizon_weight", found, expected));
                }
            }
        }
        let weights = &self.horizon_weight;
        let usable =
            weights.iter().all(|&w| w.is_finite() && w >= 0.0) && weights.iter().any(|&w| w > 0.0);
        if !weights.is_empty() && (weights.len() != horizon || !usable) {
            let expected = format!(
                "it must hold {horizon} numbers of at least 0, one for each step of the horizon, not all 0"
            );
            return Err(ModelError::config(
                name,
                "horizon_weight",
                weights,
                expected,
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_go_through_json() {
        let text = r#"{"kind": {"name": "HuberMQLoss", "quantiles": {"level": [80]}}}"#;
        let config: LossConfig = serde_json::from_str(text).unwrap();
        let LossKind::HuberMultiQuantile { quantiles, delta } = &config.kind else {
            panic!("another loss: {config:?}");
        };
        assert_eq!((quantiles, *delta), (&Quantiles::Level(vec![80.0]), 1.0));
        let again = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<LossConfig>(&again).unwrap(), config);
        for wrong in [
            r#"{"kind": {"name": "HuberLoss", "dleta": 1}}"#,
            r#"{"kind": {"name": "HuberLos"}}"#,
            r#"{"kind": {"name": "MAE"}, "weights": []}"#,
        ] {
            assert!(
                serde_json::from_str::<LossConfig>(wrong).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |kind: LossKind, horizon_weight: &[f64], words: &str| {
            let config = LossConfig {
                kind,
                horizon_weight: horizon_weight.to_vec(),
            };
            let Err(error) = config.build::<f32>(2) else {
                panic!("{config:?} was built");
            };
            let error = error.to_string();
            assert!(error.contains(words), "{error}");
        };
        refused(LossKind::Mae, &[1.0], "2 numbers");
        refused(LossKind::Mae, &[0.0, 0.0], "not all 0");
        refused(LossKind::Mae, &[1.0, f64::NAN], "NaN");
        refused(LossKind::Huber { delta: 0.0 }, &[], "delta is 0.0");
        refused(LossKind::Quantile { q: 1.0 }, &[], "between 0 and 1");
        refused(LossKind::FreDf { alpha: -0.1 }, &[], "both included");
        refused(LossKind::Mase { seasonality: 0 }, &[], "at least 1");
        refused(LossKind::multi_quantile(&[]), &[], "quantiles");
        refused(LossKind::multi_quantile(&[100.0]), &[], "quantiles");
        let many: Vec<f64> = (1..2000).map(|i| f64::from(i) / 20.0).collect();
        refused(LossKind::multi_quantile(&many), &[], "at most 1024");
        let own = LossKind::Custom {
            loss: "LogCosh".into(),
        };
        refused(own.clone(), &[], "LogCosh is not one of this library");
        refused(own, &[1.0, 1.0], "weighs the steps itself");
        let waves = LossConfig::from(LossKind::FreDf { alpha: 0.5 });
        let error = waves.build::<f32>(1 << 20).err().expect("too long");
        assert!(error.to_string().contains("at most 4096"), "{error}");
    }
}
