//! The engine with a network and a loss in plain loops.

use std::sync::Arc;

use nd_core::autograd::{Init, Mode, ParamId, ParamLayout, Params, ParamsBuilder, Tape, Var};
use nd_core::rng::Key;
use nd_core::{
    Batch, BatchLayout, BatchView, Loss, LossValue, Network, Objective, Real, RowCoupling,
    RunOptions, SimdLevel, Threads,
};
use nd_parallel::{GradientEngine, ShardPlan, StepOptions};
use nd_testing::assert_close;
use nd_testing::ops::{center, dense, dropout, square};

struct Net {
    layout: Arc<ParamLayout>,
    w: [ParamId; 2],
    drop: f64,
    coupled: bool,
}

impl Net {
    fn new(drop: f64, coupled: bool) -> Self {
        let mut b = ParamsBuilder::new();
        let w1 = b.trainable("w1", [6, 5], Init::Uniform(0.5));
        let w2 = b.trainable("w2", [5, 3], Init::Uniform(0.5));
        Self {
            layout: b.build(),
            w: [w1, w2],
            drop,
            coupled,
        }
    }
}

impl<R: Real> Network<R> for Net {
    fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }

    fn coupling(&self) -> RowCoupling {
        if self.coupled {
            RowCoupling::BatchWide
        } else {
            RowCoupling::RowLocal
        }
    }

    fn forward<'t>(&self, tape: &'t Tape<R>, batch: &BatchView<'_, R>) -> Var<'t, R> {
        let x = tape.input([batch.rows(), 6], batch.insample_y);
        let mut x = square(dense(x, tape.param(self.w[0])));
        if self.coupled {
            x = center(x);
        }
        dense(dropout(x, self.drop), tape.param(self.w[1]))
    }
}

fn residuals<R: Real>(raw: &[R], batch: &BatchView<'_, R>) -> Vec<f64> {
    let entries = raw.iter().zip(batch.outsample_y).zip(batch.outsample_mask);
    entries
        .map(|((f, y), m)| {
            if *m == R::ZERO {
                0.0
            } else {
                (*f - *y).to_f64()
            }
        })
        .collect()
}

/// The masked mean of squares, or its root: the root is not additive over shards.
struct Squares {
    root: bool,
}

impl<R: Real> Loss<R> for Squares {
    fn name(&self) -> String {
        "squares".into()
    }

    fn outputs_per_step(&self) -> usize {
        1
    }

    fn output_names(&self) -> Vec<String> {
        vec![String::new()]
    }

