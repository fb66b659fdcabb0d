//! The cargo features of the facade reach the forecasts.

use neuro_divergent::core::{AttentionKind, Precision};
use neuro_divergent::optimizations::default_options;
use neuro_divergent::prelude::*;

/// What the features of this package say, in words of its own.
fn asked_for() -> RunOptions {
    let pick = |on: bool, with: RunOptions, without: RunOptions| if on { with } else { without };
    let full = RunOptions::default();
    let options = RunOptions {
        simd: SimdLevel::Scalar,
        ..full
    };
    let options = pick(cfg!(feature = "simd"), full, options);
    let attention = AttentionKind::Standard;
    let standard = RunOptions {
        attention,
        ..options
    };
    let options = pick(cfg!(feature = "flash-attention"), options, standard);
    let threads = Some(1);
    let options = pick(
        cfg!(feature = "parallel"),
        options,
        RunOptions { threads, ..options },
    );
    let precision = Precision::Bf16;
    let half = RunOptions {
        precision,
        ..options
    };
    pick(cfg!(feature = "mixed-precision"), half, options)
}

/// Instruction sets, kinds of attention and formats differ in their last bits, so a forecast shows what it was made with.
#[test]
fn a_new_forecaster_runs_with_what_the_features_ask_for() {
    assert_eq!(default_options(), asked_for());
    let panel: Panel = air_passengers().expect("embedded data");
    let forecaster = || {
        let mut forecaster = Forecaster::new("PatchTST", 24, 12).expect("a model");
        let config = forecaster.config_mut();
        config.train.max_steps = 3;
        config.train.windows_batch_size = Some(16);
        if let ModelConfig::PatchTst(config) = &mut config.model {
            config.encoder_layers = 1;
        }
        forecaster
    };
    let forecast = |forecaster: Forecaster| {
        let fitted = forecaster.fit(&panel).expect("a fit");
        assert_eq!(fitted.options(), asked_for());
        fitted.predict(&panel).expect("a forecast")
    };
    let found = forecast(forecaster());
    assert_eq!(found, forecast(forecaster().with_options(asked_for())));
    // Vectors and textbook loops add in other orders, so what was found is not what the other of the two gives.
    let simd = match asked_for().simd {
        SimdLevel::Scalar => SimdLevel::best(),
        _ => SimdLevel::Scalar,
    };
    let options = RunOptions {
        simd,
        ..asked_for()
    };
    let fitted = forecaster().with_options(options).fit(&panel);
    let other = fitted.expect("a fit").predict(&panel).expect("a forecast");
    assert!(other != found || simd == asked_for().simd);
}
