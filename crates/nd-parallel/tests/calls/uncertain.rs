//! Mean, standard deviation and intervals.

use std::sync::Arc;

use nd_parallel::{
    BoxError, Draw, DrawKey, MonteCarlo, Parallel, ParallelConfig, ParallelError, Predict,
    PredictUncertain, Quantiles, Spread, parallel_batch_inference_with_uncertainty,
};

use crate::models::{Noisy, samples};

struct Constant(f32);

impl Predict for Constant {
    fn predict(&self, _: &Vec<f32>) -> Result<Vec<f32>, BoxError> {
        Ok(vec![self.0, 10.0 * self.0])
    }
}

#[test]
fn the_spread_of_an_ensemble_is_that_of_its_members() {
    let models = [1.0, 2.0, 3.0, 4.0, 5.0].map(Constant);
    let (predictions, uncertainties) = parallel_batch_inference_with_uncertainty(
        &Spread(&models),
        &samples(3),
        &ParallelConfig::default(),
    )
    .unwrap();
    assert_eq!(predictions, [[3.0, 30.0]; 3]);
    let first = &uncertainties[0];
    assert_eq!(first.mean, [3.0, 30.0]);
    assert_eq!(first.std, [2.5f32.sqrt(), 250f32.sqrt()]);
    assert_eq!(first.intervals.len(), 2);
    assert_eq!(first.intervals[0].level, 0.8);
    assert!((first.intervals[0].low[0] - 1.4).abs() < 1e-6);
    assert!((first.intervals[0].high[1] - 46.0).abs() < 1e-5);
}

#[test]
fn draws_have_the_moments_of_their_law_and_the_same_bits_for_any_chunks() {
    let data = samples(20);
    let run = |threads, chunk_size| {
        let config = ParallelConfig {
            max_threads: Some(threads),
            chunk_size,
        };
        let outcome = Parallel::new(config)
            .draws(4000)
            .seed(5)
            .levels([0.5])
            .batch_inference_with_uncertainty(&MonteCarlo(Noisy), &data)
            .unwrap();
        outcome.complete().unwrap()
    };
    let found = run(1, 100);
    assert!(found == run(2, 1) && found == run(3, 7));
    for (sample, (prediction, uncertainty)) in data.iter().zip(&found) {
        assert_eq!(prediction, &uncertainty.mean);
        for (i, x) in sample.iter().enumerate() {
            // Five standard errors of each.
            assert!((uncertainty.mean[i] - x).abs() < 5.0 * 2.0 / 4000f32.sqrt());
            assert!((uncertainty.std[i] - 2.0).abs() < 5.0 * 2.0 / 8000f32.sqrt());
            // The quartile of the normal law is 0.6745 deviations away; its standard error 1.36 of the mean's.
            let interval = &uncertainty.intervals[0];
            let error = 5.0 * 1.37 * 2.0 / 4000f32.sqrt();
            assert!((interval.low[i] - (x - 2.0 * 0.6745)).abs() < error);
            assert!((interval.high[i] - (x + 2.0 * 0.6745)).abs() < error);
        }
    }
}

