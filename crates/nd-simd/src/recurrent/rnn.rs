//! The plain recurrent network: `h' = act(x W_ih + h W_hh + b)` (Elman 1990), with tanh or ReLU.

use nd_core::autograd::Accumulate;

use super::{GradTarget, Products, Sequence};
use crate::activations::{Activation, activation_backward, activation_in_place};
use crate::dispatch::SimdLevel;
use crate::elementwise::accumulate;
use crate::lanes::SimdReal;
use crate::matmul::{MatMut, MatRef};

/// What follows the products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RnnActivation {
    /// `tanh`
    #[default]
    Tanh,
    /// `max(x, 0)`
    Relu,
}

impl From<RnnActivation> for Activation {
    fn from(activation: RnnActivation) -> Self {
        match activation {
            RnnActivation::Tanh => Self::Tanh,
            RnnActivation::Relu => Self::Relu,
        }
    }
}

/// The weights of a layer.
#[derive(Clone, Copy, Debug)]
pub struct RnnWeights<'a, R> {
    /// `[I, H]`
    pub w_ih: &'a [R],
    /// `[H, H]`
    pub w_hh: &'a [R],
    /// `[H]`: the sum of PyTorch's two biases.
    pub bias: Option<&'a [R]>,
    /// What follows the products.
    pub activation: RnnActivation,
}

/// Where the gradients go; `None` for those nobody wants.
#[derive(Debug)]
pub struct RnnGradients<'a, R> {
    /// `[T, B, I]`
    pub x: Option<GradTarget<'a, R>>,
    /// `[I, H]`
    pub w_ih: Option<GradTarget<'a, R>>,
    /// `[H, H]`
    pub w_hh: Option<GradTarget<'a, R>>,
    /// `[H]`, the gradient of either bias.
    pub bias: Option<GradTarget<'a, R>>,
    /// `[B, H]`
    pub h0: Option<GradTarget<'a, R>>,
}

impl<R> Default for RnnGradients<'_, R> {
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
fn check<R>(sequence: Sequence, weights: &RnnWeights<'_, R>, h0: Option<&[R]>) {
    let Sequence {
        rows,
        input,
        hidden,
        ..
    } = sequence;
    sequence.check("w_ih", weights.w_ih.len(), &[input, hidden]);
    sequence.check("w_hh", weights.w_hh.len(), &[hidden, hidden]);
    if let Some(bias) = weights.bias {
        sequence.check("the bias", bias.len(), &[hidden]);
    }
    if let Some(h0) = h0 {
        sequence.check("h0", h0.len(), &[rows, hidden]);
    }
}

/// Runs a layer over a sequence: `x [T, B, I]` to `y [T, B, H]`, from `h0` or from zeros.
///
/// # Panics
/// A slice does not have the size of its shape.
#[track_caller]
pub fn rnn_forward<R: SimdReal>(
    level: SimdLevel,
    sequence: Sequence,
    weights: &RnnWeights<'_, R>,
    x: &[R],
    h0: Option<&[R]>,
    y: &mut [R],
    parallel: bool,
) {
    let products = Products::new(level, parallel);
    rnn_forward_with(products, sequence, weights, x, h0, y);
}

/// [`rnn_forward`] with products of its own.
#[track_caller]
pub(crate) fn rnn_forward_with<R: SimdReal>(
    products: Products,
    sequence: Sequence,
    weights: &RnnWeights<'_, R>,
    x: &[R],
    h0: Option<&[R]>,
    y: &mut [R],
) {
    let level = products.level;
    let Sequence {
        steps,
        rows,
        input,
        hidden,
    } = sequence;
    check(sequence, weights, h0);
    sequence.check("x", x.len(), &[steps, rows, input]);
    sequence.check("y", y.len(), &[steps, rows, hidden]);
    let w_ih = MatRef::row_major(weights.w_ih, input, hidden);
    let w_hh = MatRef::row_major(weights.w_hh, hidden, hidden);
    let step_state = rows * hidden;
    for t in 0..steps {
        let x = MatRef::row_major(&x[t * rows * input..][..rows * input], rows, input);
        let (before, after) = y.split_at_mut(t * step_state);
        let next = &mut after[..step_state];
        let into = MatMut::row_major(next, rows, hidden);
        products.multiply(x, w_ih, Accumulate::Write, into, weights.bias);
        let h = if t == 0 {
            h0
        } else {
            Some(&before[(t - 1) * step_state..])
        };
        if let Some(h) = h {
            let h = MatRef::row_major(h, rows, hidden);
            let into = MatMut::row_major(next, rows, hidden);
            products.multiply(h, w_hh, Accumulate::Add, into, None);
        }
        activation_in_place(level, weights.activation.into(), next);
    }
}

