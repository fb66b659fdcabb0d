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

use std::ops::Range;

use nd_core::{Real, SimdLevel};
use nd_simd::{Kernel, dispatch};

use crate::prefetch::prefetch;
use crate::shape::{AttentionShape, GROUP};
use crate::standard::Tokens;

/// Multiply-adds of a product that are worth handing to another thread.
const BLOCK_WORK: usize = 1 << 20;

/// How many rows of the batch one task takes: whole groups, by shape alone.
fn rows_per_block(shape: &AttentionShape) -> usize {
    let channels = shape.head_dim + shape.value_dim;
    let grain = shape.row_grain();
    let each = (shape.scores_per_row() * channels * grain).max(1);
    (BLOCK_WORK / each).max(1) * grain
}

/// Runs a kernel in a stack frame of its own.
///
/// Not inlined: the kernel's working memory must not become part of the frames that split rows, one inside the other.
#[inline(never)]
fn run<K: Kernel>(level: SimdLevel, kernel: K) -> K::Output {
    dispatch(level, kernel)
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

/// What the next group will read and write, to be asked for while this one is computed.
struct NextGroup {
    rows: Range<usize>,
    scores: Range<usize>,
}

/// Scores from which on groups ask for memory: with fewer, everything is in a cache and asking costs a tenth.
const SCORES_TO_PREFETCH: usize = 1 << 17;

impl NextGroup {
    /// The group that begins 16 pairs after `first_pair`; nothing, where asking does not pay.
    #[inline(always)]
    fn new(shape: &AttentionShape, first_pair: usize) -> Self {
        if shape.batch * shape.scores_per_row() < SCORES_TO_PREFETCH {
            return Self {
                rows: 0..0,
                scores: 0..0,
            };
        }
        let first = first_pair + GROUP;
        let last = (first + GROUP).min(shape.pairs());
        let per_pair = shape.queries * shape.keys;
        Self {
            rows: first / shape.heads..last.div_ceil(shape.heads),
            scores: first * per_pair..(first + GROUP) * per_pair,
        }
    }

    #[inline(always)]
    fn tokens<R: Real>(&self, from: Tokens<'_, R>, tokens: usize) {
        let row = tokens * from.stride;
        let range = self.rows.start * row..self.rows.end * row;
        prefetch(from.data.get(range).unwrap_or_default());
    }

    #[inline(always)]
    fn scores<R: Real>(&self, scores: &[R]) {
        prefetch(scores.get(self.scores.clone()).unwrap_or_default());
    }

    /// What the group after `group` will write, to an output of `len` elements per group: a store needs its line, too.
    ///
    /// This pays in the forward pass, whose outputs are as large as its inputs; in the backward pass it does not.
    #[inline(always)]
    fn written<T>(&self, output: &[T], group: usize, len: usize) {
        if self.rows.is_empty() {
            return;
        }
        let range = (group + 1) * len..(group + 2) * len;
        prefetch(output.get(range).unwrap_or_default());
    }
}
