//! Tokens to tiles and back: the channels of a pair lie side by side in memory and one above the other in a tile.

use nd_core::autograd::Accumulate;
use nd_simd::permute::transpose_block;
use nd_simd::{Isa, Lanes, SimdReal};

use crate::standard::Tokens;

/// Which pairs, and how their tokens lie in memory.
#[derive(Clone, Copy)]
pub(super) struct Pairs {
    /// The first pair, one per lane from here on; row `pair / heads` counts from the start of the slice.
    pub(super) first: usize,
    /// Pairs that exist; lanes beyond are zeros.
    pub(super) count: usize,
    pub(super) heads: usize,
    /// Tokens of a row.
    pub(super) tokens: usize,
    /// Channels of a head.
    pub(super) dim: usize,
}

/// A run of pairs within one row.
struct Run {
    lane: usize,
    len: usize,
    row: usize,
    head: usize,
}

/// The most common block, a whole group of pairs of eight channels: with its dimensions known, its loops disappear.
const COMMON: (usize, usize) = (16, 8);

impl Pairs {
    /// The run that starts at a lane.
    #[inline(always)]
    fn run(&self, lane: usize) -> Run {
        let pair = self.first + lane;
        let (row, head) = (pair / self.heads, pair % self.heads);
        Run {
            lane,
            len: (self.heads - head).min(self.count - lane),
            row,
            head,
        }
    }

    /// `tile[n, c, lane] = tokens[row, first + n, head, c]` for `n < count`.
    #[inline(always)]
    pub(super) fn gather<S: Isa, R: SimdReal>(
        &self,
        simd: S,
        from: Tokens<'_, R>,
        (first, count): (usize, usize),
        tile: &mut [R],
    ) {
        let lanes = Lanes::<S, R>::LEN;
        if self.count < lanes {
            tile[..count * self.dim * lanes].fill(R::ZERO);
        }
        let mut lane = 0;
        while lane < self.count {
            let run = self.run(lane);
            for n in 0..count {
                let token = run.row * self.tokens + first + n;
                let from = &from.data[token * from.stride + run.head * self.dim..];
                let to = &mut tile[n * self.dim * lanes + run.lane..];
                if (run.len, self.dim) == COMMON {
                    transpose_block(simd, from, COMMON.1, COMMON, to, lanes);
                } else {
                    transpose_block(simd, from, self.dim, (run.len, self.dim), to, lanes);
                }
            }
            lane += run.len;
        }
    }

    /// `tokens[row, first + n, head, c] = tile[n, c, lane]` for `n < count`, or `+=`; the tokens are contiguous. `spare` holds
    /// `dim` vectors.
    #[inline(always)]
    pub(super) fn scatter<S: Isa, R: SimdReal>(
        &self,
        simd: S,
        tile: &[R],
        (first, count): (usize, usize),
        to: &mut [R],
        accumulate: Accumulate,
        spare: &mut [R],
    ) {
        let lanes = Lanes::<S, R>::LEN;
        let mut lane = 0;
        while lane < self.count {
            let run = self.run(lane);
            for n in 0..count {
                let token = run.row * self.tokens + first + n;
                let from = &tile[n * self.dim * lanes + run.lane..];
                let at = (token * self.heads + run.head) * self.dim;
                let to = &mut to[at..at + run.len * self.dim];
                let block = (self.dim, run.len);
                match accumulate {
                    Accumulate::Write if (run.len, self.dim) == COMMON => {
                        let block = (COMMON.1, COMMON.0);
                        transpose_block(simd, from, lanes, block, to, COMMON.1);
                    }
                    Accumulate::Write => transpose_block(simd, from, lanes, block, to, self.dim),
                    Accumulate::Add => {
                        let spare = &mut spare[..to.len()];
                        transpose_block(simd, from, lanes, block, spare, self.dim);
                        for (to, &value) in to.iter_mut().zip(spare.iter()) {
                            *to += value;
                        }
                    }
                }
            }
            lane += run.len;
        }
    }
}
