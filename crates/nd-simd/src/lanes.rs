//! One vector of numbers, generic over the instruction set and the element type.
//!
//! The simple version: `Lanes<S, R>` is a number. It adds, multiplies, compares and selects like one, so a kernel
//! reads like its formula; it just happens to hold [`Lanes::LEN`] of them. On [`pulp::Scalar`] it holds one.
//!
//! The type carries its instruction set's token (a zero-sized proof that the machine has it), so no operation needs it as an
//! argument. [`SimdReal`] maps pulp's per-type methods (`add_f32s`, `add_f64s`) to one name; kernels bound their element type by
//! it and use `Lanes`.
//!
//! Tails: [`Lanes::load_partial`] reads up to `LEN` elements with a masked load, zeros elsewhere, and never touches
//! memory past the slice.
//!
//! NaN: arithmetic propagates it; comparisons with it are false; [`Lanes::max`] and [`Lanes::min`] propagate it;
//! [`Lanes::larger_of`] and [`Lanes::smaller_of`] return their *second* operand when either is NaN, in one
//! instruction.
//!
//! Known weakness: `mul_add` is fused only where the instruction set fuses it (everywhere but at
//! [`crate::SimdLevel::Scalar`], where a fused product would be a call into libm); error-free transformations must not rely on it there.

use std::ops::{Add, AddAssign, BitAnd, BitOr, Div, Mul, Neg, Not, Sub, SubAssign};

use crate::dispatch::Isa;

mod real;

pub use real::SimdReal;

/// A vector of `LEN` numbers.
#[derive(Clone, Copy, Debug)]
pub struct Lanes<S: Isa, R: SimdReal> {
    simd: S,
    raw: R::Vector<S>,
}

/// One truth value per lane of a [`Lanes`].
#[derive(Clone, Copy, Debug)]
pub struct LaneMask<S: Isa, R: SimdReal> {
    simd: S,
    raw: R::Mask<S>,
}

impl<S: Isa, R: SimdReal> Lanes<S, R> {
    /// How many numbers one vector holds.
    pub const LEN: usize = size_of::<R::Vector<S>>() / size_of::<R>();

    /// Wraps a vector of the instruction set.
    #[inline(always)]
    pub fn from_raw(simd: S, raw: R::Vector<S>) -> Self {
        Self { simd, raw }
    }
    /// The vector of the instruction set.
    #[inline(always)]
    pub fn raw(self) -> R::Vector<S> {
        self.raw
    }
    /// The token.
    #[inline(always)]
    pub fn simd(self) -> S {
        self.simd
    }
    /// The same number in every lane.
    #[inline(always)]
    pub fn splat(simd: S, x: R) -> Self {
        Self {
            simd,
            raw: R::splat(simd, x),
        }
    }
    /// The number whose bits are the low 32 (or all 64) of `bits`, in every lane.
    #[inline(always)]
    pub fn splat_bits(simd: S, bits: u64) -> Self {
        Self::splat(simd, R::from_bits_u64(bits))
    }
    /// Zero in every lane.
    #[inline(always)]
    pub fn zero(simd: S) -> Self {
        Self::splat(simd, R::ZERO)
    }
    /// The same number in every lane, of the same instruction set as `self`.
    #[inline(always)]
    #[must_use]
    pub fn constant(self, x: R) -> Self {
        Self::splat(self.simd, x)
    }

