//! Gated recurrent unit.
//!
//! ```text
//! r = sigmoid(x W_ir + h W_hr + b_r);   z = sigmoid(x W_iz + h W_hz + b_z)
//! n = tanh(x W_in + b_in + r (h W_hn + b_hn));   h' = (1 - z) n + z h
//! ```
//! (Cho et al. 2014, in the form of PyTorch, where the reset gate multiplies the product with the weights.) Because of the
//! reset gate the two halves of `n` are kept apart: a step has four blocks, `r z n m` with `m = h W_hn + b_hn`.

use nd_core::autograd::Accumulate;

use super::{GradTarget, Products, Sequence, load_at, store_at};
use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate};
use crate::lanes::{Lanes, SimdReal};
use crate::math::{sigmoid, tanh};
use crate::matmul::{MatMut, MatRef};
use crate::tree::for_each_block;

/// Rows of a step that one thread takes.
const ROW_BLOCK: usize = 16;

/// The weights of a layer; gates in the order `r z n`.
#[derive(Clone, Copy, Debug)]
pub struct GruWeights<'a, R> {
    /// `[I, 3 H]`
    pub w_ih: &'a [R],
    /// `[H, 3 H]`
    pub w_hh: &'a [R],
    /// `[4 H]`, in the order of the blocks: `r` and `z` the sums of PyTorch's two biases, then `b_in`, then `b_hn`.
    pub bias: Option<&'a [R]>,
}

/// What the forward pass leaves for the backward pass.
#[derive(Debug)]
pub struct GruSaved<'a, R> {
    /// `[T, B, 4 H]`: `r z n m`. The backward pass turns them into their gradients.
    pub blocks: &'a mut [R],
}

/// Where the gradients go; `None` for those nobody wants.
#[derive(Debug)]
pub struct GruGradients<'a, R> {
    /// `[T, B, I]`
    pub x: Option<GradTarget<'a, R>>,
    /// `[I, 3 H]`
    pub w_ih: Option<GradTarget<'a, R>>,
    /// `[H, 3 H]`
    pub w_hh: Option<GradTarget<'a, R>>,
    /// `[4 H]`, as [`GruWeights::bias`].
    pub bias: Option<GradTarget<'a, R>>,
    /// `[B, H]`
    pub h0: Option<GradTarget<'a, R>>,
}

impl<R> Default for GruGradients<'_, R> {
    fn default() -> Self {
        Self {
            x: None,
            w_ih: None,
            w_hh: None,
            bias: None,
            h0: None,
        }
    }
}

#[track_caller]
fn check<R>(sequence: Sequence, weights: &GruWeights<'_, R>, h0: Option<&[R]>) {
    let Sequence {
        rows,
        input,
        hidden,
        ..
    } = sequence;
    sequence.check("w_ih", weights.w_ih.len(), &[input, 3 * hidden]);
    sequence.check("w_hh", weights.w_hh.len(), &[hidden, 3 * hidden]);
    if let Some(bias) = weights.bias {
        sequence.check("the bias", bias.len(), &[4 * hidden]);
    }
    if let Some(h0) = h0 {
        sequence.check("h0", h0.len(), &[rows, hidden]);
    }
}

/// Runs a layer over a sequence: `x [T, B, I]` to `y [T, B, H]`, from `h0` or from zeros.
///
/// With `parallel`, large products and the gates use the threads of the current pool; the bits are the same.
///
/// # Panics
/// A slice does not have the size of its shape.
#[track_caller]
pub fn gru_forward<R: SimdReal>(
    level: SimdLevel,
    sequence: Sequence,
    weights: &GruWeights<'_, R>,
    x: &[R],
    h0: Option<&[R]>,
    saved: GruSaved<'_, R>,
    y: &mut [R],
    parallel: bool,
) {
    let products = Products::new(level, parallel);
    gru_forward_with(products, sequence, weights, x, h0, saved, y);
}

