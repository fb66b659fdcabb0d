//! Long short-term memory.
//!
//! ```text
//! i f g o = x W_ih + h W_hh + b;   i f o through sigmoid, g through tanh
//! c' = f c + i g;   h' = o tanh c'
//! ```
//! (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.)

use nd_core::autograd::Accumulate;

use super::{GradTarget, Products, Sequence, load_at, store_at};
use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate};
use crate::lanes::{Lanes, SimdReal};
use crate::math::{sigmoid, tanh};
use crate::matmul::{MatMut, MatRef};
use crate::tree::for_each_block;

/// Rows of a step that one thread takes.
pub(super) const ROW_BLOCK: usize = 16;

/// The weights of a layer.
#[derive(Clone, Copy, Debug)]
pub struct LstmWeights<'a, R> {
    /// `[I, 4 H]`
    pub w_ih: &'a [R],
    /// `[H, 4 H]`
    pub w_hh: &'a [R],
    /// `[4 H]`: the sum of PyTorch's two biases.
    pub bias: Option<&'a [R]>,
}

/// A state between two steps.
#[derive(Clone, Copy, Debug)]
pub struct LstmState<'a, R> {
    /// The output, `[B, H]`.
    pub h: &'a [R],
    /// The cell, `[B, H]`.
    pub c: &'a [R],
}

/// What the forward pass leaves for the backward pass, all time-major.
#[derive(Debug)]
pub struct LstmSaved<'a, R> {
    /// `[T, B, 4 H]`: the gates after their activations. The backward pass turns them into their gradients.
    pub gates: &'a mut [R],
    /// `[T, B, H]`: the cells.
    pub cells: &'a mut [R],
}

/// Where the gradients go; `None` for those nobody wants.
#[derive(Debug)]
pub struct LstmGradients<'a, R> {
    /// `[T, B, I]`
    pub x: Option<GradTarget<'a, R>>,
    /// `[I, 4 H]`
    pub w_ih: Option<GradTarget<'a, R>>,
    /// `[H, 4 H]`
    pub w_hh: Option<GradTarget<'a, R>>,
    /// `[4 H]`, the gradient of either bias.
    pub bias: Option<GradTarget<'a, R>>,
    /// `[B, H]`
    pub h0: Option<GradTarget<'a, R>>,
    /// `[B, H]`
    pub c0: Option<GradTarget<'a, R>>,
}

impl<R> Default for LstmGradients<'_, R> {
    fn default() -> Self {
        Self {
            x: None,
            w_ih: None,
            w_hh: None,
            bias: None,
            h0: None,
            c0: None,
        }
    }
}

#[track_caller]
fn check_weights<R>(sequence: Sequence, weights: &LstmWeights<'_, R>) {
    let Sequence { input, hidden, .. } = sequence;
    sequence.check("w_ih", weights.w_ih.len(), &[input, 4 * hidden]);
    sequence.check("w_hh", weights.w_hh.len(), &[hidden, 4 * hidden]);
    if let Some(bias) = weights.bias {
        sequence.check("the bias", bias.len(), &[4 * hidden]);
    }
}

#[track_caller]
fn check_state<R>(sequence: Sequence, state: Option<LstmState<'_, R>>) {
    if let Some(state) = state {
        sequence.check("h0", state.h.len(), &[sequence.rows, sequence.hidden]);
        sequence.check("c0", state.c.len(), &[sequence.rows, sequence.hidden]);
    }
}

/// Runs a layer over a sequence: `x [T, B, I]` to `y [T, B, H]`, from `state` or from zeros.
///
/// The final state is the last step of `y` and of `saved.cells`. With `parallel`, large products and the gates use the threads of the
/// current pool; the bits are the same.
///
/// # Panics
/// A slice does not have the size of its shape.
#[track_caller]
pub fn lstm_forward<R: SimdReal>(
    level: SimdLevel,
    sequence: Sequence,
    weights: &LstmWeights<'_, R>,
    x: &[R],
    state: Option<LstmState<'_, R>>,
    saved: LstmSaved<'_, R>,
    y: &mut [R],
    parallel: bool,
) {
    let products = Products::new(level, parallel);
    lstm_forward_with(products, sequence, weights, x, state, saved, y);
}

