//! Sums over processes that fail, in all of them or in one alone.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nd_core::autograd::{ParamLayout, Tape, Var};
use nd_core::{BatchView, Network, RowCoupling};
use nd_parallel::{AllReduce, BoxError, GradientEngine, GradientError, ShardPlan};

use super::net::{Net, batch, descend};
use super::ranks::{Meeting, PATIENCE, Rank, Trained, part};

/// A connection whose answers are lost from one call on: the others have them.
struct Deaf {
    rank: Rank,
    from: usize,
    calls: Arc<AtomicUsize>,
}

impl Deaf {
    fn hear<T>(&self, answer: Result<T, BoxError>) -> Result<T, BoxError> {
        if self.calls.fetch_add(1, Ordering::Relaxed) >= self.from {
            return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
        }
        answer
    }
}

impl AllReduce<f64> for Deaf {
    fn processes(&self) -> usize {
        self.rank.processes()
    }

    fn sum(&self, value: f64) -> Result<f64, BoxError> {
        self.hear(self.rank.sum(value))
    }

    fn sum_gradients(&self, loss: f64, gradients: &mut [f64]) -> Result<f64, BoxError> {
        self.hear(self.rank.sum_gradients(loss, gradients))
    }
}

fn reduce_error(found: &Trained) -> (&'static str, String) {
    match found {
        Err(GradientError::Reduce(error)) => (error.what, error.to_string()),
        other => panic!("{other:?}"),
    }
}

/// Rank 0 loses an answer that rank 1 gets. What each finds in two steps.
fn lose_an_answer(from: usize) -> [[Trained; 2]; 2] {
    let net = Net::new(0.0, false);
    let all = batch(20);
    let meeting = Meeting::new(2, PATIENCE);
    let train = |number: usize, all_reduce: Arc<dyn AllReduce<f64>>| {
        let mut engine = GradientEngine::new()
            .with_plan(ShardPlan::Rows(4))
            .with_all_reduce(all_reduce);
        let own = part(&all, number * 10, 10);
        [(); 2].map(|()| descend(&mut engine, &net, &own, number * 10, 1))
    };
    let calls = Arc::new(AtomicUsize::new(0));
    let deaf = Arc::new(Deaf {
        rank: meeting.rank(0),
        from,
        calls: Arc::clone(&calls),
    });
    let healthy = Arc::new(meeting.rank(1));
    let found = std::thread::scope(|scope| {
        let first = scope.spawn(move || train(0, deaf));
        let second = scope.spawn(move || train(1, healthy));
        [first, second].map(|rank| rank.join().unwrap())
    });
    assert_eq!(
        calls.load(Ordering::Relaxed),
        from + 1,
        "no call after the one that failed"
    );
    found
}

