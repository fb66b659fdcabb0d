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

use nd_core::autograd::{ParamLayout, Params};
use nd_core::{Loss, RunOptions, TrainState, WindowSource};
use nd_data::{Panel, PanelWindows, WindowSet};

use crate::checkpoint;
use crate::defaults::default_options;
use crate::error::ModelError;
use crate::loss::{LossConfig, LossKind};
use crate::train::{Checkpoints, Control, Inference, Progress, TrainConfig, Trainer};
use crate::zoo::ZooEntry;

mod config;
mod fitted;

pub use config::ForecasterConfig;
use config::{GivenLoss, Parts};
pub use fitted::Fitted;

/// A model that can be fitted; settings are changed through [`Forecaster::config_mut`].
#[derive(Clone, Debug)]
pub struct Forecaster {
    config: ForecasterConfig,
    given: Option<GivenLoss>,
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
    /// Receives the model as it was after the last good step, should the fit fail at a later one: it can forecast and be saved.
    /// Without this, and without [`FitHooks::checkpoint`], a failed fit leaves nothing behind.
    pub unfinished: Option<&'a mut Option<Fitted>>,
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
    /// A model of the zoo by its name, with the defaults of the zoo table, the mean absolute error as its loss, and
    /// [`default_options`].
    ///
    /// # Errors
    /// No model has that name, or a size is zero or beyond the [limits](crate::limits).
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
            frequency: None,
            train: TrainConfig::from(entry.training),
        })
    }

    /// A model from its whole configuration. One with a loss of your own needs [`Forecaster::with_loss`] before it is fitted.
    ///
    /// # Errors
    /// A setting that cannot be.
    pub fn from_config(config: ForecasterConfig) -> Result<Self, ModelError> {
        match Parts::new(&config, None) {
            Ok(_) | Err(ModelError::LossNeeded { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            config,
            given: None,
            options: default_options(),
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

    /// The same model, to be trained with a loss of your own.
    ///
    /// The configuration names it as [`LossKind::Custom`]; setting another loss there later puts this one aside. A saved model
    /// holds the name alone: [`Fitted::load_with_loss`] takes the loss again.
    ///
    /// # Errors
    /// The loss has no output, or not one name for each.
    pub fn with_loss(mut self, loss: Arc<dyn Loss<f32>>) -> Result<Self, ModelError> {
        self.config.loss = LossConfig::from(LossKind::Custom { loss: loss.name() });
        self.given = Some(GivenLoss::new(loss)?);
        Ok(self)
    }

    /// The choices of a run: those of [`default_options`] until others are given.
    #[must_use]
    pub fn options(&self) -> RunOptions {
        self.options
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
        let parts = Parts::new(&self.config, self.given.as_ref())?;
        Ok(parts.network.layout().trainable_count())
    }

    /// Trains on a panel.
    ///
    /// # Errors
    /// A setting that cannot be, data without windows or without a named column or of another frequency than the configuration
    /// has, or a step whose loss is not finite.
    pub fn fit(&self, panel: &Panel<f32>) -> Result<Fitted, ModelError> {
        self.fit_with(panel, FitHooks::default())
    }

    /// Trains on a panel, with a progress callback, checkpoints, or from a checkpoint.
    ///
    /// # Errors
    /// As [`Forecaster::fit`]; a checkpoint that cannot be written, read, or is of another configuration.
    pub fn fit_with(&self, panel: &Panel<f32>, hooks: FitHooks<'_>) -> Result<Fitted, ModelError> {
        let mut config = self.config.clone();
        let parts = Parts::new(&config, self.given.as_ref())?;
        config.require_frequency(panel)?;
        config.frequency = config.frequency.or(panel.frequency());
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
                let draw = || Params::init(layout, seed);
                (
                    nd_parallel::install(self.options.threads, draw)?,
                    TrainState::new(layout, seed, moments),
                )
            }
            Some(path) => read_run(path, &config, layout, train.groups())?,
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
        let text = config_text(&config);
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
        let trained = trainer.run(&mut params, &mut state, progress, checkpoints);
        let usable = state.step > 0 && params.first_non_finite().is_none();
        let fitted = |history| Fitted {
            config,
            options: self.options,
            parts,
            params,
            history,
            inference: Inference::default(),
        };
        match trained {
            Ok(history) => Ok(fitted(Some(history))),
            Err(error) => {
                if let Some(unfinished) = hooks.unfinished.filter(|_| usable) {
                    *unfinished = Some(fitted(None));
                }
                Err(error)
            }
        }
    }
}

/// The parameters and the state of a run to be resumed, if it was one of this configuration.
fn read_run(
    path: &Path,
    config: &ForecasterConfig,
    layout: &Arc<ParamLayout>,
    groups: usize,
) -> Result<(Params<f32>, TrainState<f32>), ModelError> {
    let raw = checkpoint::read(path)?;
    let found = parse_config(path, raw.config())?;
    // More steps may be asked of a resumed run unless the learning rate depends on their number; all else must be as
    // it was.
    let mut expected = config.clone();
    if expected.train.num_lr_decays == 0 {
        expected.train.max_steps = found.train.max_steps;
    }
    // Files of earlier versions do not know it.
    if found.frequency.is_none() {
        expected.frequency = None;
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
        && state.moments.len() == config.train.optimizer.moments();
    if !fits {
        return Err(ModelError::OtherRun {
            path: path.to_owned(),
            series: groups,
        });
    }
    Ok((params, state))
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
