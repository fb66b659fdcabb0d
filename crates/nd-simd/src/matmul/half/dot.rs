//! The dot product of bf16 pairs, `vdpbf16ps`: each lane takes two neighbouring products of k at once.
//!
//! ```text
//! for each pair of k
//!     b[j] = VECS vectors of pairs (b[2p, col], b[2p + 1, col])
//!     for i in 0..ROWS { acc[i][j] += splat(a[i, 2p], a[i, 2p + 1]) . b[j] }
//! ```
//!
//! A bf16 row of A is read in place: a pair is four neighbouring bytes. Everything else is brought to pairs by three small
//! steps: sixteen numbers to f32, two such vectors to bf16 pairs in one instruction, and a transpose of 16 x 16 words.

use std::arch::x86_64::*;

use nd_core::DType;
use pulp::x86::V4;

use super::Operand;
use super::engine::{Engine, Tile};
use super::pack::{padded_rows, pairs};
use crate::lanes::Lanes;
use crate::matmul::kernel::Sums;

/// Proof that the processor has the dot product, AVX-512 and BMI (pulp's V4).
#[derive(Clone, Copy)]
pub(super) struct PairDot {
    simd: V4,
}

impl PairDot {
    /// The engine, where the processor has it.
    pub(super) fn new() -> Option<Self> {
        if !std::arch::is_x86_feature_detected!("avx512bf16") {
            return None;
        }
        V4::try_new().map(|simd| Self { simd })
    }
}

/// A mask of the first `n` of 16 lanes.
#[inline(always)]
pub(super) fn first(n: usize) -> __mmask16 {
    ((1_u32 << n.min(16)) - 1) as __mmask16
}

/// Up to sixteen neighbouring numbers as f32, zeros elsewhere.
///
/// # Safety
/// The elements of the mask may be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) unsafe fn widen<T: Operand>(source: *const T, mask: __mmask16) -> __m512 {
    // SAFETY: the caller's; `T` is the type tested.
    unsafe {
        match T::DTYPE {
            DType::F32 => _mm512_maskz_loadu_ps(mask, source.cast()),
            DType::Bf16 => {
                let half = _mm256_maskz_loadu_epi16(mask, source.cast());
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
            }
            _ => _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, source.cast())),
        }
    }
}

/// `[low 0..16, high 0..16]` as bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) fn narrow(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both are 64 bytes of plain data.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// Sixteen pairs of neighbours: `(x[0], x[1]), (x[2], x[3])..` of the first `count` elements, then zeros.
///
/// # Safety
/// `count` elements, at most 32, may be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn neighbours<T: Operand>(source: *const T, count: usize) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        if T::DTYPE == DType::Bf16 {
            let mask = ((1_u64 << count) - 1) as __mmask32;
            return _mm512_maskz_loadu_epi16(mask, source.cast());
        }
        let low = widen(source, first(count));
        let high = widen(source.wrapping_add(16), first(count.saturating_sub(16)));
        narrow(low, high)
    }
}

/// Words whose low half is from `low` and high half from `high`: `(low[0], high[0]), (low[1], high[1])..`
///
/// # Safety
/// The elements of the masks may be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn interleave<T: Operand>(
    low: *const T,
    high: *const T,
    mask: __mmask16,
    high_mask: __mmask16,
) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        if T::DTYPE == DType::Bf16 {
            let low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, low.cast()));
            let high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(high_mask, high.cast()));
            return _mm512_or_si512(low, _mm512_slli_epi32::<16>(high));
        }
        let both = narrow(widen(low, mask), widen(high, high_mask));
        let order = _mm512_set_epi16(
            31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20,
            4, 19, 3, 18, 2, 17, 1, 16, 0,
        );
        _mm512_permutexvar_epi16(order, both)
    }
}

