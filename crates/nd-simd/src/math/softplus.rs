//! `log(1 + e^x)`.
//!
//! `max(x, 0) + log1p(e)` with `e = e^-|x|` in `[0, 1]`, and `log1p(e) = 2 atanh(s)` with `s = e / (2 + e) <= 1/3`: an odd series
//! in `s`, so small `e` lose nothing.

use super::exp::exp;
use super::polynomial;
use crate::dispatch::Isa;
use crate::lanes::{Lanes, SimdReal};

/// The error bound of [`softplus`], in ULP.
pub const SOFTPLUS_MAX_ULP: f64 = 3.5;

#[derive(Debug)]
#[doc(hidden)]
pub struct Constants<R: 'static> {
    /// `(atanh(s) - s) / s^3` as a polynomial in `s^2`.
    tail: &'static [R],
}

pub(super) mod single {
    /// Error 2^-26.5, multiplied by `s^2 <= 1/9`.
    #[allow(
        clippy::excessive_precision,
        reason = "coefficients are given as computed; the compiler rounds them"
    )]
    pub(in crate::math) const CONSTANTS: super::Constants<f32> = super::Constants {
        tail: &[
            0.333_333_336_619_875_046_81,
            0.199_998_525_395_043_272_04,
            0.142_962_130_373_341_315_81,
            0.108_527_135_364_192_831_24,
            0.116_151_278_034_481_795_42,
        ],
    };
}

pub(super) mod double {
    /// Error 2^-63, multiplied by `s^2 <= 1/9`.
    #[allow(
        clippy::excessive_precision,
        reason = "coefficients are given as computed; the compiler rounds them"
    )]
    pub(in crate::math) const CONSTANTS: super::Constants<f64> = super::Constants {
        tail: &[
            0.333_333_333_333_333_333_3,
            0.200_000_000_000_000_078_3,
            0.142_857_142_857_109_361_02,
            0.111_111_111_116_713_828_63,
            0.090_909_090_425_861_003_707,
            0.076_923_101_456_085_652_07,
            0.066_665_879_533_040_590_635,
            0.058_840_081_768_306_381_652,
            0.052_400_935_414_234_181_87,
            0.049_717_620_299_912_390_163,
            0.031_640_700_899_868_950_783,
            0.076_207_531_568_459_253_523,
        ],
    };
}

/// `log(1 + e^x)`; error at most [`SOFTPLUS_MAX_ULP`].
#[inline(always)]
pub fn softplus<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    let positive = x.constant(R::ZERO).larger_of(x);
    let e = exp(-x.abs());
    if S::IS_SCALAR {
        return positive + e.map(R::std_ln_1p);
    }
    let share = x.constant(R::ONE) / (e + x.constant(R::ONE + R::ONE));
    let s = e * share;
    let z = s * s;
    let factor = (share * z).mul_add(polynomial(z, R::SOFTPLUS.tail), share);
    // 2 e is exact where e is denormal; 2 s would have been rounded already.
    (e + e).mul_add(factor, positive)
}
