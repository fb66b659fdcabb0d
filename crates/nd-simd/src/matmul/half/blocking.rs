//! The loops around all micro-kernels.
//!
//! ```text
//! pack B if several blocks of rows will read it
//! for each block of rows: 96, or more where A is read in place        (rows or columns over the threads)
//!     for each block of k
//!         pack the block of A, unless it can be read in place
//!         for each panel of 64 columns
//!             pack the panel of B, unless that has been done
//!             for each block of rows: micro-kernel
//! ```

use nd_core::Buffer;
use nd_core::bf16;
use nd_core::options::Precision;

use super::Operand;
#[cfg(target_arch = "x86_64")]
use super::amx::Tiles;
use super::choice::Bf16Engine;
#[cfg(target_arch = "x86_64")]
use super::dot::PairDot;
use super::engine::{Engine, Tile, panel_rows};
use super::pack::{
    PANEL, PackedBf16, ROW_BLOCK, Scratch, pack_panels, packed_bf16_len, padded_rows, stored_width,
    take,
};
use super::widen::{Exact, Rounding, ToBf16, ToF16, Widening};
use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch};
use crate::matmul::Epilogue;
use crate::matmul::kernel::{Finish, Output, PIECE, Store};
use crate::matmul::parallel::{Grid, for_each_block};
use crate::matmul::view::{MatMut, MatRef};

/// Rows of A in a block that is read in place: at most 512 KiB of a block of k.
const IN_PLACE_ROWS: usize = 512;

/// Panels that one thread packs together, row by row.
const PANELS_AT_ONCE: usize = 4;

/// Columns of C from which on an A that is not bf16 is brought to bf16 as a whole first.
#[cfg(target_arch = "x86_64")]
const NARROW_COLUMNS: usize = 2 * PANEL;

/// Rows of A that one thread brings to bf16 at a time.
#[cfg(target_arch = "x86_64")]
const NARROW_ROWS: usize = 64;

/// The right operand.
#[derive(Clone, Copy)]
pub(super) enum Right<'a, B> {
    Plain(MatRef<'a, B>),
    Packed(PackedBf16<'a>),
}

impl<B: Operand> Right<'_, B> {
    fn cols(&self) -> usize {
        match self {
            Self::Plain(b) => b.cols(),
            Self::Packed(b) => b.cols(),
        }
    }
}

/// The engine of a product; what is neither is widened by the level's vectors.
#[derive(Clone, Copy)]
enum Chosen {
    Widening,
    #[cfg(target_arch = "x86_64")]
    Dot(PairDot),
    #[cfg(target_arch = "x86_64")]
    Tiles(Tiles),
}

impl Chosen {
    /// What the calling thread's [`Bf16Engine`] means for a product over `k`.
    #[track_caller]
    fn new(level: SimdLevel, precision: Precision, k: usize) -> Self {
        // An empty sum has no blocks of k; any engine would do.
        if precision != Precision::Bf16 || k == 0 {
            return Self::Widening;
        }
        match Bf16Engine::at(level) {
            Bf16Engine::Widen => Self::Widening,
            #[cfg(target_arch = "x86_64")]
            Bf16Engine::Dot => PairDot::new().map_or(Self::Widening, Self::Dot),
            #[cfg(target_arch = "x86_64")]
            Bf16Engine::Amx => Tiles::new().map_or(Self::Widening, Self::Tiles),
            #[cfg(not(target_arch = "x86_64"))]
            _ => Self::Widening,
        }
    }
}

/// A checked product.
pub(super) struct Task<'a, A, B> {
    pub(super) level: SimdLevel,
    engine: Chosen,
    precision: Precision,
    pub(super) alpha: f32,
    pub(super) a: MatRef<'a, A>,
    /// Whether zeros follow each row of A, as many as [`padded_rows`] says.
    a_padded: bool,
    b: Right<'a, B>,
    pub(super) beta: f32,
    pub(super) c: *mut f32,
    pub(super) c_row_stride: usize,
    pub(super) finish: Finish<f32>,
}

