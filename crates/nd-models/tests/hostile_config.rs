//! A small file that describes an enormous network costs no memory. One test: the counter sees the whole process.

use nd_core::autograd::{Init, Params, ParamsBuilder};
use nd_models::{Fitted, Forecaster, ModelError, checkpoint};
use nd_testing::alloc::{CountingAllocator, measure};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// What reading a file of some KB may take: its bytes, its texts, and the names of a thousand parameters.
const MOST_BYTES: usize = 4 << 20;

#[test]
fn a_file_that_describes_an_enormous_network_costs_no_memory() {
    let mut b = ParamsBuilder::new();
    b.trainable("linear.weight", [2, 3], Init::Uniform(0.5));
    let params = Params::<f32>::init(&b.build(), 1);
    let folder = std::env::temp_dir();
    let path = folder.join(format!("nd-hostile-{}.safetensors", std::process::id()));

    let valid = Forecaster::new("NLinear", 24, 12).expect("a model");
    let valid = serde_json::to_value(valid.config()).expect("plain data");
    let config = |model: &str, settings: &str, input_size: u64, horizon: u64, loss: &str| {
        let mut config = valid.clone();
        let model = format!(r#"{{"model":"{model}"{settings}}}"#);
        config["model"] = serde_json::from_str(&model).expect("a model");
        config["input_size"] = input_size.into();
        config["horizon"] = horizon.into();
        config["loss"] = serde_json::from_str(loss).expect("a loss");
        config.to_string()
    };
    let mae = r#"{"kind":{"name":"MAE"}}"#;
    let fredf = r#"{"kind":{"name":"FreDF"}}"#;
    for text in [
        config("NLinear", "", 1 << 20, 1 << 20, mae),
        config("NLinear", "", u64::MAX, 3, mae),
        config("NLinear", "", 1 << 20, 1 << 10, mae),
        config("LSTM", "", 4, 400_000_000, mae),
        config("LSTM", r#","encoder_hidden_size":20000"#, 24, 12, mae),
        config("MLP", r#","hidden_size":20000"#, 24, 12, mae),
        config("PatchTST", r#","linear_hidden_size":1000000"#, 24, 12, mae),
        config("NHITS", r#","mlp_units":[[20000,20000]]"#, 24, 12, mae),
        // Bases that are tabulated while the network is built.
        config("NBEATS", "", 4096, 2048, mae),
        config("NBEATS", r#","n_harmonics":100000"#, 240, 120, mae),
        config("NBEATS", r#","n_basis":1000"#, 10_000, 10, mae),
        // Waves that are tabulated with the loss.
        config("NLinear", "", 24, 4096, fredf),
        config("NLinear", "", 24, 1 << 20, fredf),
    ] {
        checkpoint::save(&path, &text, &params, None).expect("a file");
        let (result, used) = measure(|| Fitted::load(&path));
        let error = result.err().unwrap_or_else(|| panic!("{text} was loaded"));
        assert!(
            matches!(
                error,
                ModelError::BadConfiguration { .. } | ModelError::Checkpoint(_)
            ),
            "{text}: {error}"
        );
        assert!(error.to_string().contains("nd-hostile"), "{error}");
        assert!(
            used.peak_bytes <= MOST_BYTES,
            "{text}: {} bytes",
            used.peak_bytes
        );
    }
    std::fs::remove_file(&path).expect("the file is there");
}
