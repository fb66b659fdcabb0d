//! The loops around the tile kernel.

use std::mem::MaybeUninit;
use std::ops::Range;

use nd_core::{Buffer, DType, bf16};

use super::Tiles;
use super::config::{TILE, TileGuard};
use super::finish::WIDE;
use super::kernel::{Ahead, STEP, Strips};
use super::rounding::{RoundedPart, Rounder};
use crate::matmul::half::Operand;
use crate::matmul::half::engine::Engine;
use crate::matmul::half::pack::{PANEL, PackedBf16, pack_panels, packed_bf16_len, padded_rows};
use crate::matmul::half::task::{Right, Task};
use crate::matmul::kernel::{Output, Store};
use crate::matmul::pack::take;
use crate::matmul::view::MatRef;

/// Numbers of k in a chain of sums, and in a block where C is f32, at most: the strip of A that is packed has room for as many.
const K_BLOCK: usize = 1024;

/// Pairs in a strip of A: two tiles of rows.
const STRIP: usize = TILE * K_BLOCK;

/// Elements of B that stay in half of the second cache level while A passes.
const CACHED_RIGHT: usize = 1 << 19;

/// Columns of B in a block at most.
const MOST_COLUMNS: usize = 512;

/// Rows of A up to which all of its packed strips stay in the second cache level beside one panel of B. They are packed once then, and B is
/// packed panel by panel, to the same little room for every product: gradients of weights, over thousands of rows, need no more.
const FEW_ROWS: usize = 8 * TILE;

/// Kernels of a strip that read all of the next one's rows, when each asks for two rows with its steps.
const KERNELS_OF_STRIP: usize = TILE;

/// Steps of a kernel up to which reading A takes about as long as computing with it.
const SHORT_FOR_A: usize = 8;

/// Numbers of C that do not stay in the second cache level (and twice as many of A, half as long), so that it pays to ask for them early.
const UNCACHED: usize = 1 << 18;

/// Bytes of a cache line, and of a row of a tile.
const LINE: usize = 64;

/// Columns up to which rows of A that begin within a line are read in place all the same: packing them costs more than
/// reading two lines for each.
const FEW_COLUMNS: usize = 256;

/// What [`Tiles::columns`] goes over, and in which blocks.
struct Columns {
    rows: Range<usize>,
    cols: Range<usize>,
    /// Rows of a strip.
    height: usize,
    /// Pairs of a packed strip at most.
    strip: usize,
    /// Numbers of k in a block.
    depth: usize,
    /// Columns in a block.
    width: usize,
    keeps_strips: bool,
    /// Whether rows of A are read where they lie.
    in_place: bool,
}

/// Whether whole steps of the rows of A can and should be read where they lie, by a block of so many columns.
fn in_place<A: Operand>(a: &MatRef<'_, A>, cols: usize) -> bool {
    // The stride of a single row may be any number.
    let row_bytes = a.row_stride().wrapping_mul(size_of::<A>());
    let line_by_line = (a.data().as_ptr().addr() | row_bytes).is_multiple_of(LINE);
    A::DTYPE == DType::Bf16 && a.col_stride() == 1 && (line_by_line || cols <= FEW_COLUMNS)
}

/// How many rows one block has, when there are `m`: at most two tiles, and all blocks alike.
fn block_height(m: usize) -> usize {
    m.div_ceil(m.div_ceil(2 * TILE).max(1))
}

/// How much of k is added up in one chain: nearly equal parts, in whole steps. By k alone, because it decides how sums are rounded.
pub(super) fn chain_depth(k: usize) -> usize {
    k.div_ceil(k.div_ceil(K_BLOCK).max(1))
        .next_multiple_of(STEP)
}

/// How much of k a block has: one chain, whose sums C keeps; or all of k where C is rounded and cannot keep them.
fn block_depth<A, B>(task: &Task<'_, A, B>, k: usize) -> usize {
    match task.rounded {
        None => chain_depth(k),
        Some(_) => padded_rows(k),
    }
}

