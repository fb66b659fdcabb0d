//! A loss scale that moves.
//!
//! Gradients in f16 are zero below 6e-8 and infinite above 65504. Multiplying the loss by a scale moves all gradients into the middle
//! of that range, and dividing them by it afterwards, in f32, gives them back. The right scale is the largest that does not
//! overflow, and nobody knows it beforehand: so it grows now and then, and shrinks at every overflow, whose step is
//! skipped (Micikevicius et al., "Mixed precision training", ICLR 2018; the rules are those of PyTorch's `GradScaler`).

use nd_core::threads::parallel;
use nd_core::train_state::LossScaleState;
use nd_core::{Real, SimdLevel};
use nd_simd::optim::{GradientCheck, check_norm, unscale_check_norm};

use crate::config::MixedPrecisionConfig;
use crate::gradients::Gradients;

/// Scales a loss, unscales its gradients, and moves the scale.
///
/// ```
/// use nd_amp::GradScaler;
///
/// let mut scaler = GradScaler::new(65536.0, 2.0, 0.5, 2000);
/// let loss = 0.25f32;
/// let gradients = vec![scaler.scale(loss) * 2.0, f32::INFINITY];
/// if scaler.has_overflow(&gradients) {
///     scaler.update(true); // and skip the step
/// }
/// assert_eq!(scaler.get_scale(), 32768.0);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct GradScaler {
    config: MixedPrecisionConfig,
    state: LossScaleState,
    scale_updates: u64,
    overflow_count: u64,
}

impl GradScaler {
    /// A scaler whose scale begins at `initial_scale`, is multiplied by `growth_factor` after `growth_interval` steps in a row
    /// without an overflow and by `backoff_factor` after every step with one, and stays between 1 (or less, when it begins
    /// below) and 2^24 (or more, when it begins above).
    ///
    /// # Panics
    /// A number that cannot be: see [`MixedPrecisionConfig::validate`].
    #[must_use]
    #[track_caller]
    pub fn new(
        initial_scale: f64,
        growth_factor: f64,
        backoff_factor: f64,
        growth_interval: u64,
    ) -> Self {
        let limits = MixedPrecisionConfig::default();
        Self::from_config(MixedPrecisionConfig {
            initial_scale,
            growth_factor,
            backoff_factor,
            growth_interval,
            min_scale: limits.min_scale.min(initial_scale),
            max_scale: limits.max_scale.max(initial_scale),
            ..limits
        })
    }

    /// A scaler with all its settings.
    ///
    /// # Panics
    /// A setting that cannot be: see [`MixedPrecisionConfig::validate`].
    #[must_use]
    #[track_caller]
    pub fn from_config(config: MixedPrecisionConfig) -> Self {
        if let Err(error) = config.validate() {
            panic!("{error}");
        }
        Self::resume(config, config.initial_state())
    }

    /// A scaler that goes on where another one was; the counters begin at zero.
    #[must_use]
    pub fn resume(config: MixedPrecisionConfig, state: LossScaleState) -> Self {
        Self {
            config,
            state,
            scale_updates: 0,
            overflow_count: 0,
        }
    }

    /// The scale of the next step.
    #[must_use]
    pub fn get_scale(&self) -> f64 {
        self.state.scale
    }

    /// Where the scaler stands: what a checkpoint keeps.
    #[must_use]
    pub fn state(&self) -> LossScaleState {
        self.state
    }

    /// How often the scale has changed.
    #[must_use]
    pub fn scale_updates(&self) -> u64 {
        self.scale_updates
    }

    /// How many steps have overflowed.
    #[must_use]
    pub fn overflow_count(&self) -> u64 {
        self.overflow_count
    }

    /// `loss * scale`
    #[must_use]
    pub fn scale<R: Real>(&self, loss: R) -> R {
        loss * R::from_f64(self.state.scale)
    }

    /// Whether a gradient is infinite or NaN: one reading pass.
    #[must_use]
    pub fn has_overflow<G: Gradients + ?Sized>(&self, gradients: &G) -> bool {
        !check_norm(SimdLevel::current(), parallel(), gradients.values()).is_finite
    }

    /// A copy of the gradients, divided by the scale.
    #[must_use]
    pub fn unscale<G: Gradients + ?Sized>(&self, gradients: &G) -> G::Owned {
        gradients.copied(|values| {
            self.divide(values);
        })
    }

    /// Divides the gradients by the scale; in the same pass their norm afterwards and whether all of them are finite.
    pub fn unscale_in_place<G: Gradients + ?Sized>(&self, gradients: &mut G) -> GradientCheck {
        self.divide(gradients.values_mut())
    }

    fn divide<R: nd_simd::SimdReal>(&self, values: &mut [R]) -> GradientCheck {
        let factor = R::from_f64(1.0 / self.state.scale);
        unscale_check_norm(SimdLevel::current(), parallel(), factor, values)
    }

    /// Moves the scale after a step that overflowed (and was skipped) or did not.
    pub fn update(&mut self, overflow: bool) {
        self.overflow_count += u64::from(overflow);
        let state = &mut self.state;
        let config = &self.config;
        let before = state.scale;
        if overflow {
            state.skipped_in_row += 1;
            state.clean_steps = 0;
            if config.enabled {
                state.scale = (before * config.backoff_factor).max(config.min_scale);
            }
        } else {
            state.skipped_in_row = 0;
            state.clean_steps += 1;
            if config.enabled && state.clean_steps >= config.growth_interval {
                state.clean_steps = 0;
                // What PyTorch does too: a scale that would become infinite stays.
                let grown = (before * config.growth_factor).min(config.max_scale.max(before));
                state.scale = if grown.is_finite() { grown } else { before };
            }
        }
        self.scale_updates += u64::from(state.scale != before);
    }
}
