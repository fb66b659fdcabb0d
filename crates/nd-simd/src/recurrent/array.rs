//! Recurrent layers of arrays, over whole sequences.
//!
//! Sequences are time-major, `[T, B, features]`; weights `[in, gates * hidden]`. Any layout is taken, so batch-major sequences
//! and PyTorch's weights pass as transposed views: `x.permuted_axes([1, 0, 2])`, `w.t()`. A cell for one step is a sequence of
//! one step from a given state.
//!
//! A forward function returns a *run*: the outputs and what the gradient function needs, which uses it up.

use nd_core::autograd::Accumulate;
use ndarray::{
    Array1, Array2, Array3, ArrayRef2, ArrayRef3, ArrayView1, ArrayView2, ArrayView3, Axis, Dim,
    Dimension,
};

use super::{
    GradTarget, GruGradients, GruSaved, GruWeights, LstmGradients, LstmSaved, LstmState,
    LstmWeights, RnnActivation, RnnGradients, RnnWeights, Sequence, gru_backward, gru_forward,
    lstm_backward, lstm_forward, rnn_backward, rnn_forward,
};
use crate::lanes::SimdReal;
use crate::layout::{copy_standard, from_values, has_shape, level, parallel, same_shape, standard};

/// The weights of a layer with G gates: LSTM 4 (`i f g o`), GRU 3 (`r z n`), plain 1.
#[derive(Clone, Debug)]
pub struct RecurrentArrays<'a, R> {
    /// `[I, G H]`: PyTorch's `weight_ih` transposed.
    pub w_ih: ArrayView2<'a, R>,
    /// `[H, G H]`: PyTorch's `weight_hh` transposed.
    pub w_hh: ArrayView2<'a, R>,
    /// LSTM and plain `[G H]`, the sum of PyTorch's two biases; GRU `[4 H]`: the sums for `r` and `z`, then `b_in`, then
    /// `b_hn`.
    pub bias: Option<ArrayView1<'a, R>>,
}

/// The gradients of a recurrent layer.
#[derive(Clone, Debug, PartialEq)]
pub struct RecurrentGradients<R> {
    /// `[T, B, I]`
    pub x: Array3<R>,
    /// `[I, G H]`
    pub w_ih: Array2<R>,
    /// `[H, G H]`
    pub w_hh: Array2<R>,
    /// Of the shape of the bias; also without one.
    pub bias: Array1<R>,
    /// Of the first state, `[B, H]`; also where that was zeros.
    pub h0: Array2<R>,
    /// Of the first cell, `[B, H]`; zeros for networks without cells.
    pub c0: Array2<R>,
}

/// The outputs of an LSTM.
#[derive(Clone, Debug, PartialEq)]
pub struct LstmRun<R> {
    /// The outputs, `[T, B, H]`; the last step is the last state `h`.
    pub y: Array3<R>,
    /// The cells, `[T, B, H]`; the last step is the last cell `c`.
    pub cells: Array3<R>,
    /// `[T, B, 4 H]`
    gates: Array3<R>,
}

/// The outputs of a GRU.
#[derive(Clone, Debug, PartialEq)]
pub struct GruRun<R> {
    /// The outputs, `[T, B, H]`; the last step is the last state.
    pub y: Array3<R>,
    /// `[T, B, 4 H]`
    blocks: Array3<R>,
}

impl<R> RecurrentArrays<'_, R> {
    /// The sizes of a run over `x`.
    #[track_caller]
    fn sequence(&self, x: &[usize], gates: usize, biases: usize) -> Sequence {
        let (input, hidden) = (x[2], self.w_hh.nrows());
        let because = format!("`x` {x:?} with {hidden} hidden units");
        has_shape(
            "w_ih",
            self.w_ih.shape(),
            &[input, gates * hidden],
            &because,
        );
        has_shape(
            "w_hh",
            self.w_hh.shape(),
            &[hidden, gates * hidden],
            &because,
        );
        if let Some(bias) = &self.bias {
            has_shape("bias", bias.shape(), &[biases * hidden], &because);
        }
        Sequence {
            steps: x[0],
            rows: x[1],
            input,
            hidden,
        }
    }
}

#[track_caller]
fn check_state<R>(name: &str, sequence: Sequence, state: Option<&ArrayRef2<R>>) {
    if let Some(state) = state {
        let because = format!(
            "a sequence of {} rows and {} hidden",
            sequence.rows, sequence.hidden
        );
        has_shape(
            name,
            state.shape(),
            &[sequence.rows, sequence.hidden],
            &because,
        );
    }
}

