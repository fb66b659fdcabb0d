//! Between f32 and the sixteen-bit storage formats, slice by slice.
//!
//! Rounding is to nearest, ties to even; infinities stay, what is too large for f16 becomes infinite, NaN stays NaN.
//! bf16 is the upper half of an f32, so its conversion is integer arithmetic that the compiler vectorises for each instruction set; processors that
//! multiply bf16 also round to it, denormal numbers excepted. f16 is
//! converted by the processor, sixteen numbers an instruction with AVX-512 and eight with AVX2; elsewhere by the `half` crate, which uses the
//! processor's instructions where it has them (with a call for every eight numbers, which took twice as long as the conversion).

mod array;
#[cfg(target_arch = "x86_64")]
mod f16_vectors;

pub use array::{from_bf16, from_f16, to_bf16, to_f16};

use half::slice::HalfFloatSliceExt;
use nd_core::{bf16, f16};

#[cfg(target_arch = "x86_64")]
use self::f16_vectors::{Eight, Sixteen};
use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, same_length};

/// The bits of the nearest bf16. Without branches, so that loops over it become vector code.
#[inline(always)]
pub(crate) fn narrow_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    // A NaN keeps its sign and upper payload and becomes quiet; rounding could carry it into infinity.
    let quiet = bits >> 16 | 0x40;
    let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
    (if is_nan { quiet } else { rounded }) as u16
}

/// The bits of the nearest f16. Without branches, as above.
#[inline(always)]
pub(crate) fn narrow_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let (sign, size) = (bits >> 16 & 0x8000, bits & 0x7fff_ffff);
    // Normal: round away 13 bits of the fraction, and move the exponent's bias from 127 to 15.
    let normal = size
        .wrapping_add(0xfff + (size >> 13 & 1))
        .wrapping_sub(112 << 23)
        >> 13;
    // Below 2^-14: adding one half leaves the multiple of 2^-24 in the low bits, rounded by the addition itself.
    let denormal = (f32::from_bits(size) + 0.5)
        .to_bits()
        .wrapping_sub(0.5f32.to_bits());
    let finite = if size < 113 << 23 { denormal } else { normal };
    // From 65520 on, the nearest is infinity.
    let infinite = if size > 0x7f80_0000 {
        0x7e00 | size >> 13 & 0x3ff
    } else {
        0x7c00
    };
    (sign
        | if size >= 0x477f_f000 {
            infinite
        } else {
            finite
        }) as u16
}

/// The number that an f16 stands for; exact. Without branches, as above.
#[inline(always)]
pub(crate) fn widen_f16(bits: u16) -> f32 {
    let bits = u32::from(bits);
    let (sign, size) = ((bits & 0x8000) << 16, (bits & 0x7fff) << 13);
    // The product puts the exponent right, for denormals too.
    let finite = (f32::from_bits(size) * f32::from_bits((127 + 112) << 23)).to_bits();
    // A NaN becomes quiet, as in every conversion.
    let quiet = if size & 0x007f_ffff == 0 {
        0
    } else {
        0x0040_0000
    };
    let infinite = size | 0x7f80_0000 | quiet;
    f32::from_bits(
        sign | if size >= 0x0f80_0000 {
            infinite
        } else {
            finite
        },
    )
}

struct ToBf16<'a>(&'a [f32], &'a mut [bf16]);

impl Kernel for ToBf16<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, _simd: S) {
        for (&x, y) in self.0.iter().zip(self.1) {
            *y = bf16::from_bits(narrow_bf16(x));
        }
    }
}

struct RoundToBf16<'a>(&'a mut [f32]);

impl Kernel for RoundToBf16<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, _simd: S) {
        for x in self.0 {
            *x = f32::from_bits(u32::from(narrow_bf16(*x)) << 16);
        }
    }
}

struct FromBf16<'a>(&'a [bf16], &'a mut [f32]);

impl Kernel for FromBf16<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, _simd: S) {
        for (&x, y) in self.0.iter().zip(self.1) {
            *y = f32::from_bits(u32::from(x.to_bits()) << 16);
        }
    }
}

