//! Documents say what the code and the records have.

use neuro_divergent::prelude::*;
use serde_json::Value;

const FORECASTING: &str = include_str!("../../../docs/forecasting.md");
const PERFORMANCE: &str = include_str!("../../../docs/performance.md");
const STEPS: &str = include_str!("../../../benches/record/neuralforecast-steps.json");
const ERRORS: &str = include_str!("../../../benches/record/neuralforecast-mae30.json");

/// The cells of the table below the header line that begins so.
fn table<'d>(document: &'d str, header: &str) -> Vec<Vec<&'d str>> {
    let at = document
        .find(header)
        .unwrap_or_else(|| panic!("no table {header}"));
    document[at..]
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// Asserts that a printed number is `value`, rounded to the digits that are printed.
#[track_caller]
fn assert_rounded(printed: &str, value: f64) {
    let decimals = printed
        .split_once('.')
        .map_or(0, |(_, digits)| digits.len());
    let found: f64 = printed
        .parse()
        .unwrap_or_else(|_| panic!("{printed:?} is no number"));
    let unit = 0.1f64.powi(decimals as i32);
    assert!(
        (found - value).abs() <= 0.5001 * unit,
        "the document has {printed}, the record {value}"
    );
}

#[track_caller]
fn numbers(values: &Value) -> Vec<f64> {
    let values = values.as_array().expect("a list");
    values
        .iter()
        .map(|v| v.as_f64().expect("a number"))
        .collect()
}

fn ends(values: &[f64]) -> (f64, f64) {
    let fold = |f: fn(f64, f64) -> f64| values.iter().copied().reduce(f).expect("a round");
    (fold(f64::min), fold(f64::max))
}

#[test]
fn the_guide_says_which_model_takes_exogenous_columns() {
    let rows = table(FORECASTING, "| model | futr_exog |");
    let listed: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    let known: Vec<&str> = ZOO.iter().map(|entry| entry.name).collect();
    assert_eq!(listed, known);
    for (row, entry) in rows.iter().zip(ZOO) {
        for (cell, kind) in row[1..4].iter().zip(["futr", "hist", "stat"]) {
            let mut forecaster = Forecaster::new(entry.name, 24, 12).expect("a model");
            let config = forecaster.config_mut();
            let columns = match kind {
                "futr" => &mut config.futr_exog,
                "hist" => &mut config.hist_exog,
                _ => &mut config.stat_exog,
            };
            columns.push("column".into());
            let takes = forecaster.parameter_count().is_ok();
            assert_eq!(*cell == "yes", takes, "{} {kind}", entry.name);
        }
    }
}

#[test]
fn step_times_are_those_of_the_record() {
    let record: Value = serde_json::from_str(STEPS).expect("a record");
    let load = record["load_average_1min"].as_f64().expect("a load");
    assert!(
        PERFORMANCE.contains(&format!("load average of {load}")),
        "the page names the load of its record, {load}"
    );
    let results = record["results"].as_array().expect("a list");
    let rows = table(PERFORMANCE, "| model | windows | NeuralForecast,");
    assert_eq!(rows.len(), results.len());
    for (row, result) in rows.iter().zip(results) {
        assert_eq!(row[0], result["model"]);
        let times = &result["ms_per_step_median"];
        let [theirs, tuned] = ["default", "tuned"].map(|key| times[key].as_f64().expect("a time"));
        assert_rounded(row[2], theirs);
        assert_rounded(row[3], tuned);
        let (fastest, slowest) = ends(&numbers(&result["ms_per_step"]["ours"]));
        let (low, high) = row[4].split_once(" to ").expect("a range");
        assert_rounded(low, fastest);
        assert_rounded(high, slowest);
        let bar = theirs.min(tuned);
        let (low, high) = row[5].split_once(" to ").expect("a range");
        assert_rounded(low.trim_end_matches('x'), bar / slowest);
        assert_rounded(high.trim_end_matches('x'), bar / fastest);
        let memory = &result["peak_rss_mb"];
        let peak = |key: &str| memory[key].as_f64().expect("a size");
        assert_rounded(row[6], peak("default").max(peak("tuned")));
        assert_rounded(row[7], peak("ours"));
    }
}

#[test]
fn errors_of_the_peer_are_those_of_the_record() {
    let record: Value = serde_json::from_str(ERRORS).expect("a record");
    let load = record["load_average_1min"].as_f64().expect("a load");
    assert!(PERFORMANCE.contains(&format!("load average of {load}")));
    let summary = record["summary"].as_object().expect("an object");
    let rows = table(PERFORMANCE, "| model | steps | NeuralForecast |");
    assert_eq!(rows.len(), summary.len());
    for row in rows {
        let result = &summary[row[0]];
        let error = |key: &str| result[key].as_f64().expect("a number");
        assert_rounded(row[1], error("steps"));
        assert_rounded(row[2], error("mae30_mean"));
        let (low, high) = row[3].split_once(" to ").expect("a range");
        assert_rounded(low, error("mae30_min"));
        assert_rounded(high, error("mae30_max"));
    }
}
