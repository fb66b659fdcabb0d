//! The report of a run: its schema, and its forms for people.
//!
//! `report.json` holds a [`Report`] as it is; `docs/performance.md` describes the fields. Whoever changes their names or
//! meanings raises [`SCHEMA_VERSION`]. The table and the Markdown text are written from the same rows.

mod format;
mod html;
mod markdown;
mod table;

pub use format::{count, significant, wrapped};
pub use html::html;
pub use markdown::markdown;
pub use table::terminal_table;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::statistics::{Interval, Measure};

/// The version of the schema.
pub const SCHEMA_VERSION: u32 = 1;

/// What a run measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// The command that measures it again.
    pub command: String,
    /// When it was finished, in UTC, as RFC 3339.
    pub date: String,
    /// How long the run took, in seconds, the build not counted.
    pub seconds: f64,
    /// Where and with what it was measured.
    pub machine: Machine,
    /// What the baseline of every speed-up is, in words.
    pub baseline: String,
    /// The data sets and what the models made of them.
    pub workloads: Vec<Workload>,
}

/// A data set, and every model trained on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// A short name.
    pub name: String,
    /// Where the data comes from.
    pub source: String,
    /// The time between two rows, as an alias.
    pub frequency: String,
    /// Series.
    pub series: usize,
    /// Rows of all series.
    pub rows: usize,
    /// Time steps forecast.
    pub horizon: usize,
    /// Past time steps that a model sees.
    pub input_size: usize,
    /// The seasonal naive forecast repeats the value this many rows before.
    pub season: usize,
    /// Forecasts of each series that the test error is a mean of.
    pub test_windows: usize,
    /// The test error of the seasonal naive forecast, in the units of the data.
    pub naive_mae: f64,
    /// The models that could be trained.
    pub results: Vec<ModelResult>,
    /// The models that could not.
    pub failures: Vec<Failure>,
    /// What of the data was left out, filled in or could not be tested, one sentence each.
    pub notices: Vec<String>,
}

/// What was measured of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelResult {
    /// Its name.
    pub model: String,
    /// Trainable numbers.
    pub parameters: usize,
    /// Training steps before the test.
    pub training_steps: usize,
    /// Windows of a training step.
    pub windows_per_step: usize,
    /// The time of a training step, in ms.
    pub step: Measure,
    /// Windows trained on in a second.
    pub throughput: Measure,
    /// The mean absolute error of the test forecasts, in the units of the data.
    pub mae: Measure,
    /// The largest resident memory of the model's process after training and testing, in MiB; absent where the system
    /// does not say.
    pub peak_memory: Option<Measure>,
    /// The baseline against the optimised run; absent from quick runs, and where the run is the baseline itself.
    pub speedup: Option<Speedup>,
    /// One series and its last test forecast.
    pub forecast: ForecastExample,
}

/// The same training step, slow and fast, measured in turns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speedup {
    /// Baseline time by optimised time; its samples are the turns.
    pub ratio: Measure,
    /// Where the median ratio lies 95 times in 100; with fewer than six turns the range of them.
    pub interval: Interval,
    /// The time of a step of the baseline, in ms.
    pub baseline: Measure,
    /// The time of a step of the optimised run, in ms.
    pub optimised: Measure,
    /// Windows of the step.
    pub windows: usize,
}

/// A forecast beside what happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForecastExample {
    /// The series.
    pub series: String,
    /// Time stamps, the context first.
    pub ds: Vec<String>,
    /// What happened; absent where nothing was observed.
    pub actual: Vec<Option<f64>>,
    /// The model's forecast of the last of them.
    pub forecast: Vec<f64>,
    /// The seasonal naive forecast of the same.
    pub naive: Vec<f64>,
}

/// A model that could not be trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The model.
    pub model: String,
    /// Why, in one message.
    pub message: String,
}

