//! f16 by the processor's own conversions, which are exact one way and round to nearest, ties to even, the other.

use std::arch::x86_64::{
    __m128i, __m256i, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128,
    _mm_storeu_si128, _mm256_cvtph_ps, _mm256_cvtps_ph, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_storeu_ps, _mm256_storeu_si256, _mm512_cvtph_ps, _mm512_cvtps_ph, _mm512_loadu_ps,
    _mm512_storeu_ps,
};

use nd_core::{Element, f16};

use crate::dispatch::{SimdLevel, unsupported};

/// Whole vectors, and once more what is left over, filled up with zeros.
#[inline(always)]
fn by_vectors<X: Element, Y: Element, const LANES: usize>(
    x: &[X],
    y: &mut [Y],
    convert: impl Fn(&[[X; LANES]], &mut [[Y; LANES]]),
) {
    let (x_full, x_rest) = x.as_chunks();
    let (y_full, y_rest) = y.as_chunks_mut();
    convert(x_full, y_full);
    let (mut last, mut to) = ([X::ZERO; LANES], [Y::ZERO; LANES]);
    last[..x_rest.len()].copy_from_slice(x_rest);
    convert(&[last], std::array::from_mut(&mut to));
    y_rest.copy_from_slice(&to[..y_rest.len()]);
}

/// The conversions of one instruction set, for slices of equal lengths.
macro_rules! conversions {
    (
        $(#[$what:meta])* $token:ident, $features:literal, $lanes:literal lanes,
        $load:ident, $store:ident, $load_bits:ident, $store_bits:ident, $bits:ty, $widen:ident, $narrow:ident $rounding:expr
    ) => {
        $(#[$what])*
        #[derive(Clone, Copy)]
        pub(super) struct $token(());

        impl $token {
            #[target_feature(enable = $features)]
            fn narrow_vectors(x: &[[f32; $lanes]], y: &mut [[f16; $lanes]]) {
                for (x, y) in x.iter().zip(y) {
                    // SAFETY: a vector of each may be read and written; an f16 is its bits.
                    unsafe {
                        let bits = $narrow::<{ $rounding }>($load(x.as_ptr()));
                        $store_bits(y.as_mut_ptr().cast::<$bits>(), bits);
                    }
                }
            }

            #[target_feature(enable = $features)]
            fn widen_vectors(x: &[[f16; $lanes]], y: &mut [[f32; $lanes]]) {
                for (x, y) in x.iter().zip(y) {
                    // SAFETY: as above.
                    unsafe {
                        let bits = $load_bits(x.as_ptr().cast::<$bits>());
                        $store(y.as_mut_ptr(), $widen(bits));
                    }
                }
            }

            /// As [`super::f32_to_f16`].
            pub(super) fn narrow(self, x: &[f32], y: &mut [f16]) {
                // SAFETY: `self` proves that there are the instructions.
                by_vectors(x, y, |x, y| unsafe { Self::narrow_vectors(x, y) });
            }

            /// As [`super::f16_to_f32`].
            pub(super) fn widen(self, x: &[f16], y: &mut [f32]) {
                // SAFETY: as above.
                by_vectors(x, y, |x, y| unsafe { Self::widen_vectors(x, y) });
            }
        }
    };
}

conversions!(
    /// Proof that there are instructions for sixteen numbers: AVX-512.
    Sixteen, "avx512f", 16 lanes,
    _mm512_loadu_ps, _mm512_storeu_ps, _mm256_loadu_si256, _mm256_storeu_si256, __m256i,
    _mm512_cvtph_ps, _mm512_cvtps_ph _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC
);
conversions!(
    /// Proof that there are instructions for eight numbers: F16C, which processors with AVX2 have.
    Eight, "avx,f16c", 8 lanes,
    _mm256_loadu_ps, _mm256_storeu_ps, _mm_loadu_si128, _mm_storeu_si128, __m128i,
    _mm256_cvtph_ps, _mm256_cvtps_ph _MM_FROUND_TO_NEAREST_INT
);

impl Sixteen {
    /// Panics where the machine lacks [`SimdLevel::Avx512`].
    pub(super) fn new() -> Self {
        match pulp::x86::V4::try_new() {
            Some(_) => Self(()),
            None => unsupported(SimdLevel::Avx512),
        }
    }
}

impl Eight {
    pub(super) fn new() -> Option<Self> {
        let there = std::arch::is_x86_feature_detected!("avx")
            && std::arch::is_x86_feature_detected!("f16c");
        there.then_some(Self(()))
    }
}
