//! The same seed gives the same weights: on any number of threads, in a second run, and after a resume.

mod common;

use common::{Run, panel};
use nd_models::models::{LstmConfig, MlpConfig, NbeatsConfig, NhitsConfig, PatchTstConfig};
use nd_models::{FitHooks, Forecaster, ModelConfig, ZOO};

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

#[test]
fn weights_after_fifty_steps_are_the_same_on_any_number_of_threads_and_in_a_second_run() {
    let panel = panel();
    for entry in ZOO {
        let train = |threads: usize| {
            let mut run = Run::new(&panel, entry, &small((entry.config)()), 100, threads);
            let first = run.step();
            let last = (1..50).map(|_| run.step()).last().expect("fifty steps");
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
        for threads in [1, 2, 3, 8] {
            assert!(one == train(threads), "{} on {threads} threads", entry.name);
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
        config.train.early_stop_patience = Some(10);
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
            resume: None,
        };
        forecaster
            .fit_with(&panel, hooks)
            .expect("the first seven steps");
        let hooks = FitHooks {
            resume: Some(&path),
            ..FitHooks::default()
        };
        let resumed = forecaster.fit_with(&panel, hooks).expect("the other steps");
        assert_eq!(whole.history().map(|h| h.losses.len()), Some(12));
        assert_eq!(resumed.history().map(|h| h.losses.len()), Some(5));
        assert_eq!(
            whole.params().flat(),
            resumed.params().flat(),
            "{}",
            entry.name
        );
    }
    std::fs::remove_dir_all(&folder).expect("the temporary folder goes away");
}
