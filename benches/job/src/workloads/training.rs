//! The four training workloads that every claim about training is measured on.
//!
//! Each is a network of the zoo, trained as NeuralForecast trains it by default, on generated hours of the size of ETTh1 (seven
//! series, 16,700 hours before the test part), so that no file is needed. Everything is drawn from fixed seeds: two trainers of one
//! workload see the same weights and windows, whatever their options are.
//!
//! Known weakness: the values are smoother than those of a transformer station. The time of a step does not depend on
//! them; no error is claimed on this data.

use nd_core::{Loss, Network, Objective, RunOptions};
use nd_data::datasets::SyntheticHourly;
use nd_data::{Exogenous, Panel, PanelWindows, WindowConfig, WindowScaler, WindowSet};
use nd_models::loss::LossConfig;
use nd_models::models::PatchTstConfig;
use nd_models::train::TrainConfig;
use nd_models::{ModelConfig, ModelDims};

use crate::trainer::{Trainer, Work};

/// Series of ETTh1.
const SERIES: usize = 7;
/// Hours of ETTh1 less the 720 that are kept for testing.
const HOURS: usize = 16_700;

/// A network, its sizes and the windows of a step.
#[derive(Clone, Copy, Debug)]
pub struct TrainingWorkload {
    /// The name on the command line and in reports.
    pub name: &'static str,
    /// The same in words.
    pub summary: &'static str,
    /// Past hours of a window.
    pub input_size: usize,
    /// Hours to forecast.
    pub horizon: usize,
    /// Windows of a step.
    pub windows: usize,
    /// The network's settings.
    pub config: fn() -> ModelConfig,
}

/// All of them.
pub const TRAINING: &[TrainingWorkload] = &[
    TrainingWorkload {
        name: "NHITS",
        summary: "NHITS with its defaults, 1024 windows a step, L 96, h 24",
        input_size: 96,
        horizon: 24,
        windows: 1024,
        config: || ModelConfig::Nhits(Default::default()),
    },
    TrainingWorkload {
        name: "LSTM",
        summary: "LSTM with its defaults, 128 windows a step, L 96, h 24",
        input_size: 96,
        horizon: 24,
        windows: 128,
        config: || ModelConfig::Lstm(Default::default()),
    },
    TrainingWorkload {
        name: "PatchTST",
        summary: "PatchTST with its defaults (12 tokens, d 128, 16 heads), 1024 windows a step, L 96, h 24",
        input_size: 96,
        horizon: 24,
        windows: 1024,
        config: || ModelConfig::PatchTst(Default::default()),
    },
    TrainingWorkload {
        name: "PatchTST-long",
        summary: "PatchTST on long windows (512 tokens, d 128, 8 heads, no residual scores), 32 windows a step, L 4096, h 24",
        input_size: 4096,
        horizon: 24,
        windows: 32,
        config: || {
            ModelConfig::PatchTst(PatchTstConfig {
                n_heads: 8,
                res_attention: false,
                ..PatchTstConfig::default()
            })
        },
    },
];

/// A workload with its data and network made.
pub struct Prepared {
    /// Which one.
    pub workload: TrainingWorkload,
    /// The network's settings.
    pub config: ModelConfig,
    /// The settings of its training.
    pub train: TrainConfig,
    panel: Panel<f32>,
    network: Box<dyn Network<f32>>,
    loss: Box<dyn Loss<f32>>,
}

impl TrainingWorkload {
    /// The workload with this name; upper and lower case are one.
    ///
    /// # Errors
    /// There is none; the message lists what there is.
    pub fn find(name: &str) -> Result<&'static Self, String> {
        let found = TRAINING.iter().find(|w| w.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| {
            let names: Vec<_> = TRAINING.iter().map(|w| w.name).collect();
            format!(
                "there is no workload {name:?}; the workloads are: {}",
                names.join(", ")
            )
        })
    }

    /// Makes data and network.
    ///
    /// # Errors
    /// None for the workloads of [`TRAINING`]; what keeps other sizes from being built.
    pub fn prepare(&self) -> Result<Prepared, String> {
        let config = (self.config)();
        let dims = ModelDims::univariate(self.input_size, self.horizon);
        let hours = SyntheticHourly {
            n_series: SERIES,
            length: HOURS,
            ..SyntheticHourly::default()
        };
        Ok(Prepared {
            workload: *self,
            train: TrainConfig::from(config.entry().training),
            panel: hours.panel().map_err(|error| error.to_string())?,
            network: config.build(&dims).map_err(|error| error.to_string())?,
            loss: LossConfig::default()
                .build(self.horizon)
                .map_err(|error| error.to_string())?,
            config,
        })
    }
}

