//! The losses of one vector of targets and predictions, with their derivatives.
//!
//! A loss comes as a product of two factors, because a sum takes it in one multiply-add then.

use crate::dispatch::Isa;
use crate::lanes::{Lanes, SimdReal};

/// The losses of a vector, `factor * rest`, and their derivatives in the prediction.
#[derive(Clone, Copy)]
pub(in crate::losses) struct Terms<S: Isa, R: SimdReal> {
    pub(in crate::losses) factor: Lanes<S, R>,
    pub(in crate::losses) rest: Lanes<S, R>,
    pub(in crate::losses) slope: Lanes<S, R>,
}

/// A loss as a function of vectors.
pub(super) trait LossFunction: Copy {
    fn apply<S: Isa, R: SimdReal>(self, y: Lanes<S, R>, y_hat: Lanes<S, R>) -> Terms<S, R>;
}

/// The sign of `x`, zero and NaN as they are.
#[inline(always)]
fn sign<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    let zero = x.constant(R::ZERO);
    let signed = x.constant(R::ONE).copy_sign(x);
    (x.less_than(zero) | zero.less_than(x)).select(signed, x)
}

#[derive(Clone, Copy)]
pub(super) struct Absolute;

impl LossFunction for Absolute {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, y: Lanes<S, R>, y_hat: Lanes<S, R>) -> Terms<S, R> {
        let e = y_hat - y;
        Terms {
            factor: e.abs(),
            rest: e.constant(R::ONE),
            slope: sign(e),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Squared;

impl LossFunction for Squared {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, y: Lanes<S, R>, y_hat: Lanes<S, R>) -> Terms<S, R> {
        let e = y_hat - y;
        Terms {
            factor: e,
            rest: e,
            slope: e + e,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Huber {
    pub(super) delta: f64,
}

/// `|e|` up to `delta`: the loss is `clipped (|e| - clipped/2)`, its derivative `clipped` with the sign of `e`.
#[inline(always)]
fn huber<S: Isa, R: SimdReal>(e: Lanes<S, R>, delta: f64) -> Terms<S, R> {
    let size = e.abs();
    let clipped = e.constant(R::from_f64(delta)).smaller_of(size);
    Terms {
        factor: clipped,
        rest: clipped.mul_add(e.constant(R::from_f64(-0.5)), size),
        slope: clipped.copy_sign(e),
    }
}

impl LossFunction for Huber {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, y: Lanes<S, R>, y_hat: Lanes<S, R>) -> Terms<S, R> {
        huber(y_hat - y, self.delta)
    }
}

/// The pinball loss of an error for a quantile that may differ from lane to lane. At zero its slope is the mean of both sides, as in PyTorch.
#[inline(always)]
pub(in crate::losses) fn pinball<S: Isa, R: SimdReal>(
    e: Lanes<S, R>,
    q: Lanes<S, R>,
) -> Terms<S, R> {
    let zero = e.constant(R::ZERO);
    let above = e.constant(R::ONE) - q;
    let side = e.less_than(zero).select(-q, above);
    let slope = e.equal(zero).select(e.constant(R::from_f64(0.5)) - q, side);
    Terms {
        // At zero any finite slope gives zero, and NaN times it is NaN.
        factor: e,
        rest: side,
        slope: e.is_nan().select(e, slope),
    }
}

#[derive(Clone, Copy)]
pub(super) struct Quantile {
    pub(super) q: f64,
}

impl LossFunction for Quantile {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, y: Lanes<S, R>, y_hat: Lanes<S, R>) -> Terms<S, R> {
        pinball(y_hat - y, y.constant(R::from_f64(self.q)))
    }
}

#[derive(Clone, Copy)]
pub(super) struct HuberQuantile {
    pub(super) q: f64,
    pub(super) delta: f64,
}

impl LossFunction for HuberQuantile {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, y: Lanes<S, R>, y_hat: Lanes<S, R>) -> Terms<S, R> {
        let e = y_hat - y;
        let terms = huber(e, self.delta);
        let below = e.constant(R::from_f64(self.q));
        let above = e.constant(R::from_f64(1.0 - self.q));
        let weight = e.less_than(e.constant(R::ZERO)).select(below, above);
        Terms {
            factor: terms.factor * weight,
            rest: terms.rest,
            slope: terms.slope * weight,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Smape;

impl LossFunction for Smape {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, y: Lanes<S, R>, y_hat: Lanes<S, R>) -> Terms<S, R> {
        let e = y_hat - y;
        let sum = y.abs() + y_hat.abs();
        let two = y.constant(R::ONE + R::ONE);
        let ratio = e.abs() / sum;
        // d/dy_hat of |e| / sum is (sign(e) - ratio sign(y_hat)) / sum.
        let slope = (sign(e) - ratio * sign(y_hat)) / sum;
        let something = !sum.equal(y.constant(R::ZERO));
        Terms {
            factor: something.or_zero(ratio),
            rest: two,
            slope: something.or_zero(two * slope),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Mape;

impl LossFunction for Mape {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, y: Lanes<S, R>, y_hat: Lanes<S, R>) -> Terms<S, R> {
        let e = y_hat - y;
        let size = y.abs();
        let zero = y.constant(R::ZERO);
        // Only a finite prediction may be forgotten: 0 y_hat is NaN otherwise.
        let forgotten = y_hat * R::ZERO;
        let nothing = size.equal(zero);
        Terms {
            factor: nothing.select(forgotten, e.abs() / size),
            rest: y.constant(R::ONE),
            slope: nothing.select(forgotten, sign(e) / size),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Tukey {
    pub(super) c: f64,
}

impl LossFunction for Tukey {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, y: Lanes<S, R>, y_hat: Lanes<S, R>) -> Terms<S, R> {
        let e = y_hat - y;
        let one = y.constant(R::ONE);
        let t = e * R::from_f64(1.0 / self.c);
        // (e/c)^2 up to one; NaN is the second operand and stays.
        let square = one.smaller_of(t * t);
        let rest = one - square;
        let cube = rest * rest * rest;
        let inside = (t * t).less_than(one);
        let slope = e * rest * rest;
        Terms {
            factor: one - cube,
            rest: one * R::from_f64(self.c * self.c / 6.0),
            slope: (inside | e.is_nan()).or_zero(slope),
        }
    }
}
