//! A packed right operand, and memory for operands that are packed on the way.
//!
//! ```text
//! panel of 64 columns:   [pair of rows][column][row of the pair]       (bf16)
//! ```
//!
//! The last panel is as wide as its columns, rounded up to 16; rows of zeros follow up to a multiple of 32. So a panel is read
//! from its first to its last byte while the product runs down its rows, a pair is what one lane of the dot product takes, and sixteen
//! pairs of sixteen columns are a tile.

use nd_core::{bf16, threads};

use super::Operand;
use super::widen::narrow_pair;
use crate::dispatch::SimdLevel;
use crate::matmul::view::MatRef;

/// Columns of a panel: four vectors of 512 bits of f32 sums.
pub(super) const PANEL: usize = 64;

/// Columns of the last panel are rounded up to this.
pub(super) const GRAIN: usize = 16;

/// Pairs of rows of a matrix.
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "for products that only x86-64 has")
)]
pub(super) const fn pairs(rows: usize) -> usize {
    rows.div_ceil(2)
}

/// Rows of a packed matrix, with the zeros that follow: as many as whole tiles have.
pub(super) const fn padded_rows(rows: usize) -> usize {
    rows.next_multiple_of(32)
}

/// How wide the panel that starts at `column` is stored.
pub(super) const fn stored_width(cols: usize, column: usize) -> usize {
    let left = cols - column;
    if left >= PANEL {
        PANEL
    } else {
        left.next_multiple_of(GRAIN)
    }
}

/// Elements of a packed `[rows, cols]` matrix.
#[must_use]
pub fn packed_bf16_len(rows: usize, cols: usize) -> usize {
    padded_rows(rows) * cols.next_multiple_of(GRAIN)
}

/// A right operand, rounded to bf16 and laid out for the product: made by [`pack_bf16`], for weights that many products
/// share.
#[derive(Clone, Copy, Debug)]
pub struct PackedBf16<'a> {
    data: &'a [bf16],
    rows: usize,
    cols: usize,
}

impl<'a> PackedBf16<'a> {
    /// What [`pack_bf16`] wrote for a `[rows, cols]` matrix.
    ///
    /// # Panics
    /// The slice does not have [`packed_bf16_len`] elements.
    #[must_use]
    #[track_caller]
    pub fn new(data: &'a [bf16], rows: usize, cols: usize) -> Self {
        let needed = packed_bf16_len(rows, cols);
        assert_eq!(
            data.len(),
            needed,
            "the slice of a packed {rows} x {cols} matrix"
        );
        Self { data, rows, cols }
    }

    /// The number of rows of the matrix (the k of the product).
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns of the matrix.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// One element.
    pub(super) fn at(&self, i: usize, j: usize) -> bf16 {
        let column = j - j % PANEL;
        let stored = stored_width(self.cols, column);
        let start = column * padded_rows(self.rows) + 2 * (i / 2 * stored + (j - column));
        self.data[start + i % 2]
    }

    /// Each panel: its first column, its columns, how wide it is stored, and its pairs.
    pub(super) fn panels(&self) -> impl Iterator<Item = (usize, usize, usize, &'a [[bf16; 2]])> {
        let Self { data, rows, cols } = *self;
        (0..cols).step_by(PANEL).map(move |column| {
            let stored = stored_width(cols, column);
            let start = column * padded_rows(rows);
            let (pairs, _) = data[start..start + padded_rows(rows) * stored].as_chunks();
            (column, PANEL.min(cols - column), stored, pairs)
        })
    }

    /// How wide the panel that starts at `column` is stored.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn stored(&self, column: usize) -> usize {
        stored_width(self.cols, column)
    }

    /// The panel that starts at `column`, a multiple of [`PANEL`], from the pair `pair` on.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn panel(&self, column: usize, pair: usize) -> *const u16 {
        debug_assert!(column.is_multiple_of(PANEL) && column < self.cols);
        let start = column * padded_rows(self.rows) + 2 * pair * self.stored(column);
        self.data.as_ptr().wrapping_add(start).cast()
    }
}

/// Packs a right operand, rounding it to bf16.
///
/// # Panics
/// `target` does not have [`packed_bf16_len`] elements, or the machine lacks the level.
#[track_caller]
pub fn pack_bf16<B: Operand>(level: SimdLevel, b: MatRef<'_, B>, target: &mut [bf16]) {
    let (rows, cols) = (b.rows(), b.cols());
    assert_eq!(
        target.len(),
        packed_bf16_len(rows, cols),
        "the target of a packed {rows} x {cols} matrix"
    );
    pack_panels(level, b, 0, target);
}

