//! The options of `bench`, and what they mean together.

use std::path::PathBuf;

use lexopt::prelude::*;
use serde_json::{Value, json};

use super::{Command, Topic, describe};

/// Options of `bench`: name, the name of its value, what it does.
pub(super) const OPTIONS: &[(&str, &str, &str)] = &[
    (
        "csv",
        "FILE",
        "your own data instead of the embedded series",
    ),
    ("horizon", "H", "time steps to forecast (needed with --csv)"),
    (
        "model",
        "NAME",
        "only this model; may be given again (default: all)",
    ),
    (
        "input-size",
        "L",
        "past time steps a model sees (default: chosen from the horizon)",
    ),
    (
        "steps",
        "N",
        "training steps of each model, at least 2 (default: 200; those of NeuralForecast for small models)",
    ),
    (
        "freq",
        "F",
        "time between two rows, such as h, D or MS (default: inferred)",
    ),
    (
        "id-col",
        "COLUMN",
        "the column that names the series (default: unique_id)",
    ),
    (
        "ds-col",
        "COLUMN",
        "the column of time stamps (default: ds)",
    ),
    ("y-col", "COLUMN", "the column of values (default: y)"),
    (
        "wide",
        "",
        "one column per series instead of one row per series and time",
    ),
    (
        "delimiter",
        "D",
        "what separates columns: comma, semicolon, tab or pipe (default: comma)",
    ),
    (
        "decimal",
        "D",
        "what separates the fraction of a number: point or comma (default: point)",
    ),
    ("encoding", "E", "utf-8 or latin-1 (default: utf-8)"),
    (
        "duplicates",
        "WHAT",
        "rows of one series and time: error, first, last or mean (default: error)",
    ),
    (
        "gaps",
        "WHAT",
        "missing rows: mask (inserted as not observed), ffill, linear, keep (none inserted) or error (default: mask)",
    ),
    (
        "missing",
        "WHAT",
        "missing values: mask (the row is not observed), ffill, zero or error (default: mask)",
    ),
    (
        "ignore",
        "COLUMN",
        "leave this column out; may be given again; '' is a column without a name",
    ),
    (
        "threads",
        "N",
        "threads of the optimised runs (default: all)",
    ),
    (
        "simd",
        "LEVEL",
        "scalar, avx2, avx512, neon or auto (default: auto, the best of this machine)",
    ),
    (
        "seed",
        "S",
        "seed of initial weights and sampling (default: 1)",
    ),
    (
        "quick",
        "",
        "few steps: to see that everything runs, not to measure",
    ),
    (
        "out",
        "DIR",
        "where report.json, report.md, report.html and forecasts.svg go (default: target/bench)",
    ),
];

/// What may become of results, of the main job's and of a suite's.
pub(super) const RESULTS: &[(&str, &str, &str)] = &[
    ("json", "FILE", "also write the report as JSON to this file"),
    (
        "save",
        "NAME",
        "keep the results under this name in target/bench/saved",
    ),
    (
        "compare",
        "NAME",
        "compare with results kept under this name; exit code 2 when something is slower beyond threshold and noise",
    ),
    (
        "threshold",
        "P",
        "what counts as slower, in percent (default: 5%)",
    ),
];

/// Threads at most; the library refuses more too.
const MOST_THREADS: usize = 1024;
/// Steps, rows and horizons at most.
const MOST: usize = u32::MAX as usize;
/// Steps at least: the time of a step is taken from the end of the one before.
const LEAST_STEPS: usize = 2;

/// What `bench` was asked; handed to the program that measures as JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct BenchRequest {
    pub(crate) csv: Option<PathBuf>,
    pub(crate) horizon: Option<usize>,
    pub(crate) models: Vec<String>,
    pub(crate) input_size: Option<usize>,
    pub(crate) steps: Option<usize>,
    pub(crate) freq: Option<String>,
    pub(crate) id_column: Option<String>,
    pub(crate) ds_column: Option<String>,
    pub(crate) y_column: Option<String>,
    pub(crate) wide: bool,
    pub(crate) delimiter: Option<String>,
    pub(crate) decimal: Option<String>,
    pub(crate) encoding: Option<String>,
    pub(crate) duplicates: Option<String>,
    pub(crate) gaps: Option<String>,
    pub(crate) missing: Option<String>,
    pub(crate) ignore: Vec<String>,
    pub(crate) threads: Option<usize>,
    pub(crate) simd: Option<String>,
    pub(crate) seed: Option<u64>,
    pub(crate) quick: bool,
    pub(crate) out: Option<PathBuf>,
    /// The suite to run in place of the main job.
    pub(crate) suite: Option<String>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) save: Option<String>,
    pub(crate) compare: Option<String>,
    /// A share.
    pub(crate) threshold: Option<f64>,
}

