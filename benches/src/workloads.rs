//! The data sets of a run, and how they are split.
//!
//! The last rows of every series are for testing: `test_windows` forecasts, each `horizon` long, one behind the other.
//! Models train on the rows before them. Without a file of the user's there are two embedded data sets, one small and
//! real, one larger and synthetic.

use nd_core::Element;
use nd_data::baseline::seasonal_naive;
use nd_data::csv::{CsvOptions, Layout, OtherColumns, read_csv};
use nd_data::datasets::{SyntheticHourly, air_passengers};
use nd_data::{
    DataError, Frequency, FrequencyUnit, GapPolicy, MissingPolicy, OrderPolicy, Panel, Repair,
    metrics,
};

use crate::request::Request;

/// Forecasts per series that the test error is a mean of, at most.
const MOST_TEST_WINDOWS: usize = 30;
/// The share of the shortest series that is kept for testing, at most.
const TEST_SHARE: f64 = 0.2;
/// Inputs per step of the horizon, where nothing else is asked.
const INPUT_FACTOR: usize = 4;
/// Windows of a training step.
const WINDOWS_PER_STEP: usize = 256;
/// Seasons that integer-numbered series may have; they carry no unit to derive one from.
const SEASONS: [usize; 9] = [1, 4, 7, 12, 24, 48, 52, 96, 168];
/// Seconds of a day.
const DAY: f64 = 86_400.0;

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
    })
}

fn from_csv(request: &Request) -> Result<DataSet, String> {
    let (Some(path), Some(horizon)) = (&request.csv, request.horizon) else {
        return Err("a CSV file needs a horizon: give --horizon H".to_owned());
    };
    let panel: Panel<f32> =
        read_csv(path, &csv_options(request)?).map_err(|error| explain(&error))?;
    let shortest = (0..panel.n_series())
        .map(|series| panel.series_len(series))
        .min()
        .unwrap_or(0);
    let most = (shortest as f64 * TEST_SHARE) as usize / horizon;
    let test_windows = most.clamp(1, MOST_TEST_WINDOWS);
    let train = shortest.saturating_sub(test_windows * horizon);
    if train < 2 * horizon {
        return Err(format!(
            "{}: the shortest series has {shortest} rows; a horizon of {horizon} needs at least {}: lower --horizon, or \
             leave short series out",
            path.display(),
            3 * horizon
        ));
    }
    let input_size = request
        .input_size
        .unwrap_or_else(|| (INPUT_FACTOR * horizon).min(((train - horizon) / 2).max(1)));
    let name = path.file_name().unwrap_or(path.as_os_str());
    let masked = panel
        .available_mask()
        .map_or(0, |mask| mask.iter().filter(|&&observed| !observed).count());
    let mut source = path.display().to_string();
    if masked > 0 {
        source += &format!(" ({masked} rows not observed)");
    }
    Ok(DataSet {
        name: name.to_string_lossy().into_owned(),
        source,
        season: season(&panel, horizon),
        panel,
        horizon,
        input_size,
        test_windows,
        windows_per_step: WINDOWS_PER_STEP,
    })
}

/// The error, and the options of the command line where the library's message speaks of its own.
fn explain(error: &DataError) -> String {
    match error {
        DataError::MissingColumn { .. } => format!(
            "{error} (on the command line: --ds-col, --id-col, --y-col, or --wide for one column per series)"
        ),
        other => other.to_string(),
    }
}

fn csv_options(request: &Request) -> Result<CsvOptions, String> {
    let frequency = request
        .freq
        .as_ref()
        .map(|alias| alias.parse::<Frequency>())
        .transpose()
        .map_err(|error| format!("--freq: {error}"))?;
    let ds = request.ds_column.clone().unwrap_or_else(|| "ds".to_owned());
    let mut options = if request.wide {
        if let Some(column) = request.id_column.as_ref().or(request.y_column.as_ref()) {
            return Err(format!(
                "--wide reads every column as a series, so the column {column:?} cannot be named: leave out --wide, or \
                 --id-col and --y-col"
            ));
        }
        CsvOptions::wide(ds)
    } else {
        CsvOptions {
            ds,
            ..CsvOptions::default()
        }
    };
    if let Layout::Long {
        unique_id,
        y,
        others,
        ..
    } = &mut options.layout
    {
        *others = OtherColumns::Ignore;
        unique_id.clone_from(&request.id_column);
        if request.y_column.is_some() {
            y.clone_from(&request.y_column);
        }
    }
    options.repair = Repair {
        order: OrderPolicy::Sort,
        gaps: GapPolicy::Mask,
        missing: MissingPolicy::Mask,
        frequency,
        ..Repair::default()
    };
    Ok(options)
}

/// The rows of a season: from the calendar, or, for series without one, the season whose naive forecast over the horizon is
/// best on the values themselves.
fn season(panel: &Panel<f32>, horizon: usize) -> usize {
    let Some(frequency) = panel.frequency() else {
        return best_season(panel, horizon);
    };
    let count = frequency.count() as usize;
    let per = |rows: usize| (rows / count).max(1);
    let per_day = |seconds: f64| ((DAY / seconds) as usize / count).max(1);
    match frequency.unit() {
        FrequencyUnit::Second => per_day(1.0),
        FrequencyUnit::Minute => per_day(60.0),
        FrequencyUnit::Hour => per(24),
        FrequencyUnit::Day => per(7),
        FrequencyUnit::BusinessDay => per(5),
        FrequencyUnit::Week(_) => per(52),
        FrequencyUnit::MonthStart | FrequencyUnit::MonthEnd => per(12),
        FrequencyUnit::QuarterStart(_) | FrequencyUnit::QuarterEnd(_) => per(4),
        FrequencyUnit::YearStart(_) | FrequencyUnit::YearEnd(_) => 1,
        _ => best_season(panel, horizon),
    }
}

