//! `cargo xtask validate`: looks at what the checklist needs from cargo, then lets the measuring program measure.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::flags::{Check, ValidateRequest};
use crate::run::{cargo, output, root, run, target_folder};
use crate::tidy;

/// Prepares, builds and runs; the exit code of the measuring program is ours.
pub(crate) fn validate(request: &ValidateRequest) -> ExitCode {
    match build_and_run(request) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(crate::FAILED)
        }
    }
}

fn build_and_run(request: &ValidateRequest) -> Result<ExitCode, String> {
    eprintln!("building the measuring programs (release)...");
    run(&mut cargo(&[
        "build",
        "--release",
        "--quiet",
        "--package",
        "nd-bench",
        "--bins",
    ]))?;
    let target = target_folder();
    let mut request = request.clone();
    let or = |path: &PathBuf, usual: PathBuf| match path.as_os_str().is_empty() {
        true => usual,
        false => path.clone(),
    };
    // A quick look does not replace what took half an hour.
    let usual = match request.quick {
        true => "validate-quick",
        false => "validate",
    };
    request.out = or(&request.out, target.join(usual));
    request.claims = or(&request.claims, root().join("docs/claims.toml"));
    if !request.claims.exists() {
        return Err(format!(
            "--claims: there is no file {}",
            request.claims.display()
        ));
    }
    let peers = [
        target.join("peers/neuralforecast-steps.json"),
        root().join("benches/record/neuralforecast-steps.json"),
    ];
    request.peers = peers.into_iter().filter(|file| file.exists()).collect();
    let record = root().join(crate::report::RECORDS[0].path);
    request.record = record.exists().then_some(record);
    // A wrong name is said now, and not after the tests for the checklist.
    let code = measure(&["--check"], &request)?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    request.checks = checks(request.skip_tests);
    measure(&[], &request)
}

/// Runs the measuring program on a request.
fn measure(options: &[&str], request: &ValidateRequest) -> Result<ExitCode, String> {
    let json = request.to_json().to_string();
    let program = target_folder()
        .join("release")
        .join(format!("validate{}", std::env::consts::EXE_SUFFIX));
    let status = Command::new(&program)
        .current_dir(root())
        .args(options)
        .arg(json)
        .status()
        .map_err(|error| format!("{} could not be started: {error}", program.display()))?;
    match status.code() {
        Some(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(crate::FAILED))),
        None => Err(format!("the measuring program ended with {status}")),
    }
}

/// The items of the checklist that need no measurement.
fn checks(skip_tests: bool) -> Vec<Check> {
    let of = |item: &str, (state, evidence): (&'static str, String)| Check {
        item: item.to_owned(),
        state,
        evidence,
    };
    let mut checks = Vec::new();
    if skip_tests {
        let evidence = "every library crate and the benches, in release mode; the rest with --skip-tests not built";
        checks.push(of("Compilation succeeds", ("done", evidence.to_owned())));
        let evidence = "not run (--skip-tests); cargo test --workspace runs them";
        checks.push(of("All tests pass", ("open", evidence.to_owned())));
        let evidence = "not run (--skip-tests): cargo test -p nd-simd --test epsilon";
        checks.push(of("Numerical accuracy", ("open", evidence.to_owned())));
    } else {
        eprintln!("building every target...");
        let mut build = cargo(&[
            "build",
            "--workspace",
            "--all-targets",
            "--locked",
            "--quiet",
        ]);
        let evidence = "cargo build --workspace --all-targets --locked";
        checks.push(of(
            "Compilation succeeds",
            outcome(run(&mut build), evidence),
        ));
        eprintln!("running the tests...");
        checks.push(of("All tests pass", tests()));
        let mut epsilon = cargo(&[
            "test",
            "--workspace",
            "--locked",
            "--quiet",
            "--test",
            "epsilon",
        ]);
        let evidence = "cargo test --test epsilon: every f32 kernel within 1e-5 of the f64 reference on every level";
        let found = output(&mut epsilon).map(|_| ());
        checks.push(of("Numerical accuracy", outcome(found, evidence)));
    }
    checks.push(of("Profiling reports generated", profiles()));
    let evidence = "cargo xtask tidy: links, tables made from records, references, dependencies";
    checks.push(of("Documentation updated", outcome(tidy::tidy(), evidence)));
    checks
}

fn outcome(found: Result<(), String>, evidence: &str) -> (&'static str, String) {
    match found {
        Ok(()) => ("done", evidence.to_owned()),
        Err(error) => ("failed", format!("{evidence}: {error}")),
    }
}

/// Runs every test and counts.
fn tests() -> (&'static str, String) {
    let mut command = cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]);
    match output(&mut command) {
        Ok(text) => ("done", format!("{} tests pass", passed(&text))),
        Err(error) => {
            let last = error.lines().last().unwrap_or_default().to_owned();
            ("failed", format!("cargo test --workspace: {last}"))
        }
    }
}

/// The sum of `test result: ok. N passed; ...`.
fn passed(text: &str) -> usize {
    let results = text
        .lines()
        .filter_map(|line| line.strip_prefix("test result: ok. "));
    let counts = results.filter_map(|line| line.split(' ').next()?.parse::<usize>().ok());
    counts.sum()
}

/// The profiles that lie in the target folder.
fn profiles() -> (&'static str, String) {
    let folder = target_folder().join("profile");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        if entry.path().join("index.html").exists() {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found.sort();
    if found.is_empty() {
        return ("open", "none yet: cargo xtask profile all".to_owned());
    }
    (
        "done",
        format!("target/profile has those of {}", found.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_over_all_programs() {
        let text = "test result: ok. 12 passed; 0 failed\nx\ntest result: ok. 3 passed; 0 failed\n";
        assert_eq!(passed(text), 15);
    }

    #[test]
    fn a_failure_is_evidence_too() {
        let (state, evidence) = outcome(Err("no".to_owned()), "cargo x");
        assert_eq!((state, evidence.as_str()), ("failed", "cargo x: no"));
    }
}
