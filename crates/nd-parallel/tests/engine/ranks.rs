//! Processes that train one network together, as threads of one.

use std::error::Error;
use std::sync::{Arc, Barrier, Mutex};

use nd_core::{Batch, BatchLayout, RowCoupling, Threads};
use nd_parallel::{AllReduce, BoxError, GradientEngine, GradientError, ShardPlan};

use super::net::{Net, batch, descend};

/// Where ranks meet: each puts its values down, waits for the others, and adds all of them in the same order.
struct Meeting {
    barrier: Barrier,
    values: Mutex<Vec<Vec<f64>>>,
}

struct Rank {
    number: usize,
    meeting: Arc<Meeting>,
}

/// The sum of some ranks in a balanced tree.
fn tree(parts: &[f64]) -> f64 {
    match parts {
        [part] => *part,
        _ => {
            let (left, right) = parts.split_at(parts.len() / 2);
            tree(left) + tree(right)
        }
    }
}

impl AllReduce<f64> for Rank {
    fn processes(&self) -> usize {
        self.meeting.values.lock().unwrap().len()
    }

    fn sum(&self, value: f64) -> Result<f64, BoxError> {
        let mut values = [value];
        self.sum_gradients(&mut values)?;
        Ok(values[0])
    }

    fn sum_gradients(&self, values: &mut [f64]) -> Result<(), BoxError> {
        let Self { number, meeting } = self;
        meeting.values.lock().unwrap()[*number] = values.to_vec();
        meeting.barrier.wait();
        {
            let all = meeting.values.lock().unwrap();
            for (i, value) in values.iter_mut().enumerate() {
                let parts: Vec<f64> = all.iter().map(|part| part[i]).collect();
                *value = tree(&parts);
            }
        }
        meeting.barrier.wait();
        Ok(())
    }
}

/// Some rows of a batch as a batch of their own.
fn part(all: &Batch<f64>, first: usize, rows: usize) -> Batch<f64> {
    let mut own = Batch::new(BatchLayout::univariate(6, 3));
    own.resize(rows);
    let copy = |to: &mut [f64], from: &[f64], width: usize| {
        to.copy_from_slice(&from[first * width..(first + rows) * width]);
    };
    copy(&mut own.insample_y, &all.insample_y, 6);
    copy(&mut own.outsample_y, &all.outsample_y, 3);
    copy(&mut own.outsample_mask, &all.outsample_mask, 3);
    own
}

type Trained = Result<(f64, Vec<f64>), GradientError>;

/// What every rank has after some steps: the rows of the batch in equal parts, in order.
fn ranks(net: &Net, all: &Batch<f64>, count: usize, plan: Option<ShardPlan>) -> Vec<Trained> {
    let meeting = Arc::new(Meeting {
        barrier: Barrier::new(count),
        values: Mutex::new(vec![Vec::new(); count]),
    });
    let rows = all.rows() / count;
    let train = |number: usize| {
        let meeting = Arc::clone(&meeting);
        let mut engine = GradientEngine::new().with_all_reduce(Arc::new(Rank { number, meeting }));
        if let Some(plan) = plan {
            engine = engine.with_plan(plan);
        }
        let own = part(all, number * rows, rows);
        Threads::new(Some(2))
            .unwrap()
            .install(|| descend(&mut engine, net, &own, number * rows, 5))
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..count)
            .map(|number| scope.spawn(move || train(number)))
            .collect();
        started
            .into_iter()
            .map(|rank| rank.join().unwrap())
            .collect()
    })
}

fn one_process(net: &Net, all: &Batch<f64>, plan: Option<ShardPlan>) -> Trained {
    let mut engine = GradientEngine::new();
    if let Some(plan) = plan {
        engine = engine.with_plan(plan);
    }
    descend(&mut engine, net, all, 0, 5)
}

#[test]
fn ranks_of_whole_subtrees_have_the_bits_of_one_process() {
    let all = batch(64);
    for drop in [0.0, 0.3] {
        let net = Net::new(drop, false);
        let plan = Some(ShardPlan::Rows(4));
        let whole = one_process(&net, &all, plan).expect("finite");
        for count in [1, 2, 4] {
            for (number, found) in ranks(&net, &all, count, plan).into_iter().enumerate() {
                assert!(
                    found.expect("finite") == whole,
                    "rank {number} of {count}, dropout {drop}"
                );
            }
        }
    }
}