/// How many columns a block has.
fn block_width(m: usize, depth: usize, keeps_strips: bool) -> usize {
    if m <= 2 * TILE || keeps_strips {
        // One strip of A reads B once: while it is in the first cache level.
        return PANEL;
    }
    (CACHED_RIGHT / depth / PANEL * PANEL).clamp(PANEL, MOST_COLUMNS)
}

/// Rows of A that a kernel reads.
#[derive(Clone, Copy)]
struct Left {
    rows: *const u8,
    row_bytes: usize,
}

impl Tiles {
    /// One block of C; `cols` starts at a multiple of [`PANEL`].
    ///
    /// # Safety
    /// Nobody else touches the block; the product has a k.
    pub(in crate::matmul::half) unsafe fn block<A: Operand, B: Operand>(
        self,
        task: &Task<'_, A, B>,
        b: Right<'_, B>,
        rows: Range<usize>,
        cols: Range<usize>,
    ) {
        let k = task.a.cols();
        let height = block_height(rows.len());
        let bottom = height.saturating_sub(TILE);
        // SAFETY: `self` proves that there are tiles; a lower tile that is not used has 16 rows; this is the only guard here.
        let _guard =
            unsafe { TileGuard::new(height.min(TILE), if bottom == 0 { TILE } else { bottom }) };
        let in_place = in_place(&task.a, cols.len());
        // One size for all products that fit it, so that the pool keeps no room that the next one cannot use.
        let strip = STRIP.max(TILE * block_depth(task, k));
        let keeps_strips =
            matches!(b, Right::Plain(_)) && (2 * TILE + 1..=FEW_ROWS).contains(&rows.len());
        if in_place && k.is_multiple_of(STEP) {
            // SAFETY: the caller's; the guard has this height; no strip is needed.
            unsafe { self.columns(task, b, rows, cols, height, in_place, &mut []) };
        } else if keeps_strips || strip > STRIP {
            let strips = if keeps_strips {
                FEW_ROWS / (2 * TILE)
            } else {
                1
            };
            let mut room: Buffer<f32> = take(strips * strip);
            // SAFETY: the same words; only pairs of bf16 are written to them.
            let strips =
                unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr().cast(), room.len()) };
            // SAFETY: as above, and there is room for all strips or one.
            unsafe { self.columns(task, b, rows, cols, height, in_place, strips) };
        } else {
            // SAFETY: as above, and the room is for a whole strip.
            with_strip(|strip| unsafe {
                self.columns(task, b, rows, cols, height, in_place, strip)
            });
        }
    }

    /// [`Tiles::block`] with room for a strip or for all of them, unless all of A is read in place.
    ///
    /// # Safety
    /// As [`Tiles::block`]; a guard for this height is alive.
    unsafe fn columns<A: Operand, B: Operand>(
        self,
        task: &Task<'_, A, B>,
        b: Right<'_, B>,
        rows: Range<usize>,
        cols: Range<usize>,
        height: usize,
        in_place: bool,
        strips: &mut [MaybeUninit<u32>],
    ) {
        let depth = block_depth(task, task.a.cols());
        let strip = STRIP.max(TILE * depth);
        let keeps_strips = rows.len().div_ceil(height) * strip <= strips.len();
        let width = block_width(rows.len(), depth, keeps_strips);
        let columns = Columns {
            rows,
            cols,
            height,
            strip,
            depth,
            width,
            keeps_strips,
            in_place,
        };
        match b {
            Right::Plain(_) => {
                let len = if keeps_strips {
                    // One size for all products, so that the pool keeps no room that the next one cannot use.
                    packed_bf16_len(depth.max(K_BLOCK), PANEL)
                } else {
                    packed_bf16_len(depth, width.min(columns.cols.len()))
                };
                let mut room = take(len);
                // SAFETY: the caller's; a packed block has room.
                unsafe { self.columns_in(task, b, columns, strips, &mut room) };
            }
            // SAFETY: the caller's.
            Right::Packed(_) => unsafe { self.columns_in(task, b, columns, strips, &mut []) },
            Right::Wide(_) => unreachable!("what is widened has loops of its own"),
        }
    }

    /// [`Tiles::columns`] with room for blocks of B that are packed on the way.
    ///
    /// # Safety
    /// As [`Tiles::columns`].
    unsafe fn columns_in<A: Operand, B: Operand>(
        self,
        task: &Task<'_, A, B>,
        b: Right<'_, B>,
        columns: Columns,
        strips: &mut [MaybeUninit<u32>],
        room: &mut [bf16],
    ) {
        let Columns {
            rows,
            cols,
            height,
            strip,
            depth,
            width,
            keeps_strips,
            in_place,
        } = columns;
        let k = task.a.cols();
        // By the whole product: a thread's block is read and written beside all others.
        let fetch_a = in_place && task.a.rows() * k >= 2 * UNCACHED;
        let numbers_of_c = task.a.rows() * b.cols();
        let fetch_c = match task.rounded {
            None => numbers_of_c >= UNCACHED,
            // Half as long.
            Some(_) => numbers_of_c >= 2 * UNCACHED,
        };
        let mut store = Store::first(task.alpha, task.beta);
        for start in (0..k).step_by(depth) {
            let depth = depth.min(k - start);
            let steps = depth.div_ceil(STEP);
            for column in cols.clone().step_by(width) {
                let width = width.min(cols.end - column);
                let (packed, first) = match b {
                    Right::Plain(b) => {
                        let room = &mut room[..packed_bf16_len(depth, width)];
                        let part = b.row_block(start, depth).col_block(column, width);
                        pack_panels(task.level, part, 0, room);
                        (PackedBf16::new(room, depth, width), (0, 0))
                    }
                    Right::Packed(packed) => (packed, (start / 2, column)),
                    Right::Wide(_) => unreachable!("what is widened has loops of its own"),
                };
                let block = Block {
                    tiles: self,
                    task,
                    packed,
                    first,
                    rows: rows.clone(),
                    height,
                    strip,
                    cols: column..column + width,
                    k: start..start + depth,
                    store,
                    keeps_strips,
                    in_place: in_place && depth.is_multiple_of(STEP),
                    leftmost: column == cols.start,
                    fetch_ahead: fetch_a || fetch_c,
                    fetch_early: fetch_a
                        && steps <= SHORT_FOR_A
                        && width.div_ceil(WIDE) < KERNELS_OF_STRIP,
                };
                // SAFETY: a part of the caller's block.
                unsafe { block.run(strips) };
            }
            store = store.next();
        }
    }
}

