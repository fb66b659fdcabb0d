//! Samples of where the processor is: perf watches the workload, and its samples become stacks.
//!
//! Frame pointers, which the program is built with, give the stacks. Where the processor offers no counters, as in most virtual
//! machines, perf's clock interrupts it instead; that samples time just as well and only cannot say why it passes.

use std::path::Path;
use std::process::{Command, Stdio};

use super::stacks::{Stacks, readable_text};
use crate::run::output;

/// Samples a second of each thread; no round number, so that nothing beats with it.
const FREQUENCY: &str = "997";

/// Functions that make data and networks before anything is repeated; what they take is left out.
const PREPARATION: &[&str] = &["TrainingWorkload>::prepare", "trainer::Trainer>::new"];

/// What perf saw.
#[derive(Debug)]
pub(super) struct Cpu {
    pub(super) stacks: Stacks,
    /// The event that was sampled.
    pub(super) event: String,
    /// Samples that were taken while the workload was prepared; they are not in the stacks.
    pub(super) prepared: u64,
    /// What the workload said about itself.
    pub(super) said: String,
}

/// Runs perf and writes `perf_report.txt`, `stacks.folded` and `flamegraph.svg`.
pub(super) fn profile(
    exercise: &Path,
    arguments: &[String],
    seconds: u32,
    out: &Path,
    title: &str,
) -> Result<Cpu, String> {
    let data = out.join("perf.data");
    let said = record(exercise, arguments, seconds, &data)?;
    let perf = |arguments: &[&str]| {
        let mut command = Command::new("perf");
        command.arg(arguments[0]).arg("-i").arg(&data);
        output(command.args(&arguments[1..]).stderr(Stdio::null()))
    };
    let script = perf(&["script", "--no-inline", "--no-demangle", "-F", "ip,sym"])?;
    let (stacks, prepared) = Stacks::of_perf_script(&script).without(PREPARATION);
    if stacks.total() == 0 {
        return Err("perf took no samples: see `cargo xtask doctor`".to_owned());
    }
    let report = perf(&[
        "report",
        "--stdio",
        "--no-inline",
        "--no-demangle",
        "--no-children",
        "--percent-limit",
        "0.5",
        "-g",
        "none",
    ])?;
    let svg = super::flame::svg(&stacks, title);
    for (name, text) in [
        ("perf_report.txt", readable_text(&report)),
        ("stacks.folded", stacks.folded()),
        ("flamegraph.svg", svg),
    ] {
        std::fs::write(out.join(name), text)
            .map_err(|error| format!("{name} cannot be written: {error}"))?;
    }
    Ok(Cpu {
        stacks,
        event: event(&report).to_owned(),
        prepared,
        said,
    })
}

/// Records with cycles where the processor counts them for us, else with the clock; what the workload printed.
fn record(
    exercise: &Path,
    arguments: &[String],
    seconds: u32,
    data: &Path,
) -> Result<String, String> {
    let mut said = String::new();
    for event in ["cycles", "cpu-clock"] {
        let recorded = Command::new("perf")
            .args(["record", "--quiet", "--call-graph", "fp", "-F", FREQUENCY])
            .args(["-e", event, "-o"])
            .arg(data)
            .arg("--")
            .arg(exercise)
            .args(arguments)
            .args(["--seconds", &seconds.to_string()])
            .output()
            .map_err(|error| format!("perf could not be started: {error}"))?;
        if recorded.status.success() {
            return Ok(String::from_utf8_lossy(&recorded.stdout).trim().to_owned());
        }
        said = String::from_utf8_lossy(&recorded.stderr).trim().to_owned();
    }
    Err(format!(
        "perf took no samples: {said}; `cargo xtask doctor` says whether it may"
    ))
}

/// The event that perf sampled, which may be another than it was asked for, as its report says.
fn event(report: &str) -> &str {
    let named = report
        .split_once("of event '")
        .and_then(|(_, rest)| rest.split_once('\''));
    named.map_or("an unknown event", |(event, _)| event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_is_the_one_that_was_sampled() {
        assert_eq!(event("# Samples: 2K of event 'cpu-clock'\n#"), "cpu-clock");
        assert_eq!(event(""), "an unknown event");
    }
}
