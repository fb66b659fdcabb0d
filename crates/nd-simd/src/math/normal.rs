//! The standard normal distribution, and the GELU which is `x` times its distribution function.
//!
//! `u (1 - Phi(u)) = e^(-u^2/2) H(u)` for `u >= 0`, where `H` rises slowly from `u / 2` to `1 / sqrt(2 pi)`; beyond 0.58 a polynomial in
//! `(u - b) / (u + a)` gives it with the *relative* accuracy that the left tail of the GELU needs. The square `u^2` is kept in
//! two parts, because an error of one ULP in it would be `u^2` ULP of the result. The GELU is `max(x, 0) - u (1 - Phi(u))` with `u = |x|`, on
//! both sides.
//!
//! Nearer to zero that would leave the errors of an exponential and a polynomial in a number near 1/2, and
//! `Phi(x) = 1/2 + x Q(x^2)` serves better.
//!
//! Without fused multiplication (at `SimdLevel::Scalar`) the second part is not available; there the GELU comes from libm's
//! `erfc(-x / sqrt 2)` in f64.

use super::exp::gaussian_parts;
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
    /// `H(u)` as a polynomial in `(u - b) / (u + a)`, from [`NEAR`] on.
    tail: &'static [R],
    /// `(Phi(x) - 1/2) / x` as a polynomial in `x^2`, up to [`NEAR`].
    near: &'static [R],
    /// The same up to [`NEAR_CDF`].
    near_cdf: &'static [R],
}

/// Arguments below this size are near zero.
const NEAR: f64 = 0.58;
/// For the distribution function itself it is farther: beyond, one more quotient is rounded.
const NEAR_CDF: f64 = 0.95;

pub(super) mod single {
    /// Relative error 2^-25.8, the largest one made as small as it gets.
    #[allow(
        clippy::excessive_precision,
        reason = "coefficients are given as computed; the compiler rounds them"
    )]
    pub(in crate::math) const CONSTANTS: super::Constants<f32> = super::Constants {
        highest: 15.0,
        pole: 3.1,
        center: 3.0,
        tail: &[
            0.364_541_849_423_376_3,
            0.111_707_061_863_513_84,
            -0.146_213_409_083_948_75,
            0.100_867_289_129_233_18,
            -0.035_749_656_615_972_49,
            0.000_308_230_873_775_607_6,
            0.004_434_109_104_909_164,
            -0.000_412_715_208_515_517_8,
            -0.000_580_630_545_177_385_6,
        ],
        // Absolute error 2^-26.4.
        near: &[
            0.398_942_269_615_683_24,
            -0.066_489_347_006_647_27,
            0.009_958_075_104_696_215,
            -0.001_112_646_416_854_577_7,
        ],
        // Absolute error 2^-32.6.
        near_cdf: &[
            0.398_942_280_252_597_456_510_5,
            -0.066_490_368_183_688_589_978_96,
            0.009_973_402_767_318_790_789_231,
            -0.001_186_592_839_735_203_804_768,
            0.000_113_837_726_959_190_015_547_8,
            -0.000_007_817_032_863_368_963_058_669,
        ],
    };
}

pub(super) mod double {
    /// Relative error 2^-59.9.
    #[allow(
        clippy::excessive_precision,
        reason = "coefficients are given as computed; the compiler rounds them"
    )]
    pub(in crate::math) const CONSTANTS: super::Constants<f64> = super::Constants {
        highest: 39.0,
        pole: 6.0,
        center: 2.0,
        tail: &[
            0.336_204_002_446_341_212_971_6,
            0.341_003_562_503_901_411_239_6,
            -0.946_217_726_590_741_246_677_8,
            1.813_494_775_934_701_009_062,
            -2.652_844_597_458_426_878_286,
            3.059_165_015_488_615_699_512,
            -2.789_874_791_540_539_771_098,
            1.967_922_239_312_117_578_293,
            -1.003_792_857_444_272_864_731,
            0.294_892_225_642_354_372_532_4,
            0.021_311_561_129_039_083_042_67,
            -0.062_845_939_656_817_712_314_92,
            0.018_164_444_852_386_984_626_18,
            0.007_406_290_745_848_948_453_714,
            -0.005_497_219_824_932_962_793_115,
            -0.000_652_357_142_020_791_860_409_8,
            0.001_308_625_346_967_836_381_112,
            0.000_059_261_475_881_359_851_758_08,
            -0.000_297_213_740_995_137_222_738_4,
            -0.000_095_091_363_698_656_104_444_19,
            0.000_204_950_285_428_078_864_673_2,
            -0.000_091_307_246_251_031_775_670_92,
            0.000_014_427_267_107_217_178_395_47,
        ],
        // Absolute error 2^-64.
        near: &[
            0.398_942_280_401_432_677_895_5,
            -0.066_490_380_066_905_424_926_57,
            0.009_973_557_010_034_119_999_374,
            -0.001_187_328_215_428_617_340_087,
            0.000_115_434_686_822_496_553_705_6,
            -0.000_009_444_649_427_983_834_210_23,
            0.000_000_665_934_761_471_030_718_709,
            -0.000_000_041_124_320_451_813_022_000_72,
            0.000_000_002_109_099_344_577_756_541_561,
        ],
        // Absolute error 2^-65.
        near_cdf: &[
            0.398_942_280_401_432_677_912_9,
            -0.066_490_380_066_905_439_058_62,
            0.009_973_557_010_035_494_731_603,
            -0.001_187_328_215_474_877_137_589,
            0.000_115_434_687_566_611_272_937_9,
            -0.000_009_444_656_002_516_329_246_532,
            0.000_000_665_968_519_490_286_425_705_7,
            -0.000_000_041_224_940_009_696_378_054_64,
            0.000_000_002_271_199_711_171_964_529_146,
            -0.000_000_000_111_053_201_356_568_602_837,
            0.000_000_000_004_165_022_695_402_158_009_336,
        ],
    };
}

