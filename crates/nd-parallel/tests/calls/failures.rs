//! Errors and panics stay with their task.

use std::error::Error;

use nd_parallel::{
    BoxError, Cancelled, EnsembleAggregation, FailureKind, Parallel, ParallelConfig, ParallelError,
    Predict, parallel_batch_inference, parallel_ensemble_predict,
};

use crate::models::{Waves, samples};

fn config(threads: usize, chunk_size: usize) -> ParallelConfig {
    ParallelConfig {
        max_threads: Some(threads),
        chunk_size,
    }
}

#[test]
fn a_panic_or_an_error_in_any_place_loses_that_sample_alone() {
    let data = samples(23);
    let healthy = parallel_batch_inference(&Waves::new(0.5), &data, &config(2, 5)).unwrap();
    for (threads, chunk_size) in [(1, 1), (1, 100), (2, 5), (3, 7)] {
        for bad in 0..data.len() {
            let mark = Some(data[bad][0]);
            let panics = Waves {
                panics_at: mark,
                ..Waves::new(0.5)
            };
            let fails = Waves {
                fails_at: mark,
                ..Waves::new(0.5)
            };
            for (model, kind) in [(panics, FailureKind::Panic), (fails, FailureKind::Error)] {
                let outcome = Parallel::new(config(threads, chunk_size))
                    .batch_inference(&model, &data)
                    .unwrap();
                assert!(!outcome.cancelled);
                for (i, result) in outcome.results.iter().enumerate() {
                    let expected = Some(&healthy[i]).filter(|_| i != bad);
                    assert_eq!(result.as_ref(), expected, "sample {i}, bad {bad}");
                }
                let [failure] = &outcome.failures[..] else {
                    panic!("{:?}", outcome.failures);
                };
                assert_eq!((failure.index, failure.kind), (bad, kind));
                assert!(failure.message.contains(&format!("{mark:?}")), "{failure}");
                let error = outcome.complete().unwrap_err().to_string();
                assert!(error.contains("1 of 23 samples failed"), "{error}");
                assert!(error.contains(&format!("number {bad}")), "{error}");
            }
        }
    }
}

#[test]
fn streams_hand_failures_on_in_their_places() {
    let data = samples(40);
    let model = Waves {
        panics_at: Some(11.0),
        fails_at: Some(30.0),
        ..Waves::new(1.0)
    };
    let mut failed = Vec::new();
    let mut next = 0;
    let end = Parallel::new(config(3, 4))
        .stream(&model, data, |i, result| {
            assert_eq!(i, next);
            next += 1;
            if let Err(failure) = result {
                failed.push((i, failure.index, failure.kind));
            }
        })
        .unwrap();
    assert_eq!((end.samples, end.failed), (40, 2));
    assert_eq!(
        failed,
        [(11, 11, FailureKind::Panic), (30, 30, FailureKind::Error)]
    );
}

#[test]
fn a_source_that_panics_ends_the_stream_after_what_it_gave() {
    let source = (0..100u32).map(|i| {
        assert!(i != 37, "the file ended early");
        vec![i as f32]
    });
    let mut handed = 0;
    let error = Parallel::new(config(2, 5))
        .stream(&Waves::new(1.0), source, |_, result| {
            result.unwrap();
            handed += 1;
        })
        .unwrap_err();
    assert_eq!(handed, 37);
    let text = error.to_string();
    assert!(
        text.contains("37 samples") && text.contains("ended early"),
        "{text}"
    );
}

/// A lane that ends by a panic, wherever that comes from, leaves nobody waiting for its chunk.
#[test]
fn a_sample_that_panics_when_it_is_dropped_ends_the_stream() {
    struct Bomb(u32);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(self.0 != 5, "the drop of a sample");
        }
    }
    struct Number;
    impl Predict<Bomb, u32> for Number {
        fn predict(&self, sample: &Bomb) -> Result<u32, BoxError> {
            Ok(sample.0)
        }
    }
    let found = nd_testing::in_time(|| {
        std::panic::catch_unwind(|| {
            Parallel::new(config(3, 2)).stream(&Number, (0..400).map(Bomb), |_, _| ())
        })
        .map(drop)
    });
    let panic = found.expect_err("the drop of a sample panics");
    let text = panic.downcast_ref::<&str>().copied().unwrap_or_default();
    assert!(text.contains("the drop of a sample"), "{text}");
}

#[test]
fn a_sink_or_a_callback_that_panics_is_the_callers_panic() {
    let data = samples(50);
    let sink = std::panic::catch_unwind(|| {
        Parallel::new(config(3, 2)).stream(&Waves::new(1.0), data.clone(), |i, _| {
            assert!(i < 10, "disk full");
        })
    });
    let payload = sink.unwrap_err();
    assert!(
        payload
            .downcast_ref::<&str>()
            .is_some_and(|text| text.contains("disk full"))
    );
    let watch = std::panic::catch_unwind(|| {
        Parallel::new(config(3, 2))
            .progress(|progress| assert!(progress.done < 10, "enough"))
            .batch_inference(&Waves::new(1.0), &data)
    });
    assert!(watch.is_err());
    // The threads are as good as before.
    assert_eq!(
        parallel_batch_inference(&Waves::new(1.0), &data, &config(3, 2))
            .unwrap()
            .len(),
        50
    );
}