impl Prepared {
    /// The windows to train on, scaled as the model's defaults say.
    ///
    /// # Errors
    /// As [`TrainingWorkload::prepare`].
    pub fn source(&self) -> Result<PanelWindows<'_, f32>, String> {
        let rules = WindowConfig::new(self.workload.input_size, self.workload.horizon);
        let exogenous = Exogenous::default();
        let source = PanelWindows::new(&self.panel, &rules, WindowSet::Train, &exogenous);
        Ok(source
            .map_err(|error| error.to_string())?
            .with_scaler(self.scaler()))
    }

    /// How windows are scaled.
    #[must_use]
    pub fn scaler(&self) -> WindowScaler {
        self.config.entry().training.scaler
    }

    /// Network and loss.
    #[must_use]
    pub fn objective(&self) -> Objective<'_, f32> {
        Objective {
            network: &*self.network,
            loss: &*self.loss,
        }
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &dyn Network<f32> {
        &*self.network
    }

    /// A trainer with these options on the windows of [`Prepared::source`]; its steps want `workload.windows` windows.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn trainer<'a>(
        &'a self,
        source: &'a PanelWindows<'a, f32>,
        options: RunOptions,
    ) -> Result<Trainer<'a>, String> {
        let work = Work {
            objective: self.objective(),
            source,
            train: &self.train,
        };
        Trainer::new(work, options)
    }
}

#[cfg(test)]
mod tests {
    use nd_core::{AttentionKind, SimdLevel};

    use super::*;

    #[test]
    fn an_unknown_workload_is_told_what_there_is() {
        assert_eq!(TrainingWorkload::find("nhits").unwrap().name, "NHITS");
        let error = TrainingWorkload::find("NHITZ").unwrap_err();
        assert!(
            error.contains("NHITZ") && error.contains("PatchTST-long"),
            "{error}"
        );
    }

    #[test]
    fn the_long_workload_has_512_tokens() {
        let prepared = TrainingWorkload::find("PatchTST-long")
            .unwrap()
            .prepare()
            .unwrap();
        let layout = prepared.network().layout();
        let positions = layout
            .ids()
            .map(|id| layout.entry(id))
            .find(|entry| entry.name.ends_with("W_pos"))
            .unwrap();
        assert_eq!(&*positions.shape, &[512, 128]);
    }

    /// Every choice of a run is one of speed, not of what is computed.
    #[test]
    fn options_change_the_loss_only_in_its_last_digits() {
        for workload in TRAINING {
            let prepared = workload.prepare().unwrap();
            let source = prepared.source().unwrap();
            let windows = if workload.input_size > 1000 { 1 } else { 8 };
            let losses = |options: RunOptions| {
                let mut trainer = prepared.trainer(&source, options).unwrap();
                [(); 2].map(|()| trainer.step(windows).unwrap().report.loss)
            };
            let best = RunOptions {
                simd: SimdLevel::best(),
                threads: Some(2),
                ..RunOptions::default()
            };
            let fast = losses(best);
            for options in [
                RunOptions {
                    simd: SimdLevel::Scalar,
                    attention: AttentionKind::Standard,
                    threads: Some(1),
                    ..best
                },
                RunOptions {
                    attention: AttentionKind::Standard,
                    ..best
                },
            ] {
                for (a, b) in losses(options).into_iter().zip(fast) {
                    let name = workload.name;
                    assert!((a - b).abs() < 1e-4 * b.abs(), "{name}: {a} and {b}");
                }
            }
        }
    }
}
