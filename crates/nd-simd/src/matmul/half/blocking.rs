//! The loops around the micro-kernels of pairs, and the way to those of tiles.
//!
//! ```text
//! bring an A that is not bf16 to bf16, some blocks of k at a time      (and what follows for each of these)
//! pack B if several blocks of rows will read it
//! for each block of rows: 96, or more where A is read in place        (rows or columns over the threads)
//!     for each block of k
//!         pack the block of A, unless it can be read in place
//!         for each panel of 64 columns
//!             pack the panel of B, unless that has been done
//!             for each block of rows: micro-kernel
//! ```

use nd_core::{Buffer, bf16};

use super::Operand;
use super::dot::PairDot;
use super::engine::{Engine, Tile, panel_rows};
use super::pack::{PANEL, PackedBf16, pack_bf16_on, packed_bf16_len, padded_rows, stored_width};
use super::scratch::{ROW_BLOCK, Scratch};
use super::task::{Chosen, Right, Task};
use crate::matmul::Epilogue;
use crate::matmul::kernel::{Output, Store};
use crate::matmul::pack::take;
use crate::matmul::parallel::{Grid, for_each_block};
use crate::matmul::view::MatRef;

/// Rows of A in a block that is read in place: at most 512 KiB of a block of k.
const IN_PLACE_ROWS: usize = 512;

/// Columns of C from which on an A that is not bf16 is brought to bf16 before it is multiplied.
const NARROW_COLUMNS: usize = 2 * PANEL;

/// Numbers of A that are brought to bf16 at a time, or one block of k where that has more: a tall operand, as in the gradient of a
/// weight, needs room for a block in the place of all of k.
const NARROWED: usize = 1 << 16;

/// Rows of A that one thread brings to bf16 at a time.
const NARROW_ROWS: usize = 64;

impl<A: Operand, B: Operand> Task<'_, A, B> {
    /// Computes all of C on tiles or pairs.
    pub(super) fn run_engine(&self, parallel: bool) {
        let (m, n) = (self.a.rows(), self.b.cols());
        if n > NARROW_COLUMNS
            && self.row_block() == ROW_BLOCK
            && let Chosen::Dot(packing) = self.engine
        {
            let k = self.a.cols();
            let depth = self.narrow_depth();
            let mut room = take(m * padded_rows(depth));
            for start in (0..k).step_by(depth) {
                let depth = depth.min(k - start);
                let stride = padded_rows(depth);
                let epilogue = if start + depth == k {
                    self.epilogue
                } else {
                    Epilogue::default()
                };
                let narrowed = &mut room[..m * stride];
                let part = self.a.col_block(start, depth);
                self.narrow_left(part, packing, narrowed, parallel);
                Task::<bf16, B> {
                    level: self.level,
                    engine: self.engine,
                    precision: self.precision,
                    alpha: self.alpha,
                    a: MatRef::strided(narrowed, m, depth, stride, 1),
                    a_padded: true,
                    b: match self.b {
                        Right::Plain(b) => Right::Plain(b.row_block(start, depth)),
                        whole => whole,
                    },
                    beta: if start == 0 { self.beta } else { 1.0 },
                    c: self.c,
                    c_row_stride: self.c_row_stride,
                    rounded: None,
                    epilogue,
                    finish: epilogue.finish(),
                    soon: self.soon,
                }
                .run_blocks(parallel);
            }
            return;
        }
        self.run_blocks(parallel);
    }

    /// How much of k is brought to bf16 at a time: whole blocks of the kernel, so that sums end where they would; all where B is packed,
    /// which is not cut.
    fn narrow_depth(&self) -> usize {
        let (m, k) = (self.a.rows(), self.a.cols());
        let block = <PairDot as Engine>::K_BLOCK;
        match self.b {
            Right::Plain(_) => {
                let fitting = NARROWED / m.max(1) / block * block;
                fitting.max(block).min(k)
            }
            _ => k,
        }
    }

    /// A part of A as rows of bf16 pairs.
    fn narrow_left(
        &self,
        part: MatRef<'_, A>,
        packing: PairDot,
        target: &mut [bf16],
        parallel: bool,
    ) {
        let k = part.cols();
        let chunk = NARROW_ROWS * padded_rows(k);
        let narrow = |(index, target): (usize, &mut [bf16])| {
            let rows = target.len() / padded_rows(k);
            let a = part.row_block(index * NARROW_ROWS, rows);
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
            Chosen::Tiles(_) => Grid::of_tiles(m, k, n),
            _ => Grid::new(m, k, n),
        };
        // Packed whole where several blocks of rows read it; then also by all threads.
        let shared: Buffer<bf16>;
        let mut b = self.b;
        if let Right::Plain(plain) = b
            && (m > self.row_block() || grid.down() > 1)
        {
            let mut packed = take(packed_bf16_len(k, n));
            pack_bf16_on(self.level, parallel, plain, &mut packed);
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
            Chosen::Widening => unreachable!("what is widened has loops of its own"),
            Chosen::Dot(engine) => {
                let strides = (self.a.row_stride(), self.a.col_stride());
                let (a, k) = (self.a.data().as_ptr(), self.a.cols());
                engine.in_place(a, strides, k, self.a_padded).is_some()
            }
            // Tiles block their rows themselves.
            Chosen::Tiles(_) => return usize::MAX,
        };
        if in_place { IN_PLACE_ROWS } else { ROW_BLOCK }
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
                Chosen::Widening => unreachable!("what is widened has loops of its own"),
                Chosen::Dot(engine) => self.block_with(engine, b, rows, cols),
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
                            let panel = b.panel(column, k_start / 2).cast();
                            (panel, stored_width(b.cols(), column))
                        }
                        Right::Wide(_) => unreachable!("what is widened has loops of its own"),
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