impl BenchRequest {
    /// What the program that measures is told: everything but what is done with its results here.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "csv": self.csv,
            "horizon": self.horizon,
            "models": self.models,
            "input_size": self.input_size,
            "steps": self.steps,
            "freq": self.freq,
            "id_column": self.id_column,
            "ds_column": self.ds_column,
            "y_column": self.y_column,
            "wide": self.wide,
            "delimiter": self.delimiter,
            "decimal": self.decimal,
            "encoding": self.encoding,
            "duplicates": self.duplicates,
            "gaps": self.gaps,
            "missing": self.missing,
            "ignore": self.ignore,
            "threads": self.threads,
            "simd": self.simd,
            "seed": self.seed,
            "quick": self.quick,
            "out": self.out,
        })
    }
}

/// Understands the options of `bench`.
pub(super) fn bench(parser: &mut lexopt::Parser) -> Result<Command, String> {
    let mut request = BenchRequest::default();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        let name = match argument {
            Long("help") | Short('h') => return Ok(Command::Help(Some(Topic::Bench))),
            Long(name) => name.to_owned(),
            Value(word) if request.suite.is_none() => {
                let word = word.to_string_lossy().into_owned();
                crate::suites::find(&word)?;
                request.suite = Some(word);
                continue;
            }
            other => return Err(unknown_bench_option(&describe(&other))),
        };
        match name.as_str() {
            "wide" => request.wide = true,
            "quick" => request.quick = true,
            "csv" => request.csv = Some(path(parser, &name)?),
            "out" => request.out = Some(path(parser, &name)?),
            "horizon" => request.horizon = Some(within(parser, &name, 1, MOST)?),
            "input-size" => request.input_size = Some(within(parser, &name, 1, MOST)?),
            "steps" => request.steps = Some(within(parser, &name, LEAST_STEPS, MOST)?),
            "threads" => request.threads = Some(within(parser, &name, 1, MOST_THREADS)?),
            "seed" => request.seed = Some(number(parser, &name)?),
            "model" => request.models.push(text(parser, &name)?),
            "freq" => request.freq = Some(text(parser, &name)?),
            "id-col" => request.id_column = Some(text(parser, &name)?),
            "ds-col" => request.ds_column = Some(text(parser, &name)?),
            "y-col" => request.y_column = Some(text(parser, &name)?),
            "delimiter" => request.delimiter = Some(text(parser, &name)?),
            "decimal" => request.decimal = Some(text(parser, &name)?),
            "encoding" => request.encoding = Some(text(parser, &name)?),
            "duplicates" => request.duplicates = Some(text(parser, &name)?),
            "gaps" => request.gaps = Some(text(parser, &name)?),
            "missing" => request.missing = Some(text(parser, &name)?),
            "ignore" => request.ignore.push(text(parser, &name)?),
            "simd" => request.simd = Some(text(parser, &name)?),
            "json" => request.json = Some(path(parser, &name)?),
            "save" => request.save = Some(label(parser, &name)?),
            "compare" => request.compare = Some(label(parser, &name)?),
            "threshold" => request.threshold = Some(percent(parser, &name)?),
            other => return Err(unknown_bench_option(&format!("--{other}"))),
        }
    }
    check(&request)?;
    Ok(Command::Bench(Box::new(request)))
}

