//! Training steps of one process among several.

use std::sync::Arc;

use nd_amp::{MixedPrecisionConfig, StepError, TrainStep};
use nd_core::autograd::Params;
use nd_core::{Batch, Objective, RunOptions, TrainState};
use nd_models::ZOO;
use nd_models::loss::LossConfig;
use nd_models::nn::ModelDims;
use nd_models::train::TrainConfig;
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

    fn sum_gradients(&self, _: &mut [f32]) -> Result<(), BoxError> {
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
