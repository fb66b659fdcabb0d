//! Every loss and its gradient against NeuralForecast's, at every SIMD level.

use crate::support;
use nd_core::{Batch, BatchLayout, SimdLevel};
use nd_models::loss::LossConfig;
use nd_simd::SimdReal;
use nd_testing::{Golden, assert_close};
use serde_json::{Map, Value};

/// Golden values are f64 sums of a few dozen terms.
const F64_TOLERANCE: f64 = 1e-12;
/// The same in f32; NeuralForecast's Tukey loss multiplies errors by a hundred first.
const F32_TOLERANCE: f64 = 1e-5;

fn agree<R: SimdReal>(tolerance: f64) {
    let golden = Golden::read(support::folder().join("losses.safetensors"));
    let cases: Map<String, Value> =
        serde_json::from_str(golden.metadata("cases")).expect("cases are JSON");
    assert!(cases.len() > 80, "{} cases", cases.len());
    for (case, about) in &cases {
        let name = about["loss"].as_str().expect("a name");
        let args = about["args"].as_object().expect("arguments");
        let tensor = |part: &str| format!("{case}.{part}");
        let shape = golden.shape(&tensor("y")).to_vec();
        let (rows, horizon) = (shape[0], shape[1]);
        let weights = tensor("horizon_weight");
        let horizon_weight = if golden.has(&weights) {
            golden.values(&weights).to_vec()
        } else {
            Vec::new()
        };
        let kind = support::loss_kind(name, args);
        let loss = LossConfig {
            kind,
            horizon_weight,
        }
        .build::<R>(horizon)
        .expect("a loss");
        let input = tensor("y_insample");
        let input_size = if golden.has(&input) {
            golden.shape(&input)[1]
        } else {
            1
        };
        let mut batch = Batch::<R>::new(BatchLayout::univariate(input_size, horizon));
        batch.resize(rows);
        if golden.has(&input) {
            batch.insample_y = golden.rounded(&input);
        }
        batch.outsample_y = golden.rounded(&tensor("y"));
        batch.outsample_mask = golden.rounded(&tensor("mask"));
        let raw: Vec<R> = golden.rounded(&tensor("y_hat"));
        assert_eq!(
            raw.len(),
            rows * horizon * loss.outputs_per_step(),
            "{case}"
        );
        // NeuralForecast's MASE multiplies the errors of every window with the inverse scales of *all* windows of the batch (a
        // broadcast of [B, 1, 1, 1] with [B, h, 1]). Ours takes each window's own; so theirs is the sum of ours over the
        // windows moved round by 0, 1, ... places.
        let turns = if name == "MASE" { rows } else { 1 };
        for level in SimdLevel::supported() {
            let what = format!("{case} at {level}");
            let (mut value, mut gradient) = (0.0, vec![0.0; raw.len()]);
            for turn in 0..turns {
                let mut turned = batch.clone();
                turned.insample_y.rotate_left(turn * input_size);
                let batch = turned.all();
                let weight = loss.total_weight(&batch);
                let scale = if weight == 0.0 { 0.0 } else { 1.0 / weight };
                let mut draw = vec![R::from_f64(f64::NAN); raw.len()];
                let sum = loss.backward(level, &raw, &batch, R::from_f64(scale), &mut draw);
                assert_eq!(sum, loss.forward(level, &raw, &batch), "{what}");
                let found = loss.finish(sum, weight);
                value += found.value;
                for (slot, draw) in gradient.iter_mut().zip(&draw) {
                    *slot += draw.to_f64() * found.gradient_factor;
                }
            }
            let wanted = golden.values(&tensor("loss"));
            assert_close(&what, &[value], wanted, 1e-15, tolerance);
            let wanted = golden.values(&tensor("grad"));
            let size = wanted.iter().fold(0.0f64, |m, g| m.max(g.abs()));
            assert_close(&what, &gradient, wanted, tolerance * size, tolerance);
        }
    }
}

#[test]
fn losses_in_f64() {
    agree::<f64>(F64_TOLERANCE);
}

#[test]
fn losses_in_f32() {
    agree::<f32>(F32_TOLERANCE);
}
