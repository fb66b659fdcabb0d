//! The options of `profile`.

use std::path::PathBuf;

use lexopt::prelude::*;

use super::{Command, Topic, describe};

/// Options of `profile`: name, the name of its value, what it does.
pub(super) const OPTIONS: &[(&str, &str, &str)] = &[
    (
        "workload",
        "NAME",
        "what runs; may be given again (default: PatchTST); a name that is not one says which there are",
    ),
    (
        "seconds",
        "S",
        "how long perf samples, from 1 to 600 (default: 8)",
    ),
    ("threads", "N", "threads of the workload (default: all)"),
    (
        "out",
        "DIR",
        "where a folder for each workload goes (default: target/profile)",
    ),
];

/// A way of looking at a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Samples of where the processor is.
    Cpu,
    /// Allocations, peak, leaks.
    Memory,
    /// A simulated cache hierarchy.
    Cache,
}

/// The kinds by name; `all` is every one of them.
const KINDS: [(&str, &[Kind]); 4] = [
    ("cpu", &[Kind::Cpu]),
    ("memory", &[Kind::Memory]),
    ("cache", &[Kind::Cache]),
    ("all", &[Kind::Cpu, Kind::Memory, Kind::Cache]),
];

/// What `profile` was asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProfileRequest {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) workloads: Vec<String>,
    pub(crate) seconds: u32,
    pub(crate) threads: Option<usize>,
    pub(crate) out: Option<PathBuf>,
}

impl Default for ProfileRequest {
    fn default() -> Self {
        Self {
            kinds: KINDS[3].1.to_vec(),
            workloads: vec!["PatchTST".to_owned()],
            seconds: 8,
            threads: None,
            out: None,
        }
    }
}

/// Understands the arguments of `profile`.
pub(super) fn profile(parser: &mut lexopt::Parser) -> Result<Command, String> {
    let mut request = ProfileRequest::default();
    let mut kind: Option<String> = None;
    let mut workloads = Vec::new();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Long("help") | Short('h') => return Ok(Command::Help(Some(Topic::Profile))),
            Long("workload") => workloads.push(value(parser, "workload")?),
            Long("out") => request.out = Some(value(parser, "out")?.into()),
            Long("seconds") => request.seconds = number(parser, "seconds", 600)?,
            Long("threads") => {
                request.threads = Some(number(parser, "threads", 1024)? as usize);
            }
            Value(word) if kind.is_none() => {
                let word = word.to_string_lossy().into_owned();
                let found = KINDS.iter().find(|(name, _)| *name == word);
                let (_, kinds) = found.ok_or_else(|| {
                    let names = KINDS.map(|(name, _)| name).join(", ");
                    format!("there is no profile {word:?}; there are: {names}")
                })?;
                request.kinds = kinds.to_vec();
                kind = Some(word);
            }
            other => {
                let known: Vec<_> = OPTIONS
                    .iter()
                    .map(|(name, value, _)| format!("--{name} {value}"))
                    .collect();
                return Err(format!(
                    "unknown option {}; profile knows: {}, --help",
                    describe(&other),
                    known.join(", ")
                ));
            }
        }
    }
    if !workloads.is_empty() {
        request.workloads = workloads;
    }
    Ok(Command::Profile(Box::new(request)))
}

fn value(parser: &mut lexopt::Parser, name: &str) -> Result<String, String> {
    let value = parser
        .value()
        .map_err(|_| format!("--{name} needs a value after it"))?;
    let text = value
        .into_string()
        .map_err(|value| format!("the value of --{name} is not UTF-8: {value:?}"))?;
    if text.is_empty() {
        return Err(format!("--{name} found an empty text"));
    }
    Ok(text)
}

fn number(parser: &mut lexopt::Parser, name: &str, most: u32) -> Result<u32, String> {
    let word = value(parser, name)?;
    let number: Option<u32> = word.parse().ok();
    number
        .filter(|n| (1..=most).contains(n))
        .ok_or_else(|| format!("--{name} takes a whole number from 1 to {most}, found {word:?}"))
}

/// What the usage of `profile` begins with.
pub(super) const TEXT: &str = "
cargo xtask profile [cpu|memory|cache|all] [OPTIONS]

Builds the program `exercise` with debug information and frame pointers, and watches it while it repeats a workload:
  cpu     perf samples it: perf_report.txt, stacks.folded, flamegraph.svg
  memory  heaptrack follows every allocation: memory.txt
  cache   cachegrind simulates caches and branches on the AVX2 path, one thread, fewer windows: cache_analysis.txt
hotspots.md says what to do about it, and index.html shows everything on one page. All of it goes to
target/profile/WORKLOAD. A tool that is missing is named with the command that installs it, the others still run, and the exit
code is 3. `cargo xtask doctor` says what is there.

Workloads are training steps (PatchTST, PatchTST-long, NHITS, LSTM and the other models), attention, and every kernel.

Options:
";
