//! The GELU with the hyperbolic tangent, `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) = x sigmoid(z)` with
//! `z = sqrt(8/pi) (x + 0.044715 x^3)`.
//!
//! On the left the result falls like `e^z`, so an error of one ULP in `z` would be `|z|` ULP of the result. So `z` is kept in two
//! parts, with the error of every product and sum that has a size (Dekker 1971; one fused operation each), and the lower
//! part joins the exponential's reduced argument.

use super::exp::exp_of_sum_parts;
use super::scalar;
use super::sigmoid::sigmoid_slope;
use crate::dispatch::Isa;
use crate::lanes::{LaneMask, Lanes, SimdReal};

/// The error bound of [`gelu_tanh`], in ULP.
pub const GELU_TANH_MAX_ULP: f64 = 4.0;

/// Of Hendrycks and Gimpel.
pub(super) const CUBIC: f64 = 0.044_715;
/// `sqrt(8 / pi)`
const SQRT_8_OVER_PI: f64 = 1.595_769_121_605_730_7;

/// `(c, d)` with `c + d` closer to a constant than a number of type `R` is.
#[inline(always)]
fn two_parts<R: SimdReal>(c: f64) -> (R, R) {
    let high = R::from_f64(c);
    (high, R::from_f64(c - high.to_f64()))
}

/// The argument of the sigmoid for one vector.
struct Argument<S: Isa, R: SimdReal> {
    /// `|x|`, cut off where the result is zero or the argument; squares of larger numbers are infinite.
    size: Lanes<S, R>,
    negative: LaneMask<S, R>,
    /// `e^-|z| = (1 + m) 2^n`
    m: Lanes<S, R>,
    n: Lanes<S, R>,
}

impl<S: Isa, R: SimdReal> Argument<S, R> {
    #[inline(always)]
    fn new(x: Lanes<S, R>) -> Self {
        let (a, a_low) = two_parts::<R>(SQRT_8_OVER_PI);
        let (b, b_low) = two_parts::<R>(SQRT_8_OVER_PI * CUBIC);
        let (a, b) = (x.constant(a), x.constant(b));
        let size = x.constant(R::from_f64(40.0)).smaller_of(x.abs());

        // a + b x^2
        let square = size * size;
        let square_low = size.mul_add(size, -square);
        let bend = square * b;
        let bend_low = square.mul_add(b, -bend) + square_low.mul_add(b, square * b_low);
        let slope = a + bend;
        let part = slope - a;
        let slope_low = (a - (slope - part)) + (bend - part) + (bend_low + a_low);
        // times -|x|
        let z = -(slope * size);
        let z_low = -slope_low.mul_add(size, slope.mul_add(size, z));
        let (m, n) = exp_of_sum_parts(z, z_low);
        let negative = x.less_than(x.constant(R::ZERO));
        Self {
            size,
            negative,
            m,
            n,
        }
    }
}

/// The tanh form of the GELU; error at most [`GELU_TANH_MAX_ULP`]. `gelu_tanh(-inf) = -0`.
#[inline(always)]
pub fn gelu_tanh<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    if S::IS_SCALAR {
        return x.map(|x| R::from_f64(scalar::gelu_tanh(x.to_f64())));
    }
    let Argument {
        size,
        negative,
        m,
        n,
    } = Argument::new(x);
    let one = x.constant(R::ONE);
    let e = (m + one).scale_by_power(n);
    let left = -size;
    let share = negative.select(left.mul_add(m, left), x) / (one + e);
    negative.select(share.scale_by_power(n), share)
}

/// The derivative of [`gelu_tanh`], `s (1 + x (1 - s) z'(x))` with `s = sigmoid(z)`.
#[inline(always)]
pub fn gelu_tanh_derivative<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    if S::IS_SCALAR {
        return x.map(|x| R::from_f64(scalar::gelu_tanh_derivative(x.to_f64())));
    }
    let Argument {
        size,
        negative,
        m,
        n,
    } = Argument::new(x);
    let z_slope = (size * size).mul_add(
        x.constant(R::from_f64(SQRT_8_OVER_PI * 3.0 * CUBIC)),
        x.constant(R::from_f64(SQRT_8_OVER_PI)),
    );
    let bend = size.copy_sign(x) * z_slope;
    sigmoid_slope(negative, (m + x.constant(R::ONE), n), bend)
}
