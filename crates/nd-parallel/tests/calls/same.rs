//! The same bits and the same order for any threads and chunks.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nd_parallel::{
    BoxError, EnsembleAggregation, Parallel, ParallelConfig, Predict, Progress,
    parallel_batch_inference, parallel_ensemble_predict, parallel_preprocess,
};
use proptest::prelude::*;

use crate::models::{Level, Waves, samples};

fn bits(predictions: &[Vec<f32>]) -> Vec<Vec<u32>> {
    let one = |p: &Vec<f32>| p.iter().map(|x| x.to_bits()).collect();
    predictions.iter().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn predictions_are_those_of_a_loop(n in 0usize..300, threads in 1usize..5, chunk_size in 1usize..70) {
        let (model, data) = (Waves::new(0.37), samples(n));
        let config = ParallelConfig { max_threads: Some(threads), chunk_size };
        let expected: Vec<Vec<f32>> = data.iter().map(|x| model.predict(x).unwrap()).collect();
        let found = parallel_batch_inference(&model, &data, &config).unwrap();
        prop_assert_eq!(bits(&found), bits(&expected));

        let mut streamed = Vec::new();
        let end = Parallel::new(config)
            .stream(&model, data.iter().cloned(), |i, result| {
                assert_eq!(i, streamed.len());
                streamed.push(result.unwrap());
            })
            .unwrap();
        prop_assert_eq!((end.samples, end.failed, end.cancelled), (n, 0, false));
        prop_assert_eq!(bits(&streamed), bits(&expected));
    }

    #[test]
    fn ensembles_are_those_of_a_loop(n in 0usize..80, members in 1usize..6, threads in 1usize..5, chunk_size in 1usize..40) {
        let data = samples(n);
        let models: Vec<Waves> = (0..members).map(|i| Waves::new(0.1 + i as f32)).collect();
        let config = ParallelConfig { max_threads: Some(threads), chunk_size };
        let one = ParallelConfig { max_threads: Some(1), chunk_size: 1000 };
        for aggregation in [EnsembleAggregation::Mean, EnsembleAggregation::Median, EnsembleAggregation::TrimmedMean] {
            let found = parallel_ensemble_predict(&models, &data, aggregation.clone(), &config).unwrap();
            let expected = parallel_ensemble_predict(&models, &data, aggregation, &one).unwrap();
            prop_assert_eq!(bits(&found), bits(&expected));
            prop_assert_eq!(found.len(), n);
        }
    }
}

/// A stream whose chunks take very different times still comes out in order.
#[test]
fn slow_samples_do_not_overtake() {
    struct Uneven;
    impl Predict<u64, u64> for Uneven {
        fn predict(&self, x: &u64) -> Result<u64, BoxError> {
            std::thread::sleep(Duration::from_micros(if x.is_multiple_of(17) {
                3000
            } else {
                20
            }));
            Ok(x * x)
        }
    }
    let config = ParallelConfig {
        max_threads: Some(4),
        chunk_size: 3,
    };
    let mut seen = Vec::new();
    let end = Parallel::new(config)
        .stream(&Uneven, 0..500u64, |i, result| {
            seen.push((i as u64, result.unwrap()))
        })
        .unwrap();
    assert_eq!(end.samples, 500);
    assert_eq!(seen, (0..500).map(|i| (i, i * i)).collect::<Vec<_>>());
}

#[test]
fn chunks_have_the_size_asked_for() {
    struct Chunks(Mutex<Vec<usize>>);
    impl Predict<u8, u8> for Chunks {
        fn predict(&self, _: &u8) -> Result<u8, BoxError> {
            unreachable!("the batch is there")
        }
        fn predict_batch(&self, samples: &[u8]) -> Result<Vec<u8>, BoxError> {
            self.0.lock().unwrap().push(samples.len());
            Ok(samples.to_vec())
        }
    }
    let model = Chunks(Mutex::new(Vec::new()));
    let config = ParallelConfig {
        max_threads: Some(2),
        chunk_size: 4,
    };
    assert_eq!(
        parallel_batch_inference(&model, &[7; 10], &config).unwrap(),
        [7; 10]
    );
    let mut sizes = model.0.into_inner().unwrap();
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 4, 4]);
}

