//! Sums of the columns of rounded values: gradients of biases.
//!
//! The simple version widens everything and sums f32. Here blocks of rows are widened and summed while they stay in the second cache level, a few of them
//! into one sum, and these sums are added in the fixed tree of [`column_sums`]: so bits do not depend on threads.

use nd_core::autograd::Accumulate;
use nd_core::{Buffer, MemoryPool, threads};

use super::blocks::{BLOCK, Format};
use crate::dispatch::SimdLevel;
use crate::matmul::PIECE;
use crate::reduce::column_sums;

/// Blocks of rows whose sums are added one after the other: so there are fewer sums to keep.
const SUMMED_BLOCKS: usize = 4;

/// Rows whose gradients are summed before they join the others: a power of two, so that whole blocks are where chains of products end.
pub(super) fn sum_rows(cols: usize) -> usize {
    let fitting = (BLOCK / cols.max(1)).clamp(1, PIECE);
    1 << fitting.ilog2()
}

/// `out[c] (+)= sum of the column c` of values in sixteen bits; the sums are f32.
pub(crate) fn column_sums_of<H: Format>(
    level: SimdLevel,
    parallel: bool,
    pool: &MemoryPool,
    x: &[H],
    out: &mut [f32],
    accumulate: Accumulate,
) {
    let cols = out.len();
    let rows = x.len() / cols.max(1);
    if rows == 0 || cols > BLOCK {
        let mut wide: Buffer<f32> = pool.take(x.len());
        H::widen_all(level, x, &mut wide);
        return column_sums(level, &wide, out, accumulate);
    }
    let block = sum_rows(cols);
    let group = SUMMED_BLOCKS * block;
    let mut partial: Buffer<f32> = pool.take(rows.div_ceil(group) * cols);
    threads::for_each_chunk(parallel, &mut partial, cols, |i, sums| {
        let first = i * group;
        let part = &x[first * cols..rows.min(first + group) * cols];
        let mut wide: Buffer<f32> = pool.take(BLOCK);
        for (j, part) in part.chunks(block * cols).enumerate() {
            let accumulate = if j == 0 {
                Accumulate::Write
            } else {
                Accumulate::Add
            };
            let wide = &mut wide[..part.len()];
            H::widen_all(level, part, wide);
            column_sums(level, wide, sums, accumulate);
        }
    });
    column_sums(level, &partial, out, accumulate);
}
