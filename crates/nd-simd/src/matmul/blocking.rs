//! The loops around the micro-kernel.
//!
//! ```text
//! for each block of k (at most 512; 256 where A is column-major)
//!     for each panel of columns (four vectors wide; the last one narrower)
//!         pack B[k block, panel] if that pays
//!         for each block of rows: pack it if that pays, the first time; micro-kernel
//! ```
//!
//! The panel of B stays in L2 while all rows of A stream past it; each value of A that is loaded is used for a whole
//! block width. There is no blocking of rows: at four vectors, A costs two bytes a cycle. (Parts of the rows that stay in L2 while all panels pass
//! were tried, for the slow third level of Emerald Rapids: 0.94 to 1.03 of the speed.)
//!
//! The columns of a column-major A often lie a power of two apart: a block of rows then fills few sets of the first cache level and is read from the
//! second for each panel. So blocks of such an A are packed while the first panel passes. Known weakness: threads cut columns first, mostly to one
//! panel each, for which that does not pay; each reads A as it lies.
//!
//! In a stack of small products, the same block of sixteen products is one call of the micro-kernel: the choice of the
//! block, its mask and the call would otherwise cost more than the arithmetic.

use nd_core::Buffer;

use super::fetch::Stream;
use super::gemv::{dot_rows, rows_times_matrix};
use super::kernel::{Ahead, Block, Finish, Output, PIECE, Store, block_rows, block_vecs, run};
use super::pack::{K_BLOCK, Panel, pack_panel, take};
use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instance};
use crate::lanes::{Lanes, SimdReal};

/// Rows of A from which on packing a panel costs little: 1/256 of the multiplications.
const PACK_ROWS: usize = 256;

/// Products of a stack that are computed together.
const GROUP: usize = 16;

/// Rows of B no further apart than this lie as they would in a panel: the widest block.
const PACK_STRIDE_BYTES: usize = 256;

/// Rows of k that are taken together where A is column-major: each of them is a page of its own there.
pub(super) const COLUMN_MAJOR_K_BLOCK: usize = K_BLOCK / 2;

/// Bytes between the columns of A from which on its blocks are packed.
const PACK_LEFT_STRIDE: usize = 2048;

/// Terms of a sum that pay for packing blocks of A.
const PACK_LEFT_TERMS: usize = COLUMN_MAJOR_K_BLOCK;

/// Bytes of a row of C that pay for packing blocks of A: two panels.
const PACK_LEFT_ROW: usize = 512;

/// Bytes of a block of k of A that are packed at most: of four times as many, reading the copy took as long.
const PACK_LEFT_MOST: usize = 1 << 20;

/// A product with unit column stride in C, as pointers, checked by the safe functions that make it.
#[derive(Clone, Copy)]
pub(super) struct Problem<R> {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) alpha: R,
    pub(super) a: *const R,
    pub(super) a_strides: (usize, usize),
    pub(super) b: *const R,
    pub(super) b_strides: (usize, usize),
    pub(super) beta: R,
    pub(super) c: *mut R,
    pub(super) c_row_stride: usize,
    pub(super) finish: Finish<R>,
    /// Whether C is a single column by its shape, not by being cut.
    pub(super) single_column: bool,
}

impl<R: SimdReal> Problem<R> {
    /// How much of k is taken together.
    fn k_block(&self) -> usize {
        if self.a_strides.1 == 1 {
            K_BLOCK
        } else {
            COLUMN_MAJOR_K_BLOCK
        }
    }

    /// Room for all blocks of rows of a block of k, where packing them pays.
    fn left_room(&self) -> Option<Buffer<R>> {
        let len = self.m * self.k_block().min(self.k);
        let pays = self.k >= PACK_LEFT_TERMS
            && self.a_strides.1 >= PACK_LEFT_STRIDE / size_of::<R>()
            && self.n * size_of::<R>() >= PACK_LEFT_ROW
            && len * size_of::<R>() <= PACK_LEFT_MOST;
        pays.then(|| take(len))
    }

    /// Whether the product needs the thread's panel.
    pub(super) fn packs(&self) -> bool {
        // A single column of B, as any column, may be read with any row stride.
        let vector_rows = self.b_strides.1 == 1 || self.n == 1;
        !vector_rows
            || (self.m >= PACK_ROWS && self.b_strides.0 * size_of::<R>() > PACK_STRIDE_BYTES)
    }
}

