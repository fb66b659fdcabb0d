//! RMSprop (Hinton, lecture 6e of "Neural networks for machine learning", 2012), in PyTorch's form without momentum.

use super::{Slices, Update, update_all};
use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate, same_length};
use crate::lanes::{Lanes, SimdReal};

/// One step of RMSprop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    /// The learning rate.
    pub lr: f64,
    /// The decay of the mean of squares.
    pub alpha: f64,
    /// Added to the root of the mean of squares.
    pub eps: f64,
    /// Decay that is added to the gradient.
    pub weight_decay: f64,
}

/// The numbers of one step, in every lane.
struct Factors<S: Isa, R: SimdReal> {
    factor: Lanes<S, R>,
    decay: Lanes<S, R>,
    alpha: Lanes<S, R>,
    blend: Lanes<S, R>,
    eps: Lanes<S, R>,
    step: Lanes<S, R>,
}

impl<S: Isa, R: SimdReal> Factors<S, R> {
    #[inline(always)]
    fn new(simd: S, rmsprop: RmsProp, factor: f64) -> Self {
        Self {
            factor: Lanes::splat(simd, R::from_f64(factor)),
            decay: Lanes::splat(simd, R::from_f64(rmsprop.weight_decay)),
            alpha: Lanes::splat(simd, R::from_f64(rmsprop.alpha)),
            blend: Lanes::splat(simd, R::from_f64(1.0 - rmsprop.alpha)),
            eps: Lanes::splat(simd, R::from_f64(rmsprop.eps)),
            step: Lanes::splat(simd, R::from_f64(-rmsprop.lr)),
        }
    }
}

impl<S: Isa, R: SimdReal> Update<S, R, 2> for Factors<S, R> {
    #[inline(always)]
    fn update(&self, g: Lanes<S, R>, [w, v]: [Lanes<S, R>; 2]) -> [Lanes<S, R>; 2] {
        let g = self.decay.mul_add(w, g * self.factor);
        let v = self.alpha.mul_add(v, g * g * self.blend);
        [self.step.mul_add(g / (v.sqrt() + self.eps), w), v]
    }
}

struct Pass<'a, R> {
    rmsprop: RmsProp,
    factor: f64,
    grad: &'a [R],
    state: [&'a mut [R]; 2],
}

impl<R: SimdReal> Kernel for Pass<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let factors = Factors::new(simd, self.rmsprop, self.factor);
        update_all(simd, &factors, self.grad, self.state);
    }
}

instantiate! {
    /// One step of RMSprop: mean of squares and weights in place, in one pass.
    ///
    /// `g = factor grad + weight_decay w`, `v = alpha v + (1 - alpha) g^2`, `w -= lr g / (sqrt(v) + eps)`.
    ///
    /// # Panics
    /// The slices differ in length.
    pub fn rmsprop_step<R>(
        level: SimdLevel,
        parallel: bool,
        rmsprop: RmsProp,
        factor: f64,
        grad: &[R],
        weight: &mut [R],
        square: &mut [R],
    ) {
        same_length("weight", weight.len(), "grad", grad.len());
        same_length("square", square.len(), "grad", grad.len());
    } then {
        Slices { grad, state: [weight, square] }.for_each(parallel, &|grad, state| {
            dispatch(level, Pass { rmsprop, factor, grad, state });
        });
    }
}
