//! The whole run: one child process per data set and model, then the report.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use nd_models::zoo::{ZOO, ZooEntry};

use crate::comparison::BASELINE;
use crate::machine::Machine;
use crate::measure::{Job, measure, options};
use crate::report::{
    Failure, ModelResult, Report, SCHEMA_VERSION, Workload, terminal_table, wrapped,
};
use crate::request::Request;
use crate::workloads::{DataSet, data_sets};

/// Why a run has no report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunError {
    /// The user's data or options cannot be used.
    Misused(String),
    /// Something else went wrong.
    Failed(String),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misused(message) | Self::Failed(message) => f.write_str(message),
        }
    }
}

/// Measures the job in this process.
///
/// # Errors
/// Why the model cannot be measured, in one message.
pub fn measure_here(job: &Job) -> Result<ModelResult, String> {
    let mut sets = data_sets(&job.request)?;
    if job.data_set >= sets.len() {
        return Err(format!("data set {} of {}", job.data_set, sets.len()));
    }
    measure(&sets.swap_remove(job.data_set), job)
}

/// Runs everything, prints the tables and writes the report.
///
/// # Errors
/// See [`RunError`].
pub fn run(request: &Request) -> Result<(), RunError> {
    let start = Instant::now();
    let chosen = options(request).map_err(RunError::Misused)?;
    let models = models(request).map_err(RunError::Misused)?;
    let sets = data_sets(request).map_err(RunError::Misused)?;
    let mut workloads = Vec::new();
    let mut first_error = None;
    for (index, set) in sets.iter().enumerate() {
        let mut workload = describe(set);
        for model in &models {
            let job = Job {
                request: request.clone(),
                data_set: index,
                model: model.clone(),
            };
            match in_child(&job) {
                Ok(result) => workload.results.push(result),
                Err(error) => {
                    let message = error.to_string();
                    // A single failure is said once, at the end.
                    if sets.len() * models.len() > 1 {
                        eprintln!("{}, {model}: {message}", set.name);
                    }
                    workload.failures.push(Failure {
                        model: model.clone(),
                        message,
                    });
                    first_error.get_or_insert(error);
                }
            }
        }
        if !workload.results.is_empty() {
            say(&terminal_table(&workload));
        }
        workloads.push(workload);
    }
    if let Some(error) = first_error
        && workloads.iter().all(|workload| workload.results.is_empty())
    {
        return Err(error);
    }
    let report = Report {
        schema_version: SCHEMA_VERSION,
        command: request.command(),
        date: now(),
        seconds: start.elapsed().as_secs_f64(),
        machine: Machine::detect(chosen.simd, chosen.threads.unwrap_or(1)),
        baseline: BASELINE.to_owned(),
        workloads,
    };
    finish(request, &report)
}

/// Prints what stands beneath the tables, and writes the files.
fn finish(request: &Request, report: &Report) -> Result<(), RunError> {
    let machine = &report.machine;
    say(&format!(
        "Measured on {}, {} of {} cores, {}, {}, in {:.0} s.",
        machine.cpu, machine.threads, machine.cores, machine.isa, machine.rustc, report.seconds
    ));
    say(&wrapped(&format!("Baseline: {}", report.baseline), 100));
    let folder = request
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from("target").join("bench"));
    report.write(&folder).map_err(RunError::Failed)?;
    say(&format!(
        "Written: {}",
        folder
            .join("{report.json,report.md,forecasts.svg}")
            .display()
    ));
    Ok(())
}

/// The models asked for, as the zoo spells them; all of them when none is.
fn models(request: &Request) -> Result<Vec<String>, String> {
    if request.models.is_empty() {
        return Ok(ZOO.iter().map(|entry| entry.name.to_owned()).collect());
    }
    let known = |name: &String| match ZooEntry::find(name) {
        Ok(entry) => Ok(entry.name.to_owned()),
        Err(error) => Err(format!("--model: {error}")),
    };
    request.models.iter().map(known).collect()
}

fn describe(set: &DataSet) -> Workload {
    Workload {
        name: set.name.clone(),
        source: set.source.clone(),
        frequency: set.frequency(),
        series: set.panel.n_series(),
        rows: set.panel.n_rows(),
        horizon: set.horizon,
        input_size: set.input_size,
        season: set.season,
        test_windows: set.test_windows,
        naive_mae: set.naive_error(),
        results: Vec::new(),
        failures: Vec::new(),
    }
}

/// Starts this program again for one job.
fn in_child(job: &Job) -> Result<ModelResult, RunError> {
    let output = child_output(job).map_err(RunError::Failed)?;
    match serde_json::from_slice::<Result<ModelResult, String>>(&output) {
        Ok(result) => result.map_err(RunError::Misused),
        Err(error) => {
            let message = format!("the measuring process wrote no result: {error}");
            Err(RunError::Failed(message))
        }
    }
}

/// What the process of a job writes to its standard output.
fn child_output(job: &Job) -> Result<Vec<u8>, String> {
    let program = std::env::current_exe()
        .map_err(|error| format!("this program's own path cannot be found: {error}"))?;
    let json = serde_json::to_string(job)
        .map_err(|error| format!("the job cannot be written as JSON: {error}"))?;
    let output = Command::new(program)
        .args(["--measure", &json])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("the measuring process could not be started: {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!(
            "the measuring process ended with {}",
            output.status
        ))
    }
}

/// The time in UTC, to the second.
fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}

/// Prints a line. Whoever reads it may have gone (`| head`): the report is written all the same.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_utc_to_the_second() {
        let date = now();
        assert!(
            date.len() == "2026-01-01T00:00:00Z".len() && date.ends_with('Z'),
            "{date}"
        );
    }

    #[test]
    fn unknown_models_and_levels_are_the_users_mistakes() {
        let request = Request {
            models: vec!["NHITZ".to_owned()],
            ..Request::default()
        };
        let Err(RunError::Misused(message)) = run(&request) else {
            panic!("NHITZ is no model")
        };
        assert!(
            message.contains("NHITZ") && message.contains("NHITS"),
            "{message}"
        );
        let request = Request {
            simd: Some("sse9".to_owned()),
            ..Request::default()
        };
        let Err(RunError::Misused(message)) = run(&request) else {
            panic!("sse9 is no level")
        };
        assert!(
            message.contains("--simd") && message.contains("sse9"),
            "{message}"
        );
    }

    #[test]
    fn one_model_is_measured_on_the_small_data() {
        let request = Request {
            quick: true,
            threads: Some(2),
            ..Request::default()
        };
        let job = Job {
            request,
            data_set: 0,
            model: "NLinear".to_owned(),
        };
        let result = measure_here(&job).unwrap();
        assert_eq!((result.training_steps, result.step.samples), (10, 7));
        assert!(result.mae.median > 0.0 && result.step.min > 0.0);
        let speedup = result.speedup.unwrap();
        assert!(speedup.ratio.median > 0.0 && speedup.windows == 64);
        assert_eq!(result.forecast.forecast.len(), 12);
    }
}
