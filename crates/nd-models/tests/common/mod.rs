//! A training run of a model of the zoo on synthetic data, one step at a time.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::Arc;

use nd_amp::{MixedPrecisionConfig, Outcome, TrainStep};
use nd_core::autograd::Params;
use nd_core::{Batch, Loss, Network, Objective, Precision, RunOptions, Threads, TrainState};
use nd_data::datasets::SyntheticHourly;
use nd_data::{Exogenous, Panel, PanelWindows, WindowConfig, WindowSet};
use nd_models::loss::LossConfig;
use nd_models::nn::ModelDims;
use nd_models::train::TrainConfig;
use nd_models::train::gather::gather;
use nd_models::train::sampler::Sampler;
use nd_models::train::schedule::learning_rate;
use nd_models::{ModelConfig, ZooEntry};

/// Whether a run was asked to take its time: `ND_LONG_TESTS=1`. Without it sizes are the smallest that take every path.
pub(crate) fn long() -> bool {
    std::env::var_os("ND_LONG_TESTS").is_some_and(|value| value == "1")
}

/// Four hourly series of 600 hours.
pub(crate) fn panel() -> Panel<f32> {
    SyntheticHourly {
        n_series: 4,
        length: 600,
        ..SyntheticHourly::default()
    }
    .panel()
    .expect("a valid data set")
}

/// A network, its data and everything that a run carries.
pub(crate) struct Run<'p> {
    network: Box<dyn Network<f32>>,
    loss: Box<dyn Loss<f32>>,
    source: PanelWindows<'p, f32>,
    config: TrainConfig,
    options: RunOptions,
    threads: Threads,
    step: TrainStep<f32>,
    sampler: Sampler,
    batch: Batch<f32>,
    pub(crate) params: Arc<Params<f32>>,
    pub(crate) state: TrainState<f32>,
}

impl<'p> Run<'p> {
    pub(crate) fn new(
        panel: &'p Panel<f32>,
        entry: &ZooEntry,
        model: &ModelConfig,
        windows: usize,
        threads: usize,
    ) -> Self {
        let config = TrainConfig {
            windows_batch_size: Some(windows),
            ..TrainConfig::from(entry.training)
        };
        let dims = ModelDims::univariate(96, 24);
        let network = model.build::<f32>(&dims).expect("a valid model");
        let source = PanelWindows::new(
            panel,
            &WindowConfig::new(96, 24),
            WindowSet::Train,
            &Exogenous::default(),
        )
        .expect("windows")
        .with_scaler(entry.training.scaler);
        let layout = network.layout();
        let params = Arc::new(Params::init(layout, config.seed));
        let state = TrainState::new(layout, config.seed, config.optimizer.moments());
        let step = TrainStep::new(config.optimizer, config.clip);
        Self {
            loss: LossConfig::default().build(24).expect("a valid loss"),
            batch: Batch::new(dims.layout()),
            sampler: Sampler::default(),
            options: RunOptions::default(),
            threads: Threads::new(Some(threads)).expect("threads"),
            network,
            source,
            config,
            step,
            params,
            state,
        }
    }

    /// The same run in another format, with the loss scale at its beginning.
    pub(crate) fn in_precision(mut self, precision: Precision) -> Self {
        self.options.precision = precision;
        if precision != Precision::F32 {
            self.state.loss_scale = MixedPrecisionConfig::default().initial_state();
        }
        self
    }

    /// Runs `work` on a thread of the run's pool, so that its steps do not have to be handed to one: the queue for that asks for
    /// memory now and then.
    pub(crate) fn inside<T: Send>(&mut self, work: impl FnOnce(&mut Self) -> T + Send) -> T {
        let threads = self.threads.clone();
        threads.install(|| work(self))
    }

    /// Takes one step and returns its loss.
    pub(crate) fn step(&mut self) -> f64 {
        let Self {
            sampler,
            state,
            params,
            batch,
            source,
            config,
            step,
            network,
            loss,
            ..
        } = self;
        let objective = Objective {
            network: &**network,
            loss: &**loss,
        };
        let options = self.options;
        self.threads.install(|| {
            let parallel = nd_core::threads::parallel();
            let count = config.windows_batch_size;
            let windows = sampler.draw(&*source, &mut state.sampler, config.batch_size, count);
            gather(&*source, windows, batch, parallel);
            let lr = learning_rate(config, state.step);
            if options.precision == Precision::F32 {
                let report = step.run(objective, params, state, &*batch, options, lr);
                return report.expect("a finite step").loss;
            }
            let mixed = MixedPrecisionConfig::default();
            match step.run_scaled(objective, params, state, &*batch, options, lr, &mixed) {
                Ok(Outcome::Taken(report)) => report.loss,
                other => panic!("expected a step, found {other:?}"),
            }
        })
    }
}
