//! The functions of `SimdLevel::Scalar` that are more than one call of std or libm, in f64.

use std::f64::consts::{FRAC_1_SQRT_2, PI, SQRT_2};

/// What `SQRT_2` lacks.
const SQRT_2_LOW: f64 = -9.667_293_313_452_913e-17;

/// `erfc(-x / sqrt 2) / 2`
///
/// `erfc'(t) / erfc(t)` is near `-2 t` on the left, so what rounding takes from `x / sqrt 2` would cost `x^2` ULP; it is put
/// back to first order.
pub(super) fn normal_cdf(x: f64) -> f64 {
    let t = -x * FRAC_1_SQRT_2;
    let plain = 0.5 * libm::erfc(t);
    if !(t > 0.0 && plain > 0.0) {
        return plain;
    }
    let rest = -(t.mul_add(SQRT_2, x) + t * SQRT_2_LOW) * FRAC_1_SQRT_2;
    plain - (-t * t).exp() / PI.sqrt() * rest
}

/// `x Phi(x)`; `-0` where it is too small for f64.
pub(super) fn gelu(x: f64) -> f64 {
    if x == f64::NEG_INFINITY {
        return -0.0;
    }
    x * normal_cdf(x)
}

/// `a / (1 + e^-x)`, on the left with the exponential in two factors: a denormal one would have lost places before the
/// product is denormal. Zero where `x` is `-inf`, whatever finite number `a` is.
pub(super) fn times_sigmoid(a: f64, x: f64) -> f64 {
    if x < 0.0 {
        let half = (0.5 * x).exp();
        a * half / (1.0 + half * half) * half
    } else {
        a / (1.0 + (-x).exp())
    }
}

/// `x sigmoid(sqrt(8/pi) (x + 0.044715 x^3))`
pub(super) fn gelu_tanh(x: f64) -> f64 {
    if x == f64::NEG_INFINITY {
        return -0.0;
    }
    let slope = (8.0 / PI).sqrt() * (1.0 + super::gelu_tanh::CUBIC * x * x);
    times_sigmoid(x, x * slope)
}
