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

use std::fmt::Debug;
use std::ops::{Add, AddAssign, BitAnd, BitOr, Div, Mul, Neg, Not, Sub, SubAssign};

use nd_core::Real;
use pulp::MemMask;

use crate::dispatch::Isa;
use crate::math::Transcendental;

/// A number that the vector kernels compute with: `f32` or `f64`.
///
/// The methods are the raw vocabulary behind [`Lanes`]; kernels use that.
pub trait SimdReal: Real + Transcendental {
    /// A vector of the instruction set.
    type Vector<S: Isa>: Copy + Debug;
    /// One truth value per lane.
    type Mask<S: Isa>: Copy + Debug;

    /// The number of explicitly stored bits of the significand: 23 or 52.
    const MANTISSA_BITS: u32;

    /// The number whose bits are the low 32 (or all 64) of `bits`.
    fn from_bits_u64(bits: u64) -> Self;
    /// The bits of the number, in the low 32 (or all 64).
    fn to_bits_u64(self) -> u64;
    /// The nearest number of this type.
    fn from_f32(x: f32) -> Self;

    /// Full vectors and the rest of a slice.
    fn split<S: Isa>(x: &[Self]) -> (&[Self::Vector<S>], &[Self]);
    /// Full vectors and the rest of a slice.
    fn split_mut<S: Isa>(x: &mut [Self]) -> (&mut [Self::Vector<S>], &mut [Self]);
    /// The lanes as a slice.
    fn as_slice<S: Isa>(x: &Self::Vector<S>) -> &[Self];
    /// True in the first `n` lanes.
    fn first_lanes<S: Isa>(simd: S, n: usize) -> Self::Mask<S>;
    /// Reads the lanes for which the mask holds; zero elsewhere.
    ///
    /// # Safety
    /// `ptr.add(i)` is readable for every lane `i` for which the mask holds.
    unsafe fn load_masked<S: Isa>(
        simd: S,
        mask: Self::Mask<S>,
        ptr: *const Self,
    ) -> Self::Vector<S>;
    /// Writes the lanes for which the mask holds.
    ///
    /// # Safety
    /// `ptr.add(i)` is writable for every lane `i` for which the mask holds.
    unsafe fn store_masked<S: Isa>(
        simd: S,
        mask: Self::Mask<S>,
        ptr: *mut Self,
        x: Self::Vector<S>,
    );

