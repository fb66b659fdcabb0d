//! Every model against NeuralForecast 3.3.0: forecasts, loss, gradients, ten optimizer steps and the state after them.

use std::sync::Arc;

use crate::support::{self, Case};
use nd_amp::{Clip, Optimizer, TrainStep};
use nd_core::autograd::{Mode, ParamKind, Params, StepContext, Tape};
use nd_core::{Objective, Real, RunOptions, SimdLevel, TrainState};
use nd_parallel::{GradientEngine, StepOptions};
use nd_simd::SimdReal;
use nd_testing::assert_norm_close;
use serde_json::Value;

/// Of a tensor's norm, in f64.
const F64_TOLERANCE: f64 = 1e-8;
/// Of a tensor's norm, in f32.
const F32_TOLERANCE: f64 = 1e-4;
/// Steps of the golden runs.
const STEPS: usize = 10;
/// Parameters of PatchTST that only add a constant before a softmax or a batch norm: their gradient is rounding.
const WITHOUT_EFFECT: [&str; 4] = ["W_K.bias", "W_V.bias", "to_out.0.bias", "ff.3.bias"];

fn options(level: SimdLevel) -> RunOptions {
    RunOptions {
        simd: level,
        ..RunOptions::default()
    }
}

fn forecast<R: SimdReal>(
    case: &Case<R>,
    params: &Arc<Params<R>>,
    mode: Mode,
    level: SimdLevel,
) -> Vec<R> {
    let mut tape = Tape::default();
    tape.begin(StepContext {
        mode,
        options: options(level),
        ..StepContext::new(Some(Arc::clone(params)))
    });
    let batch = case.batch.all();
    let raw = case.network.forward(&tape, &batch);
    let layout = batch.layout();
    assert_eq!(
        &*raw.shape(),
        &[batch.rows(), layout.horizon, case.loss.outputs_per_step()],
        "{}",
        case.name
    );
    let mut raw = raw.value().to_vec();
    case.loss.domain_map(&mut raw, &batch);
    raw
}

/// Forecasts, loss and gradients before the first step.
fn first_step<R: SimdReal>(case: &Case<R>, level: SimdLevel, tolerance: f64) {
    let what = |part: &str| format!("{} at {level}: {part}", case.name);
    let params = case.params("param", "buffer");
    for (mode, tensor) in [
        (Mode::TrainFrozen, "out.y_hat_eval"),
        (Mode::Train, "out.y_hat"),
    ] {
        let found = forecast(case, &params, mode, level);
        assert_norm_close(
            &what(tensor),
            &found,
            case.golden.values(tensor),
            tolerance,
            0.0,
        );
    }
    let mut engine = GradientEngine::<R>::new();
    let objective = Objective {
        network: &*case.network,
        loss: &*case.loss,
    };
    let step = StepOptions {
        options: options(level),
        key: Default::default(),
        mode: Mode::Train,
        loss_scale: 1.0,
        first_row: 0,
    };
    let found = engine
        .compute(objective, &params, &case.batch, step)
        .expect("a finite loss");
    let wanted = case.golden.values("out.loss");
    assert_norm_close(&what("loss"), &[found.loss], wanted, tolerance, 0.0);
    let layout = case.network.layout();
    let largest = case.golden.names("grad.").flat_map(|name| {
        case.golden
            .values(&format!("grad.{name}"))
            .iter()
            .map(|g| g.abs())
    });
    let largest = largest.fold(0.0, f64::max);
    for id in layout.ids() {
        let entry = layout.entry(id);
        if !entry.kind.is_trainable() {
            continue;
        }
        let found: Vec<f64> = engine
            .gradients()
            .get(id)
            .iter()
            .map(|g| g.to_f64() * found.factor)
            .collect();
        let wanted = case.ours("grad", entry);
        // Gradients that are rounding alone are compared with the largest of the network.
        let rounding = if R::EPSILON.to_f64() < 1e-10 {
            1e-14
        } else {
            1e-6
        };
        let absolute = rounding * largest;
        assert_norm_close(&what(&entry.name), &found, &wanted, tolerance, absolute);
    }
}

/// The optimizer of a golden case, its learning rate at each step, and its clipping.
fn optimizer<R: Real>(case: &Case<R>) -> (Optimizer, Vec<f64>, Clip) {
    let about: Value = serde_json::from_str(case.golden.metadata("optimizer")).expect("JSON");
    let number = |key: &str| about[key].as_f64();
    let optimizer = match about["name"].as_str() {
        Some("Adam") => Optimizer::adam(),
        Some("AdamW") => match Optimizer::adamw() {
            Optimizer::AdamW {
                beta1, beta2, eps, ..
            } => Optimizer::AdamW {
                beta1,
                beta2,
                eps,
                weight_decay: number("weight_decay").expect("a number"),
            },
            other => other,
        },
        other => panic!("an optimizer {other:?}"),
    };
    let rates = if case.golden.has("out.lr_trace") {
        case.golden.values("out.lr_trace").to_vec()
    } else {
        vec![number("lr").expect("a number"); STEPS]
    };
    let clip = number("clip_norm").map_or(Clip::Off, Clip::Norm);
    (optimizer, rates, clip)
}

