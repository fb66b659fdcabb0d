//! From a panel to a forecast: choose a model, fit, predict, save, load.
//!
//! ```
//! use nd_data::datasets::air_passengers;
//! use nd_models::Forecaster;
//!
//! let panel = air_passengers::<f32>()?;
//! let mut forecaster = Forecaster::new("NLinear", 24, 12)?;
//! forecaster.config_mut().train.max_steps = 50;
//! let fitted = forecaster.fit(&panel)?;
//! let forecast = fitted.predict(&panel)?;
//! assert_eq!(forecast.series[0].values.len(), 12);
//! # Ok::<(), nd_models::ModelError>(())
//! ```

use std::path::Path;
use std::sync::Arc;

use nd_core::autograd::{Mode, Params};
use nd_core::rng::Key;
use nd_core::{Loss, Network, Objective, RunOptions, Threads, TrainState, WindowSource};
use nd_data::{Exogenous, Panel, PanelWindows, WindowConfig, WindowScaler, WindowSet};
use serde::{Deserialize, Serialize};

use crate::checkpoint;
use crate::error::ModelError;
use crate::forecast::{Forecast, SeriesForecast};
use crate::loss::LossConfig;
use crate::nn::ModelDims;
use crate::train::inference::Forward;
use crate::train::sampler::WindowIndex;
use crate::train::{Checkpoints, Control, History, Inference, Progress, TrainConfig, Trainer};
use crate::zoo::{ModelConfig, ZooEntry};

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

impl ForecasterConfig {
    fn dims(&self, outputs_per_step: usize) -> ModelDims {
        ModelDims {
            input_size: self.input_size,
            horizon: self.horizon,
            outputs_per_step,
            hist_exog: self.hist_exog.len(),
            futr_exog: self.futr_exog.len(),
            stat_exog: self.stat_exog.len(),
        }
    }

    fn exogenous(&self) -> Exogenous {
        Exogenous {
            historic: self.hist_exog.clone(),
            future: self.futr_exog.clone(),
            statics: self.stat_exog.clone(),
        }
    }

    fn windows(&self) -> WindowConfig {
        WindowConfig {
            step_size: self.train.step_size,
            val_size: self.train.val_size,
            start_padding: self.train.start_padding,
            input_availability: self.train.input_availability,
            target_availability: self.train.target_availability,
            ..WindowConfig::new(self.input_size, self.horizon)
        }
    }
}

/// The network and the loss that a configuration describes.
struct Parts {
    network: Box<dyn Network<f32>>,
    loss: Box<dyn Loss<f32>>,
}

impl Parts {
    fn new(config: &ForecasterConfig) -> Result<Self, ModelError> {
        config.train.validate()?;
        if config.train.val_size > 0 && config.train.val_size < config.horizon {
            return Err(ModelError::config(
                "training",
                "val_size",
                config.train.val_size,
                format!(
                    "validation needs at least one whole horizon of {} steps, or 0 for none",
                    config.horizon
                ),
            ));
        }
        let loss = config.loss.build::<f32>(config.horizon)?;
        let network = config.model.build(&config.dims(loss.outputs_per_step()))?;
        Ok(Self { network, loss })
    }

    fn objective(&self) -> Objective<'_, f32> {
        Objective {
            network: &*self.network,
            loss: &*self.loss,
        }
    }
}

/// A model that can be fitted; settings are changed through [`Forecaster::config_mut`].
#[derive(Clone, Debug)]
pub struct Forecaster {
    config: ForecasterConfig,
    options: RunOptions,
}

/// What a fit may be given beside the data.
#[derive(Default)]
pub struct FitHooks<'a> {
    /// Sees every step and may stop the training.
    pub progress: Option<&'a mut (dyn FnMut(&Progress) -> Control + Send)>,
    /// Where the run is saved, with all that a resume needs, every so many steps.
    pub checkpoint: Option<(&'a Path, u64)>,
    /// A file that [`FitHooks::checkpoint`] wrote, to go on from.
    pub resume: Option<&'a Path>,
}

impl std::fmt::Debug for FitHooks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FitHooks")
            .field("checkpoint", &self.checkpoint)
            .field("resume", &self.resume)
            .finish_non_exhaustive()
    }
}

