//! Scaling every series of a panel by its own statistics, before windows are cut.

use nd_core::Real;

use super::statistics::{extremes, mean, median, population_std};
use crate::error::DataError;
use crate::panel::Panel;

/// The statistics of a [`LocalScaler`]. A spread of zero counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocalScalerKind {
    /// `(x - mean) / std` with the population standard deviation.
    Standard,
    /// `(x - min) / (max - min)`.
    MinMax,
    /// `(x - median) / mad`: the ordinary median (mean of two middle values) and the median of `|x - median|`.
    Robust,
}

/// Shift and scale of every series and column, fitted on the observed rows of a panel.
///
/// NeuralForecast calls this `local_scaler_type`. Fit it on the training rows: statistics of test rows would leak the
/// future into the inputs.
///
/// ```
/// use nd_data::{LocalScaler, LocalScalerKind, PanelBuilder, Series};
/// let mut panel = PanelBuilder::new()
///     .series(Series::numbered("a", vec![1.0_f64, 3.0]))
///     .build()?;
/// let scaler = LocalScaler::fit(&panel, LocalScalerKind::Standard);
/// scaler.transform(&mut panel)?;
/// assert_eq!(panel.series_y(0), &[-1.0, 1.0]);
/// let mut forecast = [0.5];
/// scaler.inverse("a", &mut forecast)?;
/// assert_eq!(forecast, [2.5]);
/// # Ok::<(), nd_data::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LocalScaler {
    kind: LocalScalerKind,
    ids: Vec<Box<str>>,
    columns: Vec<Box<str>>,
    /// (shift, scale) of the target, one per series.
    target: Vec<(f64, f64)>,
    /// The same for each historic and future column.
    exogenous: Vec<Vec<(f64, f64)>>,
}

impl LocalScaler {
    /// Computes the statistics of every series. Masked rows do not count; a series without an observed row is left as it
    /// is.
    #[must_use]
    pub fn fit<R: Real>(panel: &Panel<R>, kind: LocalScalerKind) -> Self {
        let mut observed = Vec::with_capacity(panel.longest());
        let mut fit = |values: &[R]| -> Vec<(f64, f64)> {
            (0..panel.n_series())
                .map(|series| {
                    let rows = panel.rows_of(series);
                    let mask = panel.series_mask(series);
                    let kept = values[rows].iter().enumerate();
                    observed.clear();
                    observed.extend(
                        kept.filter(|(row, _)| mask.is_none_or(|m| m[*row]))
                            .map(|(_, x)| *x),
                    );
                    statistics(kind, &mut observed)
                })
                .collect()
        };
        Self {
            kind,
            ids: panel.ids.clone(),
            columns: panel.columns.iter().map(|c| c.name.clone()).collect(),
            target: if panel.has_target() {
                fit(panel.y())
            } else {
                Vec::new()
            },
            exogenous: panel.columns.iter().map(|c| fit(&c.values)).collect(),
        }
    }

    /// Which statistics are used.
    #[must_use]
    pub fn kind(&self) -> LocalScalerKind {
        self.kind
    }

    /// Scales the target and every exogenous column of a panel whose series and columns were seen by
    /// [`fit`](Self::fit). Values of masked rows are scaled like all others: a model sees them beside their neighbours.
    ///
    /// # Errors
    /// [`DataError::NotFound`] for a series or a column that was not.
    pub fn transform<R: Real>(&self, panel: &mut Panel<R>) -> Result<(), DataError> {
        self.apply(panel, |x, (shift, scale)| (x - shift) / scale)
    }

    /// Undoes [`transform`](Self::transform).
    ///
    /// # Errors
    /// As [`transform`](Self::transform).
    pub fn inverse_transform<R: Real>(&self, panel: &mut Panel<R>) -> Result<(), DataError> {
        self.apply(panel, |z, (shift, scale)| z * scale + shift)
    }

    /// Maps scaled target values of a series, such as a forecast, back to its units.
    ///
    /// # Errors
    /// [`DataError::NotFound`] for a series that was not fitted.
    pub fn inverse<R: Real>(&self, unique_id: &str, z: &mut [R]) -> Result<(), DataError> {
        let (shift, scale) = self
            .target
            .get(self.find(unique_id)?)
            .copied()
            .unwrap_or((0.0, 1.0));
        for z in z {
            *z = R::from_f64(z.to_f64() * scale + shift);
        }
        Ok(())
    }

    fn find(&self, unique_id: &str) -> Result<usize, DataError> {
        self.ids
            .iter()
            .position(|id| **id == *unique_id)
            .ok_or_else(|| {
                let names = self.ids.iter().map(|id| &**id);
                crate::panel::not_found("fitted series", unique_id, names)
            })
    }

    fn apply<R: Real>(
        &self,
        panel: &mut Panel<R>,
        f: impl Fn(f64, (f64, f64)) -> f64,
    ) -> Result<(), DataError> {
        // Everything is looked up before anything changes.
        let same = panel.ids == self.ids;
        let series: Vec<usize> = (0..panel.n_series())
            .map(|s| {
                if same {
                    Ok(s)
                } else {
                    self.find(&panel.ids[s])
                }
            })
            .collect::<Result<_, _>>()?;
        let columns: Vec<usize> = panel
            .columns
            .iter()
            .map(|c| {
                self.columns
                    .iter()
                    .position(|name| *name == c.name)
                    .ok_or_else(|| {
                        let names = self.columns.iter().map(|name| &**name);
                        crate::panel::not_found("fitted column", &c.name, names)
                    })
            })
            .collect::<Result<_, _>>()?;
        let Panel {
            offsets,
            target,
            columns: values,
            ..
        } = panel;
        let scale = |values: &mut [R], statistics: &[(f64, f64)]| {
            for (s, &fitted) in series.iter().enumerate() {
                for value in &mut values[offsets[s]..offsets[s + 1]] {
                    *value = R::from_f64(f(value.to_f64(), statistics[fitted]));
                }
            }
        };
        if let (Some(target), false) = (target, self.target.is_empty()) {
            scale(target, &self.target);
        }
        for (column, fitted) in values.iter_mut().zip(columns) {
            scale(&mut column.values, &self.exogenous[fitted]);
        }
        Ok(())
    }
}

fn statistics<R: Real>(kind: LocalScalerKind, observed: &mut [R]) -> (f64, f64) {
    if observed.is_empty() {
        return (0.0, 1.0);
    }
    let average = mean(observed);
    if average.is_nan() {
        return (f64::NAN, f64::NAN);
    }
    let (shift, spread) = match kind {
        LocalScalerKind::Standard => (average, population_std(observed, average)),
        LocalScalerKind::MinMax => {
            let (low, high) = extremes(observed);
            (low.to_f64(), high.to_f64() - low.to_f64())
        }
        LocalScalerKind::Robust => {
            let middle = median(observed);
            for x in observed.iter_mut() {
                *x = R::from_f64((x.to_f64() - middle).abs());
            }
            (middle, median(observed))
        }
    };
    (shift, if spread == 0.0 { 1.0 } else { spread })
}
