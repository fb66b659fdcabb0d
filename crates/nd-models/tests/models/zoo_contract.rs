//! What every model of the table promises, checked by going through the table.

use std::sync::Arc;

use nd_core::autograd::{Mode, ParamGrads, Params, StepContext, Tape};
use nd_core::rng::Key;
use nd_core::{Batch, BatchLayout, Loss, Network, Objective, RowCoupling, RunOptions};
use nd_models::loss::{LossConfig, LossKind};
use nd_models::zoo::{ModelKind, ZOO, ZooEntry};
use nd_models::{ModelConfig, ModelDims};
use nd_parallel::{GradientEngine, ShardPlan, StepOptions};
use nd_testing::cases::{normals, uniforms};
use nd_testing::{assert_close, assert_norm_close};
use serde_json::{Value, json};

/// A small instance of a model: the defaults with narrow layers.
fn small(entry: &ZooEntry) -> ModelConfig {
    let Ok(Value::Object(mut settings)) = serde_json::to_value((entry.config)()) else {
        panic!("settings are an object");
    };
    for (name, value) in [
        ("hidden_size", json!(8)),
        ("linear_hidden_size", json!(6)),
        ("mlp_units", json!([[5, 6], [6, 7], [7, 5]])),
        ("encoder_hidden_size", json!(5)),
        ("decoder_hidden_size", json!(6)),
        ("encoder_layers", json!(2)),
        ("n_heads", json!(2)),
        ("patch_len", json!(6)),
        ("stride", json!(3)),
    ] {
        if let Some(slot) = settings.get_mut(name) {
            *slot = value;
        }
    }
    serde_json::from_value(Value::Object(settings)).expect("small settings")
}

/// Without dropout, so that two passes can be compared.
fn still(config: &ModelConfig) -> ModelConfig {
    let Ok(Value::Object(mut settings)) = serde_json::to_value(config) else {
        panic!("settings are an object");
    };
    for (name, value) in &mut settings {
        if name.contains("dropout") {
            *value = json!(0.0);
        }
    }
    serde_json::from_value(Value::Object(settings)).expect("settings")
}

fn dims(entry: &ZooEntry, outputs: usize) -> ModelDims {
    let with = usize::from(entry.uses_exogenous);
    ModelDims {
        hist_exog: 2 * with,
        futr_exog: with,
        stat_exog: 3 * with,
        ..ModelDims::univariate(13, 5).with_outputs(outputs)
    }
}

fn batch(layout: BatchLayout, rows: usize) -> Batch<f64> {
    let mut batch = Batch::new(layout);
    batch.resize(rows);
    let fill = |values: &mut Vec<f64>, seed| *values = normals(seed, values.len());
    fill(&mut batch.insample_y, 1);
    fill(&mut batch.outsample_y, 2);
    fill(&mut batch.hist_exog, 3);
    fill(&mut batch.futr_exog, 4);
    fill(&mut batch.stat_exog, 5);
    batch.insample_mask = uniforms(6, batch.insample_mask.len(), 0.0, 1.0);
    for mask in &mut batch.insample_mask {
        *mask = f64::from(u8::from(*mask > 0.2));
    }
    batch.outsample_mask.fill(1.0);
    batch.outsample_mask[1] = 0.0;
    batch.scale.fill(1.0);
    batch
}

struct Instance {
    name: &'static str,
    network: Box<dyn Network<f64>>,
    loss: Box<dyn Loss<f64>>,
    params: Arc<Params<f64>>,
    batch: Batch<f64>,
}

fn instance(entry: &ZooEntry, config: &ModelConfig, kind: LossKind, rows: usize) -> Instance {
    let loss = LossConfig::from(kind).build::<f64>(5).expect("a loss");
    let dims = dims(entry, loss.outputs_per_step());
    let network = config.build::<f64>(&dims).expect("a network");
    let params = Arc::new(Params::init(network.layout(), 3));
    Instance {
        name: entry.name,
        network,
        loss,
        params,
        batch: batch(dims.layout(), rows),
    }
}

impl Instance {
    fn forecast(&self, mode: Mode, first_row: usize, rows: std::ops::Range<usize>) -> Vec<f64> {
        let mut tape = Tape::default();
        tape.begin(StepContext {
            mode,
            key: Key::new(7),
            first_row,
            ..StepContext::new(Some(Arc::clone(&self.params)))
        });
        let raw = self.network.forward(&tape, &self.batch.view(rows.clone()));
        let outputs = self.loss.outputs_per_step();
        assert_eq!(
            &*raw.shape(),
            &[rows.len(), 5, outputs],
            "outputs of {}",
            self.name
        );
        raw.value().to_vec()
    }

