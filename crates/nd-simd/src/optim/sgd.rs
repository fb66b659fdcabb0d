//! Stochastic gradient descent with momentum.

use super::{Slices, Update, update_all};
use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate, same_length};
use crate::lanes::{Lanes, SimdReal};

/// One step of SGD.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// The learning rate.
    pub lr: f64,
    /// The decay of the velocity; 0 for plain descent.
    pub momentum: f64,
    /// Decay that is added to the gradient.
    pub weight_decay: f64,
    /// Whether to look ahead (Nesterov).
    pub nesterov: bool,
}

/// The numbers of one step, in every lane.
struct Factors<S: Isa, R: SimdReal> {
    factor: Lanes<S, R>,
    decay: Lanes<S, R>,
    momentum: Lanes<S, R>,
    step: Lanes<S, R>,
    nesterov: bool,
}

impl<S: Isa, R: SimdReal> Factors<S, R> {
    #[inline(always)]
    fn new(simd: S, sgd: Sgd, factor: f64) -> Self {
        Self {
            factor: Lanes::splat(simd, R::from_f64(factor)),
            decay: Lanes::splat(simd, R::from_f64(sgd.weight_decay)),
            momentum: Lanes::splat(simd, R::from_f64(sgd.momentum)),
            step: Lanes::splat(simd, R::from_f64(-sgd.lr)),
            nesterov: sgd.nesterov,
        }
    }
}

impl<S: Isa, R: SimdReal> Update<S, R, 2> for Factors<S, R> {
    #[inline(always)]
    fn update(&self, g: Lanes<S, R>, [w, u]: [Lanes<S, R>; 2]) -> [Lanes<S, R>; 2] {
        let g = self.decay.mul_add(w, g * self.factor);
        let u = self.momentum.mul_add(u, g);
        let direction = if self.nesterov {
            self.momentum.mul_add(u, g)
        } else {
            u
        };
        [self.step.mul_add(direction, w), u]
    }
}

struct Pass<'a, R> {
    sgd: Sgd,
    factor: f64,
    grad: &'a [R],
    state: [&'a mut [R]; 2],
}

impl<R: SimdReal> Kernel for Pass<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let factors = Factors::new(simd, self.sgd, self.factor);
        update_all(simd, &factors, self.grad, self.state);
    }
}

instantiate! {
    /// One step of SGD: velocity and weights in place, in one pass.
    ///
    /// `g = factor grad + weight_decay w`, `u = momentum u + g`, `w -= lr u` (Nesterov: `w -= lr (g + momentum u)`).
    ///
    /// # Panics
    /// The slices differ in length.
    pub fn sgd_step<R>(
        level: SimdLevel,
        parallel: bool,
        sgd: Sgd,
        factor: f64,
        grad: &[R],
        weight: &mut [R],
        velocity: &mut [R],
    ) {
        same_length("weight", weight.len(), "grad", grad.len());
        same_length("velocity", velocity.len(), "grad", grad.len());
    } then {
        Slices { grad, state: [weight, velocity] }.for_each(parallel, &|grad, state| {
            dispatch(level, Pass { sgd, factor, grad, state });
        });
    }
}
