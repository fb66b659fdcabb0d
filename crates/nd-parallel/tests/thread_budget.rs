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
#[derive(Default)]
struct Count {
    /// Whoever works waits until so many do, or until that seems not to happen.
    wanted: usize,
    seen: Mutex<BTreeSet<String>>,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Count {
    fn wanting(wanted: usize) -> Self {
        Self {
            wanted,
            ..Self::default()
        }
    }

    fn work(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let id: ThreadId = std::thread::current().id();
        self.seen.lock().unwrap().insert(format!("{id:?}"));
        let start = Instant::now();
        while self.most.load(Ordering::SeqCst) < self.wanted && start.elapsed() < PATIENCE {
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
    nested: bool,
}

impl Fit<Vec<f64>> for Wide<'_> {
    type Fitted = ();

    fn fit(&self, _: &Vec<f64>, task: &Task<'_>) -> Result<(), BoxError> {
        self.threads.lock().unwrap().push(task.threads());
        if self.nested {
            // Asks for all cores and for a fixed number; both are held to the threads of this task.
            for max_threads in [None, Some(64)] {
                let config = ParallelConfig {
                    max_threads,
                    chunk_size: 1,
                };
                parallel_batch_inference(self.count, &[0; 16], &config)?;
            }
        } else {
            nd_core::threads::for_each_index(true, 16, |_| self.count.work());
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
    for nested in [false, true] {
        let (count, threads) = (Count::wanting(16), Mutex::new(Vec::new()));
        let model = Wide {
            count: &count,
            threads: &threads,
            nested,
        };
        let search = Parallel::new(config(16))
            .folds(Folds::expanding(2))
            .grid_search(&model, &vec![0.0; 30], &[1, 2, 3, 4])
            .unwrap();
        assert_eq!(search.ranking.len(), 4);
        assert_eq!(*threads.lock().unwrap(), [4; 8]);
        let (seen, most) = count.found();
        assert_eq!(most, 16, "at the same time, nested: {nested}");
        if !nested {
            assert!(seen <= 16, "{seen} threads");
        }
    }
}

#[test]
fn threads_that_do_not_divide_evenly_are_all_used() {
    let (count, threads) = (Count::wanting(5), Mutex::new(Vec::new()));
    let model = Wide {
        count: &count,
        threads: &threads,
        nested: false,
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

#[test]
fn pools_come_back() {
    let threads = || {
        let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
            return 0;
        };
        let is_ours = |entry: &std::fs::DirEntry| {
            std::fs::read_to_string(entry.path().join("comm"))
                .is_ok_and(|name| name.starts_with("nd-worker"))
        };
        tasks.flatten().filter(is_ours).count()
    };
    let run = || {
        parallel_batch_inference(&Count::default(), &[0; 8], &config(2)).unwrap();
    };
    run();
    let before = threads();
    for _ in 0..50 {
        run();
    }
    // Other tests of this binary may make pools meanwhile, but not fifty.
    assert!(threads() < before + 90);
}
