//! Rows of f32 to bf16 and back, by the processor's own instructions: bias, ReLU, rounding.

use std::arch::x86_64::*;

use nd_core::bf16;

use super::config::TILE;
use super::finish::WIDE;
use crate::convert::narrow_bf16;
use crate::matmul::half::dot::{first, narrow, widen};

/// What is done to sums on their way.
#[derive(Clone, Copy)]
pub(super) struct Last {
    /// One value for each column, or null.
    pub(super) bias: *const f32,
    pub(super) relu: bool,
}

impl Last {
    pub(super) const NOTHING: Self = Self {
        bias: std::ptr::null(),
        relu: false,
    };

    /// What is added to each row: nothing changes if there is no bias.
    ///
    /// # Safety
    /// The bias may be read at the columns of the masks.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn bias(&self, masks: [__mmask16; 2]) -> [__m512; 2] {
        if self.bias.is_null() {
            return [_mm512_set1_ps(-0.0); 2];
        }
        // SAFETY: the caller's.
        [0, 1].map(|j| unsafe { _mm512_maskz_loadu_ps(masks[j], self.bias.wrapping_add(j * TILE)) })
    }

    /// The least that a result can be.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) fn least(&self) -> __m512 {
        _mm512_set1_ps(if self.relu { 0.0 } else { f32::NEG_INFINITY })
    }

    /// Whether sums of tiles, which are not denormal, may become so by the bias.
    ///
    /// By none that is zero or at least 2^-102 in size: a denormal result would have a sum of about that size too, both would be
    /// multiples of 2^-126, and so would be their sum, which then is zero or normal.
    ///
    /// # Safety
    /// As [`Last::bias`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn may_make_denormal(&self, masks: [__mmask16; 2]) -> bool {
        /// 24 binary places above the smallest normal number.
        const SMALL: f32 = f32::MIN_POSITIVE * (1 << 24) as f32;
        let mut small = 0;
        // SAFETY: the caller's.
        for bias in unsafe { self.bias(masks) } {
            let size = _mm512_abs_ps(bias);
            let bits = _mm512_castps_si512(size);
            small |= _mm512_cmp_ps_mask::<_CMP_LT_OQ>(size, _mm512_set1_ps(SMALL))
                & _mm512_test_epi32_mask(bits, bits);
        }
        small != 0
    }
}

/// Rows of f32, [`WIDE`] apart, on their way to bf16.
pub(super) struct Rows {
    pub(super) wide: *const f32,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) last: Last,
    pub(super) target: *mut bf16,
    /// From row to row of the target.
    pub(super) stride: usize,
}

impl Rows {
    /// Rounds them, after bias and ReLU: `ANY` numbers, or sums as they come from tiles.
    ///
    /// # Safety
    /// The numbers and the bias may be read, the target be written; tiles prove that the processor has the instructions.
    #[inline(always)]
    pub(super) unsafe fn round<const ANY: bool>(&self) {
        // SAFETY: the caller's.
        unsafe {
            let normal = if self.cols == WIDE {
                self.round_natively::<ANY, true>()
            } else {
                self.round_natively::<ANY, false>()
            };
            if !normal {
                self.round_exactly();
            }
        }
    }

    /// [`Rows::round`] with the processor's own rounding; `false` if one of the numbers is or might be denormal, for which it puts zero.
    ///
    /// # Safety
    /// As [`Rows::round`]; there are [`WIDE`] columns if `WHOLE`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn round_natively<const ANY: bool, const WHOLE: bool>(&self) -> bool {
        const DENORMAL: i32 = 0x20;
        let &Self {
            wide,
            rows,
            cols,
            ref last,
            target,
            stride,
        } = self;
        let masks = [first(cols), first(cols.saturating_sub(TILE))];
        let both = u32::from(masks[0]) | u32::from(masks[1]) << 16;
        // SAFETY: the caller's.
        let (bias, least) = unsafe { (last.bias(masks), last.least()) };
        let load = |from: *const f32, j: usize| {
            if WHOLE {
                // SAFETY: the caller's.
                unsafe { _mm512_loadu_ps(from) }
            } else {
                // SAFETY: the caller's: columns of the mask.
                unsafe { _mm512_maskz_loadu_ps(masks[j], from) }
            }
        };
        let mut denormal = 0;
        for i in 0..rows {
            let [low, high] = [0, 1].map(|j| {
                let at = i * WIDE + j * TILE;
                let x = load(wide.wrapping_add(at), j);
                // The second operand when either is NaN, so NaN stays.
                let x = _mm512_max_ps(least, _mm512_add_ps(x, bias[j]));
                if ANY {
                    denormal |= _mm512_fpclass_ps_mask::<DENORMAL>(x);
                }
                x
            });
            let to = target.wrapping_add(i * stride);
            let rounded = narrow(low, high);
            // SAFETY: the caller's columns of a row.
            unsafe {
                if WHOLE {
                    _mm512_storeu_si512(to.cast(), rounded);
                } else {
                    _mm512_mask_storeu_epi16(to.cast(), both, rounded);
                }
            }
        }
        // SAFETY: the caller's.
        denormal == 0 && (ANY || unsafe { !last.may_make_denormal(masks) })
    }

    /// [`Rows::round`], number by number and right for denormals.
    ///
    /// # Safety
    /// As [`Rows::round`].
    #[cold]
    #[inline(never)]
    unsafe fn round_exactly(&self) {
        for i in 0..self.rows {
            for j in 0..self.cols {
                let at = i * WIDE + j;
                // SAFETY: the caller's.
                unsafe {
                    let mut x = *self.wide.add(at);
                    if !self.last.bias.is_null() {
                        x += *self.last.bias.add(j);
                    }
                    // A NaN is not less than zero, and stays.
                    if self.last.relu && x < 0.0 {
                        x = 0.0;
                    }
                    *self.target.add(i * self.stride + j) = bf16::from_bits(narrow_bf16(x));
                }
            }
        }
    }
}

/// Rows of bf16 as f32, [`WIDE`] apart.
///
/// # Safety
/// The rows may be read, the target be written.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) unsafe fn widen_rows(
    source: *const bf16,
    stride: usize,
    rows: usize,
    cols: usize,
    target: *mut f32,
) {
    let masks = [first(cols), first(cols.saturating_sub(TILE))];
    for i in 0..rows {
        for (j, &mask) in masks.iter().enumerate() {
            let from = source.wrapping_add(i * stride + j * TILE);
            let to = target.wrapping_add(i * WIDE + j * TILE);
            // SAFETY: the caller's: columns of the mask.
            unsafe { _mm512_mask_storeu_ps(to, mask, widen(from, mask)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tiles;
    use super::*;

    #[test]
    fn a_bias_that_can_make_sums_denormal_is_seen() {
        if Tiles::new().is_none() {
            return;
        }
        for tiny in [1e-45, -1e-39, f32::MIN_POSITIVE, 2.0_f32.powi(-103)] {
            for place in [0, 15, 16, 31] {
                let mut bias = [0.0; WIDE];
                bias[3] = -0.0;
                bias[4] = -(2.0_f32.powi(-102));
                bias[5] = f32::NAN;
                let last = |bias: &[f32; WIDE]| Last {
                    bias: bias.as_ptr(),
                    relu: false,
                };
                // SAFETY: tiles prove that the processor has the instructions; the bias is whole.
                unsafe {
                    assert!(!last(&bias).may_make_denormal([!0; 2]));
                    bias[place] = tiny;
                    assert!(last(&bias).may_make_denormal([!0; 2]), "{tiny} at {place}");
                }
            }
        }
    }
}
