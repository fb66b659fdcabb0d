//! Every model there is: its name, its configuration and what it is trained with unless told otherwise.
//!
//! A model is added by one file in `models/`, one variant of [`ModelConfig`] and one entry of [`ZOO`]; the contract tests go
//! through the table, so the new model is tested with it. The defaults are NeuralForecast 3.3.0's.

use nd_core::Network;
use nd_data::WindowScaler;
use nd_simd::SimdReal;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::models::{
    DLinear, DLinearConfig, Lstm, LstmConfig, Mlp, MlpConfig, NLinear, NLinearConfig, Nbeats,
    NbeatsConfig, Nhits, NhitsConfig, PatchTst, PatchTstConfig,
};
use crate::nn::ModelDims;

/// A model and all its settings.
///
/// ```
/// use nd_models::{ModelConfig, ModelDims};
/// let config: ModelConfig = serde_json::from_str(r#"{"model": "MLP", "hidden_size": 64}"#)?;
/// let network = config.build::<f32>(&ModelDims::univariate(24, 12))?;
/// assert_eq!(network.layout().trainable_count(), 24 * 64 + 64 + 64 * 64 + 64 + 64 * 12 + 12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model")]
#[non_exhaustive]
pub enum ModelConfig {
    /// A linear layer for the moving average and one for the rest.
    DLinear(DLinearConfig),
    /// A linear layer on the distance from the last value.
    NLinear(NLinearConfig),
    /// Linear layers with ReLU.
    #[serde(rename = "MLP")]
    Mlp(MlpConfig),
    /// Blocks that interpolate their forecasts.
    #[serde(rename = "NHITS")]
    Nhits(NhitsConfig),
    /// Blocks that forecast in a basis.
    #[serde(rename = "NBEATS")]
    Nbeats(NbeatsConfig),
    /// A recurrent encoder and an MLP.
    #[serde(rename = "LSTM")]
    Lstm(LstmConfig),
    /// A transformer on patches of the window.
    #[serde(rename = "PatchTST")]
    PatchTst(PatchTstConfig),
}

/// What a model is trained with unless told otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingDefaults {
    /// The first learning rate.
    pub learning_rate: f64,
    /// Steps of the optimizer.
    pub max_steps: u64,
    /// How often the learning rate is halved on the way; 0 for never.
    pub num_lr_decays: u64,
    /// Windows of a step.
    pub windows_batch_size: usize,
    /// Windows of a forward pass that does not train; `None` for all at once.
    pub inference_windows_batch_size: Option<usize>,
    /// How windows are scaled.
    pub scaler: WindowScaler,
}

/// What a row of a model's batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModelKind {
    /// A window of one series.
    Univariate,
    /// A time slice of all series.
    Multivariate,
}

/// One model of the table.
#[derive(Clone, Copy, Debug)]
pub struct ZooEntry {
    /// The name, as in NeuralForecast.
    pub name: &'static str,
    /// The paper or the idea, in a few words.
    pub summary: &'static str,
    /// What a row of its batch holds.
    pub kind: ModelKind,
    /// Whether it uses exogenous variables.
    pub uses_exogenous: bool,
    /// Its settings unless told otherwise.
    pub config: fn() -> ModelConfig,
    /// What it is trained with unless told otherwise.
    pub training: TrainingDefaults,
}

/// What most models are trained with.
const COMMON: TrainingDefaults = TrainingDefaults {
    learning_rate: 1e-3,
    max_steps: 1000,
    num_lr_decays: 0,
    windows_batch_size: 1024,
    inference_windows_batch_size: None,
    scaler: WindowScaler::Identity,
};

/// What models with a small learning rate are trained with.
const SLOW: TrainingDefaults = TrainingDefaults {
    learning_rate: 1e-4,
    max_steps: 5000,
    inference_windows_batch_size: Some(1024),
    ..COMMON
};

