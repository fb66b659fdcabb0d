//! The element types of vectors, and what each instruction set offers for them under one name.

use std::fmt::Debug;

use nd_core::Real;
use pulp::MemMask;

use crate::dispatch::Isa;
use crate::math::Transcendental;

/// A number that the vector kernels compute with: `f32` or `f64`.
///
/// The methods are the raw vocabulary behind [`super::Lanes`]; kernels use that.
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
