//! Recurrent layers over a whole sequence, at the sizes of the default models. The operations counted are those of the matrix
//! products, `2 T B (I + H) G H` forward with G gates and twice as many backward.

use nd_core::Buffer;
use nd_core::autograd::Accumulate;
use nd_simd::permute::transpose;
use nd_simd::recurrent::{
    GradTarget, GruGradients, GruSaved, GruWeights, LstmGradients, LstmSaved, LstmWeights,
    Sequence, gru_backward, gru_forward, lstm_backward, lstm_forward,
};

use super::{Case, Run, Work, numbers, zeros};

/// Time steps, rows of the batch, width of the state.
const SHAPES: [(usize, usize, usize); 3] = [(96, 128, 128), (96, 16, 128), (24, 4, 64)];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (steps, rows, hidden) in SHAPES {
        let flops = |gates: usize| (2 * steps * rows * 2 * hidden * gates * hidden) as f64;
        let shape = format!("T {steps}, B {rows}, H {hidden}");
        let sequence = Sequence {
            steps,
            rows,
            input: hidden,
            hidden,
        };
        cases.push(Case::new(
            format!("LSTM {shape}"),
            Work::Flops(flops(4)),
            move || lstm(sequence, false),
        ));
        // The gates are computed again each time: a backward pass uses them up.
        cases.push(Case::new(
            format!("LSTM forward and backward {shape}"),
            Work::Flops(3.0 * flops(4)),
            move || lstm(sequence, true),
        ));
        cases.push(Case::new(
            format!("GRU {shape}"),
            Work::Flops(flops(3)),
            move || gru(sequence, false),
        ));
        cases.push(Case::new(
            format!("GRU forward and backward {shape}"),
            Work::Flops(3.0 * flops(3)),
            move || gru(sequence, true),
        ));
    }
    cases
}

/// Numbers small enough for gates that are not saturated.
fn small(len: usize) -> Buffer<f32> {
    let mut x = numbers(len);
    x.iter_mut().for_each(|x| *x *= 0.03);
    x
}

fn target(values: &mut [f32]) -> Option<GradTarget<'_, f32>> {
    Some(GradTarget {
        values,
        accumulate: Accumulate::Write,
    })
}

/// Weights as the kernels want them: to the gates from the input and from the state, and the latter's transpose.
fn weights(hidden: usize, gates: usize) -> [Buffer<f32>; 3] {
    let (w_ih, w_hh) = (
        small(hidden * gates * hidden),
        small(hidden * gates * hidden),
    );
    let mut turned = w_hh.clone();
    let level = nd_core::SimdLevel::Scalar;
    transpose(level, &w_hh[..], hidden, gates * hidden, &mut turned);
    [w_ih, w_hh, turned]
}

fn lstm(sequence: Sequence, backward: bool) -> Run {
    let Sequence {
        steps,
        rows,
        hidden,
        ..
    } = sequence;
    let state = steps * rows * hidden;
    let (x, dy, bias) = (small(state), small(state), small(4 * hidden));
    let [w_ih, w_hh, turned] = weights(hidden, 4);
    let (mut y, mut gates, mut cells) = (zeros(state), zeros(4 * state), zeros(state));
    let (mut dx, mut dw_ih, mut dw_hh) = (zeros(state), w_ih.clone(), w_hh.clone());
    let (mut db, mut scratch) = (bias.clone(), zeros(2 * rows * hidden));
    Run::of(move |level| {
        let weights = LstmWeights {
            w_ih: &w_ih[..],
            w_hh: &w_hh,
            bias: Some(&bias),
        };
        let saved = LstmSaved {
            gates: &mut gates[..],
            cells: &mut cells,
        };
        lstm_forward(level, sequence, &weights, &x, None, saved, &mut y, false);
        if backward {
            let saved = LstmSaved {
                gates: &mut gates[..],
                cells: &mut cells,
            };
            let gradients = LstmGradients {
                x: target(&mut dx),
                w_ih: target(&mut dw_ih),
                w_hh: target(&mut dw_hh),
                bias: target(&mut db),
                ..LstmGradients::default()
            };
            lstm_backward(
                level,
                sequence,
                &weights,
                &turned,
                &x,
                None,
                saved,
                &y,
                &dy,
                None,
                gradients,
                &mut scratch,
                false,
            );
        }
    })
}

fn gru(sequence: Sequence, backward: bool) -> Run {
    let Sequence {
        steps,
        rows,
        hidden,
        ..
    } = sequence;
    let state = steps * rows * hidden;
    let (x, dy, bias) = (small(state), small(state), small(4 * hidden));
    let [w_ih, w_hh, turned] = weights(hidden, 3);
    let (mut y, mut blocks) = (zeros(state), zeros(4 * state));
    let (mut dx, mut dw_ih, mut dw_hh) = (zeros(state), w_ih.clone(), w_hh.clone());
    let (mut db, mut scratch) = (bias.clone(), zeros(rows * hidden));
    Run::of(move |level| {
        let weights = GruWeights {
            w_ih: &w_ih[..],
            w_hh: &w_hh,
            bias: Some(&bias),
        };
        let saved = GruSaved {
            blocks: &mut blocks[..],
        };
        gru_forward(level, sequence, &weights, &x, None, saved, &mut y, false);
        if backward {
            let gradients = GruGradients {
                x: target(&mut dx),
                w_ih: target(&mut dw_ih),
                w_hh: target(&mut dw_hh),
                bias: target(&mut db),
                ..GruGradients::default()
            };
            let saved = GruSaved {
                blocks: &mut blocks[..],
            };
            gru_backward(
                level,
                sequence,
                &weights,
                &turned,
                &x,
                None,
                saved,
                &y,
                &dy,
                gradients,
                &mut scratch,
                false,
            );
        }
    })
}
