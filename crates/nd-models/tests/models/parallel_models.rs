//! Models of the zoo under the parallel calls: the same bits for any threads and chunks, and those of the plain calls.

use std::time::Duration;

use nd_data::datasets::SyntheticHourly;
use nd_data::{Panel, PanelBuilder, Series, WindowScaler};
use nd_models::loss::LossKind;
use nd_models::{Fitted, Forecast, Forecaster, ModelError, ZOO};
use nd_parallel::{
    Cancel, EnsembleAggregation, Folds, Parallel, ParallelConfig, ParallelError, ParamGrid,
    Predict, Spread, parallel_batch_inference, parallel_batch_inference_with_uncertainty,
    parallel_cross_validation, parallel_ensemble_predict, parallel_grid_search,
};

const L: usize = 48;
const H: usize = 12;

fn panel() -> Panel<f32> {
    SyntheticHourly {
        n_series: 3,
        length: 300,
        ..SyntheticHourly::default()
    }
    .panel()
    .expect("generated data")
}

fn forecaster(model: &str) -> Forecaster {
    let mut forecaster = Forecaster::new(model, L, H).expect("a model");
    let train = &mut forecaster.config_mut().train;
    train.max_steps = 3;
    train.windows_batch_size = Some(24);
    forecaster
}

fn fitted(forecaster: &Forecaster) -> Fitted {
    forecaster.fit(&panel()).expect("a fit")
}

/// Pasts of different lengths: longer than the input, exactly as long, shorter.
fn histories(count: usize) -> Vec<Vec<f32>> {
    let panel = panel();
    (0..count)
        .map(|i| {
            let series = panel.series_y(i % 3);
            let end = 60 + (i * 37) % 240;
            let len = [end, L, 1 + i % L][i % 3];
            series[end - len..end].to_vec()
        })
        .collect()
}

fn config(threads: usize, chunk_size: usize) -> ParallelConfig {
    ParallelConfig {
        max_threads: Some(threads),
        chunk_size,
    }
}

fn bits(predictions: &[Vec<f32>]) -> Vec<u32> {
    predictions.iter().flatten().map(|x| x.to_bits()).collect()
}

#[test]
fn every_model_predicts_the_same_bits_for_any_threads_and_chunks() {
    let data = histories(75);
    for entry in ZOO {
        let model = fitted(&forecaster(entry.name));
        let one: Vec<Vec<f32>> = data
            .iter()
            .map(|x| Predict::predict(&model, x).expect("a forecast"))
            .collect();
        for (threads, chunk_size) in [(1, 1), (1, 75), (2, 32), (3, 7), (8, 2), (2, 64)] {
            let found: Vec<Vec<f32>> =
                parallel_batch_inference(&model, &data, &config(threads, chunk_size)).expect("all");
            assert!(
                bits(&found) == bits(&one),
                "{} on {threads} threads in chunks of {chunk_size}",
                entry.name
            );
        }
    }
}

#[test]
fn a_plain_series_is_forecast_like_a_panel_of_it() {
    let scalers = [
        WindowScaler::Identity,
        WindowScaler::Robust,
        WindowScaler::MinMax1,
    ];
    let of = |y: Vec<f32>| -> Panel<f32> {
        PanelBuilder::new()
            .series(Series::numbered("a", y))
            .build()
            .expect("a panel")
    };
    for (name, scaler) in ["NHITS", "LSTM", "DLinear"].into_iter().zip(scalers) {
        let mut forecaster = forecaster(name);
        forecaster.config_mut().scaler = scaler;
        let training = of(panel().series_y(0).to_vec());
        let model = forecaster.fit(&training).expect("a fit");
        for y in histories(12) {
            let expected = model.predict(&of(y.clone())).expect("a forecast");
            let found: Vec<f32> = Predict::predict(&model, &y).expect("a forecast");
            assert_eq!(found, expected.column(0, 0), "{name}, {} values", y.len());
        }
    }
}

