//! A golden case of NeuralForecast as a network, a loss, parameters and a batch of ours.

#![allow(dead_code, reason = "each test uses a part of what is here")]

use std::path::PathBuf;
use std::sync::Arc;

use nd_core::autograd::{ParamEntry, ParamKind, Params};
use nd_core::{Batch, Loss, Network, Real};
use nd_models::loss::{LossConfig, LossKind, Quantiles};
use nd_models::{ModelConfig, ModelDims};
use nd_simd::SimdReal;
use nd_testing::Golden;
use serde_json::{Map, Value};

pub(crate) struct Case<R: Real> {
    pub(crate) name: String,
    pub(crate) golden: Golden,
    pub(crate) config: ModelConfig,
    pub(crate) network: Box<dyn Network<R>>,
    pub(crate) loss: Box<dyn Loss<R>>,
    pub(crate) batch: Batch<R>,
}

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The names of all model cases.
pub(crate) fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder of golden files")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .map(|path| {
            path.file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name != "losses")
        .collect();
    names.sort();
    names
}

/// The settings of ours that NeuralForecast's constructor was given.
fn config(model: &str, args: &Map<String, Value>) -> ModelConfig {
    let defaults = serde_json::to_value(ModelConfig::default_for(model).expect("a model"))
        .expect("settings are JSON");
    let Value::Object(mut settings) = defaults else {
        panic!("settings are an object");
    };
    for (name, value) in &mut settings {
        match args.get(name) {
            Some(Value::Null) | None => {}
            Some(given) => *value = given.clone(),
        }
    }
    serde_json::from_value(Value::Object(settings)).expect("settings of a golden case")
}

/// The loss that a golden file names.
pub(crate) fn loss_kind(name: &str, args: &Map<String, Value>) -> LossKind {
    let number = |key: &str| args[key].as_f64().expect("a number");
    let quantiles = || {
        let levels = args["level"].as_array().expect("levels");
        Quantiles::Level(
            levels
                .iter()
                .map(|l| l.as_f64().expect("a level"))
                .collect(),
        )
    };
    match name {
        "MAE" => LossKind::Mae,
        "MSE" => LossKind::Mse,
        "RMSE" => LossKind::Rmse,
        "MAPE" => LossKind::Mape,
        "SMAPE" => LossKind::Smape,
        "MASE" => LossKind::Mase {
            seasonality: number("seasonality") as usize,
        },
        "HuberLoss" => LossKind::Huber {
            delta: number("delta"),
        },
        "TukeyLoss" => LossKind::NeuralForecastTukey {
            c: number("c"),
            normalize: args["normalize"].as_bool().expect("a truth value"),
        },
        "QuantileLoss" => LossKind::Quantile { q: number("q") },
        "MQLoss" => LossKind::MultiQuantile {
            quantiles: quantiles(),
        },
        "HuberQLoss" => LossKind::HuberQuantile {
            q: number("q"),
            delta: number("delta"),
        },
        "HuberMQLoss" => LossKind::HuberMultiQuantile {
            quantiles: quantiles(),
            delta: number("delta"),
        },
        "FreDF" => LossKind::FreDf {
            alpha: number("alpha"),
        },
        other => panic!("the golden files have a loss {other} that is not known here"),
    }
}

fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).expect("a JSON object")
}

impl<R: SimdReal> Case<R> {
    pub(crate) fn read(name: &str) -> Self {
        let golden = Golden::read(folder().join(format!("{name}.safetensors")));
        let args = object(golden.metadata("args"));
        let kind = loss_kind(
            golden.metadata("loss"),
            &object(golden.metadata("loss_args")),
        );
        let (inputs, targets) = (
            golden.shape("in.insample_y"),
            golden.shape("in.outsample_y"),
        );
        let (rows, input_size, horizon) = (inputs[0], inputs[1], targets[1]);
        let loss = LossConfig::from(kind).build::<R>(horizon).expect("a loss");
        let variables = |tensor: &str| {
            if golden.has(tensor) {
                golden.shape(tensor).last().copied().unwrap_or(0)
            } else {
                0
            }
        };
        let dims = ModelDims {
            hist_exog: variables("in.hist_exog"),
            futr_exog: variables("in.futr_exog"),
            stat_exog: variables("in.stat_exog"),
            ..ModelDims::univariate(input_size, horizon).with_outputs(loss.outputs_per_step())
        };
        let config = config(golden.metadata("model"), &args);
        let network = config.build::<R>(&dims).expect("a network");
        let mut batch = Batch::new(dims.layout());
        batch.resize(rows);
        batch.insample_y = golden.rounded("in.insample_y");
        batch.insample_mask = golden.rounded("in.insample_mask");
        batch.outsample_y = golden.rounded("in.outsample_y");
        batch.outsample_mask = golden.rounded("in.outsample_mask");
        let fields = [
            ("in.hist_exog", &mut batch.hist_exog),
            ("in.futr_exog", &mut batch.futr_exog),
            ("in.stat_exog", &mut batch.stat_exog),
        ];
        for (tensor, field) in fields {
            if golden.has(tensor) {
                *field = golden.rounded(tensor);
            }
        }
        batch.outsample_original = batch.outsample_y.clone();
        batch.scale.fill(R::ONE);
        Self {
            name: name.to_owned(),
            golden,
            config,
            network,
            loss,
            batch,
        }
    }

    /// A tensor of NeuralForecast's in the layout of ours: dense and recurrent weights are transposed.
    pub(crate) fn ours(&self, prefix: &str, entry: &ParamEntry) -> Vec<f64> {
        let name = format!("{prefix}.{}", entry.name);
        let (shape, values) = (self.golden.shape(&name), self.golden.values(&name));
        let last = entry.name.rsplit('.').next().expect("a name");
        if shape.len() != 2 || !last.contains("weight") {
            assert_eq!(shape, &*entry.shape, "{name} of {}", self.name);
            return values.to_vec();
        }
        let (outputs, inputs) = (shape[0], shape[1]);
        assert_eq!([inputs, outputs], *entry.shape, "{name} of {}", self.name);
        let transposed = (0..inputs * outputs).map(|i| values[i % outputs * inputs + i / outputs]);
        transposed.collect()
    }

    /// Parameters and buffers with NeuralForecast's values: those of `param` or of a later state.
    pub(crate) fn params(&self, parameters: &str, buffers: &str) -> Arc<Params<R>> {
        let layout = self.network.layout();
        let mut params = Params::zeros(layout);
        let mut used = 0;
        for id in layout.ids() {
            let entry = layout.entry(id);
            let prefix = match entry.kind {
                ParamKind::Buffer => buffers,
                _ => parameters,
            };
            let values = self.ours(prefix, entry);
            for (slot, value) in params.get_mut(id).iter_mut().zip(values) {
                *slot = R::from_f64(value);
            }
            used += usize::from(prefix == parameters);
        }
        // Nothing of NeuralForecast's is left over, except for the constant scale of an attention.
        let prefix = format!("{parameters}.");
        let left = self
            .golden
            .names(&prefix)
            .filter(|name| !name.ends_with("sdp_attn.scale"));
        assert_eq!(left.count(), used, "parameters of {}", self.name);
        Arc::new(params)
    }
}
