//! The natural logarithm.
//!
//! `x = 2^k m` with `m` in `[sqrt(1/2), sqrt 2)`, `f = m - 1`, `s = f / (2 + f)`; then `ln m = 2 atanh(s)`, arranged as
//! `f - (f^2/2 - s (f^2/2 + R(s^2)))` so that the leading term is exact (the arrangement of fdlibm's `log`, Sun Microsystems 1993).

use super::polynomial;
use crate::dispatch::Isa;
use crate::lanes::{Lanes, SimdReal};

/// The error bound of [`log`], in ULP.
pub const LOG_MAX_ULP: f64 = 1.1;

#[derive(Debug)]
#[doc(hidden)]
pub struct Constants<R: 'static> {
    ln2_high: R,
    ln2_low: R,
    smallest_normal: R,
    /// `2^m`, `m` the number of stored bits of the significand.
    denormal_scale: R,
    /// `(2 atanh(s) - 2 s) / s^3` as a polynomial in `s^2`.
    tail: &'static [R],
}

pub(super) mod single {
    /// The polynomial's relative error is 2^-29.
    #[allow(
        clippy::excessive_precision,
        reason = "coefficients are given as computed; the compiler rounds them"
    )]
    pub(in crate::math) const CONSTANTS: super::Constants<f32> = super::Constants {
        ln2_high: 0.693_138_122_558_593_75,
        ln2_low: 9.058_001_351_559_42e-6,
        smallest_normal: f32::MIN_POSITIVE,
        denormal_scale: 8_388_608.0,
        tail: &[
            0.666_666_665_540_420_124_3,
            0.400_001_222_118_106_493_96,
            0.285_507_786_331_919_654_34,
            0.233_316_144_718_434_992_35,
        ],
    };
}

pub(super) mod double {
    /// The polynomial's relative error is 2^-51, multiplied by less than 0.02.
    #[allow(
        clippy::excessive_precision,
        reason = "coefficients are given as computed; the compiler rounds them"
    )]
    pub(in crate::math) const CONSTANTS: super::Constants<f64> = super::Constants {
        ln2_high: 0.693_147_180_369_123_816_490,
        ln2_low: 1.908_214_929_270_587_70e-10,
        smallest_normal: f64::MIN_POSITIVE,
        denormal_scale: 4_503_599_627_370_496.0,
        tail: &[
            0.666_666_666_666_666_970_77,
            0.399_999_999_998_988_905_14,
            0.285_714_286_262_538_376_06,
            0.222_222_110_893_794_962_14,
            0.181_828_924_325_368_712_01,
            0.153_316_117_220_550_078_85,
            0.146_178_071_534_173_249_64,
        ],
    };
}

/// The natural logarithm; error at most [`LOG_MAX_ULP`]. `log(0) = -inf`, NaN for negative numbers.
#[inline(always)]
pub fn log<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    if S::IS_SCALAR {
        return x.map(R::std_ln);
    }
    let c = &R::LOG;
    let bits = R::MANTISSA_BITS;
    let denormal = x.less_than(x.constant(c.smallest_normal));
    let normal = denormal.select(x * c.denormal_scale, x);

    // Adding the distance from sqrt(1/2) to one carries into the exponent exactly where m would be sqrt 2 or more.
    let root_half = x.constant(R::from_f64(std::f64::consts::FRAC_1_SQRT_2));
    let shifted = normal.bits_add(x.constant(R::ONE).bits_sub(root_half));
    let significand = R::from_bits_u64((1 << bits) - 1);
    let m = shifted.bit_and(x.constant(significand)).bits_add(root_half);
    // 2^bits + biased exponent, as a number, has the exponent in its low bits.
    let magic = R::from_f64((f64::from(bits)).exp2());
    let bias = f64::from(bits).exp2() + if bits == 23 { 127.0 } else { 1023.0 };
    let k =
        shifted.bits_shift_right(bits).bit_or(x.constant(magic)) - x.constant(R::from_f64(bias));
    let k = k - denormal.or_zero(x.constant(R::from_f64(f64::from(bits))));

    let f = m - x.constant(R::ONE);
    let s = f / (f + x.constant(R::ONE + R::ONE));
    let z = s * s;
    let half_square = f * f * R::from_f64(0.5);
    let correction = s * z.mul_add(polynomial(z, c.tail), half_square);
    let low = k.mul_add(x.constant(c.ln2_low), correction);
    let y = k.mul_add(x.constant(c.ln2_high), f - (half_square - low));

    let infinity = x.constant(R::from_f64(f64::INFINITY));
    let zero = x.constant(R::ZERO);
    // Infinity and NaN come back as they are; zero and negative numbers are special.
    let y = x.less_than(infinity).select(y, x);
    let y = zero
        .less_than(x)
        .select(y, x.constant(R::from_f64(f64::NAN)));
    let y = x.equal(zero).select(-infinity, y);
    x.is_nan().select(x, y)
}