/// [`lstm_forward`] with products of its own.
#[track_caller]
pub(crate) fn lstm_forward_with<R: SimdReal>(
    products: Products,
    sequence: Sequence,
    weights: &LstmWeights<'_, R>,
    x: &[R],
    state: Option<LstmState<'_, R>>,
    saved: LstmSaved<'_, R>,
    y: &mut [R],
) {
    let Products {
        level, parallel, ..
    } = products;
    let Sequence {
        steps,
        rows,
        input,
        hidden,
    } = sequence;
    check_weights(sequence, weights);
    check_state(sequence, state);
    sequence.check("x", x.len(), &[steps, rows, input]);
    sequence.check("y", y.len(), &[steps, rows, hidden]);
    sequence.check("the gates", saved.gates.len(), &[steps, rows, 4 * hidden]);
    sequence.check("the cells", saved.cells.len(), &[steps, rows, hidden]);
    let w_ih = MatRef::row_major(weights.w_ih, input, 4 * hidden);
    let w_hh = MatRef::row_major(weights.w_hh, hidden, 4 * hidden);
    let (step_gates, step_state) = (rows * 4 * hidden, rows * hidden);
    if step_state == 0 {
        return;
    }
    for t in 0..steps {
        let gates = &mut saved.gates[t * step_gates..][..step_gates];
        let x = MatRef::row_major(&x[t * rows * input..][..rows * input], rows, input);
        let into = MatMut::row_major(gates, rows, 4 * hidden);
        products.multiply(x, w_ih, Accumulate::Write, into, weights.bias);

        let (y_before, y_after) = y.split_at_mut(t * step_state);
        let (c_before, c_after) = saved.cells.split_at_mut(t * step_state);
        let last = t.wrapping_sub(1).wrapping_mul(step_state);
        let (h, c) = match (t, state) {
            (0, None) => (None, None),
            (0, Some(state)) => (Some(state.h), Some(state.c)),
            _ => (Some(&y_before[last..]), Some(&c_before[last..])),
        };
        if let Some(h) = h {
            let h = MatRef::row_major(h, rows, hidden);
            let into = MatMut::row_major(gates, rows, 4 * hidden);
            products.multiply(h, w_hh, Accumulate::Add, into, None);
        }
        let piece = Cells {
            gates,
            c,
            c_next: &mut c_after[..step_state],
            h: &mut y_after[..step_state],
            hidden,
        };
        for_each_block(
            piece,
            rows,
            ROW_BLOCK,
            parallel,
            &Cells::split,
            &|piece: Cells<'_, R>| {
                advance(level, piece);
            },
        );
    }
}

/// Some rows of one step.
pub(super) struct Cells<'a, R> {
    pub(super) gates: &'a mut [R],
    pub(super) c: Option<&'a [R]>,
    pub(super) c_next: &'a mut [R],
    pub(super) h: &'a mut [R],
    pub(super) hidden: usize,
}

impl<R> Cells<'_, R> {
    pub(super) fn split(self, rows: usize) -> (Self, Self) {
        let hidden = self.hidden;
        let (gates, more_gates) = self.gates.split_at_mut(rows * 4 * hidden);
        let (c_next, more_c_next) = self.c_next.split_at_mut(rows * hidden);
        let (h, more_h) = self.h.split_at_mut(rows * hidden);
        let (c, more_c) = self.c.map(|c| c.split_at(rows * hidden)).unzip();
        (
            Self {
                gates,
                c,
                c_next,
                h,
                hidden,
            },
            Self {
                gates: more_gates,
                c: more_c,
                c_next: more_c_next,
                h: more_h,
                hidden,
            },
        )
    }
}

instantiate! {
    pub(super) fn advance<R>(level: SimdLevel, cells: Cells<'_, R>)
    {}
    then { dispatch(level, Advance(cells)); }
}

struct Advance<'a, R>(Cells<'a, R>);

impl<R: SimdReal> Kernel for Advance<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Cells {
            gates,
            c,
            c_next,
            h,
            hidden,
        } = self.0;
        for (row, gates) in gates.chunks_exact_mut(4 * hidden).enumerate() {
            let (i_gates, gates) = gates.split_at_mut(hidden);
            let (f_gates, gates) = gates.split_at_mut(hidden);
            let (g_gates, o_gates) = gates.split_at_mut(hidden);
            let state = row * hidden..(row + 1) * hidden;
            let (c_next, h) = (&mut c_next[state.clone()], &mut h[state.clone()]);
            let c = c.map(|c| &c[state.clone()]);
            for j in (0..hidden).step_by(Lanes::<S, R>::LEN) {
                let i = sigmoid(load_at(simd, i_gates, j));
                let f = sigmoid(load_at(simd, f_gates, j));
                let g = tanh(load_at(simd, g_gates, j));
                let o = sigmoid(load_at(simd, o_gates, j));
                let next = match c {
                    Some(c) => f.mul_add(load_at(simd, c, j), i * g),
                    None => i * g,
                };
                store_at(i, i_gates, j);
                store_at(f, f_gates, j);
                store_at(g, g_gates, j);
                store_at(o, o_gates, j);
                store_at(next, c_next, j);
                store_at(o * tanh(next), h, j);
            }
        }
    }
}

