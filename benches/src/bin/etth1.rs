//! Measures the same work as the scripts in `benches/peers/neuralforecast`, for a comparison line by line: time and peak
//! memory of training steps on ETTh1, and the 30-window error after training. Prints one line of JSON for each result;
//! `mae30` one for each seed, and at the end one for each model with the mean over its seeds.
//!
//! ```text
//! etth1 step MODEL [--steps N] [--warmup N]
//! etth1 phases MODEL [--steps N]
//! etth1 mae30 [MODEL ...] [--steps N] [--seeds N] [--first-seed N]
//! etth1 precision [MODEL ...] [--steps N] [--seeds N] [--first-seed N]
//! ```
//!
//! `precision` trains each model in f32, bf16 and f16 from the same seeds and prints the ratios of their errors. All commands take
//! `--horizon N`, `--precision f32|bf16|f16|auto`, `--threads N`, `--simd LEVEL` and `--data FILE`.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use nd_bench::machine::{Machine, load_average, peak_memory_mib};
use nd_bench::phases;
use nd_bench::statistics::{Measure, Summary};
use nd_core::{Precision, RunOptions, SimdLevel};
use nd_data::Panel;
use nd_data::csv::{CsvOptions, read_csv};
use nd_models::train::{Control, Progress};
use nd_models::{FitHooks, Forecaster, ModelDims, ZOO};
use serde_json::json;

const INPUT_SIZE: usize = 96;
/// Forecasts of each series, one behind the other, at the end of the data.
const WINDOWS: usize = 30;

/// Steps after which the peer's error was recorded, model by model.
const STEPS: [(&str, u64); 7] = [
    ("NLinear", 100),
    ("DLinear", 100),
    ("MLP", 100),
    ("NBEATS", 100),
    ("NHITS", 93),
    ("LSTM", 80),
    ("PatchTST", 23),
];

#[derive(Clone)]
struct Arguments {
    command: String,
    models: Vec<String>,
    steps: Option<u64>,
    warmup: u64,
    seeds: u64,
    first_seed: u64,
    horizon: usize,
    options: RunOptions,
    data: PathBuf,
}

fn parse() -> Result<Arguments, String> {
    use lexopt::prelude::{Long, Value, ValueExt};
    let mut parser = lexopt::Parser::from_env();
    let mut found = Arguments {
        command: String::new(),
        models: Vec::new(),
        steps: None,
        warmup: 5,
        seeds: 1,
        first_seed: 1,
        horizon: 24,
        options: RunOptions::default(),
        data: PathBuf::from("../shared/data/ETTh1.csv"),
    };
    let text = |error: lexopt::Error| error.to_string();
    while let Some(argument) = parser.next().map_err(text)? {
        match argument {
            Value(word) if found.command.is_empty() => {
                found.command = word.string().map_err(text)?;
            }
            Value(word) => found.models.push(word.string().map_err(text)?),
            Long(name) => {
                let name = name.to_owned();
                let value = parser.value().map_err(text)?;
                match name.as_str() {
                    "steps" => found.steps = Some(value.parse().map_err(text)?),
                    "warmup" => found.warmup = value.parse().map_err(text)?,
                    "seeds" => found.seeds = value.parse().map_err(text)?,
                    "first-seed" => found.first_seed = value.parse().map_err(text)?,
                    "horizon" => found.horizon = value.parse().map_err(text)?,
                    "precision" => {
                        let precision = value.parse::<Precision>();
                        found.options.precision = precision.map_err(|error| error.to_string())?;
                    }
                    "threads" => found.options.threads = Some(value.parse().map_err(text)?),
                    "simd" => {
                        let level = value.parse::<SimdLevel>().map_err(text)?;
                        found.options.simd = level.require().map_err(|error| error.to_string())?;
                    }
                    "data" => found.data = value.into(),
                    _ => return Err(format!("there is no option --{name}")),
                }
            }
            other => return Err(text(other.unexpected())),
        }
    }
    if found.models.is_empty() {
        found.models = STEPS.iter().map(|(name, _)| (*name).to_owned()).collect();
    }
    Ok(found)
}