// SAFETY: threads read A, B and the bias, and write disjoint blocks of C, which is borrowed for the life of the task.
unsafe impl<A: Operand, B: Operand> Sync for Task<'_, A, B> {}

impl<'a, A: Operand, B: Operand> Task<'a, A, B> {
    /// The shapes have been checked; the columns of C are neighbours.
    #[track_caller]
    pub(super) fn new(
        level: SimdLevel,
        precision: Precision,
        alpha: f32,
        a: MatRef<'a, A>,
        b: Right<'a, B>,
        beta: f32,
        c: &'a mut MatMut<'_, f32>,
        epilogue: Epilogue<'a, f32>,
    ) -> Self {
        debug_assert_eq!((c.rows(), c.cols()), (a.rows(), b.cols()));
        Self {
            level,
            engine: Chosen::new(level, precision, a.cols()),
            precision,
            alpha,
            a,
            a_padded: false,
            b,
            beta,
            c_row_stride: c.row_stride(),
            c: c.data_mut().as_mut_ptr(),
            finish: epilogue.finish(),
        }
    }

    /// Computes all of C.
    pub(super) fn run(&self, parallel: bool) {
        let (m, n) = (self.a.rows(), self.b.cols());
        if m == 0 || n == 0 {
            return;
        }
        if self.level == SimdLevel::Scalar {
            // SAFETY: C is borrowed.
            return unsafe { self.textbook() };
        }
        #[cfg(target_arch = "x86_64")]
        if n > NARROW_COLUMNS
            && self.row_block() == ROW_BLOCK
            && let Chosen::Dot(packing) = self.engine
        {
            let k = self.a.cols();
            let stride = padded_rows(k);
            let mut narrowed = take(m * stride);
            self.narrow_left(packing, &mut narrowed, parallel);
            let task = Task::<bf16, B> {
                level: self.level,
                engine: self.engine,
                precision: self.precision,
                alpha: self.alpha,
                a: MatRef::strided(&narrowed, m, k, stride, 1),
                a_padded: true,
                b: self.b,
                beta: self.beta,
                c: self.c,
                c_row_stride: self.c_row_stride,
                finish: self.finish,
            };
            return task.run_blocks(parallel);
        }
        self.run_blocks(parallel);
    }

    /// All of A as rows of bf16 pairs.
    #[cfg(target_arch = "x86_64")]
    fn narrow_left(&self, packing: PairDot, target: &mut [bf16], parallel: bool) {
        let k = self.a.cols();
        let chunk = NARROW_ROWS * padded_rows(k);
        if chunk == 0 {
            return;
        }
        let narrow = |(index, target): (usize, &mut [bf16])| {
            let rows = target.len() / padded_rows(k);
            let a = self.a.row_block(index * NARROW_ROWS, rows);
            let strides = (a.row_stride(), a.col_stride());
            // SAFETY: these rows of A; `rows` rows of whole pairs.
            unsafe {
                packing.pack_left(
                    a.data().as_ptr(),
                    strides,
                    rows,
                    k,
                    target.as_mut_ptr().cast(),
                );
            }
        };
        if parallel {
            use rayon::prelude::*;
            target.par_chunks_mut(chunk).enumerate().for_each(narrow);
        } else {
            target.chunks_mut(chunk).enumerate().for_each(narrow);
        }
    }

    fn run_blocks(&self, parallel: bool) {
        let (m, k, n) = (self.a.rows(), self.a.cols(), self.b.cols());
        let grid = match self.engine {
            _ if !parallel => Grid::whole(m, n),
            #[cfg(target_arch = "x86_64")]
            Chosen::Tiles(_) => Grid::of_tiles(m, k, n),
            _ => Grid::new(m, k, n),
        };
        // Packed whole where several blocks of rows read it; then also by all threads.
        let shared: Buffer<bf16>;
        let mut b = self.b;
        if let Right::Plain(plain) = b
            && (m > self.row_block() || grid.down() > 1)
            && self.precision == Precision::Bf16
        {
            let mut packed = take(packed_bf16_len(k, n));
            self.pack_whole(plain, &mut packed, parallel);
            shared = packed;
            b = Right::Packed(PackedBf16::new(&shared, k, n));
        }
        for_each_block(0, grid.count(), &|index| {
            let (rows, cols) = grid.block(index);
            // SAFETY: blocks of one grid are disjoint parts of C, which is borrowed.
            unsafe { self.block(b, rows, cols) };
        });
    }