/// Every model.
pub const ZOO: &[ZooEntry] = &[
    ZooEntry {
        name: "DLinear",
        summary: "trend and remainder, a linear layer each (AAAI 2023)",
        kind: ModelKind::Univariate,
        uses_exogenous: false,
        config: || ModelConfig::DLinear(DLinearConfig::default()),
        training: SLOW,
    },
    ZooEntry {
        name: "NLinear",
        summary: "a linear layer on the distance from the last value (AAAI 2023)",
        kind: ModelKind::Univariate,
        uses_exogenous: false,
        config: || ModelConfig::NLinear(NLinearConfig::default()),
        training: SLOW,
    },
    ZooEntry {
        name: "MLP",
        summary: "linear layers with ReLU",
        kind: ModelKind::Univariate,
        uses_exogenous: true,
        config: || ModelConfig::Mlp(MlpConfig::default()),
        training: COMMON,
    },
    ZooEntry {
        name: "NHITS",
        summary: "hierarchical interpolation (AAAI 2023)",
        kind: ModelKind::Univariate,
        uses_exogenous: true,
        config: || ModelConfig::Nhits(NhitsConfig::default()),
        training: TrainingDefaults {
            num_lr_decays: 3,
            ..COMMON
        },
    },
    ZooEntry {
        name: "NBEATS",
        summary: "basis expansion (ICLR 2020)",
        kind: ModelKind::Univariate,
        uses_exogenous: false,
        config: || ModelConfig::Nbeats(NbeatsConfig::default()),
        training: TrainingDefaults {
            num_lr_decays: 3,
            ..COMMON
        },
    },
    ZooEntry {
        name: "LSTM",
        summary: "a recurrent encoder and an MLP decoder (Neural Computation 1997)",
        kind: ModelKind::Univariate,
        uses_exogenous: true,
        config: || ModelConfig::Lstm(LstmConfig::default()),
        training: TrainingDefaults {
            windows_batch_size: 128,
            inference_windows_batch_size: Some(1024),
            scaler: WindowScaler::Robust,
            ..COMMON
        },
    },
    ZooEntry {
        name: "PatchTST",
        summary: "a transformer on patches (ICLR 2023)",
        kind: ModelKind::Univariate,
        uses_exogenous: false,
        config: || ModelConfig::PatchTst(PatchTstConfig::default()),
        training: SLOW,
    },
];

impl ModelConfig {
    /// The default settings of the model with this name; upper and lower case are one.
    ///
    /// # Errors
    /// There is no such model.
    pub fn default_for(name: &str) -> Result<Self, ModelError> {
        ZooEntry::find(name).map(|entry| (entry.config)())
    }

    /// Whether dropout drops anything with these settings, so that forecasts can be drawn at random.
    #[must_use]
    pub fn has_dropout(&self) -> bool {
        match self {
            Self::Lstm(config) => config.encoder_dropout > 0.0 && config.encoder_n_layers > 1,
            Self::Nhits(config) => config.dropout_prob_theta > 0.0,
            Self::PatchTst(config) => {
                config.dropout > 0.0 || config.head_dropout > 0.0 || config.attn_dropout > 0.0
            }
            _ => false,
        }
    }

    /// The model's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::DLinear(_) => "DLinear",
            Self::NLinear(_) => "NLinear",
            Self::Mlp(_) => "MLP",
            Self::Nhits(_) => "NHITS",
            Self::Nbeats(_) => "NBEATS",
            Self::Lstm(_) => "LSTM",
            Self::PatchTst(_) => "PatchTST",
        }
    }

    /// The model's entry in the table.
    #[must_use]
    pub fn entry(&self) -> &'static ZooEntry {
        let found = ZOO.iter().find(|entry| entry.name == self.name());
        found.expect("every model has an entry")
    }

    /// Values that are computed while the network is built; known without building it.
    pub(crate) fn table_values(&self, dims: &ModelDims) -> usize {
        match self {
            Self::Nbeats(config) => config.table_values(dims),
            _ => 0,
        }
    }

    /// The network, for given sizes of data and loss.
    ///
    /// # Errors
    /// Settings are out of range or do not fit together or with the sizes.
    pub fn build<R: SimdReal>(&self, dims: &ModelDims) -> Result<Box<dyn Network<R>>, ModelError> {
        Ok(match self {
            Self::DLinear(config) => Box::new(DLinear::new(config, dims)?),
            Self::NLinear(config) => Box::new(NLinear::new(config, dims)?),
            Self::Mlp(config) => Box::new(Mlp::new(config, dims)?),
            Self::Nhits(config) => Box::new(Nhits::new(config, dims)?),
            Self::Nbeats(config) => Box::new(Nbeats::new(config, dims)?),
            Self::Lstm(config) => Box::new(Lstm::new(config, dims)?),
            Self::PatchTst(config) => Box::new(PatchTst::new(config, dims)?),
        })
    }
}