/// Calls a function with room for a strip of A on the stack: 64 KiB, which products that need none do not pay for.
#[inline(never)]
fn with_strip(run: impl FnOnce(&mut [MaybeUninit<u32>])) {
    /// A strip begins at a cache line.
    #[repr(C, align(64))]
    struct Room([MaybeUninit<u32>; STRIP]);
    run(&mut Room([MaybeUninit::uninit(); STRIP]).0);
}

/// A block of B and all rows.
struct Block<'a, 't, A, B> {
    tiles: Tiles,
    task: &'a Task<'t, A, B>,
    packed: PackedBf16<'a>,
    /// The pair and the column of the packed operand where this block begins.
    first: (usize, usize),
    rows: Range<usize>,
    height: usize,
    /// Pairs of a packed strip at most.
    strip: usize,
    cols: Range<usize>,
    k: Range<usize>,
    store: Store<f32>,
    /// Whether a packed strip stays until the last columns of this block of k.
    keeps_strips: bool,
    /// Whether rows of A are read where they lie.
    in_place: bool,
    /// Whether these are the first columns for this block of k.
    leftmost: bool,
    /// Whether kernels ask, while they compute, for what comes next of C and A.
    fetch_ahead: bool,
    /// Whether rows of A are asked for before a kernel computes, because too few kernels read a strip to ask for all of the next.
    fetch_early: bool,
}

