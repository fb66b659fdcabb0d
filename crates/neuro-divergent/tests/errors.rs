//! A `main` that returns an error prints it with `Debug`: the sentence that helps must stand there.

use neuro_divergent::amp::StepError;
use neuro_divergent::core::CoreError;
use neuro_divergent::models::checkpoint::{CheckpointError, Fault};
use neuro_divergent::prelude::*;

#[track_caller]
fn same<E: std::error::Error>(error: &E, part: &str) {
    let (debug, display) = (format!("{error:?}"), error.to_string());
    assert_eq!(debug, display);
    assert!(display.contains(part), "{display}");
}

#[test]
fn debug_of_every_error_is_its_display() {
    same(&"mmx".parse::<SimdLevel>().expect_err("no level"), "mmx");
    same(&CoreError::ZeroThreads, "at least one thread");
    let step = StepError::Gradient {
        step: 3,
        parameter: "w".to_owned(),
    };
    same(&step, "step 3");
    same(&ModelError::from(step), "step 3");
    let missing = read_csv::<f32>("no-such-file.csv", &CsvOptions::default());
    let missing = missing.expect_err("no file");
    same(&missing, "no-such-file.csv: cannot be read");
    same(
        &ModelError::from(missing),
        "no-such-file.csv: cannot be read",
    );
    let model = Forecaster::new("NHITZ", 24, 12).expect_err("no model");
    same(&model, "there is no model");
    same(&Fault::Foreign, "safetensors format");
    let path = std::path::Path::new("no-such-file.safetensors");
    let checkpoint = neuro_divergent::models::checkpoint::read(path).expect_err("no file");
    same::<CheckpointError>(&checkpoint, "no-such-file.safetensors");
    let boxed: Box<dyn std::error::Error> = Box::new(model);
    assert!(format!("Error: {boxed:?}").starts_with("Error: there is no model"));
}

#[test]
fn the_prelude_has_what_settings_are_made_of() {
    let mut forecaster = Forecaster::new("NLinear", 24, 12).expect("a model");
    let config: &mut ForecasterConfig = forecaster.config_mut();
    config.loss = LossConfig::from(LossKind::Mse);
    config.train = TrainConfig {
        max_steps: 3,
        ..TrainConfig::default()
    };
    let repair = Repair {
        duplicates: DuplicatePolicy::KeepLast,
        order: OrderPolicy::Sort,
        gaps: GapPolicy::Mask,
        missing: MissingPolicy::Mask,
        ..Repair::default()
    };
    let panel = PanelBuilder::new()
        .repair(repair)
        .series(Series::numbered("a", (0..60).map(|t| t as f32).collect()))
        .build()
        .expect("a panel");
    let mut seen = 0;
    let mut watch = |_: &Progress| {
        seen += 1;
        Control::Stop
    };
    let hooks = FitHooks {
        progress: Some(&mut watch),
        ..FitHooks::default()
    };
    forecaster.fit_with(&panel, hooks).expect("a fit");
    assert_eq!(seen, 1);
}