fn main() -> ExitCode {
    match parse().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("etth1: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let panel: Panel<f32> = read_csv(&arguments.data, &CsvOptions::wide("date"))
        .map_err(|error| format!("{error}; give the place of ETTh1.csv with --data"))?;
    match arguments.command.as_str() {
        "step" => arguments
            .models
            .iter()
            .try_for_each(|model| step(arguments, model, &panel)),
        "mae30" => mae30(arguments, &panel),
        "precision" => precision(arguments, &panel),
        "phases" => arguments.models.iter().try_for_each(|model| {
            let dims = ModelDims::univariate(INPUT_SIZE, arguments.horizon);
            let steps = arguments.steps.unwrap_or(50) as usize;
            let found = phases::measure(model, &panel, &dims, arguments.options, steps)?;
            println!("{}", json!(found));
            Ok(())
        }),
        other => Err(format!(
            "there is no command {other:?}; use step, phases, mae30 or precision"
        )),
    }
}

fn forecaster(arguments: &Arguments, model: &str, steps: u64) -> Result<Forecaster, String> {
    let forecaster =
        Forecaster::new(model, INPUT_SIZE, arguments.horizon).map_err(|e| e.to_string())?;
    let mut forecaster = forecaster.with_options(arguments.options);
    forecaster.config_mut().train.max_steps = steps;
    Ok(forecaster)
}

fn step(arguments: &Arguments, model: &str, panel: &Panel<f32>) -> Result<(), String> {
    let load = load_average();
    let steps = arguments.steps.unwrap_or(50);
    let forecaster = forecaster(arguments, model, arguments.warmup + steps)?;
    let mut marks: Vec<Duration> = vec![Duration::ZERO];
    let mut watch = |progress: &Progress| {
        marks.push(progress.elapsed);
        Control::Continue
    };
    let hooks = FitHooks {
        progress: Some(&mut watch),
        ..FitHooks::default()
    };
    forecaster
        .fit_with(&panel.without_last(held_out(arguments)), hooks)
        .map_err(|e| e.to_string())?;
    let peak = peak_memory_mib();
    let times: Vec<f64> = marks[arguments.warmup as usize..]
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3)
        .collect();
    let measure = Measure::of(&times, "ms").ok_or("no step was timed: give --steps 1 or more")?;
    let threads = arguments
        .options
        .threads
        .unwrap_or_else(nd_bench::machine::cores);
    println!(
        "{}",
        json!({
            "model": model,
            "precision": arguments.options.precision.to_string(),
            "threads": threads,
            "warmup_steps": arguments.warmup,
            "steps": times.len(),
            "ms_per_step_median": measure.median,
            "ms_per_step_min": measure.min,
            "peak_rss_mb": peak,
            "machine": Machine::detect(arguments.options.simd, threads, load),
        })
    );
    Ok(())
}

/// The errors of all models and seeds, then the mean of each model.
fn mae30(arguments: &Arguments, panel: &Panel<f32>) -> Result<(), String> {
    let load = load_average();
    let models = &arguments.models;
    let mut errors = vec![Vec::new(); models.len()];
    // Seeds outside: a run that is stopped early has every model.
    for seed in arguments.first_seed..arguments.first_seed + arguments.seeds {
        for (model, errors) in models.iter().zip(&mut errors) {
            errors.push(mae30_of(arguments, model, seed, panel)?);
        }
    }
    let threads = arguments
        .options
        .threads
        .unwrap_or_else(nd_bench::machine::cores);
    let machine = Machine::detect(arguments.options.simd, threads, load);
    for (model, errors) in models.iter().zip(&errors) {
        let summary = Summary::of(errors).ok_or("no seed: give --seeds 1 or more")?;
        println!(
            "{}",
            json!({
                "model": model,
                "steps": steps_of(arguments, model)?,
                "horizon": arguments.horizon,
                "precision": arguments.options.precision.to_string(),
                "seeds": errors.len(),
                "mae30_mean": summary.mean,
                "mae30_min": summary.min,
                "mae30_max": summary.max,
                "mae30_std": summary.deviation,
                "machine": machine,
            })
        );
    }
    Ok(())
}

