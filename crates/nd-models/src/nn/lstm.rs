//! An LSTM layer.

use nd_core::autograd::{Init, ParamId, ParamsBuilder, Tape, Var};
use nd_simd::SimdReal;
use nd_simd::ops::prelude::{RecurrentExt, RecurrentWeights};
use nd_simd::ops::recurrent::LstmOutput;

/// A layer of an LSTM over whole sequences: weights `[in, 4 H]` and `[H, 4 H]`, and two biases, named as in PyTorch.
///
/// All start uniform in `±1 / sqrt(H)`.
#[derive(Clone, Copy, Debug)]
pub struct LstmLayer {
    w_ih: ParamId,
    w_hh: ParamId,
    biases: Option<(ParamId, ParamId)>,
}

impl LstmLayer {
    /// Declares `weight_ih_l{layer}`, `weight_hh_l{layer}` and, where there are biases, `bias_ih_l{layer}` and
    /// `bias_hh_l{layer}`.
    pub fn new(
        b: &mut ParamsBuilder,
        layer: usize,
        inputs: usize,
        hidden: usize,
        bias: bool,
    ) -> Self {
        let init = Init::Uniform(1.0 / (hidden as f64).sqrt());
        let mut declare = |name: &str, shape: &[usize]| {
            b.trainable(&format!("{name}_l{layer}"), shape, init.clone())
        };
        Self {
            w_ih: declare("weight_ih", &[inputs, 4 * hidden]),
            w_hh: declare("weight_hh", &[hidden, 4 * hidden]),
            biases: bias.then(|| {
                (
                    declare("bias_ih", &[4 * hidden]),
                    declare("bias_hh", &[4 * hidden]),
                )
            }),
        }
    }

    /// From a state of zeros, step by step: `[T, B, in]` to `[T, B, H]`.
    #[track_caller]
    pub fn forward<'t, R: SimdReal>(&self, x: Var<'t, R>) -> Var<'t, R> {
        x.lstm(&self.weights(x.tape()))
    }

    /// From a state `(h, c)`, `[B, H]` each: `[T, B, in]` to `[T, B, H]` and the last cell.
    #[track_caller]
    pub fn forward_from<'t, R: SimdReal>(
        &self,
        x: Var<'t, R>,
        state: (Var<'t, R>, Var<'t, R>),
    ) -> LstmOutput<'t, R> {
        x.lstm_from(&self.weights(x.tape()), state)
    }

    /// The state before the first step: zeros, `[B, H]` each.
    pub fn zero_state<'t, R: SimdReal>(
        &self,
        tape: &'t Tape<R>,
        rows: usize,
    ) -> (Var<'t, R>, Var<'t, R>) {
        let hidden = tape.params().layout().entry(self.w_hh).shape.rows();
        let zeros = || tape.constant([rows, hidden], tape.pool().take_zeroed(rows * hidden));
        (zeros(), zeros())
    }

    fn weights<'t, R: SimdReal>(&self, tape: &'t Tape<R>) -> RecurrentWeights<'t, R> {
        RecurrentWeights {
            w_ih: tape.param(self.w_ih),
            w_hh: tape.param(self.w_hh),
            biases: self.biases.map(|(ih, hh)| (tape.param(ih), tape.param(hh))),
        }
    }
}
