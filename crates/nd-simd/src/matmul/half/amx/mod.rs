//! Products of tiles, AMX (`tdpbf16ps`): 16 x 32 by 32 x 16 numbers in one instruction, sixteen times the rate of f32.
//!
//! ```text
//! for each 32 columns of a panel of B
//!     for each 32 rows of A:  2 x 2 tiles of sums, all of k         (`kernel`)
//! ```
//!
//! Operands are packed as for the dot product of pairs; a tile of B is sixteen pairs of a panel, a tile of A sixteen rows as they are.
//!
//! * `detect`: the processor, the system and the permission;
//! * `config`: the shapes of the tiles and how long they hold;
//! * `kernel`: the sums, in assembly, because rustc has no stable intrinsics for tiles.
//!
//! Blocks of rows all have one height, so that the tiles' shapes are loaded once: the last block begins early where rows are left
//! over, and stores only those that are its own. Rows never meet in a tile, so that changes no bit.
//!
//! Sums go straight to C where nothing else happens to them; else through a buffer in the first cache level and the stores of the
//! vector kernels.
//!
//! Numbers: a tile product adds 16 even and 16 odd products in two chains, and their sum to the tile of sums; each in f32, rounded to
//! nearest. Denormal operands count as zero, denormal sums are flushed.

mod config;
mod detect;
mod kernel;

use std::mem::MaybeUninit;

use pulp::x86::V4;

use self::config::{TILE, TileGuard};
use self::kernel::{STEP, Strips};
use super::Operand;
use super::dot::PairDot;
use super::engine::{Engine, Tile};
use crate::lanes::Lanes;
use crate::matmul::kernel::{Output, Store, Sums};
use nd_core::DType;

/// Columns of C that are computed together.
const WIDE: usize = 2 * TILE;

/// Proof that tile products of bf16 may be used, and the packing that they share with the dot product.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    packing: PairDot,
    simd: V4,
}

impl Tiles {
    /// The engine, where the machine has it.
    pub(super) fn new() -> Option<Self> {
        let packing = PairDot::new()?;
        let simd = V4::try_new()?;
        detect::is_available().then_some(Self { packing, simd })
    }
}

/// How many rows one block has, when there are `m`: at most two tiles, and all blocks alike.
fn block_height(m: usize) -> usize {
    m.div_ceil(m.div_ceil(2 * TILE).max(1))
}

/// Rows of the upper and the lower tile of a block.
fn tile_rows(height: usize) -> (usize, usize) {
    (height.min(TILE), height.saturating_sub(TILE))
}

/// Sums on their way to C.
#[repr(C, align(64))]
struct Block(MaybeUninit<[f32; 2 * TILE * WIDE]>);

impl Tiles {
    /// Sums of one block, to `strips.c`.
    ///
    /// # Safety
    /// As [`kernel::two_by_two`], for as many tiles as `rows` and `cols` need.
    #[inline(always)]
    unsafe fn sums(self, rows: usize, cols: usize, strips: &Strips) {
        // SAFETY: the caller's.
        unsafe {
            match (rows > TILE, cols > TILE) {
                (true, true) => kernel::two_by_two(strips),
                (true, false) => kernel::two_by_one(strips),
                (false, true) => kernel::one_by_two(strips),
                (false, false) => kernel::one_by_one(strips),
            }
        }
    }
}

impl Engine for Tiles {
    const K_BLOCK: usize = PairDot::K_BLOCK;
    const LANES: usize = TILE;
    type Guard = TileGuard;

    fn in_place<A: Operand>(
        self,
        a: *const A,
        (row_stride, col_stride): (usize, usize),
        depth: usize,
        padded: bool,
    ) -> Option<(*const u8, usize)> {
        (A::DTYPE == DType::Bf16 && col_stride == 1 && (padded || depth.is_multiple_of(STEP)))
            .then(|| (a.cast(), row_stride * 2))
    }

    unsafe fn pack_left<A: Operand>(
        self,
        a: *const A,
        strides: (usize, usize),
        rows: usize,
        depth: usize,
        target: *mut u32,
    ) -> usize {
        // SAFETY: the caller's.
        unsafe { self.packing.pack_left(a, strides, rows, depth, target) }
    }

    unsafe fn pack_right<B: Operand>(
        self,
        b: *const B,
        strides: (usize, usize),
        depth: usize,
        width: usize,
        target: *mut u32,
        stored: usize,
    ) {
        // SAFETY: the caller's.
        unsafe {
            self.packing
                .pack_right(b, strides, depth, width, target, stored);
        }
    }

    unsafe fn unpack_right(self, panel: *const u16, _: usize, _: usize, _: *mut u32) -> *const u32 {
        panel.cast()
    }

    unsafe fn enter(self, rows: usize) -> TileGuard {
        let (top, bottom) = tile_rows(block_height(rows));
        // SAFETY: `self` proves that there are tiles; `top` is from 1 to 16, an unused lower tile has 16 rows.
        unsafe { TileGuard::new(top, if bottom == 0 { TILE } else { bottom }) }
    }