    fn domain_map(&self, _: &mut [R], _: &BatchView<'_, R>) {}

    fn total_weight(&self, batch: &BatchView<'_, R>) -> f64 {
        batch.outsample_mask.iter().map(|m| m.to_f64()).sum()
    }

    fn forward(&self, _: SimdLevel, raw: &[R], batch: &BatchView<'_, R>) -> f64 {
        residuals(raw, batch).iter().map(|e| e * e).sum()
    }

    fn backward(
        &self,
        simd: SimdLevel,
        raw: &[R],
        batch: &BatchView<'_, R>,
        scale: R,
        draw: &mut [R],
    ) -> f64 {
        for (d, e) in draw.iter_mut().zip(residuals(raw, batch)) {
            *d = R::from_f64(2.0 * e * scale.to_f64());
        }
        self.forward(simd, raw, batch)
    }

    fn finish(&self, sum: f64, weight: f64) -> LossValue {
        if weight == 0.0 {
            return LossValue {
                value: 0.0,
                gradient_factor: 1.0,
            };
        }
        let mean = sum / weight;
        if self.root {
            LossValue {
                value: mean.sqrt(),
                gradient_factor: 0.5 / mean.sqrt(),
            }
        } else {
            LossValue {
                value: mean,
                gradient_factor: 1.0,
            }
        }
    }
}

fn batch(rows: usize) -> Batch<f64> {
    let mut batch = Batch::new(BatchLayout::univariate(6, 3));
    batch.resize(rows);
    batch.insample_y = nd_testing::cases::normals(1, rows * 6);
    batch.outsample_y = nd_testing::cases::normals(2, rows * 3);
    for (i, mask) in batch.outsample_mask.iter_mut().enumerate() {
        *mask = f64::from(u8::from(i % 5 != 0));
        if i % 5 == 0 {
            batch.outsample_y[i] = f64::NAN;
        }
    }
    batch
}

fn step(mode: Mode) -> StepOptions {
    let key = Key {
        seed: 3,
        step: 1,
        op: 0,
    };
    StepOptions {
        options: RunOptions::default(),
        key,
        mode,
        loss_scale: 1.0,
    }
}

fn gradients(net: &Net, plan: ShardPlan, threads: usize, rows: usize) -> (f64, Vec<f64>) {
    let params = Arc::new(Params::<f64>::init(&net.layout, 4));
    let mut engine = GradientEngine::new().with_plan(plan);
    let batch = batch(rows);
    let objective = Objective {
        network: net,
        loss: &Squares { root: true },
    };
    let threads = Threads::new(Some(threads)).unwrap();
    let mut out = (0.0, Vec::new());
    for _ in 0..3 {
        let found = threads
            .install(|| engine.compute(objective, &params, &batch, step(Mode::Train)))
            .expect("finite");
        let scaled = engine
            .gradients()
            .flat()
            .iter()
            .map(|g| g * found.factor)
            .collect();
        out = (found.loss, scaled);
    }
    out
}

#[test]
fn shards_give_the_gradient_of_the_whole_batch_with_masks_rmse_and_dropout() {
    let net = Net::new(0.3, false);
    let (loss, whole) = gradients(&net, ShardPlan::Whole, 1, 50);
    assert!(whole.iter().any(|g| g.abs() > 1e-3));
    for rows in [1, 7, 25, 49, 50, 64] {
        let (sharded_loss, sharded) = gradients(&net, ShardPlan::Rows(rows), 2, 50);
        assert_close("loss", &[sharded_loss], &[loss], 0.0, 1e-12);
        assert_close("gradients", &sharded, &whole, 1e-14, 1e-11);
    }
}

#[test]
fn the_gradient_is_that_of_finite_differences() {
    let net = Net::new(0.0, false);
    let batch = batch(20);
    let objective = Objective {
        network: &net,
        loss: &Squares { root: true },
    };
    let loss = |params: &Arc<Params<f64>>| {
        let mut engine = GradientEngine::new().with_plan(ShardPlan::Rows(8));
        let run = || engine.compute(objective, params, &batch, step(Mode::Train));
        Threads::new(Some(1))
            .unwrap()
            .install(run)
            .expect("finite")
            .loss
    };
    let (_, gradient) = gradients(&net, ShardPlan::Rows(8), 1, 20);
    let params = Params::<f64>::init(&net.layout, 4);
    for (id, at) in [(net.w[0], 0), (net.w[0], 29), (net.w[1], 7)] {
        let moved = |by: f64| {
            let mut params = params.clone();
            params.get_mut(id)[at] += by;
            loss(&Arc::new(params))
        };
        let wanted = (moved(1e-6) - moved(-1e-6)) / 2e-6;
        let found = gradient[net.layout.range(id).start + at];
        assert_close("gradient", &[found], &[wanted], 1e-8, 1e-6);
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    for (net, plan) in [
        (Net::new(0.3, false), ShardPlan::Rows(3)),
        (Net::new(0.3, false), ShardPlan::Rows(1)),
        (Net::new(0.3, true), ShardPlan::Whole),
    ] {
        let one = gradients(&net, plan, 1, 40);
        for threads in [2, 3, 8] {
            assert_eq!(
                one,
                gradients(&net, plan, threads, 40),
                "{plan:?} on {threads} threads"
            );
        }
    }
}

#[test]
fn a_bad_value_is_reported_with_its_place() {
    let net = Net::new(0.0, false);
    let mut params = Params::<f64>::init(&net.layout, 4);
    params.get_mut(net.w[1])[2] = f64::NAN;
    let params = Arc::new(params);
    let objective = Objective {
        network: &net,
        loss: &Squares { root: false },
    };
    let mut engine = GradientEngine::new().with_plan(ShardPlan::Rows(4));
    let batch = batch(10);
    let threads = Threads::new(Some(2)).unwrap();
    let error = threads
        .install(|| engine.compute(objective, &params, &batch, step(Mode::Train)))
        .unwrap_err();
    let place = error.place.expect("the forward pass has it").to_string();
    assert_eq!(place, "parameter near parameter w2");
}

#[test]
fn a_batch_without_observed_targets_has_no_gradient() {
    let net = Net::new(0.0, false);
    let mut empty = batch(10);
    empty.outsample_mask.fill(0.0);
    let params = Arc::new(Params::<f64>::init(&net.layout, 4));
    let objective = Objective {
        network: &net,
        loss: &Squares { root: false },
    };
    let mut engine = GradientEngine::new();
    let run = || engine.compute(objective, &params, &empty, step(Mode::Train));
    let found = Threads::new(Some(1))
        .unwrap()
        .install(run)
        .expect("zero is finite");
    assert_eq!((found.loss, found.weight), (0.0, 0.0));
    assert!(engine.gradients().flat().iter().all(|&g| g == 0.0));
}
