//! One budget of threads for every level of parallelism.
//!
//! A [`Threads`] is a number and a rayon pool of exactly that many workers. Pools are ours: the global one is never
//! built. Everything parallel runs inside [`Threads::install`], and what is parallel within that asks [`current`] and [`parallel`]
//! where it is, instead of making a pool of its own.
//!
//! A pool that nobody holds any more is kept for the next caller that asks for its number. The threads of such idle pools
//! are together at most four times the cores of the machine, or as many as were taken with the pool that came back last, if
//! those are more; pools beyond that end, the longest unused first.
//!
//! Known weakness: a worker that waits for another pool takes up other work of its own pool meanwhile, so budgets that are
//! entered from within each other add up. `nd_parallel::install` never does that.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::CoreError;

/// Threads of one budget, at most.
///
/// A system that runs out of threads half-way through a pool can leave the others waiting for ever; no machine of today gains
/// from more than this.
pub const MOST_THREADS: usize = 1024;

/// How many threads may work, and the pool they live in; clones share the pool.
#[derive(Clone)]
pub struct Threads {
    lease: Arc<Lease>,
}

/// A pool that somebody holds. One may be busy with work of its own, and sharing it would break its holder's count.
struct Lease {
    pool: Arc<rayon::ThreadPool>,
    /// The threads of all pools that were taken with it.
    group: usize,
}

/// Idle threads for each core, at most: room for a few calls in turns that divide the cores in different ways.
const IDLE_PER_CORE: usize = 4;

/// Pools that nobody holds, the longest unused first.
static IDLE: Mutex<Vec<Arc<rayon::ThreadPool>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The cores of the machine that this process may use. Asked once: the answer is read from files.
#[must_use]
pub fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