/// The gradients of [`rnn_forward`].
///
/// `dy [T, B, H]` is the gradient of the output; `w_hh_t [H, H]` is the transpose of `w_hh`; `scratch` holds `(T + 1) B H` elements.
///
/// # Panics
/// A slice does not have the size of its shape.
#[track_caller]
pub fn rnn_backward<R: SimdReal>(
    level: SimdLevel,
    sequence: Sequence,
    weights: &RnnWeights<'_, R>,
    w_hh_t: &[R],
    x: &[R],
    h0: Option<&[R]>,
    y: &[R],
    dy: &[R],
    gradients: RnnGradients<'_, R>,
    scratch: &mut [R],
    parallel: bool,
) {
    let products = Products::new(level, parallel);
    rnn_backward_with(
        products, sequence, weights, w_hh_t, x, h0, y, dy, gradients, scratch,
    );
}

/// [`rnn_backward`] with products of its own.
#[track_caller]
pub(crate) fn rnn_backward_with<R: SimdReal>(
    products: Products,
    sequence: Sequence,
    weights: &RnnWeights<'_, R>,
    w_hh_t: &[R],
    x: &[R],
    h0: Option<&[R]>,
    y: &[R],
    dy: &[R],
    gradients: RnnGradients<'_, R>,
    scratch: &mut [R],
) {
    let level = products.level;
    let Sequence {
        steps,
        rows,
        input,
        hidden,
    } = sequence;
    check(sequence, weights, h0);
    sequence.check("w_hh_t", w_hh_t.len(), &[hidden, hidden]);
    sequence.check("x", x.len(), &[steps, rows, input]);
    sequence.check("y", y.len(), &[steps, rows, hidden]);
    sequence.check("dy", dy.len(), &[steps, rows, hidden]);
    sequence.check("the scratch", scratch.len(), &[steps + 1, rows, hidden]);
    let w_hh_t = MatRef::row_major(w_hh_t, hidden, hidden);
    let step_state = rows * hidden;
    // `d`: gradients before the activation, all steps; `dh`: the gradient of a state.
    let (dh, d) = scratch.split_at_mut(step_state);
    dh.fill(R::ZERO);
    for t in (0..steps).rev() {
        let step = t * step_state..(t + 1) * step_state;
        accumulate(level, &dy[step.clone()], dh, Accumulate::Add);
        activation_backward(
            level,
            weights.activation.into(),
            &y[step.clone()],
            dh,
            &mut d[step.clone()],
            Accumulate::Write,
        );
        if t > 0 || gradients.h0.is_some() {
            let d = MatRef::row_major(&d[step], rows, hidden);
            products.multiply(
                d,
                w_hh_t,
                Accumulate::Write,
                MatMut::row_major(dh, rows, hidden),
                None,
            );
        }
    }

    let all = MatRef::row_major(d, steps * rows, hidden);
    if let Some(target) = gradients.w_hh {
        sequence.check("dw_hh", target.values.len(), &[hidden, hidden]);
        if steps > 0 {
            let dw = MatMut::row_major(target.values, hidden, hidden);
            products.state_weight_gradient(sequence, h0, y, all, dw, target.accumulate);
        } else if target.accumulate == Accumulate::Write {
            target.values.fill(R::ZERO);
        }
    }
    if let Some(target) = gradients.w_ih {
        sequence.check("dw_ih", target.values.len(), &[input, hidden]);
        let dw = MatMut::row_major(target.values, input, hidden);
        let x = MatRef::row_major(x, steps * rows, input);
        products.multiply(x.t(), all, target.accumulate, dw, None);
    }
    if let Some(target) = gradients.x {
        sequence.check("dx", target.values.len(), &[steps, rows, input]);
        let w_ih = MatRef::row_major(weights.w_ih, input, hidden);
        let dx = MatMut::row_major(target.values, steps * rows, input);
        products.multiply(all, w_ih.t(), target.accumulate, dx, None);
    }
    if let Some(target) = gradients.bias {
        sequence.check("the bias gradient", target.values.len(), &[hidden]);
        products.bias_gradient(d, target);
    }
    if let Some(target) = gradients.h0 {
        sequence.check("dh0", target.values.len(), &[rows, hidden]);
        accumulate(level, dh, target.values, target.accumulate);
    }
}
