//! Recurrent layers over whole sequences.
//!
//! Sequences are time-major, `[T, B, features]`: put the time axis first once ([`super::permute::PermuteExt::swap_axes`]), stack as many
//! layers as you like, and take the steps you need as one range of the first axis. Weights are stored `[in, gates * hidden]`.
//! The two biases are PyTorch's: their sum is what counts, but an optimizer moves both.

use std::cell::RefCell;

use nd_core::autograd::{Backward, Grad, NodeId, Op, Orientation, Stored, Var};
use nd_core::shape::Shape;
use nd_core::{Buffer, Precision};

use super::slice::SliceExt;
use crate::autocast;
use crate::dispatch::SimdLevel;
use crate::elementwise::accumulate;
use crate::lanes::SimdReal;
use crate::permute::transpose;
use crate::recurrent::{
    GradTarget, GruGradients, GruSaved, GruWeights, LstmGradients, LstmSaved, LstmState,
    LstmWeights, Products, RnnActivation, RnnGradients, RnnWeights, Sequence, gru_backward_with,
    gru_forward_with, lstm_backward_with, lstm_forward_with, rnn_backward_with, rnn_forward_with,
};

/// The parameters of a recurrent layer with G gates (LSTM 4, GRU 3, plain 1).
#[derive(Clone, Copy, Debug)]
pub struct RecurrentWeights<'t, R: SimdReal> {
    /// `[I, G H]`
    pub w_ih: Var<'t, R>,
    /// `[H, G H]`
    pub w_hh: Var<'t, R>,
    /// `b_ih` and `b_hh`, `[G H]` each.
    pub biases: Option<(Var<'t, R>, Var<'t, R>)>,
}

/// The outputs of an LSTM and its last cell.
#[derive(Clone, Copy, Debug)]
pub struct LstmOutput<'t, R: SimdReal> {
    /// `[T, B, H]`; the last step is the last state `h`.
    pub y: Var<'t, R>,
    /// `[B, H]`
    pub c: Var<'t, R>,
}

/// Recurrent layers on the tape.
pub trait RecurrentExt<'t, R: SimdReal>: Sized {
    /// An LSTM from a state of zeros: `[T, B, I]` to `[T, B, H]`.
    ///
    /// # Panics
    /// The shapes do not fit.
    #[must_use]
    #[track_caller]
    fn lstm(self, weights: &RecurrentWeights<'t, R>) -> Var<'t, R>;

    /// An LSTM from the state `(h, c)`, `[B, H]` each (two different values), with its last cell.
    ///
    /// # Panics
    /// The shapes do not fit.
    #[must_use]
    #[track_caller]
    fn lstm_from(
        self,
        weights: &RecurrentWeights<'t, R>,
        state: (Var<'t, R>, Var<'t, R>),
    ) -> LstmOutput<'t, R>;

    /// A GRU from the state `h`, or from zeros: `[T, B, I]` to `[T, B, H]`.
    ///
    /// # Panics
    /// The shapes do not fit.
    #[must_use]
    #[track_caller]
    fn gru(self, weights: &RecurrentWeights<'t, R>, h: Option<Var<'t, R>>) -> Var<'t, R>;

    /// A plain recurrent network from the state `h`, or from zeros: `[T, B, I]` to `[T, B, H]`.
    ///
    /// # Panics
    /// The shapes do not fit.
    #[must_use]
    #[track_caller]
    fn rnn(
        self,
        weights: &RecurrentWeights<'t, R>,
        activation: RnnActivation,
        h: Option<Var<'t, R>>,
    ) -> Var<'t, R>;
}

impl<'t, R: SimdReal> RecurrentExt<'t, R> for Var<'t, R> {
    fn lstm(self, weights: &RecurrentWeights<'t, R>) -> Self {
        if autocast::precision(self.tape()) != Precision::F32 {
            let sequence = check(self, weights, Kind::Lstm { with_cell: false }, None, None);
            return super::lstm_half::lstm(self, weights, sequence);
        }
        run(self, weights, Kind::Lstm { with_cell: false }, None, None)
    }

    fn lstm_from(
        self,
        weights: &RecurrentWeights<'t, R>,
        (h, c): (Self, Self),
    ) -> LstmOutput<'t, R> {
        let packed = run(
            self,
            weights,
            Kind::Lstm { with_cell: true },
            Some(h),
            Some(c),
        );
        let (steps, state) = (self.shape()[0], [packed.shape()[1], packed.shape()[2]]);
        LstmOutput {
            y: packed.narrow(0, 0..steps),
            c: packed.narrow(0, steps..steps + 1).reshape(state),
        }
    }

    fn gru(self, weights: &RecurrentWeights<'t, R>, h: Option<Self>) -> Self {
        run(self, weights, Kind::Gru, h, None)
    }

    fn rnn(
        self,
        weights: &RecurrentWeights<'t, R>,
        activation: RnnActivation,
        h: Option<Self>,
    ) -> Self {
        run(self, weights, Kind::Rnn(activation), h, None)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// With the last cell, the output has one step more, which holds it.
    Lstm {
        with_cell: bool,
    },
    Gru,
    Rnn(RnnActivation),
}