fn zeros<R: SimdReal>(sequence: Sequence, width: usize) -> Array3<R> {
    let dim = Dim([sequence.steps, sequence.rows, width]);
    from_values(dim, vec![R::ZERO; dim.size()])
}

/// The elements of an array in standard layout.
fn slice<R>(x: &mut Array3<R>) -> &mut [R] {
    match x.as_slice_mut() {
        Some(slice) => slice,
        None => unreachable!("runs are in standard layout"),
    }
}

/// A matrix transposed, in standard order.
fn transposed<R: SimdReal>(w: &ArrayView2<'_, R>) -> Vec<R> {
    let mut values = vec![R::ZERO; w.len()];
    copy_standard(&w.t(), &mut values);
    values
}

/// The memory of the gradients.
struct Buffers<R> {
    x: Vec<R>,
    w_ih: Vec<R>,
    w_hh: Vec<R>,
    bias: Vec<R>,
    h0: Vec<R>,
    c0: Vec<R>,
}

impl<R: SimdReal> Buffers<R> {
    fn new(sequence: Sequence, gates: usize, biases: usize) -> Self {
        let Sequence {
            steps,
            rows,
            input,
            hidden,
        } = sequence;
        let zeros = |len: usize| vec![R::ZERO; len];
        Self {
            x: zeros(steps * rows * input),
            w_ih: zeros(input * gates * hidden),
            w_hh: zeros(hidden * gates * hidden),
            bias: zeros(biases * hidden),
            h0: zeros(rows * hidden),
            c0: zeros(rows * hidden),
        }
    }

    fn into_gradients(self, sequence: Sequence) -> RecurrentGradients<R> {
        let Sequence {
            steps,
            rows,
            input,
            hidden,
        } = sequence;
        let width = |len: usize, rows: usize| len / rows.max(1);
        let (ih, hh) = (
            width(self.w_ih.len(), input),
            width(self.w_hh.len(), hidden),
        );
        RecurrentGradients {
            x: from_values(Dim([steps, rows, input]), self.x),
            w_ih: from_values(Dim([input, ih]), self.w_ih),
            w_hh: from_values(Dim([hidden, hh]), self.w_hh),
            bias: Array1::from_vec(self.bias),
            h0: from_values(Dim([rows, hidden]), self.h0),
            c0: from_values(Dim([rows, hidden]), self.c0),
        }
    }
}

fn target<R>(values: &mut [R]) -> Option<GradTarget<'_, R>> {
    Some(GradTarget {
        values,
        accumulate: Accumulate::Write,
    })
}

/// Runs an LSTM over `x [T, B, I]`, from the state `(h, c)`, `[B, H]` each, or from zeros.
///
/// `i f g o = x W_ih + h W_hh + b`, `c' = sigmoid(f) c + sigmoid(i) tanh(g)`, `h' = sigmoid(o) tanh(c')` (Hochreiter and
/// Schmidhuber 1997, with the forget gate of Gers et al. 2000).
///
/// ```
/// use ndarray::{Array2, Array3};
/// use nd_simd::recurrent::{RecurrentArrays, lstm};
///
/// let (w_ih, w_hh) = (Array2::<f32>::ones((3, 8)), Array2::zeros((2, 8))); // 3 features, 2 hidden units
/// let weights = RecurrentArrays { w_ih: w_ih.view(), w_hh: w_hh.view(), bias: None };
/// let run = lstm(&Array3::ones((5, 4, 3)), &weights, None); // 5 steps of 4 sequences
/// assert_eq!(run.y.dim(), (5, 4, 2));
/// ```
///
/// # Panics
/// The shapes do not fit.
#[must_use]
#[track_caller]
pub fn lstm<R: SimdReal>(
    x: &ArrayRef3<R>,
    weights: &RecurrentArrays<'_, R>,
    state: Option<(&ArrayRef2<R>, &ArrayRef2<R>)>,
) -> LstmRun<R> {
    let sequence = weights.sequence(x.shape(), 4, 4);
    let (h, c) = state.unzip();
    check_state("h", sequence, h);
    check_state("c", sequence, c);
    let hidden = sequence.hidden;
    let mut run = LstmRun {
        y: zeros(sequence, hidden),
        cells: zeros(sequence, hidden),
        gates: zeros(sequence, 4 * hidden),
    };
    let (h, c) = (h.map(|h| standard(h)), c.map(|c| standard(c)));
    let bias = weights.bias.as_ref().map(|bias| standard(bias));
    lstm_forward(
        level(),
        sequence,
        &LstmWeights {
            w_ih: &standard(&weights.w_ih),
            w_hh: &standard(&weights.w_hh),
            bias: bias.as_deref(),
        },
        &standard(x),
        h.as_deref()
            .zip(c.as_deref())
            .map(|(h, c)| LstmState { h, c }),
        LstmSaved {
            gates: slice(&mut run.gates),
            cells: slice(&mut run.cells),
        },
        slice(&mut run.y),
        parallel(),
    );
    run
}