impl ZooEntry {
    /// The entry of the model with this name; upper and lower case are one.
    ///
    /// # Errors
    /// There is no such model.
    pub fn find(name: &str) -> Result<&'static Self, ModelError> {
        let found = ZOO
            .iter()
            .find(|entry| entry.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| ModelError::UnknownModel {
            found: name.to_owned(),
            known: ZOO
                .iter()
                .map(|entry| entry.name)
                .collect::<Vec<_>>()
                .join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_survives_json() {
        for entry in ZOO {
            let config = ModelConfig::default_for(&entry.name.to_lowercase()).unwrap();
            assert_eq!(config.name(), entry.name);
            assert_eq!(config.entry().name, entry.name);
            let text = serde_json::to_string(&config).unwrap();
            assert!(
                text.starts_with(&format!(r#"{{"model":"{}""#, entry.name)),
                "{text}"
            );
            assert_eq!(serde_json::from_str::<ModelConfig>(&text).unwrap(), config);
            let bare = format!(r#"{{"model":"{}"}}"#, entry.name);
            assert_eq!(serde_json::from_str::<ModelConfig>(&bare).unwrap(), config);
            let typo = format!(r#"{{"model":"{}","hiden_size":3}}"#, entry.name);
            assert!(
                serde_json::from_str::<ModelConfig>(&typo).is_err(),
                "{typo}"
            );
        }
    }

    #[test]
    fn the_numbers_of_parameters_are_those_of_neuralforecast() {
        let dims = ModelDims::univariate(96, 24);
        for (name, count) in [
            ("DLinear", 4656),
            ("NLinear", 2328),
            ("MLP", 1_173_528),
            ("NHITS", 2_633_034),
            ("LSTM", 215_809),
            ("NBEATS", 2_624_730),
            ("PatchTST", 438_040),
        ] {
            let network = ModelConfig::default_for(name)
                .unwrap()
                .build::<f32>(&dims)
                .unwrap();
            assert_eq!(network.layout().trainable_count(), count, "{name}");
        }
    }

    #[test]
    fn an_unknown_model_is_told_what_there_is() {
        let error = ModelConfig::default_for("NHIT").unwrap_err().to_string();
        assert!(
            error.contains("NHIT") && error.contains("DLinear, NLinear"),
            "{error}"
        );
    }

    #[test]
    fn what_cannot_be_built_says_why() {
        let dims = ModelDims::univariate(12, 4);
        let with_history = ModelDims {
            hist_exog: 1,
            ..dims
        };
        let one_step = ModelDims::univariate(12, 1);
        for (json, dims, words) in [
            (
                r#"{"model":"DLinear","moving_avg_window":4}"#,
                dims,
                "must be odd",
            ),
            (
                r#"{"model":"DLinear"}"#,
                ModelDims::univariate(0, 4),
                "input_size is 0",
            ),
            (
                r#"{"model":"NLinear"}"#,
                with_history,
                "uses the target alone",
            ),
            (r#"{"model":"MLP","num_layers":0}"#, dims, "at least 1"),
            (
                r#"{"model":"NHITS","n_blocks":[1]}"#,
                dims,
                "one entry for each",
            ),
            (
                r#"{"model":"NHITS","mlp_units":[[4,5],[4,4]]}"#,
                dims,
                "mlp_units",
            ),
            (
                r#"{"model":"NHITS","dropout_prob_theta":1.0}"#,
                dims,
                "below 1",
            ),
            (r#"{"model":"NBEATS"}"#, one_step, "horizon of at least 2"),
            (r#"{"model":"NBEATS","basis":"spline"}"#, dims, "at least 3"),
            (
                r#"{"model":"LSTM","decoder_layers":0}"#,
                dims,
                "decoder_layers is 0",
            ),
            (
                r#"{"model":"LSTM","recurrent":true}"#,
                dims,
                "leave it false",
            ),
            (
                r#"{"model":"PatchTST","n_heads":5}"#,
                dims,
                "multiple of n_heads",
            ),
        ] {
            let config: ModelConfig = serde_json::from_str(json).unwrap();
            let Err(error) = config.build::<f32>(&dims) else {
                panic!("{json} was built");
            };
            let error = error.to_string();
            assert!(error.contains(words), "{json}: {error}");
        }
    }
}