impl<A: Operand, B: Operand> Block<'_, '_, A, B> {
    /// # Safety
    /// As [`Tiles::block`]; a guard for this height is alive.
    unsafe fn run(&self, strips: &mut [MaybeUninit<u32>]) {
        let task = self.task;
        let is_last = self.k.end == task.a.cols();
        let mut row = self.rows.start;
        let mut index = 0;
        let mut rounder = Rounder::new(task);
        while row < self.rows.end {
            // The last block begins early; what the one before has stored stays.
            let start = row.min(self.rows.end - self.height);
            // SAFETY: the caller's.
            unsafe {
                let left = self.left(start, index, strips);
                self.strip(start, row - start, left, is_last, &mut rounder);
                if is_last && task.rounded.is_none() {
                    let c = task
                        .c
                        .wrapping_add(row * task.c_row_stride + self.cols.start);
                    let rows = start + self.height - row;
                    task.finish
                        .rest(task.level, c, rows, self.cols.len(), task.c_row_stride);
                }
            }
            row = start + self.height;
            index += usize::from(self.keeps_strips);
        }
        // SAFETY: what waits is a part of C that is ours.
        unsafe { rounder.finish() };
    }

    /// Rows of A from `row` on, in place or packed as a strip.
    ///
    /// # Safety
    /// As [`Block::run`].
    #[inline(always)]
    unsafe fn left(&self, row: usize, index: usize, strips: &mut [MaybeUninit<u32>]) -> Left {
        let a = &self.task.a;
        let strides = (a.row_stride(), a.col_stride());
        let from = a.data().as_ptr();
        let from = from.wrapping_add(row * strides.0 + self.k.start * strides.1);
        let depth = self.k.len();
        if self.in_place {
            return Left {
                rows: from.cast(),
                row_bytes: strides.0.wrapping_mul(size_of::<A>()),
            };
        }
        let target: *mut u32 = strips[index * self.strip..][..self.strip]
            .as_mut_ptr()
            .cast();
        let row_bytes = depth.next_multiple_of(STEP) * 2;
        if self.leftmost || !self.keeps_strips {
            let packing = self.tiles.packing;
            // SAFETY: the rows lie inside A; the strip has room for two tiles of rows.
            unsafe { packing.pack_left(from, strides, self.height, depth, target) };
        }
        Left {
            rows: target.cast_const().cast(),
            row_bytes,
        }
    }

    /// The rows of C from `row` on, all columns of the block.
    ///
    /// # Safety
    /// As [`Block::run`].
    #[inline(always)]
    unsafe fn strip(
        &self,
        row: usize,
        stored: usize,
        left: Left,
        is_last: bool,
        rounder: &mut Rounder,
    ) {
        let task = self.task;
        let steps = self.k.len().div_ceil(STEP);
        for column in self.cols.clone().step_by(WIDE) {
            let in_packed = column - self.cols.start + self.first.1;
            let panel = in_packed / PANEL * PANEL;
            let b = self.packed.panel(panel, self.first.0);
            let strips = Strips {
                a: left.rows,
                a_row_bytes: left.row_bytes,
                top: self.height.min(TILE),
                b: b.wrapping_add(2 * (in_packed - panel)).cast(),
                b_pair_bytes: 4 * self.packed.stored(panel),
                steps,
                c: std::ptr::null_mut(),
                c_row_bytes: 0,
            };
            let cols = (self.cols.end - column).min(WIDE);
            if self.fetch_early {
                self.fetch_a(row, column, steps);
            }
            let ahead = self
                .fetch_ahead
                .then(|| self.ahead(row, stored, column, left));
            if let Some(to) = &task.rounded {
                let part = RoundedPart {
                    task,
                    to,
                    row,
                    rows: self.height,
                    stored,
                    column,
                    cols,
                };
                // SAFETY: the caller's; packed operands are whole tiles, and this block has all of k.
                unsafe { part.compute(self.tiles, strips, ahead.as_ref(), rounder) };
                continue;
            }
            let (bias, relu) = task.finish.in_registers(is_last, column);
            let output = Output {
                c: task.c.wrapping_add(row * task.c_row_stride + column),
                c_row_stride: task.c_row_stride,
                store: self.store,
                bias,
                relu,
            };
            // SAFETY: the caller's; packed operands are whole tiles.
            unsafe {
                self.tiles
                    .compute(strips, self.height, stored, cols, output, ahead.as_ref());
            }
        }
    }