impl Kind {
    fn gates(self) -> usize {
        match self {
            Self::Lstm { .. } => 4,
            Self::Gru => 3,
            Self::Rnn(_) => 1,
        }
    }

    /// The bias that the kernels want.
    fn bias<R: SimdReal>(self, level: SimdLevel, b_ih: &[R], b_hh: &[R], bias: &mut [R]) {
        let together = match self {
            // The last block of a GRU keeps its two biases apart.
            Self::Gru => b_ih.len() / 3 * 2,
            _ => b_ih.len(),
        };
        crate::elementwise::add_forward(
            level,
            &b_ih[..together],
            &b_hh[..together],
            &mut bias[..together],
        );
        if self == Self::Gru {
            bias[together..b_ih.len()].copy_from_slice(&b_ih[together..]);
            bias[b_ih.len()..].copy_from_slice(&b_hh[together..]);
        }
    }

    /// The length of that bias.
    fn bias_len(self, hidden: usize) -> usize {
        if self == Self::Gru {
            4 * hidden
        } else {
            self.gates() * hidden
        }
    }
}

#[track_caller]
fn run<'t, R: SimdReal>(
    x: Var<'t, R>,
    weights: &RecurrentWeights<'t, R>,
    kind: Kind,
    h0: Option<Var<'t, R>>,
    c0: Option<Var<'t, R>>,
) -> Var<'t, R> {
    let tape = x.tape();
    let sequence = check(x, weights, kind, h0, c0);
    let Sequence {
        steps,
        rows,
        hidden,
        ..
    } = sequence;
    let level = tape.options().simd;
    let products = Products {
        level,
        parallel: tape.parallel(),
        precision: autocast::precision(tape),
    };
    let state = rows * hidden;
    let bias = weights.biases.map(|(b_ih, b_hh)| {
        let mut bias = tape.scratch(kind.bias_len(hidden));
        kind.bias(level, &b_ih.value(), &b_hh.value(), &mut bias);
        bias
    });
    let (xv, w_ih, w_hh) = (x.value(), weights.w_ih.value(), weights.w_hh.value());
    let (hv, cv) = (h0.map(Var::value), c0.map(Var::value));
    let with_cell = kind == Kind::Lstm { with_cell: true };
    let mut y = tape.scratch((steps + usize::from(with_cell)) * state);
    let (mut gates, mut cells) = match kind {
        Kind::Lstm { .. } => (tape.scratch(4 * steps * state), tape.scratch(steps * state)),
        Kind::Gru => (tape.scratch(4 * steps * state), tape.scratch(0)),
        Kind::Rnn(_) => (tape.scratch(0), tape.scratch(0)),
    };
    let (outputs, last) = y.split_at_mut(steps * state);
    let bias_ref = bias.as_deref();
    match kind {
        Kind::Lstm { .. } => {
            let start = hv
                .as_deref()
                .zip(cv.as_deref())
                .map(|(h, c)| LstmState { h, c });
            lstm_forward_with(
                products,
                sequence,
                &LstmWeights {
                    w_ih: &w_ih,
                    w_hh: &w_hh,
                    bias: bias_ref,
                },
                &xv,
                start,
                LstmSaved {
                    gates: &mut gates,
                    cells: &mut cells,
                },
                outputs,
            );
            if with_cell {
                match (steps, &cv) {
                    (0, Some(c)) => last.copy_from_slice(c),
                    _ => last.copy_from_slice(&cells[(steps - 1) * state..]),
                }
            }
        }
        Kind::Gru => gru_forward_with(
            products,
            sequence,
            &GruWeights {
                w_ih: &w_ih,
                w_hh: &w_hh,
                bias: bias_ref,
            },
            &xv,
            hv.as_deref(),
            GruSaved { blocks: &mut gates },
            outputs,
        ),
        Kind::Rnn(activation) => rnn_forward_with(
            products,
            sequence,
            &RnnWeights {
                w_ih: &w_ih,
                w_hh: &w_hh,
                bias: bias_ref,
                activation,
            },
            &xv,
            hv.as_deref(),
            outputs,
        ),
    }
    let mut inputs = [x; 7];
    let biases = weights.biases.map(|(b_ih, b_hh)| [b_ih, b_hh]);
    let all = [x, weights.w_ih, weights.w_hh].into_iter();
    let all = all.chain(biases.into_iter().flatten()).chain(h0).chain(c0);
    let count = inputs
        .iter_mut()
        .zip(all)
        .map(|(slot, var)| *slot = var)
        .count();
    let shape = Shape::new(&[steps + usize::from(with_cell), rows, hidden]);
    // A cell that goes on from here stays in f32.
    let kept = if with_cell {
        Precision::F32
    } else {
        products.precision
    };
    let y = autocast::narrow_all(tape, kept, y);
    tape.record_stored(shape, y, &inputs[..count], || Recurrent {
        kind,
        sequence,
        x: x.id(),
        w_ih: weights.w_ih.id(),
        w_hh: weights.w_hh.id(),
        biases: weights.biases.map(|(b_ih, b_hh)| [b_ih.id(), b_hh.id()]),
        h0: h0.map(Var::id),
        c0: c0.map(Var::id),
        gates: RefCell::new(autocast::narrow_all(tape, kept, gates)),
        cells: RefCell::new(cells),
    })
}

