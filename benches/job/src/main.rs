//! The program behind `cargo xtask bench`: `main-job REQUEST`, a request as JSON.
//!
//! It starts itself once per data set and model (`main-job --measure JOB`), so that each model is measured in a process
//! of its own, and writes the report.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use nd_job::{measure, run};

/// The exit code of a run that failed.
const FAILED: u8 = 1;
/// The exit code for data or options that cannot be used.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--measure", job] => match serde_json::from_str::<measure::Job>(job) {
            Ok(job) => child(&job),
            Err(error) => misused(&format!("the job cannot be understood: {error}")),
        },
        [] => parent("{}"),
        [request] => parent(request),
        _ => misused("expected one request as JSON; `cargo xtask bench` writes it"),
    }
}

fn misused(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(MISUSED)
}

/// Measures one model; the result, or why there is none, goes to standard output as JSON.
fn child(job: &measure::Job) -> ExitCode {
    match serde_json::to_string(&run::measure_here(job)) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: the result cannot be written as JSON: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn parent(request: &str) -> ExitCode {
    let request = match serde_json::from_str(request) {
        Ok(request) => request,
        Err(error) => return misused(&format!("the request cannot be understood: {error}")),
    };
    match run::run(&request) {
        Ok(()) => ExitCode::SUCCESS,
        Err(run::RunError::Misused(message)) => misused(&message),
        Err(run::RunError::Failed(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(FAILED)
        }
    }
}