/// The 32 pairs `(low[0], high[0]), (low[1], high[1])..` of two vectors of 32 numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn zip(low: __m512i, high: __m512i) -> (__m512i, __m512i) {
    // Numbers from 32 on are those of `high`.
    let first = _mm512_set_epi16(
        47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4,
        35, 3, 34, 2, 33, 1, 32, 0,
    );
    let second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
    (
        _mm512_permutex2var_epi16(low, first, high),
        _mm512_permutex2var_epi16(low, second, high),
    )
}

/// `out[j][i] = rows[i][j]` for words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
    let zero = _mm512_setzero_si512();
    // Words of two rows, then pairs of words of four, inside each 128-bit quarter.
    let mut two = [zero; 16];
    for i in 0..8 {
        two[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        two[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    let mut four = [zero; 16];
    for i in 0..4 {
        four[4 * i] = _mm512_unpacklo_epi64(two[4 * i], two[4 * i + 2]);
        four[4 * i + 1] = _mm512_unpackhi_epi64(two[4 * i], two[4 * i + 2]);
        four[4 * i + 2] = _mm512_unpacklo_epi64(two[4 * i + 1], two[4 * i + 3]);
        four[4 * i + 3] = _mm512_unpackhi_epi64(two[4 * i + 1], two[4 * i + 3]);
    }
    // `four[4 g + c]` has, in quarter q, column 4 q + c of the rows 4 g..4 g + 4. What is left is a transpose of quarters.
    let mut out = [zero; 16];
    for c in 0..4 {
        let (a, b, d, e) = (four[c], four[4 + c], four[8 + c], four[12 + c]);
        let ab_even = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
        let ab_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b);
        let de_even = _mm512_shuffle_i32x4::<0b10_00_10_00>(d, e);
        let de_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(d, e);
        out[c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(ab_even, de_even);
        out[8 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(ab_even, de_even);
        out[4 + c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(ab_odd, de_odd);
        out[12 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(ab_odd, de_odd);
    }
    out
}

/// The pair of `low` and, if there is one, `high` as a word.
fn word<T: Operand>(low: T, high: Option<T>) -> u32 {
    let narrow = |x: T| u32::from(crate::convert::narrow_bf16(x.widen()));
    narrow(low) | high.map_or(0, narrow) << 16
}

/// `lines` sequences of `depth` neighbours (`line_stride` apart), to pairs: pair p of line i at `target[p * stored + i]`. Lines up to
/// `stored` and pairs up to `padded_rows(depth)` are written as zeros.
///
/// # Safety
/// All of that may be read and written.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pack_lines_transposed<T: Operand>(
    source: *const T,
    line_stride: usize,
    depth: usize,
    lines: usize,
    target: *mut u32,
    stored: usize,
) {
    for line in (0..stored).step_by(16) {
        let count = 16.min(lines.saturating_sub(line));
        for pair in (0..pairs(padded_rows(depth))).step_by(16) {
            let mut block = [_mm512_setzero_si512(); 16];
            for i in 0..count {
                let from = source.wrapping_add((line + i) * line_stride + 2 * pair);
                // SAFETY: the line has `depth` elements.
                block[i] = unsafe { neighbours(from, 32.min(depth - 2 * pair)) };
            }
            let block = transpose(block);
            for p in 0..16 {
                // SAFETY: inside the target.
                unsafe {
                    let to = target.wrapping_add((pair + p) * stored + line);
                    _mm512_storeu_si512(to.cast(), block[p]);
                }
            }
        }
    }
}

/// Rows of neighbours along k, to rows of `padded_rows(depth)` numbers, zeros behind.
///
/// # Safety
/// All of that may be read and written.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pack_lines<T: Operand>(
    source: *const T,
    line_stride: usize,
    depth: usize,
    lines: usize,
    target: *mut u32,
) {
    for i in 0..lines {
        let words = pairs(padded_rows(depth));
        let (from, to) = (
            source.wrapping_add(i * line_stride),
            target.wrapping_add(i * words),
        );
        for pair in (0..words).step_by(16) {
            // SAFETY: the line has `depth` elements, its target `words` words, a multiple of 16.
            unsafe {
                let words = neighbours(from.wrapping_add(2 * pair), 32.min(depth - 2 * pair));
                _mm512_storeu_si512(to.wrapping_add(pair).cast(), words);
            }
        }
    }
}

/// Row pairs of a matrix whose columns are neighbours, to rows of `stored` words; pairs of zeros up to `padded_rows(depth)`.
///
/// # Safety
/// `depth x width` elements may be read, all of that written; `stored` is a multiple of 16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pack_rows<T: Operand>(
    source: *const T,
    row_stride: usize,
    depth: usize,
    width: usize,
    target: *mut u32,
    stored: usize,
) {
    for pair in 0..pairs(padded_rows(depth)) {
        let low = source.wrapping_add(2 * pair * row_stride);
        let high = low.wrapping_add(row_stride);
        let (has_low, has_high) = (2 * pair < depth, 2 * pair + 1 < depth);
        let to = target.wrapping_add(pair * stored);
        for j in (0..stored).step_by(32) {
            let count = width.saturating_sub(j).min(32);
            // SAFETY: the counts keep to the columns and rows that exist, `stored` is a multiple of 16.
            unsafe {
                let low = neighbours(low.wrapping_add(j), if has_low { count } else { 0 });
                let high = neighbours(high.wrapping_add(j), if has_high { count } else { 0 });
                let (first, second) = zip(low, high);
                _mm512_storeu_si512(to.wrapping_add(j).cast(), first);
                if j + 16 < stored {
                    _mm512_storeu_si512(to.wrapping_add(j + 16).cast(), second);
                }
            }
        }
    }
}

/// The transpose of [`pack_rows`]: rows of A whose elements along m are neighbours, to `padded_rows(depth)` numbers for each of
/// `rows`, zeros behind.
///
/// # Safety
/// `depth x rows` elements may be read, all of that written.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pack_rows_transposed<T: Operand>(
    source: *const T,
    k_stride: usize,
    depth: usize,
    rows: usize,
    target: *mut u32,
) {
    for row in (0..rows).step_by(16) {
        let mask = first(rows - row);
        let words = pairs(padded_rows(depth));
        for pair in (0..words).step_by(16) {
            let count = 16.min(pairs(depth) - pair);
            let mut block = [_mm512_setzero_si512(); 16];
            for p in 0..count {
                let low = source.wrapping_add(2 * (pair + p) * k_stride + row);
                let has_high = 2 * (pair + p) + 1 < depth;
                let high_mask = if has_high { mask } else { 0 };
                // SAFETY: the masks keep to what exists.
                block[p] = unsafe { interleave(low, low.wrapping_add(k_stride), mask, high_mask) };
            }
            let block = transpose(block);
            for i in 0..16.min(rows - row) {
                let to = target.wrapping_add((row + i) * words + pair);
                // SAFETY: sixteen words of row `row + i`.
                unsafe { _mm512_storeu_si512(to.cast(), block[i]) };
            }
        }
    }
}

impl Engine for PairDot {
    const K_BLOCK: usize = 512;
    const LANES: usize = 16;
    const REGISTERS: usize = 32;

    fn in_place<A: Operand>(
        self,
        a: *const A,
        (row_stride, col_stride): (usize, usize),
        depth: usize,
        padded: bool,
    ) -> Option<(*const u8, usize)> {
        (A::DTYPE == DType::Bf16 && col_stride == 1 && (padded || depth.is_multiple_of(2)))
            .then(|| (a.cast(), row_stride.wrapping_mul(2)))
    }

    unsafe fn pack_left<A: Operand>(
        self,
        a: *const A,
        (row_stride, col_stride): (usize, usize),
        rows: usize,
        depth: usize,
        target: *mut u32,
    ) -> usize {
        // SAFETY: the caller's; `self` proves the instructions.
        unsafe {
            if col_stride == 1 {
                pack_lines(a, row_stride, depth, rows, target);
            } else if row_stride == 1 {
                pack_rows_transposed(a, col_stride, depth, rows, target);
            } else {
                let words = pairs(padded_rows(depth));
                for i in 0..rows {
                    for p in 0..words {
                        let low = a.wrapping_add(i * row_stride + 2 * p * col_stride);
                        let high = (2 * p + 1 < depth).then(|| *low.wrapping_add(col_stride));
                        let pair = if 2 * p < depth { word(*low, high) } else { 0 };
                        *target.wrapping_add(i * words + p) = pair;
                    }
                }
            }
        }
        2 * padded_rows(depth)
    }

    unsafe fn pack_right<B: Operand>(
        self,
        b: *const B,
        (row_stride, col_stride): (usize, usize),
        depth: usize,
        width: usize,
        target: *mut u32,
        stored: usize,
    ) {
        // SAFETY: the caller's; `self` proves the instructions.
        unsafe {
            if col_stride == 1 {
                pack_rows(b, row_stride, depth, width, target, stored);
            } else if row_stride == 1 {
                pack_lines_transposed(b, col_stride, depth, width, target, stored);
            } else {
                for p in 0..pairs(padded_rows(depth)) {
                    for j in 0..stored {
                        let low = b.wrapping_add(2 * p * row_stride + j * col_stride);
                        let high =
                            (2 * p + 1 < depth && j < width).then(|| *low.wrapping_add(row_stride));
                        let inside = 2 * p < depth && j < width;
                        let pair = if inside { word(*low, high) } else { 0 };
                        *target.wrapping_add(p * stored + j) = pair;
                    }
                }
            }
        }
    }

    unsafe fn run(self, rows: usize, vecs: usize, last: usize, tile: &Tile) {
        macro_rules! call {
            ($vecs:literal: $($rows:literal)*) => {
                match rows {
                    // SAFETY: the caller's; `self` proves the instructions.
                    $($rows => unsafe {
                        if last == 16 {
                            micro::<$rows, $vecs, false>(self.simd, last, tile);
                        } else {
                            micro::<$rows, $vecs, true>(self.simd, last, tile);
                        }
                    },)*
                    _ => unreachable!("a block of {rows} rows and {vecs} vectors"),
                }
            };
        }
        match vecs {
            1 => call!(1: 1 2 3 4 5 6 7 8 9 10 11 12),
            2 => call!(2: 1 2 3 4 5 6 7 8 9 10 11 12),
            3 => call!(3: 1 2 3 4 5 6 7 8),
            _ => call!(4: 1 2 3 4 5 6),
        }
    }
}

/// A block of `ROWS x VECS` vectors of C.
///
/// # Safety
/// As [`Engine::run`].
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
unsafe fn micro<const ROWS: usize, const VECS: usize, const MASKED: bool>(
    simd: V4,
    last: usize,
    tile: &Tile,
) {
    let mut a = tile.a;
    let mut b = tile.b;
    let mut acc: Sums<V4, f32, ROWS, VECS> = [[Lanes::zero(simd); VECS]; ROWS];
    for _ in 0..pairs(tile.depth) {
        let mut row = [_mm512_setzero_si512(); VECS];
        for j in 0..VECS {
            // SAFETY: rows of packed B are whole vectors.
            row[j] = unsafe { _mm512_loadu_si512(b.wrapping_add(16 * j).cast()) };
        }
        for i in 0..ROWS {
            let pair = a.wrapping_add(i * tile.a_row_bytes).cast::<i32>();
            // SAFETY: `ROWS` rows of A; the vectors are plain data of 64 bytes.
            unsafe {
                let x = std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(
                    pair.read_unaligned(),
                ));
                for j in 0..VECS {
                    let y = std::mem::transmute::<__m512i, __m512bh>(row[j]);
                    let sum = _mm512_dpbf16_ps(pulp::cast(acc[i][j].raw()), x, y);
                    acc[i][j] = Lanes::from_raw(simd, pulp::cast(sum));
                }
            }
        }
        a = a.wrapping_add(4);
        b = b.wrapping_add(tile.b_stride);
    }
    // SAFETY: the tile is valid for the block.
    unsafe {
        tile.output
            .finish::<V4, ROWS, VECS, MASKED>(simd, last, acc)
    };
}
