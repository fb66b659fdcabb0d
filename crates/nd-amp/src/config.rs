//! The settings of mixed-precision training.

use nd_core::train_state::LossScaleState;

use crate::error::StepError;

/// Skipped steps in a row after which a run gives up: fifty halvings take any scale of f32 to where no finite gradient overflows.
pub const MAX_SKIPPED_IN_ROW: u64 = 50;

/// How the loss is scaled while a network is trained in sixteen bits; the defaults are those of PyTorch's `GradScaler`.
///
/// The scale is in `[min_scale, max_scale]`. It grows by `growth_factor` after `growth_interval` steps in a row without an overflow, and
/// shrinks by `backoff_factor` at once at a step with one, which is skipped. Powers of two scale without rounding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixedPrecisionConfig {
    /// Whether anything is done in sixteen bits; `false` trains in f32 with scale 1.
    pub enabled: bool,
    /// The scale of the first step.
    pub initial_scale: f64,
    /// What the scale is multiplied with when it grows; above 1.
    pub growth_factor: f64,
    /// What the scale is multiplied with after an overflow; between 0 and 1.
    pub backoff_factor: f64,
    /// Steps in a row without an overflow before the scale grows; at least 1.
    pub growth_interval: u64,
    /// The smallest scale.
    pub min_scale: f64,
    /// The largest scale.
    pub max_scale: f64,
}

impl Default for MixedPrecisionConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_scale: 65_536.0,
            growth_factor: 2.0,
            backoff_factor: 0.5,
            growth_interval: 2000,
            min_scale: 1.0,
            max_scale: 16_777_216.0,
        }
    }
}

impl MixedPrecisionConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`StepError::Config`] with the first setting that cannot be.
    pub fn validate(&self) -> Result<(), StepError> {
        let bad = |field, found: f64, expected: &str| {
            Err(StepError::Config {
                field,
                found: found.to_string(),
                expected: expected.to_owned(),
            })
        };
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if !positive(self.min_scale) {
            return bad("min_scale", self.min_scale, "a finite number above 0");
        }
        if !self.max_scale.is_finite() || self.max_scale < self.min_scale {
            let expected = format!("a finite number of at least min_scale, {}", self.min_scale);
            return bad("max_scale", self.max_scale, &expected);
        }
        if !(self.min_scale..=self.max_scale).contains(&self.initial_scale) {
            let expected = format!(
                "a number from min_scale to max_scale, {} to {}",
                self.min_scale, self.max_scale
            );
            return bad("initial_scale", self.initial_scale, &expected);
        }
        if !self.growth_factor.is_finite() || self.growth_factor <= 1.0 {
            return bad(
                "growth_factor",
                self.growth_factor,
                "a finite number above 1",
            );
        }
        if !(self.backoff_factor > 0.0 && self.backoff_factor < 1.0) {
            return bad(
                "backoff_factor",
                self.backoff_factor,
                "a number between 0 and 1",
            );
        }
        if self.growth_interval == 0 {
            return bad("growth_interval", 0.0, "at least 1 step");
        }
        Ok(())
    }

    /// The state before the first step.
    #[must_use]
    pub fn initial_state(&self) -> LossScaleState {
        LossScaleState {
            scale: if self.enabled {
                self.initial_scale
            } else {
                1.0
            },
            ..LossScaleState::default()
        }
    }
}
