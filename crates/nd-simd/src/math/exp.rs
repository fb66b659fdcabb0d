//! The exponential function.
//!
//! `x = n ln 2 + r` with whole `n` and `|r| <= ln 2 / 2`; `e^x = 2^n (1 + r + r^2 P(r))`. The multiple of `ln 2` is
//! subtracted in two parts (Cody and Waite 1980), and the power of two is applied in a way that rounds once even where the
//! result is denormal. Arguments are clamped to where the result is zero or infinite, so infinities need no case.

use super::polynomial;
use crate::dispatch::Isa;
use crate::lanes::{Lanes, SimdReal};

/// The error bound of [`exp`], in ULP.
pub const EXP_MAX_ULP: f64 = 1.1;

#[derive(Debug)]
#[doc(hidden)]
pub struct Constants<R: 'static> {
    log2_e: R,
    ln2_high: R,
    ln2_low: R,
    /// `e^x` rounds to zero below and is infinite above.
    lowest: R,
    highest: R,
    /// `e^x` is a normal number from here on.
    normal_lowest: R,
    /// `x e^x` rounds to zero below.
    parts_lowest: R,
    /// `e^x - 1` rounds to -1 below; `2^n` is still a normal number.
    expm1_lowest: R,
    /// `(e^r - 1 - r) / r^2`
    tail: &'static [R],
    /// `(e^(-r/2) - 1) / r`, from the same polynomial.
    halved: &'static [R],
}

pub(super) mod single {
    /// `ln2_high` has 15 trailing zero bits; the polynomial's relative error is 2^-22.8, which is 2^-28 of `e^r`.
    #[allow(
        clippy::excessive_precision,
        reason = "coefficients are given as computed; the compiler rounds them"
    )]
    pub(in crate::math) const CONSTANTS: super::Constants<f32> = super::Constants {
        log2_e: std::f32::consts::LOG2_E,
        ln2_high: 0.693_145_751_953_125,
        ln2_low: 1.428_606_820_309_417_2e-6,
        lowest: -104.0,
        highest: 89.0,
        normal_lowest: -87.3,
        parts_lowest: -120.0,
        expm1_lowest: -80.0,
        tail: &TAIL,
        halved: &[
            -0.5,
            TAIL[0] / 4.0,
            -TAIL[1] / 8.0,
            TAIL[2] / 16.0,
            -TAIL[3] / 32.0,
            TAIL[4] / 64.0,
        ],
    };
    #[allow(
        clippy::excessive_precision,
        reason = "coefficients are given as computed; the compiler rounds them"
    )]
    const TAIL: [f32; 5] = [
        0.5,
        0.166_665_769_896_987_756_83,
        0.041_666_554_617_204_574_203,
        0.008_363_179_052_722_577_370_4,
        0.001_392_618_358_771_349_454_2,
    ];
}

pub(super) mod double {
    /// `ln2_high` has 20 trailing zero bits; the polynomial's relative error is 2^-52, which is 2^-57 of `e^r`.
    #[allow(
        clippy::excessive_precision,
        reason = "coefficients are given as computed; the compiler rounds them"
    )]
    pub(in crate::math) const CONSTANTS: super::Constants<f64> = super::Constants {
        log2_e: std::f64::consts::LOG2_E,
        ln2_high: LN2_HIGH,
        ln2_low: 1.908_214_929_270_587_70e-10,
        lowest: -746.0,
        highest: 710.0,
        normal_lowest: -708.3,
        parts_lowest: -770.0,
        expm1_lowest: -700.0,
        tail: &TAIL,
        halved: &[
            -0.5,
            TAIL[0] / 4.0,
            -TAIL[1] / 8.0,
            TAIL[2] / 16.0,
            -TAIL[3] / 32.0,
            TAIL[4] / 64.0,
            -TAIL[5] / 128.0,
            TAIL[6] / 256.0,
            -TAIL[7] / 512.0,
            TAIL[8] / 1024.0,
            -TAIL[9] / 2048.0,
        ],
    };
    #[allow(
        clippy::excessive_precision,
        reason = "coefficients are given as computed; the compiler rounds them"
    )]
    const TAIL: [f64; 10] = [
        0.500_000_000_000_000_102_21,
        0.166_666_666_666_666_674_53,
        0.041_666_666_666_624_127_873,
        0.008_333_333_333_330_061_832_5,
        0.001_388_888_891_721_371_690_1,
        1.984_126_986_305_361_687_8e-4,
        2.480_152_129_595_437_513_1e-5,
        2.755_726_845_999_706_477_2e-6,
        2.762_008_844_540_974_816_1e-7,
        2.510_038_549_551_031_907_8e-8,
    ];
    /// `ln 2` with its low 20 bits cleared.
    const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
}

