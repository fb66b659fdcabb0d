//! An LSTM whose sequences, gates and cells are kept in sixteen bits.
//!
//! Each step is computed in f32 in memory that stays in the second cache level, from the rounded input, the rounded state and rounded
//! weights; the cell goes from step to step in f32. What leaves the step (state, gates, cell) is rounded block by block
//! while it is in the first cache level. The backward pass widens the same blocks; the gradients of the gates are rounded where
//! they are kept, so the products that make gradients of weights and inputs read sixteen bits on both sides. These products are functions of
//! their own, so that the memory of the cells is free for the gradient of the input.

use nd_core::autograd::{Stored, StoredRef};
use nd_core::{Buffer, MemoryPool, Precision};

use super::lstm::{CellGradients, Cells, ROW_BLOCK, advance, retreat};
use super::{GradTarget, Sequence};
use crate::autocast::{
    self, Format, InputGradient, Place, add_rounded_product, column_sums_of, rounded_product,
};
use crate::dispatch::SimdLevel;
use crate::matmul::{Epilogue, MatMut, MatRef, Prepared, multiply_half, multiply_half_parallel};
use crate::tree::for_each_block;

/// Where, how and on what a layer runs; it starts from a state of zeros.
#[derive(Clone, Copy)]
pub(crate) struct HalfLayer<'a> {
    pub(crate) level: SimdLevel,
    pub(crate) parallel: bool,
    pub(crate) pool: &'a MemoryPool,
    pub(crate) precision: Precision,
    pub(crate) sequence: Sequence,
}

/// States that a step has room for in f32: what the backward pass needs, and the forward pass asks for the same memory.
const ROOM: usize = 9;

/// Some rows of a step on their way out.
struct Out<'a, H> {
    wide: Cells<'a, f32>,
    gates: &'a mut [H],
    cells: &'a mut [H],
    y: &'a mut [H],
}

impl<H: Format> Out<'_, H> {
    fn split(self, rows: usize) -> (Self, Self) {
        let hidden = self.wide.hidden;
        let (wide, wide_right) = self.wide.split(rows);
        let (gates, gates_right) = self.gates.split_at_mut(rows * 4 * hidden);
        let (cells, cells_right) = self.cells.split_at_mut(rows * hidden);
        let (y, y_right) = self.y.split_at_mut(rows * hidden);
        (
            Self {
                wide,
                gates,
                cells,
                y,
            },
            Self {
                wide: wide_right,
                gates: gates_right,
                cells: cells_right,
                y: y_right,
            },
        )
    }

    /// Computes the rows and rounds them, a block at a time.
    fn run(self, level: SimdLevel) {
        let rows = self.y.len() / self.wide.hidden.max(1);
        let mut rest = self;
        let mut left = rows;
        while left > 0 {
            let count = left.min(ROW_BLOCK);
            let (here, after) = rest.split(count);
            let Cells {
                gates,
                c,
                c_next,
                h,
                hidden,
            } = here.wide;
            advance(
                level,
                Cells {
                    gates: &mut *gates,
                    c,
                    c_next: &mut *c_next,
                    h: &mut *h,
                    hidden,
                },
            );
            H::narrow_all(level, gates, here.gates);
            H::narrow_all(level, c_next, here.cells);
            H::narrow_all(level, h, here.y);
            rest = after;
            left -= count;
        }
    }
}

/// `x [T, B, I]` to `y [T, B, H]`, keeping gates `[T, B, 4 H]` (after their activations) and cells `[T, B, H]`.
pub(crate) fn lstm_forward_half<H: Format>(
    layer: HalfLayer<'_>,
    w_ih: Prepared<'_>,
    w_hh: Prepared<'_>,
    bias: Option<&[f32]>,
    x: StoredRef<'_, f32>,
    gates: &mut [H],
    cells: &mut [H],
    y: &mut [H],
) {
    let HalfLayer {
        level,
        parallel,
        pool,
        sequence,
        ..
    } = layer;
    let Sequence {
        steps,
        rows,
        input,
        hidden,
    } = sequence;
    sequence.check("the gates", gates.len(), &[steps, rows, 4 * hidden]);
    let state = rows * hidden;
    if state == 0 {
        return;
    }
    let mut room: Buffer<f32> = pool.take(ROOM * state);
    let (wide, room) = room.split_at_mut(4 * state);
    let (mut c, room) = room.split_at_mut(state);
    let (mut c_next, room) = room.split_at_mut(state);
    let (h, _) = room.split_at_mut(state);
    let with_bias = Epilogue {
        bias,
        ..Epilogue::default()
    };
    for t in 0..steps {
        let into = MatMut::row_major(wide, rows, 4 * hidden);
        let part = t * rows * input..(t + 1) * rows * input;
        match (H::of(x), x) {
            (Some(x), _) => {
                let x = MatRef::row_major(&x[part], rows, input);
                w_ih.multiply(level, parallel, x, 0.0, into, with_bias);
            }
            (None, StoredRef::Full(x)) => {
                let x = MatRef::row_major(&x[part], rows, input);
                w_ih.multiply(level, parallel, x, 0.0, into, with_bias);
            }
            _ => unreachable!("a run has one format"),
        }
        let (before, after) = y.split_at_mut(t * state);
        if t > 0 {
            let h = MatRef::row_major(&before[(t - 1) * state..], rows, hidden);
            let into = MatMut::row_major(wide, rows, 4 * hidden);
            w_hh.multiply(level, parallel, h, 1.0, into, Epilogue::default());
        }
        let piece = Out {
            wide: Cells {
                gates: wide,
                c: (t > 0).then_some(&*c),
                c_next,
                h: &mut *h,
                hidden,
            },
            gates: &mut gates[t * 4 * state..][..4 * state],
            cells: &mut cells[t * state..][..state],
            y: &mut after[..state],
        };
        for_each_block(
            piece,
            rows,
            ROW_BLOCK,
            parallel,
            &Out::split,
            &|piece: Out<'_, H>| piece.run(level),
        );
        std::mem::swap(&mut c, &mut c_next);
    }
}

