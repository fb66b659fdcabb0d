//! Activation functions and their derivatives, one number at a time.

use std::f64::consts::{FRAC_1_SQRT_2, PI, SQRT_2};

/// `1 / (1 + e^-x)`
#[must_use]
pub fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x < 0.0 {
        e / (1.0 + e)
    } else {
        1.0 / (1.0 + e)
    }
}

/// `x sigmoid(x)`, the exponential in two factors so that it is not denormal before the product is.
#[must_use]
pub fn silu(x: f64) -> f64 {
    let half = (0.5 * x).exp();
    if x == f64::NEG_INFINITY {
        -0.0
    } else if x < 0.0 {
        x * half / (1.0 + half * half) * half
    } else {
        x * sigmoid(x)
    }
}

/// The derivative of [`silu`].
#[must_use]
pub fn silu_derivative(x: f64) -> f64 {
    if x.is_infinite() {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    // `1 - s` without cancellation.
    sigmoid(x) * (1.0 + x * sigmoid(-x))
}

/// `log(1 + e^x)`
#[must_use]
pub fn softplus(x: f64) -> f64 {
    if x.is_nan() {
        x
    } else {
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    }
}

/// `Phi(x) = erfc(-x / sqrt 2) / 2`.
///
/// What rounding takes from `x / sqrt 2` is put back to first order; without it the left tail would be off by `x^2` ULP.
#[must_use]
pub fn normal_cdf(x: f64) -> f64 {
    let t = -x * FRAC_1_SQRT_2;
    let plain = 0.5 * libm::erfc(t);
    if !(t.is_finite() && t > 0.0) {
        return plain;
    }
    let sqrt_2_low = -9.667_293_313_452_913e-17;
    let missing = (t.mul_add(-SQRT_2, -x) - t * sqrt_2_low) * FRAC_1_SQRT_2;
    plain - (-t * t).exp() / PI.sqrt() * missing
}

/// `x Phi(x)`
#[must_use]
pub fn gelu(x: f64) -> f64 {
    if x == f64::NEG_INFINITY {
        -0.0
    } else {
        x * normal_cdf(x)
    }
}

/// The derivative of [`gelu`].
#[must_use]
pub fn gelu_derivative(x: f64) -> f64 {
    if x.is_infinite() {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    normal_cdf(x) + x * (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}

/// `sqrt(8 / pi) (x + 0.044715 x^3)`, twice the argument of the tanh in [`gelu_tanh`].
#[must_use]
pub fn gelu_tanh_argument(x: f64) -> f64 {
    (8.0 / PI).sqrt() * (x + 0.044_715 * x * x * x)
}

/// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`
#[must_use]
pub fn gelu_tanh(x: f64) -> f64 {
    if x == f64::NEG_INFINITY {
        -0.0
    } else {
        x * sigmoid(gelu_tanh_argument(x))
    }
}

/// The derivative of [`gelu_tanh`].
#[must_use]
pub fn gelu_tanh_derivative(x: f64) -> f64 {
    if x.abs() > 1e3 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let z = gelu_tanh_argument(x);
    let slope = (8.0 / PI).sqrt() * (1.0 + 3.0 * 0.044_715 * x * x);
    sigmoid(z) * (1.0 + x * sigmoid(-z) * slope)
}

/// `max(x, 0)`
#[must_use]
pub fn relu(x: f64) -> f64 {
    if x <= 0.0 { 0.0 } else { x }
}

/// `x` where positive, `slope x` elsewhere.
#[must_use]
pub fn leaky_relu(x: f64, slope: f64) -> f64 {
    if x <= 0.0 { slope * x } else { x }
}

/// `x` where positive, `alpha (e^x - 1)` elsewhere.
#[must_use]
pub fn elu(x: f64, alpha: f64) -> f64 {
    if x <= 0.0 { alpha * x.exp_m1() } else { x }
}