/// The gradients of [`lstm_forward`].
///
/// `dy [T, B, H]` is the gradient of the output, `dc_last [B, H]` that of the last cell; `w_hh_t [4 H, H]` is the transpose of `w_hh`;
/// `scratch` holds `2 B H` elements. `saved.gates` is used up.
///
/// # Panics
/// A slice does not have the size of its shape.
#[track_caller]
pub fn lstm_backward<R: SimdReal>(
    level: SimdLevel,
    sequence: Sequence,
    weights: &LstmWeights<'_, R>,
    w_hh_t: &[R],
    x: &[R],
    state: Option<LstmState<'_, R>>,
    saved: LstmSaved<'_, R>,
    y: &[R],
    dy: &[R],
    dc_last: Option<&[R]>,
    gradients: LstmGradients<'_, R>,
    scratch: &mut [R],
    parallel: bool,
) {
    let products = Products::new(level, parallel);
    lstm_backward_with(
        products, sequence, weights, w_hh_t, x, state, saved, y, dy, dc_last, gradients, scratch,
    );
}

/// [`lstm_backward`] with products of its own.
#[track_caller]
pub(crate) fn lstm_backward_with<R: SimdReal>(
    products: Products,
    sequence: Sequence,
    weights: &LstmWeights<'_, R>,
    w_hh_t: &[R],
    x: &[R],
    state: Option<LstmState<'_, R>>,
    saved: LstmSaved<'_, R>,
    y: &[R],
    dy: &[R],
    dc_last: Option<&[R]>,
    gradients: LstmGradients<'_, R>,
    scratch: &mut [R],
) {
    let Products {
        level, parallel, ..
    } = products;
    let Sequence {
        steps,
        rows,
        input,
        hidden,
    } = sequence;
    check_weights(sequence, weights);
    check_state(sequence, state);
    sequence.check("w_hh_t", w_hh_t.len(), &[4 * hidden, hidden]);
    sequence.check("x", x.len(), &[steps, rows, input]);
    sequence.check("y", y.len(), &[steps, rows, hidden]);
    sequence.check("dy", dy.len(), &[steps, rows, hidden]);
    sequence.check("the gates", saved.gates.len(), &[steps, rows, 4 * hidden]);
    sequence.check("the cells", saved.cells.len(), &[steps, rows, hidden]);
    sequence.check("the scratch", scratch.len(), &[2, rows, hidden]);
    let (step_gates, step_state) = (rows * 4 * hidden, rows * hidden);
    let w_hh_t = MatRef::row_major(w_hh_t, 4 * hidden, hidden);
    let (dh, dc) = scratch.split_at_mut(step_state);
    match dc_last {
        Some(last) => {
            sequence.check("dc_last", last.len(), &[rows, hidden]);
            dc.copy_from_slice(last);
        }
        None => dc.fill(R::ZERO),
    }
    if steps == 0 {
        dh.fill(R::ZERO);
    }
    let wants_h0 = gradients.h0.is_some();
    for t in (0..steps).rev() {
        let gates = &mut saved.gates[t * step_gates..][..step_gates];
        if step_state > 0 {
            let c_before = match t {
                0 => state.map(|state| state.c),
                _ => Some(&saved.cells[(t - 1) * step_state..][..step_state]),
            };
            let piece = CellGradients {
                gates,
                c: &saved.cells[t * step_state..][..step_state],
                c_before,
                dy: &dy[t * step_state..][..step_state],
                dh: (t + 1 < steps).then_some(&*dh),
                dc,
                hidden,
            };
            for_each_block(
                piece,
                rows,
                ROW_BLOCK,
                parallel,
                &CellGradients::split,
                &|piece: CellGradients<'_, R>| retreat(level, piece),
            );
        }
        if t > 0 || wants_h0 {
            let d = MatRef::row_major(gates, rows, 4 * hidden);
            products.multiply(
                d,
                w_hh_t,
                Accumulate::Write,
                MatMut::row_major(dh, rows, hidden),
                None,
            );
        }
    }

    let all = MatRef::row_major(saved.gates, steps * rows, 4 * hidden);
    if let Some(target) = gradients.w_hh {
        sequence.check("dw_hh", target.values.len(), &[hidden, 4 * hidden]);
        let start = state.map(|state| state.h);
        if steps > 0 {
            let dw = MatMut::row_major(target.values, hidden, 4 * hidden);
            products.state_weight_gradient(sequence, start, y, all, dw, target.accumulate);
        } else if target.accumulate == Accumulate::Write {
            target.values.fill(R::ZERO);
        }
    }
    if let Some(target) = gradients.w_ih {
        sequence.check("dw_ih", target.values.len(), &[input, 4 * hidden]);
        let dw = MatMut::row_major(target.values, input, 4 * hidden);
        let x = MatRef::row_major(x, steps * rows, input);
        products.multiply(x.t(), all, target.accumulate, dw, None);
    }
    if let Some(target) = gradients.x {
        sequence.check("dx", target.values.len(), &[steps, rows, input]);
        let w_ih = MatRef::row_major(weights.w_ih, input, 4 * hidden);
        let dx = MatMut::row_major(target.values, steps * rows, input);
        products.multiply(all, w_ih.t(), target.accumulate, dx, None);
    }
    if let Some(target) = gradients.bias {
        sequence.check("the bias gradient", target.values.len(), &[4 * hidden]);
        products.bias_gradient(saved.gates, target);
    }
    for (target, d) in [(gradients.h0, &*dh), (gradients.c0, &*dc)] {
        let Some(target) = target else { continue };
        sequence.check(
            "the gradient of a state",
            target.values.len(),
            &[rows, hidden],
        );
        for (slot, &value) in target.values.iter_mut().zip(d) {
            target.accumulate.store(slot, value);
        }
    }
}