    /// The same number in every lane.
    fn splat<S: Isa>(simd: S, x: Self) -> Self::Vector<S>;
    /// `a + b`
    fn v_add<S: Isa>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a - b`
    fn v_sub<S: Isa>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a b`
    fn v_mul<S: Isa>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a / b`
    fn v_div<S: Isa>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a b + c`
    fn v_mul_add<S: Isa>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;
    /// `-x`
    fn v_neg<S: Isa>(simd: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// `|x|`
    fn v_abs<S: Isa>(simd: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// The square root.
    fn v_sqrt<S: Isa>(simd: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// [`Isa::larger_f32s`]
    fn larger<S: Isa>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// [`Isa::smaller_f32s`]
    fn smaller<S: Isa>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// To the nearest whole number, ties to even.
    fn round<S: Isa>(simd: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// [`Isa::scale_by_power_f32s`]
    fn scale_by_power<S: Isa>(simd: S, x: Self::Vector<S>, n: Self::Vector<S>) -> Self::Vector<S>;

    /// [`Isa::power_of_two_f32s`]
    fn power_of_two<S: Isa>(simd: S, n: Self::Vector<S>) -> Self::Vector<S>;

    /// `a < b`
    fn less_than<S: Isa>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Mask<S>;
    /// `a <= b`
    fn less_or_equal<S: Isa>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Mask<S>;
    /// `a == b`
    fn equal<S: Isa>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Mask<S>;
    /// `mask ? a : b`
    fn select<S: Isa>(
        simd: S,
        mask: Self::Mask<S>,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
    ) -> Self::Vector<S>;
    /// Both masks.
    fn mask_and<S: Isa>(simd: S, a: Self::Mask<S>, b: Self::Mask<S>) -> Self::Mask<S>;
    /// Either mask.
    fn mask_or<S: Isa>(simd: S, a: Self::Mask<S>, b: Self::Mask<S>) -> Self::Mask<S>;
    /// The opposite.
    fn mask_not<S: Isa>(simd: S, a: Self::Mask<S>) -> Self::Mask<S>;
    /// Whether any lane holds.
    fn mask_any<S: Isa>(simd: S, a: Self::Mask<S>) -> bool;

    /// Bitwise and.
    fn bit_and<S: Isa>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// Bitwise or.
    fn bit_or<S: Isa>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// Bitwise exclusive or.
    fn bit_xor<S: Isa>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// Wrapping sum of the bits as unsigned integers.
    fn bits_add<S: Isa>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// Wrapping difference of the bits as unsigned integers.
    fn bits_sub<S: Isa>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// The bits, shifted left.
    fn bits_shift_left<S: Isa>(simd: S, x: Self::Vector<S>, amount: u32) -> Self::Vector<S>;
    /// The bits, shifted right, filled with zeros.
    fn bits_shift_right<S: Isa>(simd: S, x: Self::Vector<S>, amount: u32) -> Self::Vector<S>;

    /// Where a word, shifted left by so many bits, is at least the threshold; unspecified in lanes beyond the words.
    fn words_at_least<S: Isa>(simd: S, words: &[u32], shift: u32, threshold: u32) -> Self::Mask<S>;

    /// The sum of the lanes, halves added to halves: a fixed tree.
    fn sum_lanes<S: Isa>(simd: S, x: Self::Vector<S>) -> Self;
    /// The largest lane; unspecified when one is NaN.
    fn max_lane<S: Isa>(simd: S, x: Self::Vector<S>) -> Self;
    /// The smallest lane; unspecified when one is NaN.
    fn min_lane<S: Isa>(simd: S, x: Self::Vector<S>) -> Self;
}

macro_rules! simd_real {
    (
        $R:ident, $bits:ident, $mantissa:expr,
        vector $vector:ident mask $mask:ident,
        split $as_simd:ident $as_mut_simd:ident,
        masked $between:ident $load:ident $store:ident $index:ident,
        $splat:ident $add:ident $sub:ident $mul:ident $div:ident $fma:ident $neg:ident $abs:ident $sqrt:ident,
        $larger:ident $smaller:ident $round:ident $scale:ident $power:ident,
        $lt:ident $le:ident $eq:ident $select:ident $mask_and:ident $mask_or:ident $mask_not:ident $first_true:ident,
        $and:ident $or:ident $xor:ident $to_int:ident $from_int:ident $int_add:ident $int_sub:ident,
        $shl:expr, $shr:expr,
        $words:path,
        $sum:ident $max:ident $min:ident
    ) => {
        impl SimdReal for $R {
            type Vector<S: Isa> = S::$vector;
            type Mask<S: Isa> = S::$mask;
            const MANTISSA_BITS: u32 = $mantissa;

            #[inline(always)]
            fn from_bits_u64(bits: u64) -> Self {
                Self::from_bits(bits as $bits)
            }
            #[inline(always)]
            #[allow(
                clippy::unnecessary_cast,
                reason = "one of the two types is u64 already"
            )]
            fn to_bits_u64(self) -> u64 {
                self.to_bits() as u64
            }
            #[inline(always)]
            #[allow(
                clippy::unnecessary_cast,
                reason = "one of the two types is f32 already"
            )]
            fn from_f32(x: f32) -> Self {
                x as Self
            }
            #[inline(always)]
            fn split<S: Isa>(x: &[Self]) -> (&[S::$vector], &[Self]) {
                S::$as_simd(x)
            }
            #[inline(always)]
            fn split_mut<S: Isa>(x: &mut [Self]) -> (&mut [S::$vector], &mut [Self]) {
                S::$as_mut_simd(x)
            }
            #[inline(always)]
            fn as_slice<S: Isa>(x: &S::$vector) -> &[Self] {
                pulp::bytemuck::cast_slice(std::slice::from_ref(x))
            }
            #[inline(always)]
            fn first_lanes<S: Isa>(simd: S, n: usize) -> S::$mask {
                simd.$between(0, n as $index).mask()
            }
            #[inline(always)]
            unsafe fn load_masked<S: Isa>(simd: S, mask: S::$mask, ptr: *const Self) -> S::$vector {
                // SAFETY: the caller vouches for every lane that the mask selects.
                unsafe { simd.$load(MemMask::new(mask), ptr) }
            }
            #[inline(always)]
            unsafe fn store_masked<S: Isa>(simd: S, mask: S::$mask, ptr: *mut Self, x: S::$vector) {
                // SAFETY: the caller vouches for every lane that the mask selects.
                unsafe { simd.$store(MemMask::new(mask), ptr, x) }
            }
            #[inline(always)]
            fn splat<S: Isa>(simd: S, x: Self) -> S::$vector {
                simd.$splat(x)
            }
            #[inline(always)]
            fn v_add<S: Isa>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$add(a, b)
            }
            #[inline(always)]
            fn v_sub<S: Isa>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$sub(a, b)
            }
            #[inline(always)]
            fn v_mul<S: Isa>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$mul(a, b)
            }
            #[inline(always)]
            fn v_div<S: Isa>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$div(a, b)
            }
            #[inline(always)]
            fn v_mul_add<S: Isa>(
                simd: S,
                a: S::$vector,
                b: S::$vector,
                c: S::$vector,
            ) -> S::$vector {
                simd.$fma(a, b, c)
            }
            #[inline(always)]
            fn v_neg<S: Isa>(simd: S, x: S::$vector) -> S::$vector {
                simd.$neg(x)
            }
            #[inline(always)]
            fn v_abs<S: Isa>(simd: S, x: S::$vector) -> S::$vector {
                simd.$abs(x)
            }
            #[inline(always)]
            fn v_sqrt<S: Isa>(simd: S, x: S::$vector) -> S::$vector {
                simd.$sqrt(x)
            }
            #[inline(always)]
            fn larger<S: Isa>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$larger(a, b)
            }
            #[inline(always)]
            fn smaller<S: Isa>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$smaller(a, b)
            }
            #[inline(always)]
            fn round<S: Isa>(simd: S, x: S::$vector) -> S::$vector {
                simd.$round(x)
            }
            #[inline(always)]
            fn scale_by_power<S: Isa>(simd: S, x: S::$vector, n: S::$vector) -> S::$vector {
                simd.$scale(x, n)
            }
            #[inline(always)]
            fn power_of_two<S: Isa>(simd: S, n: S::$vector) -> S::$vector {
                simd.$power(n)
            }
            #[inline(always)]
            fn less_than<S: Isa>(simd: S, a: S::$vector, b: S::$vector) -> S::$mask {
                simd.$lt(a, b)
            }
            #[inline(always)]
            fn less_or_equal<S: Isa>(simd: S, a: S::$vector, b: S::$vector) -> S::$mask {
                simd.$le(a, b)
            }
            #[inline(always)]
            fn equal<S: Isa>(simd: S, a: S::$vector, b: S::$vector) -> S::$mask {
                simd.$eq(a, b)
            }
            #[inline(always)]
            fn select<S: Isa>(simd: S, mask: S::$mask, a: S::$vector, b: S::$vector) -> S::$vector {
                // Through the integers: pulp marks the floating-point versions `inline` only, not `inline(always)`.
                simd.$from_int(simd.$select(mask, simd.$to_int(a), simd.$to_int(b)))
            }
            #[inline(always)]
            fn mask_and<S: Isa>(simd: S, a: S::$mask, b: S::$mask) -> S::$mask {
                simd.$mask_and(a, b)
            }
            #[inline(always)]
            fn mask_or<S: Isa>(simd: S, a: S::$mask, b: S::$mask) -> S::$mask {
                simd.$mask_or(a, b)
            }
            #[inline(always)]
            fn mask_not<S: Isa>(simd: S, a: S::$mask) -> S::$mask {
                simd.$mask_not(a)
            }
            #[inline(always)]
            fn mask_any<S: Isa>(simd: S, a: S::$mask) -> bool {
                simd.$first_true(a) < size_of::<S::$vector>() / size_of::<Self>()
            }
            #[inline(always)]
            fn bit_and<S: Isa>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$and(a, b)
            }
            #[inline(always)]
            fn bit_or<S: Isa>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$or(a, b)
            }
            #[inline(always)]
            fn bit_xor<S: Isa>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$xor(a, b)
            }
            #[inline(always)]
            fn bits_add<S: Isa>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$from_int(simd.$int_add(simd.$to_int(a), simd.$to_int(b)))
            }
            #[inline(always)]
            fn bits_sub<S: Isa>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$from_int(simd.$int_sub(simd.$to_int(a), simd.$to_int(b)))
            }
            #[inline(always)]
            fn bits_shift_left<S: Isa>(simd: S, x: S::$vector, amount: u32) -> S::$vector {
                simd.$from_int($shl(simd, simd.$to_int(x), amount))
            }
            #[inline(always)]
            fn bits_shift_right<S: Isa>(simd: S, x: S::$vector, amount: u32) -> S::$vector {
                simd.$from_int($shr(simd, simd.$to_int(x), amount))
            }
            #[inline(always)]
            fn words_at_least<S: Isa>(
                simd: S,
                words: &[u32],
                shift: u32,
                threshold: u32,
            ) -> S::$mask {
                $words(simd, words, shift, threshold)
            }
            #[inline(always)]
            fn sum_lanes<S: Isa>(simd: S, x: S::$vector) -> Self {
                simd.$sum(x)
            }
            #[inline(always)]
            fn max_lane<S: Isa>(simd: S, x: S::$vector) -> Self {
                simd.$max(x)
            }
            #[inline(always)]
            fn min_lane<S: Isa>(simd: S, x: S::$vector) -> Self {
                simd.$min(x)
            }
        }
    };
}

