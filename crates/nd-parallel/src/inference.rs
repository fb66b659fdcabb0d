//! Predictions of many samples.
//!
//! In its simple form: `samples.iter().map(predict)`. Samples go to the model in chunks, chunks to whichever thread is free, and
//! results to their places, so neither threads nor chunks change anything but the time.

use std::sync::{Mutex, PoisonError};

use crate::config::ParallelConfig;
use crate::error::{BoxError, ParallelError, TaskFailure};
use crate::lanes::{Done, attempt, lock};
use crate::outcome::Outcome;
use crate::parallel::Parallel;
use crate::task::Cancel;
use crate::traits::{Predict, Preprocess};

/// Runs a chunk at once, and if that fails, each of its samples alone.
pub(crate) fn chunk_of<X, Y>(
    first: usize,
    samples: &[X],
    cancel: &Cancel,
    at_once: impl FnOnce(&[X]) -> Result<Vec<Y>, BoxError>,
    alone: impl Fn(usize, &X) -> Result<Y, BoxError>,
) -> Vec<Result<Y, TaskFailure>> {
    let whole = attempt(first, cancel, || {
        let found = at_once(samples)?;
        if found.len() != samples.len() {
            let (found, given) = (found.len(), samples.len());
            return Err(format!("the model gave {found} predictions for {given} samples").into());
        }
        Ok(found)
    });
    match whole {
        Ok(found) => found.into_iter().map(Ok).collect(),
        Err(failure) if samples.len() == 1 || failure.is_cancellation() => {
            let at = |i| Err(failure.clone().at(first + i));
            (0..samples.len()).map(at).collect()
        }
        Err(_) => samples
            .iter()
            .enumerate()
            .map(|(i, sample)| attempt(first + i, cancel, || alone(first + i, sample)))
            .collect(),
    }
}

impl Parallel<'_> {
    /// Runs `work(first, chunk)` over all chunks of some samples; one result for each sample, in order.
    pub(crate) fn chunks<X: Sync, Y: Send>(
        &self,
        samples: &[X],
        chunk_size: usize,
        work: impl Fn(usize, &[X]) -> Vec<Result<Y, TaskFailure>> + Sync,
    ) -> Result<Outcome<Y>, ParallelError> {
        self.config.validate()?;
        let chunks = samples.len().div_ceil(chunk_size);
        let lanes = self.lanes(chunks)?;
        let run = self.run(Some(samples.len()));
        let bounds = |chunk: usize| {
            let first = chunk * chunk_size;
            first..samples.len().min(first + chunk_size)
        };
        // Each task puts its results where they belong: nothing is left to one thread at the end. No two tasks share the lock of theirs.
        let mut results: Vec<Option<Y>> = Vec::new();
        results.resize_with(samples.len(), || None);
        let slots: Vec<_> = results.chunks_mut(chunk_size).map(Mutex::new).collect();
        let failures = Mutex::new(Vec::new());
        let begun = run.tasks(&lanes, chunks, |task| {
            let bounds = bounds(task.index());
            let found = work(bounds.start, &samples[bounds]);
            let mut slots = lock(&slots[task.index()]);
            assert_eq!(found.len(), slots.len(), "results of a chunk");
            let reported = Done::of(&found);
            let mut failed = Vec::new();
            for (slot, result) in slots.iter_mut().zip(found) {
                match result {
                    Ok(value) => *slot = Some(value),
                    Err(failure) => failed.push(failure),
                }
            }
            drop(slots);
            if !failed.is_empty() {
                lock(&failures).append(&mut failed);
            }
            run.report(reported);
        });
        drop(slots);
        let failures = failures
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let all_begun = begun.iter().all(Option::is_some);
        Ok(Outcome::of("samples", results, failures, all_begun))
    }

    /// Predicts samples in chunks of the configuration's size.
    ///
    /// # Errors
    /// A configuration that cannot be. Samples that fail are in the outcome.
    pub fn batch_inference<X: Sync, Y: Send>(
        &self,
        model: &(impl Predict<X, Y> + ?Sized),
        samples: &[X],
    ) -> Result<Outcome<Y>, ParallelError> {
        self.chunks(samples, self.config.chunk_size, |first, chunk| {
            let alone = |_, sample: &X| model.predict(sample);
            let at_once = |chunk: &[X]| model.predict_batch(chunk);
            chunk_of(first, chunk, &self.cancel, at_once, alone)
        })
    }

    /// Prepares items one by one; threads take them in chunks of the configuration's size.
    ///
    /// # Errors
    /// A configuration that cannot be. Items that fail are in the outcome.
    pub fn preprocess<X: Sync, Y: Send>(
        &self,
        items: &[X],
        preprocessor: &(impl Preprocess<X, Y> + ?Sized),
    ) -> Result<Outcome<Y>, ParallelError> {
        self.chunks(items, self.config.chunk_size, |first, chunk| {
            let one =
                |(i, item)| attempt(first + i, &self.cancel, || preprocessor.preprocess(item));
            chunk.iter().enumerate().map(one).collect()
        })
    }
}

/// Predicts samples on all cores: `predictions[i]` is the model's prediction of `data[i]`.
///
/// # Errors
/// A configuration that cannot be, or the first sample that failed, with its index; [`Parallel::batch_inference`] keeps the others.
pub fn parallel_batch_inference<X: Sync, Y: Send>(
    model: &(impl Predict<X, Y> + ?Sized),
    data: &[X],
    config: &ParallelConfig,
) -> Result<Vec<Y>, ParallelError> {
    Parallel::new(*config)
        .batch_inference(model, data)?
        .complete()
}

/// Prepares items on all cores: `preprocessed[i]` is what the preprocessor makes of `raw_data[i]`.
///
/// ```
/// use nd_parallel::{BoxError, parallel_preprocess};
/// let raw_data = vec![vec![1.0f32, 3.0], vec![10.0, 30.0]];
/// let preprocessor = |series: &Vec<f32>| -> Result<Vec<f32>, BoxError> {
///     let mean = series.iter().sum::<f32>() / series.len() as f32;
///     Ok(series.iter().map(|x| x - mean).collect())
/// };
/// let preprocessed = parallel_preprocess(&raw_data, &preprocessor)?;
/// assert_eq!(preprocessed, [[-1.0, 1.0], [-10.0, 10.0]]);
/// # Ok::<(), nd_parallel::ParallelError>(())
/// ```
///
/// # Errors
/// The first item that failed, with its index; [`Parallel::preprocess`] keeps the others.
pub fn parallel_preprocess<X: Sync, Y: Send>(
    raw_data: &[X],
    preprocessor: &(impl Preprocess<X, Y> + ?Sized),
) -> Result<Vec<Y>, ParallelError> {
    // Items are whole series or tables: a chunk of one spreads even a few of them over all cores.
    let config = ParallelConfig {
        chunk_size: 1,
        ..ParallelConfig::default()
    };
    Parallel::new(config)
        .preprocess(raw_data, preprocessor)?
        .complete()
}
