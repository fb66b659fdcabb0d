//! Adam (Kingma and Ba, arXiv 1412.6980) and AdamW (Loshchilov and Hutter, arXiv 1711.05101).

use super::{Slices, Update, update_all};
use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate, same_length};
use crate::lanes::{Lanes, SimdReal};

/// One step of Adam or AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// The learning rate.
    pub lr: f64,
    /// The decay of the first moment.
    pub beta1: f64,
    /// The decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decay that is added to the gradient (L2 regularisation, Adam's `weight_decay`).
    pub coupled_decay: f64,
    /// Decay that shrinks the weight beside the gradient (AdamW's `weight_decay`).
    pub decoupled_decay: f64,
    /// The number of this step, from 1 on.
    pub step: u64,
}

impl Default for Adam {
    /// PyTorch's defaults, at the first step.
    fn default() -> Self {
        Self {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            coupled_decay: 0.0,
            decoupled_decay: 0.0,
            step: 1,
        }
    }
}

/// The numbers of one step, in every lane.
struct Factors<S: Isa, R: SimdReal> {
    factor: Lanes<S, R>,
    keep: Lanes<S, R>,
    coupled: Lanes<S, R>,
    blend1: Lanes<S, R>,
    beta2: Lanes<S, R>,
    blend2: Lanes<S, R>,
    root_bias2: Lanes<S, R>,
    eps: Lanes<S, R>,
    step: Lanes<S, R>,
}

impl<S: Isa, R: SimdReal> Factors<S, R> {
    #[inline(always)]
    fn new(simd: S, adam: Adam, factor: f64) -> Self {
        // Powers of the decays in f64: in f32 the corrections of the first steps would lose digits.
        let step = i32::try_from(adam.step).unwrap_or(i32::MAX);
        let bias1 = 1.0 - adam.beta1.powi(step);
        let bias2 = 1.0 - adam.beta2.powi(step);
        Self {
            factor: Lanes::splat(simd, R::from_f64(factor)),
            keep: Lanes::splat(simd, R::from_f64(1.0 - adam.lr * adam.decoupled_decay)),
            coupled: Lanes::splat(simd, R::from_f64(adam.coupled_decay)),
            blend1: Lanes::splat(simd, R::from_f64(1.0 - adam.beta1)),
            beta2: Lanes::splat(simd, R::from_f64(adam.beta2)),
            blend2: Lanes::splat(simd, R::from_f64(1.0 - adam.beta2)),
            root_bias2: Lanes::splat(simd, R::from_f64(1.0 / bias2.sqrt())),
            eps: Lanes::splat(simd, R::from_f64(adam.eps)),
            step: Lanes::splat(simd, R::from_f64(-adam.lr / bias1)),
        }
    }
}

impl<S: Isa, R: SimdReal> Update<S, R, 3> for Factors<S, R> {
    #[inline(always)]
    fn update(&self, g: Lanes<S, R>, [w, m, v]: [Lanes<S, R>; 3]) -> [Lanes<S, R>; 3] {
        let g = self.coupled.mul_add(w, g * self.factor);
        let m = (g - m).mul_add(self.blend1, m);
        let v = self.beta2.mul_add(v, g * g * self.blend2);
        let denominator = v.sqrt().mul_add(self.root_bias2, self.eps);
        [self.step.mul_add(m / denominator, w * self.keep), m, v]
    }
}

struct Pass<'a, R> {
    adam: Adam,
    factor: f64,
    grad: &'a [R],
    state: [&'a mut [R]; 3],
}

impl<R: SimdReal> Kernel for Pass<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let factors = Factors::new(simd, self.adam, self.factor);
        update_all(simd, &factors, self.grad, self.state);
    }
}

instantiate! {
    /// One step of Adam: moments and weights in place, in one pass.
    ///
    /// `g = factor grad + coupled_decay w`, `w -= lr decoupled_decay w`, `m += (1 - beta1)(g - m)`,
    /// `v = beta2 v + (1 - beta2) g^2`, `w -= lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)`.
    ///
    /// # Panics
    /// The slices differ in length.
    pub fn adam_step<R>(
        level: SimdLevel,
        parallel: bool,
        adam: Adam,
        factor: f64,
        grad: &[R],
        weight: &mut [R],
        mean: &mut [R],
        square: &mut [R],
    ) {
        same_length("weight", weight.len(), "grad", grad.len());
        same_length("mean", mean.len(), "grad", grad.len());
        same_length("square", square.len(), "grad", grad.len());
    } then {
        Slices { grad, state: [weight, mean, square] }.for_each(parallel, &|grad, state| {
            dispatch(level, Pass { adam, factor, grad, state });
        });
    }
}
