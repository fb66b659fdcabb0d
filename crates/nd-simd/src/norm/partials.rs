//! Sums over fixed blocks of rows, merged in a fixed tree.

use crate::dispatch::{Isa, Kernel};
use crate::lanes::{Lanes, SimdReal};
use crate::map::{Binary, update_unary};
use crate::reduce::CHAIN;

/// Rows of a block: the same for every thread count, about 32 thousand elements, between 32 and 128: a column's sum within a
/// block is one running sum.
pub(super) fn block_rows(cols: usize) -> usize {
    (32 * 1024 / cols.max(1)).clamp(32, CHAIN)
}

/// The number of blocks.
pub(super) fn blocks(rows: usize, cols: usize) -> usize {
    rows.div_ceil(block_rows(cols))
}

/// One merge of the tree: blocks `left..right` take in blocks `right..end`.
pub(super) struct Merge {
    pub(super) left: usize,
    pub(super) right: usize,
    pub(super) end: usize,
}

/// The merges of a binary tree over so many blocks, leaves first.
pub(super) struct Merges {
    blocks: usize,
    stride: usize,
    left: usize,
}

impl Merges {
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            blocks,
            stride: 1,
            left: 0,
        }
    }
}

impl Iterator for Merges {
    type Item = Merge;

    fn next(&mut self) -> Option<Merge> {
        while self.left + self.stride >= self.blocks {
            if self.stride >= self.blocks {
                return None;
            }
            self.left = 0;
            self.stride *= 2;
        }
        let (left, right) = (self.left, self.left + self.stride);
        self.left = right + self.stride;
        Some(Merge {
            left,
            right,
            end: self.left.min(self.blocks),
        })
    }
}

/// The rows of `width` elements of two different blocks.
pub(super) fn two_blocks<R>(
    partials: &mut [R],
    width: usize,
    left: usize,
    right: usize,
) -> (&mut [R], &mut [R]) {
    let (head, tail) = partials.split_at_mut(right * width);
    (&mut head[left * width..][..width], &mut tail[..width])
}

/// Adds the blocks' rows of `width` sums in a binary tree; the total is left in the first row.
pub(super) struct MergeSums<'a, R> {
    pub(super) partials: &'a mut [R],
    pub(super) width: usize,
}

#[derive(Clone, Copy)]
pub(super) struct Sum;

impl Binary for Sum {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, a: Lanes<S, R>, b: Lanes<S, R>) -> Lanes<S, R> {
        a + b
    }
}

impl<R: SimdReal> Kernel for MergeSums<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        if self.width == 0 {
            return;
        }
        for merge in Merges::new(self.partials.len() / self.width) {
            let (left, right) = two_blocks(self.partials, self.width, merge.left, merge.right);
            update_unary(simd, Sum, right, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_reach_every_block_once() {
        for blocks in 0..20 {
            let mut covered: Vec<Option<usize>> = (0..blocks).map(|b| Some(b + 1)).collect();
            for merge in Merges::new(blocks) {
                assert_eq!(covered[merge.left], Some(merge.right));
                assert_eq!(covered[merge.right].take(), Some(merge.end));
                covered[merge.left] = Some(merge.end);
            }
            if blocks > 0 {
                assert_eq!(covered[0], Some(blocks));
            }
        }
    }
}
