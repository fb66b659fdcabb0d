//! Threads are counted: as many work as were asked for, nested calls included.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use nd_parallel::{
    BoxError, Fit, Folds, Parallel, ParallelConfig, Predict, Task, Tune, parallel_batch_inference,
};

/// How long a thread waits for others that may be late on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who is at work, and how many were at the same time.
struct Count {
    /// Whoever works waits until so many do, or until that seems not to happen.
    wanted: usize,
    patience: Duration,
    seen: Mutex<BTreeSet<String>>,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Default for Count {
    fn default() -> Self {
        Self::wanting(0)
    }
}

impl Count {
    fn wanting(wanted: usize) -> Self {
        Self {
            wanted,
            patience: PATIENCE,
            seen: Mutex::default(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        }
    }

    fn work(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let id: ThreadId = std::thread::current().id();
        self.seen.lock().unwrap().insert(format!("{id:?}"));
        let start = Instant::now();
        while self.most.load(Ordering::SeqCst) < self.wanted && start.elapsed() < self.patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    fn found(&self) -> (usize, usize) {
        (
            self.seen.lock().unwrap().len(),
            self.most.load(Ordering::SeqCst),
        )
    }
}

impl Predict<u8, u8> for Count {
    fn predict(&self, x: &u8) -> Result<u8, BoxError> {
        self.work();
        Ok(*x)
    }
}

/// A fit that works on all the threads that it is given.
struct Wide<'c> {
    count: &'c Count,
    threads: &'c Mutex<Vec<usize>>,
    how: How,
}

#[derive(Clone, Copy, Debug)]
enum How {
    /// By rayon's own means.
    Rayon,
    /// By a parallel call that wants so many threads.
    Call(Option<usize>),
    /// By as many parallel calls at the same time as the task has threads.
    Calls,
}

impl Fit<Vec<f64>> for Wide<'_> {
    type Fitted = ();

    fn fit(&self, _: &Vec<f64>, task: &Task<'_>) -> Result<(), BoxError> {
        self.threads.lock().unwrap().push(task.threads());
        let call = |max_threads| {
            let config = ParallelConfig {
                max_threads,
                chunk_size: 1,
            };
            parallel_batch_inference(self.count, &[0; 16], &config).unwrap();
        };
        match self.how {
            How::Rayon => nd_core::threads::for_each_index(true, 16, |_| self.count.work()),
            How::Call(max_threads) => call(max_threads),
            How::Calls => rayon::scope(|scope| {
                for _ in 0..task.threads() {
                    scope.spawn(|_| call(None));
                }
            }),
        }
        Ok(())
    }

    fn score(&self, (): &(), _: &Vec<f64>, _: Range<usize>, _: &Task<'_>) -> Result<f64, BoxError> {
        Ok(0.0)
    }
}

impl<'c> Tune<u32> for Wide<'c> {
    fn tune(&self, _: &u32) -> Result<Self, BoxError> {
        Ok(Wide { ..*self })
    }
}

fn config(threads: usize) -> ParallelConfig {
    ParallelConfig {
        max_threads: Some(threads),
        chunk_size: 1,
    }
}

#[test]
fn exactly_as_many_threads_work_as_asked_for() {
    for threads in [1, 2, 3, 5, 8] {
        let count = Count::wanting(threads);
        parallel_batch_inference(&count, &[0; 64], &config(threads)).unwrap();
        assert_eq!(count.found(), (threads, threads));
    }
}

#[test]
fn a_grid_of_four_points_on_sixteen_threads_gives_each_fit_four() {
    let count = Count::wanting(16);
    grid_of_four(&count, How::Rayon);
    let (seen, most) = count.found();
    assert_eq!(most, 16, "at the same time");
    assert!(seen <= 16, "{seen} threads");
}

/// Whoever works in a nested call waits a moment for one more than there may be.
#[test]
fn calls_within_a_fit_have_its_threads_however_many_they_are() {
    for (how, expected) in [
        (How::Call(None), 16),
        (How::Call(Some(4)), 16),
        (How::Call(Some(64)), 16),
        (How::Call(Some(2)), 8),
        (How::Call(Some(1)), 4),
        (How::Calls, 16),
    ] {
        let count = Count {
            patience: Duration::from_millis(60),
            ..Count::wanting(expected + 1)
        };
        grid_of_four(&count, how);
        // A busy machine may be late with a thread, but never has one more.
        let most = count.found().1;
        assert!(
            most <= expected && most > expected / 4,
            "{most} for {how:?}, expected {expected}"
        );
    }
}

fn grid_of_four(count: &Count, how: How) {
    let threads = Mutex::new(Vec::new());
    let model = Wide {
        count,
        threads: &threads,
        how,
    };
    let search = Parallel::new(config(16))
        .folds(Folds::expanding(1))
        .grid_search(&model, &vec![0.0; 30], &[1, 2, 3, 4])
        .unwrap();
    assert_eq!(search.ranking.len(), 4);
    assert_eq!(*threads.lock().unwrap(), [4; 4]);
}

/// Many calls at the same time from a pool of the user's have its threads.
#[test]
fn calls_from_a_pool_share_it() {
    for max_threads in [None, Some(2), Some(64)] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(2)
            .build()
            .unwrap();
        let count = Count {
            patience: Duration::from_millis(1),
            ..Count::wanting(3)
        };
        let config = ParallelConfig {
            max_threads,
            chunk_size: 1,
        };
        pool.scope(|scope| {
            for _ in 0..150 {
                scope.spawn(|_| {
                    let found = parallel_batch_inference(&count, &[7; 8], &config).unwrap();
                    assert_eq!(found, [7; 8]);
                });
            }
        });
        let (seen, most) = count.found();
        assert!(seen <= 2 && most <= 2, "{seen} threads, {most} at once");
    }
}

