//! Processes that train one network together, as threads of one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use nd_core::{Batch, BatchLayout, RowCoupling, Threads};
use nd_parallel::{AllReduce, BoxError, GradientEngine, GradientError, ShardPlan};

use super::net::{Net, batch, descend};

/// Longer than any sum takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where ranks meet: each puts its values down, waits for the others, and adds all of them in the same order.
///
/// Who waits in vain says for whom, and no later sum succeeds.
pub(crate) struct Meeting {
    count: usize,
    patience: Duration,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// Of every sum, the values of each rank that has come.
    sums: Vec<Vec<Option<Vec<f64>>>>,
    /// The ranks that are gone.
    left: Vec<usize>,
    /// The first sum that failed.
    lost: Option<String>,
}

impl Meeting {
    pub(crate) fn new(count: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            count,
            patience,
            state: Mutex::default(),
            moved: Condvar::new(),
        })
    }

    pub(crate) fn rank(self: &Arc<Self>, number: usize) -> Rank {
        Rank {
            number,
            next: AtomicUsize::new(0),
            meeting: Arc::clone(self),
        }
    }
}

impl State {
    /// The values of all ranks for a sum, when all have come with as many.
    fn all(&self, sum: usize) -> Option<Result<Vec<&Vec<f64>>, String>> {
        let all: Option<Vec<_>> = self.sums[sum].iter().map(Option::as_ref).collect();
        let all = all?;
        let odd = all.iter().position(|own| own.len() != all[0].len());
        Some(match odd {
            Some(rank) => Err(format!(
                "rank {rank} came to sum {sum} with {} values, rank 0 with {}",
                all[rank].len(),
                all[0].len()
            )),
            None => Ok(all),
        })
    }

    /// The ranks that have not come to a sum.
    fn missing(&self, sum: usize) -> Vec<usize> {
        let ranks = self.sums[sum].iter().enumerate();
        ranks
            .filter(|(_, own)| own.is_none())
            .map(|(rank, _)| rank)
            .collect()
    }
}

pub(crate) struct Rank {
    number: usize,
    next: AtomicUsize,
    meeting: Arc<Meeting>,
}

/// However a rank ends, by a panic as well: nobody waits for it.
impl Drop for Rank {
    fn drop(&mut self) {
        let mut state = self.meeting.state.lock().unwrap();
        state.left.push(self.number);
        self.meeting.moved.notify_all();
    }
}

impl Rank {
    /// The sum of each place over all ranks.
    fn add(&self, own: Vec<f64>) -> Result<Vec<f64>, BoxError> {
        let meeting = &*self.meeting;
        let sum = self.next.fetch_add(1, Ordering::Relaxed);
        let mut state = meeting.state.lock().unwrap();
        if let Some(lost) = &state.lost {
            return Err(lost.clone().into());
        }
        if state.sums.len() == sum {
            state.sums.push(vec![None; meeting.count]);
        }
        state.sums[sum][self.number] = Some(own);
        meeting.moved.notify_all();
        let waiting = |state: &mut State| {
            let missing = state.missing(sum);
            let gone = missing.iter().any(|rank| state.left.contains(rank));
            !missing.is_empty() && !gone && state.lost.is_none()
        };
        let (mut state, _) = meeting
            .moved
            .wait_timeout_while(state, meeting.patience, waiting)
            .unwrap();
        let failed = match state.all(sum) {
            Some(Ok(all)) => {
                let places = 0..all[0].len();
                return Ok(places
                    .map(|i| tree(&all.iter().map(|own| own[i]).collect::<Vec<_>>()))
                    .collect());
            }
            Some(Err(odd)) => odd,
            None => format!("ranks {:?} did not come to sum {sum}", state.missing(sum)),
        };
        let lost = state.lost.get_or_insert(failed).clone();
        meeting.moved.notify_all();
        Err(lost.into())
    }
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
        self.meeting.count
    }

    fn sum(&self, value: f64) -> Result<f64, BoxError> {
        Ok(self.add(vec![value])?[0])
    }

    fn sum_gradients(&self, loss: f64, gradients: &mut [f64]) -> Result<f64, BoxError> {
        let own = gradients.iter().copied().chain([loss]).collect();
        let sums = self.add(own)?;
        gradients.copy_from_slice(&sums[..gradients.len()]);
        Ok(sums[gradients.len()])
    }
}

/// Some rows of a batch as a batch of their own.
pub(crate) fn part(all: &Batch<f64>, first: usize, rows: usize) -> Batch<f64> {
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

pub(crate) type Trained = Result<(f64, Vec<f64>), GradientError>;

/// What every rank has after some steps: the rows of the batch in equal parts, in order.
fn ranks(net: &Net, all: &Batch<f64>, count: usize, plan: Option<ShardPlan>) -> Vec<Trained> {
    let meeting = Meeting::new(count, PATIENCE);
    let rows = all.rows() / count;
    let train = |number: usize| {
        let mut engine = GradientEngine::new().with_all_reduce(Arc::new(meeting.rank(number)));
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

/// The others would wait for ever.
#[test]
fn a_rank_whose_loss_is_not_finite_still_meets_the_others() {
    let net = Net::new(0.0, false);
    let mut all = batch(20);
    all.insample_y[3] = f64::NAN;
    let found = ranks(&net, &all, 2, None);
    let [bad, fine] = [0, 1].map(|rank: usize| match &found[rank] {
        Err(GradientError::NotFinite(found)) => found.clone(),
        other => panic!("{other:?}"),
    });
    assert!(bad.here && bad.place.is_some(), "{bad}");
    assert!(!fine.here && fine.place.is_none(), "{fine}");
    let text = fine.to_string();
    assert!(
        text.contains("another process, whose error names the place"),
        "{text}"
    );
}

/// The sum of every rank is fine, the loss that is made of it is not.
#[test]
fn a_loss_that_is_bad_by_itself_is_so_on_every_rank() {
    let net = Net::new(0.0, false);
    let mut all = batch(20);
    all.outsample_mask.fill(-1.0);
    all.outsample_y.fill(0.0);
    for found in ranks(&net, &all, 2, None) {
        let Err(GradientError::NotFinite(found)) = found else {
            panic!("{found:?}")
        };
        assert_eq!((found.here, &found.place), (true, &None));
        assert_eq!(found.origin(), "the loss itself");
    }
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

/// The ranks whose loss is fine must not take the step either, though weights that cancel out make any loss zero.
#[test]
fn ranks_agree_that_a_loss_is_not_finite_whatever_the_loss_makes_of_the_sum() {
    let net = Net::new(0.0, false);
    let mut all = batch(20);
    all.insample_y[3] = f64::NAN;
    let (first, second) = all.outsample_mask.split_at_mut(30);
    first.fill(1.0);
    second.fill(-1.0);
    all.outsample_y.fill(0.0);
    for found in ranks(&net, &all, 2, None) {
        assert!(
            matches!(found, Err(GradientError::NotFinite(_))),
            "{found:?}"
        );
    }
}
