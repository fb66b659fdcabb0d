//! Queries as the right operand of a product: their transpose. The same turns sums that were made across back into tokens.
//!
//! The simple version is `target[c, i] = scale tokens[i, c]`. With AVX-512 sixteen tokens are taken together: a vector is filled with four
//! channels of four tokens straight from memory, four such vectors hold all sixteen, and two steps of exchanges inside quarters of a
//! vector make four channels of them. That is two exchanges for each vector, where a transpose of 16 x 16 in registers needs four.

use nd_core::SimdLevel;
use nd_simd::matmul::MatRef;
use nd_simd::permute::transpose_block;
use nd_simd::{Isa, Kernel, SimdReal, dispatch};

/// `target [channels, width] = scale tokens^T`, zeros beyond the tokens.
pub(super) fn turn<R: SimdReal>(
    level: SimdLevel,
    tokens: MatRef<'_, R>,
    scale: R,
    target: &mut [R],
    width: usize,
) {
    dispatch(
        level,
        Turn {
            tokens,
            scale,
            target,
            width,
        },
    );
}

struct Turn<'a, 'b, R> {
    tokens: MatRef<'a, R>,
    scale: R,
    target: &'b mut [R],
    width: usize,
}

impl<R: SimdReal> Kernel for Turn<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self {
            tokens,
            scale,
            target,
            width,
        } = self;
        let (count, channels) = (tokens.rows(), tokens.cols());
        let stride = tokens.row_stride();
        #[cfg(target_arch = "x86_64")]
        if const { matches!(S::LEVEL, SimdLevel::Avx512) }
            && R::DTYPE == nd_core::DType::F32
            && tokens.col_stride() == 1
            && channels.is_multiple_of(x86::CHANNELS)
            && width.is_multiple_of(x86::TOKENS)
        {
            let whole = count - count % x86::TOKENS;
            assert!(
                count <= width
                    && channels * width <= target.len()
                    && (count == 0 || (count - 1) * stride + channels <= tokens.data().len()),
                "{count} tokens of {channels} channels to rows of {width}"
            );
            let (from, to) = (tokens.data().as_ptr().cast(), target.as_mut_ptr().cast());
            // SAFETY: `S` proves the instructions, `R` is the type tested, and both sides are as large as just checked.
            unsafe {
                x86::turn(
                    from,
                    stride,
                    (whole, channels),
                    scale.to_f64() as f32,
                    to,
                    width,
                );
            }
            if count > whole {
                let last = tokens.row_block(whole, count - whole);
                for (c, row) in target.chunks_exact_mut(width).enumerate() {
                    for (i, x) in row[whole..count].iter_mut().enumerate() {
                        *x = last.data()[i * stride + c] * scale;
                    }
                    row[count..].fill(R::ZERO);
                }
            } else if count < width {
                for row in target.chunks_exact_mut(width) {
                    row[count..].fill(R::ZERO);
                }
            }
            return;
        }
        transpose_block(
            simd,
            tokens.data(),
            stride,
            (count, channels),
            target,
            width,
        );
        for row in target.chunks_exact_mut(width) {
            for x in &mut row[..count] {
                *x *= scale;
            }
            row[count..].fill(R::ZERO);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m512, _MM_HINT_T0, _mm_loadu_ps, _mm_prefetch, _mm512_broadcast_f32x4, _mm512_castpd_ps,
        _mm512_castps_pd, _mm512_mask_broadcast_f32x4, _mm512_mul_ps, _mm512_set1_ps,
        _mm512_storeu_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd,
        _mm512_unpacklo_ps,
    };

    /// Tokens that are taken together.
    pub(super) const TOKENS: usize = 16;

    /// Channels that are.
    pub(super) const CHANNELS: usize = 4;

    /// Channels in a cache line.
    const LINE: usize = 16;

    /// Four channels of the tokens 0, 4, 8 and 12 from `source` on.
    ///
    /// # Safety
    /// The machine has AVX-512, and those elements may be read.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
    unsafe fn every_fourth(source: *const f32, stride: usize) -> __m512 {
        // SAFETY: the caller's. A masked broadcast from memory is a load, and fills one quarter of the vector.
        unsafe {
            let x = _mm512_broadcast_f32x4(_mm_loadu_ps(source));
            let at = |token: usize| source.wrapping_add(token * stride);
            let x = _mm512_mask_broadcast_f32x4(x, 0x00f0, _mm_loadu_ps(at(4)));
            let x = _mm512_mask_broadcast_f32x4(x, 0x0f00, _mm_loadu_ps(at(8)));
            _mm512_mask_broadcast_f32x4(x, 0xf000, _mm_loadu_ps(at(12)))
        }
    }

    /// `target[c * width + i] = scale source[i * stride + c]` for numbers of tokens and channels that are multiples of [`TOKENS`] and
    /// [`CHANNELS`].
    ///
    /// # Safety
    /// The machine has AVX-512, and all of that may be read and written.
    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
    pub(super) unsafe fn turn(
        source: *const f32,
        stride: usize,
        (tokens, channels): (usize, usize),
        scale: f32,
        target: *mut f32,
        width: usize,
    ) {
        let scale = _mm512_set1_ps(scale);
        for i in (0..tokens).step_by(TOKENS) {
            for c in (0..channels).step_by(CHANNELS) {
                let from = source.wrapping_add(i * stride + c);
                if c % LINE == 0 {
                    // The next tokens, or those of the next block: far apart, and the processor does not ask for them by itself.
                    for token in TOKENS..2 * TOKENS {
                        // A hint, which never faults.
                        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(token * stride).cast());
                    }
                }
                // SAFETY: the caller's.
                unsafe {
                    let [a, b, d, e] = [0, 1, 2, 3]
                        .map(|row| every_fourth(from.wrapping_add(row * stride), stride));
                    let low_ab = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
                    let high_ab = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
                    let low_de = _mm512_castps_pd(_mm512_unpacklo_ps(d, e));
                    let high_de = _mm512_castps_pd(_mm512_unpackhi_ps(d, e));
                    let columns = [
                        _mm512_unpacklo_pd(low_ab, low_de),
                        _mm512_unpackhi_pd(low_ab, low_de),
                        _mm512_unpacklo_pd(high_ab, high_de),
                        _mm512_unpackhi_pd(high_ab, high_de),
                    ];
                    for j in 0..CHANNELS {
                        let to = target.wrapping_add((c + j) * width + i);
                        let scaled = _mm512_mul_ps(_mm512_castpd_ps(columns[j]), scale);
                        _mm512_storeu_ps(to, scaled);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_goes_to_its_column_and_the_rest_is_zero() {
        for level in nd_testing::levels() {
            for channels in [1, 3, 4, 8, 20, 64] {
                for count in [1_usize, 3, 15, 16, 17, 31, 40, 64] {
                    let (width, stride) = (count.next_multiple_of(16) + 16, channels + 5);
                    let x: Vec<f32> = (0..count * stride).map(|i| i as f32).collect();
                    let tokens = MatRef::strided(&x, count, channels, stride, 1);
                    let mut target = vec![f32::NAN; channels * width];
                    turn(level, tokens, 0.5, &mut target, width);
                    for (at, &found) in target.iter().enumerate() {
                        let (c, i) = (at / width, at % width);
                        let expected = if i < count {
                            0.5 * x[i * stride + c]
                        } else {
                            0.0
                        };
                        assert!(
                            found == expected,
                            "{level}: {count} tokens, {channels} channels: ({c}, {i}) is {found}, not {expected}"
                        );
                    }
                }
            }
        }
    }
}