thread_local! {
    /// Whether this thread is within [`alone`].
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` as if in a pool of one thread, whatever pool the caller is in: what asks [`current`] or [`parallel`] splits nothing up.
///
/// A limit of one thread within a pool. Nothing of `work` is handed to the pool then, so nothing else of the pool is taken up in its midst;
/// unless `work` enters a pool itself ([`Threads::install`]), where it has the threads of that one.
pub fn alone<T>(work: impl FnOnce() -> T) -> T {
    with_alone(true, work)
}

/// Runs `work` with the threads of the pool that the caller is in, whatever it found itself within.
///
/// For what a thread takes up while it waits: that has nothing to do with an [`alone`] further down on the thread's stack.
pub fn apart<T>(work: impl FnOnce() -> T) -> T {
    with_alone(false, work)
}

fn with_alone<T>(alone: bool, work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _restore = Restore(ALONE.replace(alone));
    work()
}

/// The threads of the rayon pool that the caller is in, ours or not; `None` outside of any, and one within [`alone`].
#[must_use]
pub fn current() -> Option<usize> {
    if ALONE.get() {
        return Some(1);
    }
    // Outside of a pool rayon must not be asked for a number: it would start its global pool.
    rayon::current_thread_index().map(|_| rayon::current_num_threads())
}

/// Whether the caller is in a pool of several threads, where work that is split up runs on all of them.
#[must_use]
pub fn parallel() -> bool {
    current().is_some_and(|threads| threads > 1)
}

impl Drop for Lease {
    fn drop(&mut self) {
        let most = self.group.max(IDLE_PER_CORE * cores());
        let mut idle = lock(&IDLE);
        idle.push(Arc::clone(&self.pool));
        let mut threads: usize = idle.iter().map(|pool| pool.current_num_threads()).sum();
        let mut surplus = 0;
        while threads > most {
            threads -= idle[surplus].current_num_threads();
            surplus += 1;
        }
        let surplus: Vec<_> = idle.drain(..surplus).collect();
        // The threads of a pool end with it; nobody needs to wait for that with the lock held.
        drop(idle);
        drop(surplus);
    }
}

impl Threads {
    /// A budget of exactly `count` threads, or of all that the machine offers.
    ///
    /// # Errors
    /// A count of zero or above [`MOST_THREADS`], or a system that cannot start the threads.
    pub fn new(count: Option<usize>) -> Result<Self, CoreError> {
        let count = count.unwrap_or_else(|| cores().min(MOST_THREADS));
        Self::of(count, count)
    }

    /// Budgets of exactly so many threads each, for [`Threads::together`].
    ///
    /// # Errors
    /// A count of zero or above [`MOST_THREADS`], or a system that cannot start the threads.
    pub fn teams(counts: &[usize]) -> Result<Vec<Self>, CoreError> {
        let group = counts
            .iter()
            .fold(0, |sum: usize, &n| sum.saturating_add(n));
        counts.iter().map(|&count| Self::of(count, group)).collect()
    }

    /// Checks that a budget of so many threads can be; no thread starts.
    ///
    /// # Errors
    /// A count of zero or above [`MOST_THREADS`].
    pub fn check(count: usize) -> Result<(), CoreError> {
        let (wanted, most) = (count, MOST_THREADS);
        match wanted {
            0 => Err(CoreError::ZeroThreads),
            1..=MOST_THREADS => Ok(()),
            _ => Err(CoreError::TooManyThreads { wanted, most }),
        }
    }

    fn of(count: usize, group: usize) -> Result<Self, CoreError> {
        Self::check(count)?;
        let mut idle = lock(&IDLE);
        let fits = |pool: &Arc<rayon::ThreadPool>| pool.current_num_threads() == count;
        let found = idle.iter().rposition(fits).map(|place| idle.remove(place));
        drop(idle);
        let pool = match found {
            Some(pool) => pool,
            None => Arc::new(start(count)?),
        };
        let lease = Arc::new(Lease { pool, group });
        Ok(Self { lease })
    }

    /// The number of threads.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lease.pool.current_num_threads()
    }

    /// Runs `work` on a worker of the pool; rayon's `join` and parallel iterators inside it use this pool only.
    ///
    /// A worker of the pool runs it in place. A worker of another pool takes up other work of that one until it is done.
    ///
    /// # Panics
    /// When `work` does.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.lease.pool.install(|| apart(work))
    }

    /// Runs `work(i)` on a worker of the `i`-th team, all teams at the same time, and returns when every one is done.
    ///
    /// So independent tasks share a budget: teams of one, two and one threads are four threads at work, and rayon's `join`
    /// within a task uses the threads of its own team only. The caller waits as in [`Threads::install`].
    ///
    /// # Panics
    /// When `work` does, after every team is done.
    pub fn together(teams: &[Self], work: impl Fn(usize) + Sync) {
        fn enter(teams: &[Threads], first: usize, work: &(impl Fn(usize) + Sync)) {
            if let Some((team, rest)) = teams.split_first() {
                team.lease.pool.in_place_scope(|scope| {
                    scope.spawn(move |_| apart(|| work(first)));
                    enter(rest, first + 1, work);
                });
            }
        }
        enter(teams, 0, &work);
    }
}

/// Starts a pool.
fn start(count: usize) -> Result<rayon::ThreadPool, CoreError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(count)
        .thread_name(|index| format!("nd-worker-{index}"))
        .build();
    pool.map_err(|error| CoreError::ThreadPool {
        wanted: count,
        reason: error.to_string(),
    })
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Threads({})", self.count())
    }
}

/// Calls `work(i, chunk)` for every chunk of `chunk_len` elements, in parallel when asked.
///
/// The chunks depend on the length alone, so results do not depend on the number of threads. Nothing is allocated.
/// Call it with `parallel` only inside [`Threads::install`].
///
/// # Panics
/// `chunk_len` is zero.
#[track_caller]
pub fn for_each_chunk<T: Send>(
    parallel: bool,
    data: &mut [T],
    chunk_len: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    assert!(chunk_len > 0, "chunks of length 0 were asked for");
    fn halve<T: Send>(
        first: usize,
        data: &mut [T],
        chunk_len: usize,
        work: &(impl Fn(usize, &mut [T]) + Sync),
    ) {
        let chunks = data.len().div_ceil(chunk_len);
        if chunks <= 1 {
            if chunks == 1 {
                work(first, data);
            }
            return;
        }
        let (left, right) = data.split_at_mut(chunks / 2 * chunk_len);
        rayon::join(
            || halve(first, left, chunk_len, work),
            || halve(first + chunks / 2, right, chunk_len, work),
        );
    }
    if parallel {
        halve(0, data, chunk_len, &work);
    } else {
        for (i, chunk) in data.chunks_mut(chunk_len).enumerate() {
            work(i, chunk);
        }
    }
}

/// Calls `work(i)` for every index below `n`, in parallel when asked; nothing is allocated.
///
/// Call it with `parallel` only inside [`Threads::install`].
pub fn for_each_index(parallel: bool, n: usize, work: impl Fn(usize) + Sync) {
    fn halve(first: usize, n: usize, work: &(impl Fn(usize) + Sync)) {
        if n <= 1 {
            if n == 1 {
                work(first);
            }
            return;
        }
        let half = n / 2;
        rayon::join(
            || halve(first, half, work),
            || halve(first + half, n - half, work),
        );
    }
    if parallel {
        halve(0, n, &work)
    } else {
        (0..n).for_each(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_budget_is_exact() {
        for count in [1, 2, 3] {
            let threads = Threads::new(Some(count)).unwrap();
            assert_eq!(threads.count(), count);
            // Passed only when so many threads are at work at the same time; further ones would add their names.
            let barrier = std::sync::Barrier::new(count);
            let seen = Mutex::new(HashSet::new());
            threads.install(|| {
                rayon::broadcast(|_| barrier.wait());
                for_each_index(true, 1000, |_| {
                    seen.lock().unwrap().insert(std::thread::current().id());
                });
                rayon::broadcast(|_| seen.lock().unwrap().insert(std::thread::current().id()));
            });
            assert_eq!(seen.into_inner().unwrap().len(), count);
        }
        assert_eq!(Threads::new(Some(0)).unwrap_err(), CoreError::ZeroThreads);
    }

    #[test]
    fn a_budget_beyond_any_machine_is_refused_before_a_thread_starts() {
        for wanted in [MOST_THREADS + 1, 100_000, usize::MAX] {
            let most = MOST_THREADS;
            let error = Threads::new(Some(wanted)).unwrap_err();
            assert_eq!(error, CoreError::TooManyThreads { wanted, most });
        }
    }

    #[test]
    fn budgets_in_use_have_pools_of_their_own() {
        let a = Threads::new(Some(7)).unwrap();
        let b = Threads::new(Some(7)).unwrap();
        assert!(!Arc::ptr_eq(&a.lease.pool, &b.lease.pool));
        let c = a.clone();
        drop(a);
        let d = Threads::new(Some(7)).unwrap();
        assert!(
            !Arc::ptr_eq(&c.lease.pool, &d.lease.pool),
            "a clone is held"
        );
    }

    #[test]
    fn pools_within_each_other_come_to_an_end() {
        nd_testing::in_time(|| {
            let one = Threads::new(Some(1)).unwrap();
            let two = Threads::new(Some(2)).unwrap();
            one.install(|| two.install(|| one.install(|| ())));
            one.install(|| Threads::together(&[one.clone(), two.clone()], |_| one.install(|| ())));
        });
    }

    #[test]
    fn whoever_asks_learns_the_pool_it_is_in() {
        assert_eq!((current(), parallel()), (None, false));
        assert_eq!(alone(|| (current(), parallel())), (Some(1), false));
        for count in [1, 3] {
            let found = Threads::new(Some(count)).unwrap();
            let found = found.install(|| (current(), parallel()));
            assert_eq!(found, (Some(count), count > 1));
        }
    }

    /// Its threads may be the caller's own, or may have waited within `alone`.
    #[test]
    fn a_pool_that_is_entered_is_not_alone() {
        let two = Threads::new(Some(2)).unwrap();
        let enter = || {
            let installed = two.install(current);
            let team = Mutex::new(None);
            Threads::together(std::slice::from_ref(&two), |_| {
                *lock(&team) = current();
            });
            (installed, team.into_inner().unwrap())
        };
        let both = (Some(2), Some(2));
        assert_eq!(alone(enter), both);
        two.install(|| {
            assert_eq!(alone(enter), both);
            assert_eq!(alone(|| (apart(current), current())), (Some(2), Some(1)));
        });
    }

    #[test]
    fn a_panic_comes_back_from_other_threads() {
        let (one, two) = (
            Threads::new(Some(1)).unwrap(),
            Threads::new(Some(2)).unwrap(),
        );
        for from in [&one, &two] {
            let run = || from.install(|| one.install(|| panic!("mine")));
            let found: Result<(), _> = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            let payload = found.unwrap_err();
            assert_eq!(payload.downcast_ref::<&str>(), Some(&"mine"));
        }
        // A team of the caller's own pool is no reason to wait for ever.
        one.install(|| Threads::together(std::slice::from_ref(&one), |_| ()));
    }

    #[test]
    fn teams_work_at_the_same_time_with_threads_of_their_own() {
        let teams = [2, 1, 3].map(|count| Threads::new(Some(count)).unwrap());
        let barrier = std::sync::Barrier::new(3);
        let seen = Mutex::new(Vec::new());
        Threads::together(&teams, |team| {
            // Passed only when all three are at work.
            barrier.wait();
            let count = rayon::current_num_threads();
            seen.lock().unwrap().push((team, count));
        });
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, [(0, 2), (1, 1), (2, 3)]);
        Threads::together(&[], |_| panic!("nobody works"));
    }

    #[test]
    fn chunks_cover_everything_once() {
        let threads = Threads::new(Some(3)).unwrap();
        for len in [0, 1, 5, 64, 65, 1000] {
            for parallel in [false, true] {
                let mut data = vec![0usize; len];
                threads.install(|| {
                    for_each_chunk(parallel, &mut data, 16, |i, chunk| {
                        for (j, x) in chunk.iter_mut().enumerate() {
                            *x += i * 16 + j + 1;
                        }
                    });
                });
                assert!(
                    data.iter().enumerate().all(|(i, &x)| x == i + 1),
                    "{len} {parallel}"
                );
            }
        }
    }
}