/// The gradients of [`lstm()`] with the same arguments; `dy [T, B, H]` is the gradient of the outputs, `dc_last [B, H]` that of
/// the last cell, if anything depends on it.
///
/// # Panics
/// The shapes do not fit.
#[must_use]
#[track_caller]
pub fn lstm_gradient<R: SimdReal>(
    x: &ArrayRef3<R>,
    weights: &RecurrentArrays<'_, R>,
    state: Option<(&ArrayRef2<R>, &ArrayRef2<R>)>,
    mut run: LstmRun<R>,
    dy: &ArrayRef3<R>,
    dc_last: Option<&ArrayRef2<R>>,
) -> RecurrentGradients<R> {
    let sequence = weights.sequence(x.shape(), 4, 4);
    let (h, c) = state.unzip();
    check_state("h", sequence, h);
    check_state("c", sequence, c);
    check_state("dc_last", sequence, dc_last);
    same_shape("dy", dy.shape(), "the run's y", run.y.shape());
    let mut out = Buffers::new(sequence, 4, 4);
    let (h, c) = (h.map(|h| standard(h)), c.map(|c| standard(c)));
    let bias = weights.bias.as_ref().map(|bias| standard(bias));
    let dc_last = dc_last.map(|dc| standard(dc));
    lstm_backward(
        level(),
        sequence,
        &LstmWeights {
            w_ih: &standard(&weights.w_ih),
            w_hh: &standard(&weights.w_hh),
            bias: bias.as_deref(),
        },
        &transposed(&weights.w_hh),
        &standard(x),
        h.as_deref()
            .zip(c.as_deref())
            .map(|(h, c)| LstmState { h, c }),
        LstmSaved {
            gates: slice(&mut run.gates),
            cells: slice(&mut run.cells),
        },
        slice(&mut run.y),
        &standard(dy),
        dc_last.as_deref(),
        LstmGradients {
            x: target(&mut out.x),
            w_ih: target(&mut out.w_ih),
            w_hh: target(&mut out.w_hh),
            bias: target(&mut out.bias),
            h0: target(&mut out.h0),
            c0: target(&mut out.c0),
        },
        &mut vec![R::ZERO; 2 * sequence.rows * sequence.hidden],
        parallel(),
    );
    out.into_gradients(sequence)
}

/// Runs a GRU over `x [T, B, I]`, from the state `h [B, H]` or from zeros.
///
/// `r z = sigmoid(x W_ir,iz + h W_hr,hz + b)`, `n = tanh(x W_in + b_in + r (h W_hn + b_hn))`, `h' = (1 - z) n + z h` (Cho et al. 2014, in
/// PyTorch's form).
///
/// # Panics
/// The shapes do not fit.
#[must_use]
#[track_caller]
pub fn gru<R: SimdReal>(
    x: &ArrayRef3<R>,
    weights: &RecurrentArrays<'_, R>,
    h: Option<&ArrayRef2<R>>,
) -> GruRun<R> {
    let sequence = weights.sequence(x.shape(), 3, 4);
    check_state("h", sequence, h);
    let mut run = GruRun {
        y: zeros(sequence, sequence.hidden),
        blocks: zeros(sequence, 4 * sequence.hidden),
    };
    let h = h.map(|h| standard(h));
    let bias = weights.bias.as_ref().map(|bias| standard(bias));
    gru_forward(
        level(),
        sequence,
        &GruWeights {
            w_ih: &standard(&weights.w_ih),
            w_hh: &standard(&weights.w_hh),
            bias: bias.as_deref(),
        },
        &standard(x),
        h.as_deref(),
        GruSaved {
            blocks: slice(&mut run.blocks),
        },
        slice(&mut run.y),
        parallel(),
    );
    run
}