/// bf16 with the processor's own rounding: sixteen numbers an instruction, which takes denormal numbers for zeros.
#[cfg(target_arch = "x86_64")]
mod native_bf16 {
    use std::arch::x86_64::{
        __m256bh, _mm512_and_si512, _mm512_castps_si512, _mm512_cmplt_epu32_mask,
        _mm512_cvtneps_pbh, _mm512_loadu_ps, _mm512_set1_epi32, _mm512_sub_epi32,
    };

    use nd_core::bf16;

    /// Numbers of a vector.
    pub(super) const LANES: usize = 16;

    /// Whether the processor has the instruction, and AVX-512 as [`crate::dispatch::SimdLevel::Avx512`] means it.
    pub(super) fn is_there() -> bool {
        std::arch::is_x86_feature_detected!("avx512bf16") && pulp::x86::V4::try_new().is_some()
    }

    /// Rounds each number; `false`, if one of them was denormal and its result is worth nothing.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) fn narrow(x: &[[f32; LANES]], y: &mut [[bf16; LANES]]) -> bool {
        let (size, one) = (_mm512_set1_epi32(0x7fff_ffff), _mm512_set1_epi32(1));
        let normal = _mm512_set1_epi32(0x007f_ffff);
        let mut denormal = 0;
        for (x, y) in x.iter().zip(y) {
            // SAFETY: sixteen numbers may be read.
            let x = unsafe { _mm512_loadu_ps(x.as_ptr()) };
            // Zero wraps around to the largest of all.
            let above_zero = _mm512_sub_epi32(_mm512_and_si512(_mm512_castps_si512(x), size), one);
            denormal |= _mm512_cmplt_epu32_mask(above_zero, normal);
            // SAFETY: both are 32 bytes of plain data.
            *y = unsafe { std::mem::transmute::<__m256bh, [bf16; LANES]>(_mm512_cvtneps_pbh(x)) };
        }
        denormal == 0
    }
}

/// Numbers that are rounded together by the processor, or again where one of them is denormal.
#[cfg(target_arch = "x86_64")]
const NATIVE: usize = 1024;

/// Rounds each number to the nearest bf16.
///
/// # Panics
/// The lengths differ, or the machine lacks the level.
#[track_caller]
pub fn f32_to_bf16(level: SimdLevel, x: &[f32], y: &mut [bf16]) {
    same_length("x", x.len(), "y", y.len());
    #[cfg(target_arch = "x86_64")]
    if level == SimdLevel::Avx512 && x.len() >= native_bf16::LANES && native_bf16::is_there() {
        for (x, y) in x.chunks(NATIVE).zip(y.chunks_mut(NATIVE)) {
            let (x_full, x_rest) = x.as_chunks();
            let (y_full, y_rest) = y.as_chunks_mut();
            // SAFETY: the processor has the instructions.
            if !unsafe { native_bf16::narrow(x_full, y_full) } {
                dispatch(level, ToBf16(x, y));
            } else if !x_rest.is_empty() {
                dispatch(level, ToBf16(x_rest, y_rest));
            }
        }
        return;
    }
    dispatch(level, ToBf16(x, y));
}

/// Replaces each number by the nearest bf16: what [`f32_to_bf16`] and [`bf16_to_f32`] make of it.
pub(crate) fn round_to_bf16(level: SimdLevel, x: &mut [f32]) {
    dispatch(level, RoundToBf16(x));
}

/// Numbers that are rounded to f16 at a time, on the stack.
const ROUNDED: usize = 512;

/// Replaces each number by the nearest f16: what [`f32_to_f16`] and [`f16_to_f32`] make of it.
pub(crate) fn round_to_f16(level: SimdLevel, x: &mut [f32]) {
    for x in x.chunks_mut(ROUNDED) {
        let narrow = &mut [f16::ZERO; ROUNDED][..x.len()];
        f32_to_f16(level, x, narrow);
        f16_to_f32(level, narrow, x);
    }
}

/// Widens each number; exact.
///
/// # Panics
/// The lengths differ, or the machine lacks the level.
#[track_caller]
pub fn bf16_to_f32(level: SimdLevel, x: &[bf16], y: &mut [f32]) {
    same_length("x", x.len(), "y", y.len());
    dispatch(level, FromBf16(x, y));
}

