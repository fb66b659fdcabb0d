//! Tasks over threads: what everything parallel in this crate is made of.
//!
//! In its simple form: each thread takes the number of the next task from a counter, runs it, keeps the result beside its
//! number, until there are no more. The tricks: threads are grouped into *lanes*, as many as there are tasks to run at the
//! same time; a lane is a rayon pool with its share of the budget, so what a task does in parallel stays within the lane,
//! and the number of threads at work is the budget, never its product with another. Called from within a pool, the threads
//! of that pool are the budget. A panic is caught at the task.
//!
//! Known weakness: lanes do not lend threads to each other; the last tasks of a call run with the threads of their lane. Two calls
//! made at the same time from one pool (inside rayon's own parallel iterators) each take its threads for theirs.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nd_core::{CoreError, Threads};

use crate::config::ParallelConfig;
use crate::error::{BoxError, ParallelError, TaskFailure, panic_message};
use crate::task::{Cancel, Progress, Task};

/// A callback that sees progress.
pub(crate) type Watch<'a> = Mutex<Box<dyn FnMut(&Progress) + Send + 'a>>;

/// The same behind a reference, whatever the callback borrows.
trait See: Sync {
    fn see(&self, progress: &Progress);
}

impl See for Watch<'_> {
    fn see(&self, progress: &Progress) {
        lock(self)(progress);
    }
}

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind our locks is whole between any two statements; a panic passes through.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one task; a panic is a failure like any other.
pub(crate) fn attempt<T>(
    index: usize,
    work: impl FnOnce() -> Result<T, BoxError>,
) -> Result<T, TaskFailure> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(TaskFailure::error(index, error)),
        Err(payload) => Err(TaskFailure::panic(index, &*payload)),
    }
}

/// The threads of a call, in lanes; nothing runs yet.
pub(crate) struct Lanes {
    teams: Vec<Threads>,
}

/// The threads of the pool that the caller is in; `None` outside of any. Rayon must not be asked for a number there: it
/// would start its global pool.
fn inside() -> Option<usize> {
    rayon::current_thread_index().map(|_| rayon::current_num_threads())
}

/// The threads that a call may use, and whether they are the whole pool that the caller is in.
fn budget(config: &ParallelConfig) -> Result<(usize, bool), ParallelError> {
    config.validate()?;
    Ok(match (config.max_threads, inside()) {
        (Some(wanted), Some(most)) => (wanted.min(most), wanted >= most),
        (None, Some(most)) => (most, true),
        (Some(wanted), None) => (wanted, false),
        (None, None) => {
            let all = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
            (all.min(nd_core::threads::MOST_THREADS), false)
        }
    })
}

/// Runs `work` on as many threads as asked for (`None`: all that the machine offers), but on no more than those of the rayon pool
/// that the caller is in: what a training or an inference needs that may be a task of a parallel call.
///
/// ```
/// let outer = nd_core::Threads::new(Some(3))?;
/// let count = || nd_parallel::install(Some(64), rayon::current_num_threads);
/// assert_eq!(outer.install(count)?, 3);
/// assert_eq!(count()?, 64);
/// # Ok::<(), nd_core::CoreError>(())
/// ```
///
/// # Errors
/// A number of zero or beyond any machine, or a system that cannot start the threads.
pub fn install<T: Send>(
    threads: Option<usize>,
    work: impl FnOnce() -> T + Send,
) -> Result<T, CoreError> {
    let stays = match (threads, inside()) {
        (None, Some(_)) => true,
        (Some(wanted), Some(most)) => wanted >= most,
        (_, None) => false,
    };
    if stays {
        return Ok(work());
    }
    Ok(Threads::new(threads)?.install(work))
}

impl Lanes {
    /// Lanes for as many tasks as may run at the same time; one at least.
    pub(crate) fn new(config: &ParallelConfig, tasks: usize) -> Result<Self, ParallelError> {
        let (threads, whole_pool) = budget(config)?;
        let lanes = tasks.clamp(1, threads);
        if lanes == 1 && whole_pool {
            // The pool that the caller is in is the lane.
            return Ok(Self { teams: Vec::new() });
        }
        let team = |lane| threads / lanes + usize::from(lane < threads % lanes);
        let teams = (0..lanes).map(|lane| Threads::new(Some(team(lane))));
        Ok(Self {
            teams: teams.collect::<Result<_, _>>()?,
        })
    }

    /// The number of lanes.
    pub(crate) fn count(&self) -> usize {
        self.teams.len().max(1)
    }

    /// Runs `work` once in every lane at the same time.
    pub(crate) fn each(&self, work: impl Fn(usize) + Sync) {
        if self.teams.is_empty() {
            work(0);
        } else {
            Threads::together(&self.teams, work);
        }
    }
}

/// What is common to the tasks of a call.
pub(crate) struct Run<'a> {
    pub(crate) cancel: &'a Cancel,
    watch: Option<&'a dyn See>,
    start: Instant,
    total: Option<usize>,
    /// How many are done, and how many of these failed.
    counts: Mutex<(usize, usize)>,
    stop: AtomicBool,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        cancel: &'a Cancel,
        watch: Option<&'a Watch<'_>>,
        total: Option<usize>,
    ) -> Self {
        Self {
            cancel,
            watch: watch.map(|watch| watch as &dyn See),
            start: Instant::now(),
            total,
            counts: Mutex::new((0, 0)),
            stop: AtomicBool::new(false),
        }
    }

    /// Whether no further task may begin.
    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }

    /// No further task begins.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn elapsed(&self) -> std::time::Duration {
        self.start.elapsed()
    }

    /// Tells the caller that some more is done. A callback that panics ends the call with its panic.
    pub(crate) fn report(&self, done: usize, failed: usize) {
        let Some(watch) = self.watch else { return };
        // Held while the callback runs: whoever reports later reports more.
        let mut counts = lock(&self.counts);
        counts.0 += done;
        counts.1 += failed;
        let progress = Progress {
            done: counts.0,
            total: self.total,
            failed: counts.1,
            elapsed: self.start.elapsed(),
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| watch.see(&progress))) {
            self.stop();
            drop(counts);
            resume_unwind(panic);
        }
    }

    /// Runs the tasks `0..tasks` over the lanes; results in the order of the tasks, `None` for those that did not begin.
    pub(crate) fn tasks<T: Send>(
        &self,
        lanes: &Lanes,
        tasks: usize,
        work: impl Fn(&Task<'_>) -> T + Sync,
    ) -> Vec<Option<T>> {
        let next = AtomicUsize::new(0);
        let found = Mutex::new(Vec::with_capacity(lanes.count()));
        lanes.each(|_| {
            let mut own = Vec::with_capacity(tasks / lanes.count() + 1);
            while !self.is_over() {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= tasks {
                    break;
                }
                let task = Task {
                    index,
                    cancel: self.cancel,
                };
                own.push((index, work(&task)));
            }
            lock(&found).push(own);
        });
        let mut results: Vec<Option<T>> = std::iter::repeat_with(|| None).take(tasks).collect();
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (index, result) in found.into_iter().flatten() {
            results[index] = Some(result);
        }
        results
    }
}

/// Calls something of the caller's that is not a task; its panic as a message.
pub(crate) fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| panic_message(&*payload))
}
