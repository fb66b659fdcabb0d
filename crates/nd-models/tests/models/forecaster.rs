//! From a panel to a forecast, for every model of the zoo; and what users do wrong.

use crate::common::panel;
use nd_data::{PanelBuilder, Series};
use nd_models::loss::{LossConfig, LossKind};
use nd_models::train::{Control, Progress, Stop};
use nd_models::{FitHooks, Fitted, Forecaster, ModelError, ZOO};

fn quick(model: &str) -> Forecaster {
    let mut forecaster = Forecaster::new(model, 24, 6).expect("a model");
    let train = &mut forecaster.config_mut().train;
    train.max_steps = 3;
    train.windows_batch_size = Some(32);
    forecaster
}

#[test]
fn every_model_fits_predicts_saves_and_loads() {
    let panel = panel();
    let path =
        std::env::temp_dir().join(format!("nd-forecaster-{}.safetensors", std::process::id()));
    for entry in ZOO {
        let fitted = quick(entry.name).fit(&panel).expect("a fit");
        let history = fitted.history().expect("a history");
        assert_eq!((history.losses.len(), history.stop), (3, Stop::Completed));
        let forecast = fitted.predict(&panel).expect("a forecast");
        assert_eq!(forecast.columns, [entry.name]);
        assert_eq!(forecast.series.len(), panel.n_series());
        for (series, found) in forecast.series.iter().enumerate() {
            assert_eq!(found.unique_id, panel.unique_id(series));
            assert_eq!(found.ds, panel.future_ds(series, 6).expect("a calendar"));
            assert!(found.values.len() == 6 && found.values.iter().all(|v| v.is_finite()));
        }
        fitted.save(&path).expect("a file");
        let loaded = Fitted::load(&path).expect("a model");
        assert_eq!(loaded.config(), fitted.config());
        assert_eq!(
            loaded.predict(&panel).expect("a forecast"),
            forecast,
            "{}",
            entry.name
        );
    }
    std::fs::remove_file(&path).expect("the file is there");
}

#[test]
fn quantiles_have_columns_of_their_own() {
    let panel = panel();
    let mut forecaster = quick("NHITS");
    forecaster.config_mut().loss = LossConfig::from(LossKind::multi_quantile(&[80.0]));
    let forecast = forecaster
        .fit(&panel)
        .expect("a fit")
        .predict(&panel)
        .expect("a forecast");
    assert_eq!(
        forecast.columns,
        ["NHITS-median", "NHITS-lo-80", "NHITS-hi-80"]
    );
    assert_eq!(forecast.series[0].values.len(), 18);
    assert_eq!(forecast.column(0, 1).len(), 6);
    let mut csv = Vec::new();
    forecast.write_csv(&mut csv).expect("memory takes anything");
    let text = String::from_utf8(csv).expect("text");
    assert!(text.starts_with("unique_id,ds,NHITS-median"), "{text}");
    assert_eq!(text.lines().count(), 1 + 4 * 6);
}

/// Scaled windows of `a y + b` are those of `y`, so training is the same and forecasts differ by the same map.
#[test]
fn forecasts_are_in_the_units_of_the_data() {
    let wave = |t: usize| (t as f32 * 0.7).sin() + 0.3 * (t as f32 * 0.11).cos();
    let forecast = |entry: &nd_models::ZooEntry, scaler, a: f32, b: f32| {
        let y = (0..200).map(|t| a * wave(t) + b).collect();
        let panel = PanelBuilder::new()
            .series(Series::numbered("s", y))
            .build()
            .expect("a panel");
        let mut forecaster = quick(entry.name);
        forecaster.config_mut().scaler = scaler;
        let fitted = forecaster.fit(&panel).expect("a fit");
        fitted.predict(&panel).expect("a forecast").series[0]
            .values
            .clone()
    };
    for entry in ZOO
        .iter()
        .filter(|entry| ["NLinear", "NHITS"].contains(&entry.name))
    {
        for scaler in [
            nd_data::WindowScaler::Standard,
            nd_data::WindowScaler::Robust,
        ] {
            let plain = forecast(entry, scaler, 1.0, 0.0);
            assert!(
                plain.iter().any(|v| (v - plain[0]).abs() > 0.05),
                "{plain:?}"
            );
            for (a, b) in [(1e3f32, 5e3f32), (1e-3, 0.0)] {
                let mapped = forecast(entry, scaler, a, b);
                for (found, v) in mapped.iter().zip(&plain) {
                    let expected = a * v + b;
                    assert!(
                        (found - expected).abs() <= 0.01 * a,
                        "{} {scaler}: {found} for {expected}",
                        entry.name
                    );
                }
            }
        }
    }
}

#[test]
fn back_tests_carry_what_was_observed() {
    let panel = panel();
    let fitted = quick("DLinear").fit(&panel).expect("a fit");
    let forecast = fitted
        .back_test(&panel, 24, 6)
        .expect("four windows a series");
    assert_eq!(forecast.series.len(), 4 * 4);
    let first = &forecast.series[0];
    let row = panel.series_len(0) - 24;
    assert_eq!(first.y, panel.series_y(0)[row..row + 6]);
    assert_eq!(first.cutoff, panel.ds_at(0, row - 1));
    assert_eq!(first.ds[0], panel.ds_at(0, row));
    let mut csv = Vec::new();
    forecast.write_csv(&mut csv).expect("memory takes anything");
    assert!(csv.starts_with(b"unique_id,ds,cutoff,y,DLinear\n"));
}

