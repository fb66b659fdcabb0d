//! The number types of the workspace.
//!
//! Two kinds of type appear in every crate. An [`Element`] can be *stored* in a tensor: `f32`, `f64`,
//! [`bf16`] and [`struct@f16`]. A [`Real`] can also be *computed with*: `f32` and `f64`. Sixteen-bit values are widened to
//! a `Real` before any arithmetic, because ordinary CPUs have no arithmetic for them (bf16 dot products excepted,
//! which live inside the matrix product).

use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use half::slice::HalfFloatSliceExt;
pub use half::{bf16, f16};

/// The type of a stored number, as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 64-bit IEEE 754.
    F64,
    /// 32-bit IEEE 754.
    F32,
    /// 16-bit IEEE 754: 11 bits of precision, largest value 65504.
    F16,
    /// The upper half of an `f32`: 8 bits of precision, the range of `f32`.
    Bf16,
}

impl DType {
    /// Bytes of one element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

impl Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for half::bf16 {}
    impl Sealed for half::f16 {}
}

/// A number that a tensor can hold.
///
/// Sealed: buffers rely on every implementor being plain data for which all-zero bytes are the number zero.
pub trait Element:
    sealed::Sealed + Copy + Debug + Display + Default + PartialEq + Send + Sync + 'static
{
    /// The type as data.
    const DTYPE: DType;
    /// Zero.
    const ZERO: Self;
    /// Rounds to nearest, ties to even.
    fn from_f64(x: f64) -> Self;
    /// Exact.
    fn to_f64(self) -> f64;
}

macro_rules! element {
    ($type:ty, $dtype:expr, $zero:expr, $from:expr, $to:expr) => {
        impl Element for $type {
            const DTYPE: DType = $dtype;
            const ZERO: Self = $zero;
            #[inline]
            fn from_f64(x: f64) -> Self {
                $from(x)
            }
            #[inline]
            fn to_f64(self) -> f64 {
                $to(self)
            }
        }
    };
}

element!(f32, DType::F32, 0.0, |x| x as f32, f64::from);
element!(f64, DType::F64, 0.0, |x| x, |x| x);
element!(bf16, DType::Bf16, bf16::ZERO, bf16::from_f64, bf16::to_f64);
element!(f16, DType::F16, f16::ZERO, f16::from_f64, f16::to_f64);

/// A number that is computed with: `f32` (training and inference) or `f64` (gradient checks, exact parity).
///
/// The methods are those of std, under names that cannot be confused with the vector kernels of `nd-simd`.
pub trait Real:
    Element
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
{
    /// One.
    const ONE: Self;
    /// The difference between one and the next larger number.
    const EPSILON: Self;
    /// `|x|`.
    #[must_use]
    fn abs(self) -> Self;
    /// The square root.
    #[must_use]
    fn sqrt(self) -> Self;
    /// `self * a + b`, rounded once.
    #[must_use]
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// Not a number.
    fn is_nan(self) -> bool;
    /// The nearest number to an index or a count.
    fn from_usize(n: usize) -> Self;
    /// A uniform number in `[0, 1)` from 64 random bits (`f32` uses the upper 24 of the lower word, `f64` 53).
    fn unit_from_bits(bits: u64) -> Self;
    /// Rounds to bf16, nearest even.
    ///
    /// # Panics
    /// The lengths differ.
    fn narrow_bf16(wide: &[Self], narrow: &mut [bf16]);
    /// Exact.
    ///
    /// # Panics
    /// The lengths differ.
    fn widen_bf16(narrow: &[bf16], wide: &mut [Self]);
    /// Rounds to f16, nearest even; what is too large becomes infinite.
    ///
    /// # Panics
    /// The lengths differ.
    fn narrow_f16(wide: &[Self], narrow: &mut [f16]);
    /// Exact.
    ///
    /// # Panics
    /// The lengths differ.
    fn widen_f16(narrow: &[f16], wide: &mut [Self]);
}

macro_rules! real {
    ($type:ty, $unit:expr, $narrow_bf16:expr, $widen_bf16:expr, $narrow:ident, $widen:ident) => {
        impl Real for $type {
            const ONE: Self = 1.0;
            const EPSILON: Self = <$type>::EPSILON;
            #[inline]
            fn abs(self) -> Self {
                <$type>::abs(self)
            }
            #[inline]
            fn sqrt(self) -> Self {
                <$type>::sqrt(self)
            }
            #[inline]
            fn mul_add(self, a: Self, b: Self) -> Self {
                <$type>::mul_add(self, a, b)
            }
            #[inline]
            fn is_finite(self) -> bool {
                <$type>::is_finite(self)
            }
            #[inline]
            fn is_nan(self) -> bool {
                <$type>::is_nan(self)
            }
            #[inline]
            fn from_usize(n: usize) -> Self {
                n as $type
            }
            #[inline]
            fn unit_from_bits(bits: u64) -> Self {
                $unit(bits)
            }
            fn narrow_bf16(wide: &[Self], narrow: &mut [bf16]) {
                $narrow_bf16(wide, narrow);
            }
            fn widen_bf16(narrow: &[bf16], wide: &mut [Self]) {
                $widen_bf16(narrow, wide);
            }
            fn narrow_f16(wide: &[Self], narrow: &mut [f16]) {
                narrow.$narrow(wide);
            }
            fn widen_f16(narrow: &[f16], wide: &mut [Self]) {
                narrow.$widen(wide);
            }
        }
    };
}

