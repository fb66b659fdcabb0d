//! Dense layers.

use nd_core::autograd::{Init, ParamId, ParamsBuilder, Tape, Var};
use nd_simd::SimdReal;
use nd_simd::activations::Activation;
use nd_simd::ops::prelude::LinearExt;

/// A dense layer: the ids of a weight `[in, out]` and a bias `[out]`.
///
/// Both start uniform in `±1 / sqrt(in)`, as PyTorch's do.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    weight: ParamId,
    bias: ParamId,
}

impl Linear {
    /// Declares `name.weight` and `name.bias`.
    pub fn new(b: &mut ParamsBuilder, name: &str, inputs: usize, outputs: usize) -> Self {
        let init = Init::Uniform(1.0 / (inputs as f64).sqrt());
        b.scope(name, |b| Self {
            weight: b.trainable("weight", [inputs, outputs], init.clone()),
            bias: b.trainable("bias", [outputs], init),
        })
    }

    /// The weight, on a tape.
    pub fn weight<'t, R: SimdReal>(&self, tape: &'t Tape<R>) -> Var<'t, R> {
        tape.param(self.weight)
    }

    /// The bias, on a tape.
    pub fn bias<'t, R: SimdReal>(&self, tape: &'t Tape<R>) -> Var<'t, R> {
        tape.param(self.bias)
    }

    /// `activation(x w + b)`, shapes `[.., in]` to `[.., out]`.
    #[track_caller]
    pub fn forward<'t, R: SimdReal>(&self, x: Var<'t, R>, activation: Activation) -> Var<'t, R> {
        let tape = x.tape();
        x.linear(self.weight(tape), Some(self.bias(tape)), activation)
    }
}