#[test]
fn missing_values_are_masked_and_impossible_series_refused() {
    let model = fitted(&forecaster("NLinear"));
    let whole = histories(2)[0].clone();
    let mut gaps = whole.clone();
    let last = gaps.len() - 1;
    gaps[last - 3] = f32::NAN;
    let mut held = whole.clone();
    held[last - 3] = held[last - 4];
    // NLinear does not look at masks: a gap is its last observed value.
    let of = |y: &Vec<f32>| -> Vec<f32> { Predict::predict(&model, y).expect("a forecast") };
    assert_eq!(of(&gaps), of(&held));

    let bad = |y: Vec<f32>| {
        let result: Result<Vec<f32>, _> = Predict::predict(&model, &y);
        result.expect_err("an impossible series").to_string()
    };
    assert!(bad(Vec::new()).contains("at least one"));
    assert!(bad(vec![f32::NAN; 80]).contains("at least one"));
    assert!(bad(vec![1.0, f32::INFINITY]).contains("value 1 of the series is inf"));
    let data = vec![whole, Vec::new(), held];
    let outcome = Parallel::new(config(2, 3))
        .batch_inference::<_, Vec<f32>>(&model, &data)
        .expect("a call");
    assert_eq!((outcome.done(), outcome.failures[0].index), (2, 1));

    let mut exogenous = forecaster("MLP");
    let data = SyntheticHourly {
        n_series: 1,
        length: 300,
        exogenous: true,
        ..SyntheticHourly::default()
    };
    let data = data.panel::<f32>().expect("generated data");
    let column = data.column_names(nd_data::Role::Future)[0].to_owned();
    exogenous.config_mut().futr_exog = vec![column.clone()];
    let model = exogenous.fit(&data).expect("a fit");
    let result: Result<Vec<f32>, _> = Predict::predict(&model, &vec![1.0; L]);
    let error = result.expect_err("no columns").to_string();
    assert!(
        error.contains(&column) && error.contains("panels"),
        "{error}"
    );
}

#[test]
fn ensembles_of_different_models_over_panels_and_series() {
    let models: Vec<Fitted> = ["NLinear", "MLP", "NHITS"]
        .iter()
        .map(|name| fitted(&forecaster(name)))
        .collect();
    let data = histories(10);
    let found: Vec<Vec<f32>> =
        parallel_ensemble_predict(&models, &data, EnsembleAggregation::Median, &config(2, 4))
            .expect("all");
    let alone: Vec<Vec<Vec<f32>>> = models
        .iter()
        .map(|m| parallel_batch_inference(m, &data, &config(1, 10)).expect("all"))
        .collect();
    for (i, prediction) in found.iter().enumerate() {
        for (t, value) in prediction.iter().enumerate() {
            let mut of = [0, 1, 2].map(|m: usize| alone[m][i][t]);
            of.sort_by(f32::total_cmp);
            assert_eq!(*value, of[1]);
        }
    }

    let boxed: Vec<Box<dyn Predict<Panel<f32>, Forecast>>> = models
        .into_iter()
        .map(|model| Box::new(model) as Box<dyn Predict<Panel<f32>, Forecast>>)
        .collect();
    let panels = vec![panel(), panel().without_last(24)];
    let both = parallel_ensemble_predict(&boxed, &panels, EnsembleAggregation::Mean, &config(2, 1));
    let both = both.expect("two forecasts");
    assert_eq!(both[1].series.len(), 3);
    assert_eq!(both[1].series[0].values.len(), H);
    assert!(both[0].series[0].cutoff > both[1].series[0].cutoff);
}

#[test]
fn folds_and_grids_of_a_forecaster_do_not_depend_on_threads() {
    let data = panel();
    let model = forecaster("MLP");
    let scores = |threads: usize| -> Vec<f64> {
        let folds = Folds::sliding(3, 200).test_samples(24);
        let cv = parallel_cross_validation(&model, &data, folds, &config(threads, 1));
        cv.expect("three folds").scores().collect()
    };
    let one = scores(1);
    assert!(one.iter().all(|score| score.is_finite() && *score > 0.0));
    for threads in [2, 3, 8] {
        assert_eq!(scores(threads), one, "{threads} threads");
    }

    let grid = ParamGrid::new()
        .axis("learning_rate", [1e-3, 1e-2])
        .axis("hidden_size", [8, 16]);
    let ranking = |threads: usize| -> Vec<(usize, f64)> {
        let found = Parallel::new(config(threads, 1))
            .folds(Folds::expanding(2).test_samples(24))
            .grid_search(&model, &data, &grid)
            .expect("a search");
        assert!(found.failed.is_empty(), "{:?}", found.failed);
        found
            .ranking
            .iter()
            .map(|point| (point.index, point.score))
            .collect()
    };
    let one = ranking(1);
    assert_eq!(one.len(), 4);
    for threads in [2, 5] {
        assert_eq!(ranking(threads), one, "{threads} threads");
    }
}