    /// What the kernel at `column` asks for: the lines of C that the next one writes, and its share of the next strip of A.
    #[inline(always)]
    fn ahead(&self, row: usize, stored: usize, column: usize, left: Left) -> Ahead {
        let task = self.task;
        let (mut next_row, mut next) = (row + stored, column + WIDE);
        if next >= self.cols.end {
            (next_row, next) = (row + self.height, self.cols.start);
            if next_row >= self.rows.end {
                // The next block of columns.
                (next_row, next) = (self.rows.start, self.cols.end);
            }
        }
        let kernels = self.cols.len().div_ceil(WIDE);
        let a = if self.in_place && kernels >= KERNELS_OF_STRIP {
            let kernel = (column - self.cols.start) / WIDE;
            let rows = self.height + self.height * kernel / kernels;
            left.rows.wrapping_add(rows.wrapping_mul(left.row_bytes))
        } else {
            // What this kernel reads anyway.
            left.rows
        };
        let (c, c_row_bytes) = match &task.rounded {
            None => {
                let c = task.c.wrapping_add(next_row * task.c_row_stride + next);
                let row_bytes = task.c_row_stride.wrapping_mul(size_of::<f32>());
                (c.cast_const().cast(), row_bytes)
            }
            Some(to) => {
                let c = to.c(next_row, next).cast_const();
                let row_bytes = to.c_row_stride().wrapping_mul(size_of::<bf16>());
                (c.cast(), row_bytes)
            }
        };
        Ahead { c, c_row_bytes, a }
    }

    /// Asks for a share of the next strip of A; all kernels of this strip together ask for all of it.
    #[inline(always)]
    fn fetch_a(&self, row: usize, column: usize, steps: usize) {
        let a = &self.task.a;
        let kernels = self.cols.len().div_ceil(WIDE);
        let kernel = (column - self.cols.start) / WIDE;
        let share = |i: usize| row + self.height + self.height * i / kernels;
        for next in share(kernel)..share(kernel + 1).min(self.rows.end) {
            let at = next * a.row_stride() + self.k.start;
            let from = a.data().as_ptr().wrapping_add(at);
            for step in 0..steps {
                fetch_to_read(from.wrapping_add(step * STEP));
            }
        }
    }
}

/// Asks for the line of an address, to be read. Addresses are not checked, nor need they be.
#[inline(always)]
fn fetch_to_read<T>(address: *const T) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY: a hint, which has no effect on what the program computes and never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_all_rows_with_one_shape_of_tiles() {
        for m in 1..=300 {
            let height = block_height(m);
            assert!(height <= m && (1..=2 * TILE).contains(&height));
            // As few blocks as there can be.
            assert_eq!(m.div_ceil(height), m.div_ceil(2 * TILE));
        }
    }

    #[test]
    fn blocks_of_k_are_whole_steps_that_fit_the_strip() {
        for k in 1..=10_000 {
            let depth = chain_depth(k);
            assert!(
                depth.is_multiple_of(STEP) && depth <= K_BLOCK,
                "{k}: {depth}"
            );
            assert_eq!(k.div_ceil(depth), k.div_ceil(K_BLOCK), "{k}: {depth}");
        }
    }

    #[test]
    fn blocks_of_columns_are_whole_panels() {
        // All of k where C is rounded.
        for depth in (STEP..=20 * K_BLOCK).step_by(STEP) {
            for m in [1, 32, 33, 1000] {
                for keeps_strips in [false, true] {
                    let width = block_width(m, depth, keeps_strips);
                    assert!(width.is_multiple_of(PANEL) && (PANEL..=MOST_COLUMNS).contains(&width));
                }
            }
        }
    }
}
