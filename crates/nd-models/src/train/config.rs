//! The settings of a training run.

use nd_amp::{Clip, Optimizer};
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::limits::{MAX_SIZE, require_at_most};
use crate::zoo::TrainingDefaults;

/// The settings of a training run; defaults are those that NeuralForecast's models share, a model's own defaults come from the zoo
/// table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Optimizer steps.
    pub max_steps: u64,
    /// The learning rate of the first step.
    pub learning_rate: f64,
    /// How often the learning rate is halved over the run; 0 keeps it.
    pub num_lr_decays: u64,
    /// Windows in a step; `None` takes all windows of the step's series.
    pub windows_batch_size: Option<usize>,
    /// Series whose windows a step draws from.
    pub batch_size: usize,
    /// Windows that inference and validation handle at once on one thread.
    pub inference_windows_batch_size: usize,
    /// Time steps between neighbouring windows.
    pub step_size: usize,
    /// Time steps at the end of each series that are kept for validation.
    pub val_size: usize,
    /// Steps between two validations.
    pub val_check_steps: u64,
    /// Validations without an improvement before training stops; `None` never stops early.
    pub early_stop_patience: Option<u64>,
    /// Whether windows may begin before the first value of the longest series.
    pub start_padding: bool,
    /// The share of the inputs that must be observed; at least one always must.
    pub input_availability: f64,
    /// The share of the targets that must be observed; at least one always must.
    pub target_availability: f64,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// How gradients are clipped.
    pub clip: Clip,
    /// The seed of initial weights, sampling and dropout.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            max_steps: 1000,
            learning_rate: 1e-3,
            num_lr_decays: 0,
            windows_batch_size: Some(1024),
            batch_size: 32,
            inference_windows_batch_size: 1024,
            step_size: 1,
            val_size: 0,
            val_check_steps: 100,
            early_stop_patience: None,
            start_padding: false,
            input_availability: 0.0,
            target_availability: 0.0,
            optimizer: Optimizer::adam(),
            clip: Clip::Off,
            seed: 1,
        }
    }
}

impl From<TrainingDefaults> for TrainConfig {
    /// What a model of the zoo is trained with unless told otherwise.
    fn from(defaults: TrainingDefaults) -> Self {
        let common = Self::default();
        Self {
            max_steps: defaults.max_steps,
            learning_rate: defaults.learning_rate,
            num_lr_decays: defaults.num_lr_decays,
            windows_batch_size: Some(defaults.windows_batch_size),
            inference_windows_batch_size: defaults
                .inference_windows_batch_size
                .unwrap_or(common.inference_windows_batch_size),
            ..common
        }
    }
}

impl TrainConfig {
    /// Checks that the settings make sense together.
    ///
    /// # Errors
    /// [`ModelError::Config`] names the setting, what was found and what it must be.
    pub fn validate(&self) -> Result<(), ModelError> {
        let fail = |field, found: &dyn std::fmt::Debug, expected: &str| {
            Err(ModelError::config("training", field, found, expected))
        };
        for (field, value) in [
            ("batch_size", self.batch_size),
            (
                "inference_windows_batch_size",
                self.inference_windows_batch_size,
            ),
            ("step_size", self.step_size),
            ("windows_batch_size", self.windows_batch_size.unwrap_or(1)),
        ] {
            ModelError::require_positive("training", field, value)?;
        }
        if let Some(windows) = self.windows_batch_size {
            require_at_most("training", "windows_batch_size", windows, MAX_SIZE)?;
        }
        if self.val_check_steps == 0 {
            return fail("val_check_steps", &0, "it must be at least 1");
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return fail(
                "learning_rate",
                &self.learning_rate,
                "it must be positive and finite",
            );
        }
        for (field, share) in [
            ("input_availability", self.input_availability),
            ("target_availability", self.target_availability),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return fail(field, &share, "it is a share between 0 and 1");
            }
        }
        if let Clip::Norm(max) = self.clip
            && !(max > 0.0 && max.is_finite())
        {
            return fail("clip", &max, "the largest norm must be positive and finite");
        }
        if let Err((field, found, expected)) = self.optimizer.validate() {
            return fail(field, &found, expected);
        }
        if self.early_stop_patience == Some(0) {
            return fail(
                "early_stop_patience",
                &0,
                "give at least 1 validation, or none to train all steps",
            );
        }
        if self.early_stop_patience.is_some() && self.val_size == 0 {
            return fail(
                "val_size",
                &0,
                "early stopping needs validation data: set val_size to at least the horizon",
            );
        }
        Ok(())
    }

    /// How many steps lie between two validations: never more than the whole run.
    #[must_use]
    pub fn validation_interval(&self) -> u64 {
        self.val_check_steps.min(self.max_steps).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_round_trips() {
        let config = TrainConfig::default();
        config.validate().unwrap();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<TrainConfig>(&text).unwrap(), config);
        assert!(serde_json::from_str::<TrainConfig>(r#"{"max_step": 3}"#).is_err());
    }

    #[test]
    fn bad_settings_are_named() {
        let bad_adam = Optimizer::Adam {
            beta1: 1.0,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
        };
        let bad = [
            (
                TrainConfig {
                    batch_size: 0,
                    ..Default::default()
                },
                "batch_size",
            ),
            (
                TrainConfig {
                    windows_batch_size: Some(0),
                    ..Default::default()
                },
                "windows_batch_size",
            ),
            (
                TrainConfig {
                    learning_rate: f64::NAN,
                    ..Default::default()
                },
                "learning_rate",
            ),
            (
                TrainConfig {
                    val_check_steps: 0,
                    ..Default::default()
                },
                "val_check_steps",
            ),
            (
                TrainConfig {
                    early_stop_patience: Some(3),
                    ..Default::default()
                },
                "val_size",
            ),
            (
                TrainConfig {
                    early_stop_patience: Some(0),
                    ..Default::default()
                },
                "early_stop",
            ),
            (
                TrainConfig {
                    input_availability: 1.5,
                    ..Default::default()
                },
                "input_availability",
            ),
            (
                TrainConfig {
                    clip: Clip::Norm(-1.0),
                    ..Default::default()
                },
                "clip",
            ),
            (
                TrainConfig {
                    optimizer: bad_adam,
                    ..Default::default()
                },
                "beta1",
            ),
        ];
        for (config, field) in bad {
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
