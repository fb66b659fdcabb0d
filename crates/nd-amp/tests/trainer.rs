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

fn step(threads: usize) -> (Result<f64, StepError>, Vec<Option<usize>>) {
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
    let found = MixedPrecisionTrainer::new(MixedPrecisionConfig::default())
        .with_precision(Precision::F32)
        .with_options(options)
        .train_step(&batch, &model);
    (found, model.0.seen.into_inner().expect("no panic"))
}

#[test]
fn a_step_has_its_threads_and_within_a_pool_those_that_are_there() {
    let (outside, seen) = step(5);
    assert!(
        !seen.is_empty() && seen.iter().all(|&n| n == Some(5)),
        "{seen:?}"
    );
    let pool = Threads::new(Some(2)).expect("threads");
    for wanted in [1, 5] {
        let (inside, seen) = pool.install(|| step(wanted));
        assert!(
            !seen.is_empty() && seen.iter().all(|&n| n == Some(2)),
            "{seen:?}"
        );
        assert_eq!(inside.expect("a step"), *outside.as_ref().expect("a step"));
    }
}

#[test]
fn impossible_numbers_of_threads_are_errors_within_a_pool_too() {
    let pool = Threads::new(Some(2)).expect("threads");
    for found in [step(usize::MAX).0, pool.install(|| step(usize::MAX).0)] {
        let (wanted, most) = (usize::MAX, MOST_THREADS);
        let expected = StepError::from(CoreError::TooManyThreads { wanted, most });
        assert_eq!(
            found.expect_err("too many").to_string(),
            expected.to_string()
        );
    }
}