/// [`gru_forward`] with products of its own.
#[track_caller]
pub(crate) fn gru_forward_with<R: SimdReal>(
    products: Products,
    sequence: Sequence,
    weights: &GruWeights<'_, R>,
    x: &[R],
    h0: Option<&[R]>,
    saved: GruSaved<'_, R>,
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
    check(sequence, weights, h0);
    sequence.check("x", x.len(), &[steps, rows, input]);
    sequence.check("y", y.len(), &[steps, rows, hidden]);
    sequence.check("the blocks", saved.blocks.len(), &[steps, rows, 4 * hidden]);
    let w_ih = MatRef::row_major(weights.w_ih, input, 3 * hidden);
    let w_hh = MatRef::row_major(weights.w_hh, hidden, 3 * hidden);
    let (input_bias, state_bias) = weights.bias.map(|bias| bias.split_at(3 * hidden)).unzip();
    let step_state = rows * hidden;
    if step_state == 0 {
        return;
    }
    for t in 0..steps {
        let blocks = &mut saved.blocks[t * 4 * step_state..][..4 * step_state];
        let x = MatRef::row_major(&x[t * rows * input..][..rows * input], rows, input);
        let into = MatMut::row_major(blocks, rows, 4 * hidden).col_block(0, 3 * hidden);
        products.multiply(x, w_ih, Accumulate::Write, into, input_bias);

        let (before, after) = y.split_at_mut(t * step_state);
        let h = if t == 0 {
            h0
        } else {
            Some(&before[(t - 1) * step_state..])
        };
        let into = MatMut::row_major(blocks, rows, 4 * hidden);
        // Without a state the product is empty, which leaves the bias.
        let h_rows = MatRef::strided(
            h.unwrap_or(&[]),
            rows,
            if h.is_some() { hidden } else { 0 },
            hidden,
            1,
        );
        let w_rows = w_hh.row_block(0, h_rows.cols());
        products.multiply(
            h_rows,
            w_rows.col_block(2 * hidden, hidden),
            Accumulate::Write,
            into.col_block(3 * hidden, hidden),
            state_bias,
        );
        if h.is_some() {
            let into = MatMut::row_major(blocks, rows, 4 * hidden).col_block(0, 2 * hidden);
            products.multiply(
                h_rows,
                w_rows.col_block(0, 2 * hidden),
                Accumulate::Add,
                into,
                None,
            );
        }
        let piece = Units {
            blocks,
            h,
            h_next: &mut after[..step_state],
            hidden,
        };
        for_each_block(
            piece,
            rows,
            ROW_BLOCK,
            parallel,
            &Units::split,
            &|piece: Units<'_, R>| {
                advance(level, piece);
            },
        );
    }
}

/// Some rows of one step.
struct Units<'a, R> {
    blocks: &'a mut [R],
    h: Option<&'a [R]>,
    h_next: &'a mut [R],
    hidden: usize,
}

impl<R> Units<'_, R> {
    fn split(self, rows: usize) -> (Self, Self) {
        let hidden = self.hidden;
        let (blocks, more_blocks) = self.blocks.split_at_mut(rows * 4 * hidden);
        let (h, more_h) = self.h.map(|h| h.split_at(rows * hidden)).unzip();
        let (h_next, more_next) = self.h_next.split_at_mut(rows * hidden);
        (
            Self {
                blocks,
                h,
                h_next,
                hidden,
            },
            Self {
                blocks: more_blocks,
                h: more_h,
                h_next: more_next,
                hidden,
            },
        )
    }
}

instantiate! {
    fn advance<R>(level: SimdLevel, units: Units<'_, R>)
    {}
    then { dispatch(level, Advance(units)); }
}

struct Advance<'a, R>(Units<'a, R>);

impl<R: SimdReal> Kernel for Advance<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Units {
            blocks,
            h,
            h_next,
            hidden,
        } = self.0;
        for (row, blocks) in blocks.chunks_exact_mut(4 * hidden).enumerate() {
            let (r_block, blocks) = blocks.split_at_mut(hidden);
            let (z_block, blocks) = blocks.split_at_mut(hidden);
            let (n_block, m_block) = blocks.split_at_mut(hidden);
            let state = row * hidden..(row + 1) * hidden;
            let h_next = &mut h_next[state.clone()];
            let h = h.map(|h| &h[state.clone()]);
            for j in (0..hidden).step_by(Lanes::<S, R>::LEN) {
                let r = sigmoid(load_at(simd, r_block, j));
                let z = sigmoid(load_at(simd, z_block, j));
                let n = tanh(r.mul_add(load_at(simd, m_block, j), load_at(simd, n_block, j)));
                let before = match h {
                    Some(h) => load_at(simd, h, j),
                    None => Lanes::zero(simd),
                };
                store_at(r, r_block, j);
                store_at(z, z_block, j);
                store_at(n, n_block, j);
                store_at(z.mul_add(before - n, n), h_next, j);
            }
        }
    }
}