/// A conversion of slices of one length, compiled for the vectors of the processor that runs it; the same bits on each.
macro_rules! on_vectors {
    ($name:ident, $what:literal, $from:ty => $to:ty, $each:expr) => {
        fn $name(from: &[$from], to: &mut [$to]) {
            #[inline(always)]
            fn convert(from: &[$from], to: &mut [$to]) {
                for (&x, y) in from.iter().zip(to) {
                    *y = $each(x);
                }
            }
            assert_eq!(from.len(), to.len(), $what);
            #[cfg(target_arch = "x86_64")]
            {
                use std::arch::is_x86_feature_detected as has;
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512(from: &[$from], to: &mut [$to]) {
                    convert(from, to);
                }
                #[target_feature(enable = "avx2")]
                fn avx2(from: &[$from], to: &mut [$to]) {
                    convert(from, to);
                }
                if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
                    // SAFETY: the processor has what the function is compiled for.
                    return unsafe { avx512(from, to) };
                }
                if has!("avx2") {
                    // SAFETY: likewise.
                    return unsafe { avx2(from, to) };
                }
            }
            convert(from, to);
        }
    };
}

// bf16 is the upper half of an f32. Loops without branches, which the compiler turns into vector code; those of the `half` crate
// ask for NaN element by element.
on_vectors!(narrow_bf16_f32s, "numbers to be rounded to bf16", f32 => bf16, |x: f32| {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    // A NaN stays one: rounding could carry it into infinity.
    let quiet = bits >> 16 | 0x40;
    let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
    bf16::from_bits((if is_nan { quiet } else { rounded }) as u16)
});
on_vectors!(widen_bf16_f32s, "bf16 to be widened", bf16 => f32, |x: bf16| {
    f32::from_bits(u32::from(x.to_bits()) << 16)
});

real!(
    f32,
    |bits: u64| ((bits as u32) >> 8) as f32 * (1.0 / 16_777_216.0),
    narrow_bf16_f32s,
    widen_bf16_f32s,
    convert_from_f32_slice,
    convert_to_f32_slice
);
real!(
    f64,
    |bits: u64| (bits >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0),
    |wide: &[f64], narrow: &mut [bf16]| narrow.convert_from_f64_slice(wide),
    |narrow: &[bf16], wide: &mut [f64]| narrow.convert_to_f64_slice(wide),
    convert_from_f64_slice,
    convert_to_f64_slice
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_types() {
        assert_eq!(DType::F64.size(), size_of::<f64>());
        assert_eq!(DType::F32.size(), size_of::<f32>());
        assert_eq!(DType::F16.size(), size_of::<f16>());
        assert_eq!(DType::Bf16.size(), size_of::<bf16>());
    }

    #[test]
    fn bf16_survives_the_way_through_f32_and_rounds_as_the_half_crate_does() {
        let all: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        let (mut wide, mut back) = (vec![0.0f32; all.len()], vec![bf16::ZERO; all.len()]);
        f32::widen_bf16(&all, &mut wide);
        f32::narrow_bf16(&wide, &mut back);
        for ((&x, &wide), &back) in all.iter().zip(&wide).zip(&back) {
            assert!(wide == x.to_f32() || wide.is_nan() && x.is_nan());
            assert!(back.to_bits() == x.to_bits() || back.is_nan() && x.is_nan());
        }
        // Around the point half way to the next one: all at once, in vectors, and some that fill none.
        for offset in [0x7fff, 0x8000, 0x8001] {
            let near: Vec<f32> = wide
                .iter()
                .map(|x| f32::from_bits(x.to_bits() | offset))
                .collect();
            for near in [&near[..], &near[0x3f80 - 3..0x3f80]] {
                let mut found = vec![bf16::ZERO; near.len()];
                f32::narrow_bf16(near, &mut found);
                for (&x, found) in near.iter().zip(found) {
                    let expected = bf16::from_f32(x);
                    assert!(found.to_bits() == expected.to_bits() || x.is_nan() && found.is_nan());
                }
            }
        }
    }

    #[test]
    fn unit_numbers_never_reach_one() {
        assert_eq!(f32::unit_from_bits(0), 0.0);
        assert!(f32::unit_from_bits(u64::MAX) < 1.0);
        assert_eq!(f64::unit_from_bits(0), 0.0);
        assert!(f64::unit_from_bits(u64::MAX) < 1.0);
    }
}