/// `(n, e^r - 1)` for `x + low = n ln 2 + r`; `low` is a correction below the last place of `x`.
///
/// Without a correction it is minus zero, whose addition changes nothing, as the compiler knows; plus zero would turn `-0` into `0`.
#[inline(always)]
fn reduce<S: Isa, R: SimdReal>(x: Lanes<S, R>, low: Lanes<S, R>) -> (Lanes<S, R>, Lanes<S, R>) {
    let c = &R::EXP;
    let n = (x * c.log2_e).round();
    let r = n.mul_add(x.constant(-c.ln2_high), x);
    let r = n.mul_add(x.constant(-c.ln2_low), r) + low;
    (n, (r * r).mul_add(polynomial(r, c.tail), r))
}

#[inline(always)]
fn clamp<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    // The second operand comes back when either is NaN.
    let above = x.constant(R::EXP.lowest).larger_of(x);
    x.constant(R::EXP.highest).smaller_of(above)
}

/// `e^x`; error at most [`EXP_MAX_ULP`], denormal results included.
#[inline(always)]
pub fn exp<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    if S::IS_SCALAR {
        return x.map(R::std_exp);
    }
    let (n, e) = reduce(clamp(x), x.constant(-R::ZERO));
    (e + R::ONE).scale_by_power(n)
}

/// `e^x` for `x` of at most 80, and zero where that would hardly be a normal number (below -87.3 in f32, -708.3 in f64): for
/// softmaxes, whose hidden scores are `-inf`. Error at most [`EXP_MAX_ULP`] elsewhere; NaN stays.
///
/// Processors that handle denormal results in microcode take a hundred cycles for each vector that [`exp`] gives one or
/// rounds to zero; here there is none.
#[inline(always)]
pub fn exp_or_zero<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    let lowest = x.constant(R::EXP.normal_lowest);
    let y = if S::IS_SCALAR {
        x.map(R::std_exp)
    } else {
        // The second operand comes back when it is NaN.
        let (n, e) = reduce(lowest.larger_of(x), x.constant(-R::ZERO));
        (e + R::ONE).scale_by_power(n)
    };
    x.less_than(lowest).select(x.constant(R::ZERO), y)
}

/// `(m, n)` with `e^(x + low) = (1 + m) 2^n` for `x <= 0` and a `low` below the last place of `x`: what a product rounded
/// away, say.
#[inline(always)]
pub(super) fn exp_of_sum_parts<S: Isa, R: SimdReal>(
    x: Lanes<S, R>,
    low: Lanes<S, R>,
) -> (Lanes<S, R>, Lanes<S, R>) {
    let (n, e) = reduce(clamp_left_tail(x), low);
    (e, n)
}

/// `(m, n)` with `e^-x = (1 + m) 2^n`, for `x` of at most 800 in size.
#[inline(always)]
pub(super) fn exp_minus_parts<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> (Lanes<S, R>, Lanes<S, R>) {
    let (n, e) = reduce(-x, x.constant(-R::ZERO));
    (e, n)
}

/// `(u^2, m, n)` with `e^(-u^2/2) = (1 + m) 2^n` for `u` of at most 40 in size.
///
/// The square is kept in two parts, because an error of one ULP in it would be `u^2` ULP of the result. With
/// `u^2 = r - 2 n ln 2` nothing has to be halved on the way to `e^(-r/2)`.
#[inline(always)]
pub(super) fn gaussian_parts<S: Isa, R: SimdReal>(
    u: Lanes<S, R>,
) -> (Lanes<S, R>, Lanes<S, R>, Lanes<S, R>) {
    let c = &R::EXP;
    let two = R::ONE + R::ONE;
    let square = u * u;
    let rounded_off = u.mul_add(u, -square);
    let n = (square * (c.log2_e * R::from_f64(-0.5))).round();
    let r = n.mul_add(u.constant(two * c.ln2_high), square);
    let r = r + n.mul_add(u.constant(two * c.ln2_low), rounded_off);
    (square, r * polynomial(r, c.halved), n)
}

/// The smallest argument of [`exp_parts`] that is not clamped: `x e^x` is zero there; NaN stays.
#[inline(always)]
pub(super) fn clamp_left_tail<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    x.constant(R::EXP.parts_lowest).larger_of(x)
}

/// `(m, n)` with `e^x = m 2^n` and `m` near one, for `x <= 0`, so that a caller can multiply before the result becomes
/// denormal.
#[inline(always)]
pub(super) fn exp_parts<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> (Lanes<S, R>, Lanes<S, R>) {
    let (n, e) = reduce(clamp_left_tail(x), x.constant(-R::ZERO));
    (e + R::ONE, n)
}

/// `e^x - 1` without cancellation, for `x` of at most 80 in size.
#[inline(always)]
pub(super) fn expm1_small<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    let (n, e) = reduce(x, x.constant(-R::ZERO));
    let power = n.power_of_two();
    e.mul_add(power, power - x.constant(R::ONE))
}

/// `e^x - 1` for `x <= 0` (positive arguments are taken as zero); error at most 3 ULP.
#[inline(always)]
pub fn expm1_nonpositive<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    let x = x.constant(R::ZERO).smaller_of(x);
    if S::IS_SCALAR {
        return x.map(R::std_exp_m1);
    }
    expm1_small(x.constant(R::EXP.expm1_lowest).larger_of(x))
}
