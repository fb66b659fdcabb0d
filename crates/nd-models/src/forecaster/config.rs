//! All that defines a forecaster, and what is made of it.

use std::sync::Arc;

use nd_core::{Loss, Network, Objective};
use nd_data::{Exogenous, Frequency, Panel, WindowConfig, WindowScaler};
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::loss::{LossConfig, LossKind};
use crate::nn::ModelDims;
use crate::train::TrainConfig;
use crate::zoo::ModelConfig;

/// All that defines a forecaster; stored in its checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForecasterConfig {
    /// The architecture and its own settings.
    pub model: ModelConfig,
    /// Time steps that the model sees, `L`.
    pub input_size: usize,
    /// Time steps to forecast, `h`.
    pub horizon: usize,
    /// What training minimises, and with it which outputs a forecast has.
    pub loss: LossConfig,
    /// How each window is scaled.
    #[serde(with = "scaler_name")]
    pub scaler: WindowScaler,
    /// Columns known for the past only.
    #[serde(default)]
    pub hist_exog: Vec<String>,
    /// Columns known for past and future.
    #[serde(default)]
    pub futr_exog: Vec<String>,
    /// Columns with one value for each series.
    #[serde(default)]
    pub stat_exog: Vec<String>,
    /// The frequency of the data. A fit fills it in, and panels of another one are refused from then on; `None` accepts any.
    #[serde(
        default,
        with = "frequency_alias",
        skip_serializing_if = "Option::is_none"
    )]
    pub frequency: Option<Frequency>,
    /// How it is trained.
    pub train: TrainConfig,
}

/// A window scaler is stored by its name.
mod scaler_name {
    use nd_data::WindowScaler;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        scaler: &WindowScaler,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(scaler.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<WindowScaler, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// A frequency is stored by its alias.
mod frequency_alias {
    use nd_data::Frequency;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        frequency: &Option<Frequency>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match frequency {
            Some(frequency) => serializer.collect_str(frequency),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Frequency>, D::Error> {
        let alias = Option::<String>::deserialize(deserializer)?;
        let frequency = alias.map(|alias| alias.parse()).transpose();
        frequency.map_err(D::Error::custom)
    }
}

impl ForecasterConfig {
    pub(super) fn exogenous(&self) -> Exogenous {
        Exogenous {
            historic: self.hist_exog.clone(),
            future: self.futr_exog.clone(),
            statics: self.stat_exog.clone(),
        }
    }

    pub(super) fn windows(&self) -> WindowConfig {
        WindowConfig {
            step_size: self.train.step_size,
            val_size: self.train.val_size,
            start_padding: self.train.start_padding,
            input_availability: self.train.input_availability,
            target_availability: self.train.target_availability,
            ..WindowConfig::new(self.input_size, self.horizon)
        }
    }

    /// Checks all settings, and gives the sizes of the network; nothing is built for that.
    pub(super) fn validate(&self, given: Option<&GivenLoss>) -> Result<ModelDims, ModelError> {
        self.train.validate()?;
        self.loss.validate(self.horizon)?;
        let outputs_per_step = match self.given_loss(given)? {
            Some(loss) => loss.outputs_per_step(),
            None => self.loss.kind.output_names().len(),
        };
        let dims = ModelDims {
            input_size: self.input_size,
            horizon: self.horizon,
            outputs_per_step,
            hist_exog: self.hist_exog.len(),
            futr_exog: self.futr_exog.len(),
            stat_exog: self.stat_exog.len(),
        };
        dims.validate(self.model.name())?;
        if self.train.val_size > 0 && self.train.val_size < self.horizon {
            return Err(ModelError::config(
                "training",
                "val_size",
                self.train.val_size,
                format!(
                    "validation needs at least one whole horizon of {} steps, or 0 for none",
                    self.horizon
                ),
            ));
        }
        for (field, columns) in [
            ("hist_exog", &self.hist_exog),
            ("futr_exog", &self.futr_exog),
            ("stat_exog", &self.stat_exog),
        ] {
            let mut sorted: Vec<&str> = columns.iter().map(String::as_str).collect();
            sorted.sort_unstable();
            if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
                let expected = format!("a column can be named once: remove one {:?}", pair[0]);
                let model = self.model.name();
                return Err(ModelError::config(model, field, columns, expected));
            }
        }
        Ok(dims)
    }

    /// The loss of a user's that the configuration names, if it names one.
    fn given_loss<'g>(
        &self,
        given: Option<&'g GivenLoss>,
    ) -> Result<Option<&'g Arc<dyn Loss<f32>>>, ModelError> {
        let LossKind::Custom { loss } = &self.loss.kind else {
            return Ok(None);
        };
        let GivenLoss(given) =
            given.ok_or_else(|| ModelError::LossNeeded { loss: loss.clone() })?;
        if given.name() != *loss {
            return Err(ModelError::OtherLoss {
                expected: loss.clone(),
                found: given.name(),
            });
        }
        Ok(Some(given))
    }

    /// The network, for the sizes that [`ForecasterConfig::validate`] gave.
    pub(super) fn network(&self, dims: &ModelDims) -> Result<Box<dyn Network<f32>>, ModelError> {
        self.model.build(dims)
    }

    /// The loss: one of this library, or the one given.
    pub(super) fn loss(&self, given: Option<&GivenLoss>) -> Result<Arc<dyn Loss<f32>>, ModelError> {
        match self.given_loss(given)? {
            Some(loss) => Ok(Arc::clone(loss)),
            None => Ok(Arc::from(self.loss.build::<f32>(self.horizon)?)),
        }
    }

    /// Checks that a panel has the frequency that the model knows; irregular panels have none to compare.
    pub(super) fn require_frequency(&self, panel: &Panel<f32>) -> Result<(), ModelError> {
        match (self.frequency, panel.frequency()) {
            (Some(expected), Some(found)) if !expected.same_step(&found) => {
                Err(ModelError::OtherFrequency { expected, found })
            }
            _ => Ok(()),
        }
    }
}

/// A loss of the user's.
#[derive(Clone)]
pub(super) struct GivenLoss(pub(super) Arc<dyn Loss<f32>>);

impl std::fmt::Debug for GivenLoss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.name())
    }
}

impl GivenLoss {
    /// Checks that there is a name for each output.
    pub(super) fn new(loss: Arc<dyn Loss<f32>>) -> Result<Self, ModelError> {
        let (names, outputs) = (loss.output_names(), loss.outputs_per_step());
        if names.len() != outputs || outputs == 0 {
            let expected = format!(
                "{} has {outputs} outputs for each time step: it must have at least one, and name each",
                loss.name()
            );
            return Err(ModelError::config(
                "custom loss",
                "output_names",
                names,
                expected,
            ));
        }
        Ok(Self(loss))
    }
}

/// The network and the loss that a configuration describes.
pub(super) struct Parts {
    pub(super) network: Box<dyn Network<f32>>,
    pub(super) loss: Arc<dyn Loss<f32>>,
}

impl Parts {
    pub(super) fn new(
        config: &ForecasterConfig,
        given: Option<&GivenLoss>,
    ) -> Result<Self, ModelError> {
        let dims = config.validate(given)?;
        Ok(Self {
            network: config.network(&dims)?,
            loss: config.loss(given)?,
        })
    }

    pub(super) fn objective(&self) -> Objective<'_, f32> {
        Objective {
            network: &*self.network,
            loss: &*self.loss,
        }
    }
}
