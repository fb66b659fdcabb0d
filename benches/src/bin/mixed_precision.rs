//! What sixteen bits are worth: training steps in f32, bf16 and f16 in turns, and the passes of the loss scaler beside a copy. Prints one line
//! of JSON for each result.
//!
//! ```text
//! mixed-precision steps [WORKLOAD ...] [--rounds N]
//! mixed-precision passes
//! mixed-precision run WORKLOAD [--precision P] [--rounds N]
//! ```
//!
//! `steps` compares whole training steps of the workloads (`NHITS`, `LSTM`, `PatchTST`, `PatchTST-long`), `run` only takes steps, for a
//! profiler. All commands take `--threads N` and `--simd LEVEL`.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::process::ExitCode;

use nd_amp::GradScaler;
use nd_bench::machine::{Machine, load_average};
use nd_bench::turns::{Effort, Turns};
use nd_bench::workloads::training::{TRAINING, TrainingWorkload};
use nd_core::{Buffer, Precision, RunOptions, SimdLevel, Threads};
use serde_json::json;

struct Arguments {
    command: String,
    names: Vec<String>,
    rounds: usize,
    options: RunOptions,
}

fn parse() -> Result<Arguments, String> {
    use lexopt::prelude::{Long, Value, ValueExt};
    let mut parser = lexopt::Parser::from_env();
    let mut found = Arguments {
        command: String::new(),
        names: Vec::new(),
        rounds: 15,
        options: RunOptions::default(),
    };
    let text = |error: lexopt::Error| error.to_string();
    while let Some(argument) = parser.next().map_err(text)? {
        match argument {
            Value(word) if found.command.is_empty() => {
                found.command = word.string().map_err(text)?;
            }
            Value(word) => found.names.push(word.string().map_err(text)?),
            Long(name) => {
                let name = name.to_owned();
                let value = parser.value().map_err(text)?;
                match name.as_str() {
                    "rounds" => found.rounds = value.parse().map_err(text)?,
                    "threads" => found.options.threads = Some(value.parse().map_err(text)?),
                    "precision" => {
                        let precision = value.parse::<Precision>();
                        found.options.precision = precision.map_err(|error| error.to_string())?;
                    }
                    "simd" => {
                        let level = value.parse::<SimdLevel>().map_err(text)?;
                        found.options.simd = level.require().map_err(|error| error.to_string())?;
                    }
                    _ => return Err(format!("there is no option --{name}")),
                }
            }
            other => return Err(text(other.unexpected())),
        }
    }
    if found.names.is_empty() {
        found.names = TRAINING.iter().map(|w| w.name.to_owned()).collect();
    }
    Ok(found)
}

fn main() -> ExitCode {
    match parse().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("mixed-precision: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    match arguments.command.as_str() {
        "steps" => arguments
            .names
            .iter()
            .try_for_each(|name| steps(arguments, name)),
        "run" => arguments.names.iter().try_for_each(|name| {
            let prepared = TrainingWorkload::find(name)?.prepare()?;
            let source = prepared.source()?;
            let mut trainer = prepared.trainer(&source, arguments.options)?;
            for _ in 0..arguments.rounds {
                trainer.step(prepared.workload.windows)?;
            }
            Ok(())
        }),
        "passes" => passes(arguments),
        other => Err(format!(
            "there is no command {other:?}; use steps, passes or run"
        )),
    }
}

fn machine(arguments: &Arguments) -> Machine {
    let threads = arguments
        .options
        .threads
        .unwrap_or_else(nd_bench::machine::cores);
    Machine::detect(arguments.options.simd, threads, load_average())
}

/// Training steps in the three formats, in turns.
fn steps(arguments: &Arguments, name: &str) -> Result<(), String> {
    let prepared = TrainingWorkload::find(name)?.prepare()?;
    let source = prepared.source()?;
    let mut trainers = Vec::new();
    for precision in Precision::ALL {
        let options = RunOptions {
            precision,
            ..arguments.options
        };
        trainers.push(prepared.trainer(&source, options)?);
    }
    let windows = prepared.workload.windows;
    for trainer in &mut trainers {
        trainer.step(windows)?;
        trainer.step(windows)?;
    }
    let effort = Effort {
        rounds: arguments.rounds,
        seconds: 0.0,
        turn: 0.0,
    };
    let mut failure = None;
    let turns = Turns::take(trainers.len(), effort, |i| {
        if let Err(error) = trainers[i].step(windows) {
            failure = Some(error);
        }
    });
    if let Some(error) = failure {
        return Err(error);
    }
    for (i, precision) in Precision::ALL.into_iter().enumerate() {
        println!(
            "{}",
            json!({
                "workload": name,
                "precision": precision.to_string(),
                "ms_per_step": turns.median(i) * 1e3,
                "speed_over_f32": turns.speed_ratio(i, 0),
                "rounds": arguments.rounds,
                "machine": machine(arguments),
            })
        );
    }
    Ok(())
}

/// Numbers of a gradient that no cache holds: 256 MiB.
const LEN: usize = 1 << 26;

/// The passes of the loss scaler and a copy of the same memory, in turns.
fn passes(arguments: &Arguments) -> Result<(), String> {
    let threads = Threads::new(arguments.options.threads).map_err(|error| error.to_string())?;
    let mut gradients = vec![1.0f32; LEN];
    let source: Buffer<f32> = Buffer::from_slice(&gradients);
    let mut target: Buffer<f32> = Buffer::from_slice(&gradients);
    // Scale 1: however often the gradients are unscaled, they stay what they are.
    let scaler = GradScaler::new(1.0, 2.0, 0.5, 2000);
    let effort = Effort {
        rounds: arguments.rounds,
        seconds: 0.0,
        turn: 0.0,
    };
    let turns = threads.install(|| {
        let parallel = nd_core::threads::parallel();
        Turns::take(4, effort, |i| match i {
            0 => nd_core::threads::for_each_chunk(parallel, &mut target, 1 << 16, |i, part| {
                let first = i << 16;
                part.copy_from_slice(black_box(&source[first..first + part.len()]));
            }),
            1 => assert!(!scaler.has_overflow(black_box(&source))),
            2 => assert!(scaler.unscale_in_place(black_box(&mut gradients)).is_finite),
            _ => {
                black_box(&mut target).copy_from_slice(&source);
            }
        })
    });
    // Bytes that a pass moves for each number: a copy reads and writes, the check only reads.
    let names = [
        "copy",
        "has_overflow",
        "unscale_in_place",
        "copy on one thread",
    ];
    let bytes = [8.0, 4.0, 8.0, 8.0];
    let rate = |i: usize| bytes[i] * LEN as f64 / turns.median(i) / 1e9;
    for (i, name) in names.into_iter().enumerate() {
        println!(
            "{}",
            json!({
                "pass": name,
                "gigabytes_per_second": rate(i),
                "share_of_copy": rate(i) / rate(0),
                "machine": machine(arguments),
            })
        );
    }
    Ok(())
}