    fn loss_of(&self, params: &Params<f64>) -> f64 {
        let mut tape = Tape::default();
        let batch = self.batch.all();
        tape.begin(StepContext {
            mode: Mode::TrainFrozen,
            ..StepContext::new(Some(Arc::new(params.clone())))
        });
        let raw = self.network.forward(&tape, &batch).value().to_vec();
        let sum = self.loss.forward(RunOptions::default().simd, &raw, &batch);
        self.loss.finish(sum, self.loss.total_weight(&batch)).value
    }

    fn gradients(&self, mode: Mode, plan: Option<ShardPlan>) -> (f64, GradientEngine<f64>) {
        let mut engine = GradientEngine::new();
        if let Some(plan) = plan {
            engine = engine.with_plan(plan);
        }
        let objective = Objective {
            network: &*self.network,
            loss: &*self.loss,
        };
        let step = StepOptions {
            options: RunOptions::default(),
            key: Key::new(11),
            mode,
            loss_scale: 1.0,
            first_row: 0,
        };
        let found = engine
            .compute(objective, &self.params, &self.batch, step)
            .unwrap_or_else(|error| panic!("{}: {error:?}", self.name));
        (found.loss, engine)
    }
}

#[test]
fn forecasts_have_their_shape_and_are_finite() {
    for entry in ZOO {
        for kind in [LossKind::Mae, LossKind::multi_quantile(&[80.0])] {
            for rows in [1, 3] {
                let one = instance(entry, &small(entry), kind.clone(), rows);
                for mode in [Mode::Infer, Mode::InferWithDropout, Mode::Train] {
                    let forecast = one.forecast(mode, 0, 0..rows);
                    assert!(
                        forecast.iter().all(|x| x.is_finite()),
                        "{}: {forecast:?}",
                        one.name
                    );
                }
            }
        }
    }
}

#[test]
fn default_sizes_are_built_and_run() {
    for entry in ZOO {
        let dims = ModelDims::univariate(48, 12);
        let network = (entry.config)()
            .build::<f32>(&dims)
            .expect("the default network");
        let params = Arc::new(Params::init(network.layout(), 1));
        let mut batch = Batch::<f32>::new(dims.layout());
        batch.resize(2);
        batch.insample_y = normals(1, 96);
        batch.insample_mask.fill(1.0);
        let mut tape = Tape::default();
        tape.begin(StepContext {
            mode: Mode::Infer,
            ..StepContext::new(Some(params))
        });
        let raw = network.forward(&tape, &batch.all());
        assert!(raw.value().iter().all(|x| x.is_finite()), "{}", entry.name);
    }
}

