//! A trained model: forecasts, back tests, saving and loading.

use std::path::Path;
use std::sync::Arc;

use nd_core::autograd::{Mode, Params};
use nd_core::rng::Key;
use nd_core::{Loss, Network, Precision, RunOptions, WindowSource};
use nd_data::{Panel, PanelWindows, WindowConfig, WindowSet};

use super::config::{ForecasterConfig, GivenLoss, Parts};
use super::{config_text, parse_config};
use crate::checkpoint;
use crate::defaults::default_options;
use crate::error::ModelError;
use crate::forecast::{Forecast, SeriesForecast};
use crate::loss::LossKind;
use crate::train::inference::{Forward, ONE_CHUNK};
use crate::train::sampler::WindowIndex;
use crate::train::{History, Inference};

/// A trained model.
pub struct Fitted {
    pub(crate) config: ForecasterConfig,
    pub(super) options: RunOptions,
    pub(super) parts: Parts,
    pub(super) params: Arc<Params<f32>>,
    pub(super) history: Option<History>,
    /// Tapes are kept from call to call.
    pub(super) inference: Inference,
}

impl std::fmt::Debug for Fitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fitted")
            .field("config", &self.config)
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

impl Fitted {
    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ForecasterConfig {
        &self.config
    }

    /// What happened during training; `None` for a model that was loaded or whose training failed.
    #[must_use]
    pub fn history(&self) -> Option<&History> {
        self.history.as_ref()
    }

    /// The trained parameters.
    #[must_use]
    pub fn params(&self) -> &Params<f32> {
        &self.params
    }

    /// The architecture.
    #[must_use]
    pub fn network(&self) -> &dyn Network<f32> {
        &*self.parts.network
    }

    /// The choices of a run: those that it was fitted with, or [`default_options`] where it was loaded from a file.
    #[must_use]
    pub fn options(&self) -> RunOptions {
        self.options
    }

    /// The same model with other choices of a run.
    #[must_use]
    pub fn with_options(mut self, options: RunOptions) -> Self {
        self.options = options;
        self
    }

    /// Forecasts the `h` time steps after the end of every series.
    ///
    /// The panel may be another one than the model was trained on; its columns must have the same names, and its frequency steps of
    /// the same length.
    ///
    /// # Errors
    /// A missing column, another frequency, future columns without future values ([`Fitted::predict_with_future`]), or a panel without a frequency.
    pub fn predict(&self, panel: &Panel<f32>) -> Result<Forecast, ModelError> {
        let source = self.source(panel, self.config.windows(), WindowSet::Predict)?;
        if !source.has_future() {
            return Err(ModelError::FutureNeeded {
                columns: self.config.futr_exog.join(", "),
                horizon: self.config.horizon,
            });
        }
        self.forecast(panel, &source, false)
    }

    /// Forecasts with the values that the future columns take over the horizon.
    ///
    /// # Errors
    /// As [`Fitted::predict`]; a series without future values.
    pub fn predict_with_future(
        &self,
        panel: &Panel<f32>,
        future: &Panel<f32>,
    ) -> Result<Forecast, ModelError> {
        let source = self.source(panel, self.config.windows(), WindowSet::Predict)?;
        self.forecast(panel, &source.with_future(future)?, false)
    }

    /// Forecasts windows that lie entirely within the panel, beside what was observed there.
    ///
    /// The windows cover the last `test_size` time steps of every series, `step_size` apart. A window whose past is shorter than
    /// `input_size` is forecast from what there is of it; one without any past, as shorter series may have, is left out.
    ///
    /// # Errors
    /// A missing column, another frequency, or a test size that is smaller than the horizon or leaves the longest series no past.
    pub fn back_test(
        &self,
        panel: &Panel<f32>,
        test_size: usize,
        step_size: usize,
    ) -> Result<Forecast, ModelError> {
        let longest = (0..panel.n_series()).max_by_key(|&series| panel.series_len(series));
        if let Some(series) = longest
            && test_size >= panel.series_len(series)
        {
            let rows = panel.series_len(series);
            return Err(ModelError::TestSize {
                found: test_size,
                series: panel.unique_id(series).to_owned(),
                rows,
                largest: rows.saturating_sub(1),
            });
        }
        let windows = WindowConfig {
            test_size,
            step_size,
            val_size: 0,
            ..WindowConfig::new(self.config.input_size, self.config.horizon)
        };
        let source = self.source(panel, windows, WindowSet::Test)?;
        self.forecast(panel, &source, true)
    }

