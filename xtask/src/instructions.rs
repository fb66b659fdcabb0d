//! `cargo xtask instructions [--tests]`: how many instructions kernels and training steps take, compared with the counts in the repository.
//!
//! In its simple form: run the program `exercise` under callgrind, read how many instructions it took, and complain about more than
//! 3 % above the record, or below it, where a new record is due. Time depends on whoever else uses a machine; instructions hardly do,
//! so a loss of a few per cent shows in a single run on any machine.
//!
//! What is counted is exactly one repetition: each exercise runs twice, with one repetition more the second time, and the
//! difference counts. Preparation and the end of the program are in both; first touches are, too, except in the build of tests, where the
//! first repetition is the one that counts, because simulated ones take long.
//!
//! There are two records: of the release build, which is what users run, and of the build that tests use (`--tests`), which every check of
//! a change makes anyway.
//!
//! What differs between machines, and why it does not matter: the compiler is pinned; valgrind answers `cpuid` itself, the same on every
//! processor with AVX2, and knows no AVX-512, so kernels and the C library choose their AVX2 versions everywhere; one thread
//! works, so nobody waits. What remains is the C library's own code.
//! Known weakness: an instruction is not a cycle. Code that misses caches more often with as many instructions is for `bench`. The build of
//! tests is optimised, too, but carries the assertions of a debug build, which are most of the instructions of most small kernels: 3 %
//! there may be a third of what a user runs. And it is divided into more units, so a new function elsewhere in a crate may change what is inlined.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use serde_json::{Value, json};

use crate::run::{cargo, output, root, run, target_folder};
use crate::tools::VALGRIND;

/// What may be added to a recorded count, as a share of it.
const TOLERANCE: f64 = 0.03;
/// The level that is counted.
const LEVEL: &str = "avx2";
/// The kernels that are counted.
const KERNELS: [&str; 13] = [
    "gemm 128 x 128 x 128",
    "gemm 7 x 512 x 512",
    "gemm 32 x 96 x 512",
    "gemv 512 x 512",
    "gemm bf16 32 x 512 x 512",
    "Gelu 65536",
    "Gelu backward 65536",
    "softmax 1024 x 64",
    "layer norm 1024 x 64",
    "Adam 65536",
    "mae and gradient 65536",
    "LSTM forward and backward T 24, B 4, H 64",
    "attention forward and backward",
];

/// The models whose training steps are.
const STEPS: [&str; 3] = ["NHITS", "LSTM", "PatchTST"];

/// A build whose instructions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// What users run.
    Release,
    /// What tests run.
    Tests,
}

impl Build {
    /// Where its counts are kept.
    fn record(self) -> &'static str {
        match self {
            Self::Release => "benches/record/instructions.json",
            Self::Tests => "benches/record/instructions-of-tests.json",
        }
    }

    /// The command that replaces its record.
    fn update(self) -> &'static str {
        match self {
            Self::Release => "cargo xtask instructions --update",
            Self::Tests => "cargo xtask instructions --tests --update",
        }
    }

    /// Builds the program `exercise`, and says where it is.
    fn exercise(self) -> Result<PathBuf, String> {
        let (options, program): (&[&str], _) = match self {
            Self::Release => (
                &["--release", "--package", "nd-bench", "--bin", "exercise"],
                "release/exercise",
            ),
            // The whole workspace, so that what is built are the crates that tests use.
            Self::Tests => (
                &["--workspace", "--example", "exercise"],
                "debug/examples/exercise",
            ),
        };
        let mut build = cargo(&["build", "--locked", "--quiet", "--target-dir"]);
        build.arg(target_folder()).env_remove("CARGO_BUILD_TARGET");
        // Incremental builds divide crates into more units, which changes what is inlined.
        run(build.args(options).env("CARGO_INCREMENTAL", "0"))?;
        Ok(target_folder().join(program))
    }

    /// A training step has one window in so many, so that a simulated one takes seconds and still has a few.
    fn divisor(self, name: &str) -> &'static str {
        match (self, name) {
            (Self::Release, _) | (_, "LSTM") => "32",
            (Self::Tests, _) => "128",
        }
    }

    /// Repetitions before the one that counts.
    fn repetitions_before(self) -> usize {
        usize::from(self == Self::Release)
    }
}

/// The counts, and what they belong to.
#[derive(Clone, Debug, PartialEq)]
struct Record {
    /// The compiler, as it names itself.
    rustc: String,
    /// What counted, as it names itself.
    valgrind: String,
    /// The instruction set.
    level: String,
    /// Instructions of one repetition.
    instructions: BTreeMap<String, u64>,
}