/// Computes the products of a batch.
///
/// # Safety
/// All operands are valid for their shapes and strides at every step, C is disjoint from the others and nobody else
/// touches it; `panel` is valid if [`Problem::packs`].
#[inline(always)]
unsafe fn blocked<S: Isa, R: SimdReal>(simd: S, batch: &Batch<R>, panel: *mut R) {
    let mut left = (batch.count == 1)
        .then(|| batch.problem.left_room())
        .flatten();
    let left = left.as_mut().map(|room| room.as_mut_ptr());
    let Batch {
        problem,
        a_step,
        b_step,
        c_step,
        ..
    } = *batch;
    let Problem {
        m,
        n,
        k,
        a_strides,
        b_strides,
        ..
    } = problem;
    let lanes = Lanes::<S, R>::LEN;
    let packs = problem.packs();
    // SAFETY: null, or what the caller of `execute` holds until it returns.
    let ahead = match (unsafe { batch.stream.as_ref() }, packs) {
        (Some(stream), _) => Ahead::Stream(stream, !packs && problem.b_strides.0 > n),
        (None, true) => Ahead::BlockOfA,
        (None, false) => Ahead::RowsOfB,
    };
    let k_block = problem.k_block();
    let first_vecs = block_vecs::<S>(m, n.div_ceil(lanes));
    let group = if k <= K_BLOCK && batch.count > 1 {
        (K_BLOCK / k.max(1)).clamp(1, GROUP)
    } else {
        1
    };
    for product in (0..batch.count).step_by(group) {
        let count = group.min(batch.count - product);
        let a = problem.a.wrapping_add(product * a_step);
        let b = problem.b.wrapping_add(product * b_step);
        let c = problem.c.wrapping_add(product * c_step);
        let mut start = 0;
        let mut store = Store::first(problem.alpha, problem.beta);
        loop {
            let depth = k_block.min(k - start);
            let is_last = start + depth == k;
            let mut column = 0;
            while column < n {
                let vecs = block_vecs::<S>(m, (n - column).div_ceil(lanes));
                let width = (vecs * lanes).min(n - column);
                let (bias, relu) = problem.finish.in_registers(is_last, column);
                let mut block = Block {
                    k: depth,
                    a: a.wrapping_add(start * a_strides.1),
                    a_row_stride: a_strides.0,
                    a_col_stride: a_strides.1,
                    b: b.wrapping_add(start * b_strides.0 + column * b_strides.1),
                    b_row_stride: b_strides.0,
                    output: Output {
                        c: c.wrapping_add(column),
                        c_row_stride: problem.c_row_stride,
                        store,
                        bias,
                        relu,
                    },
                    count,
                    a_step,
                    b_step,
                    c_step,
                    ahead,
                };
                if packs {
                    let panel_len = depth * vecs * lanes;
                    for index in 0..count {
                        let source = block.b.wrapping_add(index * b_step);
                        let target = panel.wrapping_add(index * panel_len);
                        // SAFETY: inside B; a panel has room for K_BLOCK rows of the widest block.
                        unsafe {
                            pack_panel(
                                simd,
                                source,
                                b_strides,
                                (depth, width),
                                target,
                                vecs * lanes,
                            );
                        }
                    }
                    block.b = panel;
                    block.b_row_stride = vecs * lanes;
                    block.b_step = panel_len;
                }
                let mut row = 0;
                while row < m {
                    let rows = block_rows::<S>(vecs, m - row);
                    let unpacked = block.a;
                    // A narrower panel has other blocks of rows; it is the last, and reads A as it lies.
                    if let Some(left) = left
                        && vecs == first_vecs
                    {
                        let target = left.wrapping_add(row * depth);
                        if column == 0 {
                            let (row_stride, col_stride) = a_strides;
                            let strides = (col_stride, row_stride);
                            // SAFETY: the block lies inside A; the room holds all blocks.
                            unsafe {
                                pack_panel(simd, unpacked, strides, (depth, rows), target, rows);
                            }
                        }
                        block.a = target;
                        (block.a_row_stride, block.a_col_stride) = (1, rows);
                    }
                    // SAFETY: the block lies inside the operands.
                    unsafe {
                        run(simd, rows, vecs, width - (vecs - 1) * lanes, &block);
                        if is_last {
                            let Output {
                                c, c_row_stride, ..
                            } = block.output;
                            problem.finish.rest(S::LEVEL, c, rows, width, c_row_stride);
                        }
                    }
                    block.a = unpacked.wrapping_add(rows * a_strides.0);
                    block.output.c = block.output.c.wrapping_add(rows * problem.c_row_stride);
                    row += rows;
                }
                column += width;
            }
            start += depth;
            store = store.next();
            if is_last {
                break;
            }
        }
    }
}

