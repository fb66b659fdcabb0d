//! Grid search: ranking, budgets, failed points.

use std::time::Duration;

use nd_parallel::{
    BoxError, FailureKind, Folds, Parallel, ParallelConfig, ParamGrid, ParamPoint, ParamValue,
    SearchEnd, Tune, parallel_grid_search,
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
    assert_eq!(search.unfinished[0], (4, 5.0));

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