    unsafe fn panel(self, rows: usize, width: usize, tile: &Tile) {
        let height = block_height(rows);
        let mut row = 0;
        while row < rows {
            // Rows that the block before has stored.
            let start = row.min(rows - height);
            for column in (0..width).step_by(WIDE) {
                // SAFETY: the caller's: packed operands are whole tiles.
                unsafe { self.block(start, row - start, height, column, width, tile) };
            }
            row = start + height;
        }
    }
}

impl Tiles {
    /// The block of C at `(row, column)`, without its first `stored` rows.
    ///
    /// # Safety
    /// As [`Engine::panel`].
    #[inline(always)]
    unsafe fn block(
        self,
        row: usize,
        stored: usize,
        height: usize,
        column: usize,
        width: usize,
        tile: &Tile,
    ) {
        let cols = (width - column).min(WIDE);
        let output = tile.output;
        let c = output.c.wrapping_add(row * output.c_row_stride + column);
        let mut strips = Strips {
            a: tile.a.wrapping_add(row * tile.a_row_bytes),
            a_row_bytes: tile.a_row_bytes,
            top: height.min(TILE),
            b: tile.b.wrapping_add(column).cast(),
            b_pair_bytes: tile.b_stride * size_of::<u32>(),
            steps: tile.depth.div_ceil(STEP),
            c,
            c_row_bytes: output.c_row_stride * size_of::<f32>(),
        };
        let plain = matches!(output.store, Store::Write) && output.bias.is_null() && !output.relu;
        if plain && stored == 0 && cols.is_multiple_of(TILE) {
            // SAFETY: the caller's; these rows of C are ours, whole tiles wide.
            return unsafe { self.sums(height, cols, &strips) };
        }
        let mut block = Block(MaybeUninit::uninit());
        let sums: *mut f32 = block.0.as_mut_ptr().cast();
        strips.c = sums;
        strips.c_row_bytes = WIDE * size_of::<f32>();
        let output = Output {
            c: c.wrapping_add(stored * output.c_row_stride),
            bias: if output.bias.is_null() {
                output.bias
            } else {
                output.bias.wrapping_add(column)
            },
            ..output
        };
        // SAFETY: the caller's; the kernel wrote `height` rows of as many tiles as `cols` needs.
        unsafe {
            self.sums(height, cols, &strips);
            let sums = sums.wrapping_add(stored * WIDE);
            finish(self.simd, sums, height - stored, cols, output);
        }
    }
}

/// Brings `rows` rows of sums to C.
///
/// # Safety
/// The sums may be read in whole vectors; the output is valid for `rows` rows and `cols` columns.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
unsafe fn finish(simd: V4, sums: *const f32, rows: usize, cols: usize, output: Output<f32>) {
    let mut row = 0;
    // SAFETY: the caller's.
    unsafe {
        while row + 4 <= rows {
            finish_rows::<4>(simd, sums, row, cols, output);
            row += 4;
        }
        while row < rows {
            finish_rows::<1>(simd, sums, row, cols, output);
            row += 1;
        }
    }
}

/// [`finish`] for some rows.
///
/// # Safety
/// As [`finish`].
#[inline(always)]
unsafe fn finish_rows<const ROWS: usize>(
    simd: V4,
    sums: *const f32,
    row: usize,
    cols: usize,
    mut output: Output<f32>,
) {
    output.c = output.c.wrapping_add(row * output.c_row_stride);
    let sums = sums.wrapping_add(row * WIDE);
    let last = cols - (cols - 1) / TILE * TILE;
    // SAFETY: the caller's.
    unsafe {
        if cols > TILE {
            let acc = load::<ROWS, 2>(simd, sums);
            if last == TILE {
                output.finish::<V4, ROWS, 2, false>(simd, last, acc);
            } else {
                output.finish::<V4, ROWS, 2, true>(simd, last, acc);
            }
        } else {
            let acc = load::<ROWS, 1>(simd, sums);
            if last == TILE {
                output.finish::<V4, ROWS, 1, false>(simd, last, acc);
            } else {
                output.finish::<V4, ROWS, 1, true>(simd, last, acc);
            }
        }
    }
}

/// Sums in registers.
///
/// # Safety
/// They may be read.
#[inline(always)]
unsafe fn load<const ROWS: usize, const VECS: usize>(
    simd: V4,
    sums: *const f32,
) -> Sums<V4, f32, ROWS, VECS> {
    let mut acc = [[Lanes::zero(simd); VECS]; ROWS];
    for i in 0..ROWS {
        for j in 0..VECS {
            // SAFETY: the caller's.
            acc[i][j] = unsafe { Lanes::load_ptr(simd, sums.wrapping_add(i * WIDE + j * TILE)) };
        }
    }
    acc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_all_rows_with_one_shape_of_tiles() {
        for m in 1..=300 {
            let height = block_height(m);
            let (top, bottom) = tile_rows(height);
            assert!(height <= m && (1..=TILE).contains(&top) && bottom <= TILE);
            assert_eq!(top + bottom, height);
            // As few blocks as there can be.
            assert_eq!(m.div_ceil(height), m.div_ceil(2 * TILE));
        }
    }
}