#[track_caller]
fn check<R: SimdReal>(
    x: Var<'_, R>,
    weights: &RecurrentWeights<'_, R>,
    kind: Kind,
    h0: Option<Var<'_, R>>,
    c0: Option<Var<'_, R>>,
) -> Sequence {
    let shape = x.shape();
    assert_eq!(
        shape.len(),
        3,
        "a recurrent layer reads [T, B, I], found {shape}"
    );
    let (steps, rows, input) = (shape[0], shape[1], shape[2]);
    let hidden = weights.w_hh.shape().rows();
    let width = kind.gates() * hidden;
    let expect = |what: &str, var: Var<'_, R>, dims: &[usize]| {
        assert_eq!(
            &var.shape()[..],
            dims,
            "{what} of a recurrent layer of x {shape}"
        );
    };
    expect("w_hh", weights.w_hh, &[hidden, width]);
    expect("w_ih", weights.w_ih, &[input, width]);
    if let Some((b_ih, b_hh)) = weights.biases {
        expect("b_ih", b_ih, &[width]);
        expect("b_hh", b_hh, &[width]);
    }
    for (what, state) in [("h", h0), ("c", c0)] {
        if let Some(state) = state {
            expect(what, state, &[rows, hidden]);
        }
    }
    Sequence {
        steps,
        rows,
        input,
        hidden,
    }
}

struct Recurrent<R: SimdReal> {
    kind: Kind,
    sequence: Sequence,
    x: NodeId,
    w_ih: NodeId,
    w_hh: NodeId,
    biases: Option<[NodeId; 2]>,
    h0: Option<NodeId>,
    c0: Option<NodeId>,
    /// The backward pass turns the gates into their gradients, in place.
    gates: RefCell<Stored<R>>,
    cells: RefCell<Buffer<R>>,
}

fn target<'a, R: SimdReal>(grad: &'a mut Option<Grad<'_, R>>) -> Option<GradTarget<'a, R>> {
    grad.as_mut().map(|grad| GradTarget {
        accumulate: grad.accumulate,
        values: &mut grad[..],
    })
}

impl<R: SimdReal> Op<R> for Recurrent<R> {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Lstm { .. } => "lstm",
            Kind::Gru => "gru",
            Kind::Rnn(_) => "rnn",
        }
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let hidden = self.sequence.hidden;
        let width = self.kind.gates() * hidden;
        let (level, w_hh) = (step.options().simd, step.value(self.w_hh));
        // The transpose is used once per step; shards share it.
        if let Some(id) = step.param_id(self.w_hh) {
            let packs = step.tape().params().packs();
            let transposed = packs.full(id, Orientation::Transposed, w_hh.len(), |out| {
                transpose(level, &w_hh, hidden, width, out);
            });
            self.backward_with(step, transposed);
        } else {
            let mut transposed = step.scratch(w_hh.len());
            transpose(level, &w_hh, hidden, width, &mut transposed);
            self.backward_with(step, &transposed);
        }
    }
}

