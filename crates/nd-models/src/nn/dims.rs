//! The sizes a network is built for.

use nd_core::{BatchLayout, BatchView, Real};
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::limits::{MAX_INPUTS, MAX_OUTPUTS, MAX_SIZE, require_at_most, require_size};

/// What the data and the loss decide: the sizes of a window and the outputs of a time step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelDims {
    /// Time steps that the network sees, `L`.
    pub input_size: usize,
    /// Time steps to forecast, `h`.
    pub horizon: usize,
    /// Outputs of the loss for each time step, `Q`.
    pub outputs_per_step: usize,
    /// Exogenous variables known for the past only, `X`.
    #[serde(default)]
    pub hist_exog: usize,
    /// Exogenous variables known for past and future, `F`.
    #[serde(default)]
    pub futr_exog: usize,
    /// Exogenous variables that do not change in time, `S`.
    #[serde(default)]
    pub stat_exog: usize,
}

impl ModelDims {
    /// Windows of one series without exogenous variables, one output a step.
    #[must_use]
    pub fn univariate(input_size: usize, horizon: usize) -> Self {
        Self {
            input_size,
            horizon,
            outputs_per_step: 1,
            hist_exog: 0,
            futr_exog: 0,
            stat_exog: 0,
        }
    }

    /// The same sizes with another number of outputs a step.
    #[must_use]
    pub fn with_outputs(self, outputs_per_step: usize) -> Self {
        Self {
            outputs_per_step,
            ..self
        }
    }

    /// The rows of a batch that fit.
    #[must_use]
    pub fn layout(&self) -> BatchLayout {
        BatchLayout {
            hist_exog: self.hist_exog,
            futr_exog: self.futr_exog,
            stat_exog: self.stat_exog,
            ..BatchLayout::univariate(self.input_size, self.horizon)
        }
    }

    /// Outputs of a window, `h Q`.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.horizon * self.outputs_per_step
    }

    /// Exogenous values of a window: `L X + (L + h) F + S`.
    #[must_use]
    pub fn exogenous_values(&self) -> usize {
        self.input_size * self.hist_exog
            + (self.input_size + self.horizon) * self.futr_exog
            + self.stat_exog
    }

    /// Checks that no size is zero or beyond its limit, so that products of them can be counted.
    pub(crate) fn validate(&self, model: &'static str) -> Result<(), ModelError> {
        require_size(model, "input_size", self.input_size, MAX_SIZE)?;
        require_size(model, "horizon", self.horizon, MAX_SIZE)?;
        require_size(model, "outputs_per_step", self.outputs_per_step, MAX_SIZE)?;
        for (field, columns) in [
            ("hist_exog", self.hist_exog),
            ("futr_exog", self.futr_exog),
            ("stat_exog", self.stat_exog),
        ] {
            require_at_most(model, field, columns, MAX_SIZE)?;
        }
        let outputs = "horizon times the outputs of a step";
        require_at_most(model, outputs, self.outputs(), MAX_OUTPUTS)?;
        let inputs = "input_size with the exogenous values of a window";
        let found = self.input_size + self.exogenous_values();
        require_at_most(model, inputs, found, MAX_INPUTS)
    }

    /// Checks that there are no exogenous variables, for a model that cannot use them.
    pub(crate) fn refuse_exogenous(&self, model: &'static str) -> Result<(), ModelError> {
        let kinds = [
            ("hist_exog", self.hist_exog),
            ("futr_exog", self.futr_exog),
            ("stat_exog", self.stat_exog),
        ];
        match kinds.into_iter().find(|(_, count)| *count > 0) {
            None => Ok(()),
            Some((field, count)) => Err(ModelError::config(
                model,
                field,
                count,
                "this model uses the target alone: leave the exogenous variables out, or take MLP, NHITS or LSTM",
            )),
        }
    }

    /// Asserts that a batch has the layout that the network was made for.
    #[track_caller]
    pub(crate) fn require<R: Real>(&self, batch: &BatchView<'_, R>) {
        let (wanted, found) = (self.layout(), batch.layout());
        assert!(
            wanted == found,
            "a network for {wanted:?} was given a batch of {found:?}"
        );
    }
}
