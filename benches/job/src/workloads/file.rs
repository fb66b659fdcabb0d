//! A file of the user's as a data set: how it is read, what of it is used, and what is said about the rest.
//!
//! In its simple form: read the panel, keep the series that are long enough, and split off the test rows. What can be known
//! to go wrong is found here, before anything is trained, and said with the options of the command line.

use std::path::Path;
use std::str::FromStr;

use nd_data::csv::{CsvOptions, Layout, OtherColumns, read_csv};
use nd_data::{
    DataError, Frequency, GapPolicy, MissingPolicy, OrderPolicy, Panel, Repair, WindowConfig,
    WindowSet, Windows,
};

use super::season::season;
use super::{DataSet, WINDOWS_PER_STEP};
use crate::report::count;
use crate::request::Request;

/// Forecasts per series that the test error is a mean of, at most.
const MOST_TEST_WINDOWS: usize = 30;
/// The share of the shortest series that is kept for testing, at most.
const TEST_SHARE: f64 = 0.2;
/// Inputs per step of the horizon, where nothing else is asked.
const INPUT_FACTOR: usize = 4;
/// Horizons that a series must be long: one to test on and two to train on.
const LEAST_HORIZONS: usize = 3;
/// Names of series that a message lists, at most.
const LISTED: usize = 5;

/// Reads the file of a request.
///
/// # Errors
/// One message for the user: what is wrong with the file, or that an option does not fit it.
pub(super) fn from_csv(request: &Request) -> Result<DataSet, String> {
    let (Some(path), Some(horizon)) = (&request.csv, request.horizon) else {
        return Err("a CSV file needs a horizon: give --horizon H".to_owned());
    };
    if path.as_os_str().is_empty() {
        return Err("--csv names no file: found an empty text".to_owned());
    }
    let panel: Panel<f32> =
        read_csv(path, &csv_options(request)?).map_err(|error| explain(&error))?;
    let mut notices = Vec::new();
    if panel.inserted_rows() > 0 {
        notices.push(format!(
            "{} of {} rows were missing between others and were filled in; --gaps says how",
            count(panel.inserted_rows()),
            count(panel.n_rows()),
        ));
    }
    let panel = observed_series(panel, path, &mut notices)?;
    let panel = long_series(panel, path, horizon, &mut notices)?;
    let shortest = lengths(&panel).min().unwrap_or(0);
    let most = (shortest as f64 * TEST_SHARE) as usize / horizon;
    let test_windows = most.clamp(1, MOST_TEST_WINDOWS);
    let test_rows = test_windows * horizon;
    check_test_rows(&panel, path, test_rows, &mut notices)?;
    let left = shortest - test_rows;
    let input_size = request
        .input_size
        .unwrap_or_else(|| (INPUT_FACTOR * horizon).min(((left - horizon) / 2).max(1)));
    let train = panel.without_last(test_rows);
    let windows = WindowConfig::new(input_size, horizon);
    Windows::new(&train, &windows, WindowSet::Train)
        .map_err(|error| format!("{}: {}", path.display(), explain(&error)))?;
    let name = path.file_name().unwrap_or(path.as_os_str());
    let masked = panel
        .available_mask()
        .map_or(0, |mask| mask.iter().filter(|&&observed| !observed).count());
    let mut source = path.display().to_string();
    if masked > 0 {
        source += &format!(" ({} rows not observed)", count(masked));
    }
    Ok(DataSet {
        name: name.to_string_lossy().into_owned(),
        source,
        season: season(&train, horizon),
        panel,
        horizon,
        input_size,
        test_windows,
        windows_per_step: WINDOWS_PER_STEP,
        notices,
    })
}

fn lengths(panel: &Panel<f32>) -> impl Iterator<Item = usize> {
    (0..panel.n_series()).map(|series| panel.series_len(series))
}

/// Whether a row among `rows` of a series was observed.
fn any_observed(panel: &Panel<f32>, series: usize, rows: std::ops::Range<usize>) -> bool {
    let mask = panel.series_mask(series);
    mask.is_none_or(|mask| mask[rows].contains(&true))
}

/// The panel without the series that `keep` refuses, and their names.
fn divided(panel: &Panel<f32>, keep: impl Fn(usize) -> bool) -> (Panel<f32>, Vec<&str>) {
    let kept = panel.select_rows(|series, len| if keep(series) { 0..len } else { 0..0 });
    let others = panel.unique_ids().enumerate();
    let others = others.filter(|(series, _)| !keep(*series));
    (kept, others.map(|(_, name)| name).collect())
}

/// `2 series (`a`, `b`)`, with the first few names.
fn named(names: &[&str]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(LISTED)
        .map(|n| format!("`{n}`"))
        .collect();
    let rest = match names.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {} more", count(more)),
    };
    format!("{} series ({}{rest})", count(names.len()), shown.join(", "))
}

/// Leaves out series without a single observed value.
fn observed_series(
    panel: Panel<f32>,
    path: &Path,
    notices: &mut Vec<String>,
) -> Result<Panel<f32>, String> {
    let (kept, empty) = divided(&panel, |series| {
        any_observed(&panel, series, 0..panel.series_len(series))
    });
    if empty.is_empty() {
        return Ok(panel);
    }
    if kept.n_series() == 0 {
        return Err(format!(
            "{}: none of the {} rows has a value: all are missing; --y-col names the column of values",
            path.display(),
            count(panel.n_rows())
        ));
    }
    notices.push(format!(
        "{} left out: no value of them is observed",
        named(&empty)
    ));
    Ok(kept)
}