#[test]
fn models_behind_pointers_and_of_many_kinds_are_models() {
    struct Zero;
    impl Predict for Zero {
        fn predict(&self, _: &Vec<f32>) -> Result<Vec<f32>, BoxError> {
            Ok(vec![0.0; 2])
        }
    }
    let models: Vec<Box<dyn Predict>> = vec![Box::new(Waves::new(1.0)), Box::new(Zero)];
    let data = samples(5);
    let config = ParallelConfig::default();
    let both = parallel_ensemble_predict(
        &models,
        &data,
        EnsembleAggregation::WeightedMean(vec![3.0, 1.0]),
        &config,
    );
    let alone = parallel_batch_inference(&models[0], &data, &config).unwrap();
    let expected: Vec<Vec<f32>> = alone
        .iter()
        .map(|p| {
            p.iter()
                .map(|&x| (3.0 * f64::from(x) / 4.0) as f32)
                .collect()
        })
        .collect();
    assert_eq!(both.unwrap(), expected);
    assert_eq!(
        parallel_batch_inference(&&Zero, &data, &config)
            .unwrap()
            .len(),
        5
    );
}

#[test]
fn items_are_prepared_in_their_places_and_progress_counts_them() {
    let calls = AtomicUsize::new(0);
    let shout = |text: &&str| -> Result<String, BoxError> {
        calls.fetch_add(1, Ordering::Relaxed);
        Ok(text.to_uppercase())
    };
    assert_eq!(
        parallel_preprocess(&["a", "b", "c"], &shout).unwrap(),
        ["A", "B", "C"]
    );
    assert_eq!(calls.load(Ordering::Relaxed), 3);

    let mut seen = Vec::new();
    let config = ParallelConfig {
        max_threads: Some(3),
        chunk_size: 2,
    };
    let outcome = Parallel::new(config)
        .progress(|progress| seen.push((progress.done, progress.total)))
        .preprocess(&["x"; 9], &shout)
        .unwrap();
    assert_eq!(outcome.done(), 9);
    drop(outcome);
    assert_eq!(seen.len(), 5);
    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_eq!(seen.last(), Some(&(9, Some(9))));
}

#[test]
fn ensembles_streams_and_searches_tell_how_far_they_are() {
    fn check(name: &str, seen: &[Progress], total: Option<usize>, done: usize, failed: usize) {
        assert!(seen.len() > 2, "{name}: {seen:?}");
        assert!(
            seen.windows(2).all(|pair| pair[0].done < pair[1].done),
            "{name}: {seen:?}"
        );
        assert!(seen.iter().all(|p| p.total == total && p.skipped == 0));
        let last = seen[seen.len() - 1];
        assert_eq!((last.done, last.failed), (done, failed), "{name}");
    }
    let data = samples(9);
    let bad = Waves {
        fails_at: Some(4.0),
        ..Waves::new(2.0)
    };
    for threads in [1, 3] {
        let config = ParallelConfig {
            max_threads: Some(threads),
            chunk_size: 2,
        };
        let mut seen = Vec::new();
        let models = [Waves::new(1.0), bad, Waves::new(3.0)];
        let outcome = Parallel::new(config)
            .progress(|progress| seen.push(*progress))
            .ensemble_predict(&models, &data, &EnsembleAggregation::Mean)
            .unwrap();
        assert_eq!(outcome.done(), 8);
        check("ensemble", &seen, Some(27), 27, 1);
        let mut seen = Vec::new();
        let end = Parallel::new(config)
            .progress(|progress| seen.push(*progress))
            .stream(&bad, data.clone(), |_, _| ())
            .unwrap();
        assert_eq!(end.samples, 9);
        check("stream", &seen, None, 9, 1);
        let mut seen = Vec::new();
        let search = Parallel::new(config)
            .folds(2)
            .progress(|progress| seen.push(*progress))
            .grid_search(&Level { factor: 1.0 }, &vec![1.0; 30], &[1.0, -2.0, 3.0])
            .unwrap();
        assert_eq!(search.failed.len(), 1);
        check("search", &seen, Some(6), 6, 2);
    }
}
