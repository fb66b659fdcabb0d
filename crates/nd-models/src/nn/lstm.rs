//! An LSTM layer.

use nd_core::autograd::{Init, ParamId, ParamsBuilder, Var};
use nd_simd::SimdReal;
use nd_simd::ops::prelude::{RecurrentExt, RecurrentWeights};

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
        let tape = x.tape();
        x.lstm(&RecurrentWeights {
            w_ih: tape.param(self.w_ih),
            w_hh: tape.param(self.w_hh),
            biases: self.biases.map(|(ih, hh)| (tape.param(ih), tape.param(hh))),
        })
    }
}
