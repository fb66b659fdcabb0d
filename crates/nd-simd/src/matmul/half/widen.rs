//! Products of operands that are widened to f32: what happens where a format has no arithmetic.
//!
//! ```text
//! for each block of k, so many rows of B that they stay in the second cache level
//!     widen them, unless they are f32
//!     for each block of rows of A:  widen it, unless it is f32;  multiply both as f32
//! ```
//!
//! Operands are widened line by line as they lie in memory, with the processor's instructions for it, and the f32 product gets them with
//! the strides they had: a transposed operand costs no more than another. Blocks of k are whole chains of the f32 product, so the sums have the
//! bits of that product.
//!
//! Known weakness: a B that several products share is widened for each; [`super::Prepared::Wide`] is one that has been widened before.

use nd_core::options::Precision;
use nd_core::{bf16, threads};

use super::Operand;
use super::pack::PackedBf16;
use super::task::{Right, Task};
use crate::convert::{narrow_bf16, narrow_f16, round_to_bf16, round_to_f16, widen_f16};
use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch};
use crate::matmul::kernel::{LINE, PIECE, WHOLE_ROWS};
use crate::matmul::pack::take;
use crate::matmul::view::{MatMut, MatRef};
use crate::matmul::{Epilogue, Fetch, multiply_fused_parallel, multiply_streaming};

/// Numbers of a block of B: 256 KiB of f32.
const RIGHT: usize = 1 << 16;

/// Rows of B in a block at most.
const DEPTH: usize = 2048;

/// The same where B is f32 and A is not: longer lines of A are widened faster, but fewer rows of it then share a reading of B.
const LENT_DEPTH: usize = 512;

/// [`RIGHT`] for all threads together.
const RIGHT_PARALLEL: usize = 1 << 18;

/// Numbers of a block of A that one thread widens and multiplies: 72 rows of 512. (So many rows that the f32 product has whole blocks.)
const LEFT: usize = 72 << 9;

/// The same for all threads together.
const LEFT_PARALLEL: usize = 1 << 19;

/// Numbers that one thread widens at a time.
const PART: usize = 1 << 14;

/// Numbers of a line that make lines share the sets of a cache: 1 KiB.
const EVEN: usize = 256;

/// Numbers of a cache line.
const PAD: usize = LINE / size_of::<f32>();

/// Pairs of steps for each line of what is widened next.
const PACE: usize = 2;

/// Numbers of both operands from which on they come from further away than the second cache level, so that asking pays; of 32 x 512 x 512 it
/// cost four percent.
const FAR_NUMBERS: usize = 1 << 19;

/// How an operand is rounded before the product.
pub(super) trait Rounding: Copy {
    /// The nearest number of the format.
    fn round(x: f32) -> f32;
}

#[derive(Clone, Copy)]
pub(super) struct ToBf16;
#[derive(Clone, Copy)]
pub(super) struct ToF16;

impl Rounding for ToBf16 {
    #[inline(always)]
    fn round(x: f32) -> f32 {
        f32::from_bits(u32::from(narrow_bf16(x)) << 16)
    }
}

impl Rounding for ToF16 {
    #[inline(always)]
    fn round(x: f32) -> f32 {
        widen_f16(narrow_f16(x))
    }
}

/// Two numbers rounded to bf16.
#[inline(always)]
pub(super) fn narrow_pair<B: Operand>(pair: [B; 2]) -> [bf16; 2] {
    pair.map(|x| bf16::from_bits(narrow_bf16(x.widen())))
}

/// Rounds f32 numbers to those of the format.
fn round_all(level: SimdLevel, precision: Precision, x: &mut [f32]) {
    match precision {
        Precision::F32 => {}
        Precision::Bf16 => round_to_bf16(level, x),
        Precision::F16 => round_to_f16(level, x),
    }
}