#[test]
fn a_fold_is_the_fit_and_back_test_that_it_says() {
    let data = panel();
    let model = forecaster("NHITS");
    let folds = Folds::expanding(2).test_samples(24);
    let cv = parallel_cross_validation(&model, &data, folds, &config(2, 1)).expect("two folds");
    let fitted = model.fit(&data.without_last(24)).expect("a fit");
    let forecast = fitted.back_test(&data, 24, H).expect("a back test");
    let mut errors = Vec::new();
    for series in &forecast.series {
        errors.extend(
            series
                .values
                .iter()
                .zip(&series.y)
                .map(|(f, y)| f64::from((f - y).abs())),
        );
    }
    assert_eq!(errors.len(), 3 * 24);
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    assert_eq!(cv.scores().last(), Some(mean));
}

#[test]
fn settings_that_cannot_be_are_failed_points() {
    let grid = ParamGrid::new().axis("train.learning_rate", [1e-3, -1.0]);
    let search =
        parallel_grid_search(&forecaster("MLP"), &panel(), &grid, &config(2, 1)).expect("a search");
    assert_eq!((search.ranking.len(), search.failed.len()), (1, 1));
    let message = &search.failed[0].failure.message;
    assert!(
        message.contains("learning_rate") && message.contains("-1"),
        "{message}"
    );

    let wrong = |name: &str, value: &str| {
        let grid = ParamGrid::new().axis(name, [value]);
        let search = parallel_grid_search(&forecaster("MLP"), &panel(), &grid, &config(1, 1));
        search.expect("a search").failed[0].failure.message.clone()
    };
    let message = wrong("hidden_sizes", "8");
    assert!(
        message.contains("no setting \"hidden_sizes\"") && message.contains("hidden_size"),
        "{message}"
    );
    let message = wrong("hidden_size", "many");
    assert!(message.contains("hidden_size = many"), "{message}");
    // Both the loss and the optimizer have one of that name.
    let message = wrong("name", "MSE");
    assert!(
        message.contains("loss.kind.name") || message.contains("no setting"),
        "{message}"
    );

    let error = Parallel::new(config(1, 1))
        .cross_validation(&forecaster("MLP"), &panel(), Folds::shuffled(3, 1))
        .expect_err("a time series");
    assert!(matches!(error, ParallelError::NotIndependent), "{error}");
}