impl Record {
    /// Reads what [`Record::to_json`] made.
    fn from_json(text: &str) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
        let field = |name: &str| match value[name].as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(format!("it has no text {name:?}")),
        };
        let counts = value["instructions"].as_object();
        let counts = counts.ok_or("it has no table \"instructions\"")?;
        let instructions = counts.iter().map(|(name, count)| match count.as_u64() {
            Some(count) => Ok((name.clone(), count)),
            None => Err(format!("the count of {name:?} is {count}, no whole number")),
        });
        Ok(Self {
            rustc: field("rustc")?,
            valgrind: field("valgrind")?,
            level: field("level")?,
            instructions: instructions.collect::<Result<_, _>>()?,
        })
    }

    fn to_json(&self) -> Value {
        json!({
            "instructions": self.instructions,
            "level": self.level,
            "rustc": self.rustc,
            "valgrind": self.valgrind,
        })
    }
}

/// Counts, and compares with the record or replaces it.
pub(crate) fn instructions(build: Build, update: bool) -> Result<(), String> {
    if !cfg!(target_arch = "x86_64") {
        println!("instructions are counted on x86-64 alone: the record is of its AVX2 code");
        return Ok(());
    }
    if VALGRIND.find().is_none() {
        return Err(VALGRIND.missing());
    }
    let (name, renewal) = (build.record(), build.update());
    let file = root().join(name);
    // Before minutes are spent on counting.
    let record = if update {
        None
    } else {
        let text = std::fs::read_to_string(&file)
            .map_err(|error| format!("{name} cannot be read: {error}; `{renewal}` writes it"))?;
        let record = Record::from_json(&text)
            .map_err(|error| format!("{name}: {error}; `{renewal}` writes it again"))?;
        Some(record)
    };
    let start = Instant::now();
    let exercise = build.exercise()?;
    let found = Record {
        rustc: output(Command::new("rustc").current_dir(root()).arg("--version"))?
            .trim()
            .to_owned(),
        valgrind: output(Command::new(VALGRIND.program).arg("--version"))?
            .trim()
            .to_owned(),
        level: LEVEL.to_owned(),
        instructions: count_all(build, &exercise)?,
    };
    let seconds = start.elapsed().as_secs_f64();
    let Some(record) = record else {
        return write(&file, &found);
    };
    let (table, failures) = compare(&record, &found);
    print!("{table}");
    println!("instructions of one repetition, {LEVEL}, counted in {seconds:.0} s");
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "{}; the record was counted by {}, this by {}; where that is meant, `{renewal}` writes the new counts",
            failures.join("; "),
            record.valgrind,
            found.valgrind
        ))
    }
}

fn write(file: &Path, found: &Record) -> Result<(), String> {
    let text = serde_json::to_string_pretty(&found.to_json())
        .map_err(|error| format!("the counts cannot be written as JSON: {error}"))?;
    std::fs::write(file, text + "\n")
        .map_err(|error| format!("{} cannot be written: {error}", file.display()))?;
    println!("Written: {}", file.display());
    Ok(())
}

