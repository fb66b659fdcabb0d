//! One budget of threads for every level of parallelism.
//!
//! A [`Threads`] is a number and a rayon pool of exactly that many workers. Pools are ours: the global one is never
//! built, and a pool is kept for the next caller that asks for the same number. Everything parallel runs inside
//! [`Threads::install`]; nested levels divide the number with [`Threads::split`], so a grid search over four points on
//! sixteen threads gives each fit four.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::CoreError;

/// Threads of one budget, at most.
///
/// A system that runs out of threads half-way through a pool can leave the others waiting for ever; no machine of today gains
/// from more than this.
pub const MOST_THREADS: usize = 1024;

/// How many threads may work, and the pool they live in; clones share the pool.
#[derive(Clone)]
pub struct Threads {
    pool: Arc<rayon::ThreadPool>,
}

static POOLS: Mutex<Vec<Arc<rayon::ThreadPool>>> = Mutex::new(Vec::new());

impl Threads {
    /// A budget of exactly `count` threads, or of all that the machine offers.
    ///
    /// # Errors
    /// A count of zero or above [`MOST_THREADS`], or a system that cannot start the threads.
    pub fn new(count: Option<usize>) -> Result<Self, CoreError> {
        let count = match count {
            Some(0) => return Err(CoreError::ZeroThreads),
            Some(wanted) if wanted > MOST_THREADS => {
                let most = MOST_THREADS;
                return Err(CoreError::TooManyThreads { wanted, most });
            }
            Some(count) => count,
            None => std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS)),
        };
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        // A pool that only the registry holds is idle; one that somebody holds may be busy with work of its own, and
        // sharing it would break that caller's count.
        let idle = pools
            .iter()
            .find(|pool| pool.current_num_threads() == count && Arc::strong_count(pool) == 1);
        if let Some(pool) = idle {
            return Ok(Self {
                pool: Arc::clone(pool),
            });
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|index| format!("nd-worker-{index}"))
            .build()
            .map_err(|error| CoreError::ThreadPool {
                wanted: count,
                reason: error.to_string(),
            })?;
        let pool = Arc::new(pool);
        pools.push(Arc::clone(&pool));
        Ok(Self { pool })
    }

    /// The number of threads.
    #[must_use]
    pub fn count(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` on a worker of the pool; rayon's `join` and parallel iterators inside it use this pool only.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool.install(work)
    }

    /// Runs `work(i)` on a worker of the `i`-th team, all teams at the same time, and returns when every one is done.
    ///
    /// So independent tasks share a budget: teams of one, two and one threads are four threads at work, and rayon's `join`
    /// within a task uses the threads of its own team only. The calling thread waits.
    ///
    /// # Panics
    /// When `work` does, after every team is done.
    pub fn together(teams: &[Self], work: impl Fn(usize) + Sync) {
        fn enter(teams: &[Threads], first: usize, work: &(impl Fn(usize) + Sync)) {
            if let Some((team, rest)) = teams.split_first() {
                team.pool.in_place_scope(|scope| {
                    scope.spawn(move |_| work(first));
                    enter(rest, first + 1, work);
                });
            }
        }
        enter(teams, 0, &work);
    }

    /// The threads that each of `tasks` concurrent tasks may use: at least one.
    #[must_use]
    pub fn split(&self, tasks: usize) -> usize {
        (self.count() / tasks.clamp(1, self.count())).max(1)
    }
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
    use std::collections::BTreeSet;

    #[test]
    fn a_budget_is_exact() {
        for count in [1, 2, 3] {
            let threads = Threads::new(Some(count)).unwrap();
            assert_eq!(threads.count(), count);
            let seen = Mutex::new(BTreeSet::new());
            threads.install(|| {
                for_each_index(true, 1000, |_| {
                    seen.lock().unwrap().insert(rayon::current_thread_index());
                });
            });
            assert!(seen.into_inner().unwrap().len() <= count);
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
    fn budgets_in_use_have_pools_of_their_own_and_idle_pools_come_back() {
        // Seven threads: no other test of this binary asks for that number.
        let a = Threads::new(Some(7)).unwrap();
        let b = Threads::new(Some(7)).unwrap();
        assert!(!Arc::ptr_eq(&a.pool, &b.pool));
        let address = Arc::as_ptr(&a.pool);
        drop(a);
        let c = Threads::new(Some(7)).unwrap();
        assert_eq!(Arc::as_ptr(&c.pool), address);
        drop(b);
    }

    #[test]
    fn splitting_never_oversubscribes() {
        let threads = Threads::new(Some(5)).unwrap();
        for tasks in 1..20 {
            assert!(threads.split(tasks) >= 1);
            assert!(threads.split(tasks) * tasks.min(5) <= 5);
        }
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
