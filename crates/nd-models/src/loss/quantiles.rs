//! Which quantiles a loss asks for, and their names.

use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::limits::{MAX_COUNT, require_at_most};

/// Quantiles of the forecast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantiles {
    /// The median, then the ends of central intervals that cover so many percent, in rising order.
    Level(Vec<f64>),
    /// These, in this order, between zero and one.
    Quantiles(Vec<f64>),
}

impl Default for Quantiles {
    fn default() -> Self {
        Self::Level(vec![80.0, 90.0])
    }
}

impl Quantiles {
    /// Quantile and column suffix of each output.
    fn outputs(&self) -> Vec<(f64, String)> {
        match self {
            Self::Level(levels) => {
                let mut distinct: Vec<f64> = Vec::new();
                for &level in levels {
                    if !distinct.contains(&level) {
                        distinct.push(level);
                    }
                }
                let mut ends: Vec<(f64, String)> = distinct
                    .iter()
                    .flat_map(|&level| {
                        [
                            ((50.0 - level / 2.0) / 100.0, format!("-lo-{level}")),
                            ((50.0 + level / 2.0) / 100.0, format!("-hi-{level}")),
                        ]
                    })
                    .collect();
                ends.sort_by(|a, b| a.0.total_cmp(&b.0));
                ends.insert(0, (0.5, "-median".to_owned()));
                ends
            }
            Self::Quantiles(quantiles) => quantiles
                .iter()
                .map(|&q| {
                    let percent = |x: f64| (x * 100.0).round() / 100.0;
                    let name = if q < 0.5 {
                        format!("-lo-{:?}", percent(100.0 - 200.0 * q))
                    } else if q > 0.5 {
                        format!("-hi-{:?}", percent(100.0 - 200.0 * (1.0 - q)))
                    } else {
                        "-median".to_owned()
                    };
                    (q, name)
                })
                .collect(),
        }
    }

    /// The quantiles in the order of the outputs.
    pub(crate) fn values<R: nd_core::Real>(&self) -> Vec<R> {
        self.outputs()
            .iter()
            .map(|(q, _)| R::from_f64(*q))
            .collect()
    }

    /// The suffixes of their columns.
    pub(crate) fn names(&self) -> Vec<String> {
        self.outputs().into_iter().map(|(_, name)| name).collect()
    }

    pub(crate) fn validate(&self, loss: &'static str) -> Result<(), ModelError> {
        let (Self::Level(list) | Self::Quantiles(list)) = self;
        require_at_most(loss, "the number of quantiles", list.len(), MAX_COUNT)?;
        let (list, fits) = match self {
            Self::Level(levels) => (
                levels,
                levels.iter().all(|l| (0.0..100.0).contains(l) && *l > 0.0),
            ),
            Self::Quantiles(list) => {
                let inside = list.iter().all(|q| *q > 0.0 && *q < 1.0);
                let distinct = list.iter().enumerate().all(|(i, q)| !list[..i].contains(q));
                (list, inside && distinct)
            }
        };
        if list.is_empty() || !fits {
            let expected = "it must be levels between 0 and 100, or distinct quantiles between 0 and 1, at least one";
            return Err(ModelError::config(loss, "quantiles", self, expected));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_neuralforecast() {
        let names = Quantiles::Level(vec![80.0, 90.0, 80.0]).names();
        assert_eq!(names, ["-median", "-lo-90", "-lo-80", "-hi-80", "-hi-90"]);
        let values: Vec<f64> = Quantiles::default().values();
        assert_eq!(values, [0.5, 0.05, 0.1, 0.9, 0.95]);
        let names = Quantiles::Quantiles(vec![0.1, 0.5, 0.975]).names();
        assert_eq!(names, ["-lo-80.0", "-median", "-hi-95.0"]);
        assert_eq!(Quantiles::Level(vec![99.5]).names()[1], "-lo-99.5");
    }
}
