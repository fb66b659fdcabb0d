//! The same seed gives the same weights: on any number of threads, in a second run, and after a resume.

use crate::common::{Run, long, panel};
use nd_core::Precision;
use nd_models::models::{LstmConfig, MlpConfig, NbeatsConfig, NhitsConfig, PatchTstConfig};
use nd_models::{FitHooks, Fitted, Forecaster, ModelConfig, ModelError, ZOO};

/// The model at a size at which fifty steps take a moment.
fn small(config: ModelConfig) -> ModelConfig {
    match config {
        ModelConfig::Mlp(config) => ModelConfig::Mlp(MlpConfig {
            hidden_size: 64,
            ..config
        }),
        ModelConfig::Nbeats(config) => ModelConfig::Nbeats(NbeatsConfig {
            mlp_units: vec![[32, 32]; 2],
            ..config
        }),
        ModelConfig::Nhits(config) => ModelConfig::Nhits(NhitsConfig {
            mlp_units: vec![[32, 32]; 2],
            ..config
        }),
        ModelConfig::Lstm(config) => ModelConfig::Lstm(LstmConfig {
            encoder_hidden_size: 12,
            decoder_hidden_size: 8,
            ..config
        }),
        ModelConfig::PatchTst(config) => ModelConfig::PatchTst(PatchTstConfig {
            encoder_layers: 2,
            n_heads: 4,
            hidden_size: 16,
            linear_hidden_size: 32,
            ..config
        }),
        linear => linear,
    }
}

/// Fifty steps in f32; in sixteen bits, which a processor without their instructions computes slowly, twelve, on one thread twice and on
/// eight: an order that depended on threads would show in the first of them.
#[test]
fn weights_after_fifty_steps_are_the_same_on_any_number_of_threads_and_in_a_second_run() {
    let panel = panel();
    for (entry, precision) in ZOO
        .iter()
        .flat_map(|entry| Precision::ALL.map(|p| (entry, p)))
    {
        let (steps, others): (usize, &[usize]) = match precision {
            Precision::F32 => (50, &[1, 2, 3, 8]),
            _ if long() => (50, &[1, 2, 3, 8]),
            _ => (12, &[1, 8]),
        };
        // Shards of 32: three, and of one model ten, whose sum has more than one chain of four.
        let windows = match entry.name {
            "DLinear" => 300,
            _ if long() => 100,
            _ => 68,
        };
        let train = |threads: usize| {
            let run = Run::new(&panel, entry, &small((entry.config)()), windows, threads);
            let mut run = run.in_precision(precision);
            let first = run.step();
            let last = (1..steps).map(|_| run.step()).last().expect("many steps");
            assert!(
                last.is_finite() && first != last,
                "{}: {first} to {last}",
                entry.name
            );
            run.params
                .flat()
                .iter()
                .map(|x| x.to_bits())
                .collect::<Vec<_>>()
        };
        let one = train(1);
        for &threads in others {
            let same = one == train(threads);
            assert!(same, "{} in {precision} on {threads} threads", entry.name);
        }
    }
}

/// More shards than rows for some threads, fewer rows than threads, a single window.
#[test]
fn small_batches_give_the_same_weights_on_any_number_of_threads() {
    let panel = panel();
    for entry in ZOO {
        for windows in [1, 2, 33, 65] {
            let train = |threads: usize| {
                let mut run = Run::new(&panel, entry, &small((entry.config)()), windows, threads);
                for _ in 0..4 {
                    assert!(run.step().is_finite());
                }
                run.params
                    .flat()
                    .iter()
                    .map(|x| x.to_bits())
                    .collect::<Vec<_>>()
            };
            let one = train(1);
            for threads in [2, 3, 8] {
                let same = one == train(threads);
                assert!(
                    same,
                    "{}, {windows} windows on {threads} threads",
                    entry.name
                );
            }
        }
    }
}