#[inline(always)]
fn shl_u32<S: Isa>(simd: S, x: S::u32s, amount: u32) -> S::u32s {
    simd.wrapping_dyn_shl_u32s(x, simd.splat_u32s(amount))
}

#[inline(always)]
fn shr_u32<S: Isa>(simd: S, x: S::u32s, amount: u32) -> S::u32s {
    simd.wrapping_dyn_shr_u32s(x, simd.splat_u32s(amount))
}

#[inline(always)]
fn words_at_least_f32<S: Isa>(simd: S, words: &[u32], shift: u32, threshold: u32) -> S::m32s {
    let words = match S::as_simd_u32s(words).0.first() {
        Some(&words) => words,
        None => {
            let inside = simd.mask_between_m32s(0, words.len() as u32).mask();
            // SAFETY: the mask selects the words that there are.
            unsafe { simd.mask_load_ptr_u32s(MemMask::new(inside), words.as_ptr()) }
        }
    };
    let words = simd.wrapping_dyn_shl_u32s(words, simd.splat_u32s(shift));
    simd.greater_than_or_equal_u32s(words, simd.splat_u32s(threshold))
}

/// There is no widening load in pulp; f64 is for gradient checks and exact parity, where this does not matter.
#[inline(always)]
fn words_at_least_f64<S: Isa>(simd: S, words: &[u32], shift: u32, threshold: u32) -> S::m64s {
    let lanes = size_of::<S::f64s>() / size_of::<f64>();
    let mut wide = [0.0; 64];
    for (wide, &word) in wide[..lanes].iter_mut().zip(words) {
        *wide = f64::from(word << shift);
    }
    let wide = S::as_simd_f64s(&wide).0[0];
    simd.less_than_or_equal_f64s(simd.splat_f64s(f64::from(threshold)), wide)
}

