//! A loss of the user's, through the forecaster: fit, forecast, save, load, resume.

use std::path::PathBuf;
use std::sync::Arc;

use crate::common::panel;
use nd_core::{BatchView, Loss, Real, SimdLevel};
use nd_models::loss::{LossConfig, LossKind};
use nd_models::{FitHooks, Fitted, Forecaster, ModelError};

/// Half the squared error, and as a second output the absolute error, to have two columns.
struct Own {
    name: &'static str,
    names: Vec<String>,
}

impl Own {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            name: "Own",
            names: vec!["-mean".to_owned(), "-median".to_owned()],
        })
    }
}

impl<R: Real> Loss<R> for Own {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn outputs_per_step(&self) -> usize {
        2
    }

    fn output_names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn domain_map(&self, _: &mut [R], _: &BatchView<'_, R>) {}

    fn total_weight(&self, batch: &BatchView<'_, R>) -> f64 {
        batch.outsample_mask.iter().map(|m| m.to_f64()).sum()
    }

    fn forward(&self, simd: SimdLevel, raw: &[R], batch: &BatchView<'_, R>) -> f64 {
        let mut unused = vec![R::ZERO; raw.len()];
        self.backward(simd, raw, batch, R::ONE, &mut unused)
    }

    fn backward(
        &self,
        _: SimdLevel,
        raw: &[R],
        batch: &BatchView<'_, R>,
        gradient_scale: R,
        draw: &mut [R],
    ) -> f64 {
        let mut sum = 0.0;
        let targets = batch.outsample_y.iter().zip(batch.outsample_mask);
        for ((raw, draw), (&y, &mask)) in raw.chunks(2).zip(draw.chunks_mut(2)).zip(targets) {
            draw.fill(R::ZERO);
            if mask != R::ZERO {
                let [e, a] = [(raw[0] - y).to_f64(), (raw[1] - y).to_f64()];
                sum += mask.to_f64() * (0.5 * e * e + a.abs());
                draw[0] = gradient_scale * mask * R::from_f64(e);
                draw[1] = gradient_scale * mask * R::from_f64(a.signum());
            }
        }
        sum
    }
}

fn own() -> Forecaster {
    let mut forecaster = Forecaster::new("MLP", 24, 6).expect("a model");
    let train = &mut forecaster.config_mut().train;
    train.max_steps = 40;
    train.windows_batch_size = Some(64);
    forecaster.with_loss(Own::new()).expect("two names")
}

fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("nd-own-{name}-{}.safetensors", std::process::id()))
}

#[test]
fn it_trains_forecasts_saves_and_loads() {
    let panel = panel();
    let fitted = own().fit(&panel).expect("a fit");
    let losses = &fitted.history().expect("a history").losses;
    assert!(
        losses.last().expect("steps") < &(0.5 * losses[0]),
        "it learns: {losses:?}"
    );
    let forecast = fitted.predict(&panel).expect("a forecast");
    assert_eq!(forecast.columns, ["MLP-mean", "MLP-median"]);
    assert_eq!(forecast.series[0].values.len(), 12);

    let path = file("whole");
    fitted.save(&path).expect("a file");
    let loaded = Fitted::load_with_loss(&path, Own::new()).expect("the same loss");
    assert_eq!(loaded.predict(&panel).expect("a forecast"), forecast);

    let error = Fitted::load(&path).expect_err("a file has no code");
    assert!(
        matches!(&error, ModelError::LossNeeded { loss } if loss == "Own"),
        "{error}"
    );
    assert!(error.to_string().contains("load_with_loss"), "{error}");
    let other = Arc::new(Own {
        name: "Other",
        names: vec![String::new(); 2],
    });
    let error = Fitted::load_with_loss(&path, other).expect_err("another loss");
    assert!(matches!(error, ModelError::OtherLoss { .. }), "{error}");
    std::fs::remove_file(path).expect("the file is there");
}

#[test]
fn a_loss_of_this_library_is_not_replaced_by_another() {
    let panel = panel();
    let mut forecaster = own();
    forecaster.config_mut().loss = LossConfig::from(LossKind::Mse);
    forecaster.config_mut().train.max_steps = 1;
    let fitted = forecaster.fit(&panel).expect("a fit");
    assert_eq!(fitted.predict(&panel).expect("a forecast").columns, ["MLP"]);
    let path = file("mse");
    fitted.save(&path).expect("a file");
    let error = Fitted::load_with_loss(&path, Own::new()).expect_err("trained with another");
    assert!(error.to_string().contains("the loss MSE"), "{error}");
    std::fs::remove_file(path).expect("the file is there");
}

#[test]
fn a_run_with_it_is_resumed() {
    let panel = panel();
    let path = file("run");
    let whole = own().fit(&panel).expect("a fit");
    let mut first = own();
    first.config_mut().train.max_steps = 15;
    let hooks = FitHooks {
        checkpoint: Some((&path, 5)),
        ..FitHooks::default()
    };
    first.fit_with(&panel, hooks).expect("a fit");
    let hooks = FitHooks {
        resume: Some(&path),
        ..FitHooks::default()
    };
    let resumed = own().fit_with(&panel, hooks).expect("the rest");
    assert_eq!(resumed.params().flat(), whole.params().flat());
    std::fs::remove_file(path).expect("the file is there");
}

#[test]
fn a_configuration_that_names_it_waits_for_it() {
    let config = own().config().clone();
    let forecaster = Forecaster::from_config(config).expect("the loss may come later");
    let error = forecaster.fit(&panel()).expect_err("it did not");
    assert!(matches!(error, ModelError::LossNeeded { .. }), "{error}");
    let forecaster = forecaster.with_loss(Own::new()).expect("two names");
    assert_eq!(
        forecaster.parameter_count().expect("a network"),
        own().parameter_count().expect("a network")
    );
}

#[test]
fn a_loss_without_a_name_for_each_output_is_refused() {
    let own = Arc::new(Own {
        name: "Own",
        names: vec!["one".to_owned()],
    });
    let forecaster = Forecaster::new("MLP", 24, 6).expect("a model");
    let error = forecaster
        .with_loss(own)
        .expect_err("one name for two outputs");
    assert!(error.to_string().contains("output_names"), "{error}");
}