#[test]
fn a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one() {
    let panel = panel();
    let folder = std::env::temp_dir().join(format!("nd-resume-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    for entry in ZOO {
        let mut forecaster = Forecaster::new(entry.name, 48, 12).expect("a model");
        let config = forecaster.config_mut();
        config.model = small(config.model.clone());
        config.train.windows_batch_size = Some(40);
        config.train.batch_size = 3;
        config.train.max_steps = 12;
        config.train.val_size = 24;
        config.train.val_check_steps = 5;
        config.train.num_lr_decays = 3;
        let whole = forecaster.fit(&panel).expect("a fit");

        let path = folder.join(format!("{}.safetensors", entry.name));
        let mut stop_at_seven = |p: &nd_models::train::Progress| {
            if p.step == 7 {
                nd_models::train::Control::Stop
            } else {
                nd_models::train::Control::Continue
            }
        };
        let hooks = FitHooks {
            progress: Some(&mut stop_at_seven),
            checkpoint: Some((&path, 100)),
            ..FitHooks::default()
        };
        forecaster
            .fit_with(&panel, hooks)
            .expect("the first seven steps");
        let hooks = FitHooks {
            resume: Some(&path),
            ..FitHooks::default()
        };
        let resumed = forecaster.fit_with(&panel, hooks).expect("the other steps");
        let losses = |fitted: &Fitted| fitted.history().expect("a history").losses.clone();
        assert_eq!(losses(&whole)[7..], losses(&resumed)[..]);
        assert_eq!(
            whole.params().flat(),
            resumed.params().flat(),
            "{}",
            entry.name
        );
    }
    std::fs::remove_dir_all(&folder).expect("the temporary folder goes away");
}

/// Default sizes: these networks run on one tape whose ops split their work, which the small ones above do not.
#[test]
fn large_networks_forecast_the_same_bits_on_any_number_of_threads() {
    let panel = panel();
    for (name, precision) in [
        ("MLP", Precision::F32),
        ("NHITS", Precision::F32),
        ("NBEATS", Precision::F32),
        ("PatchTST", Precision::F32),
        ("NHITS", Precision::F16),
        ("PatchTST", Precision::Bf16),
    ] {
        let forecast = |threads: usize| {
            let mut forecaster = Forecaster::new(name, 96, 24).expect("a model");
            let (windows, steps) = if long() { (200, 3) } else { (130, 2) };
            forecaster.config_mut().train.windows_batch_size = Some(windows);
            forecaster.config_mut().train.max_steps = steps;
            forecaster.config_mut().train.val_size = 48;
            let options = nd_core::RunOptions {
                threads: Some(threads),
                precision,
                ..nd_core::RunOptions::default()
            };
            let fitted = forecaster.with_options(options).fit(&panel).expect("a fit");
            let history = fitted.history().expect("a history").clone();
            let forecast = fitted.predict(&panel).expect("a forecast");
            (history.losses, history.validations, forecast)
        };
        let one = forecast(1);
        for threads in [3, 8] {
            assert!(
                one == forecast(threads),
                "{name} in {precision} on {threads} threads"
            );
        }
    }
}

#[test]
fn a_run_is_not_resumed_on_other_data_or_with_other_settings() {
    let panel = panel();
    let path = std::env::temp_dir().join(format!("nd-other-{}.safetensors", std::process::id()));
    let mut forecaster = Forecaster::new("NLinear", 48, 12).expect("a model");
    let train = &mut forecaster.config_mut().train;
    train.windows_batch_size = Some(10);
    train.batch_size = 1;
    train.max_steps = 2;
    // A number with all its digits: it must come back from the file to the bit.
    train.learning_rate = 0.001_234_567_890_123_456_7;
    let hooks = FitHooks {
        checkpoint: Some((&path, 1)),
        ..FitHooks::default()
    };
    forecaster.fit_with(&panel, hooks).expect("a fit");
    forecaster.config_mut().train.max_steps = 4;
    let resume = |forecaster: &Forecaster, panel| {
        forecaster.fit_with(
            panel,
            FitHooks {
                resume: Some(&path),
                ..FitHooks::default()
            },
        )
    };
    resume(&forecaster, &panel).expect("more steps may be asked for");
    let fewer = nd_data::datasets::SyntheticHourly {
        n_series: 1,
        length: 600,
        ..nd_data::datasets::SyntheticHourly::default()
    };
    let fewer = fewer.panel().expect("a panel");
    let error = resume(&forecaster, &fewer).expect_err("one series instead of four");
    assert!(matches!(error, ModelError::OtherRun { .. }), "{error}");
    forecaster.config_mut().train.seed = 9;
    let error = resume(&forecaster, &panel).expect_err("another seed");
    assert!(
        matches!(error, ModelError::OtherConfiguration { .. }),
        "{error}"
    );
    std::fs::remove_file(&path).expect("the file is there");
}
