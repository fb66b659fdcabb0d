//! The program behind `cargo xtask validate`: `validate REQUEST`, a request as JSON.
//!
//! `validate --check REQUEST` only says whether the names and files of a request are there, before anybody spends minutes on it.
//! It starts itself once per workload and side to learn how much memory that takes (`validate --memory WORKLOAD SIDE WINDOWS`).

#![forbid(unsafe_code)]

use std::process::ExitCode;

use nd_bench::run::RunError;
use nd_bench::validate::schema::{CheckState, Outcome};
use nd_bench::validate::{ValidateRequest, check, memory_here, run};

/// The exit code of a run that failed, or found a claim that does not hold.
const FAILED: u8 = 1;
/// The exit code for options or files that cannot be used.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--memory", workload, side, windows] => memory(workload, side, windows),
        ["--check", request] => with(request, |request| match check(request) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => end(&message, MISUSED),
        }),
        [request] => with(request, validate),
        _ => end(
            "expected one request as JSON; `cargo xtask validate` writes it",
            MISUSED,
        ),
    }
}

fn with(request: &str, work: impl FnOnce(&ValidateRequest) -> ExitCode) -> ExitCode {
    match serde_json::from_str(request) {
        Ok(request) => work(&request),
        Err(error) => end(
            &format!("the request cannot be understood: {error}"),
            MISUSED,
        ),
    }
}

fn end(message: &str, code: u8) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(code)
}

fn memory(workload: &str, side: &str, windows: &str) -> ExitCode {
    let windows = windows
        .parse()
        .map_err(|error| format!("{windows}: {error}"));
    match windows.and_then(|windows| memory_here(workload, side, windows)) {
        Ok(mib) => {
            println!("{}", serde_json::json!(mib));
            ExitCode::SUCCESS
        }
        Err(message) => end(&message, FAILED),
    }
}

fn validate(request: &ValidateRequest) -> ExitCode {
    match run(request) {
        Ok(report) => {
            let claims = report.claims.iter().any(|v| v.outcome == Outcome::Fails);
            let checks = report
                .checklist
                .iter()
                .any(|c| c.state == CheckState::Failed);
            if claims || checks {
                end("not everything holds; the report says what", FAILED)
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(RunError::Misused(message)) => end(&message, MISUSED),
        Err(RunError::Failed(message)) => end(&message, FAILED),
    }
}