/// Some rows of a step, backward.
struct Back<'a, H> {
    /// Room for the widened gates, cells and cells before.
    wide: &'a mut [f32],
    c: &'a mut [f32],
    before: &'a mut [f32],
    gates: &'a mut [H],
    cells: &'a [H],
    cells_before: Option<&'a [H]>,
    dy: &'a [f32],
    dh: Option<&'a [f32]>,
    dc: &'a mut [f32],
    hidden: usize,
}

impl<H: Format> Back<'_, H> {
    fn split(self, rows: usize) -> (Self, Self) {
        let hidden = self.hidden;
        let at = rows * hidden;
        let (wide, wide_right) = self.wide.split_at_mut(4 * at);
        let (c, c_right) = self.c.split_at_mut(at);
        let (before, before_right) = self.before.split_at_mut(at);
        let (gates, gates_right) = self.gates.split_at_mut(4 * at);
        let (cells, cells_right) = self.cells.split_at(at);
        let (cells_before, cells_before_right) = self.cells_before.map(|c| c.split_at(at)).unzip();
        let (dy, dy_right) = self.dy.split_at(at);
        let (dh, dh_right) = self.dh.map(|dh| dh.split_at(at)).unzip();
        let (dc, dc_right) = self.dc.split_at_mut(at);
        (
            Self {
                wide,
                c,
                before,
                gates,
                cells,
                cells_before,
                dy,
                dh,
                dc,
                hidden,
            },
            Self {
                wide: wide_right,
                c: c_right,
                before: before_right,
                gates: gates_right,
                cells: cells_right,
                cells_before: cells_before_right,
                dy: dy_right,
                dh: dh_right,
                dc: dc_right,
                hidden,
            },
        )
    }

    fn run(self, level: SimdLevel) {
        let mut left = self.dy.len() / self.hidden.max(1);
        let mut rest = self;
        while left > 0 {
            let count = left.min(ROW_BLOCK);
            let (here, after) = rest.split(count);
            H::widen_all(level, here.gates, here.wide);
            H::widen_all(level, here.cells, here.c);
            if let Some(before) = here.cells_before {
                H::widen_all(level, before, here.before);
            }
            retreat(
                level,
                CellGradients {
                    gates: &mut *here.wide,
                    c: here.c,
                    c_before: here.cells_before.map(|_| &*here.before),
                    dy: here.dy,
                    dh: here.dh,
                    dc: here.dc,
                    hidden: here.hidden,
                },
            );
            H::narrow_all(level, here.wide, here.gates);
            rest = after;
            left -= count;
        }
    }
}

/// From the last step to the first: turns the gates of [`lstm_forward_half`] into the gradients of their arguments, rounded.
///
/// `w_hh_t` is the transpose of the weight, `[4 H, H]`. Nobody reads the cells after it.
pub(crate) fn lstm_backward_half<H: Format>(
    layer: HalfLayer<'_>,
    w_hh_t: Prepared<'_>,
    gates: &mut [H],
    cells: &[H],
    dy: StoredRef<'_, f32>,
) {
    let HalfLayer {
        level,
        parallel,
        pool,
        sequence,
        ..
    } = layer;
    let Sequence {
        steps,
        rows,
        hidden,
        ..
    } = sequence;
    let state = rows * hidden;
    let mut room: Buffer<f32> = pool.take(ROOM * state);
    let (wide, rest) = room.split_at_mut(4 * state);
    let (c, rest) = rest.split_at_mut(state);
    let (before, rest) = rest.split_at_mut(state);
    let (dh, rest) = rest.split_at_mut(state);
    let (dc, dy_room) = rest.split_at_mut(state);
    dc.fill(0.0);
    for t in (0..steps).rev() {
        let dy = autocast::read(level, dy, t * state..(t + 1) * state, dy_room);
        let piece = Back {
            wide,
            c,
            before,
            gates: &mut gates[t * 4 * state..][..4 * state],
            cells: &cells[t * state..][..state],
            cells_before: (t > 0).then(|| &cells[(t - 1) * state..][..state]),
            dy,
            dh: (t + 1 < steps).then_some(&*dh),
            dc,
            hidden,
        };
        for_each_block(
            piece,
            rows,
            ROW_BLOCK,
            parallel,
            &Back::split,
            &|piece: Back<'_, H>| piece.run(level),
        );
        if t > 0 {
            let d = MatRef::row_major(&gates[t * 4 * state..][..4 * state], rows, 4 * hidden);
            let into = MatMut::row_major(dh, rows, hidden);
            w_hh_t.multiply(level, parallel, d, 0.0, into, Epilogue::default());
        }
    }
}