/// With narrow layers, all units of a ReLU may be off; so a few initial values are tried.
#[test]
fn gradients_reach_every_parameter() {
    for entry in ZOO {
        let mut one = instance(entry, &still(&small(entry)), LossKind::Mse, 6);
        let layout = Arc::clone(one.network.layout());
        let mut missing: Vec<_> = layout
            .ids()
            .filter(|&id| layout.entry(id).kind.is_trainable())
            .collect();
        for seed in 0..10 {
            one.params = Arc::new(Params::init(&layout, seed));
            let (_, engine) = one.gradients(Mode::Train, None);
            missing.retain(|&id| engine.gradients().get(id).iter().all(|&g| g == 0.0));
        }
        let missing: Vec<_> = missing.iter().map(|&id| &layout.entry(id).name).collect();
        assert!(
            missing.is_empty(),
            "{}: no gradient at {missing:?}",
            entry.name
        );
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for entry in ZOO {
        for kind in [LossKind::Mse, LossKind::multi_quantile(&[80.0])] {
            let one = instance(entry, &still(&small(entry)), kind, 4);
            let mut grads = ParamGrads::new(one.network.layout());
            let mut tape = Tape::default();
            let batch = one.batch.all();
            tape.begin(StepContext {
                mode: Mode::TrainFrozen,
                ..StepContext::new(Some(Arc::clone(&one.params)))
            });
            let raw = one.network.forward(&tape, &batch);
            let mut dy = tape.scratch(raw.shape().numel());
            let scale = 1.0 / one.loss.total_weight(&batch);
            let simd = RunOptions::default().simd;
            one.loss
                .backward(simd, &raw.value(), &batch, scale, &mut dy);
            let root = raw.id();
            tape.backward(root, dy, Some(&mut grads));
            grads.finish();
            let layout = one.network.layout();
            for id in layout
                .ids()
                .filter(|&id| layout.entry(id).kind.is_trainable())
            {
                let len = layout.range(id).len();
                // A few elements of each parameter, the first and the last among them.
                for at in (0..len).step_by(1 + len / 4).chain([len - 1]) {
                    let moved = |step: f64| {
                        let mut params = (*one.params).clone();
                        params.get_mut(id)[at] += step;
                        one.loss_of(&params)
                    };
                    let wanted = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                    let what = format!("{} {}[{at}]", one.name, layout.entry(id).name);
                    assert_close(&what, &[grads.get(id)[at]], &[wanted], 1e-8, 1e-5);
                }
            }
        }
    }
}

#[test]
fn rows_do_not_influence_each_other_unless_declared() {
    for entry in ZOO {
        let one = instance(entry, &small(entry), LossKind::Mae, 5);
        // In inference no network may mix rows; in training only those that say so.
        let mut modes = vec![Mode::Infer];
        if one.network.coupling() == RowCoupling::RowLocal {
            modes.push(Mode::Train);
        }
        for mode in modes {
            let whole = one.forecast(mode, 0, 0..5);
            let part = one.forecast(mode, 2, 2..4);
            let what = format!("{} {mode:?}", one.name);
            assert_close(&what, &part, &whole[2 * 5..4 * 5], 1e-13, 1e-12);
        }
    }
}

#[test]
fn shards_give_the_gradients_of_the_whole_batch() {
    for entry in ZOO {
        // Dropout is on: its masks belong to windows, not to shards.
        let one = instance(entry, &small(entry), LossKind::Mse, 7);
        if one.network.coupling() == RowCoupling::BatchWide {
            continue;
        }
        let (whole_loss, whole) = one.gradients(Mode::Train, Some(ShardPlan::Whole));
        for rows in [1, 3] {
            let (loss, shards) = one.gradients(Mode::Train, Some(ShardPlan::Rows(rows)));
            assert_close(one.name, &[loss], &[whole_loss], 1e-13, 1e-12);
            let (got, want) = (shards.gradients().flat(), whole.gradients().flat());
            assert_norm_close(one.name, got, want, 1e-12, 1e-14);
        }
    }
}

#[test]
fn nothing_looks_ahead() {
    for entry in ZOO {
        let mut one = instance(entry, &small(entry), LossKind::Mae, 3);
        let before = one.forecast(Mode::Infer, 0, 0..3);
        one.batch.outsample_y.fill(f64::NAN);
        one.batch.outsample_original.fill(f64::NAN);
        one.batch.outsample_mask.fill(0.0);
        assert_eq!(before, one.forecast(Mode::Infer, 0, 0..3), "{}", one.name);
    }
}

#[test]
fn every_input_is_looked_at() {
    for entry in ZOO {
        let mut one = instance(entry, &still(&small(entry)), LossKind::Mae, 2);
        one.batch.insample_mask.fill(1.0);
        let before = one.forecast(Mode::Infer, 0, 0..2);
        type Field = fn(&mut Batch<f64>) -> &mut Vec<f64>;
        let fields: [Field; 4] = [
            |batch| &mut batch.insample_y,
            |batch| &mut batch.hist_exog,
            |batch| &mut batch.futr_exog,
            |batch| &mut batch.stat_exog,
        ];
        for (number, field) in fields.into_iter().enumerate() {
            let len = field(&mut one.batch).len();
            for at in [0, len.wrapping_sub(1)] {
                if len == 0 {
                    continue;
                }
                // Large, so that it wins a maximum.
                field(&mut one.batch)[at] += 10.0;
                let after = one.forecast(Mode::Infer, 0, 0..2);
                assert_ne!(before, after, "{}: field {number}, element {at}", one.name);
                field(&mut one.batch)[at] -= 10.0;
            }
        }
    }
}

#[test]
fn entries_say_what_is_true() {
    for entry in ZOO {
        assert_eq!(entry.kind, ModelKind::Univariate, "{}", entry.name);
        let with = ModelDims {
            hist_exog: 1,
            futr_exog: 1,
            stat_exog: 1,
            ..ModelDims::univariate(12, 4)
        };
        let built = (entry.config)().build::<f32>(&with);
        assert_eq!(built.is_ok(), entry.uses_exogenous, "{}", entry.name);
    }
}

#[test]
fn a_batch_of_another_layout_is_refused() {
    for entry in ZOO {
        let one = instance(entry, &small(entry), LossKind::Mae, 2);
        let other = batch(BatchLayout::univariate(12, 5), 2);
        let mut tape = Tape::default();
        tape.begin(StepContext::new(Some(Arc::clone(&one.params))));
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = one.network.forward(&tape, &other.all());
        }));
        assert!(refused.is_err(), "{}", entry.name);
    }
}
