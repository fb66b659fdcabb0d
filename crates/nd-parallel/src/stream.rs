//! Predictions of more samples than memory holds.
//!
//! In its simple form: read a chunk, predict it, hand the predictions on, repeat. The tricks: every lane does that at the same
//! time; chunks are handed on in the order in which they were read; a lane that is too far ahead of the slowest one waits, so
//! no more than [`CHUNKS_PER_LANE`] chunks for each lane are alive, whatever the length of the stream.
//!
//! Within a pool whose threads a stream shares, lanes must not wait for each other. There it goes in rounds: read
//! as many chunks as may be alive, predict them, hand them on.
//!
//! Known weakness: the source and the sink run on one thread at a time; rounds wait for their last chunk.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};

use crate::error::{ParallelError, TaskFailure};
use crate::inference::chunk_of;
use crate::lanes::{Done, Lanes, Run, guarded, lock};
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
    ///
    /// A source that was not read to its end has ended if its `size_hint` says that nothing is left.
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

impl<X, I: Iterator<Item = X>> Source<I> {
    /// The next chunk: its number, the number of its first sample, its samples; `None` at the end.
    fn chunk(&mut self, size: usize) -> Option<(usize, usize, Vec<X>)> {
        if self.ended {
            return None;
        }
        let mut samples = Vec::new();
        // One by one: room for a whole chunk made beforehand may be more than there is memory, or more than will come.
        let read = guarded(|| {
            for sample in self.samples.by_ref().take(size) {
                samples.push(sample);
            }
        });
        if let Err(message) = read {
            // What this chunk already has goes on; nothing more is read.
            self.panic = Some(message);
        }
        self.ended = samples.len() < size;
        if samples.is_empty() {
            return None;
        }
        let (chunk, first) = (self.chunks, self.read);
        self.chunks += 1;
        self.read += samples.len();
        Some((chunk, first, samples))
    }

    /// Whether nothing is left, as far as it is known without reading on.
    fn is_at_end(&self) -> bool {
        self.ended || guarded(|| self.samples.size_hint().1) == Ok(Some(0))
    }
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

impl<Y, F: FnMut(usize, Result<Y, TaskFailure>)> Sink<Y, F> {
    /// Hands a chunk on, and those that waited for it; or keeps it until its turn. Nothing is handed on after a sample that the
    /// cancellation cut short.
    fn take(&mut self, run: &Run<'_>, chunk: usize, results: Vec<Result<Y, TaskFailure>>) {
        self.waiting.insert(chunk, results);
        while let Some(mut results) = self.waiting.remove(&self.next) {
            let cut = |result: &Result<Y, _>| matches!(result, Err(failure) if TaskFailure::is_cancellation(failure));
            let whole = results.iter().position(cut);
            results.truncate(whole.unwrap_or(results.len()));
            let (count, mut failed) = (results.len(), 0);
            for (i, result) in results.into_iter().enumerate() {
                failed += usize::from(result.is_err());
                (self.hand_on)(self.first + i, result);
            }
            run.report(Done {
                done: count,
                failed,
            });
            self.first += count;
            self.failed += failed;
            if whole.is_some() {
                return;
            }
            self.next += 1;
        }
    }
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
    /// When `sink` does, or the `drop` of a sample or of a failure that is not handed on.
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
        let source = Source {
            samples: samples.into_iter().fuse(),
            chunks: 0,
            read: 0,
            ended: false,
            panic: None,
        };
        let sink = Sink {
            hand_on: sink,
            next: 0,
            first: 0,
            failed: 0,
            waiting: BTreeMap::new(),
        };
        let predict = |first: usize, samples: &[X]| {
            let alone = |_, sample: &X| model.predict(sample);
            let at_once = |samples: &[X]| model.predict_batch(samples);
            chunk_of(first, samples, &self.cancel, at_once, alone)
        };
        let (source, sink) = if lanes.may_wait() {
            let (source, sink, turn) = (Mutex::new(source), Mutex::new(sink), Condvar::new());
            lanes.each(|_| {
                let unfinished = Unfinished {
                    run: &run,
                    sink: &sink,
                    turn: &turn,
                };
                while let Some((chunk, first, samples)) =
                    self.read(&run, &source, &sink, &turn, window)
                {
                    let results = predict(first, &samples);
                    drop(samples);
                    lock(&sink).take(&run, chunk, results);
                    turn.notify_all();
                }
                std::mem::forget(unfinished);
            });
            (unlock(source), unlock(sink))
        } else {
            self.rounds(&run, &lanes, source, sink, window, predict)
        };
        if let Some(message) = source.panic {
            let read = source.read;
            return Err(ParallelError::Source { read, message });
        }
        Ok(StreamSummary {
            samples: sink.first,
            failed: sink.failed,
            cancelled: sink.first < source.read || !source.is_at_end(),
        })
    }

    /// A stream whose lanes do not wait for each other.
    fn rounds<X: Send, Y: Send, I, F>(
        &self,
        run: &Run<'_>,
        lanes: &Lanes,
        mut source: Source<I>,
        mut sink: Sink<Y, F>,
        window: usize,
        predict: impl Fn(usize, &[X]) -> Vec<Result<Y, TaskFailure>> + Sync,
    ) -> (Source<I>, Sink<Y, F>)
    where
        I: Iterator<Item = X>,
        F: FnMut(usize, Result<Y, TaskFailure>),
    {
        while !run.is_over() {
            let read = || source.chunk(self.config.chunk_size);
            let chunks: Vec<_> = std::iter::from_fn(read)
                .take(window)
                .map(|(chunk, first, samples)| (chunk, first, Mutex::new(samples)))
                .collect();
            if chunks.is_empty() {
                break;
            }
            let found = run.tasks(lanes, chunks.len(), |task| {
                let (_, first, samples) = &chunks[task.index()];
                let samples = std::mem::take(&mut *lock(samples));
                predict(*first, &samples)
            });
            for ((chunk, ..), results) in chunks.iter().zip(found) {
                // Those that did not begin are the last ones.
                let Some(results) = results else { break };
                sink.take(run, *chunk, results);
            }
        }
        (source, sink)
    }

    /// The next chunk, once it is this lane's turn.
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
        if run.is_over() {
            return None;
        }
        source.chunk(self.config.chunk_size)
    }
}

fn unlock<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(|e| e.into_inner())
}

/// A lane that has not come to its end. Dropped by a panic, whose chunk will never be handed on, it sends home those that wait for it:
/// whatever is the caller's may panic in a lane, the `drop` of a sample too.
struct Unfinished<'a, S> {
    run: &'a Run<'a>,
    sink: &'a Mutex<S>,
    turn: &'a Condvar,
}

impl<S> Drop for Unfinished<'_, S> {
    fn drop(&mut self) {
        self.run.stop();
        // With the lock held nobody is between looking at the run and going to sleep.
        let _held = lock(self.sink);
        self.turn.notify_all();
    }
}
