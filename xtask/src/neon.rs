//! The kernels' test suites on aarch64, under an emulator: `cargo xtask test-neon`.
//!
//! In its simple form: `cargo test --target aarch64-unknown-linux-gnu` with a cross linker, qemu's user mode as the
//! runner, and `ND_REQUIRE_ISA=neon`, so that a run without NEON fails instead of passing. On an aarch64 machine the same
//! tests run without the emulator.
//!
//! The standard library for aarch64 comes with the active toolchain where rustup has added it, else with the compiler
//! that `.ci/neon-toolchain` unpacks. What is missing is named with the commands that install it, and the exit code is
//! [`MISUSED`](crate::MISUSED).
//! Known weakness: qemu computes exactly but knows nothing of time, so speed on aarch64 is not measured.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::run::{cargo, output, run, rustc, target_folder};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
/// Where Debian's cross C library is; the emulator looks for shared libraries below it.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";

/// What the long form runs: every test of the crates that have vector code.
const SUITES: &[&[&str]] = &[&[
    "-p",
    "nd-core",
    "-p",
    "nd-simd",
    "-p",
    "nd-attention",
    "--lib",
    "--tests",
]];
/// What the short form runs, at the level of NEON alone: the vector vocabulary and every kernel's unit tests, products and
/// elementary functions, attention's kernels. Scalar code, which has nothing of the architecture, is left to the long form.
const SHORT: &[&[&str]] = &[
    &[
        "-p", "nd-simd", "--lib", "--test", "matmul", "--test", "accuracy",
    ],
    &["-p", "nd-attention", "--test", "kernels"],
];
/// The variable that names the only levels a test goes over.
pub(crate) const ONLY_LEVELS: &str = "ND_TEST_LEVELS";
/// What a test says when the dispatcher chose NEON.
const CHOSEN: &str = "the dispatcher chose neon";

/// Runs the suites; the exit code says whether they passed, or that a tool is missing.
pub(crate) fn command(short: bool) -> ExitCode {
    match toolchain() {
        Err(missing) => {
            eprintln!("error: {missing}");
            ExitCode::from(crate::MISUSED)
        }
        Ok(toolchain) => match test(&toolchain, short) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                eprintln!("error: {message}");
                ExitCode::from(crate::FAILED)
            }
        },
    }
}

/// The short form, as one of the checks of a change.
pub(crate) fn check() -> Result<(), String> {
    test(&toolchain()?, true)
}

/// The compiler to use.
#[derive(Debug, PartialEq)]
enum Toolchain {
    /// This machine is aarch64: nothing special.
    Native,
    /// The active one, which has the target.
    Active,
    /// The unpacked one.
    Unpacked(PathBuf),
}

fn toolchain() -> Result<Toolchain, String> {
    if cfg!(all(target_arch = "aarch64", target_os = "linux")) {
        return Ok(Toolchain::Native);
    }
    let missing: Vec<_> = [LINKER, EMULATOR]
        .into_iter()
        .filter(|tool| !starts(Path::new(tool)))
        .collect();
    let has_target = output(rustc().args(["--print", "sysroot"])).is_ok_and(|sysroot| {
        Path::new(sysroot.trim())
            .join("lib/rustlib")
            .join(TARGET)
            .is_dir()
    });
    let unpacked = target_folder().join("neon-toolchain").join("rustc");
    let found = if has_target {
        Some(Toolchain::Active)
    } else if starts(&unpacked) {
        Some(Toolchain::Unpacked(unpacked))
    } else {
        None
    };
    match found {
        Some(toolchain) if missing.is_empty() => Ok(toolchain),
        found => Err(how_to_install(&missing, found.is_some())),
    }
}

fn starts(program: &Path) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn how_to_install(tools: &[&str], has_compiler: bool) -> String {
    let mut message = String::from("the tests on aarch64 need what is not here.\n");
    if !tools.is_empty() {
        message += &format!(
            "  {} not found; on Debian, as root:\n    \
             apt-get install --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user\n",
            tools.join(" and ")
        );
    }
    if !has_compiler {
        message += &format!(
            "  no standard library for {TARGET}; either\n    \
             rustup target add {TARGET}\n  \
             or, from Debian's packages rustc-web and libstd-rust-web-dev:arm64 (unpacked, not installed: they conflict \
             with rustup):\n    .ci/neon-toolchain\n"
        );
    }
    message
}