simd_real!(
    f32, u32, 23,
    vector f32s mask m32s,
    split as_simd_f32s as_mut_simd_f32s,
    masked mask_between_m32s mask_load_ptr_f32s mask_store_ptr_f32s u32,
    splat_f32s add_f32s sub_f32s mul_f32s div_f32s mul_add_e_f32s neg_f32s abs_f32s sqrt_f32s,
    larger_f32s smaller_f32s round_f32s scale_by_power_f32s power_of_two_f32s,
    less_than_f32s less_than_or_equal_f32s equal_f32s select_u32s and_m32s or_m32s not_m32s first_true_m32s,
    and_f32s or_f32s xor_f32s transmute_u32s_f32s transmute_f32s_u32s add_u32s sub_u32s,
    shl_u32, shr_u32,
    words_at_least_f32,
    reduce_sum_f32s reduce_max_f32s reduce_min_f32s
);

simd_real!(
    f64, u64, 52,
    vector f64s mask m64s,
    split as_simd_f64s as_mut_simd_f64s,
    masked mask_between_m64s mask_load_ptr_f64s mask_store_ptr_f64s u64,
    splat_f64s add_f64s sub_f64s mul_f64s div_f64s mul_add_e_f64s neg_f64s abs_f64s sqrt_f64s,
    larger_f64s smaller_f64s round_f64s scale_by_power_f64s power_of_two_f64s,
    less_than_f64s less_than_or_equal_f64s equal_f64s select_u64s and_m64s or_m64s not_m64s first_true_m64s,
    and_f64s or_f64s xor_f64s transmute_u64s_f64s transmute_f64s_u64s add_u64s sub_u64s,
    Isa::shift_left_u64s, Isa::shift_right_u64s,
    words_at_least_f64,
    reduce_sum_f64s reduce_max_f64s reduce_min_f64s
);

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
mod tests {
    use super::*;
    use crate::dispatch::{Kernel, SimdLevel, dispatch};
    use std::marker::PhantomData;

