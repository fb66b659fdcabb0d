//! The threads of the whole process: none that nobody needs, and never those of rayon's global pool.
//!
//! A program of its own, whose tests take turns, so that nobody else's threads are counted.
#![cfg(target_os = "linux")]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use nd_parallel::{
    BoxError, EnsembleAggregation, Parallel, ParallelConfig, Predict, parallel_batch_inference,
    parallel_ensemble_predict, parallel_preprocess,
};

static TURN: Mutex<()> = Mutex::new(());

struct Same;

impl Predict<u8, u8> for Same {
    fn predict(&self, x: &u8) -> Result<u8, BoxError> {
        Ok(*x)
    }
}

struct Halves;

impl Predict<f32, f32> for Halves {
    fn predict(&self, x: &f32) -> Result<f32, BoxError> {
        Ok(x / 2.0)
    }
}

fn config(threads: usize) -> ParallelConfig {
    ParallelConfig {
        max_threads: Some(threads),
        chunk_size: 1,
    }
}

/// The threads of our pools, by their numbers in the system.
fn workers() -> Vec<String> {
    let is_ours = |entry: &std::fs::DirEntry| {
        std::fs::read_to_string(entry.path().join("comm"))
            .is_ok_and(|name| name.starts_with("nd-worker"))
    };
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads of this process");
    let ours = tasks.flatten().filter(is_ours);
    let mut names: Vec<String> = ours
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

/// Threads end some time after their pool: waits until there are no more than `most`.
fn settled(most: usize) -> Vec<String> {
    let start = Instant::now();
    loop {
        let found = workers();
        if found.len() <= most || start.elapsed() > Duration::from_secs(20) {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Idle threads there may be after a call with so many.
fn bound(last: usize) -> usize {
    last.max(4 * nd_core::threads::cores())
}

#[test]
fn a_call_has_the_threads_of_the_one_before() {
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    let run = || parallel_batch_inference(&Same, &[0; 8], &config(3)).unwrap();
    run();
    let before = settled(bound(3));
    assert!(before.len() >= 3);
    for _ in 0..50 {
        run();
    }
    assert_eq!(workers(), before, "no thread ended, none began");
}

/// One thread for each core, a few for a call within limits, one team of everything: such a round ends no thread.
#[test]
fn calls_in_turns_find_their_threads_again() {
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    let cores = nd_core::threads::cores();
    let round = || {
        parallel_batch_inference(&Same, &vec![0; cores], &config(cores)).unwrap();
        for threads in [2, cores, cores + 1] {
            parallel_batch_inference(&Same, &[0], &config(threads)).unwrap();
        }
    };
    // What other calls left goes first.
    round();
    round();
    let before = settled(bound(0));
    for _ in 0..20 {
        round();
    }
    assert_eq!(workers(), before, "no thread ended, none began");
}

#[test]
fn idle_threads_are_given_back() {
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    for samples in 1..=32 {
        parallel_batch_inference(&Same, &vec![0; samples], &config(32)).unwrap();
    }
    let found = settled(bound(32)).len();
    assert!(found <= bound(32), "{found} threads after calls with 32");
    for threads in 1..=64 {
        parallel_batch_inference(&Same, &[0], &config(threads)).unwrap();
    }
    // One sample is one team, which is not larger than the machine, or 16.
    let most = bound(16);
    let found = settled(most).len();
    assert!(found <= most, "{found} threads after calls with up to 64");
    parallel_batch_inference(&Same, &[0], &config(1)).unwrap();
    let found = settled(bound(1)).len();
    assert!(found <= bound(1), "{found} threads after a call with one");
}

#[test]
fn nobody_starts_threads_that_nobody_can_use() {
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    let seen = |_: &u8| -> Result<(usize, usize), BoxError> {
        Ok((workers().len(), rayon::current_num_threads()))
    };
    let before = workers().len();
    let found = Parallel::new(config(1024))
        .preprocess(&[0], &seen)
        .unwrap()
        .complete()
        .unwrap();
    let cores = nd_core::threads::cores();
    let (threads, of_team) = found[0];
    assert_eq!(of_team, cores.max(16));
    assert!(threads <= before + of_team, "{threads} threads");
}

#[test]
fn the_global_pool_is_never_started() {
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    for max_threads in [None, Some(1), Some(3)] {
        let config = ParallelConfig {
            max_threads,
            chunk_size: 1,
        };
        parallel_batch_inference(&Same, &[0; 9], &config).unwrap();
        let mean = EnsembleAggregation::Mean;
        parallel_ensemble_predict(&[Halves, Halves], &[1.0; 9], mean, &config).unwrap();
        let end = Parallel::new(config)
            .stream(&Same, 0..9, |_, _| ())
            .unwrap();
        assert_eq!(end.samples, 9);
        nd_parallel::install(max_threads, || ()).unwrap();
    }
    let keep = |x: &u8| -> Result<u8, BoxError> { Ok(*x) };
    parallel_preprocess(&[1, 2], &keep).unwrap();
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global()
        .expect("nobody built it before");
}