    /// Reads the first `LEN` elements.
    ///
    /// # Panics
    /// The slice is shorter.
    #[inline(always)]
    pub fn load(simd: S, x: &[R]) -> Self {
        Self {
            simd,
            raw: R::split::<S>(x).0[0],
        }
    }
    /// Reads the first `LEN` elements, or as many as there are and zeros.
    #[inline(always)]
    pub fn load_partial(simd: S, x: &[R]) -> Self {
        let mask = R::first_lanes(simd, x.len().min(Self::LEN));
        // SAFETY: the mask selects at most the first `x.len()` elements.
        let raw = unsafe { R::load_masked(simd, mask, x.as_ptr()) };
        Self { simd, raw }
    }
    /// Reads `LEN` elements from an address without any alignment.
    ///
    /// # Safety
    /// `LEN` elements are readable from `ptr`.
    #[inline(always)]
    pub unsafe fn load_ptr(simd: S, ptr: *const R) -> Self {
        // SAFETY: the vector types of pulp are plain data; the caller vouches for the elements.
        let raw = unsafe { ptr.cast::<R::Vector<S>>().read_unaligned() };
        Self { simd, raw }
    }
    /// Writes the lanes to the first `LEN` elements.
    ///
    /// # Panics
    /// The slice is shorter.
    #[inline(always)]
    pub fn store(self, y: &mut [R]) {
        R::split_mut::<S>(y).0[0] = self.raw;
    }
    /// Writes the lanes to the first `LEN` elements, or to as many as there are.
    #[inline(always)]
    pub fn store_partial(self, y: &mut [R]) {
        let mask = R::first_lanes(self.simd, y.len().min(Self::LEN));
        // SAFETY: the mask selects at most the first `y.len()` elements.
        unsafe { R::store_masked(self.simd, mask, y.as_mut_ptr(), self.raw) }
    }
    /// Writes `LEN` elements to an address without any alignment.
    ///
    /// # Safety
    /// `LEN` elements are writable at `ptr`.
    #[inline(always)]
    pub unsafe fn store_ptr(self, ptr: *mut R) {
        // SAFETY: the vector types of pulp are plain data; the caller vouches for the elements.
        unsafe { ptr.cast::<R::Vector<S>>().write_unaligned(self.raw) }
    }
    /// The lanes as a slice.
    #[inline(always)]
    pub fn as_slice(&self) -> &[R] {
        R::as_slice::<S>(&self.raw)
    }
    /// Applies a scalar function lane by lane; for [`crate::SimdLevel::Scalar`] and rare cases.
    #[inline(always)]
    #[must_use]
    pub fn map(self, f: impl Fn(R) -> R) -> Self {
        let mut out = self;
        let slots = std::slice::from_mut(&mut out.raw);
        // A vector is `LEN` numbers side by side, so its bytes are a slice of them.
        let mut values = [R::ZERO; 64];
        let values = &mut values[..Self::LEN];
        for (value, &x) in values.iter_mut().zip(R::as_slice::<S>(&self.raw)) {
            *value = f(x);
        }
        slots[0] = R::split::<S>(values).0[0];
        out
    }

