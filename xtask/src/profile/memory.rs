//! Allocations: heaptrack follows the workload twice, with few and with more repetitions; the difference is what a steady
//! repetition asks for.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::run::{output, run};

/// Repetitions of the two runs, after warming up.
const REPEATS: [u32; 2] = [1, 6];

/// What heaptrack counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Memory {
    /// Calls that asked for memory, in the longer run.
    pub(super) allocations: u64,
    /// The same for each repetition after the first ones.
    pub(super) per_repetition: f64,
    /// Heap at its largest, as heaptrack writes it.
    pub(super) peak: String,
    /// Largest resident memory.
    pub(super) resident: String,
    /// Still held at the end.
    pub(super) leaked: String,
    /// The largest consumers at the peak: amount and function.
    pub(super) consumers: Vec<(String, String)>,
}

/// Runs heaptrack and writes `memory.txt`.
pub(super) fn profile(exercise: &Path, arguments: &[String], out: &Path) -> Result<Memory, String> {
    let mut texts = Vec::new();
    for repeats in REPEATS {
        let name = out.join(format!("heaptrack.{repeats}"));
        let file = record(exercise, arguments, repeats, &name)?;
        let text = output(Command::new("heaptrack_print").args(["-f"]).arg(&file))?;
        texts.push(text);
    }
    let [few, more] = [&texts[0], &texts[1]];
    std::fs::write(out.join("memory.txt"), super::stacks::readable_text(more))
        .map_err(|error| format!("memory.txt cannot be written: {error}"))?;
    let count = |text| number(text, "calls to allocation functions:");
    let (few, all) = count(few).zip(count(more)).ok_or_else(|| {
        "heaptrack_print wrote no count of allocations: see memory.txt".to_owned()
    })?;
    Ok(Memory {
        allocations: all,
        per_repetition: all.saturating_sub(few) as f64 / f64::from(REPEATS[1] - REPEATS[0]),
        peak: field(more, "peak heap memory consumption:"),
        resident: field(more, "peak RSS (including heaptrack overhead):"),
        leaked: field(more, "total memory leaked:"),
        consumers: consumers(more),
    })
}

/// Records a run; the file that heaptrack wrote, whose ending depends on how it was built.
fn record(
    exercise: &Path,
    arguments: &[String],
    repeats: u32,
    name: &Path,
) -> Result<std::path::PathBuf, String> {
    let endings = ["zst", "gz"].map(|ending| {
        let mut file = name.as_os_str().to_owned();
        file.push(".");
        file.push(ending);
        std::path::PathBuf::from(file)
    });
    for file in &endings {
        let _ = std::fs::remove_file(file);
    }
    let mut command = Command::new("heaptrack");
    command.arg("-o").arg(name).arg(exercise).args(arguments);
    command.args(["--warmup", "2", "--repeats", &repeats.to_string()]);
    run(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
    let found = endings.into_iter().find(|file| file.is_file());
    found.ok_or_else(|| format!("heaptrack wrote no file beside {}", name.display()))
}

/// What stands behind a label at the beginning of a line.
fn field(text: &str, label: &str) -> String {
    text.lines()
        .find_map(|line| line.strip_prefix(label))
        .map_or("?", str::trim)
        .to_owned()
}

/// The number behind a label.
fn number(text: &str, label: &str) -> Option<u64> {
    field(text, label).split_whitespace().next()?.parse().ok()
}

/// Places that hand memory on: who asked them is what counts.
const MIDDLEMEN: [&str; 2] = ["nd-core/src/buffer.rs", "nd-core/src/pool.rs"];
/// Consumers that are listed.
const LISTED: usize = 8;

/// The section about the peak: each amount, and the first place of ours on the way to it.
fn consumers(text: &str) -> Vec<(String, String)> {
    let Some((_, section)) = text.split_once("PEAK MEMORY CONSUMERS") else {
        return Vec::new();
    };
    let section = section.split("MOST TEMPORARY").next().unwrap_or_default();
    let mut out: Vec<(String, String)> = Vec::new();
    let mut amount = None;
    let mut name = "";
    for line in section.lines() {
        let line = line.trim();
        if let Some((found, _)) = line.split_once(" consumed over ") {
            amount = Some(found.trim_end_matches(" peak memory"));
        } else if let Some(place) = line.strip_prefix("at ") {
            let ours = place.starts_with("crates/") || place.starts_with("benches/");
            if ours
                && MIDDLEMEN.iter().all(|file| !place.contains(file))
                && let Some(amount) = amount.take()
            {
                let name = super::stacks::readable(name);
                out.push((amount.to_owned(), format!("{place}, {name}")));
            }
        } else {
            name = line;
        }
    }
    out.truncate(LISTED);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
MOST CALLS TO ALLOCATION FUNCTIONS
1 calls\n
PEAK MEMORY CONSUMERS
9.44M peak memory consumed over 18 calls from
aligned_malloc
  at library/std/src/sys/alloc/unix.rs:83
  in exercise
9.01M consumed over 2 calls from:
    zeroed
      at crates/nd-core/src/buffer.rs:45
    new
      at crates/nd-core/src/train_state.rs:115
    step
      at benches/src/trainer.rs:9
1.05M consumed over 1 calls from:
    main
      at benches/src/bin/exercise.rs:3
MOST TEMPORARY ALLOCATIONS
total runtime: 1.2s.
calls to allocation functions: 4211 (3509/s)
peak heap memory consumption: 9.55M
peak RSS (including heaptrack overhead): 30.1M
total memory leaked: 2.10K
";

    #[test]
    fn the_summary_is_read() {
        assert_eq!(
            number(PRINTED, "calls to allocation functions:"),
            Some(4211)
        );
        assert_eq!(field(PRINTED, "peak heap memory consumption:"), "9.55M");
        assert_eq!(field(PRINTED, "no such label:"), "?");
    }

    #[test]
    fn consumers_are_named_by_the_place_that_asked() {
        let wanted = [
            ("9.01M", "crates/nd-core/src/train_state.rs:115, new"),
            ("1.05M", "benches/src/bin/exercise.rs:3, main"),
        ];
        let wanted = wanted.map(|(amount, place)| (amount.to_owned(), place.to_owned()));
        assert_eq!(consumers(PRINTED), wanted);
    }
}
