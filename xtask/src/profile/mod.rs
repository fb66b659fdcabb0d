//! `cargo xtask profile`: where a workload spends its time, its memory and its cache misses.
//!
//! In its simple form: build the program `exercise` with debug information, start it under perf, heaptrack and cachegrind, and
//! write what they say. The rest is making it readable: samples become shares of components, each with its priority and what to
//! try ([`components`]), a flame graph ([`flame`]) and a page ([`page`]).
//!
//! The program is profiled itself, never cargo. It is built into a folder of its own, because frame pointers and readable names
//! of generic functions are compiler options that the ordinary build goes without.

mod cache;
mod components;
mod cpu;
mod flame;
mod hotspots;
mod memory;
mod page;
mod stacks;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use crate::flags::{Kind, ProfileRequest};
use crate::run::{cargo, run, say, target_folder};
use crate::tools::{self, Tool};

/// The exit code when a tool was missing and everything else ran.
const TOOL_MISSING: u8 = 3;
/// The program that is watched.
const PROGRAM: &str = "exercise";

/// What it can do, as its `--list` says; known without it, because building it takes minutes. A test of `nd-bench` holds the file
/// to the program.
const EXERCISES: &str = include_str!("../../../benches/exercises.tsv");

/// What was found out about a workload.
#[derive(Debug, Default)]
struct Findings {
    workload: String,
    /// What a repetition does.
    what: String,
    machine: String,
    cpu: Option<cpu::Cpu>,
    memory: Option<memory::Memory>,
    cache: Option<cache::Cache>,
    /// What is missing, one sentence each.
    notes: Vec<String>,
}

impl memory::Memory {
    /// What is shown of it.
    fn rows(&self) -> [(&'static str, String); 5] {
        [
            ("allocations in all", self.allocations.to_string()),
            (
                "allocations of a steady repetition",
                format!("{:.1}", self.per_repetition),
            ),
            ("heap at its peak", self.peak.clone()),
            (
                "resident memory (with heaptrack's own)",
                self.resident.clone(),
            ),
            ("still held at the end", self.leaked.clone()),
        ]
    }
}

impl Kind {
    /// The tools that it needs.
    fn tools(self) -> &'static [Tool] {
        match self {
            Self::Cpu => &[tools::PERF],
            Self::Memory => &[tools::HEAPTRACK, tools::HEAPTRACK_PRINT],
            Self::Cache => &[tools::VALGRIND, tools::CG_ANNOTATE],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Cache => "cache",
        }
    }
}

/// Profiles every workload of the request.
pub(crate) fn profile(request: &ProfileRequest) -> ExitCode {
    let workloads = match chosen(&request.workloads) {
        Ok(workloads) => workloads,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(crate::MISUSED);
        }
    };
    let (ready, missing) = ready(&request.kinds, |tool| tool.find().is_some());
    for line in &missing {
        eprintln!("{line}");
    }
    if ready.is_empty() {
        return ExitCode::from(code(false, &missing));
    }
    let exercise = match build() {
        Ok(exercise) => exercise,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(crate::FAILED);
        }
    };
    let mut failed = false;
    for (name, what) in workloads {
        match one(request, &exercise, &ready, &missing, &name, what) {
            Ok(fine) => failed |= !fine,
            Err(message) => {
                eprintln!("error: {name}: {message}");
                failed = true;
            }
        }
    }
    ExitCode::from(code(failed, &missing))
}

/// The kinds whose tools are there, and a line about each tool that is not.
fn ready(kinds: &[Kind], is_there: impl Fn(&Tool) -> bool) -> (Vec<Kind>, Vec<String>) {
    let mut missing = Vec::new();
    let ready = kinds.iter().copied().filter(|kind| {
        let before = missing.len();
        let absent = kind.tools().iter().filter(|tool| !is_there(tool));
        missing.extend(absent.map(Tool::missing));
        missing.len() == before
    });
    (ready.collect(), missing)
}

