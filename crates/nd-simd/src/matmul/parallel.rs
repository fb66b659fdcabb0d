//! Products split over the threads of the current rayon pool.
//!
//! C is cut into blocks of columns and, where these are few, of rows. Sums are never rearranged, so no bit depends on the cuts: where
//! k is long beside C, as in the gradient of a weight, all threads go through it together, some rows of B and columns of A at a time
//! that stay in a core's cache, and each piece is added to C where the one before left off.

use std::ops::Range;

use super::blocking::{Batch, Problem, execute};
use super::cut::COLUMN_MAJOR_K_BLOCK;
use super::stack::{StackMut, StackRef};
use super::view::{MatMut, MatRef};
use super::{Epilogue, multiply_fused, plan, plan_stack};
use crate::dispatch::SimdLevel;
use crate::lanes::SimdReal;

/// Multiply-adds worth handing to another thread: about 10 microseconds of one core.
const BLOCK_WORK: usize = 1 << 20;

/// Blocks for each thread, so that one that is late holds up little: at the end of a product the others wait for half a block. With four,
/// two threads had 1.55x to 1.80x of one in a chain of 1024 x 512 x 512, with eight 1.64x to 1.93x; sixteen were no better in a training step.
const BLOCKS_PER_THREAD: usize = 8;

/// The same for products of tiles.
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "for products that only x86-64 has")
)]
const TILE_BLOCKS_PER_THREAD: usize = 4;

/// Blocks of rows are multiples of this.
const ROW_GRAIN: usize = 8;

/// Blocks of columns are multiples of this: four vectors of 512 bits.
const COL_GRAIN: usize = 64;

/// Multiply-adds of a product of tiles worth handing to another thread.
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "for products that only x86-64 has")
)]
const TILES_WORK: usize = 8 << 20;

/// Bytes of A and B that threads go through together where A is column-major: half of a core's second cache level on today's servers.
const SHARED_BYTES: usize = 1 << 20;

/// Rows that a block of tiles has at least: two blocks of the kernel.
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "for products that only x86-64 has")
)]
const TILES_ROWS: usize = 64;

/// Elements of A that stay in the second cache level: 1 MiB of bf16.
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "for products that only x86-64 has")
)]
const CACHED_LEFT: usize = 1 << 19;

/// [`super::multiply`] on all threads of the current pool; the same bits.
///
/// # Panics
/// As [`super::multiply`].
#[track_caller]
pub fn multiply_parallel<R: SimdReal>(
    level: SimdLevel,
    alpha: R,
    a: MatRef<'_, R>,
    b: MatRef<'_, R>,
    beta: R,
    c: MatMut<'_, R>,
) {
    multiply_fused_parallel(level, alpha, a, b, beta, c, Epilogue::default());
}

/// [`super::multiply_fused`] on all threads of the current pool; the same bits.
///
/// # Panics
/// As [`super::multiply_fused`].
#[track_caller]
pub fn multiply_fused_parallel<R: SimdReal>(
    level: SimdLevel,
    alpha: R,
    a: MatRef<'_, R>,
    b: MatRef<'_, R>,
    beta: R,
    c: MatMut<'_, R>,
    epilogue: Epilogue<'_, R>,
) {
    let batch = plan(alpha, a, b, beta, c, epilogue).batch();
    // SAFETY: `plan` checked the operands; the blocks are disjoint; the borrow of C outlives the joins.
    unsafe { execute_parallel(level, batch) };
}

/// [`super::multiply_fused`] with a factor of one, on all threads of the current pool when asked.
#[track_caller]
pub(crate) fn multiply_on<R: SimdReal>(
    level: SimdLevel,
    parallel: bool,
    a: MatRef<'_, R>,
    b: MatRef<'_, R>,
    beta: R,
    c: MatMut<'_, R>,
    epilogue: Epilogue<'_, R>,
) {
    let multiply = if parallel {
        multiply_fused_parallel
    } else {
        multiply_fused
    };
    multiply(level, R::ONE, a, b, beta, c, epilogue);
}

