//! The loops around the micro-kernel.
//!
//! ```text
//! for each panel of columns (block width: 4 vectors; the last one narrower)
//!     for each block of k (at most 512)
//!         pack B[k block, panel] if that pays
//!         for each block of rows: micro-kernel
//! ```
//!
//! The panel of B stays in L2 while all rows of A stream past it; each value of A that is loaded is used for a whole
//! block width. There is no blocking of rows: at four vectors, A costs two bytes a cycle, which any cache level can give.

use super::kernel::{Block, block_rows, run, widest};
use super::pack::{K_BLOCK, pack_panel, thread_panel};
use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instance};
use crate::lanes::{Lanes, SimdReal};

/// Rows of A from which on packing a panel costs little: 1/256 of the multiplications.
const PACK_ROWS: usize = 256;

/// Bytes between the rows of B from which on reading them in place misses the TLB: a page.
const PACK_STRIDE_BYTES: usize = 4096;

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
    /// `n` values, or null.
    pub(super) bias: *const R,
    pub(super) relu: bool,
}

impl<R: SimdReal> Problem<R> {
    /// Whether the product needs the thread's panel.
    pub(super) fn packs(&self) -> bool {
        // A single column of B, as any column, may be read with any row stride.
        let vector_rows = self.b_strides.1 == 1 || self.n == 1;
        !vector_rows
            || (self.m >= PACK_ROWS
                && (self.b_strides.0 * size_of::<R>() >= PACK_STRIDE_BYTES || self.a_strides.1 != 1))
    }
}

/// Computes the product.
///
/// # Safety
/// All operands are valid for their shapes and strides, C is disjoint from the others and nobody else touches it;
/// `panel` is valid if [`Problem::packs`].
#[inline(always)]
pub(super) unsafe fn multiply<S: Isa, R: SimdReal>(simd: S, problem: &Problem<R>, panel: *mut R) {
    let &Problem { m, n, k, .. } = problem;
    let lanes = Lanes::<S, R>::LEN;
    let packs = problem.packs();
    let k_blocks = k.div_ceil(K_BLOCK).max(1);
    let k_block = k.div_ceil(k_blocks);
    let mut column = 0;
    while column < n {
        let vecs = (n - column).div_ceil(lanes).min(widest::<S>());
        let width = (vecs * lanes).min(n - column);
        let last = width - (vecs - 1) * lanes;
        for index in 0..k_blocks {
            let start = index * k_block;
            let count = k_block.min(k - start);
            let (is_first, is_last) = (index == 0, index + 1 == k_blocks);
            let mut b = problem
                .b
                .wrapping_add(start * problem.b_strides.0 + column * problem.b_strides.1);
            let mut b_row_stride = problem.b_strides.0;
            if packs {
                // SAFETY: inside B; a panel has room for K_BLOCK rows of the widest block.
                unsafe {
                    pack_panel(simd, b, problem.b_strides, (count, width), panel, vecs * lanes);
                }
                b = panel;
                b_row_stride = vecs * lanes;
            }
            let mut row = 0;
            while row < m {
                let rows = block_rows::<S>(vecs, m - row);
                let block = Block {
                    k: count,
                    a: problem
                        .a
                        .wrapping_add(row * problem.a_strides.0 + start * problem.a_strides.1),
                    a_row_stride: problem.a_strides.0,
                    a_col_stride: problem.a_strides.1,
                    b,
                    b_row_stride,
                    c: problem.c.wrapping_add(row * problem.c_row_stride + column),
                    c_row_stride: problem.c_row_stride,
                    alpha: problem.alpha,
                    beta: if is_first { problem.beta } else { R::ONE },
                    bias: if is_last && !problem.bias.is_null() {
                        problem.bias.wrapping_add(column)
                    } else {
                        std::ptr::null()
                    },
                    relu: is_last && problem.relu,
                };
                // SAFETY: the block lies inside the operands.
                unsafe { run(simd, rows, vecs, last, block) };
                row += rows;
            }
        }
        column += width;
    }
}

/// The textbook product, the meaning of [`SimdLevel::Scalar`].
///
/// # Safety
/// As [`multiply`].
unsafe fn multiply_textbook<R: SimdReal>(problem: &Problem<R>) {
    let &Problem { m, n, k, a, a_strides, b, b_strides, c, c_row_stride, .. } = problem;
    for i in 0..m {
        for j in 0..n {
            let mut sum = R::ZERO;
            for p in 0..k {
                // SAFETY: indices inside the operands.
                sum += unsafe {
                    *a.add(i * a_strides.0 + p * a_strides.1) * *b.add(p * b_strides.0 + j * b_strides.1)
                };
            }
            let mut value = problem.alpha * sum;
            // SAFETY: indices inside C and the bias.
            unsafe {
                let slot = c.add(i * c_row_stride + j);
                if problem.beta != R::ZERO {
                    value += problem.beta * *slot;
                }
                if !problem.bias.is_null() {
                    value += *problem.bias.add(j);
                }
                *slot = if problem.relu && value < R::ZERO { R::ZERO } else { value };
            }
        }
    }
}

/// A product `count` times, the operands each time further by their step.
#[derive(Clone, Copy)]
pub(super) struct Batch<R> {
    pub(super) problem: Problem<R>,
    pub(super) count: usize,
    pub(super) a_step: usize,
    pub(super) b_step: usize,
    pub(super) c_step: usize,
}

struct Products<'a, R>(&'a Batch<R>);

impl<R: SimdReal> Kernel for Products<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let batch = self.0;
        let panel =
            if batch.problem.packs() { thread_panel::<R>() } else { std::ptr::null_mut() };
        let mut problem = batch.problem;
        for _ in 0..batch.count {
            // SAFETY: `execute` promises valid operands at each step.
            unsafe {
                if matches!(S::LEVEL, SimdLevel::Scalar) {
                    multiply_textbook(&problem);
                } else {
                    multiply(simd, &problem, panel);
                }
            }
            problem.a = problem.a.wrapping_add(batch.a_step);
            problem.b = problem.b.wrapping_add(batch.b_step);
            problem.c = problem.c.wrapping_add(batch.c_step);
        }
    }
}

#[inline(never)]
fn execute_f32(level: SimdLevel, batch: &Batch<f32>) {
    dispatch(level, Products(batch));
}

#[inline(never)]
fn execute_f64(level: SimdLevel, batch: &Batch<f64>) {
    dispatch(level, Products(batch));
}

/// Computes all products of a batch, one after the other, with the kernels of a level.
///
/// # Safety
/// At each step all operands are valid for their shapes and strides, C is disjoint from the others and from the C of
/// the other steps, and nobody else touches it.
pub(super) unsafe fn execute<R: SimdReal>(level: SimdLevel, batch: &Batch<R>) {
    let call: fn(SimdLevel, &Batch<R>) = instance(
        execute_f32 as fn(SimdLevel, &Batch<f32>),
        execute_f64 as fn(SimdLevel, &Batch<f64>),
    );
    call(level, batch);
}
