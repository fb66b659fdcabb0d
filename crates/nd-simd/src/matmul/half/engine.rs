//! What the loops ask of a way to compute: an [`Engine`] packs blocks of the operands and multiplies them in vectors.

use super::Operand;
use crate::matmul::kernel::{Output, block_rows_of, block_vecs_of};

/// Packing and micro-kernel of one way to compute.
pub(super) trait Engine: Copy {
    /// Rows of B at a time.
    const K_BLOCK: usize;
    /// f32 sums in one vector.
    const LANES: usize;

    /// The address and row stride (in bytes) of a block of A that can be read as it is; `padded` when zeros follow each
    /// row up to [`super::pack::padded_rows`].
    fn in_place<A: Operand>(
        self,
        a: *const A,
        strides: (usize, usize),
        depth: usize,
        padded: bool,
    ) -> Option<(*const u8, usize)>;

    /// Packs a block of A; the distance between its rows, in bytes.
    ///
    /// # Safety
    /// The block may be read; the target has room for `rows` rows of `depth` elements, rounded up to
    /// [`super::pack::padded_rows`].
    unsafe fn pack_left<A: Operand>(
        self,
        a: *const A,
        strides: (usize, usize),
        rows: usize,
        depth: usize,
        target: *mut u32,
    ) -> usize;

    /// Packs a panel of B, `stored` columns wide.
    ///
    /// # Safety
    /// `depth x width` elements may be read; the target has room for `stored` words per row (or pair), as many as
    /// [`super::pack::padded_rows`] says.
    unsafe fn pack_right<B: Operand>(
        self,
        b: *const B,
        strides: (usize, usize),
        depth: usize,
        width: usize,
        target: *mut u32,
        stored: usize,
    );

    /// Vector registers.
    const REGISTERS: usize;

    /// One block of C.
    ///
    /// # Safety
    /// All that the tile points to is valid for `rows` rows and `vecs` vectors, the last one `last` lanes wide in C.
    unsafe fn run(self, rows: usize, vecs: usize, last: usize, tile: &Tile);
}

/// A block of C with packed operands.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) depth: usize,
    pub(super) a: *const u8,
    /// Bytes from row to row of A.
    pub(super) a_row_bytes: usize,
    pub(super) b: *const u32,
    /// Words from row to row (or pair to pair) of B.
    pub(super) b_stride: usize,
    pub(super) output: Output<f32>,
}

/// All rows of one panel.
///
/// # Safety
/// The tile is valid for `m` rows and `width` columns.
pub(super) unsafe fn panel_rows<E: Engine>(engine: E, m: usize, width: usize, mut tile: Tile) {
    let tile = &mut tile;
    let (b, c, bias) = (tile.b, tile.output.c, tile.output.bias);
    let a = tile.a;
    let mut column = 0;
    while column < width {
        let vecs = block_vecs_of(E::REGISTERS, m, (width - column).div_ceil(E::LANES));
        let covered = (vecs * E::LANES).min(width - column);
        tile.b = b.wrapping_add(column);
        tile.output.bias = if bias.is_null() {
            bias
        } else {
            bias.wrapping_add(column)
        };
        tile.output.c = c.wrapping_add(column);
        tile.a = a;
        let mut row = 0;
        while row < m {
            let rows = block_rows_of(E::REGISTERS, vecs, m - row);
            // SAFETY: the caller's.
            unsafe { engine.run(rows, vecs, covered - (vecs - 1) * E::LANES, tile) };
            tile.a = tile.a.wrapping_add(rows * tile.a_row_bytes);
            tile.output.c = tile.output.c.wrapping_add(rows * tile.output.c_row_stride);
            row += rows;
        }
        column += covered;
    }
}
