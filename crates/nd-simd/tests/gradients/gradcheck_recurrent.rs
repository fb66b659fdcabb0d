//! Recurrent layers on the tape: gradients against finite differences, and states handed on.

use nd_core::autograd::{Tape, Var};
use nd_simd::ops::prelude::*;
use nd_simd::recurrent::RnnActivation;
use nd_testing::cases::normals;
use nd_testing::{GradInput, assert_close, gradcheck};

const STEPS: usize = 3;
const ROWS: usize = 2;
const INPUT: usize = 2;
const HIDDEN: usize = 3;

/// `x, w_ih, w_hh, b_ih, b_hh, h, c`
fn inputs(gates: usize, param: bool) -> Vec<GradInput> {
    let width = gates * HIDDEN;
    let weight = |input: GradInput| if param { input.param() } else { input };
    vec![
        GradInput::normal(1, &[STEPS, ROWS, INPUT]),
        weight(GradInput::normal(2, &[INPUT, width])),
        weight(GradInput::normal(3, &[HIDDEN, width])),
        weight(GradInput::normal(4, &[width])),
        weight(GradInput::normal(5, &[width])),
        GradInput::normal(6, &[ROWS, HIDDEN]),
        GradInput::normal(7, &[ROWS, HIDDEN]),
    ]
}

fn weights<'t>(v: &[Var<'t, f64>], with_bias: bool) -> RecurrentWeights<'t, f64> {
    RecurrentWeights {
        w_ih: v[1],
        w_hh: v[2],
        biases: with_bias.then(|| (v[3], v[4])),
    }
}

#[test]
fn lstm() {
    for param in [false, true] {
        let inputs = inputs(4, param);
        gradcheck("lstm", &inputs[..5], |_, v| v[0].lstm(&weights(v, true)));
        gradcheck("lstm without bias", &inputs[..3], |_, v| {
            v[0].lstm(&weights(v, false))
        });
        gradcheck("lstm from a state", &inputs, |_, v| {
            let out = v[0].lstm_from(&weights(v, true), (v[5], v[6]));
            let last = out.y.narrow(0, STEPS - 1..STEPS).reshape([ROWS, HIDDEN]);
            last.mul(out.c)
        });
        gradcheck("two layers", &inputs[..5], |_, v| {
            let layer = v[0].lstm(&weights(v, true)).narrow(2, 0..INPUT);
            layer.lstm(&weights(v, true))
        });
        gradcheck("one bias twice", &inputs[..4], |_, v| {
            v[0].lstm(&RecurrentWeights {
                w_ih: v[1],
                w_hh: v[2],
                biases: Some((v[3], v[3])),
            })
        });
    }
}

#[test]
fn gru() {
    for param in [false, true] {
        let inputs = inputs(3, param);
        gradcheck("gru", &inputs[..5], |_, v| {
            v[0].gru(&weights(v, true), None)
        });
        gradcheck("gru without bias", &inputs[..3], |_, v| {
            v[0].gru(&weights(v, false), None)
        });
        gradcheck("gru from a state", &inputs[..6], |_, v| {
            v[0].gru(&weights(v, true), Some(v[5]))
        });
    }
}

#[test]
fn rnn() {
    for activation in [RnnActivation::Tanh, RnnActivation::Relu] {
        let inputs = inputs(1, true);
        gradcheck("rnn", &inputs[..5], |_, v| {
            v[0].rnn(&weights(v, true), activation, None)
        });
        gradcheck("rnn from a state", &inputs[..6], |_, v| {
            v[0].rnn(&weights(v, true), activation, Some(v[5]))
        });
    }
}

/// A sequence in two parts, the state of the first handed to the second, is the whole sequence.
#[test]
fn a_state_carries_on() {
    let tape = Tape::<f64>::default();
    let v: Vec<_> = inputs(4, false)
        .iter()
        .map(|i| tape.input(&i.shape[..], &i.values))
        .collect();
    let weights = weights(&v, true);
    let zeros = || tape.input([ROWS, HIDDEN], &[0.0; ROWS * HIDDEN]);
    let whole = v[0].lstm(&weights);
    let first = v[0].narrow(0, 0..2).lstm_from(&weights, (zeros(), zeros()));
    let h = first.y.narrow(0, 1..2).reshape([ROWS, HIDDEN]);
    let second = v[0].narrow(0, 2..3).lstm_from(&weights, (h, first.c));
    let joined = concat(&[first.y, second.y], 0);
    assert_close("y", &joined.value(), &whole.value(), 1e-15, 1e-15);
}

#[test]
#[should_panic(expected = "w_ih of a recurrent layer of x [3, 2, 5]")]
fn a_weight_that_does_not_fit_is_named() {
    let tape = Tape::<f64>::default();
    let v: Vec<_> = inputs(4, false)
        .iter()
        .map(|i| tape.input(&i.shape[..], &i.values))
        .collect();
    let x = tape.input([3, 2, 5], &normals::<f64>(1, 30));
    let _ = x.lstm(&weights(&v, true));
}
