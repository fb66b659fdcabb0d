//! Data that do not fit a trained model, columns named twice, back tests that are too long, fits that fail.

use crate::common::panel;
use nd_data::{Frequency, Panel, PanelBuilder, Repair, Series, TimeStyle};
use nd_models::{FitHooks, Fitted, Forecaster, ModelError, checkpoint};

fn quick(model: &str) -> Forecaster {
    let mut forecaster = Forecaster::new(model, 24, 6).expect("a model");
    let train = &mut forecaster.config_mut().train;
    train.max_steps = 3;
    train.windows_batch_size = Some(32);
    forecaster
}

/// A series of 100 time stamps from 2020-01-31 on.
fn dated(alias: &str) -> Panel<f32> {
    let frequency: Frequency = alias.parse().expect("an alias");
    let start = nd_data::calendar::timestamp(2020, 1, 31, 0, 0, 0).expect("a date");
    let start = if frequency.is_on(start) {
        start
    } else {
        frequency.next(start, 1).expect("a date")
    };
    let ds = frequency.range(start, 100).expect("dates");
    let y = (0..100).map(|t| (t as f32 * 0.3).sin()).collect();
    PanelBuilder::new()
        .time_style(TimeStyle::DATE_TIME)
        .repair(Repair {
            frequency: Some(frequency),
            ..Repair::default()
        })
        .series(Series::new("a", ds, y))
        .build()
        .expect("a panel")
}

#[test]
fn a_model_remembers_its_frequency() {
    let fitted = quick("NLinear").fit(&dated("D")).expect("a fit");
    assert_eq!(fitted.config().frequency, Some(Frequency::DAY));
    let path = std::env::temp_dir().join(format!("nd-daily-{}.safetensors", std::process::id()));
    fitted.save(&path).expect("a file");
    let loaded = Fitted::load(&path).expect("a model");
    assert_eq!(loaded.config(), fitted.config());

    for model in [&fitted, &loaded] {
        model.predict(&dated("D")).expect("the same frequency");
        model.predict(&dated("24h")).expect("as long a step");
        for other in ["MS", "h", "B", "2D", "W-SUN"] {
            let panel = dated(other);
            let frequency = panel.frequency().expect("a frequency").to_string();
            for error in [
                model.predict(&panel).expect_err(other),
                model.back_test(&panel, 12, 6).expect_err(other),
            ] {
                let text = error.to_string();
                assert!(matches!(error, ModelError::OtherFrequency { .. }), "{text}");
                let named = format!("has frequency {frequency}:");
                assert!(
                    text.contains("of frequency D,") && text.contains(&named),
                    "{text}"
                );
            }
        }
    }

    // Month ends after month starts, and files of versions that did not store it.
    let monthly = quick("NLinear").fit(&dated("MS")).expect("a fit");
    monthly.predict(&dated("ME")).expect("as long a step");
    let mut config = serde_json::to_value(fitted.config()).expect("plain data");
    config
        .as_object_mut()
        .expect("an object")
        .remove("frequency")
        .expect("it is stored");
    checkpoint::save(&path, &config.to_string(), fitted.params(), None).expect("a file");
    let old = Fitted::load(&path).expect("an old model");
    assert_eq!(old.config().frequency, None);
    old.predict(&dated("MS")).expect("nothing to compare");
    std::fs::remove_file(&path).expect("the file is there");
}

#[test]
fn a_configuration_can_ask_for_a_frequency() {
    let mut forecaster = quick("NLinear");
    forecaster.config_mut().frequency = Some(Frequency::HOUR);
    let error = forecaster.fit(&dated("D")).expect_err("daily data");
    assert!(
        matches!(error, ModelError::OtherFrequency { .. }),
        "{error}"
    );
    forecaster.fit(&dated("60min")).expect("as long a step");
}

