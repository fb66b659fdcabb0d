//! Every op of this crate that is not a layer of weights, against finite differences.
//!
//! A new op is a new row of the table.

use nd_core::autograd::{Tape, Var};
use nd_simd::activations::Activation;
use nd_simd::norm::BatchNorm;
use nd_simd::ops::prelude::*;
use nd_testing::{GradInput, gradcheck};

type Function = for<'t> fn(&'t Tape<f64>, &[Var<'t, f64>]) -> Var<'t, f64>;

fn check(rows: &[(&str, &[GradInput], Function)]) {
    for (name, inputs, function) in rows {
        gradcheck(name, inputs, function);
        let params: Vec<GradInput> = inputs.iter().map(|input| input.clone().param()).collect();
        gradcheck(&format!("{name} of parameters"), &params, function);
    }
}

/// Numbers of both signs, away from the kinks at zero.
fn off_zero(seed: u64, shape: &[usize]) -> GradInput {
    let mut input = GradInput::normal(seed, shape);
    for x in &mut input.values {
        *x += 0.05f64.copysign(*x);
    }
    input
}

/// Numbers that can be divided by.
fn positive(seed: u64, shape: &[usize]) -> GradInput {
    let mut input = GradInput::normal(seed, shape);
    for x in &mut input.values {
        *x = x.abs() + 0.5;
    }
    input
}

#[test]
fn activations() {
    for activation in Activation::ALL {
        let input = off_zero(1, &[3, 19]);
        gradcheck(&format!("{activation:?}"), &[input], |_, v| {
            v[0].activation(activation)
        });
    }
    let x = || [off_zero(1, &[2, 17])];
    check(&[
        ("relu", &x(), |_, v| v[0].relu()),
        ("gelu", &x(), |_, v| v[0].gelu()),
        ("silu", &x(), |_, v| v[0].silu()),
        ("sigmoid", &x(), |_, v| v[0].sigmoid()),
        ("tanh", &x(), |_, v| v[0].tanh()),
        ("softplus", &x(), |_, v| v[0].softplus()),
    ]);
}

#[test]
fn arithmetic() {
    let two = || [GradInput::normal(2, &[3, 11]), positive(3, &[3, 11])];
    let one = || [GradInput::normal(4, &[21])];
    check(&[
        ("add", &two(), |_, v| v[0].add(v[1])),
        ("sub", &two(), |_, v| v[0].sub(v[1])),
        ("mul", &two(), |_, v| v[0].mul(v[1])),
        ("div", &two(), |_, v| v[0].div(v[1])),
        ("x + x", &one(), |_, v| v[0].add(v[0])),
        ("x - x", &one(), |_, v| v[0].sub(v[0])),
        ("x x", &one(), |_, v| v[0].mul(v[0])),
        ("affine", &one(), |_, v| v[0].affine(-1.5, 0.25)),
        ("shift", &one(), |_, v| v[0].affine(1.0, 0.25)),
        ("scale", &one(), |_, v| v[0].scale(3.0)),
        ("reshaped product", &two(), |_, v| {
            v[0].reshape([33]).mul(v[1].reshape([33]))
        }),
    ]);
}

#[test]
fn division_by_itself_takes_both_gradients() {
    gradcheck("x / x", &[positive(5, &[13])], |_, v| v[0].div(v[0]));
}

#[test]
fn biases_and_gains() {
    let inputs = || [GradInput::normal(6, &[4, 3, 5]), GradInput::normal(7, &[5])];
    let positions = || {
        [
            GradInput::normal(8, &[4, 3, 5]),
            GradInput::normal(9, &[3, 5]),
        ]
    };
    check(&[
        ("add_bias", &inputs(), |_, v| v[0].add_bias(v[1])),
        ("add_bias of positions", &positions(), |_, v| {
            v[0].add_bias(v[1])
        }),
        ("mul_gain", &inputs(), |_, v| v[0].mul_gain(v[1])),
        ("mul_gain of positions", &positions(), |_, v| {
            v[0].mul_gain(v[1])
        }),
    ]);
}

#[test]
fn softmax() {
    check(&[
        ("softmax", &[GradInput::normal(10, &[2, 3, 7])], |_, v| {
            v[0].softmax()
        }),
        (
            "softmax of a long row",
            &[GradInput::normal(11, &[2, 41])],
            |_, v| v[0].softmax(),
        ),
    ]);
}

#[test]
fn norms() {
    let three = || {
        [
            GradInput::normal(12, &[5, 2, 9]),
            GradInput::normal(13, &[9]),
            GradInput::normal(14, &[9]),
        ]
    };
    let two = || {
        [
            GradInput::normal(15, &[6, 21]),
            GradInput::normal(16, &[21]),
        ]
    };
    check(&[
        ("layer_norm", &three(), |_, v| {
            v[0].layer_norm(v[1], v[2], LAYER_NORM_EPS)
        }),
        ("rms_norm", &two(), |_, v| v[0].rms_norm(v[1], 1e-5)),
        ("batch_norm", &three(), |_, v| {
            v[0].batch_norm(v[1], v[2], None, BatchNorm::default())
        }),
    ]);
}

#[test]
fn dropout() {
    let two = || {
        [
            GradInput::normal(17, &[4, 2, 9]),
            GradInput::normal(18, &[4, 2, 9]),
        ]
    };
    check(&[
        ("dropout", &[GradInput::normal(19, &[5, 30])], |_, v| {
            v[0].dropout(0.3)
        }),
        ("add_dropout", &two(), |_, v| v[0].add_dropout(v[1], 0.5)),
        ("add_dropout without dropping", &two(), |_, v| {
            v[0].add_dropout(v[1], 0.0)
        }),
    ]);
}
