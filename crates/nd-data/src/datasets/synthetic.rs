//! Hourly series made of trend, seasons and noise.

use nd_core::Real;
use nd_core::rng::{Key, Stream};

use crate::calendar::{Frequency, TimeStyle, Timestamp, timestamp};
use crate::error::DataError;
use crate::panel::{Panel, PanelBuilder, Repair, Series};

/// A generator of hourly panels; the same settings always give the same values.
///
/// Series `i` is `level + slope t + daily + weekly + noise` (+ `2 price` with exogenous columns), where `daily` is a sine
/// of 24 hours with its first harmonic, `weekly` one of 168 hours, every amplitude and phase is drawn per series, and the
/// noise is normal. With exogenous columns a series has `price` (future, a random walk that pulls back to zero),
/// `temperature` (historic, a yearly and a daily sine with noise) and `region` (static, a whole number below 4).
///
/// ```
/// use nd_data::datasets::SyntheticHourly;
/// let panel = SyntheticHourly { n_series: 3, length: 500, ..SyntheticHourly::default() }.panel::<f32>()?;
/// assert_eq!((panel.n_series(), panel.n_rows()), (3, 1500));
/// # Ok::<(), nd_data::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SyntheticHourly {
    /// Number of series.
    pub n_series: usize,
    /// Rows of the longest series.
    pub length: usize,
    /// Rows of the shortest series, if not all are equal; those in between are spread evenly. All end together.
    pub shortest: Option<usize>,
    /// Standard deviation of the noise, where the daily season has an amplitude of 5 to 15.
    pub noise: f64,
    /// Whether to add exogenous columns.
    pub exogenous: bool,
    /// The seed of all random numbers.
    pub seed: u64,
}

impl Default for SyntheticHourly {
    /// Eight series of six weeks of equal length, with little noise and no exogenous columns.
    fn default() -> Self {
        Self {
            n_series: 8,
            length: 1008,
            shortest: None,
            noise: 1.0,
            exogenous: false,
            seed: 1,
        }
    }
}

/// Series `i` draws its shape from op 0 and its noise from op 1 of step `i`.
const SHAPE: u32 = 0;
const NOISE: u32 = 1;

impl SyntheticHourly {
    /// Generates the panel. The longest series begins on 2020-01-01.
    ///
    /// # Errors
    /// [`DataError::InvalidOption`] if there is nothing to generate or `shortest` is not between 1 and `length`.
    pub fn panel<R: Real>(&self) -> Result<Panel<R>, DataError> {
        let shortest = self.shortest.unwrap_or(self.length);
        let sizes_fit = (1..=self.length).contains(&shortest);
        if self.n_series == 0 || self.n_series > u32::MAX as usize || !sizes_fit {
            return Err(DataError::InvalidOption {
                option: "synthetic panel",
                expected: "n_series > 0 and 1 <= shortest <= length".into(),
                found: format!(
                    "n_series {}, shortest {}, length {}",
                    self.n_series, shortest, self.length
                ),
            });
        }
        let repair = Repair {
            frequency: Some(Frequency::HOUR),
            ..Repair::default()
        };
        let mut builder = PanelBuilder::new()
            .time_style(TimeStyle::DATE_TIME)
            .repair(repair);
        let origin = timestamp(2020, 1, 1, 0, 0, 0).unwrap_or(0);
        for index in 0..self.n_series {
            builder = builder.series(self.series(index, origin)?);
        }
        builder.build()
    }

    fn series<R: Real>(&self, index: usize, origin: Timestamp) -> Result<Series<R>, DataError> {
        let span = self.length - self.shortest.unwrap_or(self.length);
        let skipped = span * index / (self.n_series - 1).max(1);
        let key = |op| Key {
            seed: self.seed,
            step: index as u32,
            op,
        };
        let mut shape = Stream::new(key(SHAPE));
        let mut noise = Stream::new(key(NOISE));
        let mut between = |low: f64, high: f64| low + (high - low) * shape.uniform::<f64>();
        let level = between(50.0, 150.0);
        let slope = between(-0.01, 0.01);
        let (daily, harmonic, weekly) = (between(5.0, 15.0), between(0.0, 4.0), between(2.0, 8.0));
        let phases = [between(0.0, 24.0), between(0.0, 12.0), between(0.0, 168.0)];
        let warmth = between(-5.0, 15.0);
        let region = between(0.0, 4.0).floor();
        let wave = |t: f64, period: f64| (std::f64::consts::TAU * t / period).sin();
        let mut walk = 0.0;
        let (mut y, mut price, mut temperature) = (Vec::new(), Vec::new(), Vec::new());
        for hour in skipped..self.length {
            let t = hour as f64;
            let mut value = level
                + slope * t
                + daily * wave(t - phases[0], 24.0)
                + harmonic * wave(t - phases[1], 12.0)
                + weekly * wave(t - phases[2], 168.0)
                + self.noise * noise.normal();
            if self.exogenous {
                walk = 0.9 * walk + noise.normal();
                value += 2.0 * walk;
                price.push(R::from_f64(walk));
                let warm = warmth + 8.0 * wave(t, 8766.0) + 4.0 * wave(t - 15.0, 24.0);
                temperature.push(R::from_f64(warm + noise.normal()));
            }
            y.push(R::from_f64(value));
        }
        let starts = Frequency::HOUR.next(origin, skipped as i64);
        let ds = starts.and_then(|start| Frequency::HOUR.range(start, y.len()));
        let ds = ds.ok_or_else(|| DataError::InvalidOption {
            option: "length",
            expected: "hours that end before the year 10000".into(),
            found: self.length.to_string(),
        })?;
        let series = Series::new(format!("series_{index}"), ds, y);
        Ok(if self.exogenous {
            series
                .future("price", price)
                .historic("temperature", temperature)
                .constant("region", R::from_f64(region))
        } else {
            series
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_panel_and_another_another() {
        let settings = SyntheticHourly {
            n_series: 3,
            length: 100,
            shortest: Some(40),
            ..Default::default()
        };
        let a = settings.panel::<f64>().unwrap();
        assert_eq!(a, settings.panel::<f64>().unwrap());
        let b = SyntheticHourly {
            seed: 2,
            ..settings.clone()
        }
        .panel::<f64>()
        .unwrap();
        assert_ne!(a.y(), b.y());
        // A series does not depend on how many others there are.
        let one = SyntheticHourly {
            n_series: 1,
            ..settings.clone()
        }
        .panel::<f64>()
        .unwrap();
        assert_eq!(one.series_y(0), a.series_y(0));
        let lengths: Vec<_> = (0..3).map(|s| a.series_len(s)).collect();
        assert_eq!(lengths, [100, 70, 40]);
        let ends: Vec<_> = (0..3).map(|s| a.ds(s).last().copied()).collect();
        assert!(ends.iter().all(|&end| end == ends[0]));
    }

    #[test]
    fn exogenous_columns_have_their_roles() {
        let settings = SyntheticHourly {
            exogenous: true,
            ..Default::default()
        };
        let panel = settings.panel::<f32>().unwrap();
        assert_eq!(panel.column_names(crate::Role::Future), ["price"]);
        assert_eq!(panel.column_names(crate::Role::Historic), ["temperature"]);
        assert_eq!(panel.column("region").unwrap().values().len(), 8);
        assert!(
            SyntheticHourly {
                n_series: 0,
                ..settings.clone()
            }
            .panel::<f32>()
            .is_err()
        );
        assert!(
            SyntheticHourly {
                shortest: Some(0),
                ..settings
            }
            .panel::<f32>()
            .is_err()
        );
    }
}