impl Report {
    /// Makes the folder of a report and tries to write into it, so that a run does not train for minutes in vain.
    ///
    /// # Errors
    /// The folder cannot be made or written to.
    pub fn prepare(folder: &Path) -> Result<(), String> {
        let failed = |error| format!("{} cannot be written: {error}", folder.display());
        std::fs::create_dir_all(folder).map_err(failed)?;
        let probe = folder.join(format!(".probe-{}", std::process::id()));
        std::fs::write(&probe, "").map_err(failed)?;
        std::fs::remove_file(&probe).map_err(failed)
    }

    /// Writes `report.json`, `report.md`, `report.html` and `forecasts.svg` into a folder, which is made when it is missing.
    ///
    /// # Errors
    /// The folder or a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), String> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| format!("the report cannot be written as JSON: {error}"))?;
        let files = [
            ("report.json", json + "\n"),
            ("report.md", markdown(self)),
            ("report.html", html(self)),
            ("forecasts.svg", crate::svg::forecasts(&self.workloads)),
        ];
        let failed = |path: &Path, error: std::io::Error| {
            format!("{} cannot be written: {error}", path.display())
        };
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|error| failed(&path, error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use nd_core::SimdLevel;

    use super::*;

    /// A small report whose every field is filled.
    pub(crate) fn sample() -> Report {
        let example = ForecastExample {
            series: "a<b".to_owned(),
            ds: (1..=6).map(|month| format!("2020-{month:02}")).collect(),
            actual: vec![Some(1.0), Some(2.0), None, Some(4.0), Some(3.0), Some(5.0)],
            forecast: vec![3.5, 4.5],
            naive: vec![2.0, 3.0],
        };
        let result = ModelResult {
            model: "NLinear".to_owned(),
            parameters: 2_328,
            training_steps: 100,
            windows_per_step: 256,
            step: Measure::of(&[1.5, 1.0, 2.0], "ms").unwrap(),
            throughput: Measure::single(170_666.7, "windows/s"),
            mae: Measure::single(0.5, "units of y"),
            peak_memory: Some(Measure::single(31.25, "MiB")),
            speedup: Some(Speedup {
                ratio: Measure::of(&[9.0, 10.0, 11.0], "x").unwrap(),
                interval: Interval::of_median(&[9.0, 10.0, 11.0]),
                baseline: Measure::single(15.0, "ms"),
                optimised: Measure::single(1.5, "ms"),
                windows: 256,
            }),
            forecast: example,
        };
        Report {
            schema_version: SCHEMA_VERSION,
            command: "cargo xtask bench".to_owned(),
            date: "2026-01-01T00:00:00Z".to_owned(),
            seconds: 12.5,
            machine: Machine::detect(SimdLevel::Scalar, 2, Some(0.5)),
            baseline: "textbook loops".to_owned(),
            workloads: vec![Workload {
                name: "small".to_owned(),
                source: "made for a test".to_owned(),
                frequency: "MS".to_owned(),
                series: 1,
                rows: 6,
                horizon: 2,
                input_size: 3,
                season: 2,
                test_windows: 1,
                naive_mae: 1.5,
                results: vec![result],
                failures: vec![Failure {
                    model: "LSTM".to_owned(),
                    message: "too few rows".to_owned(),
                }],
                notices: vec!["1 series (`b`) left out: too short".to_owned()],
            }],
        }
    }

    #[test]
    fn the_file_holds_the_whole_report() {
        let folder = std::env::temp_dir().join(format!("nd-bench-report-{}", std::process::id()));
        let report = sample();
        Report::prepare(&folder).unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        report.write(&folder).unwrap();
        let text = std::fs::read_to_string(folder.join("report.json")).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        assert!(folder.join("report.md").exists() && folder.join("forecasts.svg").exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = std::env::temp_dir().join(format!("nd-bench-file-{}", std::process::id()));
        std::fs::write(&file, "x").unwrap();
        let folder = file.join("under");
        for error in [sample().write(&folder), Report::prepare(&folder)] {
            let error = error.unwrap_err();
            assert!(error.contains("nd-bench-file"), "{error}");
        }
        std::fs::remove_file(&file).unwrap();
    }
}