/// The gradients of [`gru()`] with the same arguments.
///
/// # Panics
/// The shapes do not fit.
#[must_use]
#[track_caller]
pub fn gru_gradient<R: SimdReal>(
    x: &ArrayRef3<R>,
    weights: &RecurrentArrays<'_, R>,
    h: Option<&ArrayRef2<R>>,
    mut run: GruRun<R>,
    dy: &ArrayRef3<R>,
) -> RecurrentGradients<R> {
    let sequence = weights.sequence(x.shape(), 3, 4);
    check_state("h", sequence, h);
    same_shape("dy", dy.shape(), "the run's y", run.y.shape());
    let mut out = Buffers::new(sequence, 3, 4);
    let h = h.map(|h| standard(h));
    let bias = weights.bias.as_ref().map(|bias| standard(bias));
    gru_backward(
        level(),
        sequence,
        &GruWeights {
            w_ih: &standard(&weights.w_ih),
            w_hh: &standard(&weights.w_hh),
            bias: bias.as_deref(),
        },
        &transposed(&weights.w_hh),
        &standard(x),
        h.as_deref(),
        GruSaved {
            blocks: slice(&mut run.blocks),
        },
        slice(&mut run.y),
        &standard(dy),
        GruGradients {
            x: target(&mut out.x),
            w_ih: target(&mut out.w_ih),
            w_hh: target(&mut out.w_hh),
            bias: target(&mut out.bias),
            h0: target(&mut out.h0),
        },
        &mut vec![R::ZERO; sequence.rows * sequence.hidden],
        parallel(),
    );
    out.into_gradients(sequence)
}

/// Runs a plain network over `x [T, B, I]`, from the state `h [B, H]` or from zeros: `h' = act(x W_ih + h W_hh + b)` (Elman
/// 1990). The result is `[T, B, H]`.
///
/// # Panics
/// The shapes do not fit.
#[must_use]
#[track_caller]
pub fn rnn<R: SimdReal>(
    x: &ArrayRef3<R>,
    weights: &RecurrentArrays<'_, R>,
    activation: RnnActivation,
    h: Option<&ArrayRef2<R>>,
) -> Array3<R> {
    let sequence = weights.sequence(x.shape(), 1, 1);
    check_state("h", sequence, h);
    let mut y = zeros(sequence, sequence.hidden);
    let h = h.map(|h| standard(h));
    let bias = weights.bias.as_ref().map(|bias| standard(bias));
    rnn_forward(
        level(),
        sequence,
        &RnnWeights {
            w_ih: &standard(&weights.w_ih),
            w_hh: &standard(&weights.w_hh),
            bias: bias.as_deref(),
            activation,
        },
        &standard(x),
        h.as_deref(),
        slice(&mut y),
        parallel(),
    );
    y
}

/// The gradients of [`rnn()`] with the same arguments, from its outputs `y [T, B, H]`.
///
/// # Panics
/// The shapes do not fit.
#[must_use]
#[track_caller]
pub fn rnn_gradient<R: SimdReal>(
    x: &ArrayRef3<R>,
    weights: &RecurrentArrays<'_, R>,
    activation: RnnActivation,
    h: Option<&ArrayRef2<R>>,
    y: &ArrayRef3<R>,
    dy: &ArrayRef3<R>,
) -> RecurrentGradients<R> {
    let sequence = weights.sequence(x.shape(), 1, 1);
    check_state("h", sequence, h);
    let shape = [sequence.steps, sequence.rows, sequence.hidden];
    has_shape(
        "y",
        y.shape(),
        &shape,
        &format!("the run over `x` {:?}", x.shape()),
    );
    same_shape("dy", dy.shape(), "y", y.shape());
    let mut out = Buffers::new(sequence, 1, 1);
    let h = h.map(|h| standard(h));
    let bias = weights.bias.as_ref().map(|bias| standard(bias));
    rnn_backward(
        level(),
        sequence,
        &RnnWeights {
            w_ih: &standard(&weights.w_ih),
            w_hh: &standard(&weights.w_hh),
            bias: bias.as_deref(),
            activation,
        },
        &transposed(&weights.w_hh),
        &standard(x),
        h.as_deref(),
        &standard(y),
        &standard(dy),
        RnnGradients {
            x: target(&mut out.x),
            w_ih: target(&mut out.w_ih),
            w_hh: target(&mut out.w_hh),
            bias: target(&mut out.bias),
            h0: target(&mut out.h0),
        },
        &mut vec![R::ZERO; (sequence.steps + 1) * sequence.rows * sequence.hidden],
        parallel(),
    );
    out.into_gradients(sequence)
}

/// The last step of the outputs, `[B, H]`: the state to go on from. `None` of a sequence without steps.
#[must_use]
pub fn last_state<R>(y: &Array3<R>) -> Option<ArrayView2<'_, R>> {
    let view: ArrayView3<'_, R> = y.view();
    let steps = view.len_of(Axis(0));
    (steps > 0).then(|| view.index_axis_move(Axis(0), steps - 1))
}