/// Where the gradients of the weights of [`lstm_forward_half`] go; `None` for those nobody wants.
pub(crate) struct WeightGradients<'a> {
    pub(crate) w_ih: Option<GradTarget<'a, f32>>,
    pub(crate) w_hh: Option<GradTarget<'a, f32>>,
    pub(crate) bias: Option<GradTarget<'a, f32>>,
}

/// The gradients of the weights, from what [`lstm_backward_half`] left in the gates.
pub(crate) fn lstm_weight_gradients<H: Format>(
    layer: HalfLayer<'_>,
    x: StoredRef<'_, f32>,
    gates: &[H],
    y: &[H],
    gradients: WeightGradients<'_>,
) {
    let HalfLayer {
        level,
        parallel,
        pool,
        precision,
        sequence,
    } = layer;
    let Sequence {
        steps,
        rows,
        input,
        hidden,
    } = sequence;
    let all = MatRef::row_major(gates, steps * rows, 4 * hidden);
    let end = Epilogue::default();
    if let Some(target) = gradients.w_hh {
        let beta = target.accumulate.beta();
        let dw = MatMut::row_major(target.values, hidden, 4 * hidden);
        let later = steps.saturating_sub(1) * rows;
        let left = MatRef::row_major(&y[..later * hidden], later, hidden).t();
        let right = all.row_block(steps.min(1) * rows, later);
        let run = if parallel {
            multiply_half_parallel
        } else {
            multiply_half
        };
        run(level, precision, 1.0, left, right, beta, dw, end);
    }
    if let Some(target) = gradients.w_ih {
        let beta = target.accumulate.beta();
        let dw = MatMut::row_major(target.values, input, 4 * hidden);
        match (H::of(x), x) {
            (Some(x), _) => {
                let x = MatRef::row_major(x, steps * rows, input).t();
                let run = if parallel {
                    multiply_half_parallel
                } else {
                    multiply_half
                };
                run(level, precision, 1.0, x, all, beta, dw, end);
            }
            (None, StoredRef::Full(x)) => {
                let x = MatRef::row_major(x, steps * rows, input).t();
                let run = if parallel {
                    multiply_half_parallel
                } else {
                    multiply_half
                };
                run(level, precision, 1.0, x, all, beta, dw, end);
            }
            _ => unreachable!("a run has one format"),
        }
    }
    if let Some(target) = gradients.bias {
        column_sums_of(
            level,
            parallel,
            pool,
            gates,
            target.values,
            target.accumulate,
        );
    }
}

/// The gradient of the input, from what [`lstm_backward_half`] left in the gates; it is returned when it is new and rounded.
///
/// `w_ih_t` is the transpose of the weight, `[4 H, I]`.
pub(crate) fn lstm_input_gradient<H: Format>(
    layer: HalfLayer<'_>,
    w_ih_t: Prepared<'_>,
    gates: &[H],
    dx: InputGradient<'_>,
) -> Option<Stored<f32>> {
    let HalfLayer {
        level,
        parallel,
        pool,
        sequence,
        ..
    } = layer;
    let Sequence {
        steps,
        rows,
        input,
        hidden,
    } = sequence;
    let place = Place {
        level,
        parallel,
        pool,
    };
    let sizes = [steps * rows, 4 * hidden, input];
    match dx {
        InputGradient::None => None,
        InputGradient::Into(dx) => {
            let beta = dx.accumulate.beta();
            let dx = MatMut::row_major(dx.values, steps * rows, input);
            let all = MatRef::row_major(gates, steps * rows, 4 * hidden);
            w_ih_t.multiply(level, parallel, all, beta, dx, Epilogue::default());
            None
        }
        InputGradient::Rounded => Some(rounded_product::<H>(place, gates, w_ih_t, sizes)),
        InputGradient::AddRounded(dx) => {
            add_rounded_product::<H>(place, gates, w_ih_t, sizes, dx);
            None
        }
    }
}
