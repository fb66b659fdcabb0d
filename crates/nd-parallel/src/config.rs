//! How much is done at the same time.

use nd_core::CoreError;
use nd_core::threads::MOST_THREADS;

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
    /// A call from within a rayon pool, such as a task of another parallel call, has at most the threads of that pool. With `None` or as many
    /// as the pool has, it runs on those, and any number of such calls shares them. With fewer it has threads of its own, while the thread
    /// that made the call sleeps; several such calls at the same time have as many threads as they ask for together.
    pub max_threads: Option<usize>,
    /// Samples that one thread hands to the model at once.
    ///
    /// Large enough that a model's weights are not read anew for every few samples, small enough that every thread has several chunks: at
    /// the end of a call the others wait for half a chunk. Networks whose activations are larger than their weights (attention, recurrent
    /// layers) lose nothing with 8; `docs/performance.md` of the repository has figures.
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
            Some(0) => return Err(ParallelError::ZeroThreads),
            // Checked here because lanes are pools of their own, each of which may be small enough.
            Some(wanted) if wanted > MOST_THREADS => {
                let most = MOST_THREADS;
                return Err(CoreError::TooManyThreads { wanted, most }.into());
            }
            _ => {}
        }
        Ok(())
    }
}