#[test]
fn early_stopping_puts_the_best_weights_back() {
    let panel = panel();
    let mut forecaster = quick("MLP");
    let train = &mut forecaster.config_mut().train;
    train.max_steps = 400;
    train.val_size = 24;
    train.val_check_steps = 5;
    train.early_stop_patience = Some(3);
    // Far too large: the loss falls, then wanders.
    train.learning_rate = 0.02;
    let fitted = forecaster.fit(&panel).expect("a fit");
    let history = fitted.history().expect("a history");
    assert_eq!(history.stop, Stop::Early);
    let best = history
        .validations
        .iter()
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .expect("some");
    assert_eq!(history.best_step, Some(best.0));
    assert!(best.0 < history.validations.last().expect("some").0);
    // The weights that were kept score what was measured then: the validation windows are the last ones.
    let again = fitted.back_test(&panel, 24, 1).expect("windows");
    let errors = again.series.iter().flat_map(|s| s.values.iter().zip(&s.y));
    let (sum, n) = errors.fold((0.0, 0.0), |(s, n), (f, y)| {
        (s + f64::from((f - y).abs()), n + 1.0)
    });
    assert!(
        (sum / n - best.1).abs() <= 1e-5 * best.1,
        "{} for {}",
        sum / n,
        best.1
    );
}

#[test]
fn a_run_can_be_watched_and_stopped() {
    let panel = panel();
    let mut seen = Vec::new();
    let mut watch = |p: &Progress| {
        seen.push((p.step, p.loss));
        if p.step == 2 {
            Control::Stop
        } else {
            Control::Continue
        }
    };
    let hooks = FitHooks {
        progress: Some(&mut watch),
        ..FitHooks::default()
    };
    let fitted = quick("NLinear").fit_with(&panel, hooks).expect("a fit");
    let history = fitted.history().expect("a history");
    assert_eq!(history.stop, Stop::Cancelled);
    assert_eq!(history.losses, seen.iter().map(|s| s.1).collect::<Vec<_>>());
    assert_eq!(seen.len(), 2);
}

#[test]
fn what_cannot_work_is_said_before_training() {
    let panel = panel();
    let check = |change: &dyn Fn(&mut Forecaster), expected: &str| {
        let mut forecaster = quick("NHITS");
        change(&mut forecaster);
        let error = forecaster.fit(&panel).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&|f| f.config_mut().input_size = 0, "input_size");
    check(
        &|f| f.config_mut().input_size = 10_000,
        "window of 10000 inputs",
    );
    check(&|f| f.config_mut().train.val_size = 3, "val_size");
    check(
        &|f| f.config_mut().train.learning_rate = -1.0,
        "learning_rate",
    );
    check(
        &|f| f.config_mut().hist_exog = vec!["weather".into()],
        "weather",
    );
    let error = Forecaster::new("NHTS", 24, 6).expect_err("no such model");
    assert!(matches!(error, ModelError::UnknownModel { .. }), "{error}");
    assert!(error.to_string().contains("PatchTST"), "{error}");
}

#[test]
fn a_loss_that_is_not_finite_stops_with_its_step() {
    let mut y: Vec<f32> = (0..200).map(|t| (t as f32).sin()).collect();
    y[150] = 3e38;
    let panel = PanelBuilder::new()
        .series(Series::numbered("a", y))
        .build()
        .expect("a panel");
    let mut forecaster = quick("MLP");
    forecaster.config_mut().loss = LossConfig::from(LossKind::Mse);
    forecaster.config_mut().train.windows_batch_size = None;
    let error = forecaster
        .fit(&panel)
        .expect_err("the square is infinite")
        .to_string();
    assert!(
        error.contains("step 1") && error.contains("not finite"),
        "{error}"
    );
}

#[test]
fn windows_before_the_beginning_of_a_short_series_are_left_out() {
    let long = (0..100).map(|t| t as f32).collect();
    let short = (0..10).map(|t| t as f32).collect();
    let panel = PanelBuilder::new()
        .series(Series::numbered("long", long))
        .series(Series::numbered("short", short))
        .build()
        .expect("a panel");
    let fitted = quick("DLinear").fit(&panel).expect("a fit");
    let forecast = fitted.back_test(&panel, 24, 6).expect("windows");
    let of = |id: &str| {
        forecast
            .series
            .iter()
            .filter(|s| s.unique_id == id)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("long").len(), 4);
    let short = of("short");
    assert_eq!(short.len(), 1, "one window has a past");
    assert_eq!(short[0].y, [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    assert_eq!(short[0].cutoff, panel.ds_at(1, 3));
}

#[test]
fn validation_without_observed_targets_is_refused() {
    let mut mask = vec![true; 200];
    mask[188..].fill(false);
    let y = (0..200).map(|t| (t as f32).sin()).collect();
    let series = Series::numbered("a", y).available_mask(mask);
    let panel = PanelBuilder::new().series(series).build().expect("a panel");
    let mut forecaster = quick("MLP");
    forecaster.config_mut().train.val_size = 12;
    let error = forecaster
        .fit(&panel)
        .expect_err("nothing to validate on")
        .to_string();
    assert!(error.contains("no observed target"), "{error}");
}