    /// `self a + b`, fused where the instruction set fuses.
    #[inline(always)]
    #[must_use]
    pub fn mul_add(self, a: Self, b: Self) -> Self {
        Self {
            simd: self.simd,
            raw: R::v_mul_add(self.simd, self.raw, a.raw, b.raw),
        }
    }
    /// `self * self`
    #[inline(always)]
    #[must_use]
    pub fn square(self) -> Self {
        self * self
    }
    /// `|x|`
    #[inline(always)]
    #[must_use]
    pub fn abs(self) -> Self {
        Self {
            simd: self.simd,
            raw: R::v_abs(self.simd, self.raw),
        }
    }
    /// The square root.
    #[inline(always)]
    #[must_use]
    pub fn sqrt(self) -> Self {
        Self {
            simd: self.simd,
            raw: R::v_sqrt(self.simd, self.raw),
        }
    }
    /// To the nearest whole number, ties to even.
    #[inline(always)]
    #[must_use]
    pub fn round(self) -> Self {
        Self {
            simd: self.simd,
            raw: R::round(self.simd, self.raw),
        }
    }
    /// `x 2^n` for whole `n`; see [`Isa::scale_by_power_f32s`] for the range.
    #[inline(always)]
    #[must_use]
    pub fn scale_by_power(self, n: Self) -> Self {
        Self {
            simd: self.simd,
            raw: R::scale_by_power(self.simd, self.raw, n.raw),
        }
    }
    /// `2^self` for whole numbers; see [`Isa::power_of_two_f32s`] for the range.
    #[inline(always)]
    #[must_use]
    pub fn power_of_two(self) -> Self {
        Self {
            simd: self.simd,
            raw: R::power_of_two(self.simd, self.raw),
        }
    }
    /// `self > other ? self : other`: `other` when either is NaN. One instruction.
    #[inline(always)]
    #[must_use]
    pub fn larger_of(self, other: Self) -> Self {
        Self {
            simd: self.simd,
            raw: R::larger(self.simd, self.raw, other.raw),
        }
    }
    /// `self < other ? self : other`: `other` when either is NaN. One instruction.
    #[inline(always)]
    #[must_use]
    pub fn smaller_of(self, other: Self) -> Self {
        Self {
            simd: self.simd,
            raw: R::smaller(self.simd, self.raw, other.raw),
        }
    }
    /// The larger number; NaN when either is NaN.
    #[inline(always)]
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        self.is_nan().select(self, self.larger_of(other))
    }
    /// The smaller number; NaN when either is NaN.
    #[inline(always)]
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        self.is_nan().select(self, self.smaller_of(other))
    }

    /// `self < other`
    #[inline(always)]
    pub fn less_than(self, other: Self) -> LaneMask<S, R> {
        LaneMask {
            simd: self.simd,
            raw: R::less_than(self.simd, self.raw, other.raw),
        }
    }
    /// `self <= other`
    #[inline(always)]
    pub fn less_or_equal(self, other: Self) -> LaneMask<S, R> {
        LaneMask {
            simd: self.simd,
            raw: R::less_or_equal(self.simd, self.raw, other.raw),
        }
    }
    /// `self > other`
    #[inline(always)]
    pub fn greater_than(self, other: Self) -> LaneMask<S, R> {
        other.less_than(self)
    }
    /// `self >= other`
    #[inline(always)]
    pub fn greater_or_equal(self, other: Self) -> LaneMask<S, R> {
        other.less_or_equal(self)
    }
    /// `self == other`
    #[inline(always)]
    pub fn equal(self, other: Self) -> LaneMask<S, R> {
        LaneMask {
            simd: self.simd,
            raw: R::equal(self.simd, self.raw, other.raw),
        }
    }
    /// Where `self` is NaN.
    #[inline(always)]
    pub fn is_nan(self) -> LaneMask<S, R> {
        !self.equal(self)
    }

    /// Bitwise and.
    #[inline(always)]
    #[must_use]
    pub fn bit_and(self, other: Self) -> Self {
        Self {
            simd: self.simd,
            raw: R::bit_and(self.simd, self.raw, other.raw),
        }
    }
    /// Bitwise or.
    #[inline(always)]
    #[must_use]
    pub fn bit_or(self, other: Self) -> Self {
        Self {
            simd: self.simd,
            raw: R::bit_or(self.simd, self.raw, other.raw),
        }
    }
    /// Bitwise exclusive or.
    #[inline(always)]
    #[must_use]
    pub fn bit_xor(self, other: Self) -> Self {
        Self {
            simd: self.simd,
            raw: R::bit_xor(self.simd, self.raw, other.raw),
        }
    }
    /// Wrapping sum of the bits as unsigned integers.
    #[inline(always)]
    #[must_use]
    pub fn bits_add(self, other: Self) -> Self {
        Self {
            simd: self.simd,
            raw: R::bits_add(self.simd, self.raw, other.raw),
        }
    }
    /// Wrapping difference of the bits as unsigned integers.
    #[inline(always)]
    #[must_use]
    pub fn bits_sub(self, other: Self) -> Self {
        Self {
            simd: self.simd,
            raw: R::bits_sub(self.simd, self.raw, other.raw),
        }
    }
    /// The bits, shifted left.
    #[inline(always)]
    #[must_use]
    pub fn bits_shift_left(self, amount: u32) -> Self {
        Self {
            simd: self.simd,
            raw: R::bits_shift_left(self.simd, self.raw, amount),
        }
    }
    /// The bits, shifted right, filled with zeros.
    #[inline(always)]
    #[must_use]
    pub fn bits_shift_right(self, amount: u32) -> Self {
        Self {
            simd: self.simd,
            raw: R::bits_shift_right(self.simd, self.raw, amount),
        }
    }
    /// The sign bit of each lane, as `+0.0` or `-0.0`.
    #[inline(always)]
    #[must_use]
    pub fn sign_bit(self) -> Self {
        self.bit_and(self.constant(-R::ZERO))
    }
    /// `|self|` with the sign of `sign`.
    #[inline(always)]
    #[must_use]
    pub fn copy_sign(self, sign: Self) -> Self {
        self.abs().bit_or(sign.sign_bit())
    }

    /// The sum of the lanes, halves added to halves: a fixed tree.
    #[inline(always)]
    pub fn sum(self) -> R {
        R::sum_lanes(self.simd, self.raw)
    }
    /// The largest lane; unspecified when one is NaN.
    #[inline(always)]
    pub fn largest_lane(self) -> R {
        R::max_lane(self.simd, self.raw)
    }
    /// The smallest lane; unspecified when one is NaN.
    #[inline(always)]
    pub fn smallest_lane(self) -> R {
        R::min_lane(self.simd, self.raw)
    }
}