#[test]
fn a_rank_that_loses_the_gradients_alone_stops_and_the_others_stop_a_step_later() {
    let [deaf, other] = lose_an_answer(1);
    let (what, text) = reduce_error(&deaf[0]);
    assert_eq!(what, "losses and gradients");
    for words in [
        "connection reset",
        "in this process the weights are as before",
        "another may have taken it",
        "resume them from one checkpoint",
    ] {
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(deaf[1], deaf[0], "the step tried again has the same error");
    assert!(other[0].is_ok(), "rank 1 has the sums and takes the step");
    let (what, text) = reduce_error(&other[1]);
    assert_eq!(what, "weights");
    assert!(text.contains("ranks [0] did not come to sum 2"), "{text}");
}

/// The weights of a step tried again would be added to the gradients of the others.
#[test]
fn a_rank_that_loses_the_weights_alone_does_not_meet_the_gradients_of_the_others() {
    let [deaf, other] = lose_an_answer(0);
    assert_eq!(reduce_error(&deaf[0]).0, "weights");
    assert_eq!(deaf[1], deaf[0]);
    let (what, text) = reduce_error(&other[0]);
    assert_eq!(what, "losses and gradients");
    assert!(text.contains("ranks [0] did not come to sum 1"), "{text}");
    assert_eq!(other[1], other[0]);
}

#[test]
fn the_cause_of_a_failed_sum_is_kept() {
    let net = Net::new(0.0, false);
    for (from, what) in [(0, "weights"), (1, "losses and gradients")] {
        let deaf = Deaf {
            rank: Meeting::new(1, PATIENCE).rank(0),
            from,
            calls: Arc::default(),
        };
        let mut engine = GradientEngine::new().with_all_reduce(Arc::new(deaf));
        let error = descend(&mut engine, &net, &batch(20), 0, 1).unwrap_err();
        let GradientError::Reduce(found) = &error else {
            panic!("{error}")
        };
        assert_eq!(found.what, what);
        let cause = error.source().expect("the cause is kept");
        let cause = cause.downcast_ref::<std::io::Error>().expect("as it was");
        assert_eq!(cause.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(engine.take_updates().count(), 0);
    }
}

/// A network that panics in its first forward pass.
struct PanicsOnce {
    net: Net,
    calls: AtomicUsize,
}

impl Network<f64> for PanicsOnce {
    fn layout(&self) -> &Arc<ParamLayout> {
        &self.net.layout
    }

    fn coupling(&self) -> RowCoupling {
        Network::<f64>::coupling(&self.net)
    }

    fn forward<'t>(&self, tape: &'t Tape<f64>, batch: &BatchView<'_, f64>) -> Var<'t, f64> {
        assert!(
            self.calls.fetch_add(1, Ordering::Relaxed) > 0,
            "the first forward pass"
        );
        self.net.forward(tape, batch)
    }
}

/// What a step gives that panics, and the one after it.
fn panic_in_a_step(engine: &mut GradientEngine<f64>) -> [std::thread::Result<Trained>; 2] {
    let net = PanicsOnce {
        net: Net::new(0.0, false),
        calls: AtomicUsize::new(0),
    };
    let own = batch(10);
    [(); 2].map(|()| catch_unwind(AssertUnwindSafe(|| descend(engine, &net, &own, 0, 1))))
}

/// A step tried again would meet the others in the midst of the one that panicked.
#[test]
fn after_a_panic_a_rank_meets_the_others_no_more() {
    let meeting = Meeting::new(2, PATIENCE);
    let (first, second) = (meeting.rank(0), meeting.rank(1));
    let (panicked, other) = std::thread::scope(|scope| {
        let panicked = scope.spawn(move || {
            let mut engine = GradientEngine::new().with_all_reduce(Arc::new(first));
            panic_in_a_step(&mut engine)
        });
        let other = scope.spawn(move || {
            let mut engine = GradientEngine::new().with_all_reduce(Arc::new(second));
            descend(&mut engine, &Net::new(0.0, false), &batch(10), 10, 1)
        });
        (panicked.join().unwrap(), other.join().unwrap())
    });
    let [first, second] = panicked;
    assert!(first.is_err(), "the panic comes through");
    let (what, text) = reduce_error(&second.expect("no panic"));
    assert_eq!(what, "losses and gradients");
    assert!(
        text.contains("a panic interrupted an earlier step"),
        "{text}"
    );
    let (_, text) = reduce_error(&other);
    assert!(text.contains("ranks [0] did not come to sum 1"), "{text}");
}

#[test]
fn after_a_panic_a_process_alone_goes_on() {
    let [first, second] = panic_in_a_step(&mut GradientEngine::new());
    assert!(first.is_err(), "the panic comes through");
    second.expect("no panic").expect("a step");
}

#[test]
fn a_new_connection_starts_anew() {
    let net = Net::new(0.0, false);
    let deaf = Deaf {
        rank: Meeting::new(1, PATIENCE).rank(0),
        from: 0,
        calls: Arc::default(),
    };
    let mut engine = GradientEngine::new().with_all_reduce(Arc::new(deaf));
    descend(&mut engine, &net, &batch(20), 0, 1).unwrap_err();
    let mut engine = engine.with_all_reduce(Arc::new(Meeting::new(1, PATIENCE).rank(0)));
    descend(&mut engine, &net, &batch(20), 0, 1).expect("the connection works");
}

#[test]
fn who_waits_in_vain_says_for_whom() {
    let meeting = Meeting::new(3, Duration::from_millis(10));
    let [first, second, _third] = [0, 1, 2].map(|number| meeting.rank(number));
    let text = first.sum(1.0).unwrap_err().to_string();
    assert_eq!(text, "ranks [1, 2] did not come to sum 0");
    let late = second.sum(1.0).unwrap_err().to_string();
    assert_eq!(late, text, "who comes late learns of it");
}
