//! How much is done at the same time.

use nd_core::Threads;

use crate::error::ParallelError;

/// Threads and chunks of a parallel call.
///
/// ```
/// use nd_parallel::ParallelConfig;
/// let config = ParallelConfig { max_threads: None, chunk_size: 32 };
/// assert_eq!(config, ParallelConfig::default());
/// let few = ParallelConfig { max_threads: Some(4), ..Default::default() };
/// assert_eq!(few.chunk_size, 32);
/// ```
///
/// Neither changes a result: threads and chunks decide when something is computed, never how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParallelConfig {
    /// How many threads may work, exactly; `None` is all that the machine offers.
    ///
    /// Fewer work when there is less to do. Of threads that only the inside of a task could use, there are no more for each task than the
    /// machine has cores, or 16.
    ///
    /// **Within a rayon pool**, such as that of a task of another parallel call, a call starts no threads and enters no other pool. It runs
    /// at most so many of its tasks at the same time, on the threads of the pool, which it shares with whatever else runs there. What a
    /// task does in parallel by itself may use all of them, but for a limit of one, which is one thread there too. So no more threads work than the pool has, however many calls there are.
    pub max_threads: Option<usize>,
    /// Samples that one thread hands to the model at once.
    ///
    /// Large enough that a model's weights are not read anew for every few samples, small enough that every thread has several chunks: at
    /// the end of a call the others wait for half a chunk. (In an ensemble a task is a few chunks of one model, and they wait for half of
    /// those.) Networks whose activations are larger than their weights (attention, recurrent layers) lose nothing with 8;
    /// `docs/performance.md` of the repository has figures.
    pub chunk_size: usize,
}

impl Default for ParallelConfig {
    fn default() -> Self {
        Self {
            max_threads: None,
            chunk_size: 32,
        }
    }
}

impl ParallelConfig {
    /// Checks that there is something to work with.
    ///
    /// # Errors
    /// A chunk size or a number of threads of zero, or more threads than any machine has use for.
    pub fn validate(&self) -> Result<(), ParallelError> {
        if self.chunk_size == 0 {
            return Err(ParallelError::ZeroChunkSize);
        }
        match self.max_threads {
            Some(0) => Err(ParallelError::ZeroThreads),
            // Checked here because lanes are pools of their own, each of which may be small enough.
            Some(wanted) => Ok(Threads::check(wanted)?),
            None => Ok(()),
        }
    }
}
