//! The whole run: one child process per data set and model, then the report.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use nd_models::zoo::{ZOO, ZooEntry};

use crate::comparison::{BASELINE, not_compared};
use crate::machine::{Machine, load_average};
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
    let (start, load) = (Instant::now(), load_average());
    let chosen = options(request).map_err(RunError::Misused)?;
    let models = models(request).map_err(RunError::Misused)?;
    let sets = data_sets(request).map_err(RunError::Misused)?;
    Report::prepare(&folder(request))
        .map_err(|error| RunError::Misused(format!("--out: {error}")))?;
    for notice in sets.iter().flat_map(|set| &set.notices) {
        eprintln!("note: {notice}");
    }
    let mut workloads = Vec::new();
    let mut first_error = None;
    for (index, set) in sets.iter().enumerate() {
        let mut workload = workload_of(set);
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
        machine: Machine::detect(chosen.simd, chosen.threads.unwrap_or(1), load),
        baseline: not_compared(request)
            .map_err(RunError::Misused)?
            .unwrap_or(BASELINE)
            .to_owned(),
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
    if let Some(warning) = machine.load_warning() {
        say(&wrapped(&warning, 100));
    }
    if request.quick {
        say("--quick: few steps, to see that everything runs; errors and times say little.");
    }
    say(&wrapped(&format!("Baseline: {}", report.baseline), 100));
    let folder = folder(request);
    report.write(&folder).map_err(RunError::Failed)?;
    say(&format!(
        "Written: {}",
        folder
            .join("{report.json,report.md,report.html,forecasts.svg}")
            .display()
    ));
    Ok(())
}

/// Where the report goes.
fn folder(request: &Request) -> PathBuf {
    let usual = || PathBuf::from("target").join("bench");
    request.out.clone().unwrap_or_else(usual)
}

/// The models asked for, as the zoo spells them and each once; all of them when none is.
fn models(request: &Request) -> Result<Vec<String>, String> {
    if request.models.is_empty() {
        return Ok(ZOO.iter().map(|entry| entry.name.to_owned()).collect());
    }
    let known = |name: &String| match ZooEntry::find(name) {
        Ok(entry) => Ok(entry.name.to_owned()),
        Err(error) => Err(format!("--model: {error}")),
    };
    let mut names: Vec<String> = Vec::new();
    for name in &request.models {
        let name = known(name)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// What a data set is, before any model was trained on it.
#[must_use]
pub fn workload_of(set: &DataSet) -> Workload {
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
        notices: set.notices.clone(),
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
#[must_use]
pub fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}

/// Prints a line. Whoever reads it may have gone (`| head`): the report is written all the same.
pub fn say(line: &str) {
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
        assert_eq!(result.speedup, None, "a quick run compares nothing");
        assert_eq!(result.forecast.forecast.len(), 12);
    }

    #[test]
    fn the_baseline_takes_its_turns_and_the_text_beneath_says_so() {
        let request = Request {
            steps: Some(5),
            threads: Some(1),
            ..Request::default()
        };
        assert_eq!(not_compared(&request), Ok(None));
        let job = Job {
            request: request.clone(),
            data_set: 0,
            model: "NLinear".to_owned(),
        };
        let speedup = measure_here(&job).unwrap().speedup.unwrap();
        assert!((3..=15).contains(&speedup.ratio.samples) && speedup.windows == 64);
        let interval = speedup.interval;
        assert!(interval.low <= speedup.ratio.median && speedup.ratio.median <= interval.high);
        let quick = Request {
            quick: true,
            ..request.clone()
        };
        assert!(not_compared(&quick).unwrap().unwrap().contains("--quick"));
        let itself = Request {
            simd: Some("scalar".to_owned()),
            ..request
        };
        assert!(not_compared(&itself).unwrap().unwrap().contains("itself"));
    }

    #[test]
    fn what_cannot_run_is_refused_before_training() {
        let refused = |request: Request, part: &str| {
            let Err(RunError::Misused(message)) = run(&request) else {
                panic!("{request:?} was run")
            };
            assert!(message.contains(part), "{message}");
        };
        let models = vec!["NLinear".to_owned()];
        for threads in [1025, 100_000, usize::MAX] {
            let request = Request {
                threads: Some(threads),
                models: models.clone(),
                ..Request::default()
            };
            refused(request, "--threads");
        }
        for steps in [0, 1] {
            let request = Request {
                steps: Some(steps),
                models: models.clone(),
                ..Request::default()
            };
            refused(request, "at least 2");
        }
        let request = Request {
            out: Some("/dev/null/report".into()),
            models,
            ..Request::default()
        };
        refused(request, "--out");
    }

    #[test]
    fn a_model_named_twice_is_trained_once() {
        let request = Request {
            models: ["nlinear", "NHITS", "NLinear"].map(str::to_owned).into(),
            ..Request::default()
        };
        assert_eq!(models(&request).unwrap(), ["NLinear", "NHITS"]);
    }
}