/// The gradients of [`gru_forward`].
///
/// `dy [T, B, H]` is the gradient of the output; `w_hh_t [3 H, H]` is the transpose of `w_hh`; `scratch` holds `B H` elements.
/// `saved.blocks` is used up.
///
/// # Panics
/// A slice does not have the size of its shape.
#[track_caller]
pub fn gru_backward<R: SimdReal>(
    level: SimdLevel,
    sequence: Sequence,
    weights: &GruWeights<'_, R>,
    w_hh_t: &[R],
    x: &[R],
    h0: Option<&[R]>,
    saved: GruSaved<'_, R>,
    y: &[R],
    dy: &[R],
    gradients: GruGradients<'_, R>,
    scratch: &mut [R],
    parallel: bool,
) {
    let products = Products::new(level, parallel);
    gru_backward_with(
        products, sequence, weights, w_hh_t, x, h0, saved, y, dy, gradients, scratch,
    );
}

/// [`gru_backward`] with products of its own.
#[track_caller]
pub(crate) fn gru_backward_with<R: SimdReal>(
    products: Products,
    sequence: Sequence,
    weights: &GruWeights<'_, R>,
    w_hh_t: &[R],
    x: &[R],
    h0: Option<&[R]>,
    saved: GruSaved<'_, R>,
    y: &[R],
    dy: &[R],
    gradients: GruGradients<'_, R>,
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
    check(sequence, weights, h0);
    sequence.check("w_hh_t", w_hh_t.len(), &[3 * hidden, hidden]);
    sequence.check("x", x.len(), &[steps, rows, input]);
    sequence.check("y", y.len(), &[steps, rows, hidden]);
    sequence.check("dy", dy.len(), &[steps, rows, hidden]);
    sequence.check("the blocks", saved.blocks.len(), &[steps, rows, 4 * hidden]);
    sequence.check("the scratch", scratch.len(), &[rows, hidden]);
    let w_hh_t = MatRef::row_major(w_hh_t, 3 * hidden, hidden);
    let step_state = rows * hidden;
    let dh = scratch;
    dh.fill(R::ZERO);
    for t in (0..steps).rev() {
        let blocks = &mut saved.blocks[t * 4 * step_state..][..4 * step_state];
        if step_state == 0 {
            break;
        }
        let piece = UnitGradients {
            blocks,
            h: if t == 0 {
                h0
            } else {
                Some(&y[(t - 1) * step_state..][..step_state])
            },
            dy: &dy[t * step_state..][..step_state],
            dh,
            hidden,
        };
        for_each_block(
            piece,
            rows,
            ROW_BLOCK,
            parallel,
            &UnitGradients::split,
            &|piece: UnitGradients<'_, R>| retreat(level, piece),
        );
        if t > 0 || gradients.h0.is_some() {
            let d = MatRef::row_major(blocks, rows, 4 * hidden);
            let (d_rz, d_m) = (d.col_block(0, 2 * hidden), d.col_block(3 * hidden, hidden));
            let into = MatMut::row_major(dh, rows, hidden);
            products.multiply(
                d_rz,
                w_hh_t.row_block(0, 2 * hidden),
                Accumulate::Add,
                into,
                None,
            );
            let into = MatMut::row_major(dh, rows, hidden);
            products.multiply(
                d_m,
                w_hh_t.row_block(2 * hidden, hidden),
                Accumulate::Add,
                into,
                None,
            );
        }
    }

    let all = MatRef::row_major(saved.blocks, steps * rows, 4 * hidden);
    let d_input = all.col_block(0, 3 * hidden);
    if let Some(target) = gradients.w_hh {
        sequence.check("dw_hh", target.values.len(), &[hidden, 3 * hidden]);
        if steps > 0 {
            for (from, to, width) in [(0, 0, 2 * hidden), (3 * hidden, 2 * hidden, hidden)] {
                let dw = MatMut::row_major(target.values, hidden, 3 * hidden);
                products.state_weight_gradient(
                    sequence,
                    h0,
                    y,
                    all.col_block(from, width),
                    dw.col_block(to, width),
                    target.accumulate,
                );
            }
        } else if target.accumulate == Accumulate::Write {
            target.values.fill(R::ZERO);
        }
    }
    if let Some(target) = gradients.w_ih {
        sequence.check("dw_ih", target.values.len(), &[input, 3 * hidden]);
        let dw = MatMut::row_major(target.values, input, 3 * hidden);
        let x = MatRef::row_major(x, steps * rows, input);
        products.multiply(x.t(), d_input, target.accumulate, dw, None);
    }
    if let Some(target) = gradients.x {
        sequence.check("dx", target.values.len(), &[steps, rows, input]);
        let w_ih = MatRef::row_major(weights.w_ih, input, 3 * hidden);
        let dx = MatMut::row_major(target.values, steps * rows, input);
        products.multiply(d_input, w_ih.t(), target.accumulate, dx, None);
    }
    if let Some(target) = gradients.bias {
        sequence.check("the bias gradient", target.values.len(), &[4 * hidden]);
        products.bias_gradient(saved.blocks, target);
    }
    if let Some(target) = gradients.h0 {
        sequence.check("dh0", target.values.len(), &[rows, hidden]);
        for (slot, &value) in target.values.iter_mut().zip(&*dh) {
            target.accumulate.store(slot, value);
        }
    }
}