    /// Runs every operation on the same lanes and compares with the scalar meaning.
    struct Vocabulary<R>(PhantomData<R>);

    fn same<R: SimdReal>(got: R, expected: R) {
        assert!(
            got == expected || (got.is_nan() && expected.is_nan()),
            "got {got}, expected {expected}"
        );
    }

    impl<R: SimdReal> Kernel for Vocabulary<R> {
        type Output = ();
        #[inline(always)]
        fn run<S: Isa>(self, simd: S) {
            let n = Lanes::<S, R>::LEN;
            let nan = R::from_f64(f64::NAN);
            let pool = [
                0.0,
                -0.0,
                1.5,
                -2.5,
                0.5,
                3.5,
                1e9,
                -7.25,
                f64::INFINITY,
                f64::NAN,
                2.0,
            ];
            let a: Vec<R> = (0..n).map(|i| R::from_f64(pool[i % pool.len()])).collect();
            for shift in 0..pool.len() {
                let b: Vec<R> = (0..n)
                    .map(|i| R::from_f64(pool[(i + shift) % pool.len()]))
                    .collect();
                let (x, y) = (Lanes::load(simd, &a), Lanes::load(simd, &b));
                let check = |result: Lanes<S, R>, expected: &dyn Fn(R, R) -> R| {
                    for ((&got, &a), &b) in result.as_slice().iter().zip(&a).zip(&b) {
                        same(got, expected(a, b));
                    }
                };
                check(x + y, &|a, b| a + b);
                check(x - y, &|a, b| a - b);
                check(x * y, &|a, b| a * b);
                check(x / y, &|a, b| a / b);
                check(-x, &|a, _| -a);
                check(x.abs(), &|a, _| Real::abs(a));
                check(x.sqrt(), &|a, _| Real::sqrt(a));
                check(x.mul_add(x, y), &|a, b| a * a + b);
                check(x.round(), &|a, _| R::from_f64(a.to_f64().round_ties_even()));
                check(x.larger_of(y), &|a, b| if a > b { a } else { b });
                check(x.smaller_of(y), &|a, b| if a < b { a } else { b });
                let propagate =
                    |a: R, b: R, pick: R| if a.is_nan() || b.is_nan() { nan } else { pick };
                check(x.max(y), &|a, b| propagate(a, b, if a > b { a } else { b }));
                check(x.min(y), &|a, b| propagate(a, b, if a < b { a } else { b }));
                check(x.less_than(y).select(x, y), &|a, b| {
                    if a < b { a } else { b }
                });
                check(x.less_or_equal(y).or_zero(x), &|a, b| {
                    if a <= b { a } else { R::ZERO }
                });
                check(x.equal(y).or_zero(x), &|a, b| {
                    if a == b { a } else { R::ZERO }
                });
                check((!x.is_nan()).or_zero(x), &|a, _| {
                    if a.is_nan() { R::ZERO } else { a }
                });
                check(x.copy_sign(y), &|a, b| {
                    let size = Real::abs(a);
                    if b.to_f64().is_sign_negative() {
                        -size
                    } else {
                        size
                    }
                });
                assert_eq!(x.is_nan().any(), a.iter().any(|a| a.is_nan()));
            }
            let ones = Lanes::<S, R>::splat(simd, R::ONE);
            same(ones.sum(), R::from_usize(n));
            let ramp: Vec<R> = (0..n).map(R::from_usize).collect();
            let ramp = Lanes::load(simd, &ramp);
            same(ramp.largest_lane(), R::from_usize(n - 1));
            same(ramp.smallest_lane(), R::ZERO);
            for (i, &x) in ramp.map(|x| x + R::ONE).as_slice().iter().enumerate() {
                same(x, R::from_usize(i + 1));
            }
            let exponent = ones.bits_shift_right(R::MANTISSA_BITS);
            assert_eq!(
                exponent.as_slice()[0].to_bits_u64(),
                if R::MANTISSA_BITS == 23 { 127 } else { 1023 }
            );
            same(
                exponent.bits_shift_left(R::MANTISSA_BITS).as_slice()[0],
                R::ONE,
            );
            let eps = ones.bits_add(Lanes::splat_bits(simd, 1)) - ones;
            same(eps.as_slice()[n - 1], R::EPSILON);
            // Scaling by powers of two, into the denormals and back out of range.
            let (lowest, highest) = if R::MANTISSA_BITS == 23 {
                (-149, 127)
            } else {
                (-1074, 1023)
            };
            for power in [
                lowest - 1,
                lowest,
                lowest + 20,
                -1,
                0,
                1,
                highest,
                highest + 1,
            ] {
                let scaled = Lanes::splat(simd, R::from_f64(1.25))
                    .scale_by_power(Lanes::splat(simd, R::from_f64(f64::from(power))));
                // In f64 the product is exact for f32; for f64 two factors keep it in range.
                let half = f64::from(power / 2).exp2();
                let expected = 1.25 * half * f64::from(power - power / 2).exp2();
                same(scaled.as_slice()[0], R::from_f64(expected));
            }
        }
    }