impl<R: SimdReal> Recurrent<R> {
    fn backward_with(&self, step: &Backward<'_, R>, w_hh_t: &[R]) {
        let Sequence {
            steps,
            rows,
            hidden,
            ..
        } = self.sequence;
        let level = step.options().simd;
        let products = Products {
            level,
            parallel: step.parallel(),
            precision: autocast::precision(step.tape()),
        };
        let state = rows * hidden;
        let (x, w_ih, w_hh) = (
            step.value(self.x),
            step.value(self.w_ih),
            step.value(self.w_hh),
        );
        let (h0, c0) = (
            self.h0.map(|id| step.value(id)),
            self.c0.map(|id| step.value(id)),
        );
        let y = step.y();
        let (dy, dc) = step.dy().split_at(steps * state);
        let y = &y[..steps * state];
        let wants_bias = self
            .biases
            .is_some_and(|ids| ids.iter().any(|&id| step.wants(id)));
        let mut db = wants_bias.then(|| step.scratch(self.kind.bias_len(hidden)));
        {
            let (mut dx, mut dw_ih) = (step.grad(self.x), step.grad(self.w_ih));
            let mut dw_hh = step.grad(self.w_hh);
            let mut dh0 = self.h0.and_then(|id| step.grad(id));
            let mut dc0 = self.c0.and_then(|id| step.grad(id));
            let bias = db.as_mut().map(|db| GradTarget {
                values: &mut db[..],
                accumulate: nd_core::autograd::Accumulate::Write,
            });
            let (x_target, w_ih_target) = (target(&mut dx), target(&mut dw_ih));
            let (w_hh_target, h0_target) = (target(&mut dw_hh), target(&mut dh0));
            let mut gates = self.gates.borrow_mut();
            let mut widened;
            let gates: &mut [R] = match &mut *gates {
                Stored::Full(gates) => gates,
                half => {
                    widened = step.scratch(half.len());
                    widened.copy_from_slice(&half.load(step.pool()));
                    &mut widened
                }
            };
            match self.kind {
                Kind::Lstm { with_cell } => {
                    let start = h0.as_deref().zip(c0.as_deref());
                    lstm_backward_with(
                        products,
                        self.sequence,
                        &LstmWeights {
                            w_ih: &w_ih,
                            w_hh: &w_hh,
                            bias: None,
                        },
                        w_hh_t,
                        &x,
                        start.map(|(h, c)| LstmState { h, c }),
                        LstmSaved {
                            gates,
                            cells: &mut self.cells.borrow_mut(),
                        },
                        y,
                        dy,
                        with_cell.then_some(dc),
                        LstmGradients {
                            x: x_target,
                            w_ih: w_ih_target,
                            w_hh: w_hh_target,
                            bias,
                            h0: h0_target,
                            c0: target(&mut dc0),
                        },
                        &mut step.scratch(2 * state),
                    );
                }
                Kind::Gru => gru_backward_with(
                    products,
                    self.sequence,
                    &GruWeights {
                        w_ih: &w_ih,
                        w_hh: &w_hh,
                        bias: None,
                    },
                    w_hh_t,
                    &x,
                    h0.as_deref(),
                    GruSaved { blocks: gates },
                    y,
                    dy,
                    GruGradients {
                        x: x_target,
                        w_ih: w_ih_target,
                        w_hh: w_hh_target,
                        bias,
                        h0: h0_target,
                    },
                    &mut step.scratch(state),
                ),
                Kind::Rnn(activation) => rnn_backward_with(
                    products,
                    self.sequence,
                    &RnnWeights {
                        w_ih: &w_ih,
                        w_hh: &w_hh,
                        bias: None,
                        activation,
                    },
                    w_hh_t,
                    &x,
                    h0.as_deref(),
                    y,
                    dy,
                    RnnGradients {
                        x: x_target,
                        w_ih: w_ih_target,
                        w_hh: w_hh_target,
                        bias,
                        h0: h0_target,
                    },
                    &mut step.scratch((steps + 1) * state),
                ),
            }
        }
        let (Some(ids), Some(db)) = (self.biases, db) else {
            return;
        };
        // One after the other: they may be the same parameter.
        for (index, id) in ids.into_iter().enumerate() {
            let Some(mut grad) = step.grad(id) else {
                continue;
            };
            let (acc, width) = (grad.accumulate, grad.len());
            if self.kind == Kind::Gru && index == 1 {
                accumulate(level, &db[..2 * hidden], &mut grad[..2 * hidden], acc);
                accumulate(level, &db[3 * hidden..], &mut grad[2 * hidden..], acc);
            } else {
                accumulate(level, &db[..width], &mut grad, acc);
            }
        }
    }
}