#[test]
fn a_model_that_gives_another_number_of_predictions_is_named() {
    struct Short;
    impl Predict<u8, u8> for Short {
        fn predict(&self, sample: &u8) -> Result<u8, BoxError> {
            Ok(*sample)
        }
        fn predict_batch(&self, samples: &[u8]) -> Result<Vec<u8>, BoxError> {
            Ok(samples[1..].to_vec())
        }
    }
    // The chunk is wrong, its samples one by one are right.
    assert_eq!(
        parallel_batch_inference(&Short, &[1, 2, 3], &config(1, 3)).unwrap(),
        [1, 2, 3]
    );
    let error = parallel_batch_inference(&Short, &[1], &config(1, 3)).unwrap_err();
    assert!(
        error.to_string().contains("0 predictions for 1 samples"),
        "{error}"
    );
}

#[test]
fn an_ensemble_names_the_model_and_is_not_made_of_the_others() {
    let data = samples(9);
    let bad = Waves {
        fails_at: Some(4.0),
        ..Waves::new(2.0)
    };
    let models = [Waves::new(1.0), bad, Waves::new(3.0)];
    let outcome = Parallel::new(config(2, 2))
        .ensemble_predict(&models, &data, &EnsembleAggregation::Mean)
        .unwrap();
    assert_eq!(outcome.done(), 8);
    assert_eq!(outcome.failures[0].index, 4);
    assert!(
        outcome.failures[0].message.contains("model 1"),
        "{}",
        outcome.failures[0]
    );

    struct Wide;
    impl Predict for Wide {
        fn predict(&self, _: &Vec<f32>) -> Result<Vec<f32>, BoxError> {
            Ok(vec![0.0; 3])
        }
    }
    let models: [Box<dyn Predict>; 2] = [Box::new(Waves::new(1.0)), Box::new(Wide)];
    let found = parallel_ensemble_predict(&models, &data, EnsembleAggregation::Max, &config(2, 2));
    let error = found.unwrap_err();
    assert!(
        error.to_string().contains("model 1 predicts 3 numbers"),
        "{error}"
    );
}

#[test]
fn the_error_of_the_user_is_the_source() {
    struct Io;
    impl Predict<u8, u8> for Io {
        fn predict(&self, _: &u8) -> Result<u8, BoxError> {
            Err(std::io::Error::other("no disk").into())
        }
    }
    let error = parallel_batch_inference(&Io, &[1], &ParallelConfig::default()).unwrap_err();
    let text = error.to_string();
    for words in [
        "1 of 1 samples failed",
        "number 0 of the samples",
        "no disk",
    ] {
        assert!(text.contains(words), "{text} lacks {words}");
    }
    let boxed: Box<dyn Error> = error.clone().into();
    let first: &dyn Error = &*boxed;
    let causes = std::iter::successors(Some(first), |&error| error.source());
    assert!(
        causes.into_iter().any(|cause| cause.is::<std::io::Error>()),
        "whoever has only a box finds it too"
    );
    let ParallelError::Failed { first, .. } = error else {
        panic!("{error}");
    };
    assert!(
        first
            .source()
            .is_some_and(|source| source.is::<std::io::Error>())
    );
}

#[test]
fn cancelled_without_a_switch_is_a_failure_of_that_sample() {
    struct Gives;
    impl Predict<u8, u8> for Gives {
        fn predict(&self, x: &u8) -> Result<u8, BoxError> {
            if *x == 2 {
                return Err(Cancelled.into());
            }
            Ok(*x)
        }
    }
    let outcome = Parallel::new(config(1, 4))
        .batch_inference(&Gives, &[0, 1, 2, 3])
        .unwrap();
    assert_eq!((outcome.cancelled, outcome.done()), (false, 3));
    let text = outcome.failures[0].to_string();
    for words in ["number 2", "nobody cancelled the call", "Task::check"] {
        assert!(text.contains(words), "{text} lacks {words}");
    }
}

#[test]
fn errors_and_panics_that_panic_once_more_stay_with_their_task() {
    #[derive(Debug)]
    struct Mute;
    impl std::fmt::Display for Mute {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("no words")
        }
    }
    impl Error for Mute {}
    /// Panics when it is dropped, and so does what that leaves.
    struct Again(u8);
    impl Drop for Again {
        fn drop(&mut self) {
            if self.0 > 0 {
                std::panic::panic_any(Again(self.0 - 1));
            }
        }
    }
    struct Bad;
    impl Predict<u8, u8> for Bad {
        fn predict(&self, x: &u8) -> Result<u8, BoxError> {
            match x {
                1 => Err(Mute.into()),
                2 => std::panic::panic_any(Again(2)),
                _ => Ok(*x),
            }
        }
    }
    let outcome = Parallel::new(config(2, 2))
        .batch_inference(&Bad, &[0, 1, 2, 3])
        .unwrap();
    assert_eq!(outcome.results, [Some(0), None, None, Some(3)]);
    let texts: Vec<_> = outcome.failures.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "number 1 of the samples, counted from 0, failed: an error whose Display panicked: no words",
            "number 2 of the samples, counted from 0, panicked: a panic without a message"
        ]
    );
}
