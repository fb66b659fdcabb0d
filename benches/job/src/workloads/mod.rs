//! The data sets of a run, and how they are split.
//!
//! The last rows of every series are for testing: `test_windows` forecasts, each `horizon` long, one behind the other.
//! Models train on the rows before them. Without a file of the user's there are two embedded data sets, one small and
//! real, one larger and synthetic.

mod file;
mod season;
pub mod training;

use nd_core::Element;
use nd_data::baseline::{observed_seasonal_naive, seasonal_naive};
use nd_data::datasets::{SyntheticHourly, air_passengers};
use nd_data::{Panel, metrics};

use crate::request::Request;
use file::from_csv;

/// Windows of a training step.
const WINDOWS_PER_STEP: usize = 256;
/// A panel, its split, and what to forecast.
#[derive(Clone, Debug)]
pub struct DataSet {
    /// A short name.
    pub name: String,
    /// Where the data comes from.
    pub source: String,
    /// Every row.
    pub panel: Panel<f32>,
    /// Time steps to forecast.
    pub horizon: usize,
    /// Past time steps that a model sees.
    pub input_size: usize,
    /// The season of the naive forecast, in rows.
    pub season: usize,
    /// Forecasts of each series.
    pub test_windows: usize,
    /// Windows of a training step.
    pub windows_per_step: usize,
    /// What was left out, filled in or cannot be tested, one sentence each.
    pub notices: Vec<String>,
}

/// The data sets that a request is about.
///
/// # Errors
/// The file cannot be read or is too short, or an option does not fit it: one message for the user.
pub fn data_sets(request: &Request) -> Result<Vec<DataSet>, String> {
    match &request.csv {
        Some(_) => Ok(vec![from_csv(request)?]),
        None => Ok(vec![passengers()?, synthetic()?]),
    }
}

fn passengers() -> Result<DataSet, String> {
    Ok(DataSet {
        name: "Airline passengers".to_owned(),
        source: "AirPassengers, monthly, Box and Jenkins".to_owned(),
        panel: air_passengers().map_err(|error| error.to_string())?,
        horizon: 12,
        input_size: 24,
        season: 12,
        test_windows: 2,
        windows_per_step: 64,
        notices: Vec::new(),
    })
}

/// Thirty-two hourly series of twelve weeks with daily and weekly seasons.
fn synthetic() -> Result<DataSet, String> {
    let settings = SyntheticHourly {
        n_series: 32,
        length: 2016,
        noise: 2.0,
        ..SyntheticHourly::default()
    };
    Ok(DataSet {
        name: "Synthetic hours".to_owned(),
        source: "generated hourly series with daily and weekly seasons, trend and noise".to_owned(),
        panel: settings.panel().map_err(|error| error.to_string())?,
        horizon: 24,
        input_size: 96,
        season: 24,
        test_windows: 7,
        windows_per_step: WINDOWS_PER_STEP,
        notices: Vec::new(),
    })
}

impl DataSet {
    /// Rows at the end of each series that are for testing.
    #[must_use]
    pub fn test_rows(&self) -> usize {
        self.test_windows * self.horizon
    }

    /// The panel without the last `rows` of each series.
    #[must_use]
    pub fn until(&self, rows: usize) -> Panel<f32> {
        self.panel.select_rows(|_, len| 0..len.saturating_sub(rows))
    }

    /// The frequency's alias.
    #[must_use]
    pub fn frequency(&self) -> String {
        let frequency = self.panel.frequency();
        frequency.map_or_else(|| "irregular".to_owned(), |frequency| frequency.to_string())
    }

    /// The mean absolute error over all series and test windows of `forecast(series, window)`, which gives the `horizon`
    /// values of [`DataSet::target_rows`]; rows that were not observed do not count.
    #[must_use]
    pub fn test_error(&self, forecast: impl Fn(usize, usize) -> Vec<f32>) -> f64 {
        let (mut truth, mut predicted, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for series in 0..self.panel.n_series() {
            for window in 0..self.test_windows {
                let rows = self.target_rows(series, window);
                truth.extend_from_slice(&self.panel.series_y(series)[rows.clone()]);
                match self.panel.series_mask(series) {
                    Some(mask) => {
                        weights.extend(mask[rows].iter().map(|&seen| f32::from(u8::from(seen))))
                    }
                    None => weights.extend(rows.map(|_| 1.0)),
                }
                predicted.extend(forecast(series, window));
            }
        }
        metrics::mae(&truth, &predicted, Some(&weights))
    }

    /// The rows of a series that a test window forecasts; windows are counted from the earliest.
    #[must_use]
    pub fn target_rows(&self, series: usize, window: usize) -> std::ops::Range<usize> {
        let end = self.panel.series_len(series) - (self.test_windows - 1 - window) * self.horizon;
        end - self.horizon..end
    }

    /// The seasonal naive forecast of a series in a test window: the value a season before, or as many seasons before as it
    /// takes to find an observed one.
    #[must_use]
    pub fn naive(&self, series: usize, window: usize) -> Vec<f32> {
        let end = self.target_rows(series, window).start;
        let known = &self.panel.series_y(series)[..end];
        match self.panel.series_mask(series) {
            Some(mask) => observed_seasonal_naive(known, &mask[..end], self.season, self.horizon),
            None => seasonal_naive(known, self.season, self.horizon),
        }
    }

    /// The test error of the seasonal naive forecast.
    #[must_use]
    pub fn naive_error(&self) -> f64 {
        self.test_error(|series, window| self.naive(series, window))
    }

    /// The first series with something to see in its last test window.
    #[must_use]
    pub fn shown_series(&self) -> usize {
        let seen = |&series: &usize| {
            let rows = self.target_rows(series, self.test_windows - 1);
            let mask = self.panel.series_mask(series);
            mask.is_none_or(|mask| mask[rows].contains(&true))
        };
        (0..self.panel.n_series()).find(seen).unwrap_or(0)
    }

    /// Time stamps, values and forecasts of the last test window of a series, with some rows before it.
    #[must_use]
    pub fn example(&self, series: usize, forecast: &[f32]) -> crate::report::ForecastExample {
        let last = self.test_windows - 1;
        let rows = self.target_rows(series, last);
        let context = (2 * self.horizon).min(rows.start);
        let shown = rows.start - context..rows.end;
        let mask = self.panel.series_mask(series);
        let y = self.panel.series_y(series);
        let observed = |row: usize| mask.is_none_or(|mask| mask[row]);
        crate::report::ForecastExample {
            series: self.panel.unique_id(series).to_owned(),
            ds: shown
                .clone()
                .map(|row| self.panel.format_ds(self.panel.ds_at(series, row)))
                .collect(),
            actual: shown
                .map(|row| observed(row).then(|| y[row].to_f64()))
                .collect(),
            forecast: forecast.iter().map(|x| x.to_f64()).collect(),
            naive: self
                .naive(series, last)
                .iter()
                .map(|x| x.to_f64())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests;
