//! The gradient of what is the same for every row: sums over columns, split over threads.
//!
//! The simple version is [`column_sums`] over all rows. Here the rows are cut into pieces by the shape alone, and the sums of the pieces
//! are added in a fixed tree, so the bits do not depend on the threads.

use nd_core::MemoryPool;
use nd_core::autograd::{Accumulate, Backward, Grad};
use nd_core::threads;

use crate::dispatch::SimdLevel;
use crate::elementwise::accumulate;
use crate::lanes::SimdReal;
use crate::reduce::column_sums;

/// Pieces at most: enough for every core of an ordinary machine. Their tree adds four roundings to the error of a column's sum.
const MAX_PIECES: usize = 16;

/// Elements of a piece at least, some ten microseconds of one core.
const PIECE: usize = 64 * 1024;

/// Rows of a piece are multiples of this, the rows that [`column_sums`] adds up in one chain.
const ROWS: usize = 128;

/// `db[c] (+)= sum_r dz[r, c]`
pub(crate) fn bias_gradient<R: SimdReal>(step: &Backward<'_, R>, dz: &[R], db: &mut Grad<'_, R>) {
    let how = db.accumulate;
    sums(
        step.options().simd,
        step.parallel(),
        step.pool(),
        dz,
        db,
        how,
    );
}

fn sums<R: SimdReal>(
    level: SimdLevel,
    parallel: bool,
    pool: &MemoryPool,
    x: &[R],
    out: &mut [R],
    how: Accumulate,
) {
    let cols = out.len().max(1);
    let rows = x.len() / cols;
    let piece = rows.div_ceil(MAX_PIECES).max(PIECE.div_ceil(cols));
    let piece = piece.next_multiple_of(ROWS);
    let mut pieces = rows.div_ceil(piece);
    if pieces < 2 {
        return column_sums(level, x, out, how);
    }
    let mut partial = pool.take::<R>(pieces * cols);
    threads::for_each_chunk(parallel, &mut partial, cols, |i, sums| {
        let part = i * piece * cols..rows.min((i + 1) * piece) * cols;
        column_sums(level, &x[part], sums, Accumulate::Write);
    });
    while pieces > 1 {
        let kept = pieces.div_ceil(2);
        let (left, right) = partial.split_at_mut(kept * cols);
        let right = &right[..(pieces - kept) * cols];
        accumulate(level, right, &mut left[..right.len()], Accumulate::Add);
        pieces = kept;
    }
    accumulate(level, &partial[..cols], out, how);
}
