//! Room for the blocks that a product packs on the way.

use std::mem::MaybeUninit;

use super::pack::PANEL;

/// Rows of A that are packed together.
pub(super) const ROW_BLOCK: usize = 96;

/// Four-byte words of the block of A: [`ROW_BLOCK`] rows of 256 words.
const LEFT_WORDS: usize = ROW_BLOCK * 256;

/// Four-byte words of a panel of B: 256 rows (or pairs) of 64 columns.
const RIGHT_WORDS: usize = 256 * PANEL;

/// Room for a block of A and a panel of B, on the stack of the product: 160 KiB, no allocation.
#[repr(C, align(64))]
pub(super) struct Scratch {
    left: MaybeUninit<[u32; LEFT_WORDS]>,
    right: MaybeUninit<[u32; RIGHT_WORDS]>,
}

impl Scratch {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self {
            left: MaybeUninit::uninit(),
            right: MaybeUninit::uninit(),
        }
    }

    pub(super) fn left(&mut self) -> *mut u32 {
        self.left.as_mut_ptr().cast()
    }

    pub(super) fn right(&mut self) -> *mut u32 {
        self.right.as_mut_ptr().cast()
    }
}