/// Leaves out series that are too short to train and test on.
fn long_series(
    panel: Panel<f32>,
    path: &Path,
    horizon: usize,
    notices: &mut Vec<String>,
) -> Result<Panel<f32>, String> {
    let least = horizon.saturating_mul(LEAST_HORIZONS);
    let (kept, short) = divided(&panel, |series| panel.series_len(series) >= least);
    if short.is_empty() {
        return Ok(panel);
    }
    if kept.n_series() == 0 {
        let longest = (0..panel.n_series()).max_by_key(|&series| panel.series_len(series));
        let longest = longest.unwrap_or(0);
        return Err(format!(
            "{}: the longest of {} series, `{}`, has {} rows; a horizon of {horizon} needs at least {least}: lower \
             --horizon, or give longer series",
            path.display(),
            count(panel.n_series()),
            panel.unique_id(longest),
            count(panel.series_len(longest)),
        ));
    }
    notices.push(format!(
        "{} left out: a horizon of {horizon} needs at least {} rows",
        named(&short),
        count(least)
    ));
    Ok(kept)
}

/// A test needs something to compare forecasts with.
fn check_test_rows(
    panel: &Panel<f32>,
    path: &Path,
    test_rows: usize,
    notices: &mut Vec<String>,
) -> Result<(), String> {
    let unseen: Vec<&str> = (0..panel.n_series())
        .filter(|&series| {
            let len = panel.series_len(series);
            !any_observed(panel, series, len - test_rows..len)
        })
        .map(|series| panel.unique_id(series))
        .collect();
    if unseen.len() == panel.n_series() {
        return Err(format!(
            "{}: none of the last {} rows of {} has a value, and those are for testing: end the file where its values \
             end, or let --missing ffill fill them",
            path.display(),
            count(test_rows),
            named(&unseen),
        ));
    }
    if !unseen.is_empty() {
        notices.push(format!(
            "{} trained on but not tested: none of their last {} rows has a value",
            named(&unseen),
            count(test_rows)
        ));
    }
    Ok(())
}

/// The error, and the options of the command line where the library's message speaks of its own.
pub(super) fn explain(error: &DataError) -> String {
    match advice(error) {
        Some(advice) => format!("{error} (on the command line: {advice})"),
        None => error.to_string(),
    }
}

/// What the command line has against an error.
fn advice(error: &DataError) -> Option<&'static str> {
    Some(match error {
        DataError::MissingColumn { .. } => {
            "--ds-col, --id-col, --y-col, or --wide for one column per series"
        }
        DataError::UnnamedColumn { .. } => "--ignore \"\"",
        DataError::DuplicateColumn { .. } => "--ignore COLUMN leaves out all columns of that name",
        DataError::WrongDelimiter { found, .. } => match *found {
            "`;`" => "--delimiter semicolon",
            "`|`" => "--delimiter pipe",
            "`,`" => "--delimiter comma",
            _ => "--delimiter tab",
        },
        DataError::RaggedRow { .. } => "--delimiter, if it is not the comma",
        DataError::Encoding { advice, .. } if advice.contains("Latin-1") => "--encoding latin-1",
        DataError::RecordTooLong { .. } => "no option raises the longest row",
        DataError::BadNumber { .. } => {
            "--decimal comma for numbers such as 12,5; --ignore COLUMN leaves out a column of text"
        }
        DataError::NotFinite { .. } => "an empty field is masked, or what --missing says",
        DataError::MissingValue { .. } => "--missing mask, --missing ffill or --missing zero",
        DataError::EmptySeriesId { .. } => "--id-col names another column of series",
        DataError::Duplicate { .. } => {
            "--duplicates first, --duplicates last or --duplicates mean; --id-col if several series are mixed"
        }
        DataError::Gap { .. } => "--gaps mask, --gaps ffill, --gaps linear or --gaps keep",
        DataError::GapTooLarge { .. } => "--freq F names the frequency, --gaps keep adds no row",
        DataError::OffCalendar { .. } => "--freq F, or --gaps keep",
        DataError::FrequencyUnknown { .. } | DataError::FrequencyKind { .. } => {
            "--freq F, or --gaps keep for series without one"
        }
        DataError::NoWindows { .. } => {
            "--input-size L and --horizon H; no option turns start_padding on"
        }
        DataError::NoObservedWindows { .. } => "--y-col names the column, --missing ffill fills it",
        _ => return None,
    })
}

/// The value of an option by its name.
fn parsed<T>(name: &str, text: &Option<String>) -> Result<Option<T>, String>
where
    T: FromStr<Err = DataError>,
{
    let value = text.as_ref().map(|text| text.parse()).transpose();
    value.map_err(|error| format!("--{name}: {error}"))
}

fn csv_options(request: &Request) -> Result<CsvOptions, String> {
    let frequency = parsed::<Frequency>("freq", &request.freq)?;
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
        duplicates: parsed("duplicates", &request.duplicates)?.unwrap_or_default(),
        gaps: parsed("gaps", &request.gaps)?.unwrap_or(GapPolicy::Mask),
        missing: parsed("missing", &request.missing)?.unwrap_or(MissingPolicy::Mask),
        frequency,
    };
    options.delimiter = parsed("delimiter", &request.delimiter)?.unwrap_or_default();
    options.decimal = parsed("decimal", &request.decimal)?.unwrap_or_default();
    options.encoding = parsed("encoding", &request.encoding)?.unwrap_or_default();
    options.ignore.clone_from(&request.ignore);
    Ok(options)
}
