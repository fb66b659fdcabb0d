//! The shapes of the tiles, for as long as a thread needs them.
//!
//! ```text
//! tmm0 tmm1    sums, 2 x 2 tiles       rows x 16 f32
//! tmm2 tmm3
//! tmm4 tmm5    two tiles of A          rows x 16 pairs
//! tmm6 tmm7    two tiles of B          16 pairs x 16 columns
//! ```

use std::cell::Cell;
use std::marker::PhantomData;

/// Rows of a tile, and of A's numbers in pairs that a row holds.
pub(super) const TILE: usize = 16;

/// The operand of `ldtilecfg`, and what `sttilecfg` writes.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    const NONE: Self = Self {
        palette: 0,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [0; 16],
        rows: [0; 16],
    };

    /// Those of this thread; all zero where none are configured.
    ///
    /// # Safety
    /// The processor has tiles and this process may use them.
    unsafe fn current() -> Self {
        let mut shapes = Self::NONE;
        // SAFETY: the caller's; the operand has the 64 bytes.
        unsafe {
            std::arch::asm!("sttilecfg [{0}]", in(reg) &raw mut shapes, options(nostack, preserves_flags));
        }
        shapes
    }
}

thread_local! {
    /// How many [`KeepTiles`] of this thread are alive.
    static KEEPERS: Cell<usize> = const { Cell::new(0) };
    /// Whether a guard has left its shapes to them.
    static LEFT: Cell<bool> = const { Cell::new(false) };
}

/// While it is alive, what a [`TileGuard`] of this thread configures stays for the next one that wants the same shapes: loading and
/// releasing a configuration takes 100 ns, as long as a small product.
///
/// Any code may run between two guards, that of other libraries too, and no function has to leave the tiles as it found them. So
/// the next guard does not remember the shapes: it asks the processor for them.
pub(in crate::matmul::half) struct KeepTiles {
    /// A configuration belongs to its thread.
    not_send: PhantomData<*const ()>,
}

impl KeepTiles {
    pub(in crate::matmul::half) fn new() -> Self {
        KEEPERS.set(KEEPERS.get() + 1);
        Self {
            not_send: PhantomData,
        }
    }
}

impl Drop for KeepTiles {
    fn drop(&mut self) {
        KEEPERS.set(KEEPERS.get() - 1);
        if KEEPERS.get() == 0 && LEFT.take() {
            // SAFETY: something was configured, so the instruction exists; no guard is alive, for those end before this.
            unsafe { release() };
        }
    }
}

/// Gives the tiles back: those that are released need not be saved when the system switches threads.
///
/// # Safety
/// The processor has tiles, and no guard of this thread is alive.
unsafe fn release() {
    // SAFETY: the caller's.
    unsafe {
        std::arch::asm!(
            "tilerelease",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem, preserves_flags),
        );
    }
}

/// Tiles of this thread, until it is dropped, or until the last [`KeepTiles`] is.
///
/// Nothing that rustc makes of Rust code touches a tile, and when the system switches threads or runs a signal's handler, it saves them
/// (that is the permission). So from here to the drop the configuration holds, unless code in between configures again: guards do
/// not nest.
pub(in crate::matmul::half) struct TileGuard {
    /// Whether the tiles are released with it.
    releases: bool,
    /// A configuration belongs to its thread.
    not_send: PhantomData<*const ()>,
}

impl TileGuard {
    /// Tiles of A (and of the sums) with `top` and `bottom` rows; tiles of B are whole.
    ///
    /// # Safety
    /// The processor has tiles and this process may use them; both numbers of rows are from 1 to 16; no other guard of this thread
    /// is alive.
    pub(super) unsafe fn new(top: usize, bottom: usize) -> Self {
        let mut shapes = Shapes {
            palette: 1,
            ..Shapes::NONE
        };
        let rows = [top, top, bottom, bottom, top, bottom, TILE, TILE];
        for (tile, rows) in rows.into_iter().enumerate() {
            shapes.row_bytes[tile] = 64;
            shapes.rows[tile] = rows as u8;
        }
        let keeps = KEEPERS.get() > 0;
        let guard = Self {
            releases: !keeps,
            not_send: PhantomData,
        };
        // SAFETY: the caller's.
        if keeps && LEFT.replace(true) && unsafe { Shapes::current() } == shapes {
            return guard;
        }
        // SAFETY: the caller's; the operand has the 64 bytes and the values of palette 1.
        unsafe {
            std::arch::asm!(
                "ldtilecfg [{0}]", in(reg) &raw const shapes,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly, preserves_flags),
            );
        }
        guard
    }
}

impl Drop for TileGuard {
    fn drop(&mut self) {
        if self.releases {
            // SAFETY: the guard proves that the instruction exists, and there is no other.
            unsafe { release() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tiles;
    use super::*;

    #[test]
    fn shapes_are_kept_while_somebody_keeps_them() {
        if Tiles::new().is_none() {
            return;
        }
        // SAFETY: there are tiles, and guards end before the next.
        let guard = |top, bottom| unsafe { TileGuard::new(top, bottom) };
        // SAFETY: there are tiles.
        let rows = || unsafe { Shapes::current() }.rows[..3].to_vec();
        drop(guard(16, 16));
        assert_eq!(rows(), [0, 0, 0]);
        let outer = KeepTiles::new();
        {
            let _inner = KeepTiles::new();
            drop(guard(16, 16));
            assert_eq!(rows(), [16, 16, 16]);
        }
        assert_eq!(rows(), [16, 16, 16]);
        drop(guard(3, 16));
        assert_eq!(rows(), [3, 3, 16]);
        // Another library's code.
        // SAFETY: there are tiles, and no guard.
        unsafe { release() };
        drop(guard(3, 16));
        assert_eq!(rows(), [3, 3, 16]);
        drop(outer);
        assert_eq!(rows(), [0, 0, 0]);
    }
}