/// Ten steps of the real training step.
fn ten_steps(case: &Case<f64>, level: SimdLevel) {
    let what = |part: &str| format!("{} at {level}: {part}", case.name);
    let (optimizer, rates, clip) = optimizer(case);
    let mut params = case.params("param", "buffer");
    let layout = Arc::clone(case.network.layout());
    let mut state = TrainState::new(&layout, 0, optimizer.moments());
    let mut train = TrainStep::<f64>::new(optimizer, clip);
    let objective = Objective {
        network: &*case.network,
        loss: &*case.loss,
    };
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    for &rate in &rates {
        let report = train
            .run(
                objective,
                &mut params,
                &mut state,
                &case.batch,
                options(level),
                rate,
            )
            .expect("a finite step");
        losses.push(report.loss);
        norms.push(report.gradient_norm);
    }
    let golden = &case.golden;
    assert_norm_close(
        &what("losses"),
        &losses,
        golden.values("out.loss_trace"),
        F64_TOLERANCE,
        0.0,
    );
    if golden.has("out.grad_norm_trace") {
        let wanted = golden.values("out.grad_norm_trace");
        assert_norm_close(&what("norms"), &norms, wanted, F64_TOLERANCE, 0.0);
    }
    let after = if golden.has("out.lr_trace") {
        "adamw10"
    } else {
        "adam10"
    };
    for id in layout.ids() {
        let entry = layout.entry(id);
        let prefix = match entry.kind {
            ParamKind::Buffer => "buffer_after",
            _ => after,
        };
        if WITHOUT_EFFECT.iter().any(|name| entry.name.ends_with(name)) {
            // Adam divides the rounding of their gradients by its own size.
            continue;
        }
        let wanted = case.ours(prefix, entry);
        assert_norm_close(
            &what(&entry.name),
            params.get(id),
            &wanted,
            F64_TOLERANCE,
            0.0,
        );
    }
    let theirs = case.params(after, "buffer_after");
    let found = forecast(case, &theirs, Mode::Infer, level);
    let wanted = golden.values("out.y_hat_eval10");
    assert_norm_close(&what("y_hat_eval10"), &found, wanted, F64_TOLERANCE, 0.0);
}

#[test]
fn there_are_golden_files_for_every_model() {
    let names = support::names();
    for entry in nd_models::zoo::ZOO {
        let prefix = entry.name.to_lowercase();
        let count = names
            .iter()
            .filter(|name| name.split('_').next() == Some(&prefix))
            .count();
        assert!(count >= 4, "{count} golden files of {}", entry.name);
    }
}

#[test]
fn there_are_golden_files_with_exogenous_variables() {
    for entry in nd_models::zoo::ZOO
        .iter()
        .filter(|entry| entry.uses_exogenous)
    {
        let name = format!("{}_exog", entry.name.to_lowercase());
        let batch = Case::<f64>::read(&name).batch;
        let layout = batch.layout();
        let counts = (layout.hist_exog, layout.futr_exog, layout.stat_exog);
        assert_eq!(counts, (2, 3, 1), "{name}");
        assert!(batch.hist_exog.iter().all(|&x| x != 0.0), "{name}");
    }
}

#[test]
fn forecasts_and_gradients_in_f64() {
    for name in support::names() {
        let case = Case::<f64>::read(&name);
        for level in SimdLevel::supported() {
            first_step(&case, level, F64_TOLERANCE);
        }
    }
}

#[test]
fn forecasts_and_gradients_in_f32() {
    for name in support::names() {
        let case = Case::<f32>::read(&name);
        for level in SimdLevel::supported() {
            first_step(&case, level, F32_TOLERANCE);
        }
    }
}

#[test]
fn ten_optimizer_steps() {
    for name in support::names() {
        let case = Case::<f64>::read(&name);
        for level in SimdLevel::supported() {
            ten_steps(&case, level);
        }
    }
}

#[test]
fn frozen_tables_are_computed_as_neuralforecast_does() {
    for name in support::names() {
        let case = Case::<f64>::read(&name);
        let params = Params::<f64>::init(case.network.layout(), 0);
        let layout = case.network.layout();
        for id in layout.ids() {
            let entry = layout.entry(id);
            if entry.kind == ParamKind::Frozen {
                let wanted = case.ours("param", entry);
                assert_norm_close(&entry.name, params.get(id), &wanted, 1e-14, 1e-14);
            }
        }
    }
}