    /// Rows that read a panel of B before the next one is packed. Where A is read in place, as many as stay in L2 with
    /// the panel; else as many as are packed at once.
    fn row_block(&self) -> usize {
        let in_place = match self.engine {
            Chosen::Widening => false,
            #[cfg(target_arch = "x86_64")]
            Chosen::Dot(engine) => {
                let strides = (self.a.row_stride(), self.a.col_stride());
                let (a, k) = (self.a.data().as_ptr(), self.a.cols());
                engine.in_place(a, strides, k, self.a_padded).is_some()
            }
            // Tiles block their rows themselves.
            #[cfg(target_arch = "x86_64")]
            Chosen::Tiles(_) => return usize::MAX,
        };
        if in_place { IN_PLACE_ROWS } else { ROW_BLOCK }
    }

    /// The textbook product, the meaning of [`SimdLevel::Scalar`].
    ///
    /// # Safety
    /// As [`Task::block`], for all of C.
    unsafe fn textbook(&self) {
        let round = |x: f32| match self.precision {
            Precision::F32 => x,
            Precision::Bf16 => ToBf16::round(x),
            Precision::F16 => ToF16::round(x),
        };
        for i in 0..self.a.rows() {
            for j in 0..self.b.cols() {
                let k = self.a.cols();
                let mut total = 0.0;
                for start in (0..k).step_by(PIECE) {
                    let mut sum = 0.0;
                    for p in start..k.min(start + PIECE) {
                        let b = match self.b {
                            Right::Plain(b) => round(b.at(p, j).widen()),
                            Right::Packed(b) => b.at(p, j).widen(),
                        };
                        sum += round(self.a.at(i, p).widen()) * b;
                    }
                    total += sum;
                }
                let mut value = self.alpha * total;
                // SAFETY: inside C.
                let slot = unsafe { &mut *self.c.add(i * self.c_row_stride + j) };
                if self.beta != 0.0 {
                    value += self.beta * *slot;
                }
                *slot = self.finish.element(value, j);
            }
        }
        let (m, n) = (self.a.rows(), self.b.cols());
        // SAFETY: all of C.
        unsafe {
            self.finish
                .rest(self.level, self.c, m, n, self.c_row_stride)
        };
    }

    fn pack_whole(&self, b: MatRef<'_, B>, target: &mut [bf16], parallel: bool) {
        let group = PANELS_AT_ONCE * padded_rows(b.rows()) * PANEL;
        if group == 0 {
            return;
        }
        let pack = |(index, target): (usize, &mut [bf16])| {
            pack_panels(self.level, b, index * PANELS_AT_ONCE * PANEL, target);
        };
        if parallel {
            use rayon::prelude::*;
            target.par_chunks_mut(group).enumerate().for_each(pack);
        } else {
            target.chunks_mut(group).enumerate().for_each(pack);
        }
    }

    /// One block of C; `cols` starts at a multiple of [`PANEL`].
    ///
    /// # Safety
    /// Nobody else touches the block.
    unsafe fn block(
        &self,
        b: Right<'_, B>,
        rows: std::ops::Range<usize>,
        cols: std::ops::Range<usize>,
    ) {
        // SAFETY: the caller's.
        unsafe {
            match self.engine {
                Chosen::Widening => dispatch(
                    self.level,
                    WidenBlock {
                        task: self,
                        b,
                        rows,
                        cols,
                    },
                ),
                #[cfg(target_arch = "x86_64")]
                Chosen::Dot(engine) => self.block_with(engine, b, rows, cols),
                #[cfg(target_arch = "x86_64")]
                Chosen::Tiles(tiles) => tiles.block(self, b, rows, cols),
            }
        }
    }

