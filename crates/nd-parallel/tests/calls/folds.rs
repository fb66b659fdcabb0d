//! Folds never train on the future, and cross-validation hands models what the folds say.

use std::ops::Range;

use nd_core::Samples;
use nd_parallel::{
    BoxError, Fit, FoldStyle, Folds, Parallel, ParallelConfig, ParallelError, Rows, Task,
    parallel_cross_validation,
};
use proptest::prelude::*;

use crate::models::Level;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_fold_trains_on_its_future(
        n in 0usize..200,
        count in 1usize..12,
        window in prop::option::of(1usize..40),
        test in prop::option::of(1usize..20),
        step in prop::option::of(1usize..20),
        gap in 0usize..10,
    ) {
        let mut folds = match window {
            None => Folds::expanding(count),
            Some(window) => Folds::sliding(count, window),
        };
        folds = folds.gap(gap);
        if let Some(test) = test { folds = folds.test_samples(test); }
        if let Some(step) = step { folds = folds.step(step); }
        let found = match folds.over(n) {
            Ok(found) => found,
            Err(ParallelError::TooFewSamples { needed, samples, .. }) => {
                prop_assert_eq!(samples, n);
                // The message says exactly how many samples would do.
                prop_assert!(needed > n);
                prop_assert!(folds.over(needed).is_ok(), "{} of {} do not do", needed, n);
                prop_assert!((n..needed).all(|n| folds.over(n).is_err()), "fewer than {} do", needed);
                return Ok(());
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        };
        prop_assert_eq!(found.len(), count);
        let mut last_begin = None;
        for fold in &found {
            let (Rows::Range(train), Rows::Range(test_rows)) = (&fold.train, &fold.test) else {
                return Err(TestCaseError::fail("time-ordered folds are ranges"));
            };
            prop_assert!(!train.is_empty() && !test_rows.is_empty());
            prop_assert_eq!(train.end + gap, test_rows.start);
            prop_assert!(test_rows.end <= n);
            if let Some(test) = test { prop_assert_eq!(test_rows.len(), test); }
            match folds.style() {
                FoldStyle::Sliding { window } => prop_assert_eq!(train.len(), window),
                _ => prop_assert_eq!(train.start, 0),
            }
            if let Some(last) = last_begin {
                prop_assert_eq!(test_rows.start - last, step.unwrap_or(test_rows.len()));
            }
            last_begin = Some(test_rows.start);
        }
        let Some(Rows::Range(last)) = found.last().map(|fold| &fold.test) else {
            return Err(TestCaseError::fail("there are folds"));
        };
        prop_assert_eq!(last.end, n, "the last test ends with the data");
    }

    #[test]
    fn shuffled_folds_test_every_sample_once(n in 2usize..150, count in 2usize..10, seed: u64) {
        prop_assume!(count <= n);
        let found = Folds::shuffled(count, seed).over(n).unwrap();
        let mut tested: Vec<usize> = found.iter().flat_map(|fold| fold.test.iter()).collect();
        tested.sort_unstable();
        prop_assert_eq!(tested, (0..n).collect::<Vec<_>>());
        for fold in &found {
            let mut all: Vec<usize> = fold.train.iter().chain(fold.test.iter()).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
            prop_assert!(fold.test.len().abs_diff(n / count) <= 1);
        }
        prop_assert_eq!(&found, &Folds::shuffled(count, seed).over(n).unwrap());
    }
}

/// Fails when it is given a row that it must not see; rows are their own numbers.
struct Watchful {
    shuffled: bool,
}

impl Fit<Vec<usize>> for Watchful {
    type Fitted = Vec<usize>;

    fn fit(&self, train: &Vec<usize>, _: &Task<'_>) -> Result<Vec<usize>, BoxError> {
        Ok(train.clone())
    }

