//! The dimensions of an attention, and how its scores lie in memory.
//!
//! Scores never leave this crate except to go on to the next layer's attention, so their layout is chosen for speed.
//! [`AttentionShape::score_index`] is the definition of it.

use nd_core::Shape;

/// (row, head) pairs computed side by side in the interleaved layout: the lanes of the widest vector of f32.
///
/// A number of the layout, not of the machine: narrower vectors take parts of a group.
pub const GROUP: usize = 16;

/// Queries that are worked on at once.
pub(crate) const QUERY_BLOCK: usize = 12;

/// The largest number of vectors of scratch that the interleaved kernels may use (256 KiB of the widest vectors).
///
/// Half of a common second-level cache.
pub(crate) const SCRATCH_VECTORS: usize = 4096;

/// Up to so many channels of a head, a matrix product per head is slower than products of tiles, whatever the length.
///
/// Measured on Zen 5 with AVX-512, as [`SHORT`]: with 64 keys the tiles win at 8 channels (10.6 ms against 17.8), lose
/// at 32 (2.0 against 0.7), and lie within a third either way at 16, depending on length and heads.
const FEW_CHANNELS: usize = 16;

/// Below so many keys, tiles win whatever the channels: 64 channels of 7 keys take 1.7 ms against 2.4, of 16 keys 8.8 against 5.9.
const SHORT: usize = 16;

/// The dimensions of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttentionShape {
    /// Rows of the batch, `B`.
    pub batch: usize,
    /// Heads, `H`.
    pub heads: usize,
    /// Queries of a row, `N_q`.
    pub queries: usize,
    /// Keys of a row, `N_k`.
    pub keys: usize,
    /// Channels of q and k in a head, `d`.
    pub head_dim: usize,
    /// Channels of v in a head, `d_v`.
    pub value_dim: usize,
}

/// How scores lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScoreLayout {
    /// `[ceil(B H / 16), N_q, N_k, 16]`: pair `p = b H + h` is lane `p % 16` of group `p / 16`; lanes beyond the last pair
    /// hold zeros.
    Interleaved,
    /// `[B, H, N_q, N_k]`.
    Plain,
}

impl AttentionShape {
    /// The layout of the scores. It depends on the lengths and channels, not on the batch, the heads or the machine.
    #[must_use]
    pub fn score_layout(&self) -> ScoreLayout {
        let largest = self
            .forward_vectors()
            .max(self.values_backward_vectors())
            .max(self.scores_backward_vectors());
        let few_channels = self.head_dim.max(self.value_dim) <= FEW_CHANNELS;
        let short = self.keys < SHORT;
        if largest <= SCRATCH_VECTORS && (few_channels || short) {
            ScoreLayout::Interleaved
        } else {
            ScoreLayout::Plain
        }
    }

    /// Tiles of k, v, and of a block of queries: q, probabilities, dropout factors, output.
    pub(crate) fn forward_vectors(&self) -> usize {
        let block = self.head_dim + self.value_dim + 2 * self.keys;
        self.keys * (self.head_dim + self.value_dim) + QUERY_BLOCK * block
    }

    /// Tiles of v, dv, and of a block of queries: do, probabilities, their gradients, dropout factors.
    pub(crate) fn values_backward_vectors(&self) -> usize {
        2 * self.keys * self.value_dim
            + QUERY_BLOCK * (self.value_dim + 3 * self.keys)
            + self.value_dim
    }

    /// Tiles of k, dk, and of a block of queries: q, dq.
    pub(crate) fn scores_backward_vectors(&self) -> usize {
        2 * (self.keys + QUERY_BLOCK) * self.head_dim + self.head_dim
    }

    /// (row, head) pairs.
    pub(crate) fn pairs(&self) -> usize {
        self.batch * self.heads
    }

    /// Scores of one row of the batch.
    pub(crate) fn scores_per_row(&self) -> usize {
        self.heads * self.queries * self.keys
    }

    /// The shape that scores have on a tape.
    #[must_use]
    pub fn scores_shape(&self) -> Shape {
        match self.score_layout() {
            ScoreLayout::Interleaved => {
                let groups = self.pairs().div_ceil(GROUP);
                [groups, self.queries, self.keys, GROUP].into()
            }
            ScoreLayout::Plain => [self.batch, self.heads, self.queries, self.keys].into(),
        }
    }

    /// The number of scores in memory, unused lanes included.
    #[must_use]
    pub fn scores_len(&self) -> usize {
        self.scores_shape().numel()
    }

    /// Where the score of query `i` and key `j` in head `h` of row `b` lies.
    #[must_use]
    pub fn score_index(&self, b: usize, h: usize, i: usize, j: usize) -> usize {
        let pair = b * self.heads + h;
        match self.score_layout() {
            ScoreLayout::Interleaved => {
                (((pair / GROUP) * self.queries + i) * self.keys + j) * GROUP + pair % GROUP
            }
            ScoreLayout::Plain => (pair * self.queries + i) * self.keys + j,
        }
    }

    /// The number of values that the forward pass keeps for the backward pass: each softmax's largest score and the
    /// reciprocal of its sum.
    #[must_use]
    pub fn stats_len(&self) -> usize {
        let pairs = match self.score_layout() {
            ScoreLayout::Interleaved => self.pairs().next_multiple_of(GROUP),
            ScoreLayout::Plain => self.pairs(),
        };
        pairs * self.queries * 2
    }

    /// The fewest rows of the batch whose pairs fill whole groups.
    pub(crate) fn row_grain(&self) -> usize {
        match self.score_layout() {
            ScoreLayout::Interleaved => {
                // 16 / gcd(16, H), and the divisors of 16 are powers of two.
                let shared = self.heads.trailing_zeros().min(GROUP.trailing_zeros());
                GROUP >> shared
            }
            ScoreLayout::Plain => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_score_has_a_place_of_its_own() {
        for (heads, keys, head_dim) in [(1, 3, 2), (3, 2, 8), (16, 4, 8), (2, 200, 64)] {
            let shape = AttentionShape {
                batch: 7,
                heads,
                queries: 5,
                keys,
                head_dim,
                value_dim: 8,
            };
            let mut seen = BTreeSet::new();
            for b in 0..7 {
                for h in 0..heads {
                    for i in 0..5 {
                        for j in 0..keys {
                            let at = shape.score_index(b, h, i, j);
                            assert!(at < shape.scores_len());
                            assert!(seen.insert(at));
                        }
                    }
                }
            }
            assert_eq!(
                (shape.row_grain() * heads) % shape.row_grain().min(GROUP),
                0
            );
        }
    }

    #[test]
    fn rows_of_a_grain_fill_whole_groups() {
        for heads in 1..40 {
            let shape = AttentionShape {
                batch: 1,
                heads,
                queries: 2,
                keys: 2,
                head_dim: 2,
                value_dim: 2,
            };
            let grain = shape.row_grain();
            assert_eq!(grain * heads % GROUP, 0, "{heads} heads");
            assert!((1..grain).all(|rows| rows * heads % GROUP != 0));
        }
    }
}
