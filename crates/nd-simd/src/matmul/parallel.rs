//! Products split over the threads of the current rayon pool.
//!
//! C is cut into blocks of rows, or of columns when it has few rows; never along k, so no sums are rearranged. The cuts depend
//! on the shape alone.

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
    let split = Split::of(&batch);
    // SAFETY: `plan` checked the operands; the blocks are disjoint; the borrow of C outlives the joins.
    unsafe { run_blocks(level, &Shared(batch), split, 0, split.count) };
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
    let split = Split::of(&batch);
    // SAFETY: as above; matrices of a stack share no element of C.
    unsafe { run_blocks(level, &Shared(batch), split, 0, split.count) };
}

/// A batch whose blocks go to several threads.
struct Shared<R>(Batch<R>);

// SAFETY: threads read A, B and the bias, and write disjoint blocks of C, while the owner's borrows are held.
unsafe impl<R: SimdReal> Sync for Shared<R> {}

#[derive(Clone, Copy)]
enum Axis {
    Products,
    Rows,
    Columns,
}

/// Blocks of `size` along an axis.
#[derive(Clone, Copy)]
struct Split {
    axis: Axis,
    size: usize,
    count: usize,
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
        let (axis, len, each, grain) = if p.m >= 4 * ROW_GRAIN || p.m >= p.n {
            (Axis::Rows, p.m, p.n * p.k, ROW_GRAIN)
        } else {
            (Axis::Columns, p.n, p.m * p.k, COL_GRAIN)
        };
        let size = BLOCK_WORK.div_ceil(each.max(1)).next_multiple_of(grain);
        Self {
            axis,
            size,
            count: len.div_ceil(size),
        }
    }
}

/// Computes the blocks `start..end`, halves in parallel.
///
/// # Safety
/// As [`execute`], for the whole batch.
unsafe fn run_blocks<R: SimdReal>(
    level: SimdLevel,
    shared: &Shared<R>,
    split: Split,
    start: usize,
    end: usize,
) {
    if end - start > 1 {
        let middle = start + (end - start) / 2;
        rayon::join(
            // SAFETY: the caller's contract; the halves are disjoint.
            || unsafe { run_blocks(level, shared, split, start, middle) },
            // SAFETY: as above.
            || unsafe { run_blocks(level, shared, split, middle, end) },
        );
        return;
    }
    if end == start {
        return;
    }
    let mut batch = shared.0;
    let first = start * split.size;
    let p = &mut batch.problem;
    match split.axis {
        Axis::Products => {
            p.a = p.a.wrapping_add(first * batch.a_step);
            p.b = p.b.wrapping_add(first * batch.b_step);
            p.c = p.c.wrapping_add(first * batch.c_step);
            batch.count = split.size.min(batch.count - first);
        }
        Axis::Rows => {
            p.a = p.a.wrapping_add(first * p.a_strides.0);
            p.c = p.c.wrapping_add(first * p.c_row_stride);
            p.m = split.size.min(p.m - first);
        }
        Axis::Columns => {
            p.b = p.b.wrapping_add(first * p.b_strides.1);
            p.c = p.c.wrapping_add(first);
            p.n = split.size.min(p.n - first);
            if !p.bias.is_null() {
                p.bias = p.bias.wrapping_add(first);
            }
        }
    }
    // SAFETY: a block of valid operands; no other block shares its part of C.
    unsafe { execute(level, &batch) };
}