/// Calls that want fewer threads than their pool has bring none of their own.
#[test]
fn calls_that_want_fewer_threads_share_those_of_the_pool() {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(3)
        .build()
        .unwrap();
    let patient = |wanted| Count {
        patience: Duration::from_millis(20),
        ..Count::wanting(wanted)
    };
    let three = patient(4);
    pool.scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|_| {
                parallel_batch_inference(&three, &[0; 8], &config(2)).unwrap();
                nd_parallel::install(Some(2), || three.work()).unwrap();
            });
        }
    });
    let (seen, most) = three.found();
    assert!(seen <= 3 && most <= 3, "{seen} threads, {most} at once");
    let one = patient(3);
    pool.install(|| parallel_batch_inference(&one, &[0; 8], &config(2)).unwrap());
    let most = one.found().1;
    assert!(most <= 2, "{most} tasks at once of a call that wanted 2");
}

/// A limit of one thread is one thread in a pool, too: nothing of it is split up, so no other task of the pool is taken up in its midst.
#[test]
fn one_thread_within_a_pool_is_one() {
    struct Asks;
    impl Predict<u8, (usize, bool)> for Asks {
        fn predict(&self, _: &u8) -> Result<(usize, bool), BoxError> {
            let threads = nd_core::threads::current().expect("a pool");
            Ok((threads, nd_core::threads::parallel()))
        }
    }
    let pool = nd_core::Threads::new(Some(3)).unwrap();
    pool.install(|| {
        let call = |threads| parallel_batch_inference(&Asks, &[0; 8], &config(threads)).unwrap();
        assert_eq!(call(1), [(1, false); 8]);
        assert_eq!(call(2), [(3, true); 8]);
        let within = nd_parallel::install(Some(1), || (call(2), call(8))).unwrap();
        assert_eq!(within, (vec![(1, false); 8], vec![(1, false); 8]));
        let count = Count::wanting(0);
        nd_parallel::install(Some(1), || {
            parallel_batch_inference(&count, &[0; 8], &config(8)).unwrap();
        })
        .unwrap();
        assert_eq!(count.found(), (1, 1));
        let panic = std::panic::catch_unwind(|| nd_parallel::install(Some(1), || panic!("inside")));
        assert!(panic.is_err());
        assert_eq!(nd_core::threads::current(), Some(3), "as before");
    });
}

/// A number that cannot be is the same error everywhere.
#[test]
fn impossible_numbers_of_threads_are_errors_within_a_pool_too() {
    let pool = nd_core::Threads::new(Some(2)).unwrap();
    for impossible in [0, nd_core::threads::MOST_THREADS + 1, usize::MAX] {
        let run = || {
            let call = parallel_batch_inference(&Count::default(), &[0; 8], &config(impossible));
            let install = nd_parallel::install(Some(impossible), || ());
            (call.unwrap_err().to_string(), install.unwrap_err())
        };
        assert_eq!(run(), pool.install(run));
    }
}

/// Lanes that share a pool lie above each other on its stacks when a model is parallel itself: none may wait for another.
#[test]
fn streams_in_a_shared_pool_come_to_an_end() {
    struct Joins;
    impl Predict<u64, u64> for Joins {
        fn predict(&self, x: &u64) -> Result<u64, BoxError> {
            let half = || std::thread::sleep(Duration::from_micros(20));
            rayon::join(half, half);
            Ok(x + 1)
        }
    }
    fn run(max_threads: Option<usize>) {
        let config = ParallelConfig {
            max_threads,
            chunk_size: 2,
        };
        let pool = nd_core::Threads::new(Some(3)).unwrap();
        pool.install(|| {
            rayon::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|_| {
                        let mut next = 0;
                        let end = Parallel::new(config)
                            .stream(&Joins, 0..501u64, |i, result| {
                                assert_eq!((i as u64, result.unwrap()), (next, next + 1));
                                next += 1;
                            })
                            .unwrap();
                        assert_eq!((end.samples, end.cancelled), (501, false));
                    });
                }
            });
        });
    }
    for max_threads in [None, Some(1), Some(2)] {
        nd_testing::in_time(move || run(max_threads));
    }
}

#[test]
fn threads_that_do_not_divide_evenly_are_all_used() {
    let (count, threads) = (Count::wanting(5), Mutex::new(Vec::new()));
    let model = Wide {
        count: &count,
        threads: &threads,
        how: How::Rayon,
    };
    let cv = Parallel::new(config(5))
        .cross_validation(&model, &vec![0.0; 30], 2)
        .unwrap();
    assert_eq!(cv.scores().count(), 2);
    let mut found = threads.into_inner().unwrap();
    found.sort_unstable();
    assert_eq!(found, [2, 3]);
    assert_eq!(count.found(), (5, 5));
}

#[test]
fn a_stream_has_the_threads_asked_for() {
    let count = Count::wanting(3);
    let end = Parallel::new(config(3))
        .stream(&count, std::iter::repeat_n(0, 64), |_, _| ())
        .unwrap();
    assert_eq!(end.samples, 64);
    assert_eq!(count.found(), (3, 3));
}
