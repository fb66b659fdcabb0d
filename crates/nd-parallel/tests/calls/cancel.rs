//! Cancellation at any moment gives what was done.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use nd_parallel::{
    BoxError, Cancel, Cancelled, EnsembleAggregation, Fit, Parallel, ParallelConfig, ParallelError,
    Predict, SearchEnd, Task, Tune,
};
use proptest::prelude::*;

use crate::models::{Level, Waves, samples};

/// Cancels when it meets a number, and counts what it is asked for from then on.
struct Stops {
    cancel: Cancel,
    at: usize,
    late: AtomicUsize,
}

impl Stops {
    fn new(cancel: &Cancel, at: usize) -> Self {
        Self {
            cancel: cancel.clone(),
            at,
            late: AtomicUsize::new(0),
        }
    }
}

impl Predict<usize, usize> for Stops {
    fn predict(&self, x: &usize) -> Result<usize, BoxError> {
        if *x == self.at {
            self.cancel.cancel();
        }
        if self.cancel.is_cancelled() {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
        Ok(x + 1)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn what_was_done_is_right_and_the_rest_is_missing(
        at in 0usize..400,
        threads in 1usize..5,
        chunk_size in 1usize..40,
    ) {
        let config = ParallelConfig { max_threads: Some(threads), chunk_size };
        let data: Vec<usize> = (0..300).collect();
        let cancel = Cancel::new();
        let model = Stops::new(&cancel, at);
        let outcome = Parallel::new(config).cancel(&cancel).batch_inference(&model, &data).unwrap();
        prop_assert!(outcome.failures.is_empty());
        for (i, result) in outcome.results.iter().enumerate() {
            prop_assert!(result.is_none_or(|y| y == i + 1));
        }
        prop_assert_eq!(outcome.cancelled, outcome.done() < 300);
        if at >= 300 {
            prop_assert_eq!(outcome.done(), 300);
        } else {
            prop_assert!(outcome.results[at].is_some(), "the chunk that cancelled was finished");
            // Each lane finishes the chunk that it has at hand, however the system schedules them; a single one goes in order.
            prop_assert!(model.late.into_inner() <= threads * chunk_size);
            if threads == 1 {
                prop_assert_eq!(outcome.done(), 300.min((at / chunk_size + 1) * chunk_size));
            }
        }

        let cancel = Cancel::new();
        let model = Stops::new(&cancel, at);
        let mut seen = 0;
        let end = Parallel::new(config)
            .cancel(&cancel)
            .stream(&model, 0..300usize, |i, result| {
                assert_eq!((i, result.unwrap()), (seen, seen + 1));
                seen += 1;
            })
            .unwrap();
        prop_assert_eq!(end.samples, seen);
        prop_assert!(at >= 300 || seen > at);
        prop_assert!(end.cancelled || seen == 300);
    }
}

#[test]
fn a_call_that_is_cancelled_before_it_begins_does_nothing() {
    let cancel = Cancel::new();
    cancel.cancel();
    let parallel = Parallel::new(ParallelConfig::default()).cancel(&cancel);
    let outcome = parallel
        .batch_inference(&Waves::new(1.0), &samples(10))
        .unwrap();
    assert!(outcome.cancelled && outcome.done() == 0);
    let error = outcome.complete().unwrap_err();
    assert!(
        matches!(
            error,
            ParallelError::Cancelled {
                done: 0,
                total: 10,
                ..
            }
        ),
        "{error}"
    );
    let data = vec![1.0; 50];
    let cv = parallel
        .cross_validation(&Level { factor: 1.0 }, &data, 4)
        .unwrap();
    assert!(cv.cancelled && cv.scores().count() == 0);
    let search = parallel
        .grid_search(&Level { factor: 1.0 }, &data, &[1.0, 2.0])
        .unwrap();
    assert_eq!(
        (search.end, search.unfinished.len()),
        (SearchEnd::Cancelled, 2)
    );
}

#[test]
fn folds_and_points_that_were_done_before_a_cancellation_are_kept() {
    let data: Vec<f64> = (0..100).map(f64::from).collect();
    for stop_after in 1..6 {
        let cancel = Cancel::new();
        let config = ParallelConfig {
            max_threads: Some(2),
            ..ParallelConfig::default()
        };
        let switch = cancel.clone();
        let cv = Parallel::new(config)
            .cancel(&cancel)
            .progress(move |progress| {
                if progress.done == stop_after {
                    switch.cancel();
                }
            })
            .cross_validation(&Level { factor: 1.0 }, &data, 20)
            .unwrap();
        let done = cv.scores().count();
        assert!(
            (stop_after..=stop_after + 1).contains(&done),
            "{done} after {stop_after}"
        );
        assert!(cv.cancelled && cv.failures.is_empty());
        assert!(matches!(
            cv.complete(),
            Err(ParallelError::Cancelled { total: 20, .. })
        ));
    }
}

#[test]
fn an_ensemble_that_is_cancelled_has_the_samples_that_were_through() {
    let models: Vec<Waves> = (1..=10).map(|i| Waves::new(i as f32)).collect();
    let data = samples(64);
    let mean = EnsembleAggregation::Mean;
    for (threads, chunk_size) in [(1, 1), (1, 8), (2, 4), (3, 8), (1, 32)] {
        let config = ParallelConfig {
            max_threads: Some(threads),
            chunk_size,
        };
        let whole = Parallel::new(config)
            .ensemble_predict(&models, &data, &mean)
            .unwrap();
        let mut last = 0;
        for stop_after in [1, 320, 576] {
            let cancel = Cancel::new();
            let switch = cancel.clone();
            let found = Parallel::new(config)
                .cancel(&cancel)
                .progress(move |progress| {
                    if progress.done >= stop_after {
                        switch.cancel();
                    }
                })
                .ensemble_predict(&models, &data, &mean)
                .unwrap();
            assert!(found.cancelled && found.failures.is_empty());
            assert!(found.done() >= last && found.done() < 64);
            last = found.done();
            for (found, whole) in found.results.iter().zip(&whole.results) {
                assert!(found.is_none() || found == whole);
            }
        }
        // All but those of the tasks at hand and of the chunks that these belong to.
        assert!(
            last >= 32,
            "{last} of 64 with {threads} threads, {chunk_size} a chunk"
        );
    }
}

/// Stops when it meets the last sample, as a long prediction would in its middle.
struct Checks(Cancel, usize);

impl Predict<usize, usize> for Checks {
    fn predict(&self, x: &usize) -> Result<usize, BoxError> {
        if *x == self.1 {
            self.0.cancel();
            return Err(Cancelled.into());
        }
        Ok(*x)
    }
}

#[test]
fn a_stream_that_was_handed_on_to_its_end_was_not_cancelled() {
    let config = |threads| ParallelConfig {
        max_threads: Some(threads),
        chunk_size: 4,
    };
    for threads in [1, 2] {
        let cancel = Cancel::new();
        let model = Stops::new(&cancel, 11);
        let end = Parallel::new(config(threads))
            .cancel(&cancel)
            .stream(&model, 0..12usize, |_, result| {
                result.unwrap();
            })
            .unwrap();
        assert_eq!((end.samples, end.failed, end.cancelled), (12, 0, false));
        // What was cut short is not handed on, and no failure.
        let cancel = Cancel::new();
        let end = Parallel::new(config(threads))
            .cancel(&cancel)
            .stream(&Checks(cancel.clone(), 11), 0..12usize, |_, result| {
                result.unwrap();
            })
            .unwrap();
        assert_eq!((end.samples, end.failed, end.cancelled), (8, 0, true));
    }
}

#[test]
fn what_the_cancellation_cut_short_is_neither_done_nor_failed() {
    struct Cut(Cancel);
    impl Fit<Vec<f64>> for Cut {
        type Fitted = ();
        fn fit(&self, _: &Vec<f64>, task: &Task<'_>) -> Result<(), BoxError> {
            if task.index() == 2 {
                self.0.cancel();
            }
            task.check()
        }
        fn score(
            &self,
            (): &(),
            _: &Vec<f64>,
            _: Range<usize>,
            _: &Task<'_>,
        ) -> Result<f64, BoxError> {
            Ok(1.0)
        }
    }
    impl Tune<Cancel> for Cut {
        fn tune(&self, cancel: &Cancel) -> Result<Self, BoxError> {
            Ok(Self(cancel.clone()))
        }
    }
    let config = ParallelConfig {
        max_threads: Some(1),
        chunk_size: 4,
    };
    let data = vec![0.0; 30];
    let expected = [(1, 0), (2, 0)];
    let cancel = Cancel::new();
    let mut seen = Vec::new();
    let cv = Parallel::new(config)
        .cancel(&cancel)
        .progress(|progress| seen.push((progress.done, progress.failed)))
        .cross_validation(&Cut(cancel.clone()), &data, 4)
        .unwrap();
    assert!(cv.cancelled && cv.failures.is_empty());
    assert_eq!(seen, expected);

    let cancel = Cancel::new();
    let mut seen = Vec::new();
    let search = Parallel::new(config)
        .cancel(&cancel)
        .folds(4)
        .progress(|progress| seen.push((progress.done, progress.failed)))
        .grid_search(&Cut(Cancel::new()), &data, std::slice::from_ref(&cancel))
        .unwrap();
    assert_eq!(search.end, SearchEnd::Cancelled);
    let kept: Vec<_> = search.unfinished[0]
        .folds
        .iter()
        .map(Option::is_some)
        .collect();
    assert_eq!(
        kept,
        [true, true, false, false],
        "scores that were there are kept"
    );
    assert_eq!(seen, expected);

    let cancel = Cancel::new();
    let mut seen = Vec::new();
    let outcome = Parallel::new(config)
        .cancel(&cancel)
        .progress(|progress| seen.push((progress.done, progress.failed)))
        .batch_inference(&Checks(cancel.clone(), 9), &(0..12).collect::<Vec<_>>())
        .unwrap();
    assert!(outcome.cancelled && outcome.failures.is_empty());
    assert_eq!(seen, [(4, 0), (8, 0)]);
}