#[test]
fn quantiles_give_median_and_intervals() {
    struct Five;
    impl Predict for Five {
        fn predict(&self, sample: &Vec<f32>) -> Result<Vec<f32>, BoxError> {
            let x = sample[0];
            // Two steps; the second crosses.
            Ok([[-2.0, -1.0, 0.0, 1.0, 2.0], [2.0, 1.0, 0.0, -1.0, -2.0]]
                .as_flattened()
                .iter()
                .map(|q| x + q)
                .collect())
        }
    }
    let model = Quantiles {
        model: Five,
        probabilities: vec![0.05, 0.25, 0.5, 0.75, 0.95],
    };
    let data = samples(4);
    let (predictions, uncertainties) =
        parallel_batch_inference_with_uncertainty(&model, &data, &ParallelConfig::default())
            .unwrap();
    assert_eq!(predictions[3], [3.0, 3.0]);
    let levels: Vec<f64> = uncertainties[3].intervals.iter().map(|i| i.level).collect();
    assert!((levels[0] - 0.5).abs() < 1e-12 && (levels[1] - 0.9).abs() < 1e-12);
    assert!((uncertainties[3].intervals[1].low[0] - 1.0).abs() < 1e-6);
    assert!((uncertainties[3].intervals[0].high[1] - 4.0).abs() < 1e-6);
    assert!((uncertainties[3].mean[0] - 3.0).abs() < 1e-6);
    // 2 (0.05 4 + 0.2 (4 + 2 + 1) / 3 + 0.25 / 3)
    let variance: f32 = 2.0 * (0.05 * 4.0 + 0.2 * 7.0 / 3.0 + 0.25 / 3.0);
    assert!((uncertainties[3].std[0] - variance.sqrt()).abs() < 1e-6);

    let plain = Parallel::new(ParallelConfig::default());
    let run = |parallel: Parallel<'_>, probabilities: &[f64]| {
        let model = Quantiles {
            model: Five,
            probabilities: probabilities.to_vec(),
        };
        let outcome = parallel.batch_inference_with_uncertainty(&model, &data);
        let error = outcome.expect_err("quantiles that do not do");
        assert!(matches!(error, ParallelError::Quantiles { .. }), "{error}");
        error.to_string()
    };
    let message = run(plain.levels([0.99]), &model.probabilities);
    assert!(
        message.contains("0.05") && message.contains("0.99") && message.contains("0.005 and 0.995"),
        "{message}"
    );
    for (probabilities, expected) in [
        (&[0.1, 0.2][..], "both sides of 0.5"),
        (&[0.6, 0.9], "both sides of 0.5"),
        (&[0.0, 0.5], "between 0 and 1"),
        (&[0.5, 1.0], "between 0 and 1"),
        (&[0.1, f64::NAN], "between 0 and 1"),
        (&[0.5], "at least 2"),
        (&[], "at least 2"),
    ] {
        let message = run(Parallel::new(ParallelConfig::default()), probabilities);
        assert!(message.contains(expected), "{message}");
    }
}

/// What points to a model is as good as the model.
#[test]
fn models_behind_pointers_are_uncertain_too() {
    let data = samples(3);
    let config = ParallelConfig::default();
    let found = |model: &dyn PredictUncertain| {
        parallel_batch_inference_with_uncertainty(model, &data, &config).unwrap()
    };
    let shared = Arc::new(MonteCarlo(Arc::new(Noisy)));
    let expected = found(&MonteCarlo(Noisy));
    assert_eq!(found(&shared), expected);
    assert_eq!(found(&MonteCarlo(Box::new(Noisy))), expected);
    assert_eq!(found(&&*shared), expected);
    let one_draw = Parallel::new(config).draws(1);
    let error = one_draw.batch_inference_with_uncertainty(&shared, &data);
    assert!(matches!(error, Err(ParallelError::TooFewDraws { .. })));
}

/// A sample beside a bad one is drawn anew, with the random numbers of its place.
#[test]
fn draws_of_a_sample_alone_are_those_of_its_place() {
    struct Picky;
    impl Draw for Picky {
        fn draw(&self, samples: &[Vec<f32>], key: DrawKey) -> Result<Vec<Vec<f32>>, BoxError> {
            if samples.iter().any(|sample| sample[0] == 2.0) {
                return Err("two".into());
            }
            Noisy.draw(samples, key)
        }
    }
    let data = samples(9);
    let parallel = Parallel::new(ParallelConfig {
        max_threads: Some(2),
        chunk_size: 4,
    })
    .draws(10);
    let healthy = parallel
        .batch_inference_with_uncertainty(&MonteCarlo(Noisy), &data)
        .unwrap();
    let found = parallel
        .batch_inference_with_uncertainty(&MonteCarlo(Picky), &data)
        .unwrap();
    assert_eq!(found.failures.len(), 1);
    for (i, (found, healthy)) in found.results.iter().zip(&healthy.results).enumerate() {
        let expected = healthy.as_ref().filter(|_| i != 2);
        assert_eq!(found.as_ref(), expected, "sample {i}");
    }
}