impl<S: Isa, R: SimdReal> LaneMask<S, R> {
    /// True in the first `n` lanes.
    #[inline(always)]
    pub fn first(simd: S, n: usize) -> Self {
        Self {
            simd,
            raw: R::first_lanes(simd, n.min(Lanes::<S, R>::LEN)),
        }
    }
    /// `self ? a : b`
    #[inline(always)]
    #[must_use]
    pub fn select(self, a: Lanes<S, R>, b: Lanes<S, R>) -> Lanes<S, R> {
        Lanes {
            simd: self.simd,
            raw: R::select(self.simd, self.raw, a.raw, b.raw),
        }
    }
    /// `self ? x : 0`
    #[inline(always)]
    #[must_use]
    pub fn or_zero(self, x: Lanes<S, R>) -> Lanes<S, R> {
        self.select(x, Lanes::zero(self.simd))
    }
    /// Whether any lane holds.
    #[inline(always)]
    pub fn any(self) -> bool {
        R::mask_any(self.simd, self.raw)
    }
    /// The mask of the instruction set.
    #[inline(always)]
    pub fn raw(self) -> R::Mask<S> {
        self.raw
    }
    /// Wraps a mask of the instruction set.
    #[inline(always)]
    pub fn from_raw(simd: S, raw: R::Mask<S>) -> Self {
        Self { simd, raw }
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $raw:ident) => {
        impl<S: Isa, R: SimdReal> $trait for Lanes<S, R> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self {
                    simd: self.simd,
                    raw: R::$raw(self.simd, self.raw, other.raw),
                }
            }
        }
        impl<S: Isa, R: SimdReal> $trait<R> for Lanes<S, R> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: R) -> Self {
                self.$method(Self::splat(self.simd, other))
            }
        }
    };
}
operator!(Add, add, v_add);
operator!(Sub, sub, v_sub);
operator!(Mul, mul, v_mul);
operator!(Div, div, v_div);

impl<S: Isa, R: SimdReal> AddAssign for Lanes<S, R> {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl<S: Isa, R: SimdReal> SubAssign for Lanes<S, R> {
    #[inline(always)]
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl<S: Isa, R: SimdReal> Neg for Lanes<S, R> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self {
            simd: self.simd,
            raw: R::v_neg(self.simd, self.raw),
        }
    }
}

impl<S: Isa, R: SimdReal> BitAnd for LaneMask<S, R> {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Self {
            simd: self.simd,
            raw: R::mask_and(self.simd, self.raw, other.raw),
        }
    }
}

impl<S: Isa, R: SimdReal> BitOr for LaneMask<S, R> {
    type Output = Self;
    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Self {
            simd: self.simd,
            raw: R::mask_or(self.simd, self.raw, other.raw),
        }
    }
}

impl<S: Isa, R: SimdReal> Not for LaneMask<S, R> {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        Self {
            simd: self.simd,
            raw: R::mask_not(self.simd, self.raw),
        }
    }
}

#[cfg(test)]
mod tests;