/// Dropout that were drawn by the place within the rank would be off by a percent.
#[test]
fn ranks_of_any_size_draw_the_same_dropout() {
    let all = batch(50);
    let net = Net::new(0.3, false);
    let plan = Some(ShardPlan::Whole);
    let (loss, weights) = one_process(&net, &all, plan).expect("finite");
    for found in ranks(&net, &all, 2, plan) {
        let (own_loss, own) = found.expect("finite");
        nd_testing::assert_close("loss", &[own_loss], &[loss], 0.0, 1e-12);
        nd_testing::assert_close("weights", &own, &weights, 1e-13, 1e-11);
    }
}

/// An engine plans for the rows that it sees; the plan of the whole batch must be given to it.
#[test]
fn the_plan_of_the_whole_batch_gives_the_bits_of_the_default_plan() {
    let all = batch(1024);
    let net = Net::new(0.3, false);
    let plan = |rows| ShardPlan::new(RowCoupling::RowLocal, rows, net.layout.trainable_len());
    assert_eq!(
        (plan(1024), plan(512)),
        (ShardPlan::Rows(64), ShardPlan::Rows(32))
    );
    let whole = one_process(&net, &all, None).expect("finite");
    let with_plan = ranks(&net, &all, 2, Some(plan(1024)));
    assert!(
        with_plan
            .into_iter()
            .all(|found| found.expect("finite") == whole)
    );
    let without = ranks(&net, &all, 2, None);
    assert!(
        without
            .into_iter()
            .all(|found| found.expect("finite") != whole)
    );
}

/// Counts calls, and cannot reach anybody from one of them on.
struct Broken {
    from: usize,
    calls: Mutex<usize>,
}

impl Broken {
    fn call(&self) -> Result<(), BoxError> {
        let mut calls = self.calls.lock().unwrap();
        *calls += 1;
        if *calls > self.from {
            return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
        }
        Ok(())
    }
}

impl AllReduce<f64> for Broken {
    fn processes(&self) -> usize {
        2
    }

    fn sum(&self, value: f64) -> Result<f64, BoxError> {
        self.call().map(|()| value)
    }

    fn sum_gradients(&self, _: &mut [f64]) -> Result<(), BoxError> {
        self.call()
    }
}

#[test]
fn a_broken_connection_ends_the_step_with_its_error() {
    let net = Net::new(0.0, false);
    for (from, what) in [(0, "weights"), (1, "gradients"), (2, "losses")] {
        let calls = Mutex::new(0);
        let mut engine = GradientEngine::new()
            .with_plan(ShardPlan::Rows(4))
            .with_all_reduce(Arc::new(Broken { from, calls }));
        let error = descend(&mut engine, &net, &batch(20), 0, 1).unwrap_err();
        let GradientError::Reduce(found) = &error else {
            panic!("{error}")
        };
        assert_eq!(found.what, what);
        assert!(error.to_string().contains("connection reset"), "{error}");
        let cause = error.source().expect("the cause is kept");
        let cause = cause.downcast_ref::<std::io::Error>().expect("as it was");
        assert_eq!(cause.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(engine.take_updates().count(), 0);
    }
}

/// The others would wait for ever.
#[test]
fn a_rank_whose_loss_is_not_finite_still_meets_the_others() {
    let net = Net::new(0.0, false);
    let mut all = batch(20);
    all.insample_y[3] = f64::NAN;
    let found = ranks(&net, &all, 2, None);
    let places: Vec<bool> = found
        .into_iter()
        .map(|found| match found {
            Err(GradientError::NotFinite(found)) => found.place.is_some(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(places, [true, false], "the rank that has it says where");
}

#[test]
fn a_network_that_looks_at_the_whole_batch_is_refused_on_several_ranks() {
    let net = Net::new(0.0, true);
    for found in ranks(&net, &batch(20), 2, None) {
        assert_eq!(
            found.unwrap_err(),
            GradientError::BatchWide { processes: 2 }
        );
    }
}
