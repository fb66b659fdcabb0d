//! Elementary functions: one vector in, one vector out, each with a named bound on its error.
//!
//! The simple version of each is the function of std or libm, and that is what runs at [`crate::SimdLevel::Scalar`]; where
//! their composition would lose places in the tail (GELU, SiLU), f32 goes through f64 there. The vector
//! versions reduce the argument to a small interval and evaluate a polynomial there. All polynomials are Chebyshev
//! approximations (within a few percent of minimax) computed for this crate in 45-digit arithmetic; the comment beside each says
//! of what, where, and how large its error is.
//!
//! The tricks: functions whose textbook form cancels or overflows are rearranged so that their *relative* error stays
//! bounded out into the tails, where gradients live: `1 + tanh`, `1 + erf` and `log(1 + exp)` never appear.
//!
//! Bounds are in units in the last place (ULP) of `f32` over all 2^32 arguments, and of `f64` over a dense sample; each is a
//! constant beside its function, and the tests hold it.
//!
//! Known weakness: no function here is correctly rounded, and results differ in the last places between levels.

mod erf;
mod exp;
mod gelu_tanh;
mod log;
mod normal;
mod scalar;
mod sigmoid;
mod softplus;
mod tanh;

pub use erf::{ERF_MAX_ULP, erf};
pub use exp::{EXP_MAX_ULP, exp, exp_or_zero, expm1_nonpositive};
pub use gelu_tanh::{GELU_TANH_MAX_ULP, gelu_tanh, gelu_tanh_derivative};
pub use log::{LOG_MAX_ULP, log};
pub use normal::{GELU_MAX_ULP, gelu, gelu_derivative, normal_cdf};
pub use sigmoid::{SIGMOID_MAX_ULP, sigmoid, silu, silu_derivative};
pub use softplus::{SOFTPLUS_MAX_ULP, softplus};
pub use tanh::{TANH_MAX_ULP, tanh};

use crate::dispatch::Isa;
use crate::lanes::{Lanes, SimdReal};

/// What the functions of this module need to know about an element type: tables of constants, and std's scalar functions.
pub trait Transcendental: Sized + 'static {
    #[doc(hidden)]
    const EXP: exp::Constants<Self>;
    #[doc(hidden)]
    const LOG: log::Constants<Self>;
    #[doc(hidden)]
    const SOFTPLUS: softplus::Constants<Self>;
    #[doc(hidden)]
    const NORMAL: normal::Constants<Self>;
    #[doc(hidden)]
    const ERF: erf::Constants<Self>;
    #[doc(hidden)]
    const TANH_SATURATES: Self;

    /// `e^x`, from std.
    fn std_exp(self) -> Self;
    /// `e^x - 1`, from std.
    fn std_exp_m1(self) -> Self;
    /// The natural logarithm, from std.
    fn std_ln(self) -> Self;
    /// `ln(1 + x)`, from std.
    fn std_ln_1p(self) -> Self;
    /// The hyperbolic tangent, from std.
    fn std_tanh(self) -> Self;
    /// The error function, from libm.
    fn std_erf(self) -> Self;
}

macro_rules! transcendental {
    ($R:ident, $table:ident, $erf:path, $tanh_saturates:expr) => {
        impl Transcendental for $R {
            const EXP: exp::Constants<Self> = exp::$table::CONSTANTS;
            const LOG: log::Constants<Self> = log::$table::CONSTANTS;
            const SOFTPLUS: softplus::Constants<Self> = softplus::$table::CONSTANTS;
            const NORMAL: normal::Constants<Self> = normal::$table::CONSTANTS;
            const ERF: erf::Constants<Self> = erf::$table::CONSTANTS;
            const TANH_SATURATES: Self = $tanh_saturates;

            #[inline(always)]
            fn std_exp(self) -> Self {
                self.exp()
            }
            #[inline(always)]
            fn std_exp_m1(self) -> Self {
                self.exp_m1()
            }
            #[inline(always)]
            fn std_ln(self) -> Self {
                self.ln()
            }
            #[inline(always)]
            fn std_ln_1p(self) -> Self {
                self.ln_1p()
            }
            #[inline(always)]
            fn std_tanh(self) -> Self {
                self.tanh()
            }
            #[inline(always)]
            fn std_erf(self) -> Self {
                $erf(self)
            }
        }
    };
}

// 1 - tanh(x) is below half an ULP of one from 9.02 (f32) and 19.1 (f64) on.
transcendental!(f32, single, libm::erff, 10.0);
transcendental!(f64, double, libm::erf, 20.0);

/// `c[0] + c[1] x + ...` by Horner's rule.
#[inline(always)]
pub(crate) fn polynomial<S: Isa, R: SimdReal>(
    x: Lanes<S, R>,
    coefficients: &'static [R],
) -> Lanes<S, R> {
    let (&last, rest) = match coefficients.split_last() {
        Some(split) => split,
        None => return x.constant(R::ZERO),
    };
    let mut sum = x.constant(last);
    for &c in rest.iter().rev() {
        sum = sum.mul_add(x, x.constant(c));
    }
    sum
}

#[cfg(test)]
mod tests;