fn best_season(panel: &Panel<f32>, horizon: usize) -> usize {
    // The seasonal naive forecast of step k repeats the value a whole number of seasons before it.
    let error = |season: usize| -> f64 {
        let lags = (1..=horizon).map(|step| step.div_ceil(season) * season);
        lags.map(|lag| change_over(panel, lag)).sum::<f64>() / horizon as f64
    };
    let candidates = SEASONS.into_iter().map(|season| (error(season), season));
    let best = candidates
        .filter(|(error, _)| error.is_finite())
        .min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(1, |(_, season)| season)
}

/// The mean change of a value over `lag` rows, relative to the size of its series, so that no series outweighs the others.
fn change_over(panel: &Panel<f32>, lag: usize) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    for series in 0..panel.n_series() {
        let y = panel.series_y(series);
        let size: f64 = y.iter().map(|y| f64::from(y.abs())).sum::<f64>() / y.len() as f64;
        if lag < y.len() && size > 0.0 {
            let pairs = y.iter().zip(&y[lag..]);
            sum += pairs.map(|(a, b)| f64::from((b - a).abs())).sum::<f64>() / size;
            count += y.len() - lag;
        }
    }
    sum / count as f64
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

    /// The seasonal naive forecast of a series in a test window.
    #[must_use]
    pub fn naive(&self, series: usize, window: usize) -> Vec<f32> {
        let known = &self.panel.series_y(series)[..self.target_rows(series, window).start];
        seasonal_naive(known, self.season, self.horizon)
    }

    /// The test error of the seasonal naive forecast.
    #[must_use]
    pub fn naive_error(&self) -> f64 {
        self.test_error(|series, window| self.naive(series, window))
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
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("nd-bench-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    fn hours(series: &[&str], rows: usize) -> String {
        let mut text = format!("date,{}\n", series.join(","));
        for row in 0..rows {
            let values: Vec<String> = series.iter().map(|_| (row % 24).to_string()).collect();
            text += &format!(
                "2020-01-{:02} {:02}:00:00,{}\n",
                1 + row / 24,
                row % 24,
                values.join(",")
            );
        }
        text
    }

    #[test]
    fn embedded_data_sets_have_room_for_training_and_testing() {
        for set in data_sets(&Request::default()).unwrap() {
            let train = set.until(set.test_rows());
            assert!(
                train.longest() >= set.input_size + set.horizon,
                "{}",
                set.name
            );
            assert!(set.naive_error() > 0.0, "{}", set.name);
        }
    }

    #[test]
    fn a_wide_file_is_split_at_its_end() {
        let path = file("wide.csv", &hours(&["a", "b"], 240));
        let request = Request {
            csv: Some(path.clone()),
            horizon: Some(6),
            ds_column: Some("date".to_owned()),
            wide: true,
            ..Request::default()
        };
        let set = data_sets(&request).unwrap().remove(0);
        assert_eq!(
            (set.panel.n_series(), set.season, set.test_windows),
            (2, 24, 8)
        );
        assert_eq!(set.target_rows(0, 7), 234..240);
        assert_eq!(set.target_rows(1, 0), 192..198);
        // The series repeats every day, so the naive forecast is right.
        assert_eq!(set.naive_error(), 0.0);
        let example = set.example(1, &[1.0; 6]);
        assert_eq!((example.actual.len(), example.naive.len()), (18, 6));
        assert_eq!(example.ds.last().unwrap(), "2020-01-10 23:00:00");
        let zero = set.test_error(|_, _| vec![0.0; 6]);
        assert_eq!(zero, 11.5, "the mean of 0 to 23");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn numbered_series_get_the_season_that_fits_best() {
        let mut text = "unique_id,ds,y\n".to_owned();
        for row in 0..200_u32 {
            // Neighbours are close, so that one step ahead the last value would be the better forecast.
            let angle = f64::from(row) * std::f64::consts::TAU / 24.0;
            let noise = f64::from(row.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24);
            text += &format!("x,{row},{}\n", 10.0 + 2.0 * angle.sin() + noise);
        }
        let path = file("numbered.csv", &text);
        let request = Request {
            csv: Some(path.clone()),
            horizon: Some(24),
            ..Request::default()
        };
        assert_eq!(data_sets(&request).unwrap()[0].season, 24);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn mistakes_are_one_clear_message() {
        let path = file("short.csv", "unique_id,ds,y\nx,1,1\nx,2,2\nx,3,3\n");
        let request = Request {
            csv: Some(path.clone()),
            horizon: Some(4),
            ..Request::default()
        };
        let error = data_sets(&request).unwrap_err();
        assert!(
            error.contains("3 rows") && error.contains("--horizon"),
            "{error}"
        );
        let error = data_sets(&Request {
            y_column: Some("z".into()),
            ..request.clone()
        })
        .unwrap_err();
        assert!(
            error.contains("`z`") && error.contains("--y-col"),
            "{error}"
        );
        let error = data_sets(&Request {
            freq: Some("fortnight".into()),
            ..request.clone()
        })
        .unwrap_err();
        assert!(error.contains("fortnight"), "{error}");
        let wide = Request {
            wide: true,
            y_column: Some("y".into()),
            ..request.clone()
        };
        assert!(data_sets(&wide).unwrap_err().contains("--wide"));
        std::fs::remove_file(path).unwrap();
        let error = data_sets(&request).unwrap_err();
        assert!(error.contains("short.csv"), "{error}");
    }
}