#[test]
fn uncertainty_comes_from_quantiles_dropout_or_an_ensemble() {
    let data = histories(20);
    let mut quantiles = forecaster("NHITS");
    quantiles.config_mut().loss = LossKind::multi_quantile(&[80.0, 90.0]).into();
    let model = fitted(&quantiles);
    let (predictions, uncertainties) =
        parallel_batch_inference_with_uncertainty(&model, &data, &config(2, 4)).expect("all");
    assert_eq!(predictions[0].len(), H);
    let levels: Vec<f64> = uncertainties[0]
        .intervals
        .iter()
        .map(|i| (i.level * 100.0).round())
        .collect();
    assert_eq!(levels, [80.0, 90.0]);
    for (prediction, uncertainty) in predictions.iter().zip(&uncertainties) {
        for t in 0..H {
            let (narrow, wide) = (&uncertainty.intervals[0], &uncertainty.intervals[1]);
            assert!(wide.low[t] <= narrow.low[t] && narrow.low[t] <= prediction[t]);
            assert!(prediction[t] <= narrow.high[t] && narrow.high[t] <= wide.high[t]);
            assert!(uncertainty.std[t] >= 0.0);
        }
    }

    // What no sample could be given fails the call, not every sample.
    let beyond = Parallel::new(config(2, 4))
        .levels([0.99])
        .batch_inference_with_uncertainty::<_, Vec<f32>>(&model, &data);
    assert!(matches!(beyond, Err(ParallelError::Quantiles { .. })));

    let mut dropout = forecaster("NHITS");
    if let nd_models::ModelConfig::Nhits(config) = &mut dropout.config_mut().model {
        config.dropout_prob_theta = 0.2;
    }
    let model = fitted(&dropout);
    let drawn = |threads: usize, chunk_size: usize| {
        let outcome = Parallel::new(config(threads, chunk_size))
            .draws(12)
            .seed(3)
            .batch_inference_with_uncertainty::<_, Vec<f32>>(&model, &data)
            .expect("a call");
        outcome.complete().expect("all")
    };
    let one = drawn(1, 20);
    assert!(one.iter().all(|(_, u)| u.std.iter().any(|&std| std > 0.0)));
    assert!(one[0].1.std != one[1].1.std);
    for (threads, chunk_size) in [(2, 1), (3, 7), (1, 64)] {
        assert!(
            drawn(threads, chunk_size) == one,
            "{threads} threads, chunks of {chunk_size}"
        );
    }

    let plain = fitted(&forecaster("MLP"));
    let outcome = Parallel::new(config(1, 4))
        .batch_inference_with_uncertainty::<_, Vec<f32>>(&plain, &data)
        .expect("a call");
    let message = &outcome.failures[0].message;
    assert!(
        message.contains("MLP") && message.contains("Spread"),
        "{message}"
    );

    let members = [fitted(&forecaster("MLP")), fitted(&forecaster("NLinear"))];
    let (means, spread) =
        parallel_batch_inference_with_uncertainty(&Spread(&members), &data, &config(2, 4))
            .expect("all");
    let means: Vec<Vec<f32>> = means;
    assert_eq!(means.len(), 20);
    assert!(spread[0].std.iter().all(|&std: &f32| std > 0.0));
}

#[test]
fn a_cancelled_fit_ends_soon_and_counts_as_not_done() {
    let mut model = forecaster("MLP");
    model.config_mut().train.max_steps = 1_000_000;
    let cancel = Cancel::new();
    let switch = cancel.clone();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        switch.cancel();
    });
    let cv = Parallel::new(config(2, 1))
        .cancel(&cancel)
        .cross_validation(&model, &panel(), Folds::expanding(2).test_samples(24))
        .expect("a call");
    stopper.join().expect("the switch was thrown");
    assert!(cv.cancelled && cv.failures.is_empty() && cv.scores().count() == 0);
}

#[test]
fn errors_of_fits_keep_their_type() {
    let cv = Parallel::new(config(1, 1))
        .cross_validation(
            &forecaster("MLP"),
            &panel(),
            Folds::sliding(2, 20).test_samples(24),
        )
        .expect("a call");
    use std::error::Error;
    let source = cv.failures[0].source().expect("the model's error");
    assert!(source.is::<ModelError>(), "{source}");
}

/// No type is named: a sample says what its prediction is.
#[test]
fn the_quick_reference_holds_as_it_is_written() -> Result<(), Box<dyn std::error::Error>> {
    let panel = panel();
    let forecaster = forecaster("NLinear");
    let (model, models) = (
        fitted(&forecaster),
        vec![fitted(&forecaster), fitted(&forecaster)],
    );
    let data = histories(5);
    let config = ParallelConfig {
        max_threads: None, // Use all cores
        chunk_size: 32,    // Batch size per thread
    };
    let predictions = parallel_batch_inference(&model, &data, &config)?;
    let ensemble_pred =
        parallel_ensemble_predict(&models, &data, EnsembleAggregation::Mean, &config)?;
    assert_eq!(predictions, ensemble_pred);

    let (model, data, k_folds) = (forecaster, panel, 3);
    let cv_results = parallel_cross_validation(&model, &data, k_folds, &config)?;
    assert_eq!(cv_results.scores().count(), 3);
    let param_grid = ParamGrid::new().axis("learning_rate", [1e-3, 1e-4]);
    let best_params = parallel_grid_search(&model, &data, &param_grid, &config)?;
    assert!(best_params.best().is_some());
    Ok(())
}
