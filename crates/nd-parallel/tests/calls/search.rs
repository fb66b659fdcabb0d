//! Grid search: ranking, budgets, failed points.

use std::ops::Range;
use std::time::Duration;

use nd_parallel::{
    BoxError, FailureKind, Fit, Folds, Parallel, ParallelConfig, ParamGrid, ParamPoint, ParamValue,
    SearchEnd, Task, Tune, parallel_grid_search,
};

use crate::models::Level;

fn data() -> Vec<f64> {
    (0..60).map(|t| 10.0 + f64::from(t % 3)).collect()
}

#[test]
fn points_are_ranked_by_their_mean_score_whatever_the_threads() {
    let grid = vec![2.0, 1.0, 0.5, 1.1, 1.0];
    let mut rankings = Vec::new();
    for threads in [1, 2, 3, 8] {
        let config = ParallelConfig {
            max_threads: Some(threads),
            ..ParallelConfig::default()
        };
        let best_params =
            parallel_grid_search(&Level { factor: 9.0 }, &data(), &grid, &config).unwrap();
        assert_eq!(best_params.best().unwrap().params, 1.0);
        assert_eq!(best_params.end, SearchEnd::Completed);
        assert!(
            best_params
                .ranking
                .windows(2)
                .all(|pair| pair[0].score <= pair[1].score)
        );
        assert!(
            best_params
                .ranking
                .iter()
                .all(|point| point.folds.len() == 3)
        );
        let order: Vec<usize> = best_params
            .ranking
            .iter()
            .map(|point| point.index)
            .collect();
        rankings.push(order);
    }
    // Equal scores in the order of the grid.
    assert_eq!(rankings[0], [1, 4, 3, 2, 0]);
    assert!(rankings.iter().all(|order| *order == rankings[0]));
}

#[test]
fn failed_points_are_reported_and_not_fatal() {
    let grid = [1.0, -2.0, 13.0, 3.0];
    let search = Parallel::new(ParallelConfig::default())
        .grid_search(&Level { factor: 1.0 }, &data(), &grid)
        .unwrap();
    assert_eq!(search.ranking.len(), 2);
    let failed: Vec<_> = search
        .failed
        .iter()
        .map(|point| (point.params, point.failure.index, point.failure.kind))
        .collect();
    assert_eq!(
        failed,
        [(-2.0, 1, FailureKind::Error), (13.0, 2, FailureKind::Panic)]
    );
    assert!(search.failed[0].failure.message.contains("negative"));
    assert!(search.failed[1].failure.message.contains("thirteen"));
}

#[test]
fn budgets_end_a_search() {
    let grid: Vec<f64> = (1..=10).map(f64::from).collect();
    let parallel = || Parallel::new(ParallelConfig::default()).folds(Folds::expanding(2));
    let search = parallel()
        .trial_budget(4)
        .grid_search(&Level { factor: 1.0 }, &data(), &grid)
        .unwrap();
    assert_eq!((search.ranking.len(), search.unfinished.len()), (4, 6));
    assert_eq!(search.end, SearchEnd::Trials);
    let first = &search.unfinished[0];
    assert_eq!((first.index, first.params, first.folds.len()), (4, 5.0, 2));

    let search = parallel()
        .folds(1)
        .time_budget(Duration::ZERO)
        .grid_search(&Level { factor: 1.0 }, &data(), &grid)
        .unwrap();
    assert_eq!(search.end, SearchEnd::Time);
    assert_eq!(search.ranking.len(), 1, "the first fit is always made");
    assert_eq!(search.unfinished.len(), 9);

    let search = parallel()
        .time_budget(Duration::from_secs(600))
        .trial_budget(100)
        .grid_search(&Level { factor: 1.0 }, &data(), &grid)
        .unwrap();
    assert_eq!(
        (search.end, search.ranking.len()),
        (SearchEnd::Completed, 10)
    );
}

impl Tune<ParamPoint> for Level {
    fn tune(&self, point: &ParamPoint) -> Result<Self, BoxError> {
        match point.get("factor") {
            Some(ParamValue::Number(factor)) => Ok(Self { factor: *factor }),
            other => Err(format!("factor is {other:?}, but it must be a number").into()),
        }
    }
}

#[test]
fn named_parameters_make_a_grid() {
    let grid = ParamGrid::new()
        .axis("factor", [0.5, 1.0])
        .axis("name", ["a", "b", "c"]);
    let search = parallel_grid_search(
        &Level { factor: 0.0 },
        &data(),
        &grid,
        &ParallelConfig::default(),
    )
    .unwrap();
    assert_eq!(search.ranking.len(), 6);
    assert_eq!(
        search.best().unwrap().params.to_string(),
        "factor = 1, name = a"
    );
}

#[test]
fn a_search_without_time_has_its_first_point_and_says_what_it_left_out() {
    let grid: Vec<f64> = (1..=5).map(f64::from).collect();
    for threads in [1, 2, 4] {
        let config = ParallelConfig {
            max_threads: Some(threads),
            ..ParallelConfig::default()
        };
        let mut last = None;
        let search = Parallel::new(config)
            .time_budget(Duration::ZERO)
            .progress(|progress| last = Some(*progress))
            .grid_search(&Level { factor: 1.0 }, &data(), &grid)
            .unwrap();
        assert_eq!(search.end, SearchEnd::Time);
        assert_eq!(search.best().unwrap().folds.len(), 3);
        assert_eq!(search.ranking.len() + search.unfinished.len(), 5);
        let last = last.unwrap();
        assert_eq!((last.done, last.skipped), (3, 12));
        assert_eq!(last.total, Some(15));
    }
}

#[test]
fn a_failed_point_keeps_the_scores_of_its_other_folds() {
    struct SecondFails;
    impl Fit<Vec<f64>> for SecondFails {
        type Fitted = ();
        fn fit(&self, _: &Vec<f64>, task: &Task<'_>) -> Result<(), BoxError> {
            match task.index() % 3 {
                1 => Err("the second".into()),
                _ => Ok(()),
            }
        }
        fn score(
            &self,
            (): &(),
            _: &Vec<f64>,
            test: Range<usize>,
            _: &Task<'_>,
        ) -> Result<f64, BoxError> {
            Ok(test.start as f64)
        }
    }
    impl Tune<u8> for SecondFails {
        fn tune(&self, _: &u8) -> Result<Self, BoxError> {
            Ok(Self)
        }
    }
    let search =
        parallel_grid_search(&SecondFails, &data(), &[7u8, 8], &ParallelConfig::default()).unwrap();
    assert_eq!(search.failed.len(), 2);
    for (index, point) in search.failed.iter().enumerate() {
        assert_eq!((point.failure.index, point.fold), (index, Some(1)));
        let scores: Vec<_> = point
            .folds
            .iter()
            .map(|fold| Some(fold.as_ref()?.score))
            .collect();
        assert_eq!(scores, [Some(15.0), None, Some(45.0)]);
    }
}
