//! The functions of `SimdLevel::Scalar` that are more than one call of std or libm, in f64.

use std::f64::consts::{FRAC_1_SQRT_2, PI, SQRT_2};

use super::gelu_tanh::CUBIC;

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

/// `Phi(x) + x phi(x)`
pub(super) fn gelu_derivative(x: f64) -> f64 {
    if x.is_infinite() {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    normal_cdf(x) + x * (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}

/// `1 / (1 + e^-z)` times `a`, on the left with the exponential in two factors: a denormal one would have lost places before
/// the product is denormal. Zero where `z` is `-inf`, whatever finite number `a` is.
fn times_sigmoid(a: f64, z: f64) -> f64 {
    if z < 0.0 {
        let half = (0.5 * z).exp();
        a * half / (1.0 + half * half) * half
    } else {
        a / (1.0 + (-z).exp())
    }
}

/// `x sigmoid(x)`
pub(super) fn silu(x: f64) -> f64 {
    if x == f64::NEG_INFINITY {
        return -0.0;
    }
    times_sigmoid(x, x)
}

/// `s (1 + bend (1 - s))` with `s = sigmoid(z)`.
fn slope(z: f64, bend: f64) -> f64 {
    if z.is_infinite() {
        return if z > 0.0 { 1.0 } else { 0.0 };
    }
    let e = (-z.abs()).exp();
    let rest = if z < 0.0 { 1.0 } else { e } / (1.0 + e);
    times_sigmoid(bend.mul_add(rest, 1.0), z)
}

/// The derivative of [`silu`].
pub(super) fn silu_derivative(x: f64) -> f64 {
    slope(x, x)
}

/// `sqrt(8/pi) (1 + cubic x^2)`
fn gelu_tanh_bend(x: f64, cubic: f64) -> f64 {
    (8.0 / PI).sqrt() * (1.0 + cubic * x * x)
}

/// `x sigmoid(sqrt(8/pi) (x + 0.044715 x^3))`
pub(super) fn gelu_tanh(x: f64) -> f64 {
    if x == f64::NEG_INFINITY {
        return -0.0;
    }
    times_sigmoid(x, x * gelu_tanh_bend(x, CUBIC))
}

/// The derivative of [`gelu_tanh`], for arguments whose cube is finite or not.
pub(super) fn gelu_tanh_derivative(x: f64) -> f64 {
    // Beyond, it is zero or one; NaN stays.
    let x = if x.is_nan() {
        x
    } else {
        x.clamp(-100.0, 100.0)
    };
    slope(
        x * gelu_tanh_bend(x, CUBIC),
        x * gelu_tanh_bend(x, 3.0 * CUBIC),
    )
}