    fn source<'p>(
        &self,
        panel: &'p Panel<f32>,
        windows: WindowConfig,
        set: WindowSet,
    ) -> Result<PanelWindows<'p, f32>, ModelError> {
        self.config.require_frequency(panel)?;
        let exogenous = self.config.exogenous();
        Ok(PanelWindows::new(panel, &windows, set, &exogenous)?.with_scaler(self.config.scaler))
    }

    /// The forecasts of some windows, one behind the other, in the units of the data.
    pub(crate) fn forward(
        &self,
        source: &dyn WindowSource<f32>,
        windows: &[WindowIndex],
        mode: Mode,
        key: Key,
        first_row: usize,
    ) -> Result<Vec<f32>, ModelError> {
        let forward = Forward {
            objective: self.parts.objective(),
            params: &self.params,
            source,
            scaler: self.config.scaler,
            options: self.options,
            mode,
            key,
            first_row,
            max_chunk: self.config.train.inference_windows_batch_size,
        };
        let mut values = vec![0.0; windows.len() * forward.forecast_len()];
        let run = || self.inference.forecast(&forward, windows, &mut values);
        if windows.len() <= ONE_CHUNK {
            // Not worth waking a thread for.
            let mut run = run;
            run();
        } else {
            nd_parallel::install(self.options.threads, run)?;
        }
        Ok(values)
    }

    fn forecast(
        &self,
        panel: &Panel<f32>,
        source: &PanelWindows<'_, f32>,
        with_observed: bool,
    ) -> Result<Forecast, ModelError> {
        let of =
            |group| (0..source.windows(group)).map(move |window| WindowIndex { group, window });
        let windows: Vec<WindowIndex> = (0..source.groups()).flat_map(of).collect();
        let values = self.forward(source, &windows, Mode::Infer, Key::default(), 0)?;

        let horizon = self.config.horizon;
        let mut series = Vec::with_capacity(windows.len());
        for (index, values) in windows
            .iter()
            .zip(values.chunks((values.len() / windows.len().max(1)).max(1)))
        {
            let first = source
                .indices()
                .first_row(index.group, index.window, index.group);
            let cutoff_row = first + self.config.input_size as i64;
            // A window that ends before its series begins has seen nothing but padding.
            let Some(row) = usize::try_from(cutoff_row).ok().filter(|&row| row > 0) else {
                continue;
            };
            let ds = panel.ds_after(index.group, row, horizon)?;
            let cutoff = panel.ds_at(index.group, row - 1);
            let y = if with_observed {
                observed(panel, index.group, row, horizon)
            } else {
                Vec::new()
            };
            let unique_id = panel.unique_id(index.group).to_owned();
            series.push(SeriesForecast {
                unique_id,
                cutoff,
                ds,
                values: values.to_vec(),
                y,
            });
        }
        let name = self.config.model.name();
        let columns = self
            .parts
            .loss
            .output_names()
            .iter()
            .map(|s| format!("{name}{s}"))
            .collect();
        Ok(Forecast {
            columns,
            series,
            style: panel.time_style(),
        })
    }

    /// Saves configuration and parameters to one file, atomically.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), ModelError> {
        Ok(checkpoint::save(
            path.as_ref(),
            &config_text(&self.config),
            &self.params,
            None,
        )?)
    }

    /// Saves configuration and parameters in sixteen bits: half the file, rounded weights. [`Fitted::load`] reads it.
    ///
    /// # Errors
    /// The file cannot be written, or a parameter is too large for f16.
    pub fn save_half(
        &self,
        path: impl AsRef<Path>,
        precision: Precision,
    ) -> Result<(), ModelError> {
        Ok(checkpoint::save_half(
            path.as_ref(),
            &config_text(&self.config),
            &self.params,
            precision,
        )?)
    }

    /// Loads what [`Fitted::save`] wrote, or a checkpoint of a training run: its best weights when it stops early, its
    /// last ones otherwise.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, does not describe a model of this version, or was trained with a loss of your own.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        Self::read(path.as_ref(), None)
    }

    /// Loads a model that was trained with a loss of your own: a file has its name, not its code.
    ///
    /// # Errors
    /// As [`Fitted::load`]; the loss in the file has another name.
    pub fn load_with_loss(
        path: impl AsRef<Path>,
        loss: Arc<dyn Loss<f32>>,
    ) -> Result<Self, ModelError> {
        Self::read(path.as_ref(), Some(GivenLoss::new(loss)?))
    }

    fn read(path: &Path, given: Option<GivenLoss>) -> Result<Self, ModelError> {
        let raw = checkpoint::read(path)?;
        let config = parse_config(path, raw.config())?;
        if let Some(GivenLoss(given)) = &given
            && !matches!(config.loss.kind, LossKind::Custom { .. })
        {
            return Err(ModelError::OtherLoss {
                expected: config.loss.kind.name().to_owned(),
                found: given.name(),
            });
        }
        // Nothing in the file is believed: what it describes is compared with the values it holds before memory is asked for.
        let bad = |error: ModelError| match error {
            ModelError::Config { .. } | ModelError::TooLarge { .. } => {
                ModelError::BadConfiguration {
                    path: path.to_owned(),
                    reason: error.to_string(),
                }
            }
            other => other,
        };
        let dims = config.validate(given.as_ref()).map_err(bad)?;
        let (tables, values) = (config.model.table_values(&dims), raw.parameter_values());
        if tables > values {
            return Err(ModelError::BadConfiguration {
                path: path.to_owned(),
                reason: format!(
                    "it describes a {} with tables of {tables} values, but the file holds {values} in all",
                    config.model.name()
                ),
            });
        }
        let network = config.network(&dims).map_err(bad)?;
        let layout = network.layout();
        let mut params: Params<f32> = raw.params(layout)?;
        // A run with early stopping ends with its best weights, not with its last ones.
        if config.train.early_stop_patience.is_some()
            && let Some(state) = raw.state::<f32>(layout)?
            && let Some(best) = state.early_stopping.best
        {
            params.flat_mut().copy_from_slice(&best.flat);
        }
        let loss = config.loss(given.as_ref()).map_err(bad)?;
        Ok(Self {
            config,
            options: default_options(),
            parts: Parts { network, loss },
            params: Arc::new(params),
            history: None,
            inference: Inference::default(),
        })
    }
}

/// What was observed; NaN where it was not.
fn observed(panel: &Panel<f32>, series: usize, row: usize, horizon: usize) -> Vec<f32> {
    let (y, mask) = (panel.series_y(series), panel.series_mask(series));
    (row..row + horizon)
        .map(|t| {
            let seen = mask.is_none_or(|mask| mask.get(t).copied().unwrap_or(false));
            y.get(t).copied().filter(|_| seen).unwrap_or(f32::NAN)
        })
        .collect()
}