/// Rows at the end of each series that no training sees.
fn held_out(arguments: &Arguments) -> usize {
    WINDOWS * arguments.horizon
}

/// The errors of every model and seed in bf16 and f16, beside those in f32 with the same weights, windows and dropout.
fn precision(arguments: &Arguments, panel: &Panel<f32>) -> Result<(), String> {
    for model in &arguments.models {
        let mut ratios = [Vec::new(), Vec::new()];
        for seed in arguments.first_seed..arguments.first_seed + arguments.seeds {
            let error = |precision| {
                let mut arguments = arguments.clone();
                arguments.options.precision = precision;
                mae30_of(&arguments, model, seed, panel)
            };
            let full = error(Precision::F32)?;
            for (precision, ratios) in [Precision::Bf16, Precision::F16]
                .into_iter()
                .zip(&mut ratios)
            {
                ratios.push(error(precision)? / full);
            }
        }
        for (precision, ratios) in [Precision::Bf16, Precision::F16].into_iter().zip(&ratios) {
            let summary = Summary::of(ratios).ok_or("no seed: give --seeds 1 or more")?;
            println!(
                "{}",
                json!({
                    "model": model,
                    "steps": steps_of(arguments, model)?,
                    "horizon": arguments.horizon,
                    "precision": precision.to_string(),
                    "seeds": ratios.len(),
                    "mae_over_f32_mean": summary.mean,
                    "mae_over_f32_min": summary.min,
                    "mae_over_f32_max": summary.max,
                })
            );
        }
    }
    Ok(())
}

/// The number of training steps: what was asked for, or what the peer's error was recorded after.
fn steps_of(arguments: &Arguments, model: &str) -> Result<u64, String> {
    let known = STEPS
        .iter()
        .find(|(name, _)| *name == model)
        .map(|(_, steps)| *steps);
    arguments.steps.or(known).ok_or_else(|| {
        let names: Vec<&str> = ZOO.iter().map(|entry| entry.name).collect();
        format!("{model} has no recorded number of steps: give --steps, or one of {names:?}")
    })
}

/// The mean absolute error of 30 windows of all series, each divided by the standard deviation of its training part.
fn mae30_of(
    arguments: &Arguments,
    model: &str,
    seed: u64,
    panel: &Panel<f32>,
) -> Result<f64, String> {
    let steps = steps_of(arguments, model)?;
    let mut forecaster = forecaster(arguments, model, steps)?;
    forecaster.config_mut().train.seed = seed;
    let (held_out, horizon) = (held_out(arguments), arguments.horizon);
    let training = panel.without_last(held_out);
    let fitted = forecaster.fit(&training).map_err(|e| e.to_string())?;
    let forecast = fitted
        .back_test(panel, held_out, horizon)
        .map_err(|e| e.to_string())?;
    let windows = panel.n_series() * WINDOWS;
    if forecast.series.len() != windows {
        return Err(format!(
            "expected {windows} windows, found {}",
            forecast.series.len()
        ));
    }
    let mut total = 0.0;
    for window in &forecast.series {
        let series = panel
            .series_index(&window.unique_id)
            .map_err(|e| e.to_string())?;
        let errors = window
            .values
            .iter()
            .zip(&window.y)
            .map(|(f, y)| f64::from((f - y).abs()));
        total += errors.sum::<f64>() / population_std(training.series_y(series));
    }
    let mae = total / (windows * horizon) as f64;
    println!(
        "{}",
        json!({
            "model": model,
            "steps": steps,
            "precision": arguments.options.precision.to_string(),
            "seed": seed,
            "mae30": mae,
        })
    );
    Ok(mae)
}

fn population_std(values: &[f32]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    (values
        .iter()
        .map(|&x| (f64::from(x) - mean).powi(2))
        .sum::<f64>()
        / n)
        .sqrt()
}
