//! Takes training steps of one workload: for a clock, and for profilers.
//!
//! ```text
//! training WORKLOAD [--side NAME] [--steps N] [--warmup N] [--windows N] [--simd LEVEL] [--threads N]
//!                   [--attention flash|standard] [--precision f32|bf16|f16]
//! ```
//!
//! Prints one line of JSON: the time of a step, windows a second, the loss of the last step, the largest resident memory.
//! The options behind `--side` change single choices of a side of the library's.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use nd_bench::machine::peak_memory_mib;
use nd_bench::sides::{Runner, Side, Switches};
use nd_bench::statistics::Measure;
use nd_bench::workloads::training::TrainingWorkload;
use nd_core::{AttentionKind, Precision, RunOptions, SimdLevel};
use serde_json::json;

struct Arguments {
    workload: &'static TrainingWorkload,
    side: Side,
    options: Option<RunOptions>,
    steps: usize,
    warmup: usize,
    windows: Option<usize>,
}

fn parse() -> Result<Arguments, String> {
    use lexopt::prelude::{Long, Value, ValueExt};
    let text = |error: lexopt::Error| error.to_string();
    let mut parser = lexopt::Parser::from_env();
    let (mut workload, mut side, mut options) = (None, Side::ALL, None);
    let (mut steps, mut warmup, mut windows) = (10, 2, None);
    while let Some(argument) = parser.next().map_err(text)? {
        match argument {
            Value(word) if workload.is_none() => {
                workload = Some(TrainingWorkload::find(&word.to_string_lossy())?);
            }
            Long(name) => {
                let name = name.to_owned();
                let value = parser.value().map_err(text)?;
                let mut change = |change: &mut dyn FnMut(&mut RunOptions)| {
                    let from = match side {
                        Side::Library(switches) => switches.options(),
                        Side::Plain(_) => Switches::ALL.options(),
                    };
                    change(options.get_or_insert(from));
                };
                match name.as_str() {
                    "side" => side = value.to_string_lossy().parse()?,
                    "steps" => steps = value.parse().map_err(text)?,
                    "warmup" => warmup = value.parse().map_err(text)?,
                    "windows" => windows = Some(value.parse().map_err(text)?),
                    "simd" => {
                        let level = value.parse::<SimdLevel>().map_err(text)?;
                        let level = level.require().map_err(|error| error.to_string())?;
                        change(&mut |options| options.simd = level);
                    }
                    "threads" => {
                        let threads = value.parse().map_err(text)?;
                        change(&mut |options| options.threads = Some(threads));
                    }
                    "attention" => {
                        let kind = match &*value.to_string_lossy() {
                            "flash" => AttentionKind::Flash,
                            "standard" => AttentionKind::Standard,
                            other => {
                                return Err(format!(
                                    "--attention takes flash or standard, found {other:?}"
                                ));
                            }
                        };
                        change(&mut |options| options.attention = kind);
                    }
                    "precision" => {
                        let precision = match &*value.to_string_lossy() {
                            "f32" => Precision::F32,
                            "bf16" => Precision::Bf16,
                            "f16" => Precision::F16,
                            other => {
                                return Err(format!(
                                    "--precision takes f32, bf16 or f16, found {other:?}"
                                ));
                            }
                        };
                        change(&mut |options| options.precision = precision);
                    }
                    _ => {
                        return Err(format!(
                            "there is no option --{name}; there are side, steps, warmup, windows, simd, threads, \
                             attention, precision"
                        ));
                    }
                }
            }
            other => return Err(text(other.unexpected())),
        }
    }
    let workload = workload.map_or_else(|| TrainingWorkload::find(""), Ok)?;
    if steps == 0 || windows == Some(0) {
        return Err("--steps and --windows take numbers from 1".to_owned());
    }
    Ok(Arguments {
        workload,
        side,
        options,
        steps,
        warmup,
        windows,
    })
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let prepared = arguments.workload.prepare()?;
    let source = prepared.source()?;
    let mut runner = match arguments.options {
        Some(options) => Runner::Library(Box::new(prepared.trainer(&source, options)?)),
        None => arguments.side.runner(&prepared, &source)?,
    };
    let windows = arguments.windows.unwrap_or(arguments.workload.windows);
    let (mut times, mut last) = (Vec::new(), 0.0);
    for step in 0..arguments.warmup + arguments.steps {
        let (seconds, loss) = runner.step(windows)?;
        last = loss;
        if step >= arguments.warmup {
            times.push(seconds * 1e3);
        }
    }
    let step = Measure::of(&times, "ms");
    let line = json!({
        "workload": arguments.workload.name,
        "side": arguments.side.to_string(),
        "options": arguments.options.map(|options| format!("{options:?}")),
        "windows": windows,
        "step": step,
        "windows_per_second": step.as_ref().map(|step| windows as f64 / step.median * 1e3),
        "loss": last,
        "peak_memory_mib": peak_memory_mib(),
    });
    println!("{line}");
    Ok(())
}

fn main() -> ExitCode {
    match parse().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("training: {message}");
            ExitCode::from(2)
        }
    }
}