/// The textbook product, the meaning of [`SimdLevel::Scalar`]; its sums end as early as those of the kernels, for the same error.
///
/// # Safety
/// As [`blocked`].
unsafe fn textbook<R: SimdReal>(problem: &Problem<R>) {
    let &Problem {
        m,
        n,
        k,
        a,
        a_strides,
        b,
        b_strides,
        c,
        c_row_stride,
        ..
    } = problem;
    for i in 0..m {
        for j in 0..n {
            let mut total = R::ZERO;
            for start in (0..k).step_by(PIECE) {
                let mut sum = R::ZERO;
                for p in start..k.min(start + PIECE) {
                    // SAFETY: indices inside the operands.
                    sum += unsafe {
                        *a.add(i * a_strides.0 + p * a_strides.1)
                            * *b.add(p * b_strides.0 + j * b_strides.1)
                    };
                }
                total += sum;
            }
            let mut value = problem.alpha * total;
            // SAFETY: indices inside C and the bias.
            unsafe {
                let slot = c.add(i * c_row_stride + j);
                if problem.beta != R::ZERO {
                    value += problem.beta * *slot;
                }
                *slot = problem.finish.element(value, j);
            }
        }
    }
    // SAFETY: all of C.
    unsafe {
        problem
            .finish
            .rest(SimdLevel::Scalar, c, m, n, c_row_stride)
    };
}

/// A product `count` times, the operands each time further by their step.
#[derive(Clone, Copy)]
pub(super) struct Batch<R> {
    pub(super) problem: Problem<R>,
    pub(super) count: usize,
    pub(super) a_step: usize,
    pub(super) b_step: usize,
    pub(super) c_step: usize,
    /// What is read after it, or null.
    pub(super) stream: *const Stream,
}

/// A batch that reads B in place.
struct InPlace<'a, R>(&'a Batch<R>);

impl<R: SimdReal> Kernel for InPlace<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let batch = self.0;
        let by_blocks = !batch.problem.is_gemv() && !batch.problem.is_few_rows();
        // Constants: no blocks are compiled for scalars, and no scalar loops for vectors.
        if const { !S::IS_SCALAR } && by_blocks {
            // SAFETY: `execute` promises valid operands at each step, and that no panel is needed.
            return unsafe { blocked(simd, batch, std::ptr::null_mut()) };
        }
        let mut problem = batch.problem;
        for _ in 0..batch.count {
            // SAFETY: as above.
            unsafe {
                if const { S::IS_SCALAR } {
                    textbook(&problem);
                } else if problem.is_gemv() {
                    dot_rows(simd, &problem);
                } else {
                    rows_times_matrix(simd, &problem);
                }
            }
            problem.a = problem.a.wrapping_add(batch.a_step);
            problem.b = problem.b.wrapping_add(batch.b_step);
            problem.c = problem.c.wrapping_add(batch.c_step);
        }
    }
}

/// A batch that packs panels of B. A kernel of its own, so that others do not pay for the large stack frame.
struct Packing<'a, R>(&'a Batch<R>);

impl<R: SimdReal> Kernel for Packing<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        if const { S::IS_SCALAR } {
            unreachable!("scalar products read their operands in place");
        } else {
            let mut panel = Panel::new();
            // SAFETY: `execute` promises valid operands at each step.
            unsafe { blocked(simd, self.0, panel.as_mut_ptr()) };
        }
    }
}

#[inline(always)]
fn execute_kernel<R: SimdReal>(level: SimdLevel, batch: &Batch<R>) {
    let packs = batch.problem.packs() && !batch.problem.is_gemv();
    if packs && level != SimdLevel::Scalar {
        dispatch(level, Packing(batch));
    } else {
        dispatch(level, InPlace(batch));
    }
}

#[inline(never)]
fn execute_f32(level: SimdLevel, batch: &Batch<f32>) {
    execute_kernel(level, batch);
}

#[inline(never)]
fn execute_f64(level: SimdLevel, batch: &Batch<f64>) {
    execute_kernel(level, batch);
}

/// Computes all products of a batch, one after the other, with the kernels of a level.
///
/// # Safety
/// At each step all operands are valid for their shapes and strides, C is disjoint from the others and from the C of
/// the other steps, and nobody else touches it; the stream is null or valid.
pub(super) unsafe fn execute<R: SimdReal>(level: SimdLevel, batch: &Batch<R>) {
    let call: fn(SimdLevel, &Batch<R>) = instance(
        execute_f32 as fn(SimdLevel, &Batch<f32>),
        execute_f64 as fn(SimdLevel, &Batch<f64>),
    );
    call(level, batch);
}
