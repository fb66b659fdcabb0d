//! Every piece of bad input is a typed error that says what to change.

use std::ops::Range;

use nd_core::CoreError;
use nd_parallel::{
    BoxError, Draw, DrawKey, EnsembleAggregation, Fit, Folds, MonteCarlo, Parallel, ParallelConfig,
    ParallelError, ParamGrid, PredictUncertain, Spread, Task, Tune, parallel_batch_inference,
    parallel_cross_validation, parallel_ensemble_predict, parallel_grid_search,
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
    says(&error, &["max_threads", "1048576", "up to 1024"]);
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
    for huge in [
        Folds::expanding(2).gap(usize::MAX),
        Folds::expanding(2).step(usize::MAX),
        Folds::expanding(2).test_samples(usize::MAX),
    ] {
        says(&of(huge), &["found 10", "more data"]);
    }
    // One fold in time order trains on the first half; no data have no folds.
    assert_eq!(Folds::from(1).of(&data).unwrap()[0].test.len(), 5);
    let none: Vec<f64> = Vec::new();
    says(
        &Folds::from(1).of(&none).unwrap_err(),
        &["1 folds need at least 2 samples", "found 0"],
    );
    let uneven = (vec![0.0; 10], vec![1; 7]);
    says(
        &Folds::from(2).of(&uneven).unwrap_err(),
        &[
            "could not be counted",
            "have 10 and 7 rows",
            "same number of rows",
        ],
    );
    let text = Folds::from(2).of(&uneven).unwrap_err().to_string();
    assert!(
        !text.contains('\n') && !text.contains("assertion"),
        "{text}"
    );
}

#[test]
fn folds_that_are_given_twice_must_be_the_same() {
    let (model, data) = (Level { factor: 1.0 }, vec![0.0; 20]);
    let parallel = Parallel::new(ParallelConfig::default()).folds(Folds::sliding(3, 5));
    let error = parallel.cross_validation(&model, &data, 4).unwrap_err();
    says(&error, &["Sliding", "Expanding", "the latter alone"]);
    let same = parallel.cross_validation(&model, &data, Folds::sliding(3, 5));
    assert_eq!(same.unwrap().scores().count(), 3);
}

#[test]
fn scores_that_are_no_numbers_are_failures_with_their_place() {
    struct Scores(Vec<f64>);
    impl Fit<Vec<f64>> for Scores {
        type Fitted = ();
        fn fit(&self, _: &Vec<f64>, _: &Task<'_>) -> Result<(), BoxError> {
            Ok(())
        }
        fn score(
            &self,
            (): &(),
            _: &Vec<f64>,
            _: Range<usize>,
            task: &Task<'_>,
        ) -> Result<f64, BoxError> {
            Ok(self.0[task.index() % 2])
        }
    }
    impl Tune<Vec<f64>> for Scores {
        fn tune(&self, scores: &Vec<f64>) -> Result<Self, BoxError> {
            Ok(Self(scores.clone()))
        }
    }
    let data = vec![0.0; 30];
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let grid = [
        vec![nan, 1.0],
        vec![inf, 2.0],
        vec![3.0, 4.0],
        vec![inf, -inf],
        vec![-nan, -nan],
    ];
    let search = Parallel::new(ParallelConfig::default())
        .folds(2)
        .grid_search(&Scores(Vec::new()), &data, &grid)
        .unwrap();
    let order: Vec<usize> = search.ranking.iter().map(|point| point.index).collect();
    assert_eq!(order, [2, 1], "an infinite score is the last");
    let failed: Vec<_> = search
        .failed
        .iter()
        .map(|point| (point.failure.index, point.fold))
        .collect();
    assert_eq!(failed, [(0, Some(0)), (3, Some(1)), (4, Some(0))]);
    let text = search.failed[0].failure.to_string();
    for words in [
        "number 0",
        "rows 10 to 19",
        "is NaN",
        "expected a number",
        "missing values",
    ] {
        assert!(text.contains(words), "{text} lacks {words}");
    }
    let all_bad = parallel_grid_search(
        &Scores(Vec::new()),
        &data,
        &[vec![nan, nan]],
        &ParallelConfig::default(),
    );
    assert!(all_bad.unwrap().best().is_none());
    let folds = parallel_cross_validation(
        &Scores(vec![1.0, nan]),
        &data,
        2,
        &ParallelConfig::default(),
    );
    says(
        &folds.unwrap_err(),
        &["1 of 2 folds", "number 1", "rows 20 to 29"],
    );
}

