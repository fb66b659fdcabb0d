//! The error function.
//!
//! `erf x = x + x E(x^2)` up to one, and `1 - 2 (1 - Phi(sqrt 2 |x|))` beyond, where one minus a small number loses nothing.

use super::normal::upper_tail_of_erf;
use super::polynomial;
use crate::dispatch::Isa;
use crate::lanes::{Lanes, SimdReal};

/// The error bound of [`erf`], in ULP.
pub const ERF_MAX_ULP: f64 = 2.0;

#[derive(Debug)]
#[doc(hidden)]
pub struct Constants<R: 'static> {
    /// `erf(x) / x - 1` as a polynomial in `x^2`, up to one.
    near_zero: &'static [R],
}

pub(super) mod single {
    /// Absolute error 2^-34.
    #[allow(
        clippy::excessive_precision,
        reason = "coefficients are given as computed; the compiler rounds them"
    )]
    pub(in crate::math) const CONSTANTS: super::Constants<f32> = super::Constants {
        near_zero: &[
            0.128_379_167_061_543_415_24,
            -0.376_126_384_680_287_103_98,
            0.112_837_824_952_368_445_4,
            -0.026_865_430_727_670_242_894,
            0.005_221_031_807_858_022_797_3,
            -0.000_848_408_040_553_510_629_44,
            0.000_112_659_590_256_066_089_73,
            -9.667_044_571_486_996_415_2e-6,
        ],
    };
}

pub(super) mod double {
    /// Absolute error 2^-68.
    #[allow(
        clippy::excessive_precision,
        reason = "coefficients are given as computed; the compiler rounds them"
    )]
    pub(in crate::math) const CONSTANTS: super::Constants<f64> = super::Constants {
        near_zero: &[
            0.128_379_167_095_512_573_89,
            -0.376_126_389_031_837_523_79,
            0.112_837_916_709_551_202_36,
            -0.026_866_170_645_129_840_806,
            0.005_223_977_625_423_298_308_7,
            -0.000_854_832_702_193_482_959_55,
            0.000_120_553_329_028_887_354_1,
            -0.000_014_925_647_567_519_332_125,
            1.646_204_544_154_146_833_5e-6,
            -1.636_464_215_816_761_530_2e-7,
            1.479_240_120_940_481_300_2e-8,
            -1.216_456_005_728_345_008_1e-9,
            8.709_045_129_053_106_689_6e-11,
            -4.230_945_824_295_378_317_3e-12,
        ],
    };
}

/// The error function; error at most [`ERF_MAX_ULP`].
#[inline(always)]
pub fn erf<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    if S::IS_SCALAR {
        return x.map(R::std_erf);
    }
    let size = x.abs();
    let near = x.mul_add(polynomial(x * x, R::ERF.near_zero), x);
    let far = (x.constant(R::ONE) - upper_tail_of_erf(size)).bit_or(x.sign_bit());
    size.less_than(x.constant(R::ONE)).select(near, far)
}
