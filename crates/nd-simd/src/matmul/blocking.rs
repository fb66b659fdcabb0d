//! The loops around the micro-kernel.
//!
//! ```text
//! for each block of k (at most 512; 256 where A is column-major)
//!     for each part of the columns and of the rows: all, if A stays in the second cache level or passes few panels
//!         for each panel of columns (four vectors wide; the last one narrower)
//!             pack B[k block, panel] if that pays, the first time
//!             for each block of rows: pack it if that pays, the first time; micro-kernel
//! ```
//!
//! The panel of B stays in L2 while rows of A stream past it; each value of A that is loaded is used for a whole
//! block width. A large A would come from the third level again for each panel, which costs a product of 1024 x 1024 x 1024 a tenth on
//! Emerald Rapids, although its lines are asked for long before. So its rows are taken in parts of a quarter of a MiB that stay in the second level: the panels of B
//! are packed once and come again for each part, asked for while the panel before is at work. (Packing them anew for each part took as much as this
//! gains, and asking for their lines as fast as a kernel can, not one in several pairs of steps, a third of it.)
//!
//! The columns of a column-major A often lie a power of two apart: a block of rows then fills few sets of the first cache level and is read from the
//! second for each panel. So blocks of such an A are packed while the first panel passes. Known weakness: threads cut columns first, mostly to one or two
//! panels each, for which neither pays; each reads A as it lies, all of it for each panel.
//!
//! In a stack of small products, the same block of sixteen products is one call of the micro-kernel: the choice of the
//! block, its mask and the call would otherwise cost more than the arithmetic.

use nd_core::Buffer;

use super::fetch::{Fetch, Stream};
use super::gemv::{dot_rows, rows_times_matrix};
use super::kernel::{
    Ahead, Block, Finish, LINE, Output, PIECE, Store, block_rows, block_vecs, run,
};
use super::pack::{K_BLOCK, Panel, pack_panel, take};
use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instance};
use crate::lanes::{Lanes, SimdReal};

/// Products of a stack that are computed together.
const GROUP: usize = 16;

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

/// Computes the products of a batch.
///
/// # Safety
/// All operands are valid for their shapes and strides at every step, C is disjoint from the others and nobody else
/// touches it; `panel` is valid if [`Problem::packs`].
#[inline(always)]
unsafe fn blocked<S: Isa, R: SimdReal>(simd: S, batch: &Batch<R>, panel: *mut R) {
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
        (Some(stream), _) => Ahead::Stream(
            stream,
            !packs && problem.b_strides.0 > n + LINE / size_of::<R>(),
        ),
        (None, true) => Ahead::BlockOfA,
        (None, false) => Ahead::RowsOfB,
    };
    let first_vecs = block_vecs::<S>(m, n.div_ceil(lanes));
    let single = batch.count == 1;
    let cut = if single {
        problem.cut(first_vecs * lanes)
    } else {
        problem.uncut()
    };
    let most = cut.depth.min(k);
    let packs_left = single && problem.packs_left(cut.height);
    let mut left: Option<Buffer<R>> = packs_left.then(|| take(cut.height * most));
    let left = left.as_mut().map(|room| room.as_mut_ptr());
    // The panels of a part of the columns, where they are to come again; all are as wide as the first, but for the last.
    let mut right: Option<Buffer<R>> = (cut.height < m).then(|| {
        let columns = n.min(cut.width).next_multiple_of(first_vecs * lanes);
        take(columns * most)
    });
    let right = right.as_mut().map(|room| room.as_mut_ptr());
    let pace = cut.pace(first_vecs * lanes * size_of::<R>());
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
            let depth = cut.depth.min(k - start);
            let is_last = start + depth == k;
            for part in cut.parts(m, n) {
                let mut column = part.columns.start;
                while column < part.columns.end {
                    let vecs = block_vecs::<S>(m, (n - column).div_ceil(lanes));
                    let width = (vecs * lanes).min(n - column);
                    let (bias, relu) = problem.finish.in_registers(is_last, column);
                    let row = part.rows.start;
                    let mut block = Block {
                        k: depth,
                        a: a.wrapping_add(row * a_strides.0 + start * a_strides.1),
                        a_row_stride: a_strides.0,
                        a_col_stride: a_strides.1,
                        b: b.wrapping_add(start * b_strides.0 + column * b_strides.1),
                        b_row_stride: b_strides.0,
                        output: Output {
                            c: c.wrapping_add(row * problem.c_row_stride + column),
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
                    let mut coming = None;
                    if packs {
                        let panel_len = depth * vecs * lanes;
                        let source = block.b;
                        block.b = right.map_or(panel, |right| {
                            right.wrapping_add((column - part.columns.start) * depth)
                        });
                        block.b_row_stride = vecs * lanes;
                        block.b_step = panel_len;
                        if row == 0 {
                            for index in 0..count {
                                let source = source.wrapping_add(index * b_step);
                                let target = block.b.cast_mut().wrapping_add(index * panel_len);
                                let shape = (depth, width);
                                // SAFETY: inside B; a panel has room for K_BLOCK rows of the widest block, and `right` for all panels.
                                unsafe {
                                    pack_panel(
                                        simd,
                                        source,
                                        b_strides,
                                        shape,
                                        target,
                                        vecs * lanes,
                                    );
                                }
                            }
                        }
                        // While the first panel passes, the rows of A are what comes from far away.
                        if let Some(right) = right
                            && batch.stream.is_null()
                            && column > part.columns.start
                        {
                            let next = column + width;
                            let soon = if next == part.columns.end && part.rows.end == m {
                                Fetch::default()
                            } else if next == part.columns.end {
                                Fetch::default().then_rows(right, 1, depth * first_vecs * lanes, 0)
                            } else if row > 0 {
                                let next = block.b.wrapping_add(panel_len);
                                Fetch::default().then_rows(next, 1, panel_len, 0)
                            } else {
                                let next = source.wrapping_add(width * b_strides.1);
                                unpacked_panel(next, b_strides, (depth, width))
                            };
                            coming = soon.slow_stream(pace);
                        }
                        if let Some(stream) = &coming {
                            block.ahead = Ahead::Stream(stream, false);
                        }
                    }
                    let mut row = part.rows.start;
                    while row < part.rows.end {
                        let rows = block_rows::<S>(vecs, part.rows.end - row);
                        let unpacked = block.a;
                        if right.is_some() {
                            block.output.near(rows, width);
                        }
                        // A narrower panel has other blocks of rows; it is the last, and reads A as it lies.
                        if let Some(left) = left
                            && vecs == first_vecs
                        {
                            let target = left.wrapping_add((row - part.rows.start) * depth);
                            if column == part.columns.start {
                                let (row_stride, col_stride) = a_strides;
                                let strides = (col_stride, row_stride);
                                // SAFETY: the block lies inside A; the room holds all blocks.
                                unsafe {
                                    let shape = (depth, rows);
                                    pack_panel(simd, unpacked, strides, shape, target, rows);
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
            }
            start += depth;
            store = store.next();
            if is_last {
                break;
            }
        }
    }
}

/// The rows of a panel that is still to be packed, or its columns if these are what lies together.
#[inline(always)]
fn unpacked_panel<R>(
    source: *const R,
    (row_stride, col_stride): (usize, usize),
    (depth, width): (usize, usize),
) -> Fetch {
    match (row_stride, col_stride) {
        (_, 1) => Fetch::default().then_rows(source, depth, width, row_stride),
        (1, _) => Fetch::default().then_rows(source, width, depth, col_stride),
        _ => Fetch::default(),
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
