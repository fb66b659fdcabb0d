//! One model on one data set: train, test, measure; what a child process does.
//!
//! In its simple form: fit, forecast the test windows, look at the clock. The time of a step is taken between the
//! progress reports of the training loop, so it holds everything a step does. Peak memory is read before the comparison
//! with the baseline, which has weights and buffers of its own.

use std::time::Duration;

use nd_core::threads::MOST_THREADS;
use nd_core::{CoreError, RunOptions, SimdLevel};
use nd_models::train::{Control, Progress};
use nd_models::{FitHooks, Fitted, Forecast, Forecaster, ModelConfig};
use serde::{Deserialize, Serialize};

use crate::comparison::compare;
use crate::machine::{cores, peak_memory_mib};
use crate::progress;
use crate::report::{ForecastExample, ModelResult};
use crate::request::Request;
use crate::statistics::Measure;
use crate::workloads::DataSet;

/// Steps at the beginning that are not counted: memory is being asked for.
const WARM_UP: usize = 2;
/// Training steps of each model, where nothing else is asked.
const STEPS: u64 = 200;
/// The same of a recurrent model, whose step takes ten times as long as the others': it multiplies once for each row of a window.
const RECURRENT_STEPS: u64 = 100;
/// Models with fewer parameters take all the steps of their defaults: a step takes them microseconds.
const SMALL: usize = 20_000;
/// Training steps of a quick run.
const QUICK_STEPS: u64 = 10;

/// What a child process is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The options of the whole run.
    pub request: Request,
    /// Which of the run's data sets.
    pub data_set: usize,
    /// The model's name.
    pub model: String,
}

/// The choices of the optimised runs.
///
/// # Errors
/// A SIMD level that does not exist or that this machine lacks, more threads than there may be, too few steps.
pub fn options(request: &Request) -> Result<RunOptions, String> {
    let simd = match &request.simd {
        Some(name) if name != "auto" => name.parse::<SimdLevel>().and_then(SimdLevel::require),
        _ => Ok(SimdLevel::best()),
    };
    if let Some(wanted) = request.threads.filter(|&n| n > MOST_THREADS) {
        let most = MOST_THREADS;
        return Err(format!(
            "--threads: {}",
            CoreError::TooManyThreads { wanted, most }
        ));
    }
    if let Some(steps @ ..2) = request.steps {
        return Err(format!(
            "--steps takes a number of at least 2, found {steps}: the time of a step is taken from the end of the one before"
        ));
    }
    Ok(RunOptions {
        simd: simd.map_err(|error| format!("--simd: {error}"))?,
        threads: Some(request.threads.unwrap_or_else(cores)),
        ..RunOptions::default()
    })
}

/// Trains and measures.
///
/// # Errors
/// Whatever keeps this model from being trained on this data, in one message.
pub fn measure(set: &DataSet, job: &Job) -> Result<ModelResult, String> {
    let forecaster = forecaster(set, job)?;
    let label = format!("{}, {}", set.name, job.model);
    let (fitted, times) = train(&forecaster, set, &label)?;
    let (mae, forecast) = test(&fitted, set)?;
    let peak_memory = peak_memory_mib().map(|mib| Measure::single(mib, "MiB"));
    let speedup = compare(&fitted, set, &job.request, &label)?;
    let windows = windows_per_step(&forecaster);
    let per_second: Vec<f64> = times.iter().map(|ms| windows as f64 / ms * 1e3).collect();
    let empty = || {
        format!(
            "{}: no step was measured: give --steps 2 or more",
            job.model
        )
    };
    Ok(ModelResult {
        model: job.model.clone(),
        parameters: forecaster
            .parameter_count()
            .map_err(|error| error.to_string())?,
        training_steps: fitted.history().map_or(0, |history| history.losses.len()),
        windows_per_step: windows,
        step: Measure::of(&times, "ms").ok_or_else(empty)?,
        throughput: Measure::of(&per_second, "windows/s").ok_or_else(empty)?,
        mae: Measure::single(mae, "units of y"),
        peak_memory,
        speedup,
        forecast,
    })
}

fn forecaster(set: &DataSet, job: &Job) -> Result<Forecaster, String> {
    let request = &job.request;
    let mut forecaster = Forecaster::new(&job.model, set.input_size, set.horizon)
        .map_err(|error| error.to_string())?
        .with_options(options(request)?);
    let parameters = forecaster
        .parameter_count()
        .map_err(|error| error.to_string())?;
    let steps = match forecaster.config().model {
        ModelConfig::Lstm(_) => RECURRENT_STEPS,
        _ => STEPS,
    };
    let train = &mut forecaster.config_mut().train;
    let usual = match request.quick {
        true => QUICK_STEPS,
        false if parameters < SMALL => train.max_steps,
        false => steps.min(train.max_steps),
    };
    train.max_steps = request.steps.map_or(usual, |steps| steps as u64);
    train.windows_batch_size = Some(set.windows_per_step);
    train.seed = request.seed.unwrap_or(train.seed);
    Ok(forecaster)
}

fn windows_per_step(forecaster: &Forecaster) -> usize {
    forecaster.config().train.windows_batch_size.unwrap_or(0)
}

/// The trained model, and the time of each step after the first ones in ms.
fn train(
    forecaster: &Forecaster,
    set: &DataSet,
    label: &str,
) -> Result<(Fitted, Vec<f64>), String> {
    let mut lines = progress::Progress::begin(label);
    let mut marks: Vec<Duration> = Vec::new();
    let mut loss = 0.0;
    let mut watch = |step: &Progress| {
        marks.push(step.elapsed);
        loss = step.loss;
        lines.step(
            step.step as usize,
            step.max_steps as usize,
            &format!("loss {:.4}", step.loss),
        );
        Control::Continue
    };
    let hooks = FitHooks {
        progress: Some(&mut watch),
        ..FitHooks::default()
    };
    let fitted = forecaster
        .fit_with(&set.until(set.test_rows()), hooks)
        .map_err(|error| error.to_string())?;
    lines.finish(&format!("{} steps, loss {loss:.4}", marks.len()));
    let skipped = WARM_UP.min(marks.len().saturating_sub(2));
    let times = marks[skipped..]
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3)
        .collect();
    Ok((fitted, times))
}

/// The test error, and the last test forecast of the first series that has something to compare it with.
fn test(fitted: &Fitted, set: &DataSet) -> Result<(f64, ForecastExample), String> {
    let forecast = fitted
        .back_test(&set.panel, set.test_rows(), set.horizon)
        .map_err(|error| error.to_string())?;
    let expected = set.panel.n_series() * set.test_windows;
    if forecast.series.len() != expected {
        return Err(format!(
            "expected {expected} test forecasts, found {}",
            forecast.series.len()
        ));
    }
    let values =
        |series: usize, window: usize| forecast.column(series * set.test_windows + window, 0);
    require_finite(&forecast)?;
    let shown = set.shown_series();
    let example = set.example(shown, &values(shown, set.test_windows - 1));
    let error = set.test_error(values);
    if !error.is_finite() {
        return Err(format!(
            "the test error is {error}: the values are too large for f32 arithmetic; scale them down"
        ));
    }
    Ok((error, example))
}

fn require_finite(forecast: &Forecast) -> Result<(), String> {
    let bad = forecast
        .series
        .iter()
        .find(|s| s.values.iter().any(|x| !x.is_finite()));
    match bad {
        None => Ok(()),
        Some(series) => Err(format!(
            "the forecast of series {} is not finite: the training has gone astray, try fewer --steps",
            series.unique_id
        )),
    }
}
