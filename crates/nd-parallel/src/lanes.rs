//! Tasks over threads: what everything parallel in this crate is made of.
//!
//! In its simple form: each thread takes the number of the next task from a counter, runs it, keeps the result beside its
//! number, until there are no more. The tricks: threads are grouped into *lanes*, as many as there are tasks to run at the
//! same time. A lane is a rayon pool with its share of the budget, so what a task does in parallel stays within the lane,
//! and the number of threads at work is the budget, never its product with another. A panic is caught at the task.
//!
//! A call from within a pool makes and enters no other pool: its lanes are loops in that pool, whose threads they share with
//! each other and with other calls from it ([`ParallelConfig::max_threads`] says what that means to the caller). Such a loop
//! never waits for another one: the thread that waits may be the one that has to go on.
//!
//! Known weakness: lanes do not lend threads to each other, unless they share a pool; the last tasks of a call run with the threads
//! of their lane.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nd_core::threads::{self, MOST_THREADS};
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
    cancel: &Cancel,
    work: impl FnOnce() -> Result<T, BoxError>,
) -> Result<T, TaskFailure> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(TaskFailure::error(index, error, cancel.is_cancelled())),
        Err(payload) => Err(TaskFailure::panic(index, payload)),
    }
}

/// The threads of a call, in lanes; nothing runs yet.
pub(crate) enum Lanes {
    /// So many loops in the pool that the caller is in.
    Here(usize),
    /// One loop on the thread of the caller, which splits nothing up.
    Alone,
    /// Pools of their own.
    Teams(Vec<Threads>),
}

/// Threads of one lane, at most, if the machine has fewer cores: what a task does in parallel gains nothing from more threads than
/// cores, but small numbers are obeyed everywhere.
const LARGEST_TEAM: usize = 16;

/// Runs `work` on as many threads as asked for (`None`: all that the machine offers), or in place within a rayon pool, whose threads
/// it then has, unless one is asked for, which is one there too: what a training or an inference needs that may be a task of a parallel call.
///
/// ```
/// let outer = nd_core::Threads::new(Some(3))?;
/// let count = || nd_parallel::install(Some(64), rayon::current_num_threads);
/// assert_eq!(outer.install(count)?, 3);
/// let alone = || nd_parallel::install(Some(1), nd_core::threads::current);
/// assert_eq!(outer.install(alone)?, Some(1));
/// assert_eq!(count()?, 64);
/// # Ok::<(), nd_core::CoreError>(())
/// ```
///
/// # Errors
/// A number of zero or beyond any machine, within a pool too, or a system that cannot start the threads.
///
/// # Panics
/// When `work` does.
pub fn install<T: Send>(
    threads: Option<usize>,
    work: impl FnOnce() -> T + Send,
) -> Result<T, CoreError> {
    threads.map_or(Ok(()), Threads::check)?;
    if threads::current().is_some() {
        return Ok(match threads {
            Some(1) => threads::alone(work),
            _ => work(),
        });
    }
    Ok(Threads::new(threads)?.install(work))
}

impl Lanes {
    /// Lanes for as many tasks as may run at the same time; one at least.
    pub(crate) fn new(config: &ParallelConfig, tasks: usize) -> Result<Self, ParallelError> {
        config.validate()?;
        if let Some(here) = threads::current() {
            if config.max_threads == Some(1) {
                return Ok(Self::Alone);
            }
            let most = config.max_threads.map_or(here, |wanted| wanted.min(here));
            return Ok(Self::Here(tasks.clamp(1, most)));
        }
        let cores = threads::cores();
        let threads = (config.max_threads).unwrap_or_else(|| cores.min(MOST_THREADS));
        let lanes = tasks.clamp(1, threads);
        let team = |lane| threads / lanes + usize::from(lane < threads % lanes);
        let most = cores.max(LARGEST_TEAM);
        let teams: Vec<usize> = (0..lanes).map(|lane| team(lane).min(most)).collect();
        Ok(Self::Teams(Threads::teams(&teams)?))
    }

    /// The number of lanes.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Here(lanes) => *lanes,
            Self::Alone => 1,
            Self::Teams(teams) => teams.len(),
        }
    }

    /// Whether a lane may wait for what another one does. In a shared pool it may lie above the other on the stack of one thread.
    pub(crate) fn may_wait(&self) -> bool {
        matches!(self, Self::Here(1) | Self::Alone | Self::Teams(_))
    }

    /// Runs `work` once in every lane at the same time; in a shared pool as its threads come free.
    pub(crate) fn each(&self, work: impl Fn(usize) + Sync) {
        match self {
            Self::Teams(teams) => Threads::together(teams, work),
            Self::Here(1) => work(0),
            Self::Alone => threads::alone(|| work(0)),
            Self::Here(lanes) => rayon::in_place_scope(|scope| {
                let work = &work;
                for lane in 1..*lanes {
                    scope.spawn(move |_| threads::apart(|| work(lane)));
                }
                work(0);
            }),
        }
    }
}

/// How many are done, how many of these failed, and how many are left out.
#[derive(Default)]
struct Counts {
    done: usize,
    failed: usize,
    skipped: usize,
}

/// How many are done, and how many of these failed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Done {
    pub(crate) done: usize,
    pub(crate) failed: usize,
}

impl Done {
    /// Those of some results. What ended because the call was cancelled is not done.
    pub(crate) fn of<'r, T: 'r>(
        results: impl IntoIterator<Item = &'r Result<T, TaskFailure>>,
    ) -> Self {
        let mut found = Self::default();
        for result in results {
            match result {
                Ok(_) => found.done += 1,
                Err(failure) if failure.is_cancellation() => {}
                Err(_) => {
                    found.done += 1;
                    found.failed += 1;
                }
            }
        }
        found
    }
}

/// What is common to the tasks of a call.
pub(crate) struct Run<'a> {
    pub(crate) cancel: &'a Cancel,
    watch: Option<&'a dyn See>,
    start: Instant,
    total: Option<usize>,
    counts: Mutex<Counts>,
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
            counts: Mutex::default(),
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

    /// Tells the caller that some more is done.
    pub(crate) fn report(&self, more: Done) {
        if more.done > 0 {
            self.tell(|counts| {
                counts.done += more.done;
                counts.failed += more.failed;
            });
        }
    }

    /// Tells the caller that all that is not done will not be.
    pub(crate) fn report_rest_skipped(&self) {
        let total = self.total;
        self.tell(|counts| counts.skipped = total.map_or(0, |total| total - counts.done));
    }

    /// A callback that panics ends the call with its panic.
    fn tell(&self, change: impl FnOnce(&mut Counts)) {
        let Some(watch) = self.watch else { return };
        // Held while the callback runs: whoever reports later reports more.
        let mut counts = lock(&self.counts);
        change(&mut counts);
        let progress = Progress {
            done: counts.done,
            total: self.total,
            failed: counts.failed,
            skipped: counts.skipped,
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
    catch_unwind(AssertUnwindSafe(call)).map_err(panic_message)
}
