//! The standard normal distribution, and the GELU which is `x` times its distribution function.
//!
//! `1 - Phi(u) = e^(-u^2/2) G(u)` for `u >= 0`, where `G` falls slowly from 1/2 like `1 / (u sqrt(2 pi))`; `(u + a) G(u)` is nearly flat, and a
//! polynomial in `(u - b) / (u + a)` gives it with the *relative* accuracy that the left tail of the GELU needs. The
//! square `u^2` is kept in two parts, because an error of one ULP in it would be `u^2` ULP of the result.
//!
//! From -1/2 to 1/2 that would leave the errors of a quotient, an exponential and a polynomial in a number near 1/2, and
//! `Phi(x) = 1/2 + x Q(x^2)` serves better.
//!
//! Without fused multiplication (at `SimdLevel::Scalar`) the second part is not available; there the GELU comes from libm's
//! `erfc(-x / sqrt 2)` in f64.

use super::exp::exp_of_sum_parts;
use super::{polynomial, scalar};
use crate::dispatch::Isa;
use crate::lanes::{Lanes, SimdReal};

/// The error bound of [`gelu`] and [`normal_cdf`], in ULP.
pub const GELU_MAX_ULP: f64 = 4.0;

#[derive(Debug)]
#[doc(hidden)]
pub struct Constants<R: 'static> {
    /// `1 - Phi(u)` is zero from here on.
    highest: R,
    /// `a` and `b` of the module's text.
    pole: R,
    center: R,
    /// `(u + a) G(u)` as a polynomial in `(u - b) / (u + a)`.
    flat: &'static [R],
    /// `(Phi(x) - 1/2) / x` as a polynomial in `x^2`, up to [`NEAR`].
    near: &'static [R],
}

/// Arguments below this size are near zero.
const NEAR: f64 = 0.5;

pub(super) mod single {
    /// Relative error 2^-26.
    #[allow(
        clippy::excessive_precision,
        reason = "coefficients are given as computed; the compiler rounds them"
    )]
    pub(in crate::math) const CONSTANTS: super::Constants<f32> = super::Constants {
        highest: 15.0,
        pole: 2.5,
        center: 0.5,
        flat: &[
            1.048_856_502_242_824_949_1,
            -0.968_339_229_055_603_188_06,
            0.221_423_134_083_039_595_2,
            0.170_028_280_156_443_652_23,
            -0.023_036_575_131_822_449_112,
            -0.052_660_729_875_492_228_417,
            -0.015_772_163_710_506_101_027,
            0.005_540_351_240_892_057_986_5,
            0.016_867_665_466_494_815_611,
            0.001_335_994_887_985_007_305_3,
            -0.005_321_791_221_410_187_940_2,
        ],
        // Absolute error 2^-28.
        near: &[
            0.398_942_277_019_329_388_45,
            -0.066_489_946_879_405_475_626,
            0.009_964_863_186_207_030_210_6,
            -0.001_131_200_917_510_478_690_8,
        ],
    };
}

pub(super) mod double {
    /// Relative error 2^-61.9.
    #[allow(
        clippy::excessive_precision,
        reason = "coefficients are given as computed; the compiler rounds them"
    )]
    pub(in crate::math) const CONSTANTS: super::Constants<f64> = super::Constants {
        highest: 39.0,
        pole: 6.0,
        center: 2.0,
        flat: &[
            1.344_816_009_785_364_851_3,
            -2.670_433_779_340_488_913_9,
            4.226_430_431_658_502_528_2,
            -5.425_312_191_236_700_874_4,
            5.664_558_183_876_208_814_9,
            -4.757_014_489_674_351_581_4,
            3.111_544_302_878_620_280_6,
            -1.462_943_951_404_764_993_6,
            0.373_660_423_614_689_684_01,
            0.058_587_634_021_869_438_211,
            -0.090_516_639_219_317_148_883,
            0.020_166_067_280_976_356_112,
            0.012_159_463_547_556_940_815,
            -0.006_851_661_148_841_877_279,
            -0.001_436_312_762_348_370_018_3,
            0.001_690_927_080_333_467_041_7,
            0.000_200_035_672_097_480_856_14,
            -0.000_404_260_835_460_505_869_87,
            -0.000_053_966_444_211_774_828_087,
            0.000_100_883_571_662_911_865_61,
            0.000_027_671_249_085_302_208_559,
            -0.000_038_850_986_327_933_767_433,
            6.997_278_125_324_531_468_9e-7,
            7.668_060_910_959_989_251_8e-6,
            -2.018_582_354_867_633_830_1e-6,
        ],
        // Absolute error 2^-59.
        near: &[
            0.398_942_280_401_432_676_93,
            -0.066_490_380_066_904_930_455,
            0.009_973_557_009_992_462_500_2,
            -0.001_187_328_214_091_771_712,
            0.000_115_434_665_758_686_442_6,
            -9.444_469_242_999_595_048e-6,
            6.650_810_984_309_949_250_2e-7,
            -3.901_886_972_398_970_241_1e-8,
        ],
    };
}