/// Some rows of one step, backward.
struct UnitGradients<'a, R> {
    blocks: &'a mut [R],
    h: Option<&'a [R]>,
    dy: &'a [R],
    /// In: what the later step brings. Out: the part of the earlier state's gradient that goes around the products.
    dh: &'a mut [R],
    hidden: usize,
}

impl<R> UnitGradients<'_, R> {
    fn split(self, rows: usize) -> (Self, Self) {
        let hidden = self.hidden;
        let (blocks, more_blocks) = self.blocks.split_at_mut(rows * 4 * hidden);
        let (h, more_h) = self.h.map(|h| h.split_at(rows * hidden)).unzip();
        let (dy, more_dy) = self.dy.split_at(rows * hidden);
        let (dh, more_dh) = self.dh.split_at_mut(rows * hidden);
        (
            Self {
                blocks,
                h,
                dy,
                dh,
                hidden,
            },
            Self {
                blocks: more_blocks,
                h: more_h,
                dy: more_dy,
                dh: more_dh,
                hidden,
            },
        )
    }
}

instantiate! {
    fn retreat<R>(level: SimdLevel, units: UnitGradients<'_, R>)
    {}
    then { dispatch(level, Retreat(units)); }
}

struct Retreat<'a, R>(UnitGradients<'a, R>);

impl<R: SimdReal> Kernel for Retreat<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let UnitGradients {
            blocks,
            h,
            dy,
            dh,
            hidden,
        } = self.0;
        let one = Lanes::<S, R>::splat(simd, R::ONE);
        for (row, blocks) in blocks.chunks_exact_mut(4 * hidden).enumerate() {
            let (r_block, blocks) = blocks.split_at_mut(hidden);
            let (z_block, blocks) = blocks.split_at_mut(hidden);
            let (n_block, m_block) = blocks.split_at_mut(hidden);
            let state = row * hidden..(row + 1) * hidden;
            let (dy, dh) = (&dy[state.clone()], &mut dh[state.clone()]);
            let h = h.map(|h| &h[state.clone()]);
            for j in (0..hidden).step_by(Lanes::<S, R>::LEN) {
                let r = load_at(simd, r_block, j);
                let z = load_at(simd, z_block, j);
                let n = load_at(simd, n_block, j);
                let m = load_at(simd, m_block, j);
                let before = match h {
                    Some(h) => load_at(simd, h, j),
                    None => Lanes::zero(simd),
                };
                let d_h = load_at(simd, dy, j) + load_at(simd, dh, j);
                let d_n = d_h * (one - z) * (one - n * n);
                let d_r = d_n * m;
                store_at(d_r * r * (one - r), r_block, j);
                store_at(d_h * (before - n) * z * (one - z), z_block, j);
                store_at(d_n, n_block, j);
                store_at(d_n * r, m_block, j);
                store_at(d_h * z, dh, j);
            }
        }
    }
}