/// Panels that one thread packs together, row by row.
const PANELS_AT_ONCE: usize = 4;

/// [`pack_bf16`], on all threads of the current pool when `parallel`.
///
/// # Panics
/// As [`pack_bf16`].
#[track_caller]
pub(crate) fn pack_bf16_on<B: Operand>(
    level: SimdLevel,
    parallel: bool,
    b: MatRef<'_, B>,
    target: &mut [bf16],
) {
    let (rows, cols) = (b.rows(), b.cols());
    assert_eq!(
        target.len(),
        packed_bf16_len(rows, cols),
        "the target of a packed {rows} x {cols} matrix"
    );
    let group = PANELS_AT_ONCE * padded_rows(rows) * PANEL;
    threads::for_each_chunk(parallel, target, group.max(1), |i, target| {
        pack_panels(level, b, i * PANELS_AT_ONCE * PANEL, target);
    });
}

/// Rows of a row-major B that all panels take before the next ones: they lie in as many pages. A multiple of 32, because zeros
/// follow the last ones only.
const PACK_ROWS: usize = 64;

/// Packs as many panels as `target` has room for, from `column` on.
///
/// # Panics
/// The machine lacks the level.
pub(super) fn pack_panels<B: Operand>(
    level: SimdLevel,
    b: MatRef<'_, B>,
    column: usize,
    target: &mut [bf16],
) {
    let panel = padded_rows(b.rows()) * PANEL;
    if panel == 0 {
        return;
    }
    let at_once = if b.col_stride() == 1 {
        PACK_ROWS
    } else {
        b.rows()
    };
    for row in (0..b.rows()).step_by(at_once) {
        let part = b.row_block(row, at_once.min(b.rows() - row));
        for (index, target) in target.chunks_mut(panel).enumerate() {
            let column = column + index * PANEL;
            let start = row * stored_width(b.cols(), column);
            pack_panel(level, part, column, &mut target[start..]);
        }
    }
}

/// Packs the panel that starts at `column` to the beginning of `target`.
fn pack_panel<B: Operand>(level: SimdLevel, b: MatRef<'_, B>, column: usize, target: &mut [bf16]) {
    let (rows, cols) = (b.rows(), b.cols());
    let (width, stored) = (PANEL.min(cols - column), stored_width(cols, column));
    let target = &mut target[..padded_rows(rows) * stored];
    #[cfg(target_arch = "x86_64")]
    if level == SimdLevel::Avx512
        && let Some(engine) = super::dot::PairDot::new()
    {
        use super::engine::Engine;
        let source = b.data().as_ptr().wrapping_add(column * b.col_stride());
        let strides = (b.row_stride(), b.col_stride());
        // SAFETY: the columns are inside B; the target has room for all pairs of the stored width.
        unsafe {
            engine.pack_right(
                source,
                strides,
                rows,
                width,
                target.as_mut_ptr().cast(),
                stored,
            );
        }
        return;
    }
    crate::dispatch::dispatch(
        level,
        PackPanel {
            b: b.col_block(column, width),
            stored,
            target,
        },
    );
}

struct PackPanel<'a, 'b, B> {
    b: MatRef<'a, B>,
    stored: usize,
    target: &'b mut [bf16],
}

impl<B: Operand> crate::dispatch::Kernel for PackPanel<'_, '_, B> {
    type Output = ();

    #[inline(always)]
    fn run<S: crate::dispatch::Isa>(self, _: S) {
        let Self { b, stored, target } = self;
        let (row_stride, col_stride) = (b.row_stride(), b.col_stride());
        for (pair, row) in target.chunks_exact_mut(2 * stored).enumerate() {
            if 2 * pair >= b.rows() {
                row.fill(bf16::ZERO);
                continue;
            }
            let (values, padding) = row.split_at_mut(2 * b.cols());
            let low = &b.data()[2 * pair * row_stride..];
            if 2 * pair + 1 < b.rows() {
                let high = &low[row_stride..];
                for (j, slot) in values.chunks_exact_mut(2).enumerate() {
                    let pair = [low[j * col_stride], high[j * col_stride]];
                    slot.copy_from_slice(&narrow_pair(pair));
                }
            } else {
                for (j, slot) in values.chunks_exact_mut(2).enumerate() {
                    let value = low[j * col_stride];
                    slot.copy_from_slice(&[narrow_pair([value, value])[0], bf16::ZERO]);
                }
            }
            padding.fill(bf16::ZERO);
        }
    }
}