/// The exit code: a failure counts more than a tool that is missing.
fn code(failed: bool, missing: &[String]) -> u8 {
    match (failed, missing.is_empty()) {
        (true, _) => crate::FAILED,
        (false, false) => TOOL_MISSING,
        (false, true) => 0,
    }
}

fn folder() -> PathBuf {
    target_folder().join("profiling")
}

/// Builds the program that is watched.
fn build() -> Result<PathBuf, String> {
    let start = Instant::now();
    eprintln!("building `{PROGRAM}` with debug information and frame pointers (release)...");
    let mut command = cargo(&[
        "build",
        "--locked",
        "--release",
        "--quiet",
        "--package",
        "nd-bench",
        "--bin",
        PROGRAM,
    ]);
    let given = std::env::var("RUSTFLAGS").unwrap_or_default();
    let flags = format!("{given} -C force-frame-pointers=yes -C symbol-mangling-version=v0");
    command
        .env("CARGO_TARGET_DIR", folder())
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only")
        .env("RUSTFLAGS", flags.trim());
    run(&mut command)?;
    eprintln!("built in {:.0} s", start.elapsed().as_secs_f64());
    let name = format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX);
    Ok(folder().join("release").join(name))
}

/// The names that have this one in them, or else those that most people want: there are some hundred kernels.
fn no_workload(name: &str, known: &[(&str, &str)]) -> String {
    let wanted = name.to_lowercase();
    let near = |known: &str| !wanted.is_empty() && known.to_lowercase().contains(&wanted);
    let mut names: Vec<&str> = known.iter().map(|&(name, _)| name).collect();
    if names.iter().any(|name| near(name)) {
        names.retain(|name| near(name));
        let names = names.join("; ");
        return format!("there is no workload {name:?}; these have it in their names: {names}");
    }
    let is_kernel = |what: &str| what.starts_with("one call");
    let others: Vec<&str> = known
        .iter()
        .filter(|(_, what)| !is_kernel(what))
        .map(|&(name, _)| name)
        .collect();
    format!(
        "there is no workload {name:?}; there are: {}; and {} kernels, which benches/exercises.tsv lists (a part of a name, such as gemm or softmax, shows those that have it)",
        others.join("; "),
        known.len() - others.len()
    )
}

/// Names, as the program writes them, and descriptions of the workloads.
fn chosen(wanted: &[String]) -> Result<Vec<(String, String)>, String> {
    let known: Vec<(&str, &str)> = EXERCISES
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect();
    let mut found = Vec::new();
    for name in wanted {
        let entry = known
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        let Some((name, what)) = entry else {
            return Err(no_workload(name, &known));
        };
        let entry = ((*name).to_owned(), (*what).to_owned());
        if !found.contains(&entry) {
            found.push(entry);
        }
    }
    Ok(found)
}

/// The name of a workload's folder.
fn folder_name(workload: &str) -> String {
    let mut out = String::new();
    for c in workload.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c);
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_matches('-').to_owned()
}

