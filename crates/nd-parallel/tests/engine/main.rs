//! The engine with a network and a loss in plain loops.

mod failures;
mod net;
mod ranks;

use std::sync::Arc;

use nd_core::autograd::{Mode, Params};
use nd_core::{Objective, Threads};
use nd_parallel::{GradientEngine, GradientError, ShardPlan};
use nd_testing::assert_close;

use net::{Net, Squares, batch, descend, step};

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

/// Enough shards for every kind of sum in the tree: chains of four, sums of these, and parts that are not full.
#[test]
fn weights_after_fifty_steps_are_the_same_on_any_number_of_threads() {
    let net = Net::new(0.3, false);
    for (rows, shards) in [(36, 9), (65, 17), (92, 23)] {
        let plan = ShardPlan::Rows(4);
        assert_eq!(plan.shards(rows), shards);
        let train = |threads: usize| {
            let mut engine = GradientEngine::new().with_plan(plan);
            Threads::new(Some(threads))
                .unwrap()
                .install(|| descend(&mut engine, &net, &batch(rows), 0, 50))
                .expect("finite")
        };
        let one = train(1);
        assert!(one.0 < 0.9 * descend_once(&net, plan, rows), "it learns");
        for threads in [2, 3, 8] {
            assert!(one == train(threads), "{shards} shards, {threads} threads");
        }
    }
}

fn descend_once(net: &Net, plan: ShardPlan, rows: usize) -> f64 {
    let mut engine = GradientEngine::new().with_plan(plan);
    descend(&mut engine, net, &batch(rows), 0, 1)
        .expect("finite")
        .0
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
    let GradientError::NotFinite(error) = error else {
        panic!("{error}")
    };
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