fn test(toolchain: &Toolchain, short: bool) -> Result<(), String> {
    let start = Instant::now();
    // First the question that all else hangs on.
    let question = ["-p", "nd-simd", "--test", "required_isa"];
    run(cross(toolchain, &question).arg("--no-run"))?;
    let mut ask = cross(toolchain, &question);
    ask.args(["--", "--nocapture"]);
    let said = ask
        .stdout(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo could not be started: {error}"))?;
    let text = String::from_utf8_lossy(&said.stderr);
    eprint!("{text}");
    if !said.status.success() {
        return Err(format!("the dispatcher's tests ended with {}", said.status));
    }
    if !text.contains(CHOSEN) {
        return Err(format!("no test said {CHOSEN:?}"));
    }
    let mut failed = Vec::new();
    for suite in if short { SHORT } else { SUITES } {
        let mut command = cross(toolchain, suite);
        if short {
            command.env(ONLY_LEVELS, "neon");
        }
        if let Err(message) = run(&mut command) {
            failed.push(message);
        }
    }
    eprintln!(
        "test-neon: {} in {:.0} s, {}",
        if short { "short form" } else { "every suite" },
        start.elapsed().as_secs_f64(),
        if failed.is_empty() {
            "all passed".to_owned()
        } else {
            failed.join("; ")
        }
    );
    if failed.is_empty() {
        Ok(())
    } else {
        Err("tests failed on aarch64".to_owned())
    }
}

/// `cargo test` for aarch64.
fn cross(toolchain: &Toolchain, suite: &[&str]) -> Command {
    let mut command = cargo(&["test", "--locked", "--no-fail-fast"]);
    command
        .args(suite)
        .env("ND_REQUIRE_ISA", "neon")
        .env_remove(ONLY_LEVELS)
        .env_remove("ND_SIMD");
    if *toolchain == Toolchain::Native {
        return command;
    }
    command
        .args(["--target", TARGET])
        // Of its own, so that two compilers do not build each other's files anew.
        .env("CARGO_TARGET_DIR", target_folder().join("neon"))
        .env("CARGO_INCREMENTAL", "0")
        // Debug information would only cost time; a panic names its line without.
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .env("CARGO_PROFILE_TEST_DEBUG", "false")
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
        .env(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
            format!("{EMULATOR} -L {LIBRARIES}"),
        );
    if let Toolchain::Unpacked(rustc) = toolchain {
        command.env("RUSTC", rustc);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_command() {
        let both = how_to_install(&[LINKER, EMULATOR], false);
        for word in [
            LINKER,
            "apt-get install",
            "qemu-user",
            "rustup target add",
            ".ci/neon-toolchain",
        ] {
            assert!(both.contains(word), "{word}: {both}");
        }
        let tool = how_to_install(&[EMULATOR], true);
        assert!(
            tool.contains(EMULATOR) && !tool.contains("rustup"),
            "{tool}"
        );
        let compiler = how_to_install(&[], false);
        assert!(!compiler.contains("apt-get"), "{compiler}");
    }

    #[test]
    fn the_run_requires_neon_and_goes_through_the_emulator() {
        let command = cross(&Toolchain::Unpacked("there/rustc".into()), SHORT[0]);
        let of = |name: &str| {
            let mut found = command.get_envs().filter(|(key, _)| *key == name);
            found.next().and_then(|(_, value)| value?.to_str())
        };
        assert_eq!(of("ND_REQUIRE_ISA"), Some("neon"));
        assert_eq!(of("ND_SIMD"), None);
        assert_eq!(of("RUSTC"), Some("there/rustc"));
        let runner = of("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER");
        assert!(runner.is_some_and(|runner| runner.starts_with(EMULATOR)));
        assert!(command.get_args().any(|word| word == TARGET));
    }
}