/// Profiles one workload; whether every kind succeeded.
fn one(
    request: &ProfileRequest,
    exercise: &Path,
    kinds: &[Kind],
    missing: &[String],
    name: &str,
    what: String,
) -> Result<bool, String> {
    let base = request
        .out
        .clone()
        .unwrap_or_else(|| target_folder().join("profile"));
    let out = base.join(folder_name(name));
    std::fs::create_dir_all(&out)
        .map_err(|error| format!("{} cannot be made: {error}", out.display()))?;
    let mut arguments = vec![name.to_owned()];
    if let Some(threads) = request.threads {
        arguments.extend(["--threads".to_owned(), threads.to_string()]);
    }
    let mut found = Findings {
        workload: name.to_owned(),
        what,
        machine: crate::doctor::machine_line(),
        notes: missing.to_vec(),
        ..Findings::default()
    };
    let mut fine = true;
    for kind in kinds {
        let start = Instant::now();
        eprintln!("{name}: {}...", kind.name());
        let outcome = match kind {
            Kind::Cpu => cpu::profile(exercise, &arguments, request.seconds, &out, name)
                .map(|cpu| found.cpu = Some(cpu)),
            Kind::Memory => memory::profile(exercise, &arguments, &out)
                .map(|memory| found.memory = Some(memory)),
            Kind::Cache => {
                cache::profile(exercise, name, &out).map(|cache| found.cache = Some(cache))
            }
        };
        match outcome {
            Ok(()) => eprintln!(
                "{name}: {}: {:.0} s",
                kind.name(),
                start.elapsed().as_secs_f64()
            ),
            Err(message) => {
                eprintln!("error: {name}: {}: {message}", kind.name());
                found
                    .notes
                    .push(format!("{} failed: {message}", kind.name()));
                fine = false;
            }
        }
    }
    let text = hotspots::markdown(&found);
    for (file, text) in [("hotspots.md", &text), ("index.html", &page::html(&found))] {
        std::fs::write(out.join(file), text)
            .map_err(|error| format!("{file} cannot be written: {error}"))?;
    }
    say(&text);
    if let Some(cpu) = &found.cpu
        && !cpu.said.is_empty()
    {
        say(&format!("While perf watched: {}", cpu.said));
    }
    say(&format!("Written: {}", out.join("index.html").display()));
    Ok(fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_have_plain_names() {
        assert_eq!(folder_name("PatchTST-long"), "PatchTST-long");
        assert_eq!(folder_name("4 x (q k^T, 12 x 8)"), "4-x-q-k-T-12-x-8");
    }

    #[test]
    fn workloads_are_known_before_their_program_is_built() {
        let asked = ["nhits", "NHITS", "attention"].map(str::to_owned);
        let found = chosen(&asked).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["NHITS", "attention"]);
        let message = chosen(&["NHITZ".to_owned()]).unwrap_err();
        assert!(message.contains("\"NHITZ\"") && message.contains("PatchTST-long"));
        assert!(!message.contains("softmax 1024 x 12") && message.contains("exercises.tsv"));
        let message = chosen(&["Softmax".to_owned()]).unwrap_err();
        assert!(message.contains("softmax 1024 x 12") && !message.contains("NHITS"));
    }

    #[test]
    fn a_missing_tool_is_one_line_and_the_others_still_run() {
        let kinds = [Kind::Cpu, Kind::Memory, Kind::Cache];
        let (all, missing) = ready(&kinds, |_| true);
        assert_eq!((all.len(), missing.len(), code(false, &missing)), (3, 0, 0));
        // A machine with nothing: a line for each tool, with the command that installs it, and nothing is built.
        let (none, missing) = ready(&kinds, |tool| tool.find_in("".as_ref()).is_some());
        assert!(none.is_empty());
        let tools: Vec<&Tool> = kinds.iter().flat_map(|kind| kind.tools()).collect();
        assert_eq!(missing.len(), tools.len());
        for (line, tool) in missing.iter().zip(tools) {
            assert_eq!(line.lines().count(), 1);
            assert!(line.starts_with(tool.program) && line.ends_with(tool.install));
        }
        assert_eq!(code(false, &missing), TOOL_MISSING);
        let (rest, missing) = ready(&kinds, |tool| *tool != tools::PERF);
        assert_eq!((rest, missing.len()), (kinds[1..].to_vec(), 1));
        assert_eq!(code(true, &missing), crate::FAILED);
    }

    #[test]
    fn every_kind_names_its_tools() {
        for kind in [Kind::Cpu, Kind::Memory, Kind::Cache] {
            assert!(!kind.tools().is_empty(), "{}", kind.name());
            for tool in kind.tools() {
                assert!(tools::TOOLS.contains(tool), "{}", tool.program);
            }
        }
    }
}
