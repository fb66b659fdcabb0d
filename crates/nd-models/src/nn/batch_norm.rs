//! Batch norm as a layer.

use nd_core::autograd::{Init, ParamId, ParamsBuilder, Var};
use nd_simd::SimdReal;
use nd_simd::norm::BatchNorm;
use nd_simd::ops::prelude::{BatchNormExt, RunningMoments};

/// A batch norm over all rows of `[.., C]`: weight, bias and running moments, named as in PyTorch.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormLayer {
    weight: ParamId,
    bias: ParamId,
    running: RunningMoments,
}

impl BatchNormLayer {
    /// Declares `name.weight`, `name.bias`, `name.running_mean` and `name.running_var`.
    pub fn new(b: &mut ParamsBuilder, name: &str, channels: usize) -> Self {
        b.scope(name, |b| Self {
            weight: b.trainable("weight", [channels], Init::Constant(1.0)),
            bias: b.trainable("bias", [channels], Init::Constant(0.0)),
            running: RunningMoments {
                mean: b.buffer("running_mean", [channels], Init::Constant(0.0)),
                variance: b.buffer("running_var", [channels], Init::Constant(1.0)),
            },
        })
    }

    /// Normalises each channel.
    #[track_caller]
    pub fn forward<'t, R: SimdReal>(&self, x: Var<'t, R>) -> Var<'t, R> {
        let tape = x.tape();
        let (gain, bias) = (tape.param(self.weight), tape.param(self.bias));
        x.batch_norm(gain, bias, Some(self.running), BatchNorm::default())
    }
}
