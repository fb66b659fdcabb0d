//! Sixteen (row, head) pairs side by side, one pair per lane.
//!
//! The simple version: scalar attention of one pair, in which every number is a vector. There are no sums across lanes, no
//! partly filled vectors and no loop shorter than a vector, whatever the length and the channels; so twelve patches
//! of eight channels run as well as large matrices do.
//!
//! What it takes: q, k, v come and gradients go with the channels of a pair side by side, so tiles are transposed on the way in
//! and out (`tile`); products of tiles are register-blocked (`product`); scores stay interleaved in memory, because only the
//! next layer reads them; and probabilities are not stored, the backward pass computes them again from the scores, the
//! largest of each row and the reciprocal of its sum.
//!
//! Known weakness: tiles of all keys must fit in the second-level cache; fewer than sixteen pairs leave lanes empty; with fewer
//! than eight heads the transposes of f32 move single numbers.

mod backward;
mod forward;
mod product;
mod tile;

pub(crate) use backward::{scores_backward, values_backward};
pub(crate) use forward::forward;

use crate::shape::{AttentionShape, GROUP};

/// Multiply-adds of a product that are worth handing to another thread.
const BLOCK_WORK: usize = 1 << 20;

/// How many rows of the batch one task takes: whole groups, by shape alone.
fn rows_per_block(shape: &AttentionShape) -> usize {
    let channels = shape.head_dim + shape.value_dim;
    let grain = shape.row_grain();
    let each = (shape.scores_per_row() * channels * grain).max(1);
    (BLOCK_WORK / each).max(1) * grain
}

/// How the vectors of one part of a group lie in an array of scores or of stats.
#[derive(Clone, Copy)]
struct Part {
    /// The first vector.
    first: usize,
    /// Vectors from one score to the next: parts per group.
    step: usize,
}

impl Part {
    /// Part `part` of group `group`, in an array with so many numbers per pair and vectors of `lanes` numbers.
    #[inline(always)]
    fn new(group: usize, part: usize, per_pair: usize, lanes: usize) -> Self {
        let step = GROUP / lanes;
        Self {
            first: group * per_pair * step + part,
            step,
        }
    }

    #[inline(always)]
    fn at(self, index: usize) -> usize {
        self.first + index * self.step
    }
}