impl Forecaster {
    /// A model of the zoo by its name, with the defaults of the zoo table and the mean absolute error as its loss.
    ///
    /// # Errors
    /// No model has that name, or a size is zero.
    pub fn new(model: &str, input_size: usize, horizon: usize) -> Result<Self, ModelError> {
        let entry = ZooEntry::find(model)?;
        Self::from_config(ForecasterConfig {
            model: (entry.config)(),
            input_size,
            horizon,
            loss: LossConfig::default(),
            scaler: entry.training.scaler,
            hist_exog: Vec::new(),
            futr_exog: Vec::new(),
            stat_exog: Vec::new(),
            train: TrainConfig::from(entry.training),
        })
    }

    /// A model from its whole configuration.
    ///
    /// # Errors
    /// A setting that cannot be.
    pub fn from_config(config: ForecasterConfig) -> Result<Self, ModelError> {
        Parts::new(&config)?;
        Ok(Self {
            config,
            options: RunOptions::default(),
        })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ForecasterConfig {
        &self.config
    }

    /// The configuration, to be changed; it is checked when the model is fitted.
    pub fn config_mut(&mut self) -> &mut ForecasterConfig {
        &mut self.config
    }

    /// The same model with the choices of a run: SIMD level, threads, precision, attention.
    #[must_use]
    pub fn with_options(mut self, options: RunOptions) -> Self {
        self.options = options;
        self
    }

    /// The number of trainable values.
    ///
    /// # Errors
    /// A setting that cannot be.
    pub fn parameter_count(&self) -> Result<usize, ModelError> {
        Ok(Parts::new(&self.config)?.network.layout().trainable_count())
    }

    /// Trains on a panel.
    ///
    /// # Errors
    /// A setting that cannot be, data without windows or without a named column, or a step whose loss is not finite.
    pub fn fit(&self, panel: &Panel<f32>) -> Result<Fitted, ModelError> {
        self.fit_with(panel, FitHooks::default())
    }

    /// Trains on a panel, with a progress callback, checkpoints, or from a checkpoint.
    ///
    /// # Errors
    /// As [`Forecaster::fit`]; a checkpoint that cannot be written, read, or is of another configuration.
    pub fn fit_with(&self, panel: &Panel<f32>, hooks: FitHooks<'_>) -> Result<Fitted, ModelError> {
        let config = &self.config;
        let parts = Parts::new(config)?;
        let (windows, exogenous) = (config.windows(), config.exogenous());
        let source = |set| -> Result<PanelWindows<'_, f32>, ModelError> {
            Ok(PanelWindows::new(panel, &windows, set, &exogenous)?.with_scaler(config.scaler))
        };
        let train = source(WindowSet::Train)?;
        let validation = match config.train.val_size {
            0 => None,
            _ => Some(source(WindowSet::Validation)?),
        };
        let layout = parts.network.layout();
        let moments = config.train.optimizer.moments();
        let (params, mut state) = match hooks.resume {
            None => {
                let seed = config.train.seed;
                (
                    Params::init(layout, seed),
                    TrainState::new(layout, seed, moments),
                )
            }
            Some(path) => self.read_run(path, layout, train.groups())?,
        };
        let mut params = Arc::new(params);
        let trainer = Trainer {
            objective: parts.objective(),
            train: &train,
            validation: validation
                .as_ref()
                .map(|source| source as &dyn WindowSource<f32>),
            scaler: config.scaler,
            config: &config.train,
            options: self.options,
        };
        let text = self.config_text();
        let target = hooks.checkpoint.unwrap_or((Path::new(""), 0));
        let mut save = |params: &Params<f32>, state: &TrainState<f32>| {
            Ok(checkpoint::save(target.0, &text, params, Some(state))?)
        };
        let checkpoints = hooks.checkpoint.map(|(_, every)| Checkpoints {
            every,
            save: &mut save,
        });
        let mut go_on = |_: &Progress| Control::Continue;
        let progress = hooks.progress.unwrap_or(&mut go_on);
        let history = trainer.run(&mut params, &mut state, progress, checkpoints)?;
        Ok(Fitted {
            config: config.clone(),
            options: self.options,
            parts,
            params,
            history: Some(history),
        })
    }

    fn config_text(&self) -> String {
        config_text(&self.config)
    }