/// The upper tail: `u (1 - Phi(u)) = (1 + m) 2^n H(u)` for `u` from [`NEAR`] on, in parts: a caller multiplies `H` by what it needs
/// first, so that nothing is denormal before the result is.
struct Tail<S: Isa, R: SimdReal> {
    /// `u^2`
    square: Lanes<S, R>,
    m: Lanes<S, R>,
    n: Lanes<S, R>,
    h: Lanes<S, R>,
}

impl<S: Isa, R: SimdReal> Tail<S, R> {
    #[inline(always)]
    fn new(u: Lanes<S, R>) -> Self {
        let c = &R::NORMAL;
        let (square, m, n) = gaussian_parts(u);
        let s = (u - u.constant(c.center)) / (u + u.constant(c.pole));
        let h = polynomial(s, c.tail);
        Self { square, m, n, h }
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

/// `erfc(x) = 2 (1 - Phi(sqrt 2 x))` for `x >= 0`, as [`super::erf`] needs it: for `x` of at least 1/2, accurate next to one, not in itself.
#[inline(always)]
pub(super) fn upper_tail_of_erf<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    let u = tail_argument(x * R::from_f64(std::f64::consts::SQRT_2));
    let tail = Tail::new(u);
    tail.times((tail.h + tail.h) / u)
}

/// The distribution function `Phi(x)` of the standard normal law; relative error at most [`GELU_MAX_ULP`].
#[inline(always)]
pub fn normal_cdf<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    if S::IS_SCALAR {
        return x.map(|x| R::from_f64(scalar::normal_cdf(x.to_f64())));
    }
    let u = tail_argument(x);
    let tail = Tail::new(u);
    let upper = tail.times(tail.h / u);
    let far = x
        .less_than(x.constant(R::ZERO))
        .select(upper, x.constant(R::ONE) - upper);
    let slope = polynomial(tail.square, R::NORMAL.near_cdf);
    let near = x.mul_add(slope, x.constant(R::from_f64(0.5)));
    u.less_than(x.constant(R::from_f64(NEAR_CDF)))
        .select(near, far)
}

/// `x Phi(x)`, the exact GELU (Hendrycks and Gimpel 2016); error at most [`GELU_MAX_ULP`]. `gelu(-inf) = -0`.
#[inline(always)]
pub fn gelu<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    if S::IS_SCALAR {
        return x.map(|x| R::from_f64(scalar::gelu(x.to_f64())));
    }
    let u = tail_argument(x);
    let tail = Tail::new(u);
    // Minus zero on the left: the result of -inf has a sign.
    let far = x.constant(-R::ZERO).larger_of(x) - tail.times(tail.h);
    let near = x * x.mul_add(near_slope(tail.square), x.constant(R::from_f64(0.5)));
    u.less_than(x.constant(R::from_f64(NEAR))).select(near, far)
}

/// `Phi(x) + x phi(x)`, the derivative of the GELU; absolute error a few ULP of one.
///
/// With `T(u) = e^(-u^2/2) (H(u) / u - u / sqrt(2 pi))` it is `T(|x|)` on the left and `1 - T(|x|)` on the right; near zero
/// `1/2 + x (Q(x^2) + phi(x))`.
#[inline(always)]
pub fn gelu_derivative<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    if S::IS_SCALAR {
        return x.map(|x| R::from_f64(scalar::gelu_derivative(x.to_f64())));
    }
    let density_at_zero = x.constant(R::from_f64(0.398_942_280_401_432_7));
    let u = tail_argument(x);
    let tail = Tail::new(u);
    let left = tail.times(u.mul_add(-density_at_zero, tail.h / u));
    let far = x
        .less_than(x.constant(R::ZERO))
        .select(left, x.constant(R::ONE) - left);
    let slope = near_slope(tail.square) + tail.times(density_at_zero);
    let near = x.mul_add(slope, x.constant(R::from_f64(0.5)));
    u.less_than(x.constant(R::from_f64(NEAR))).select(near, far)
}