/// Counts everything, as many at a time as there are cores.
fn count_all(build: Build, exercise: &Path) -> Result<BTreeMap<String, u64>, String> {
    // What takes longest, first: the steps are the last of the list.
    let watched: Vec<&str> = KERNELS.into_iter().chain(STEPS).collect();
    let most = watched.len();
    let queue = Mutex::new(watched);
    let found = Mutex::new(Ok(BTreeMap::new()));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let worker = || {
        loop {
            let next = queue.lock().ok().and_then(|mut queue| queue.pop());
            let Some(name) = next else { return };
            let count = count(build, exercise, name);
            let Ok(mut found) = found.lock() else { return };
            match (count, &mut *found) {
                (Ok(count), Ok(counts)) => {
                    counts.insert(name.to_owned(), count);
                }
                (Err(message), Ok(_)) => *found = Err(message),
                (_, Err(_)) => {}
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..cores.min(most) {
            scope.spawn(worker);
        }
    });
    found
        .into_inner()
        .unwrap_or_else(|_| Err("a counting thread panicked".to_owned()))
}

/// Instructions of one repetition.
fn count(build: Build, exercise: &Path, name: &str) -> Result<u64, String> {
    let before = build.repetitions_before();
    let [less, more] = [before, before + 1].map(|repeats| total(build, exercise, name, repeats));
    let (less, more) = (less?, more?);
    more.checked_sub(less)
        .filter(|&count| count > 0)
        .ok_or_else(|| {
            format!(
                "{name}: {before} repetitions took {less} instructions and one more {more}: that cannot be"
            )
        })
}

/// Instructions of a whole run.
fn total(build: Build, exercise: &Path, name: &str, repeats: usize) -> Result<u64, String> {
    let ran = Command::new(VALGRIND.program)
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(exercise)
        .args([
            name,
            "--threads",
            "1",
            "--divisor",
            build.divisor(name),
            "--warmup",
            "0",
            "--repeats",
            &repeats.to_string(),
        ])
        .env("ND_SIMD", LEVEL)
        .stdout(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind could not be started: {error}"))?;
    let said = String::from_utf8_lossy(&ran.stderr);
    match collected(&said) {
        Some(count) if ran.status.success() => Ok(count),
        _ => {
            let last = said.lines().next_back().unwrap_or_default();
            Err(format!(
                "{name}: valgrind ended with {}: {last}",
                ran.status
            ))
        }
    }
}

/// The number behind `Collected :`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

/// A table of all counts beside their record, and a sentence about each that fails.
fn compare(record: &Record, found: &Record) -> (String, Vec<String>) {
    let mut failures = Vec::new();
    if record.rustc != found.rustc || record.level != found.level {
        failures.push(format!(
            "the record is of {} at {}, this is {} at {}",
            record.rustc, record.level, found.rustc, found.level
        ));
    }
    let mut table = String::new();
    for (name, &count) in &found.instructions {
        let Some(&before) = record.instructions.get(name) else {
            failures.push(format!("{name} has no record"));
            continue;
        };
        let change = count as f64 / before as f64 - 1.0;
        // Whole instructions: the product of two floating-point numbers may miss one by a hair.
        let [least, most] =
            [-TOLERANCE, TOLERANCE].map(|change| (before as f64 * (1.0 + change)).round());
        let verdict = if count as f64 > most {
            failures.push(format!(
                "{name} takes {:.1} % more instructions than recorded ({count}, not {before})",
                change * 100.0
            ));
            "  more than 3 % above the record"
        } else if (count as f64) < least {
            // A record that is too high would let the next change lose what this one gained.
            failures.push(format!(
                "{name} takes {:.1} % fewer instructions than recorded ({count}, not {before}): the record is out of date",
                -change * 100.0
            ));
            "  more than 3 % below the record"
        } else {
            ""
        };
        table += &format!(
            "{name:<44} {count:>12} {:>+7.2} %{verdict}\n",
            change * 100.0
        );
    }
    for name in record.instructions.keys() {
        if !found.instructions.contains_key(name) {
            failures.push(format!("{name} is recorded but no longer counted"));
        }
    }
    (table, failures)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn record(counts: &[(&str, u64)]) -> Record {
        Record {
            rustc: "rustc 1".to_owned(),
            valgrind: "valgrind-3".to_owned(),
            level: LEVEL.to_owned(),
            instructions: counts
                .iter()
                .map(|&(name, n)| (name.to_owned(), n))
                .collect(),
        }
    }

    #[test]
    fn more_than_three_per_cent_from_the_record_fail() {
        let before = record(&[("a", 1000), ("b", 1000), ("c", 1000), ("d", 1000)]);
        let found = record(&[("a", 1030), ("b", 1031), ("c", 970), ("d", 500)]);
        let (table, failures) = compare(&before, &found);
        assert_eq!(failures.len(), 2, "{failures:?}");
        assert!(failures[1].contains("d takes 50.0 % fewer"), "{failures:?}");
        assert!(
            failures[0].starts_with("b takes 3.1 % more"),
            "{failures:?}"
        );
        assert!(table.contains("below the record") && table.lines().count() == 4);
    }

    #[test]
    fn what_was_not_recorded_or_recorded_otherwise_fails() {
        let (_, failures) = compare(&record(&[("a", 1)]), &record(&[("b", 1)]));
        assert_eq!(failures.len(), 2, "{failures:?}");
        let mut other = record(&[("a", 1)]);
        other.rustc = "rustc 2".to_owned();
        let (_, failures) = compare(&record(&[("a", 1)]), &other);
        assert!(failures[0].contains("rustc 2"), "{failures:?}");
    }

    #[test]
    fn the_count_is_read() {
        assert_eq!(
            collected("==1== Events    : Ir\n==1== Collected : 1188274\n"),
            Some(1_188_274)
        );
        assert_eq!(collected("==1== nothing\n"), None);
    }

    #[test]
    fn the_records_have_what_is_watched() {
        for build in [Build::Release, Build::Tests] {
            let text = std::fs::read_to_string(root().join(build.record())).unwrap();
            let record = Record::from_json(&text).unwrap();
            let again = record.to_json().to_string();
            assert_eq!(Record::from_json(&again), Ok(record.clone()));
            assert!(Record::from_json("{}").is_err() && Record::from_json(&again[1..]).is_err());
            let watched: BTreeSet<&str> = KERNELS.into_iter().chain(STEPS).collect();
            assert!(record.instructions.keys().eq(watched));
            assert_eq!(record.level, LEVEL);
        }
    }

    #[test]
    fn a_count_is_a_whole_number() {
        for count in ["-1", "1.5", "\"1\""] {
            let text = format!(
                "{{\"rustc\": \"1\", \"valgrind\": \"3\", \"level\": \"avx2\", \"instructions\": {{\"a\": {count}}}}}"
            );
            let error = Record::from_json(&text).unwrap_err();
            assert!(error.contains("no whole number"), "{error}");
        }
    }
}