    /// [`Task::block`] with one engine.
    ///
    /// # Safety
    /// As [`Task::block`].
    unsafe fn block_with<E: Engine>(
        &self,
        engine: E,
        b: Right<'_, B>,
        rows: std::ops::Range<usize>,
        cols: std::ops::Range<usize>,
    ) {
        let mut scratch = Scratch::new();
        let k = self.a.cols();
        let a_strides = (self.a.row_stride(), self.a.col_stride());
        let row_block = self.row_block();
        let mut row_start = rows.start;
        while row_start < rows.end {
            let m = row_block.min(rows.end - row_start);
            let mut k_start = 0;
            let mut store = Store::first(self.alpha, self.beta);
            loop {
                let depth = E::K_BLOCK.min(k - k_start);
                let is_last = k_start + depth == k;
                let a = self.a.data().as_ptr();
                let a = a.wrapping_add(row_start * a_strides.0 + k_start * a_strides.1);
                let (a, a_row_bytes) = match engine.in_place(a, a_strides, depth, self.a_padded) {
                    Some(found) => found,
                    None => {
                        let target = scratch.left();
                        // SAFETY: the block lies inside A; the scratch holds a whole block.
                        let bytes = unsafe { engine.pack_left(a, a_strides, m, depth, target) };
                        (target.cast_const().cast(), bytes)
                    }
                };
                let mut column = cols.start;
                while column < cols.end {
                    let width = PANEL.min(cols.end - column);
                    let (panel, stored) = match b {
                        Right::Plain(b) => {
                            let stored = width.next_multiple_of(E::LANES);
                            let strides = (b.row_stride(), b.col_stride());
                            let from = b.data().as_ptr();
                            let from = from.wrapping_add(k_start * strides.0 + column * strides.1);
                            let target = scratch.right();
                            // SAFETY: the panel lies inside B; the scratch holds a whole panel.
                            unsafe {
                                engine.pack_right(from, strides, depth, width, target, stored);
                            }
                            (target.cast_const(), stored)
                        }
                        Right::Packed(b) => {
                            let stored = stored_width(b.cols(), column);
                            let panel = b.panel(column, k_start / 2);
                            let target = scratch.right();
                            // SAFETY: blocks of k begin at even rows; the panel holds them all.
                            let panel =
                                unsafe { engine.unpack_right(panel, depth, stored, target) };
                            (panel, stored)
                        }
                    };
                    let (bias, relu) = self.finish.in_registers(is_last, column);
                    let tile = Tile {
                        depth,
                        a,
                        a_row_bytes,
                        b: panel,
                        b_stride: stored,
                        output: Output {
                            c: self.c.wrapping_add(row_start * self.c_row_stride + column),
                            c_row_stride: self.c_row_stride,
                            store,
                            bias,
                            relu,
                        },
                    };
                    // SAFETY: a panel of packed operands, a block of C that is ours.
                    unsafe {
                        panel_rows(engine, m, width, tile);
                        if is_last {
                            let c = self.c.wrapping_add(row_start * self.c_row_stride + column);
                            self.finish.rest(self.level, c, m, width, self.c_row_stride);
                        }
                    }
                    column += width;
                }
                k_start += depth;
                store = store.next();
                if is_last {
                    break;
                }
            }
            row_start += m;
        }
    }
}

/// A block of C on whatever vectors the level has.
struct WidenBlock<'t, 'a, A, B> {
    task: &'t Task<'a, A, B>,
    b: Right<'t, B>,
    rows: std::ops::Range<usize>,
    cols: std::ops::Range<usize>,
}

impl<A: Operand, B: Operand> Kernel for WidenBlock<'_, '_, A, B> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self {
            task,
            b,
            rows,
            cols,
        } = self;
        // SAFETY: `Task::block` was promised this block of C.
        unsafe {
            match task.precision {
                Precision::F32 => {
                    task.block_with(Widening::<S, Exact>::new(simd), b, rows, cols);
                }
                Precision::Bf16 => {
                    task.block_with(Widening::<S, ToBf16>::new(simd), b, rows, cols);
                }
                Precision::F16 => {
                    task.block_with(Widening::<S, ToF16>::new(simd), b, rows, cols);
                }
            }
        }
    }
}