#[test]
fn a_run_without_a_frequency_in_its_file_is_resumed() {
    let panel = dated("D");
    let path = std::env::temp_dir().join(format!("nd-old-run-{}.safetensors", std::process::id()));
    let hooks = FitHooks {
        checkpoint: Some((&path, 1)),
        ..FitHooks::default()
    };
    let fitted = quick("NLinear").fit_with(&panel, hooks).expect("a fit");
    let layout = fitted.network().layout();
    let raw = checkpoint::read(&path).expect("a run");
    let state = raw.state::<f32>(layout).expect("a state");
    let mut config = fitted.config().clone();
    config.frequency = None;
    let text = serde_json::to_string(&config).expect("plain data");
    assert!(!text.contains("frequency"), "{text}");
    checkpoint::save(&path, &text, fitted.params(), state.as_ref()).expect("a file");
    let mut more = quick("NLinear");
    more.config_mut().train.max_steps = 5;
    let hooks = FitHooks {
        resume: Some(&path),
        ..FitHooks::default()
    };
    let resumed = more.fit_with(&panel, hooks).expect("the rest");
    assert_eq!(resumed.config().frequency, Some(Frequency::DAY));
    std::fs::remove_file(&path).expect("the file is there");
}

#[test]
fn a_back_test_longer_than_the_data_is_refused() {
    let series = |name, rows| Series::numbered(name, (0..rows).map(|t| t as f32).collect());
    let panel = PanelBuilder::new()
        .series(series("short", 60))
        .series(series("long", 400))
        .build()
        .expect("a panel");
    let fitted = quick("NLinear").fit(&panel).expect("a fit");
    for test_size in [400, 1000, usize::MAX] {
        let error = fitted
            .back_test(&panel, test_size, 14)
            .expect_err("too long");
        let found = matches!(&error, ModelError::TestSize { largest: 399, rows: 400, series, .. } if series == "long");
        assert!(found, "{error}");
        for part in ["`long`", "400 rows", "at most 399", &test_size.to_string()] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
    let all = fitted.back_test(&panel, 399, 14).expect("windows");
    assert!(all.series.iter().all(|window| window.y.len() == 6));
}

#[test]
fn a_column_is_named_once() {
    for kind in ["hist_exog", "futr_exog", "stat_exog"] {
        let mut forecaster = quick("NHITS");
        let config = forecaster.config_mut();
        let columns = match kind {
            "hist_exog" => &mut config.hist_exog,
            "futr_exog" => &mut config.futr_exog,
            _ => &mut config.stat_exog,
        };
        *columns = vec!["promo".into(), "price".into(), "promo".into()];
        let error = forecaster
            .fit(&panel())
            .expect_err("promo twice")
            .to_string();
        assert!(
            error.contains(kind) && error.contains("remove one \"promo\""),
            "{error}"
        );
    }
}

#[test]
fn a_failed_fit_can_hand_over_what_it_learned() {
    // The first windows are tame; sooner or later a step meets the value whose square is infinite.
    let mut y: Vec<f32> = (0..4000).map(|t| (t as f32 * 0.1).sin()).collect();
    y[2000] = 3e38;
    let panel = PanelBuilder::new()
        .series(Series::numbered("a", y))
        .build()
        .expect("a panel");
    let mut forecaster = quick("NLinear");
    forecaster.config_mut().loss = nd_models::loss::LossKind::Mse.into();
    forecaster.config_mut().train.max_steps = 10_000;
    forecaster.config_mut().train.windows_batch_size = Some(8);
    let mut steps = 0;
    let mut count = |progress: &nd_models::train::Progress| {
        steps = progress.step;
        nd_models::train::Control::Continue
    };
    let mut unfinished = None;
    let hooks = FitHooks {
        progress: Some(&mut count),
        unfinished: Some(&mut unfinished),
        ..FitHooks::default()
    };
    let error = forecaster
        .fit_with(&panel, hooks)
        .expect_err("an infinite loss");
    assert!(matches!(error, ModelError::Step(_)), "{error}");
    assert!(steps > 0, "the test needs a good step first");
    let rescued: Fitted = unfinished.expect("a model");
    forecaster.config_mut().train.max_steps = steps;
    let stopped = forecaster.fit(&panel).expect("only the good steps");
    assert_eq!(rescued.params().flat(), stopped.params().flat());
    rescued
        .predict(&panel.without_last(100))
        .expect("a forecast");
}
