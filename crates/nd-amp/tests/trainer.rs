//! The threads of a trainer.

use std::sync::{Arc, Mutex};

use nd_amp::{MixedPrecisionConfig, MixedPrecisionTrainer, StepError};
use nd_core::autograd::{Init, ParamId, ParamLayout, ParamsBuilder, Tape, Var};
use nd_core::threads::{MOST_THREADS, current};
use nd_core::{
    Batch, BatchLayout, BatchView, CoreError, Loss, LossValue, Network, Precision, RowCoupling,
    RunOptions, SimdLevel, Threads,
};
use nd_testing::ops::dense;

/// One dense layer that notes the size of the pool it runs in.
struct Net {
    layout: Arc<ParamLayout>,
    w: ParamId,
    seen: Mutex<Vec<Option<usize>>>,
}

impl Network<f32> for Net {
    fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }

    fn coupling(&self) -> RowCoupling {
        RowCoupling::RowLocal
    }

    fn forward<'t>(&self, tape: &'t Tape<f32>, batch: &BatchView<'_, f32>) -> Var<'t, f32> {
        self.seen.lock().expect("no panic").push(current());
        let x = tape.input([batch.rows(), 4], batch.insample_y);
        dense(x, tape.param(self.w))
    }
}

/// The mean of the squared outputs.
struct Small;

impl Loss<f32> for Small {
    fn name(&self) -> String {
        "small".into()
    }

    fn outputs_per_step(&self) -> usize {
        1
    }

    fn output_names(&self) -> Vec<String> {
        vec![String::new()]
    }

    fn domain_map(&self, _: &mut [f32], _: &BatchView<'_, f32>) {}

    fn total_weight(&self, batch: &BatchView<'_, f32>) -> f64 {
        batch.outsample_mask.len() as f64
    }

    fn forward(&self, _: SimdLevel, raw: &[f32], _: &BatchView<'_, f32>) -> f64 {
        raw.iter().map(|&x| f64::from(x * x)).sum()
    }

    fn backward(
        &self,
        simd: SimdLevel,
        raw: &[f32],
        batch: &BatchView<'_, f32>,
        scale: f32,
        draw: &mut [f32],
    ) -> f64 {
        for (d, x) in draw.iter_mut().zip(raw) {
            *d = 2.0 * x * scale;
        }
        self.forward(simd, raw, batch)
    }

    fn finish(&self, sum: f64, weight: f64) -> LossValue {
        LossValue {
            value: sum / weight,
            gradient_factor: 1.0,
        }
    }
}

/// Losses and weights of two steps, and the pools that the network has run in.
struct Steps {
    found: Result<(Vec<f64>, Vec<f32>), StepError>,
    seen: Vec<Option<usize>>,
    /// Whether the trainer has weights.
    begun: bool,
}

fn steps(threads: usize) -> Steps {
    let mut builder = ParamsBuilder::new();
    let w = builder.trainable("w", [4, 2], Init::Uniform(0.5));
    let net = Net {
        layout: builder.build(),
        w,
        seen: Mutex::default(),
    };
    let mut batch = Batch::new(BatchLayout::univariate(4, 2));
    batch.resize(40);
    batch.insample_y.fill(1.0);
    batch.outsample_mask.fill(1.0);
    let model = (net, Small);
    let options = RunOptions {
        threads: Some(threads),
        ..RunOptions::default()
    };
    let mut trainer = MixedPrecisionTrainer::new(MixedPrecisionConfig::default())
        .with_precision(Precision::F32)
        .with_options(options);
    let losses: Result<Vec<_>, _> = (0..2).map(|_| trainer.train_step(&batch, &model)).collect();
    let weights = |trainer: &MixedPrecisionTrainer| trainer.params().map(|p| p.flat().to_vec());
    Steps {
        found: losses.map(|losses| (losses, weights(&trainer).expect("weights"))),
        seen: model.0.seen.into_inner().expect("no panic"),
        begun: trainer.params().is_some(),
    }
}

#[test]
fn a_step_has_its_threads_and_within_a_pool_those_that_are_there() {
    let outside = steps(5);
    let all = |seen: &[Option<usize>], n| !seen.is_empty() && seen.iter().all(|&x| x == Some(n));
    assert!(all(&outside.seen, 5), "{:?}", outside.seen);
    let (losses, _) = outside.found.as_ref().expect("two steps");
    assert!(losses[1] < losses[0], "{losses:?}");
    let pool = Threads::new(Some(2)).expect("threads");
    // One is one within a pool, too.
    for (wanted, expected) in [(1, 1), (5, 2)] {
        let inside = pool.install(|| steps(wanted));
        assert!(all(&inside.seen, expected), "{:?}", inside.seen);
        assert_eq!(inside.found, outside.found, "losses and weights");
    }
}

#[test]
fn impossible_numbers_of_threads_are_errors_before_anything_is_drawn() {
    let pool = Threads::new(Some(2)).expect("threads");
    let (wanted, most) = (usize::MAX, MOST_THREADS);
    for (wanted, expected) in [
        (wanted, CoreError::TooManyThreads { wanted, most }),
        (0, CoreError::ZeroThreads),
    ] {
        for steps in [steps(wanted), pool.install(|| steps(wanted))] {
            let error = steps.found.expect_err("an impossible number");
            assert_eq!(error, StepError::from(expected.clone()));
            assert!(!steps.begun, "a corrected setting begins anew");
        }
    }
}