/// The upper tail `1 - Phi(u) = (1 + m) 2^n G(u)` for `u >= 0`, in parts: a caller multiplies `G` by what it needs first, so that
/// nothing is denormal before the result is.
struct Tail<S: Isa, R: SimdReal> {
    m: Lanes<S, R>,
    n: Lanes<S, R>,
    g: Lanes<S, R>,
}

/// `(m, n)` with `e^(-u^2/2) = (1 + m) 2^n`.
#[inline(always)]
fn density_parts<S: Isa, R: SimdReal>(u: Lanes<S, R>) -> (Lanes<S, R>, Lanes<S, R>) {
    let minus_half = R::from_f64(-0.5);
    let square = u * u;
    let rounded_off = u.mul_add(u, -square);
    exp_of_sum_parts(square * minus_half, rounded_off * minus_half)
}

/// `u (1 - Phi(u))` for `u >= 0`, with fewer roundings than the product of the two has: the polynomial's argument is linear in
/// `u / (u + a)`, and the rounding errors of that quotient nearly cancel between the two.
#[inline(always)]
fn weighted_tail<S: Isa, R: SimdReal>(u: Lanes<S, R>) -> Lanes<S, R> {
    let c = &R::NORMAL;
    let (m, n) = density_parts(u);
    let share = u / (u + u.constant(c.pole));
    let ratio = c.center / c.pole;
    let t = share.mul_add(u.constant(R::ONE + ratio), u.constant(-ratio));
    let g = polynomial(t, c.flat) * share;
    Tail { m, n, g }.times(g)
}

impl<S: Isa, R: SimdReal> Tail<S, R> {
    #[inline(always)]
    fn new(u: Lanes<S, R>) -> Self {
        let c = &R::NORMAL;
        let (m, n) = density_parts(u);
        let share = u.constant(R::ONE) / (u + u.constant(c.pole));
        let g = polynomial((u - u.constant(c.center)) * share, c.flat) * share;
        Self { m, n, g }
    }

    /// `factor e^(-u^2/2)`
    #[inline(always)]
    fn times(&self, factor: Lanes<S, R>) -> Lanes<S, R> {
        factor.mul_add(self.m, factor).scale_by_power(self.n)
    }
}

/// `(Phi(x) - 1/2) / x` for small `x` with this square.
#[inline(always)]
fn near_slope<S: Isa, R: SimdReal>(square: Lanes<S, R>) -> Lanes<S, R> {
    polynomial(square, R::NORMAL.near)
}

/// `|x|`, cut off where the tail is zero; NaN stays.
#[inline(always)]
fn tail_argument<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    x.constant(R::NORMAL.highest).smaller_of(x.abs())
}

/// `erfc(x) = 2 (1 - Phi(sqrt 2 x))` for `x >= 0`, as [`super::erf`] needs it: accurate next to one, not in itself.
#[inline(always)]
pub(super) fn upper_tail_of_erf<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    let u = tail_argument(x * R::from_f64(std::f64::consts::SQRT_2));
    let tail = Tail::new(u);
    tail.times(tail.g + tail.g)
}

/// The distribution function `Phi(x)` of the standard normal law; relative error at most [`GELU_MAX_ULP`].
#[inline(always)]
pub fn normal_cdf<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    if S::IS_SCALAR {
        return x.map(|x| R::from_f64(scalar::normal_cdf(x.to_f64())));
    }
    let u = tail_argument(x);
    let tail = Tail::new(u);
    let tail = tail.times(tail.g);
    let far = x
        .less_than(x.constant(R::ZERO))
        .select(tail, x.constant(R::ONE) - tail);
    let near = x.mul_add(near_slope(x * x), x.constant(R::from_f64(0.5)));
    u.less_than(x.constant(R::from_f64(NEAR))).select(near, far)
}

/// `x Phi(x)`, the exact GELU (Hendrycks and Gimpel 2016); error at most [`GELU_MAX_ULP`]. `gelu(-inf) = -0`.
#[inline(always)]
pub fn gelu<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    if S::IS_SCALAR {
        return x.map(|x| R::from_f64(scalar::gelu(x.to_f64())));
    }
    let u = tail_argument(x);
    let scaled = weighted_tail(u);
    let negative = x.less_than(x.constant(R::ZERO));
    let far = negative.select(-scaled, x - scaled);
    let near = x * x.mul_add(near_slope(x * x), x.constant(R::from_f64(0.5)));
    u.less_than(x.constant(R::from_f64(NEAR))).select(near, far)
}

/// `Phi(x) + x phi(x)`, the derivative of the GELU; absolute error a few ULP of one.
///
/// With `T(u) = e^(-u^2/2) (G(u) - u / sqrt(2 pi))` it is `T(|x|)` on the left and `1 - T(|x|)` on the right.
#[inline(always)]
pub fn gelu_derivative<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    if S::IS_SCALAR {
        return x.map(|x| R::from_f64(scalar::gelu_derivative(x.to_f64())));
    }
    let density_at_zero = R::from_f64(0.398_942_280_401_432_7);
    let u = tail_argument(x);
    let tail = Tail::new(u);
    let left = tail.times(u.mul_add(u.constant(-density_at_zero), tail.g));
    x.less_than(x.constant(R::ZERO))
        .select(left, x.constant(R::ONE) - left)
}