/// The matrix itself, where it is f32 and nothing is to be rounded.
pub(super) fn lent<T: Operand>(precision: Precision, x: MatRef<'_, T>) -> Option<MatRef<'_, f32>> {
    T::as_f32(x).filter(|_| precision == Precision::F32)
}

/// Whether it lies in memory column by column.
fn by_columns<T: Operand>(x: MatRef<'_, T>) -> bool {
    x.row_stride() == 1 && x.col_stride() != 1 && x.rows() > 1
}

/// What is to be asked for before [`widen`] reads a matrix.
pub(super) fn fetch<T: Operand>(x: MatRef<'_, T>) -> Fetch {
    Fetch::of(if by_columns(x) { x.t() } else { x })
}

/// From line to line of so many numbers that have been widened. Lines that lie a multiple of 1 KiB apart would share few sets of the caches: the
/// panels of a B 2048 columns wide did not even stay in the second level, and its products took twice as long.
fn line_stride(len: usize) -> usize {
    if len > 0 && len.is_multiple_of(EVEN) {
        len + PAD
    } else {
        len
    }
}

/// Room for a matrix that is widened, by rows or by columns, and for any with fewer of them: these may lie further apart.
pub(super) fn wide_len(rows: usize, cols: usize) -> usize {
    rows * cols + PAD * rows.max(cols)
}

/// The matrix, rounded and widened to `room`, in the order in which it lies in memory.
pub(super) fn widen<'r, T: Operand>(
    level: SimdLevel,
    precision: Precision,
    parallel: bool,
    x: MatRef<'_, T>,
    room: &'r mut [f32],
) -> MatRef<'r, f32> {
    let by_columns = by_columns(x);
    let lines = if by_columns { x.t() } else { x };
    let (count, len) = (lines.rows(), lines.cols());
    let stride = line_stride(len);
    let room = &mut room[..count * stride];
    if !room.is_empty() {
        let at_once = (PART / len).max(1);
        threads::for_each_chunk(parallel, room, at_once * stride, |i, room| {
            let lines = lines.row_block(i * at_once, room.len() / stride);
            widen_lines(level, lines, room, stride);
            if T::FORMAT != precision {
                round_all(level, precision, room);
            }
        });
    }
    let wide = MatRef::strided(room, count, len, stride, 1);
    if by_columns { wide.t() } else { wide }
}

fn widen_lines<T: Operand>(
    level: SimdLevel,
    x: MatRef<'_, T>,
    room: &mut [f32],
    room_stride: usize,
) {
    let (len, stride, step) = (x.cols(), x.row_stride(), x.col_stride());
    let data = x.data();
    if step == 1 && stride == len && room_stride == len {
        return T::widen_slice(level, &data[..room.len()], room);
    }
    for (i, to) in room.chunks_exact_mut(room_stride).enumerate() {
        let to = &mut to[..len];
        if step == 1 {
            T::widen_slice(level, &data[i * stride..][..len], to);
        } else {
            for (j, to) in to.iter_mut().enumerate() {
                *to = data[i * stride + j * step].widen();
            }
        }
    }
}

/// Pairs of rows of a panel as f32.
struct Unpack<'a> {
    /// Pairs of the rows, `stored` for each two rows.
    pairs: &'a [[bf16; 2]],
    stored: usize,
    /// From the panel's first column of the first row on.
    target: &'a mut [f32],
    /// From row to row of the target.
    stride: usize,
    rows: usize,
    width: usize,
}

impl Kernel for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        let wide = |x: bf16| f32::from_bits(u32::from(x.to_bits()) << 16);
        for (p, pairs) in self.pairs.chunks_exact(self.stored).enumerate() {
            if 2 * p >= self.rows {
                break;
            }
            let pairs = &pairs[..self.width];
            let target = &mut self.target[2 * p * self.stride..];
            if 2 * p + 1 == self.rows {
                for (pair, low) in pairs.iter().zip(target) {
                    *low = wide(pair[0]);
                }
                break;
            }
            let (low, high) = target.split_at_mut(self.stride);
            let rows = low[..self.width].iter_mut().zip(&mut high[..self.width]);
            for (pair, (low, high)) in pairs.iter().zip(rows) {
                *low = wide(pair[0]);
                *high = wide(pair[1]);
            }
        }
    }
}

/// `rows` rows of a packed matrix as f32, by rows, from the even row `first` on.
pub(super) fn unpack<'r>(
    level: SimdLevel,
    b: PackedBf16<'_>,
    first: usize,
    rows: usize,
    room: &'r mut [f32],
) -> MatRef<'r, f32> {
    let stride = line_stride(b.cols());
    let target = &mut room[..rows * stride];
    for (column, width, stored, pairs) in b.panels() {
        let pairs = &pairs[first / 2 * stored..];
        dispatch(
            level,
            Unpack {
                pairs,
                stored,
                target: target.get_mut(column..).unwrap_or_default(),
                stride,
                rows,
                width,
            },
        );
    }
    MatRef::strided(target, rows, b.cols(), stride, 1)
}

/// Rows of A that are taken together: the first of each block, and how many. None is alone that has others before it: a product of one row
/// adds up in another order than one of several.
pub(super) fn blocks(rows: usize, height: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut row = 0;
    std::iter::from_fn(move || {
        let left = rows - row;
        let count = match left {
            0 => return None,
            left if left == height + 1 && height > 2 => height - 1,
            left => left.min(height),
        };
        row += count;
        Some((row - count, count))
    })
}

