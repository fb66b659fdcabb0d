//! Every piece of bad input is a typed error that says what to change.

use nd_core::CoreError;
use nd_parallel::{
    EnsembleAggregation, Folds, MonteCarlo, Parallel, ParallelConfig, ParallelError, ParamGrid,
    Spread, parallel_batch_inference, parallel_cross_validation, parallel_ensemble_predict,
    parallel_grid_search,
};

use crate::models::{Level, Noisy, Waves, samples};

fn says(error: &ParallelError, words: &[&str]) {
    let text = error.to_string();
    assert!(
        words.iter().all(|word| text.contains(word)),
        "{text} lacks one of {words:?}"
    );
    assert_eq!(format!("{error:?}"), text);
}

#[test]
fn configurations() {
    let (model, data) = (Waves::new(1.0), samples(3));
    let zero_chunks = ParallelConfig {
        chunk_size: 0,
        ..Default::default()
    };
    let error = parallel_batch_inference(&model, &data, &zero_chunks).unwrap_err();
    assert!(matches!(error, ParallelError::ZeroChunkSize));
    says(&error, &["chunk_size is 0", "give 16"]);
    let zero_threads = ParallelConfig {
        max_threads: Some(0),
        ..Default::default()
    };
    let error = parallel_batch_inference(&model, &data, &zero_threads).unwrap_err();
    assert!(matches!(error, ParallelError::ZeroThreads));
    says(&error, &["Some(0)", "give Some(1)"]);
    let series = vec![0.0; 9];
    for config in [zero_chunks, zero_threads] {
        assert!(parallel_cross_validation(&Level { factor: 1.0 }, &series, 2, &config).is_err());
        assert!(parallel_grid_search(&Level { factor: 1.0 }, &series, &[1.0], &config).is_err());
        assert!(
            parallel_ensemble_predict(&[model], &data, EnsembleAggregation::Mean, &config).is_err()
        );
        assert!(
            Parallel::new(config)
                .stream(&model, samples(1), |_, _| ())
                .is_err()
        );
        assert!(parallel_batch_inference(&model, &samples(0), &config).is_err());
    }
    let many = ParallelConfig {
        max_threads: Some(1 << 20),
        ..Default::default()
    };
    let error = parallel_batch_inference(&model, &samples(3), &many).unwrap_err();
    assert!(
        matches!(
            error,
            ParallelError::Threads(CoreError::TooManyThreads { .. })
        ),
        "{error}"
    );
}

#[test]
fn folds() {
    let data = vec![0.0; 10];
    let of = |folds: Folds| folds.of(&data).unwrap_err();
    assert!(matches!(of(Folds::from(0)), ParallelError::ZeroFolds));
    says(&of(Folds::from(0)), &["0 folds", "give at least 1"]);
    says(
        &of(Folds::from(10)),
        &["10 folds", "at least 11 samples", "found 10", "fewer folds"],
    );
    says(
        &of(Folds::expanding(2).test_samples(0)),
        &["the test part", "is 0"],
    );
    says(&of(Folds::expanding(2).step(0)), &["the step"]);
    says(&of(Folds::sliding(2, 0)), &["the training window"]);
    says(
        &of(Folds::sliding(3, 5).test_samples(2)),
        &["3 folds need at least 11 samples"],
    );
    says(&of(Folds::shuffled(1, 1)), &["train on none", "at least 2"]);
    says(&of(Folds::shuffled(11, 1)), &["11 folds", "found 10"]);
    says(
        &of(Folds::shuffled(2, 1).gap(3)),
        &["a gap", "leave it out"],
    );
    says(&of(Folds::expanding(usize::MAX)), &["fewer folds"]);
    says(&of(Folds::sliding(2, usize::MAX)), &["found 10"]);
}

#[test]
fn grids_and_budgets() {
    let (model, data, config) = (
        Level { factor: 1.0 },
        vec![0.0; 20],
        ParallelConfig::default(),
    );
    let empty: Vec<f64> = Vec::new();
    let error = parallel_grid_search(&model, &data, &empty, &config).unwrap_err();
    assert!(matches!(error, ParallelError::EmptyGrid));
    says(&error, &["no points", "give at least one"]);
    let search = |grid: ParamGrid| parallel_grid_search(&model, &data, &grid, &config).unwrap_err();
    says(&search(ParamGrid::new()), &["no points"]);
    let none: [f64; 0] = [];
    says(
        &search(ParamGrid::new().axis("a", none)),
        &["\"a\"", "no value"],
    );
    says(
        &search(ParamGrid::new().axis("a", [1]).axis("a", [2])),
        &["two lists", "one list"],
    );
    let error = Parallel::new(config)
        .trial_budget(0)
        .grid_search(&model, &data, &[1.0]);
    says(&error.unwrap_err(), &["0 trials"]);
}

#[test]
fn ensembles() {
    let (models, data) = ([Waves::new(1.0), Waves::new(2.0)], samples(3));
    let of = |aggregation| {
        parallel_ensemble_predict(&models, &data, aggregation, &ParallelConfig::default())
            .unwrap_err()
    };
    let none: [Waves; 0] = [];
    let empty = parallel_ensemble_predict(
        &none,
        &data,
        EnsembleAggregation::Mean,
        &ParallelConfig::default(),
    );
    says(&empty.unwrap_err(), &["no models"]);
    let weights = |weights: &[f64]| of(EnsembleAggregation::WeightedMean(weights.to_vec()));
    says(
        &weights(&[1.0]),
        &["1 weights for 2 models", "one weight for each"],
    );
    says(&weights(&[1.0, -1.0]), &["weight 1", "-1"]);
    says(&weights(&[f64::NAN, 1.0]), &["weight 0", "NaN"]);
    says(&weights(&[0.0, 0.0]), &["not all zero"]);
    says(
        &of(EnsembleAggregation::TrimmedMeanOf(0.5)),
        &["0.5", "less than 0.5"],
    );
    says(
        &of(EnsembleAggregation::Quantile(1.5)),
        &["1.5", "between 0 and 1"],
    );
}

#[test]
fn uncertainty() {
    let data = samples(2);
    let parallel = || Parallel::new(ParallelConfig::default());
    for level in [0.0, 1.0, -3.0, 95.0, f64::NAN] {
        let found = parallel()
            .levels([level])
            .batch_inference_with_uncertainty(&MonteCarlo(Noisy), &data);
        says(
            &found.unwrap_err(),
            &["level of an interval", "between 0 and 1"],
        );
    }
    let few = parallel()
        .draws(1)
        .batch_inference_with_uncertainty(&MonteCarlo(Noisy), &data)
        .unwrap();
    assert!(few.failures[0].message.contains("give at least 2"));
    let one = parallel()
        .batch_inference_with_uncertainty(&Spread(&[Waves::new(1.0)]), &data)
        .unwrap();
    assert!(
        one.failures[0]
            .message
            .contains("at least 2 models, found 1")
    );
}
