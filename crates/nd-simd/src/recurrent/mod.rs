//! Recurrent layers over whole sequences: LSTM, GRU and the plain (Elman) network, forward and backward.
//!
//! The simple version computes the gates of one row at one step from two matrix-vector products and feeds the new state to the
//! next step. Here all rows advance together, so each step is two matrix products and one elementwise kernel:
//! * sequences are *time-major* (`[T, B, I]`), so the rows of a step are contiguous, and so are the operands of the
//!   weight gradients, which are products over all steps at once;
//! * the gates of a step are made where they are kept for the backward pass, so they pass through the cache once;
//! * weights are stored `[in, gates * hidden]`: no product of the forward pass needs a transpose, and the backward pass needs
//!   that of the recurrent weights only.
//!
//! The gates follow PyTorch's order: `i f g o` (LSTM), `r z n` (GRU). A single step for decoding is a sequence of length one
//! with a given state.
//!
//! Known weakness: the steps are sequential, so a small batch (below about eight rows) is limited by reading the recurrent
//! weights once per step.

mod array;
mod gru;
mod lstm;
mod lstm_half;
mod rnn;

pub use array::{
    GruRun, LstmRun, RecurrentArrays, RecurrentGradients, gru, gru_gradient, last_state, lstm,
    lstm_gradient, rnn, rnn_gradient,
};
pub use gru::{GruGradients, GruSaved, GruWeights, gru_backward, gru_forward};
pub use lstm::{LstmGradients, LstmSaved, LstmState, LstmWeights, lstm_backward, lstm_forward};
pub use rnn::{RnnActivation, RnnGradients, RnnWeights, rnn_backward, rnn_forward};

pub(crate) use gru::{gru_backward_with, gru_forward_with};
pub(crate) use lstm::{lstm_backward_with, lstm_forward_with};
pub(crate) use lstm_half::{
    HalfLayer, WeightGradients, lstm_backward_half, lstm_forward_half, lstm_input_gradient,
    lstm_weight_gradients,
};
pub(crate) use rnn::{rnn_backward_with, rnn_forward_with};

use nd_core::Precision;
use nd_core::autograd::Accumulate;

use crate::activations::Activation;
use crate::autocast;
use crate::dispatch::{Isa, SimdLevel};
use crate::lanes::{Lanes, SimdReal};
use crate::matmul::{Epilogue, MatMut, MatRef, multiply_half, multiply_half_parallel, multiply_on};
use crate::reduce::column_sums;

/// The sizes of a recurrent layer's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// T: the number of steps.
    pub steps: usize,
    /// B: sequences that advance together.
    pub rows: usize,
    /// I: features of the input at a step.
    pub input: usize,
    /// H: the width of the state.
    pub hidden: usize,
}

impl Sequence {
    #[track_caller]
    fn check(&self, what: &str, len: usize, shape: &[usize]) {
        assert_eq!(
            len,
            shape.iter().product::<usize>(),
            "elements of {what} {shape:?} for {} steps of {} rows, {} inputs and {} hidden",
            self.steps,
            self.rows,
            self.input,
            self.hidden
        );
    }
}

/// Where a gradient goes.
#[derive(Debug)]
pub struct GradTarget<'a, R> {
    /// The gradient's values.
    pub values: &'a mut [R],
    /// Whether they are replaced or added to.
    pub accumulate: Accumulate,
}

/// The products of one layer.
#[derive(Clone, Copy)]
pub(crate) struct Products {
    pub(crate) level: SimdLevel,
    pub(crate) parallel: bool,
    /// What their operands are rounded to, on f32 values.
    pub(crate) precision: Precision,
}

impl Products {
    fn new(level: SimdLevel, parallel: bool) -> Self {
        Self {
            level,
            parallel,
            precision: Precision::F32,
        }
    }

    /// `C = A B + beta C + bias`
    fn multiply<R: SimdReal>(
        self,
        a: MatRef<'_, R>,
        b: MatRef<'_, R>,
        accumulate: Accumulate,
        c: MatMut<'_, R>,
        bias: Option<&[R]>,
    ) {
        let epilogue = Epilogue {
            bias,
            activation: Activation::Identity,
        };
        if self.precision != Precision::F32 {
            let bias = bias.and_then(autocast::as_f32);
            let (Some(a), Some(b), Some(c)) = (a.into_f32(), b.into_f32(), c.into_f32()) else {
                unreachable!("sixteen bits are for f32 values");
            };
            let run = if self.parallel {
                multiply_half_parallel
            } else {
                multiply_half
            };
            let epilogue = Epilogue {
                bias,
                activation: Activation::Identity,
            };
            let beta = accumulate.beta();
            return run(self.level, self.precision, 1.0, a, b, beta, c, epilogue);
        }
        let beta = accumulate.beta();
        multiply_on(self.level, self.parallel, a, b, beta, c, epilogue);
    }

    /// `dW (+)= sum over steps of left_t^T right_t`, where `left` is a state that is one step late: `start` (zeros if none) comes
    /// before the first row of `states`.
    fn state_weight_gradient<R: SimdReal>(
        self,
        sequence: Sequence,
        start: Option<&[R]>,
        states: &[R],
        right: MatRef<'_, R>,
        mut dw: MatMut<'_, R>,
        accumulate: Accumulate,
    ) {
        let Sequence {
            steps,
            rows,
            hidden,
            ..
        } = sequence;
        let later = (steps - 1) * rows;
        let left = MatRef::row_major(&states[..later * hidden], later, hidden);
        self.multiply(
            left.t(),
            right.row_block(rows, later),
            accumulate,
            dw.reborrow(),
            None,
        );
        if let Some(start) = start {
            let left = MatRef::row_major(start, rows, hidden);
            self.multiply(
                left.t(),
                right.row_block(0, rows),
                Accumulate::Add,
                dw,
                None,
            );
        }
    }

    /// `db (+)= sum of the rows of d`
    fn bias_gradient<R: SimdReal>(self, d: &[R], target: GradTarget<'_, R>) {
        column_sums(self.level, d, target.values, target.accumulate);
    }
}

/// The vector at `index`, partial at the end of the slice.
#[inline(always)]
fn load_at<S: Isa, R: SimdReal>(simd: S, x: &[R], index: usize) -> Lanes<S, R> {
    let x = &x[index..];
    if x.len() >= Lanes::<S, R>::LEN {
        Lanes::load(simd, x)
    } else {
        Lanes::load_partial(simd, x)
    }
}

/// Stores a vector at `index`, cut off at the end of the slice.
#[inline(always)]
fn store_at<S: Isa, R: SimdReal>(value: Lanes<S, R>, y: &mut [R], index: usize) {
    let y = &mut y[index..];
    if y.len() >= Lanes::<S, R>::LEN {
        value.store(y)
    } else {
        value.store_partial(y)
    }
}
