//! Products split over the threads of the current rayon pool.
//!
//! C is cut into blocks of rows, or of columns when it has few rows; never along k, so no sums are rearranged. The cuts depend
//! on the shape alone.

use std::ops::Range;

use super::blocking::{Batch, execute};
use super::stack::{StackMut, StackRef};
use super::view::{MatMut, MatRef};
use super::{Epilogue, plan, plan_stack};
use crate::dispatch::SimdLevel;
use crate::lanes::SimdReal;

/// Multiply-adds worth handing to another thread: about 10 microseconds of one core.
const BLOCK_WORK: usize = 1 << 20;

/// Blocks of rows are multiples of this: every block height of the kernel divides it.
const ROW_GRAIN: usize = 24;

/// Blocks of columns are multiples of this: four vectors of 512 bits.
const COL_GRAIN: usize = 64;

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

#[derive(Clone, Copy, PartialEq)]
enum Axis {
    Products,
    Rows,
    Columns,
}

/// Blocks of `size` along an axis.
#[derive(Clone, Copy)]
pub(super) struct Split {
    axis: Axis,
    size: usize,
    count: usize,
}

/// One block of a [`Split`].
#[derive(Clone, Copy)]
pub(super) struct Part {
    axis: Axis,
    start: usize,
    size: usize,
}

impl Part {
    /// The rows and columns of C that belong to the part.
    pub(super) fn of(self, m: usize, n: usize) -> (Range<usize>, Range<usize>) {
        let within = |len: usize| self.start..len.min(self.start.saturating_add(self.size));
        match self.axis {
            Axis::Rows => (within(m), 0..n),
            Axis::Columns => (0..m, within(n)),
            Axis::Products => (0..m, 0..n),
        }
    }
}

impl Split {
    fn of<R>(batch: &Batch<R>) -> Self {
        let p = &batch.problem;
        if batch.count > 1 {
            let each = (p.m * p.n * p.k).max(1);
            let size = (BLOCK_WORK / each).clamp(1, batch.count);
            return Self {
                axis: Axis::Products,
                size,
                count: batch.count.div_ceil(size),
            };
        }
        Self::of_shape(p.m, p.k, p.n, ROW_GRAIN, COL_GRAIN)
    }

    /// Blocks of rows or columns that are multiples of a grain.
    pub(super) fn of_shape(
        m: usize,
        k: usize,
        n: usize,
        row_grain: usize,
        col_grain: usize,
    ) -> Self {
        let (axis, len, each, grain) = if m >= 4 * ROW_GRAIN || m >= n {
            (Axis::Rows, m, n * k, row_grain)
        } else {
            (Axis::Columns, n, m * k, col_grain)
        };
        let size = BLOCK_WORK.div_ceil(each.max(1)).next_multiple_of(grain);
        Self {
            axis,
            size,
            count: len.div_ceil(size),
        }
    }

    /// Everything in one block.
    pub(super) fn whole() -> Self {
        Self {
            axis: Axis::Products,
            size: usize::MAX,
            count: 1,
        }
    }
}

/// Calls `run` for every block of a split, halves in parallel.
pub(super) fn run_blocks(split: Split, run: &(impl Fn(Part) + Sync)) {
    run_range(split, 0, split.count, run);
}

fn run_range(split: Split, start: usize, end: usize, run: &(impl Fn(Part) + Sync)) {
    if end - start > 1 {
        let middle = start + (end - start) / 2;
        rayon::join(
            || run_range(split, start, middle, run),
            || run_range(split, middle, end, run),
        );
    } else if end > start {
        let Split { axis, size, .. } = split;
        run(Part {
            axis,
            start: start * size,
            size,
        });
    }
}

/// Computes a batch, its blocks in parallel.
///
/// # Safety
/// As [`execute`], for the whole batch.
unsafe fn execute_parallel<R: SimdReal>(level: SimdLevel, batch: Batch<R>) {
    let shared = Shared(batch);
    // Captured as a whole: its field alone is not `Sync`.
    let shared = &shared;
    run_blocks(Split::of(&shared.0), &|part| {
        let mut batch = shared.0;
        let p = &mut batch.problem;
        if part.axis == Axis::Products {
            p.a = p.a.wrapping_add(part.start * batch.a_step);
            p.b = p.b.wrapping_add(part.start * batch.b_step);
            p.c = p.c.wrapping_add(part.start * batch.c_step);
            batch.count = part.size.min(batch.count - part.start);
        } else {
            let (rows, columns) = part.of(p.m, p.n);
            p.a = p.a.wrapping_add(rows.start * p.a_strides.0);
            p.b = p.b.wrapping_add(columns.start * p.b_strides.1);
            p.c =
                p.c.wrapping_add(rows.start * p.c_row_stride + columns.start);
            if !p.bias.is_null() {
                p.bias = p.bias.wrapping_add(columns.start);
            }
            (p.m, p.n) = (rows.len(), columns.len());
        }
        // SAFETY: a block of valid operands; no other block shares its part of C.
        unsafe { execute(level, &batch) };
    });
}