/// Rounds each number to the nearest f16.
///
/// # Panics
/// The lengths differ, or the machine lacks the level.
#[track_caller]
pub fn f32_to_f16(level: SimdLevel, x: &[f32], y: &mut [f16]) {
    same_length("x", x.len(), "y", y.len());
    match level {
        SimdLevel::Scalar => {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = f16::from_f32_const(x);
            }
        }
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512 => Sixteen::new().narrow(x, y),
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx2 if let Some(simd) = Eight::new() => simd.narrow(x, y),
        _ => y.convert_from_f32_slice(x),
    }
}

/// Widens each number; exact.
///
/// # Panics
/// The lengths differ, or the machine lacks the level.
#[track_caller]
pub fn f16_to_f32(level: SimdLevel, x: &[f16], y: &mut [f32]) {
    same_length("x", x.len(), "y", y.len());
    match level {
        SimdLevel::Scalar => {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x.to_f32_const();
            }
        }
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512 => Sixteen::new().widen(x, y),
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx2 if let Some(simd) = Eight::new() => simd.widen(x, y),
        _ => x.convert_to_f32_slice(y),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Noise;

    /// Every upper half with every kind of lower one: ties, neighbours of ties, denormals, infinities, NaN.
    #[test]
    fn rounding_in_place_is_narrowing_and_widening() {
        for lower in [
            0, 1, 0xfff, 0x1000, 0x1001, 0x1fff, 0x3000, 0x7fff, 0x8000, 0x8001, 0xffff,
        ] {
            // Not whole vectors.
            let all: Vec<f32> = (0..=0xfffc_u32)
                .map(|upper| f32::from_bits(upper << 16 | lower))
                .collect();
            for level in nd_testing::levels() {
                let (mut found, mut wide) = (all.clone(), all.clone());
                let mut narrow = vec![bf16::ZERO; all.len()];
                round_to_bf16(level, &mut found);
                f32_to_bf16(level, &all, &mut narrow);
                bf16_to_f32(level, &narrow, &mut wide);
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert!(bits(&found) == bits(&wide), "bf16 {lower:x} {level}");
                let mut narrow = vec![f16::ZERO; all.len()];
                found.copy_from_slice(&all);
                round_to_f16(level, &mut found);
                f32_to_f16(level, &all, &mut narrow);
                f16_to_f32(level, &narrow, &mut wide);
                assert!(bits(&found) == bits(&wide), "f16 {lower:x} {level}");
            }
        }
    }

    #[test]
    fn conversions_without_branches_are_those_of_the_half_crate() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (widen_f16(bits), f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan());
            // The number itself, the ones beside it in f32, and those around the point half way to the next f16.
            let next = widen_f16(bits.wrapping_add(1));
            let middle = ((f64::from(theirs) + f64::from(next)) / 2.0) as f32;
            for x in [theirs, middle] {
                for x in [-1, 0, 1].map(|d: i32| f32::from_bits(x.to_bits().wrapping_add_signed(d)))
                {
                    let (ours, theirs) = (f16::from_bits(narrow_f16(x)), f16::from_f32(x));
                    let same =
                        ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan();
                    assert!(same, "{x:e}: {ours:?} for {theirs:?}");
                }
            }
        }
        for x in [
            65519.996,
            65520.0,
            -65520.0,
            1e30,
            f32::MAX,
            f32::INFINITY,
            -0.0,
            1e-30,
            f32::NAN,
        ] {
            let (ours, theirs) = (f16::from_bits(narrow_f16(x)), f16::from_f32(x));
            assert!(
                ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(),
                "{x}"
            );
        }
    }

    #[test]
    fn every_sixteen_bit_number_survives_the_round_trip() {
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let brains: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        for level in nd_testing::levels() {
            let mut wide = vec![0.0; halves.len()];
            f16_to_f32(level, &halves, &mut wide);
            let mut back = vec![f16::ZERO; halves.len()];
            f32_to_f16(level, &wide, &mut back);
            for ((&x, &wide), &back) in halves.iter().zip(&wide).zip(&back) {
                assert!(f64::from(wide) == x.to_f64() || wide.is_nan() && x.is_nan());
                assert!(back.to_bits() == x.to_bits() || back.is_nan() && x.is_nan());
            }
            bf16_to_f32(level, &brains, &mut wide);
            let mut back = vec![bf16::ZERO; brains.len()];
            f32_to_bf16(level, &wide, &mut back);
            for ((&x, &wide), &back) in brains.iter().zip(&wide).zip(&back) {
                assert!(f64::from(wide) == x.to_f64() || wide.is_nan() && x.is_nan());
                assert!(back.to_bits() == x.to_bits() || back.is_nan() && x.is_nan());
            }
        }
    }

    /// The nearest of the two neighbours, the even one when both are as near; by search, not by arithmetic on bits.
    fn nearest(x: f32, decode: impl Fn(u16) -> f64) -> f64 {
        let size = f64::from(x).abs();
        let below = (0..0x7fffu16)
            .collect::<Vec<_>>()
            .partition_point(|&bits| decode(bits) <= size && decode(bits).is_finite())
            - 1;
        let (low, high) = (decode(below as u16), decode(below as u16 + 1));
        let high_as_number = if high.is_finite() {
            high
        } else {
            2.0 * low - decode(below as u16 - 1)
        };
        let chosen = match (size - low).total_cmp(&(high_as_number - size)) {
            std::cmp::Ordering::Less => low,
            std::cmp::Ordering::Greater => high,
            std::cmp::Ordering::Equal => {
                if below % 2 == 0 {
                    low
                } else {
                    high
                }
            }
        };
        chosen.copysign(f64::from(x))
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        let mut noise = Noise::new(14);
        let mut x: Vec<f32> = (0..300)
            .map(|_| f32::from_bits(noise.bits() as u32))
            .filter(|x| x.is_finite())
            .collect();
        x.extend([
            1.0 + 2f32.powi(-9),
            1.0 + 3.0 * 2f32.powi(-9),
            65_519.0,
            65_520.0,
            65_504.0,
            1e-8,
            2f32.powi(-25),
        ]);
        x.extend((0..200).map(|_| noise.number(70_000.0) as f32));
        for level in nd_testing::levels() {
            let mut brains = vec![bf16::ZERO; x.len()];
            f32_to_bf16(level, &x, &mut brains);
            let mut halves = vec![f16::ZERO; x.len()];
            f32_to_f16(level, &x, &mut halves);
            for (i, &x) in x.iter().enumerate() {
                let expected = nearest(x, |bits| bf16::from_bits(bits).to_f64());
                assert_eq!(brains[i].to_f64(), expected, "{level} {x:e}");
                if x.abs() < 1e6 {
                    let expected = nearest(x, |bits| f16::from_bits(bits).to_f64());
                    assert_eq!(halves[i].to_f64(), expected, "{level} {x:e}");
                }
            }
        }
    }

    /// The processor's own rounding takes denormal numbers for zeros; ours must not, wherever they are.
    #[test]
    fn a_long_slice_is_rounded_as_its_numbers_are() {
        let mut noise = Noise::new(15);
        let mut x: Vec<f32> = (0..5000)
            .map(|_| f32::from_bits(noise.bits() as u32))
            .map(|x| if x.is_subnormal() { 0.0 } else { x })
            .collect();
        let special = [
            1e-45,
            -1e-40,
            f32::MIN_POSITIVE,
            -f32::MIN_POSITIVE,
            1.17e-38,
        ];
        for place in [
            None,
            Some(0),
            Some(1023),
            Some(1024),
            Some(2500),
            Some(4999),
        ] {
            for value in special {
                if let Some(place) = place {
                    x[place] = value;
                }
                for level in nd_testing::levels() {
                    for part in [&x[..], &x[3..2051], &x[1..18]] {
                        let mut y = vec![bf16::ZERO; part.len()];
                        f32_to_bf16(level, part, &mut y);
                        for (&x, y) in part.iter().zip(y) {
                            assert_eq!(y.to_bits(), narrow_bf16(x), "{level} {x:e}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn nan_with_a_low_payload_stays_nan() {
        for level in nd_testing::levels() {
            let mut y = [bf16::ZERO; 2];
            let x = [f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff)];
            f32_to_bf16(level, &x, &mut y);
            assert!(y[0].is_nan() && y[1].is_nan());
            let mut y = [f16::ZERO; 2];
            f32_to_f16(level, &x, &mut y);
            assert!(y[0].is_nan() && y[1].is_nan());
        }
    }
}