/// [`super::multiply_stack`] on all threads of the current pool; the same bits.
///
/// # Panics
/// As [`super::multiply_stack`].
#[track_caller]
pub fn multiply_stack_parallel<R: SimdReal>(
    level: SimdLevel,
    alpha: R,
    a: StackRef<'_, R>,
    b: StackRef<'_, R>,
    beta: R,
    c: StackMut<'_, R>,
) {
    let Some(batch) = plan_stack(level, alpha, a, b, beta, c) else {
        return;
    };
    // SAFETY: as above; matrices of a stack share no element of C.
    unsafe { execute_parallel(level, batch) };
}

/// A batch whose blocks go to several threads.
struct Shared<R>(Batch<R>);

// SAFETY: threads read A, B and the bias, and write disjoint blocks of C, while the owner's borrows are held.
unsafe impl<R: SimdReal> Sync for Shared<R> {}

/// Blocks of C: a grid of row and column blocks.
///
/// Columns are cut first. A block of columns reads its part of B once, whoever computes it, and A anyway streams past every panel;
/// a second block of rows reads all of B again.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    m: usize,
    n: usize,
    row_size: usize,
    col_size: usize,
    across: usize,
    down: usize,
}

impl Grid {
    /// As many blocks as the work and the threads of the current pool ask for.
    pub(super) fn new(m: usize, k: usize, n: usize) -> Self {
        let work = m.saturating_mul(k).saturating_mul(n).div_ceil(BLOCK_WORK);
        let wanted = work.clamp(1, BLOCKS_PER_THREAD * rayon::current_num_threads());
        let across = wanted.min(n.div_ceil(COL_GRAIN)).max(1);
        let col_size = n.div_ceil(across).next_multiple_of(COL_GRAIN);
        let across = n.div_ceil(col_size.max(1));
        let down = wanted
            .div_ceil(across.max(1))
            .min(m.div_ceil(ROW_GRAIN))
            .max(1);
        let row_size = m.div_ceil(down).next_multiple_of(ROW_GRAIN);
        let down = m.div_ceil(row_size.max(1));
        Self {
            m,
            n,
            row_size,
            col_size,
            across,
            down,
        }
    }

    /// As [`Grid::new`], for products of tiles, which are done sooner: blocks hold more work. Once A is too large for a core's second
    /// cache level, rows are cut first.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "for products that only x86-64 has")
    )]
    pub(super) fn of_tiles(m: usize, k: usize, n: usize) -> Self {
        let work = m.saturating_mul(k).saturating_mul(n).div_ceil(TILES_WORK);
        let wanted = work.clamp(1, TILE_BLOCKS_PER_THREAD * rayon::current_num_threads());
        let by_rows = m.saturating_mul(k) > CACHED_LEFT;
        let most_down = m.div_ceil(TILES_ROWS).max(1);
        let most_across = n.div_ceil(COL_GRAIN).max(1);
        let (down, across) = if by_rows {
            let down = wanted.min(most_down);
            (down, wanted.div_ceil(down).min(most_across))
        } else {
            let across = wanted.min(most_across);
            (wanted.div_ceil(across).min(most_down), across)
        };
        let row_size = m.div_ceil(down).next_multiple_of(TILES_ROWS / 2);
        let col_size = n.div_ceil(across).next_multiple_of(COL_GRAIN);
        Self {
            m,
            n,
            row_size,
            col_size,
            across: n.div_ceil(col_size.max(1)),
            down: m.div_ceil(row_size.max(1)),
        }
    }

    /// Everything in one block.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "for products that only x86-64 has")
    )]
    pub(super) fn whole(m: usize, n: usize) -> Self {
        Self {
            m,
            n,
            row_size: m,
            col_size: n,
            across: 1,
            down: 1,
        }
    }

    /// How many blocks there are.
    pub(super) fn count(&self) -> usize {
        self.across * self.down
    }

    /// How many blocks share a block of columns.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "for products that only x86-64 has")
    )]
    pub(super) fn down(&self) -> usize {
        self.down
    }

    /// The rows and columns of a block.
    pub(super) fn block(&self, index: usize) -> (Range<usize>, Range<usize>) {
        let (row, col) = (
            index / self.across * self.row_size,
            index % self.across * self.col_size,
        );
        (
            row..self.m.min(row + self.row_size),
            col..self.n.min(col + self.col_size),
        )
    }
}