impl<A: Operand, B: Operand> Task<'_, A, B> {
    /// Computes all of C with f32 products.
    pub(super) fn run_widened(&self, parallel: bool) {
        let (level, precision) = (self.level, self.precision);
        let (m, k, n) = (self.a.rows(), self.a.cols(), self.b.cols());
        // A single row may be dot products, whose sums end where k is cut: it is cut the same on any number of threads.
        let (left, right) = if parallel && m > 1 {
            (LEFT_PARALLEL, RIGHT_PARALLEL)
        } else {
            (LEFT, RIGHT)
        };
        let b_lent = match self.b {
            Right::Wide(b) => Some(b),
            Right::Plain(b) => lent(precision, b),
            Right::Packed(_) => None,
        };
        // Whole chains: so the sums do not depend on it.
        let a_lent = lent(precision, self.a);
        let depth = match (b_lent, a_lent) {
            (Some(_), Some(_)) => DEPTH,
            (Some(_), None) => LENT_DEPTH,
            (None, _) => (right / n / PIECE * PIECE).clamp(PIECE, DEPTH),
        };
        let depth = depth.min(k);
        let height = match a_lent {
            Some(_) => m,
            None => (left / depth.max(1) / WHOLE_ROWS * WHOLE_ROWS).clamp(1, m),
        };
        let mut b_room = take::<f32>(if b_lent.is_some() {
            0
        } else {
            wide_len(depth, n)
        });
        let mut a_room = take::<f32>(if a_lent.is_some() {
            0
        } else {
            wide_len(height, depth)
        });
        let far = k.saturating_mul(m.saturating_add(n)) >= FAR_NUMBERS;
        let mut start = 0;
        loop {
            let depth = depth.min(k - start);
            let is_last = start + depth == k;
            let b = match (b_lent, self.b) {
                (Some(b), _) => b.row_block(start, depth),
                (None, Right::Plain(b)) => {
                    let part = b.row_block(start, depth);
                    widen(level, precision, parallel, part, &mut b_room)
                }
                (None, Right::Packed(b)) => unpack(level, b, start, depth, &mut b_room),
                (None, Right::Wide(_)) => unreachable!("a wide operand is lent"),
            };
            let beta = if start == 0 { self.beta } else { 1.0 };
            let epilogue = if is_last {
                self.epilogue
            } else {
                Epilogue::default()
            };
            for (row, rows) in blocks(m, height) {
                let a = match a_lent {
                    Some(a) => a.row_block(row, rows).col_block(start, depth),
                    None => {
                        let part = self.a.row_block(row, rows).col_block(start, depth);
                        widen(level, precision, parallel, part, &mut a_room)
                    }
                };
                let stride = self.c_row_stride;
                // SAFETY: these rows of C, which is borrowed for the life of the task and which nobody else touches meanwhile.
                let c = unsafe {
                    let first = self.c.add(row * stride);
                    std::slice::from_raw_parts_mut(first, (rows - 1) * stride + n)
                };
                let c = MatMut::strided(c, rows, n, stride, 1);
                if parallel {
                    multiply_fused_parallel(level, self.alpha, a, b, beta, c, epilogue);
                    continue;
                }
                // What is widened next, while it is far away.
                let (below, after) = (row + rows, start + depth);
                let left = |row: usize, start: usize, depth: usize| match a_lent {
                    Some(_) => Fetch::default(),
                    None => fetch(
                        self.a
                            .row_block(row, height.min(m - row))
                            .col_block(start, depth.min(k - start)),
                    ),
                };
                let soon = if below == m && is_last {
                    self.soon
                } else if !far {
                    Fetch::default()
                } else if below < m {
                    left(below, start, depth)
                } else {
                    let right = match (b_lent, self.b) {
                        (None, Right::Plain(b)) => fetch(b.row_block(after, depth.min(k - after))),
                        _ => Fetch::default(),
                    };
                    right.and(left(0, after, depth))
                };
                let stream = soon.slow_stream(PACE);
                let (alpha, stream) = (self.alpha, stream.as_ref());
                multiply_streaming(level, alpha, a, b, beta, c, epilogue, stream);
            }
            start += depth;
            if is_last {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_any_smaller_matrix() {
        for (rows, cols) in [(264, 136), (512, 257), (1, 512), (780, 47)] {
            for r in 1..=rows {
                for c in 1..=cols {
                    let by_rows = r * line_stride(c);
                    assert!(by_rows.max(c * line_stride(r)) <= wide_len(rows, cols));
                }
            }
        }
    }

    #[test]
    fn blocks_cover_all_rows_and_leave_none_alone() {
        for height in 3..20 {
            for rows in 0..100 {
                let mut next = 0;
                for (row, count) in blocks(rows, height) {
                    assert!(row == next && (1..=height).contains(&count));
                    assert!(count > 1 || rows == 1, "{rows} rows, {height} a block");
                    next += count;
                }
                assert_eq!(next, rows);
            }
        }
    }
}
