//! Probabilities again, and the gradients of the scores: between the products of the backward pass.
//!
//! In its simple form `P = exp(S - lse)` and `dS = P (dP - delta)` take the place of scores and gradients. Where the products that follow
//! want bf16, the same pass writes it (with AVX-512 BF16, and without dropout): no other one has to read what was just computed in order to
//! round it.

use nd_core::{SimdLevel, bf16};
use nd_simd::{Isa, Kernel, Lanes, SimdReal, dispatch};

use super::exponential::weight;

/// A tile of scores in the backward pass, `[keys, width]`.
#[derive(Debug)]
pub struct SoftmaxAgain<'a, R> {
    /// Scores, which become (dropped) probabilities.
    pub(super) scores: &'a mut [R],
    /// Gradients of the probabilities, which become those of the scores.
    pub(super) gradients: &'a mut [R],
    pub(super) width: usize,
    /// The logarithm of each query's sum of exponentials, infinite where it sees nothing.
    pub(super) lse: &'a [R],
    /// The product of each query's output and its gradient.
    pub(super) delta: &'a [R],
    /// Factors of dropout, as the tile, or nothing.
    pub(super) factors: &'a [R],
}

impl<R: SimdReal> Kernel for SoftmaxAgain<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self {
            scores,
            gradients,
            width,
            lse,
            delta,
            factors,
        } = self;
        let lane = |x| Lanes::<S, R>::from_raw(simd, x);
        let (lse, _) = R::split::<S>(lse);
        let (delta, _) = R::split::<S>(delta);
        let rows = scores
            .chunks_exact_mut(width)
            .zip(gradients.chunks_exact_mut(width));
        for (p, (scores, gradients)) in rows.enumerate() {
            let (scores, _) = R::split_mut::<S>(scores);
            let (gradients, _) = R::split_mut::<S>(gradients);
            let row = scores.iter_mut().zip(gradients).zip(lse.iter().zip(delta));
            if factors.is_empty() {
                for ((score, gradient), (&lse, &delta)) in row {
                    let probability = weight(lane(*score) - lane(lse));
                    let ds = probability * (lane(*gradient) - lane(delta));
                    *score = probability.raw();
                    *gradient = ds.raw();
                }
            } else {
                let (factors, _) = R::split::<S>(&factors[p * width..(p + 1) * width]);
                for (((score, gradient), (&lse, &delta)), &factor) in row.zip(factors) {
                    let probability = weight(lane(*score) - lane(lse));
                    let dropped = probability * lane(factor);
                    let ds = probability * (lane(*gradient) * lane(factor) - lane(delta));
                    *score = dropped.raw();
                    *gradient = ds.raw();
                }
            }
        }
    }
}

/// From scores and gradients of probabilities to (dropped) probabilities and gradients of scores, in their places.
pub(super) fn softmax_again<R: SimdReal>(level: SimdLevel, again: SoftmaxAgain<'_, R>) {
    dispatch(level, again);
}

/// The same rounded to bf16 beside them, without dropout; `false`, and nothing is done, where the machine has no instruction for it.
pub(super) fn softmax_again_rounded(
    level: SimdLevel,
    again: &SoftmaxAgain<'_, f32>,
    probabilities: &mut [bf16],
    dscores: &mut [bf16],
) -> bool {
    debug_assert!(again.factors.is_empty(), "dropout wants them in f32");
    let rounded = Rounded {
        again,
        probabilities,
        dscores,
    };
    dispatch(level, rounded)
}

struct Rounded<'a, 'b> {
    again: &'a SoftmaxAgain<'b, f32>,
    probabilities: &'a mut [bf16],
    dscores: &'a mut [bf16],
}

impl Kernel for Rounded<'_, '_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) -> bool {
        #[cfg(target_arch = "x86_64")]
        if const { matches!(S::LEVEL, SimdLevel::Avx512) }
            && std::arch::is_x86_feature_detected!("avx512bf16")
        {
            // SAFETY: `S` proves AVX-512, and the processor has the rest.
            unsafe { x86::rounded(simd, self) };
            return true;
        }
        let Self {
            again,
            probabilities,
            dscores,
        } = self;
        let _ = (simd, again, probabilities, dscores);
        false
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256bh, __m512, _mm512_cvtneps_pbh};

    use super::{Isa, Lanes, Rounded, SimdReal, SoftmaxAgain, bf16, weight};

    /// Numbers of a vector.
    const LANES: usize = 16;

    /// Writes a vector rounded to bf16.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16,avx512vl")]
    fn store<S: Isa>(x: Lanes<S, f32>, to: &mut [bf16; LANES]) {
        assert!(
            Lanes::<S, f32>::LEN == LANES,
            "only vectors of AVX-512 come here"
        );
        // SAFETY: both are sixteen f32, as just checked.
        let wide: __m512 = unsafe { std::mem::transmute_copy(&x.raw()) };
        let to: *mut __m256bh = to.as_mut_ptr().cast();
        // SAFETY: sixteen numbers of two bytes, wherever they begin.
        unsafe { to.write_unaligned(_mm512_cvtneps_pbh(wide)) };
    }

    /// # Safety
    /// The processor has these instructions, and `S` is AVX-512.
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn rounded<S: Isa>(simd: S, rounded: Rounded<'_, '_>) {
        let Rounded {
            again,
            probabilities,
            dscores,
        } = rounded;
        let SoftmaxAgain {
            scores,
            gradients,
            width,
            lse,
            delta,
            ..
        } = again;
        let (lse, _) = f32::split::<S>(lse);
        let (delta, _) = f32::split::<S>(delta);
        let (scores, _) = f32::split::<S>(scores);
        let (gradients, _) = f32::split::<S>(gradients);
        let across = width / LANES;
        let lane = |x| Lanes::<S, f32>::from_raw(simd, x);
        let (probabilities, _) = probabilities.as_chunks_mut::<LANES>();
        let (dscores, _) = dscores.as_chunks_mut::<LANES>();
        let from = scores
            .chunks_exact(across)
            .zip(gradients.chunks_exact(across));
        let to = probabilities
            .chunks_exact_mut(across)
            .zip(dscores.chunks_exact_mut(across));
        for ((scores, gradients), (probabilities, dscores)) in from.zip(to) {
            for i in 0..across {
                let probability = weight(lane(scores[i]) - lane(lse[i]));
                let ds = probability * (lane(gradients[i]) - lane(delta[i]));
                store(probability, &mut probabilities[i]);
                store(ds, &mut dscores[i]);
            }
        }
    }
}