/// Calls `run` with the numbers `start..end`, halves in parallel.
pub(super) fn for_each_block(start: usize, end: usize, run: &(impl Fn(usize) + Sync)) {
    if end - start > 1 {
        let middle = start + (end - start) / 2;
        rayon::join(
            || for_each_block(start, middle, run),
            || for_each_block(middle, end, run),
        );
    } else if end > start {
        run(start);
    }
}

/// Computes a batch, its blocks in parallel.
///
/// # Safety
/// As [`execute`], for the whole batch.
unsafe fn execute_parallel<R: SimdReal>(level: SimdLevel, batch: Batch<R>) {
    let shared = &Shared(batch);
    let Problem { m, k, n, .. } = shared.0.problem;
    if batch.count > 1 {
        let size = (BLOCK_WORK / (m * n * k).max(1)).clamp(1, batch.count);
        for_each_block(0, batch.count.div_ceil(size), &|index| {
            let mut batch = shared.0;
            let start = index * size;
            let p = &mut batch.problem;
            p.a = p.a.wrapping_add(start * batch.a_step);
            p.b = p.b.wrapping_add(start * batch.b_step);
            p.c = p.c.wrapping_add(start * batch.c_step);
            batch.count = size.min(batch.count - start);
            // SAFETY: valid operands; matrices of a stack share no element of C.
            unsafe { execute(level, &batch) };
        });
        return;
    }
    let depth = depth(level, &shared.0.problem);
    let mut start = 0;
    loop {
        let part = start..k.min(start + depth);
        // SAFETY: a part of k of valid operands; the parts follow one another.
        unsafe { execute_part(level, shared, part) };
        start += depth;
        if start >= k {
            break;
        }
    }
}

/// The rows of B and columns of A that threads go through together: all, or as many as the kernel's own blocks of k make up, so that
/// sums end where they would.
///
/// A block of C reads its rows of A and columns of B alone, so that all blocks together would read the operands of a tall product from
/// memory once for each row, or column, of blocks.
fn depth<R: SimdReal>(level: SimdLevel, problem: &Problem<R>) -> usize {
    let &Problem { m, n, k, .. } = problem;
    // Scalars add up all of k before they touch C, and with other factors C would be multiplied again.
    let adds_up = level != SimdLevel::Scalar && problem.alpha == R::ONE && m > 2 && n > 1;
    let fitting = SHARED_BYTES / ((m + n) * size_of::<R>()).max(1);
    if adds_up && problem.a_strides.1 != 1 && fitting >= COLUMN_MAJOR_K_BLOCK {
        fitting / COLUMN_MAJOR_K_BLOCK * COLUMN_MAJOR_K_BLOCK
    } else {
        k.max(1)
    }
}

/// Computes a part of k of a single product, its blocks in parallel; the first part overwrites C, the last one finishes it.
///
/// # Safety
/// As [`execute`], and the parts before have been computed.
unsafe fn execute_part<R: SimdReal>(level: SimdLevel, shared: &Shared<R>, part: Range<usize>) {
    let mut problem = shared.0.problem;
    let Problem { m, k, n, .. } = problem;
    problem.a = problem.a.wrapping_add(part.start * problem.a_strides.1);
    problem.b = problem.b.wrapping_add(part.start * problem.b_strides.0);
    problem.k = part.len();
    if part.start > 0 {
        problem.beta = R::ONE;
    }
    if part.end < k {
        problem.finish = Epilogue::default().finish();
    }
    let shared = &Shared(Batch {
        problem,
        ..shared.0
    });
    let grid = Grid::new(m, part.len(), n);
    for_each_block(0, grid.count(), &|index| {
        let (rows, columns) = grid.block(index);
        let mut batch = shared.0;
        let p = &mut batch.problem;
        p.a = p.a.wrapping_add(rows.start * p.a_strides.0);
        p.b = p.b.wrapping_add(columns.start * p.b_strides.1);
        p.c =
            p.c.wrapping_add(rows.start * p.c_row_stride + columns.start);
        if !p.finish.bias.is_null() {
            p.finish.bias = p.finish.bias.wrapping_add(columns.start);
        }
        (p.m, p.n) = (rows.len(), columns.len());
        // SAFETY: a block of valid operands; no other block shares its part of C.
        unsafe { execute(level, &batch) };
    });
}