    fn score(
        &self,
        seen: &Vec<usize>,
        data: &Vec<usize>,
        test: Range<usize>,
        _: &Task<'_>,
    ) -> Result<f64, BoxError> {
        let tested = &data[test.clone()];
        assert!(
            tested.iter().all(|row| !seen.contains(row)),
            "a tested row was trained on"
        );
        if self.shuffled {
            assert_eq!(test, 0..data.len());
        } else {
            assert!(
                seen.iter().max() < tested.iter().min(),
                "the future was trained on"
            );
            assert_eq!(data.first(), seen.first());
            assert_eq!(data.last(), tested.last());
            assert!(data.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        }
        Ok(tested.len() as f64)
    }
}

#[test]
fn models_see_what_the_folds_say() {
    let data: Vec<usize> = (0..97).collect();
    let config = ParallelConfig {
        max_threads: Some(2),
        ..ParallelConfig::default()
    };
    for folds in [
        Folds::from(6),
        Folds::sliding(4, 11).gap(3),
        Folds::expanding(5).test_samples(4).step(2),
    ] {
        let model = Watchful { shuffled: false };
        let cv = parallel_cross_validation(&model, &data, folds.clone(), &config).unwrap();
        assert_eq!(cv.scores().count(), folds.count());
    }
    let model = Watchful { shuffled: true };
    let cv = parallel_cross_validation(&model, &data, Folds::shuffled(5, 3), &config).unwrap();
    assert_eq!(cv.scores().sum::<f64>(), 97.0);
}

#[test]
fn scores_are_those_of_hand_made_folds() {
    let data: Vec<f64> = (0..10).map(|t| f64::from(t * t)).collect();
    let cv =
        parallel_cross_validation(&Level { factor: 1.0 }, &data, 4, &ParallelConfig::default());
    let cv = cv.unwrap();
    // Tests of two samples: [2, 4), [4, 6), [6, 8), [8, 10).
    let by_hand = |begin: usize| {
        let mean = data[..begin].iter().sum::<f64>() / begin as f64;
        ((data[begin] - mean).abs() + (data[begin + 1] - mean).abs()) / 2.0
    };
    let expected: Vec<f64> = [2, 4, 6, 8].map(by_hand).to_vec();
    assert_eq!(cv.scores().collect::<Vec<_>>(), expected);
    assert_eq!(cv.mean(), Some(expected.iter().sum::<f64>() / 4.0));
    assert!(cv.std().is_some_and(|std| std > 0.0));
}

/// A time series must not be shuffled.
#[derive(Clone)]
struct Series(Vec<f64>);

impl Samples for Series {
    fn samples(&self) -> usize {
        self.0.len()
    }

    fn is_independent(&self) -> bool {
        false
    }

    fn select(&self, rows: &Rows) -> Self {
        Self(self.0.select(rows))
    }
}

#[test]
fn time_series_are_not_shuffled_and_nan_is_a_failure() {
    struct Nan;
    impl Fit<Series> for Nan {
        type Fitted = ();
        fn fit(&self, _: &Series, _: &Task<'_>) -> Result<(), BoxError> {
            Ok(())
        }
        fn score(
            &self,
            (): &(),
            data: &Series,
            _: Range<usize>,
            _: &Task<'_>,
        ) -> Result<f64, BoxError> {
            Ok(if data.0.len() > 8 { f64::NAN } else { 1.0 })
        }
    }
    let data = Series(vec![0.0; 12]);
    let parallel = Parallel::new(ParallelConfig::default());
    let error = parallel
        .cross_validation(&Nan, &data, Folds::shuffled(3, 1))
        .unwrap_err();
    assert!(matches!(error, ParallelError::NotIndependent), "{error}");
    let cv = parallel.cross_validation(&Nan, &data, 3).unwrap();
    assert_eq!(cv.scores().collect::<Vec<_>>(), [1.0]);
    assert!(
        cv.failures
            .iter()
            .all(|failure| failure.message.contains("NaN"))
    );
    assert_eq!(
        cv.failures
            .iter()
            .map(|failure| failure.index)
            .collect::<Vec<_>>(),
        [1, 2]
    );
}
