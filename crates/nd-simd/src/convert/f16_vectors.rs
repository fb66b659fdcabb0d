//! f16 by the processor's own conversions, which are exact one way and round to nearest, ties to even, the other.

/// Sixteen numbers an instruction: AVX-512.
pub(super) mod sixteen {
    use nd_core::f16;
    use pulp::NullaryFnOnce;
    use pulp::x86::V4;

    use crate::dispatch::{SimdLevel, unsupported};

    /// Numbers of a vector.
    const LANES: usize = 16;
    /// To nearest, ties to even, without exceptions.
    const NEAREST: i32 = 0x08;

    fn token() -> V4 {
        match V4::try_new() {
            Some(simd) => simd,
            None => unsupported(SimdLevel::Avx512),
        }
    }

    struct Narrow<'a>(V4, &'a [f32], &'a mut [f16]);

    impl Narrow<'_> {
        #[inline(always)]
        fn vector(simd: V4, x: [f32; LANES]) -> [f16; LANES] {
            let bits: [u16; LANES] =
                pulp::cast(simd.avx512f._mm512_cvtps_ph::<NEAREST>(pulp::cast(x)));
            bits.map(f16::from_bits)
        }
    }

    impl NullaryFnOnce for Narrow<'_> {
        type Output = ();
        #[inline(always)]
        fn call(self) {
            let Self(simd, x, y) = self;
            let (x_full, x_rest) = x.as_chunks();
            let (y_full, y_rest) = y.as_chunks_mut();
            for (&x, y) in x_full.iter().zip(y_full) {
                *y = Self::vector(simd, x);
            }
            let mut last = [0.0; LANES];
            last[..x_rest.len()].copy_from_slice(x_rest);
            y_rest.copy_from_slice(&Self::vector(simd, last)[..x_rest.len()]);
        }
    }

    struct Widen<'a>(V4, &'a [f16], &'a mut [f32]);

    impl Widen<'_> {
        #[inline(always)]
        fn vector(simd: V4, x: [f16; LANES]) -> [f32; LANES] {
            let bits = pulp::cast(x.map(f16::to_bits));
            pulp::cast(simd.avx512f._mm512_cvtph_ps(bits))
        }
    }

    impl NullaryFnOnce for Widen<'_> {
        type Output = ();
        #[inline(always)]
        fn call(self) {
            let Self(simd, x, y) = self;
            let (x_full, x_rest) = x.as_chunks();
            let (y_full, y_rest) = y.as_chunks_mut();
            for (&x, y) in x_full.iter().zip(y_full) {
                *y = Self::vector(simd, x);
            }
            let mut last = [f16::ZERO; LANES];
            last[..x_rest.len()].copy_from_slice(x_rest);
            y_rest.copy_from_slice(&Self::vector(simd, last)[..x_rest.len()]);
        }
    }

    /// As [`super::super::f32_to_f16`], lengths checked.
    pub(in super::super) fn narrow(x: &[f32], y: &mut [f16]) {
        let simd = token();
        simd.vectorize(Narrow(simd, x, y));
    }

    /// As [`super::super::f16_to_f32`], lengths checked.
    pub(in super::super) fn widen(x: &[f16], y: &mut [f32]) {
        let simd = token();
        simd.vectorize(Widen(simd, x, y));
    }
}

/// Eight numbers an instruction: F16C, which processors with AVX2 have.
pub(super) mod eight {
    use std::arch::x86_64::{
        __m128i, _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128, _mm_storeu_si128, _mm256_cvtph_ps,
        _mm256_cvtps_ph, _mm256_loadu_ps, _mm256_storeu_ps,
    };

    use nd_core::f16;

    /// Numbers of a vector.
    const LANES: usize = 8;

    /// Proof that the processor has the instructions.
    #[derive(Clone, Copy)]
    pub(in super::super) struct F16c(());

    #[target_feature(enable = "avx,f16c")]
    fn narrow_vectors(x: &[[f32; LANES]], y: &mut [[f16; LANES]]) {
        for (x, y) in x.iter().zip(y) {
            // SAFETY: eight numbers may be read and eight be written; an f16 is its bits.
            unsafe {
                let bits =
                    _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(x.as_ptr()));
                _mm_storeu_si128(y.as_mut_ptr().cast::<__m128i>(), bits);
            }
        }
    }

    #[target_feature(enable = "avx,f16c")]
    fn widen_vectors(x: &[[f16; LANES]], y: &mut [[f32; LANES]]) {
        for (x, y) in x.iter().zip(y) {
            // SAFETY: as above.
            unsafe {
                let bits = _mm_loadu_si128(x.as_ptr().cast::<__m128i>());
                _mm256_storeu_ps(y.as_mut_ptr(), _mm256_cvtph_ps(bits));
            }
        }
    }

    impl F16c {
        pub(in super::super) fn new() -> Option<Self> {
            let there = std::arch::is_x86_feature_detected!("avx")
                && std::arch::is_x86_feature_detected!("f16c");
            there.then_some(Self(()))
        }

        /// As [`super::super::f32_to_f16`], lengths checked.
        pub(in super::super) fn narrow(self, x: &[f32], y: &mut [f16]) {
            let (x_full, x_rest) = x.as_chunks();
            let (y_full, y_rest) = y.as_chunks_mut();
            let (mut last, mut to) = ([0.0; LANES], [f16::ZERO; LANES]);
            last[..x_rest.len()].copy_from_slice(x_rest);
            // SAFETY: `self` proves that there are the instructions.
            unsafe {
                narrow_vectors(x_full, y_full);
                narrow_vectors(&[last], std::array::from_mut(&mut to));
            }
            y_rest.copy_from_slice(&to[..y_rest.len()]);
        }

        /// As [`super::super::f16_to_f32`], lengths checked.
        pub(in super::super) fn widen(self, x: &[f16], y: &mut [f32]) {
            let (x_full, x_rest) = x.as_chunks();
            let (y_full, y_rest) = y.as_chunks_mut();
            let (mut last, mut to) = ([f16::ZERO; LANES], [0.0; LANES]);
            last[..x_rest.len()].copy_from_slice(x_rest);
            // SAFETY: as above.
            unsafe {
                widen_vectors(x_full, y_full);
                widen_vectors(&[last], std::array::from_mut(&mut to));
            }
            y_rest.copy_from_slice(&to[..y_rest.len()]);
        }
    }
}
