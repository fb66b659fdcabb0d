//! What a configuration or a file can get wrong.

use std::path::PathBuf;

/// Why a model could not be built, trained, saved or read.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A name that is not in the table of models.
    #[error("there is no model {found:?}; choose one of {known}")]
    UnknownModel {
        /// The name asked for.
        found: String,
        /// Every name there is.
        known: String,
    },
    /// A setting of a model or a loss that cannot be.
    #[error("{owner}: {field} is {found}, but {expected}")]
    Config {
        /// The model or the loss.
        owner: &'static str,
        /// The setting.
        field: &'static str,
        /// Its value.
        found: String,
        /// What it must be, and what to change.
        expected: String,
    },
    /// Settings that are fine one by one, but together describe a network of too many values.
    #[error(
        "{model}: input_size {input_size}, horizon {horizon} and the other settings make a network of {found} values, \
         more than {limit}: make one of them smaller"
    )]
    TooLarge {
        /// The model.
        model: &'static str,
        /// Time steps that it sees.
        input_size: usize,
        /// Time steps to forecast.
        horizon: usize,
        /// Values that it would have.
        found: usize,
        /// The most it can have.
        limit: usize,
    },
    /// A loss that is not of this library is needed, and was not given.
    #[error(
        "the loss {loss} is not one of this library: give it with Forecaster::with_loss, or to a saved model with \
         Fitted::load_with_loss"
    )]
    LossNeeded {
        /// Its name.
        loss: String,
    },
    /// Another loss was given than the one that the configuration names.
    #[error(
        "the model is trained with the loss {expected}, but was given {found}: give it that one"
    )]
    OtherLoss {
        /// The name in the configuration.
        expected: String,
        /// The name of the loss that was given.
        found: String,
    },
    /// Data of another frequency than those that the model was trained on.
    #[error(
        "the model was trained on data of frequency {expected}, but the panel has frequency {found}: give it a panel of \
         frequency {expected}, or train a model on this one"
    )]
    OtherFrequency {
        /// The frequency of the training data.
        expected: nd_data::Frequency,
        /// The frequency of the panel.
        found: nd_data::Frequency,
    },
    /// A back test over more rows than the data have.
    #[error(
        "test_size is {found}, but the longest series, `{series}`, has {rows} rows: at most {largest} of them can be \
         forecast from the ones before"
    )]
    TestSize {
        /// What was asked for.
        found: usize,
        /// The longest series.
        series: String,
        /// Its rows.
        rows: usize,
        /// The largest test size.
        largest: usize,
    },
    /// Data without a single window to learn from.
    #[error(
        "the data have no window of {} inputs and {} targets with an observed value on both sides: give longer series, \
         or a smaller input_size, horizon or val_size",
        layout.input_size,
        layout.horizon
    )]
    NoWindows {
        /// The sizes of a window.
        layout: nd_core::BatchLayout,
    },
    /// A training step that could not be taken.
    #[error(transparent)]
    Step(#[from] nd_amp::StepError),
    /// Data that cannot be used.
    #[error(transparent)]
    Data(#[from] nd_data::DataError),
    /// Options of the run that cannot be.
    #[error(transparent)]
    Core(#[from] nd_core::CoreError),
    /// A checkpoint that cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::CheckpointError),
    /// A checkpoint whose configuration is not that of a forecaster of this version.
    #[error("{}: the configuration of the model cannot be understood: {reason}", path.display())]
    BadConfiguration {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A run to be resumed was made with other settings.
    #[error(
        "{}: this run was made with other settings than those given; resume it with the same ones \
         (only max_steps may differ)",
        path.display()
    )]
    OtherConfiguration {
        /// The file.
        path: PathBuf,
    },
    /// A run to be resumed was made on other data, or its state is not that of these settings.
    #[error(
        "{}: the state of this run does not fit {series} series and these settings: resume it on the data it was trained on",
        path.display()
    )]
    OtherRun {
        /// The file.
        path: PathBuf,
        /// Series of the data.
        series: usize,
    },
    /// Validation data without a single observed target.
    #[error(
        "the validation windows have no observed target: give a larger val_size, or 0 for no validation"
    )]
    NoValidationTargets,
    /// Weights that are infinite or NaN after the last step.
    #[error(
        "after {step} steps the parameter {parameter} is not finite: lower the learning rate, or clip the gradient"
    )]
    Weights {
        /// Steps taken.
        step: u64,
        /// The first bad parameter.
        parameter: String,
    },
    /// A file with parameters alone, where a run to be resumed was expected.
    #[error(
        "{}: the file has the parameters of a model but not the state of its training: it can predict, not be resumed",
        path.display()
    )]
    NoTrainState {
        /// The file.
        path: PathBuf,
    },
    /// Uncertainty of a model that has none to give.
    #[error(
        "{model} with these settings has neither quantiles nor dropout to tell its uncertainty by: train it with a \
         multi-quantile loss or with dropout, or take the spread of an ensemble (nd_parallel::Spread)"
    )]
    NoUncertainty {
        /// The model.
        model: &'static str,
    },
    /// Future values of exogenous columns are needed for a forecast.
    #[error(
        "the model uses the future values of {columns}: give them for the {horizon} time steps after each series \
         (predict_with_future)"
    )]
    FutureNeeded {
        /// The columns.
        columns: String,
        /// The number of time steps.
        horizon: usize,
    },
}

nd_core::debug_as_display!(ModelError);

impl ModelError {
    /// A setting that cannot be.
    pub(crate) fn config(
        owner: &'static str,
        field: &'static str,
        found: impl std::fmt::Debug,
        expected: impl Into<String>,
    ) -> Self {
        Self::Config {
            owner,
            field,
            found: format!("{found:?}"),
            expected: expected.into(),
        }
    }

    /// Requires a setting to be at least one.
    pub(crate) fn require_positive(
        owner: &'static str,
        field: &'static str,
        found: usize,
    ) -> Result<(), Self> {
        if found == 0 {
            return Err(Self::config(owner, field, found, "it must be at least 1"));
        }
        Ok(())
    }

    /// Requires a probability of dropping a value to be in `[0, 1)`.
    pub(crate) fn require_dropout(
        owner: &'static str,
        field: &'static str,
        found: f64,
    ) -> Result<(), Self> {
        if (0.0..1.0).contains(&found) {
            return Ok(());
        }
        Err(Self::config(
            owner,
            field,
            found,
            "a probability of dropping is at least 0 and below 1",
        ))
    }
}
