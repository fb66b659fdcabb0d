//! The checks of a change, in the order of their cost; the tests last, so that their summary ends the output.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use crate::flags::CiRequest;
use crate::instructions::{Build, instructions};
use crate::neon::{self, ONLY_LEVELS};
use crate::run::{cargo, output, run, rustc};
use crate::standalone::standalone;
use crate::tidy;

/// Formats every crate, or only says what is not formatted.
pub(crate) fn fmt(check: bool) -> Result<(), String> {
    let mut command = cargo(&["fmt", "--all"]);
    if check {
        command.arg("--check");
    }
    run(&mut command).map_err(|error| {
        if check {
            format!("{error}; `cargo xtask fmt` formats every file")
        } else {
            error
        }
    })
}

/// What clippy is told beside the lints of the manifests.
const LINTS: [&str; 2] = ["-D", "warnings"];

/// Clippy on everything that compiles, warnings denied.
pub(crate) fn lint() -> Result<(), String> {
    let mut command = cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--"]);
    run(command.args(LINTS))
}

/// The documentation of every crate, warnings denied.
///
/// Rustdoc reads what the compiler knows of the crates below each crate. Clippy is that compiler and has left it behind, under its
/// own name: with the same variables that `cargo clippy` sets, cargo finds it there and compiles nothing again. Where clippy has
/// not run, or a later version of it sets others, cargo asks it for the same anew.
pub(crate) fn doc() -> Result<(), String> {
    let mut command = cargo(&["doc", "--locked", "--workspace", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    let sysroot = output(rustc().args(["--print", "sysroot"])).unwrap_or_default();
    let clippy = Path::new(sysroot.trim()).join("bin").join("clippy-driver");
    if clippy.is_file() {
        command.env("RUSTC_WORKSPACE_WRAPPER", clippy).env(
            "CLIPPY_ARGS",
            LINTS
                .map(|word| format!("{word}__CLIPPY_HACKERY__"))
                .concat(),
        );
    }
    run(&mut command)
}

/// The error of every elementary function over all 2^32 arguments, on every level of this machine.
pub(crate) fn accuracy() -> Result<(), String> {
    run(&mut cargo(&[
        "test",
        "--locked",
        "--release",
        "--package",
        "nd-simd",
        "--test",
        "accuracy",
        "--",
        "--ignored",
        "--nocapture",
    ]))
}

fn test() -> Result<(), String> {
    run(cargo(&["test", "--locked", "--workspace", "--no-fail-fast"]).env_remove(ONLY_LEVELS))
}

/// What a forecaster starts with where the facade has no features: in the tests of the workspace it has its defaults, which are also
/// what one would start with that forgot to ask.
fn features() -> Result<(), String> {
    run(cargo(&[
        "test",
        "--locked",
        // All of it, so that what has no features is not built a second time.
        "--workspace",
        "--no-default-features",
        "--test",
        "features",
    ])
    .env_remove(ONLY_LEVELS))
}

/// A check: its name and what it does.
type Check = (&'static str, fn() -> Result<(), String>);

/// Every check, then the tests. All of them run, whatever the earlier ones said. What needs tools or minutes that not every
/// machine has, only where it is asked for.
pub(crate) fn ci(request: CiRequest) -> ExitCode {
    let mut checks: Vec<Check> = vec![
        ("fmt", || fmt(true)),
        ("tidy", tidy::tidy),
        ("lint", lint),
        ("doc", doc),
        ("features", features),
    ];
    if request.neon {
        checks.push(("test-neon --short", neon::check));
    }
    if request.instructions {
        checks.push(("instructions --tests", || instructions(Build::Tests, false)));
    }
    if request.standalone {
        checks.push(("standalone", standalone));
    }
    let mut failed = Vec::new();
    for (name, check) in checks {
        let start = Instant::now();
        eprintln!("==> {name}");
        match check() {
            Ok(()) => eprintln!("==> {name}: ok, {:.0} s", start.elapsed().as_secs_f64()),
            Err(message) => {
                eprintln!("==> {name}: failed: {message}");
                failed.push(name);
            }
        }
    }
    if failed.is_empty() {
        eprintln!("==> test");
    } else {
        eprintln!(
            "==> failed so far: {}. The tests run all the same; the exit code says failed whatever they say.",
            failed.join(", ")
        );
    }
    let tests = test();
    if let Err(message) = &tests {
        eprintln!("error: {message}");
    }
    if tests.is_ok() && failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(crate::FAILED)
    }
}
