//! An LSTM from a state of zeros in a run in sixteen bits.

use std::cell::RefCell;

use nd_core::autograd::{Backward, Grad, NodeId, Op, Orientation, Stored, Var};
use nd_core::{Buffer, Precision, bf16, f16};

use super::recurrent::RecurrentWeights;
use crate::autocast::{self, Format, InputSlot};
use crate::elementwise::{accumulate, add_forward};
use crate::lanes::SimdReal;
use crate::recurrent::{
    GradTarget, HalfLayer, Sequence, WeightGradients, lstm_backward_half, lstm_forward_half,
    lstm_input_gradient, lstm_weight_gradients,
};

/// Runs and records the layer; shapes have been checked.
pub(super) fn lstm<'t, R: SimdReal>(
    x: Var<'t, R>,
    weights: &RecurrentWeights<'t, R>,
    sequence: Sequence,
) -> Var<'t, R> {
    match autocast::precision(x.tape()) {
        Precision::F16 => run::<f16, R>(x, weights, sequence),
        _ => run::<bf16, R>(x, weights, sequence),
    }
}

fn run<'t, H: Format, R: SimdReal>(
    x: Var<'t, R>,
    weights: &RecurrentWeights<'t, R>,
    sequence: Sequence,
) -> Var<'t, R> {
    let tape = x.tape();
    let level = tape.options().simd;
    let precision = autocast::precision(tape);
    let Sequence {
        steps,
        rows,
        input,
        hidden,
    } = sequence;
    let width = 4 * hidden;
    let bias = weights.biases.map(|(b_ih, b_hh)| {
        let mut bias = tape.scratch(width);
        add_forward(level, &b_ih.value(), &b_hh.value(), &mut bias);
        bias
    });
    let copy = |w: Var<'t, R>, inputs| {
        autocast::weight_copy(
            tape,
            precision,
            Orientation::AsStored,
            w.param_id(),
            w.stored(),
            [inputs, width],
        )
    };
    let (w_ih, w_hh) = (copy(weights.w_ih, input), copy(weights.w_hh, hidden));
    let state = rows * hidden;
    let mut y: Buffer<H> = tape.pool().take(steps * state);
    let mut gates: Buffer<H> = tape.pool().take(4 * steps * state);
    let mut cells: Buffer<H> = tape.pool().take(steps * state);
    lstm_forward_half(
        HalfLayer {
            level,
            parallel: tape.parallel(),
            pool: tape.pool(),
            precision,
            sequence,
        },
        w_ih.view(input, width),
        w_hh.view(hidden, width),
        bias.as_deref().and_then(autocast::as_f32),
        autocast::stored_f32(x.stored()),
        &mut gates,
        &mut cells,
        &mut y,
    );
    let mut inputs = [x; 5];
    let biases = weights.biases.map(|(b_ih, b_hh)| [b_ih, b_hh]);
    let all = [x, weights.w_ih, weights.w_hh].into_iter();
    let all = all.chain(biases.into_iter().flatten());
    let count = inputs
        .iter_mut()
        .zip(all)
        .map(|(slot, var)| *slot = var)
        .count();
    tape.record_stored([steps, rows, hidden], H::keep(y), &inputs[..count], || {
        HalfLstm {
            sequence,
            x: x.id(),
            w_ih: weights.w_ih.id(),
            w_hh: weights.w_hh.id(),
            biases: weights.biases.map(|(b_ih, b_hh)| [b_ih.id(), b_hh.id()]),
            gates: RefCell::new(H::keep(gates)),
            cells: RefCell::new(Some(H::keep(cells))),
        }
    })
}

struct HalfLstm {
    sequence: Sequence,
    x: NodeId,
    w_ih: NodeId,
    w_hh: NodeId,
    biases: Option<[NodeId; 2]>,
    /// The backward pass turns the gates into their gradients, in place.
    gates: RefCell<Stored<f32>>,
    /// It gives them back once their gradients are known: then the gradient of the input finds memory of their size.
    cells: RefCell<Option<Stored<f32>>>,
}

impl<R: SimdReal> Op<R> for HalfLstm {
    fn name(&self) -> &'static str {
        "lstm"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        match autocast::precision(step.tape()) {
            Precision::F16 => self.backward_in::<f16, R>(step),
            _ => self.backward_in::<bf16, R>(step),
        }
    }
}

impl HalfLstm {
    fn backward_in<H: Format, R: SimdReal>(&self, step: &Backward<'_, R>) {
        let (tape, level) = (step.tape(), step.options().simd);
        let precision = autocast::precision(tape);
        let Sequence { input, hidden, .. } = self.sequence;
        let width = 4 * hidden;
        let copy = |w: NodeId, inputs| {
            autocast::weight_copy(
                tape,
                precision,
                Orientation::Transposed,
                step.param_id(w),
                step.stored(w),
                [inputs, width],
            )
        };
        let layer = HalfLayer {
            level,
            parallel: step.parallel(),
            pool: step.pool(),
            precision,
            sequence: self.sequence,
        };
        let mut gates = self.gates.borrow_mut();
        let (Some(gates), Some(y)) = (H::of_mut(&mut gates), H::of(step.stored_y())) else {
            unreachable!("a run has one format");
        };
        {
            let cells = self.cells.take();
            let Some(cells) = cells.as_ref().and_then(|cells| H::of(cells.view())) else {
                unreachable!("a run has one format, and a backward pass runs once");
            };
            let w_hh_t = copy(self.w_hh, hidden);
            let dy = autocast::stored_f32(step.stored_dy());
            lstm_backward_half(layer, w_hh_t.view(width, hidden), gates, cells, dy);
        }
        let wants_bias = self
            .biases
            .is_some_and(|ids| ids.iter().any(|&id| step.wants(id)));
        let mut db = wants_bias.then(|| step.pool().take::<f32>(width));
        {
            let mut dw_ih = step.grad(self.w_ih);
            let mut dw_hh = step.grad(self.w_hh);
            let gradients = WeightGradients {
                w_ih: target(&mut dw_ih),
                w_hh: target(&mut dw_hh),
                bias: db.as_mut().map(|db| GradTarget {
                    values: &mut db[..],
                    accumulate: nd_core::autograd::Accumulate::Write,
                }),
            };
            let x = autocast::stored_f32(step.stored(self.x));
            lstm_weight_gradients(layer, x, gates, y, gradients);
        }
        if step.wants(self.x) {
            let mut dx = InputSlot::of(step, self.x);
            let w_ih_t = copy(self.w_ih, input);
            let given = lstm_input_gradient(layer, w_ih_t.view(width, input), gates, dx.gradient());
            if let Some(dx) = given {
                step.give(self.x, autocast::from_f32(dx));
            }
        }
        let (Some(ids), Some(db)) = (self.biases, db) else {
            return;
        };
        // One after the other: they may be the same parameter.
        for id in ids {
            let Some(mut grad) = step.grad(id) else {
                continue;
            };
            let how = grad.accumulate;
            if let Some(grad) = autocast::as_f32_mut(&mut grad[..]) {
                accumulate(level, &db, grad, how);
            }
        }
    }
}

/// A gradient of an f32 tape, where it is wanted.
fn target<'a, R: SimdReal>(grad: &'a mut Option<Grad<'_, R>>) -> Option<GradTarget<'a, f32>> {
    let grad = grad.as_mut()?;
    let accumulate = grad.accumulate;
    autocast::as_f32_mut(&mut grad[..]).map(|values| GradTarget { values, accumulate })
}