/// Some rows of one step, backward.
pub(super) struct CellGradients<'a, R> {
    pub(super) gates: &'a mut [R],
    pub(super) c: &'a [R],
    pub(super) c_before: Option<&'a [R]>,
    pub(super) dy: &'a [R],
    /// What the later step brings; none at the last step.
    pub(super) dh: Option<&'a [R]>,
    pub(super) dc: &'a mut [R],
    pub(super) hidden: usize,
}

impl<R> CellGradients<'_, R> {
    fn split(self, rows: usize) -> (Self, Self) {
        let hidden = self.hidden;
        let (gates, more_gates) = self.gates.split_at_mut(rows * 4 * hidden);
        let at = rows * hidden;
        let (c, more_c) = self.c.split_at(at);
        let (c_before, more_before) = self.c_before.map(|c| c.split_at(at)).unzip();
        let (dy, more_dy) = self.dy.split_at(at);
        let (dh, more_dh) = self.dh.map(|dh| dh.split_at(at)).unzip();
        let (dc, more_dc) = self.dc.split_at_mut(at);
        (
            Self {
                gates,
                c,
                c_before,
                dy,
                dh,
                dc,
                hidden,
            },
            Self {
                gates: more_gates,
                c: more_c,
                c_before: more_before,
                dy: more_dy,
                dh: more_dh,
                dc: more_dc,
                hidden,
            },
        )
    }
}

instantiate! {
    pub(super) fn retreat<R>(level: SimdLevel, cells: CellGradients<'_, R>)
    {}
    then { dispatch(level, Retreat(cells)); }
}

struct Retreat<'a, R>(CellGradients<'a, R>);

impl<R: SimdReal> Kernel for Retreat<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let CellGradients {
            gates,
            c,
            c_before,
            dy,
            dh,
            dc,
            hidden,
        } = self.0;
        let one = Lanes::<S, R>::splat(simd, R::ONE);
        for (row, gates) in gates.chunks_exact_mut(4 * hidden).enumerate() {
            let (i_gates, gates) = gates.split_at_mut(hidden);
            let (f_gates, gates) = gates.split_at_mut(hidden);
            let (g_gates, o_gates) = gates.split_at_mut(hidden);
            let state = row * hidden..(row + 1) * hidden;
            let (c, dy, dc) = (
                &c[state.clone()],
                &dy[state.clone()],
                &mut dc[state.clone()],
            );
            let c_before = c_before.map(|c| &c[state.clone()]);
            let dh = dh.map(|dh| &dh[state.clone()]);
            for j in (0..hidden).step_by(Lanes::<S, R>::LEN) {
                let i = load_at(simd, i_gates, j);
                let f = load_at(simd, f_gates, j);
                let g = load_at(simd, g_gates, j);
                let o = load_at(simd, o_gates, j);
                let mut d_h = load_at(simd, dy, j);
                if let Some(dh) = dh {
                    d_h += load_at(simd, dh, j);
                }
                let tanh_c = tanh(load_at(simd, c, j));
                // The chain through h = o tanh c.
                let d_tanh = d_h * o;
                let d_c = d_tanh.mul_add(one - tanh_c * tanh_c, load_at(simd, dc, j));
                let before = match c_before {
                    Some(c) => load_at(simd, c, j),
                    None => Lanes::zero(simd),
                };
                store_at(d_c * g * i * (one - i), i_gates, j);
                store_at(d_c * before * f * (one - f), f_gates, j);
                store_at(d_c * i * (one - g * g), g_gates, j);
                store_at(d_h * tanh_c * o * (one - o), o_gates, j);
                store_at(d_c * f, dc, j);
            }
        }
    }
}
