//! Training steps of one process among several.

use std::sync::Arc;

use nd_amp::{BatchPart, MixedPrecisionConfig, StepError, TrainStep};
use nd_core::autograd::Params;
use nd_core::{Batch, Network, Objective, RunOptions, TrainState};
use nd_models::loss::LossConfig;
use nd_models::models::LstmConfig;
use nd_models::nn::ModelDims;
use nd_models::train::TrainConfig;
use nd_models::{ModelConfig, ZOO};
use nd_parallel::{AllReduce, BoxError, GradientEngine, GradientError};

/// Two processes, of which the other is gone.
struct Alone;

impl AllReduce<f32> for Alone {
    fn processes(&self) -> usize {
        2
    }

    fn sum(&self, _: f64) -> Result<f64, BoxError> {
        Err("process 1 does not answer".into())
    }

    fn sum_gradients(&self, _: f64, _: &mut [f32]) -> Result<f64, BoxError> {
        Err("process 1 does not answer".into())
    }
}

#[test]
fn a_step_that_cannot_reach_the_others_changes_nothing_and_says_why() {
    for name in ["DLinear", "PatchTST"] {
        let entry = ZOO.iter().find(|entry| entry.name == name);
        let entry = entry.expect("a model of the zoo");
        let dims = ModelDims::univariate(24, 6);
        let network = (entry.config)().build::<f32>(&dims).expect("a network");
        let loss = LossConfig::default().build::<f32>(6).expect("a loss");
        let objective = Objective {
            network: &*network,
            loss: &*loss,
        };
        let mut batch = Batch::new(dims.layout());
        batch.resize(4);
        let before = Arc::new(Params::init(network.layout(), 3));
        let mut params = Arc::clone(&before);
        let config = TrainConfig::default();
        let mixed = MixedPrecisionConfig::default();
        let mut state = TrainState::new(network.layout(), 3, config.optimizer.moments());
        state.loss_scale = mixed.initial_state();
        let (scale, options) = (state.loss_scale, RunOptions::default());
        let engine = GradientEngine::new().with_all_reduce(Arc::new(Alone));
        let mut step = TrainStep::with_engine(engine, config.optimizer, config.clip);
        let plain = step
            .run(objective, &mut params, &mut state, &batch, options, 0.1)
            .map(drop);
        let scaled = step
            .run_scaled(
                objective,
                &mut params,
                &mut state,
                &batch,
                options,
                0.1,
                &mixed,
            )
            .map(drop);
        for found in [plain, scaled] {
            let error = found.expect_err("nobody answers");
            let text = error.to_string();
            let StepError::Processes { step: 1, source } = error else {
                panic!("{text}")
            };
            let (named, words) = match source {
                GradientError::Reduce(source) => (source.what == "weights", "process 1"),
                GradientError::BatchWide { processes } => (processes == 2, "one process"),
                other => panic!("{other}"),
            };
            assert!(named && text.contains(words), "{name}: {text}");
        }
        assert_eq!(params.flat(), before.flat());
        assert_eq!((state.step, state.loss_scale), (0, scale));
    }
}

/// The first loss of windows that begin at a place of the whole batch.
fn first_loss<'a>(
    step: &mut TrainStep<f64>,
    network: &dyn Network<f64>,
    part: impl Into<BatchPart<'a, f64>>,
) -> f64 {
    let loss = LossConfig::default().build::<f64>(6).expect("a loss");
    let objective = Objective {
        network,
        loss: &*loss,
    };
    let mut params = Arc::new(Params::init(network.layout(), 3));
    let mut state = TrainState::new(network.layout(), 3, step.optimizer().moments());
    let options = RunOptions::default();
    step.run(objective, &mut params, &mut state, part, options, 0.1)
        .expect("a finite step")
        .loss
}

#[test]
fn parts_of_a_batch_draw_the_dropout_of_their_place_one_step_after_the_other() {
    let dims = ModelDims::univariate(24, 6);
    let config = LstmConfig {
        encoder_hidden_size: 16,
        encoder_dropout: 0.5,
        ..LstmConfig::default()
    };
    let network = ModelConfig::Lstm(config).build::<f64>(&dims);
    let network = &*network.expect("a network");
    let mut batch = Batch::new(dims.layout());
    batch.resize(4);
    batch.insample_y = nd_testing::cases::normals(1, batch.insample_y.len());
    batch.insample_mask.fill(1.0);
    batch.outsample_mask.fill(1.0);
    let mut both = Batch::new(dims.layout());
    both.resize(8);
    both.insample_y = batch.insample_y.repeat(2);
    both.insample_mask.fill(1.0);
    both.outsample_mask.fill(1.0);

    let config = TrainConfig::default();
    let mut step = TrainStep::new(config.optimizer, config.clip);
    let whole = first_loss(&mut step, network, &both);
    let parts = [0, 4].map(|first_row| {
        let batch = &batch;
        first_loss(&mut step, network, BatchPart { batch, first_row })
    });
    assert!((parts[0] - parts[1]).abs() > 1e-6, "other draws: {parts:?}");
    let mean = (parts[0] + parts[1]) / 2.0;
    nd_testing::assert_close("loss", &[mean], &[whole], 0.0, 1e-12);
}