#[test]
fn nothing_to_predict_is_no_mistake() {
    let (model, none) = (Waves::new(1.0), samples(0));
    let config = ParallelConfig {
        chunk_size: usize::MAX,
        ..Default::default()
    };
    assert!(
        parallel_batch_inference(&model, &none, &config)
            .unwrap()
            .is_empty()
    );
    let mean = EnsembleAggregation::Mean;
    assert!(
        parallel_ensemble_predict(&[model], &none, mean.clone(), &config)
            .unwrap()
            .is_empty()
    );
    let end = Parallel::new(config)
        .stream(&model, none, |_, _| ())
        .unwrap();
    assert_eq!((end.samples, end.failed, end.cancelled), (0, 0, false));
    // A chunk may be larger than the data.
    let data = samples(5);
    assert_eq!(
        parallel_batch_inference(&model, &data, &config)
            .unwrap()
            .len(),
        5
    );
    assert_eq!(
        parallel_ensemble_predict(&[model, model], &data, mean, &config)
            .unwrap()
            .len(),
        5
    );
    let end = Parallel::new(config)
        .stream(&model, data, |_, _| ())
        .unwrap();
    assert_eq!(end.samples, 5);

    /// Five samples that claim to be without end.
    struct Boundless(Range<u8>);
    impl Iterator for Boundless {
        type Item = Vec<f32>;
        fn next(&mut self) -> Option<Vec<f32>> {
            self.0.next().map(|x| vec![f32::from(x)])
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (usize::MAX, None)
        }
    }
    let end = Parallel::new(config).stream(&model, Boundless(0..5), |_, _| ());
    assert_eq!(end.unwrap().samples, 5);
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
    let axes = |n: usize| {
        (0..n).fold(ParamGrid::new(), |grid, i| {
            grid.axis(format!("p{i}"), 0..100)
        })
    };
    says(&search(axes(4)), &["100000000 points", "1000000", "fewer"]);
    says(&search(axes(30)), &["1e60 points", "fewer"]);
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
    says(&weights(&[f64::MAX, f64::MAX]), &["weight 1", "sum"]);
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
    struct OneDraw;
    impl Draw for OneDraw {
        fn draw(&self, _: &[Vec<f32>], key: DrawKey) -> Result<Vec<Vec<f32>>, BoxError> {
            Err(format!("draw {} is one too many", key.draw).into())
        }
    }
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
    for draws in [0, 1] {
        let few = parallel()
            .draws(draws)
            .batch_inference_with_uncertainty(&MonteCarlo(Noisy), &data);
        says(
            &few.unwrap_err(),
            &[&format!("{draws} draws"), "give at least 2"],
        );
    }
    let many = parallel()
        .draws(usize::MAX)
        .batch_inference_with_uncertainty(&MonteCarlo(OneDraw), &data)
        .unwrap();
    assert_eq!(
        many.failures[1].to_string(),
        "number 1 of the samples, counted from 0, failed: draw 0 is one too many"
    );
    let spread = |models: &[Waves]| {
        let model: Box<dyn PredictUncertain> = Box::new(Spread(models));
        parallel()
            .batch_inference_with_uncertainty(&model, &data)
            .unwrap_err()
    };
    assert!(matches!(spread(&[]), ParallelError::EmptyEnsemble));
    says(
        &spread(&[Waves::new(1.0)]),
        &["models of a spread is 1", "at least 2"],
    );
}
