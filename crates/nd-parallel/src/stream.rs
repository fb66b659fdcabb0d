//! Predictions of more samples than memory holds.
//!
//! In its simple form: read a chunk, predict it, hand the predictions on, repeat. The tricks: every lane does that at the same
//! time; chunks are handed on in the order in which they were read; a lane that is too far ahead of the slowest one waits, so
//! no more than [`CHUNKS_PER_LANE`] chunks for each lane are alive, whatever the length of the stream.
//!
//! Known weakness: the source and the sink run on one thread at a time.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex};

use crate::error::{ParallelError, TaskFailure};
use crate::inference::chunk_of;
use crate::lanes::{Run, guarded, lock};
use crate::parallel::Parallel;
use crate::traits::Predict;

/// Chunks that are alive at the same time for each lane: one at work, one read ahead or waiting to be handed on.
pub const CHUNKS_PER_LANE: usize = 2;

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct StreamSummary {
    /// Samples handed on, failed ones included.
    pub samples: usize,
    /// Those that failed.
    pub failed: usize,
    /// Whether it was cancelled before its end; what was handed on until then is whole and in order.
    pub cancelled: bool,
}

/// What the lanes share on the side of the input.
struct Source<I> {
    samples: I,
    /// Chunks read so far.
    chunks: usize,
    /// Samples read so far.
    read: usize,
    ended: bool,
    panic: Option<String>,
}

/// What they share on the side of the output.
struct Sink<Y, F> {
    hand_on: F,
    /// The chunk that is handed on next.
    next: usize,
    /// The first sample of that chunk, and with it the number of samples handed on.
    first: usize,
    failed: usize,
    /// Chunks that came before their turn.
    waiting: BTreeMap<usize, Vec<Result<Y, TaskFailure>>>,
}

impl Parallel<'_> {
    /// Predicts the samples of an iterator and hands the predictions to `sink`, in order, with bounded memory.
    ///
    /// `sink(i, result)` is called once for each sample, for `i = 0, 1, 2, ...`, from one thread at a time. Alive at any time are at
    /// most [`CHUNKS_PER_LANE`] chunks of samples and predictions for each thread.
    ///
    /// ```
    /// use nd_parallel::{BoxError, Parallel, ParallelConfig, Predict};
    /// struct Double;
    /// impl Predict<u64, u64> for Double {
    ///     fn predict(&self, x: &u64) -> Result<u64, BoxError> { Ok(2 * x) }
    /// }
    /// let mut sum = 0;
    /// let end = Parallel::new(ParallelConfig::default())
    ///     .stream(&Double, 0..100_000, |_, result| sum += result.expect("a number"))?;
    /// assert_eq!((end.samples, sum), (100_000, 9_999_900_000));
    /// # Ok::<(), nd_parallel::ParallelError>(())
    /// ```
    ///
    /// # Errors
    /// A configuration that cannot be, or an iterator that panicked; what it gave before has been handed on. Samples that fail are handed
    /// on as failures.
    ///
    /// # Panics
    /// When `sink` does.
    pub fn stream<X: Send, Y: Send>(
        &self,
        model: &(impl Predict<X, Y> + ?Sized),
        samples: impl IntoIterator<Item = X, IntoIter: Send>,
        sink: impl FnMut(usize, Result<Y, TaskFailure>) + Send,
    ) -> Result<StreamSummary, ParallelError> {
        self.config.validate()?;
        let lanes = self.lanes(usize::MAX)?;
        let run = self.run(None);
        let window = CHUNKS_PER_LANE * lanes.count();
        let source = Mutex::new(Source {
            samples: samples.into_iter().fuse(),
            chunks: 0,
            read: 0,
            ended: false,
            panic: None,
        });
        let sink = Mutex::new(Sink {
            hand_on: sink,
            next: 0,
            first: 0,
            failed: 0,
            waiting: BTreeMap::new(),
        });
        let turn = Condvar::new();
        lanes.each(|_| {
            while let Some((chunk, first, samples)) = self.read(&run, &source, &sink, &turn, window)
            {
                let results = chunk_of(
                    first,
                    &samples,
                    |samples| model.predict_batch(samples),
                    |_, sample| model.predict(sample),
                );
                drop(samples);
                write(&run, &sink, &turn, chunk, results);
            }
        });
        let source = source.into_inner().unwrap_or_else(|e| e.into_inner());
        let sink = sink.into_inner().unwrap_or_else(|e| e.into_inner());
        if let Some(message) = source.panic {
            let read = source.read;
            return Err(ParallelError::Source { read, message });
        }
        Ok(StreamSummary {
            samples: sink.first,
            failed: sink.failed,
            cancelled: !source.ended,
        })
    }

    /// The next chunk: its number, the number of its first sample, its samples; `None` at the end.
    fn read<X, Y, F>(
        &self,
        run: &Run<'_>,
        source: &Mutex<Source<impl Iterator<Item = X>>>,
        sink: &Mutex<Sink<Y, F>>,
        turn: &Condvar,
        window: usize,
    ) -> Option<(usize, usize, Vec<X>)> {
        let mut source = lock(source);
        // The others wait for the source meanwhile, which is what they would do here. The chunk that is handed on next was read
        // before, and its lane needs neither the source nor a turn to finish it.
        let mut held = lock(sink);
        while source.chunks >= held.next + window && !run.is_over() {
            held = turn.wait(held).unwrap_or_else(|e| e.into_inner());
        }
        drop(held);
        if run.is_over() || source.ended {
            return None;
        }
        let size = self.config.chunk_size;
        let mut samples = Vec::new();
        let read = guarded(|| samples.extend(source.samples.by_ref().take(size)));
        if let Err(message) = read {
            // What this chunk already has goes on; nothing more is read.
            source.panic = Some(message);
        }
        source.ended = samples.len() < size;
        if samples.is_empty() {
            return None;
        }
        let (chunk, first) = (source.chunks, source.read);
        source.chunks += 1;
        source.read += samples.len();
        Some((chunk, first, samples))
    }
}

/// Hands a chunk on, and those that waited for it; or keeps it until its turn.
fn write<Y, F: FnMut(usize, Result<Y, TaskFailure>)>(
    run: &Run<'_>,
    sink: &Mutex<Sink<Y, F>>,
    turn: &Condvar,
    chunk: usize,
    results: Vec<Result<Y, TaskFailure>>,
) {
    let mut guard = lock(sink);
    let sink = &mut *guard;
    sink.waiting.insert(chunk, results);
    while let Some(results) = sink.waiting.remove(&sink.next) {
        let (count, mut failed) = (results.len(), 0);
        let handed = catch_unwind(AssertUnwindSafe(|| {
            for (i, result) in results.into_iter().enumerate() {
                failed += usize::from(result.is_err());
                (sink.hand_on)(sink.first + i, result);
            }
            run.report(count, failed);
        }));
        if let Err(panic) = handed {
            run.stop();
            turn.notify_all();
            drop(guard);
            resume_unwind(panic);
        }
        sink.next += 1;
        sink.first += count;
        sink.failed += failed;
    }
    turn.notify_all();
}
