//! How a product is cut up for the caches: what is packed, and which rows and columns pass together.
//!
//! Sums end where they would anyway, whatever the cut: no bit depends on it.

use std::ops::Range;

use super::blocking::Problem;
use super::kernel::{LINE, WHOLE_ROWS};
use super::pack::K_BLOCK;
use crate::lanes::SimdReal;

/// Rows of A from which on packing a panel costs little: 1/256 of the multiplications.
const PACK_ROWS: usize = 256;

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

/// Bytes of A that stay in a core's second cache level while all of B passes. Twice as many, or half, were as fast; on a processor with
/// 1 MiB there are also two panels of B, 256 KiB, and what C takes.
const LEFT_STAYS: usize = 1 << 18;

/// Bytes of A, for one block of k, from which on its rows are taken in parts that stay.
const LEFT_PASSES: usize = 1 << 20;

/// Rows of A from which on they are: 512 x 512 x 512 lost two percent where the second level holds 2 MiB.
const MANY_ROWS: usize = 2 * PACK_ROWS + 1;

/// Panels of B that pay for taking rows in parts: as often would A come from further away.
const PANELS: usize = 4;

/// Bytes of packed panels that wait for the next part of the rows, in the third cache level.
const RIGHT_WAITS: usize = 4 << 20;

/// Rows of a block of the kernel, where a panel is as wide as panels are.
const BLOCK_ROWS: usize = 6;

/// Pairs of steps for each line of the next panel, at most.
const SLOWEST: usize = 8;

/// Rows and columns that pass together.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    /// Terms of the sums.
    pub(super) depth: usize,
    /// Rows of A that meet all panels of [`Cut::width`] columns before others do.
    pub(super) height: usize,
    /// Columns of B whose packed panels wait for the next part of the rows.
    pub(super) width: usize,
}

/// Rows of A and columns of B that pass together.
pub(super) struct Part {
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

impl Cut {
    /// Pairs of steps of a kernel for each line of the next panel, whose rows have so many bytes: asked for faster, lines from the third level
    /// hold up those from the second.
    pub(super) fn pace(self, panel_bytes: usize) -> usize {
        let lines = panel_bytes.div_ceil(LINE).max(1);
        // A step is a row of the panel.
        let pairs = self.height / BLOCK_ROWS / 2;
        1 << (pairs / lines).clamp(1, SLOWEST).ilog2()
    }

    /// The parts of a product: of each part of the columns, all parts of the rows, the first one first.
    #[inline(always)]
    pub(super) fn parts(self, m: usize, n: usize) -> impl Iterator<Item = Part> {
        let Self { height, width, .. } = self;
        let ranges = |end: usize, step: usize| {
            (0..end)
                .step_by(step.max(1))
                .map(move |start| start..end.min(start + step))
        };
        ranges(n, width).flat_map(move |columns| {
            ranges(m, height).map(move |rows| Part {
                rows,
                columns: columns.clone(),
            })
        })
    }
}

impl<R: SimdReal> Problem<R> {
    /// How a single product is cut, with panels of B so many columns wide.
    pub(super) fn cut(&self, panel: usize) -> Cut {
        let &Self { m, n, k, .. } = self;
        let depth = self.k_block();
        let term = depth.min(k).max(1) * size_of::<R>();
        // Without columns there are no panels.
        let by_rows = panel > 0
            && self.packs()
            && m >= MANY_ROWS
            && m.saturating_mul(term) >= LEFT_PASSES
            && n >= PANELS * panel;
        if !by_rows {
            return self.uncut();
        }
        let most = (LEFT_STAYS / term / WHOLE_ROWS).max(1) * WHOLE_ROWS;
        Cut {
            depth,
            height: m.div_ceil(m.div_ceil(most)).next_multiple_of(WHOLE_ROWS),
            width: (RIGHT_WAITS / term / panel).max(PANELS) * panel,
        }
    }

    /// All rows and columns together.
    pub(super) fn uncut(&self) -> Cut {
        Cut {
            depth: self.k_block(),
            height: self.m,
            width: self.n,
        }
    }

    /// How much of k is taken together.
    pub(super) fn k_block(&self) -> usize {
        if self.a_strides.1 == 1 {
            K_BLOCK
        } else {
            COLUMN_MAJOR_K_BLOCK
        }
    }

    /// Whether blocks of A are packed, if so many rows pass together.
    pub(super) fn packs_left(&self, height: usize) -> bool {
        let bytes = height.saturating_mul(self.k_block().min(self.k)) * size_of::<R>();
        self.k >= PACK_LEFT_TERMS
            && self.a_strides.1 >= PACK_LEFT_STRIDE / size_of::<R>()
            && self.n * size_of::<R>() >= PACK_LEFT_ROW
            && bytes <= PACK_LEFT_MOST
    }

    /// Whether panels of B are packed.
    pub(super) fn packs(&self) -> bool {
        // A single column of B, as any column, may be read with any row stride.
        let vector_rows = self.b_strides.1 == 1 || self.n == 1;
        !vector_rows
            || (self.m >= PACK_ROWS && self.b_strides.0 * size_of::<R>() > PACK_STRIDE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matmul::{Epilogue, MatMut, MatRef, plan};

    /// How a product is cut whose A is stored by columns or not.
    fn cut([m, k, n]: [usize; 3], by_columns: bool, panel: usize) -> Cut {
        let (a, b, mut c) = (vec![0.0_f32; m * k], vec![0.0; k * n], vec![0.0; m * n]);
        let a = match by_columns {
            true => MatRef::row_major(&a, k, m).t(),
            false => MatRef::row_major(&a, m, k),
        };
        let b = MatRef::row_major(&b, k, n);
        let c = MatMut::row_major(&mut c, m, n);
        plan(1.0, a, b, 0.0, c, Epilogue::default())
            .problem
            .cut(panel)
    }

    #[test]
    fn parts_cover_a_large_product_once() {
        for (sizes @ [m, _, n], by_columns) in [
            ([523, 513, 258], false),
            ([1100, 530, 300], true),
            ([1050, 400, 270], true),
            ([516, 512, 2310], false),
            ([1030, 258, 259], false),
            ([1030, 258, 259], true),
        ] {
            for panel in [16, 64] {
                let cut = cut(sizes, by_columns, panel);
                assert!(cut.height < m && cut.height.is_multiple_of(WHOLE_ROWS));
                assert!(cut.width.is_multiple_of(panel) && cut.width > 0);
                assert!((1..=SLOWEST).contains(&cut.pace(4 * panel)));
                let mut met = vec![0_u8; m * n];
                for part in cut.parts(m, n) {
                    for row in part.rows {
                        met[row * n..][part.columns.clone()]
                            .iter_mut()
                            .for_each(|met| *met += 1);
                    }
                }
                assert!(met.iter().all(|&met| met == 1), "{sizes:?}");
            }
        }
    }

    #[test]
    fn what_is_small_or_empty_is_not_cut() {
        for sizes @ [m, _, n] in [
            [512, 512, 512],
            [600, 512, 0],
            [0, 512, 600],
            [5000, 0, 300],
        ] {
            let cut = cut(sizes, false, if n == 0 { 0 } else { 64 });
            assert_eq!((cut.height, cut.width), (m, n), "{sizes:?}");
        }
    }
}
