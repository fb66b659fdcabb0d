//! The logistic function, and a number times the logistic function of another.
//!
//! With `e = e^-|x|`, `sigmoid x` is `1 / (1 + e)` on the right and `e / (1 + e)` on the left. On the left the power of two
//! inside `e` is applied last, after every multiplication, so that results stay accurate until they are denormal and
//! round once when they are.

use nd_core::Real;

use super::exp::exp_parts;
use crate::dispatch::Isa;
use crate::lanes::{Lanes, SimdReal};

/// The error bound of [`sigmoid`] and of [`times_sigmoid`] (given exact arguments), in ULP.
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
    let one = x.constant(R::ONE);
    let (m, n) = exp_parts(-x.abs());
    let negative = x.less_than(x.constant(R::ZERO));
    let e = m.scale_by_power(n);
    let share = negative.select(m, one) / (one + e);
    negative.select(share.scale_by_power(n), share)
}

/// `a sigmoid(x)` where `|a|` is at most about `|x|` on the left, so that the limit there is zero.
///
/// `a = x` is the SiLU. `a` must be finite where `x` is very negative:
/// `-inf` times zero would be NaN.
#[inline(always)]
pub fn times_sigmoid<S: Isa, R: SimdReal>(a: Lanes<S, R>, x: Lanes<S, R>) -> Lanes<S, R> {
    if S::IS_SCALAR {
        // One lane each.
        let x = x.as_slice()[0];
        return a.map(|a| R::std_times_sigmoid(a, x));
    }
    let one = x.constant(R::ONE);
    let (m, n) = exp_parts(-x.abs());
    let negative = x.less_than(x.constant(R::ZERO));
    let e = m.scale_by_power(n);
    let share = negative.select(a * m, a) / (one + e);
    negative.select(share.scale_by_power(n), share)
}