    #[test]
    fn operations_mean_what_they_say_on_every_level() {
        for level in SimdLevel::supported() {
            dispatch(level, Vocabulary::<f32>(PhantomData));
            dispatch(level, Vocabulary::<f64>(PhantomData));
        }
    }

    struct Partial<R>(PhantomData<R>);

    impl<R: SimdReal> Kernel for Partial<R> {
        type Output = ();
        #[inline(always)]
        fn run<S: Isa>(self, simd: S) {
            let n = Lanes::<S, R>::LEN;
            for len in 0..=n + 2 {
                let x: Vec<R> = (1..=len).map(R::from_usize).collect();
                let loaded = Lanes::load_partial(simd, &x);
                for (i, &lane) in loaded.as_slice().iter().enumerate() {
                    same(
                        lane,
                        if i < len {
                            R::from_usize(i + 1)
                        } else {
                            R::ZERO
                        },
                    );
                }
                let mut y = vec![R::ZERO; n + 3];
                (loaded + R::ONE).store_partial(&mut y[..len]);
                for (i, &slot) in y.iter().enumerate() {
                    let written = i < len.min(n);
                    same(
                        slot,
                        if written {
                            R::from_usize(i + 2)
                        } else {
                            R::ZERO
                        },
                    );
                }
                for (i, &lane) in LaneMask::first(simd, len)
                    .or_zero(Lanes::splat(simd, R::ONE))
                    .as_slice()
                    .iter()
                    .enumerate()
                {
                    same(lane, if i < len { R::ONE } else { R::ZERO });
                }
            }
        }
    }

    #[test]
    fn partial_loads_and_stores_stay_inside() {
        for level in SimdLevel::supported() {
            dispatch(level, Partial::<f32>(PhantomData));
            dispatch(level, Partial::<f64>(PhantomData));
        }
    }
}
