//! Forecasts by series and date.

use std::io::Write;

use nd_data::{TimeStyle, Timestamp};

/// The forecast of one series from one cutoff.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesForecast {
    /// The series.
    pub unique_id: String,
    /// The last time that the model saw.
    pub cutoff: Timestamp,
    /// The times that are forecast, `[h]`.
    pub ds: Vec<Timestamp>,
    /// The forecasts, `[h, Q]`: a row for each time, a column for each output.
    pub values: Vec<f32>,
    /// What was observed at those times, `[h]`; NaN where nothing was, empty when they lie in the future.
    pub y: Vec<f32>,
}

/// Forecasts of many series, in the units of the data.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// A name for each output: the model's, with a suffix such as `-lo-90` where there are several.
    pub columns: Vec<String>,
    /// The forecasts, series by series and cutoff by cutoff.
    pub series: Vec<SeriesForecast>,
    /// How times are written.
    pub style: TimeStyle,
}

impl Forecast {
    /// The values of one output of one series.
    ///
    /// # Panics
    /// There is no such series or output.
    #[must_use]
    #[track_caller]
    pub fn column(&self, series: usize, column: usize) -> Vec<f32> {
        assert!(
            column < self.columns.len(),
            "output {column} of {:?}",
            self.columns
        );
        let values = &self.series[series].values;
        values
            .iter()
            .skip(column)
            .step_by(self.columns.len())
            .copied()
            .collect()
    }

    /// Writes `unique_id,ds,<columns>` as CSV; with `cutoff` and `y` columns when the forecasts come from a cross-validation.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_csv(&self, out: impl Write) -> Result<(), std::io::Error> {
        let back_test = self.series.iter().any(|series| !series.y.is_empty());
        let mut csv = csv::Writer::from_writer(out);
        let fixed: &[&str] = if back_test {
            &["unique_id", "ds", "cutoff", "y"]
        } else {
            &["unique_id", "ds"]
        };
        csv.write_record(
            fixed
                .iter()
                .copied()
                .chain(self.columns.iter().map(String::as_str)),
        )?;
        for series in &self.series {
            let rows = series.values.chunks(self.columns.len().max(1));
            for (t, (ds, values)) in series.ds.iter().zip(rows).enumerate() {
                csv.write_field(&series.unique_id)?;
                csv.write_field(self.style.format(*ds))?;
                if back_test {
                    csv.write_field(self.style.format(series.cutoff))?;
                    let y = series.y.get(t).filter(|y| !y.is_nan());
                    csv.write_field(y.map_or(String::new(), ToString::to_string))?;
                }
                for value in values {
                    csv.write_field(value.to_string())?;
                }
                csv.write_record(None::<&[u8]>)?;
            }
        }
        csv.flush()
    }
}
