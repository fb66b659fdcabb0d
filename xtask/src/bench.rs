//! The main job: builds the program that measures, and hands the request on.

use std::process::{Command, ExitCode};
use std::time::Instant;

use crate::compare;
use crate::flags::BenchRequest;
use crate::run::{cargo, run, target_folder};

/// The measuring program.
const PROGRAM: &str = "main-job";
/// Its package, which is small: it is built before a user sees the first figure.
const PACKAGE: &str = "nd-job";
/// What its saved results are called.
const MAIN: &str = "main";

/// Builds and runs the measuring program; its exit code is ours.
pub(crate) fn bench(request: &BenchRequest) -> ExitCode {
    match build_and_run(request) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(crate::FAILED)
        }
    }
}

fn build_and_run(request: &BenchRequest) -> Result<ExitCode, String> {
    let start = Instant::now();
    compare::check(request, MAIN)?;
    eprintln!("building the measuring program (release)...");
    run(&mut cargo(&[
        "build",
        "--release",
        "--quiet",
        "--package",
        PACKAGE,
        "--bin",
        PROGRAM,
    ]))?;
    eprintln!("built in {:.0} s", start.elapsed().as_secs_f64());
    let target = target_folder();
    let asked = request;
    let mut request = request.clone();
    request.out.get_or_insert_with(|| target.join("bench"));
    let json = request.to_json().to_string();
    let program = target
        .join("release")
        .join(format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX));
    let status = Command::new(&program)
        .arg(json)
        .status()
        .map_err(|error| format!("{} could not be started: {error}", program.display()))?;
    match status.code() {
        Some(0) => {
            let out = request.out.unwrap_or_default().join("report.json");
            let text = std::fs::read_to_string(&out)
                .map_err(|error| format!("{} cannot be read: {error}", out.display()))?;
            let report = serde_json::from_str(&text)
                .map_err(|error| format!("{} is not JSON: {error}", out.display()))?;
            compare::finish(asked, MAIN, &report)
        }
        Some(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(crate::FAILED))),
        None => Err(format!("the measuring program ended with {status}")),
    }
}
