//! The logistic function, a number times its logistic function, and the derivative of that.
//!
//! `sigmoid x = 1 / (1 + e^-x)` is accurate as it stands, but far on the left, where the result is small and at last denormal,
//! `e^-x` overflows. So both terms of the sum are scaled by 2^-64 and the quotient is scaled back, after every other multiplication:
//! results stay accurate until they are denormal and round once when they are.
//!
//! The derivative of the SiLU is a difference; with `e = e^-|x|`, its parts are `1 / (1 + e)` on the right and `e / (1 + e)` on the left, where the
//! power of two inside `e` is applied last.

use nd_core::Real;

use super::exp::{clamp_left_tail, exp_minus_parts, exp_parts};
use super::scalar;
use crate::dispatch::Isa;
use crate::lanes::{LaneMask, Lanes, SimdReal};

/// The error bound of [`sigmoid`] and of [`silu`], in ULP.
pub const SIGMOID_MAX_ULP: f64 = 3.5;

/// `1 / (1 + e^-x)`; error at most [`SIGMOID_MAX_ULP`].
#[inline(always)]
pub fn sigmoid<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    if S::IS_SCALAR {
        return x.map(|x| {
            let e = (-Real::abs(x)).std_exp();
            if x < R::ZERO {
                e / (R::ONE + e)
            } else {
                R::ONE / (R::ONE + e)
            }
        });
    }
    scaled_sigmoid(x) * R::from_f64(SCALE)
}

/// What keeps `e^-x` from overflowing where the logistic function is not zero.
const SCALE: f64 = 1.0 / 18_446_744_073_709_551_616.0;
/// `e^-x` is nothing beside one from here on.
const SATURATES: f64 = 40.0;

/// `sigmoid(x) / SCALE`
#[inline(always)]
fn scaled_sigmoid<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    let x = x
        .constant(R::from_f64(SATURATES))
        .smaller_of(clamp_left_tail(x));
    let scale = x.constant(R::from_f64(SCALE));
    let (m, n) = exp_minus_parts(x);
    x.constant(R::ONE) / (m.mul_add(scale, scale).scale_by_power(n) + scale)
}

/// `x sigmoid(x)`, the SiLU (Elfwing, Uchibe and Doya 2018); error at most [`SIGMOID_MAX_ULP`]. `silu(-inf) = -0`.
#[inline(always)]
pub fn silu<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    if S::IS_SCALAR {
        return x.map(|x| R::from_f64(scalar::silu(x.to_f64())));
    }
    // Beyond, the result is the argument, and the product with what is scaled would overflow.
    let large = x.constant(R::from_f64(1e9)).less_than(x);
    let bounded = clamp_left_tail(x);
    large.select(x, bounded * scaled_sigmoid(bounded) * R::from_f64(SCALE))
}

/// `s + x s (1 - s)` with `s = sigmoid x`, the derivative of [`silu`].
#[inline(always)]
pub fn silu_derivative<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    if S::IS_SCALAR {
        return x.map(|x| R::from_f64(scalar::silu_derivative(x.to_f64())));
    }
    // Beyond 800 it is zero or one, and infinity times zero would be NaN.
    let limit = x.constant(R::from_f64(800.0));
    let x = limit.smaller_of((-limit).larger_of(x));
    let (m, n) = exp_parts(-x.abs());
    let negative = x.less_than(x.constant(R::ZERO));
    sigmoid_slope(negative, (m, n), x)
}

/// `s (1 + bend (1 - s))` with `s = sigmoid(z)`, where `z` is `negative` and `e^-|z| = m 2^n`.
#[inline(always)]
pub(super) fn sigmoid_slope<S: Isa, R: SimdReal>(
    negative: LaneMask<S, R>,
    (m, n): (Lanes<S, R>, Lanes<S, R>),
    bend: Lanes<S, R>,
) -> Lanes<S, R> {
    let one = m.constant(R::ONE);
    let e = m.scale_by_power(n);
    let share = one / (one + e);
    let rest = negative.select(share, e * share);
    let slope = negative.select(m * share, share) * bend.mul_add(rest, one);
    negative.select(slope.scale_by_power(n), slope)
}
