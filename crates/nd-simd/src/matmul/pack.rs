//! Packing: a panel of B, `k_block` rows of one block's width, copied to consecutive memory; and blocks of a column-major A, which
//! are the same with rows and columns exchanged.
//!
//! The micro-kernel reads B row by row, so a row-major B usually needs no packing at all: measured on Zen 5, reading
//! 128 x 512 x 512 in place reaches 96-98 % of the FMA peak and packing first 90 %. Packing B pays in two cases: when the
//! rows of B lie a page or more apart and many blocks of rows read them (each row then costs a TLB entry), and when B
//! is column-major, so that a row is not a vector.
//!
//! A panel has a fixed greatest size, so it needs no heap. Panels that come again for other rows, and blocks of a column-major A, are packed to a buffer
//! from a pool.

use std::mem::MaybeUninit;

use nd_core::{Buffer, Element, MemoryPool};

use crate::dispatch::Isa;
use crate::lanes::{Lanes, SimdReal};
use crate::permute::transpose_strided;

/// Rows of B (the k direction) in a panel. 512 rows of 256 bytes are 128 KiB: in the L2 cache of every machine with
/// AVX-512, beside the strip of A that passes by.
pub(super) const K_BLOCK: usize = 512;

/// The widest block of any instruction set, in bytes: four vectors of 512 bits.
const BLOCK_BYTES: usize = 256;

/// A buffer for an operand that is packed or widened; given back when it is dropped, so that the next product finds it.
pub(super) fn take<T: Element>(len: usize) -> Buffer<T> {
    static POOL: std::sync::LazyLock<MemoryPool> = std::sync::LazyLock::new(MemoryPool::new);
    POOL.take(len)
}

/// Room for [`K_BLOCK`] rows of the widest block, 128 KiB.
///
/// It lives on the stack of the product that packs: no allocation, and no question whose it is.
#[repr(C, align(64))]
pub(super) struct Panel(MaybeUninit<[u8; K_BLOCK * BLOCK_BYTES]>);

impl Panel {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    #[inline(always)]
    pub(super) fn as_mut_ptr<R>(&mut self) -> *mut R {
        self.0.as_mut_ptr().cast()
    }
}

/// Copies `rows x cols` of B to a panel whose rows are `width` apart.
///
/// # Safety
/// B may be read at those rows and columns; the panel has room for `rows * width` elements.
#[inline(always)]
pub(super) unsafe fn pack_panel<S: Isa, R: SimdReal>(
    simd: S,
    b: *const R,
    (row_stride, col_stride): (usize, usize),
    (rows, cols): (usize, usize),
    panel: *mut R,
    width: usize,
) {
    if col_stride == 1 {
        let lanes = Lanes::<S, R>::LEN;
        let mask = R::first_lanes(simd, cols % lanes);
        for p in 0..rows {
            let (source, target) = (
                b.wrapping_add(p * row_stride),
                panel.wrapping_add(p * width),
            );
            // SAFETY: whole vectors up to `cols`, then only the lanes that are left.
            unsafe {
                for j in 0..cols / lanes {
                    Lanes::<S, R>::load_ptr(simd, source.add(j * lanes))
                        .store_ptr(target.add(j * lanes));
                }
                if !cols.is_multiple_of(lanes) {
                    let at = cols - cols % lanes;
                    let tail = R::load_masked(simd, mask, source.add(at));
                    R::store_masked(simd, mask, target.add(at), tail);
                }
            }
        }
    } else if row_stride == 1 {
        // SAFETY: the rows of the transposed source are the columns of B.
        unsafe { transpose_strided(simd, b, col_stride, (cols, rows), panel, width) };
    } else {
        for p in 0..rows {
            for j in 0..cols {
                // SAFETY: inside B and inside the panel.
                unsafe { *panel.add(p * width + j) = *b.add(p * row_stride + j * col_stride) };
            }
        }
    }
}