/// What only makes sense together.
fn check(request: &BenchRequest) -> Result<(), String> {
    if request.threshold.is_some() && request.compare.is_none() {
        return Err("--threshold belongs to --compare NAME: what should be compared?".to_owned());
    }
    if let Some(suite) = &request.suite {
        let about_the_main_job = [
            ("--csv", request.csv.is_some()),
            ("--model", !request.models.is_empty()),
            ("--steps", request.steps.is_some()),
            ("--threads", request.threads.is_some()),
            ("--simd", request.simd.is_some()),
            ("--seed", request.seed.is_some()),
        ];
        if let Some((name, _)) = about_the_main_job.iter().find(|(_, given)| *given) {
            return Err(format!(
                "{name} belongs to the main job, the suite {suite} does not know it: leave out one of them"
            ));
        }
    }
    if request.csv.is_some() && request.horizon.is_none() {
        return Err("--csv needs --horizon H: how many time steps should be forecast?".to_owned());
    }
    if request.csv.is_none() {
        let about_data = [
            ("--horizon", request.horizon.is_some()),
            ("--input-size", request.input_size.is_some()),
            ("--freq", request.freq.is_some()),
            ("--id-col", request.id_column.is_some()),
            ("--ds-col", request.ds_column.is_some()),
            ("--y-col", request.y_column.is_some()),
            ("--wide", request.wide),
            ("--delimiter", request.delimiter.is_some()),
            ("--decimal", request.decimal.is_some()),
            ("--encoding", request.encoding.is_some()),
            ("--duplicates", request.duplicates.is_some()),
            ("--gaps", request.gaps.is_some()),
            ("--missing", request.missing.is_some()),
            ("--ignore", !request.ignore.is_empty()),
        ];
        if let Some((name, _)) = about_data.iter().find(|(_, given)| *given) {
            return Err(format!(
                "{name} describes your own data: give --csv FILE with it"
            ));
        }
    }
    Ok(())
}

fn unknown_bench_option(found: &str) -> String {
    let known: Vec<_> = OPTIONS
        .iter()
        .chain(RESULTS)
        .map(|(name, value, _)| format!("--{name} {value}").trim_end().to_owned())
        .collect();
    format!(
        "unknown option {found}; bench knows: {}, --help",
        known.join(", ")
    )
}

fn text(parser: &mut lexopt::Parser, name: &str) -> Result<String, String> {
    let value = parser
        .value()
        .map_err(|_| format!("--{name} needs a value after it"))?;
    value
        .into_string()
        .map_err(|value| format!("the value of --{name} is not UTF-8: {value:?}"))
}

fn number<T: std::str::FromStr>(parser: &mut lexopt::Parser, name: &str) -> Result<T, String> {
    let word = text(parser, name)?;
    word.parse()
        .map_err(|_| format!("--{name} takes a whole number, found {word:?}"))
}

/// The name of a file or folder.
fn path(parser: &mut lexopt::Parser, name: &str) -> Result<PathBuf, String> {
    let text = text(parser, name)?;
    if text.is_empty() {
        return Err(format!(
            "--{name} takes the name of a file or folder, found an empty text"
        ));
    }
    Ok(text.into())
}

/// A name that can be that of a folder.
fn label(parser: &mut lexopt::Parser, name: &str) -> Result<String, String> {
    let text = text(parser, name)?;
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.starts_with('.') || !text.chars().all(plain) {
        return Err(format!(
            "--{name} takes a name of letters, digits, dashes and points, found {text:?}"
        ));
    }
    Ok(text)
}

/// `5%` or `5`, as a share.
fn percent(parser: &mut lexopt::Parser, name: &str) -> Result<f64, String> {
    let word = text(parser, name)?;
    let number = word.strip_suffix('%').unwrap_or(&word).parse::<f64>().ok();
    number
        .filter(|percent| (0.0..=1000.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| format!("--{name} takes a percentage such as 5%, found {word:?}"))
}

fn within(
    parser: &mut lexopt::Parser,
    name: &str,
    least: usize,
    most: usize,
) -> Result<usize, String> {
    let word = text(parser, name)?;
    let number: Option<usize> = word.parse().ok();
    number
        .filter(|n| (least..=most).contains(n))
        .ok_or_else(|| {
            format!("--{name} takes a whole number from {least} to {most}, found {word:?}")
        })
}

/// What the usage of `bench` begins with.
pub(super) const TEXT: &str = "
Builds the measuring program in release mode and runs it. Every model is trained and measured in a process of its
own; the table goes to standard output, progress to standard error, and the full report to target/bench:
report.json (the schema is in docs/performance.md), report.md, report.html and forecasts.svg.

With the name of a suite (simd, attention, parallel, amp, models, all; those that there are) its Criterion benchmarks run
instead, and the results go to target/bench/SUITE.json.

Examples:
  cargo xtask bench
  cargo xtask bench simd --save before
  cargo xtask bench simd --compare before --threshold 5%
  cargo xtask bench --csv my.csv --horizon 24 --model NHITS
  cargo xtask bench --csv wide.csv --wide --ds-col date --horizon 96 --steps 500

Options:
";
