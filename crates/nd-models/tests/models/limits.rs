//! Sizes that cannot be are an error that names the setting, before anything is built.

use nd_models::limits::{MAX_COUNT, MAX_SIZE};
use nd_models::loss::{LossConfig, LossKind, Quantiles};
use nd_models::{Forecaster, ModelConfig, ModelDims, ModelError, ZOO};

fn message(result: Result<Forecaster, ModelError>, what: &str) -> String {
    match result {
        Ok(_) => panic!("{what} was accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn huge_windows_are_refused_by_every_model() {
    for entry in ZOO {
        for huge in [
            MAX_SIZE + 1,
            400_000_000,
            9_000_000_000_000_000_000,
            usize::MAX,
        ] {
            for (input_size, horizon, field) in [(huge, 9, "input_size"), (4, huge, "horizon")] {
                let what = format!("{} with {input_size} and {horizon}", entry.name);
                let found = message(Forecaster::new(entry.name, input_size, horizon), &what);
                for part in [field, &huge.to_string(), &MAX_SIZE.to_string()] {
                    assert!(found.contains(part), "{what}: {part} in {found}");
                }
            }
        }
    }
}

#[test]
fn the_largest_sizes_are_refused_together_or_built_without_overflow() {
    for entry in ZOO {
        for (input_size, horizon) in [(MAX_SIZE, MAX_SIZE), (MAX_SIZE, 2), (2, MAX_SIZE)] {
            match Forecaster::new(entry.name, input_size, horizon) {
                Ok(forecaster) => assert!(forecaster.parameter_count().expect("a count") > 0),
                Err(ModelError::TooLarge { found, limit, .. }) => assert!(found > limit),
                Err(other) => panic!("{}: {other}", entry.name),
            }
        }
    }
    let error = message(
        Forecaster::new("NLinear", MAX_SIZE, MAX_SIZE),
        "2^40 weights",
    );
    assert!(error.contains("input_size 1048576"), "{error}");
}

#[test]
fn every_size_of_every_model_has_a_limit() {
    let dims = ModelDims::univariate(24, 12);
    for (model, field, smaller) in [
        ("DLinear", "moving_avg_window", "1"),
        ("MLP", "num_layers", "1"),
        ("MLP", "hidden_size", "1"),
        ("LSTM", "encoder_n_layers", "1"),
        ("LSTM", "encoder_hidden_size", "1"),
        ("LSTM", "decoder_hidden_size", "1"),
        ("LSTM", "decoder_layers", "1"),
        ("PatchTST", "encoder_layers", "1"),
        ("PatchTST", "hidden_size", "16"),
        ("PatchTST", "linear_hidden_size", "1"),
        ("PatchTST", "patch_len", "1"),
        ("PatchTST", "stride", "1"),
        ("PatchTST", "n_heads", "1"),
        ("NHITS", "n_blocks", "[1,1,1]"),
        ("NHITS", "n_pool_kernel_size", "[1,1,1]"),
        ("NHITS", "n_freq_downsample", "[1,1,1]"),
        ("NHITS", "mlp_units", "[[1,1]]"),
        ("NBEATS", "n_blocks", "[1,1,1]"),
        ("NBEATS", "mlp_units", "[[1,1]]"),
        ("NBEATS", "n_basis", "1"),
        ("NBEATS", "n_harmonics", "1"),
    ] {
        let build = |value: &str| {
            let text = format!(r#"{{"model":"{model}","{field}":{value}}}"#);
            let config: ModelConfig = serde_json::from_str(&text).expect("a configuration");
            config.build::<f32>(&dims).map(|_| ())
        };
        build(smaller).expect(field);
        for huge in [u64::MAX, u64::MAX - 1, 1 << 40] {
            // Odd, where that is asked for; every entry of a list.
            let value = smaller
                .replace("16", "1")
                .replace('1', &(huge | 1).to_string());
            let error = build(&value).expect_err(field).to_string();
            assert!(error.contains(field), "{model} {field}: {error}");
        }
    }
}

#[test]
fn many_layers_are_refused_before_they_are_declared() {
    let dims = ModelDims::univariate(24, 12);
    for text in [
        r#"{"model":"NHITS","n_blocks":[300,1,1]}"#.to_owned(),
        r#"{"model":"NBEATS","n_blocks":[1,1000,1],"shared_weights":true}"#.to_owned(),
        format!(r#"{{"model":"MLP","num_layers":{}}}"#, MAX_COUNT + 1),
    ] {
        let config: ModelConfig = serde_json::from_str(&text).expect("a configuration");
        let error = config.build::<f32>(&dims).map(|_| ()).expect_err(&text);
        assert!(error.to_string().contains("at most 1024"), "{error}");
    }
}

#[test]
fn outputs_of_a_window_have_a_limit() {
    let mut forecaster = Forecaster::new("NLinear", 24, 100_000).expect("a model");
    let many = (1..=100).map(|i| f64::from(i) / 200.0).collect();
    forecaster.config_mut().loss = LossConfig::from(LossKind::MultiQuantile {
        quantiles: Quantiles::Quantiles(many),
    });
    let error = forecaster.parameter_count().expect_err("10^7 outputs");
    assert!(error.to_string().contains("outputs of a step"), "{error}");
}