    fn read_run(
        &self,
        path: &Path,
        layout: &Arc<nd_core::autograd::ParamLayout>,
        groups: usize,
    ) -> Result<(Params<f32>, TrainState<f32>), ModelError> {
        let raw = checkpoint::read(path)?;
        let found = parse_config(path, raw.config())?;
        // More steps may be asked of a resumed run unless the learning rate depends on their number; all else must be as
        // it was.
        let mut expected = self.config.clone();
        if expected.train.num_lr_decays == 0 {
            expected.train.max_steps = found.train.max_steps;
        }
        if found != expected {
            return Err(ModelError::OtherConfiguration {
                path: path.to_owned(),
            });
        }
        let params = raw.params(layout)?;
        let state = raw.state(layout)?;
        let state: TrainState<f32> = state.ok_or_else(|| ModelError::NoTrainState {
            path: path.to_owned(),
        })?;
        let mut epoch = state.sampler.epoch.clone();
        epoch.sort_unstable();
        epoch.dedup();
        let fits = epoch.len() == state.sampler.epoch.len()
            && epoch.last().is_none_or(|&group| (group as usize) < groups)
            && state.moments.len() == self.config.train.optimizer.moments();
        if !fits {
            return Err(ModelError::OtherRun {
                path: path.to_owned(),
                series: groups,
            });
        }
        Ok((params, state))
    }
}

fn config_text(config: &ForecasterConfig) -> String {
    // Plain data with string keys: serialisation has nothing to fail on.
    serde_json::to_string(config).unwrap_or_default()
}

fn parse_config(path: &Path, text: &str) -> Result<ForecasterConfig, ModelError> {
    serde_json::from_str(text).map_err(|error| ModelError::BadConfiguration {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// A trained model.
pub struct Fitted {
    config: ForecasterConfig,
    options: RunOptions,
    parts: Parts,
    params: Arc<Params<f32>>,
    history: Option<History>,
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

    /// What happened during training; `None` for a model that was loaded.
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

    /// The same model with other choices of a run.
    #[must_use]
    pub fn with_options(mut self, options: RunOptions) -> Self {
        self.options = options;
        self
    }

    /// Forecasts the `h` time steps after the end of every series.
    ///
    /// The panel may be another one than the model was trained on; its columns must have the same names.
    ///
    /// # Errors
    /// A missing column, future columns without future values ([`Fitted::predict_with_future`]), or a panel without a frequency.
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
    /// The windows cover the last `test_size` time steps of every series, `step_size` apart.
    ///
    /// # Errors
    /// A missing column, or a test size that is smaller than the horizon.
    pub fn back_test(
        &self,
        panel: &Panel<f32>,
        test_size: usize,
        step_size: usize,
    ) -> Result<Forecast, ModelError> {
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
        let exogenous = self.config.exogenous();
        Ok(PanelWindows::new(panel, &windows, set, &exogenous)?.with_scaler(self.config.scaler))
    }

    fn forecast(
        &self,
        panel: &Panel<f32>,
        source: &PanelWindows<'_, f32>,
        with_observed: bool,
    ) -> Result<Forecast, ModelError> {
        let forward = Forward {
            objective: self.parts.objective(),
            params: &self.params,
            source,
            scaler: self.config.scaler,
            options: self.options,
            mode: Mode::Infer,
            key: Key::default(),
            max_chunk: self.config.train.inference_windows_batch_size,
        };
        let of =
            |group| (0..source.windows(group)).map(move |window| WindowIndex { group, window });
        let windows: Vec<WindowIndex> = (0..source.groups()).flat_map(of).collect();
        let mut values = vec![0.0; windows.len() * forward.forecast_len()];
        let threads = Threads::new(self.options.threads)?;
        threads.install(|| Inference::default().forecast(&forward, &windows, &mut values));

        let horizon = self.config.horizon;
        let mut series = Vec::with_capacity(windows.len());
        for (index, values) in windows
            .iter()
            .zip(values.chunks(forward.forecast_len().max(1)))
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

    /// Loads what [`Fitted::save`] wrote, or a checkpoint of a training run: its best weights when it stops early, its
    /// last ones otherwise.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or does not describe a model of this version.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref();
        let raw = checkpoint::read(path)?;
        let config = parse_config(path, raw.config())?;
        let parts = Parts::new(&config)?;
        let layout = parts.network.layout();
        let mut params: Params<f32> = raw.params(layout)?;
        // A run with early stopping ends with its best weights, not with its last ones.
        if config.train.early_stop_patience.is_some()
            && let Some(state) = raw.state::<f32>(layout)?
            && let Some(best) = state.early_stopping.best
        {
            params.flat_mut().copy_from_slice(&best.flat);
        }
        let params = Arc::new(params);
        Ok(Self {
            config,
            options: RunOptions::default(),
            parts,
            params,
            history: None,
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
