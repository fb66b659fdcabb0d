//! Sums over keys for a block of queries, on their way through [`Blocks::gather`].

use nd_core::{Buffer, Element, MemoryPool, Real, SimdLevel};
use nd_simd::matmul::{Fetch, MatRef};

use super::element::{Blocks, Entries, WeightBlock};
use super::tile::{scale_columns, scale_rows};
use super::turn::turn;

/// Working memory of a thread for sums of at most `width` queries over blocks of at most so many keys.
pub(super) struct GatherRoom<E: Blocks> {
    packed: Buffer<E::Packed>,
    /// `[queries, channels]`, where they are summed the other way round.
    rows: Buffer<E::Sum>,
}

impl<E: Blocks> GatherRoom<E> {
    pub(super) fn new(
        pool: &MemoryPool,
        level: SimdLevel,
        channels: usize,
        (width, keys): (usize, usize),
    ) -> Self {
        let of_across = |len: usize| match E::gathers_across(level, channels, width) {
            true => len,
            false => 0,
        };
        Self {
            packed: pool.take(of_across(E::gather_len(keys, width))),
            rows: pool.take(of_across(width * channels)),
        }
    }
}

/// Sums for `count` queries, so many channels each, in the order of [`Blocks::gather`].
pub(super) struct Gathered<'a, E: Blocks> {
    level: SimdLevel,
    channels: usize,
    count: usize,
    width: usize,
    sums: &'a mut [E::Sum],
    room: &'a mut GatherRoom<E>,
    /// Whether they lie `[channels, width]` rather than `[queries, channels]`.
    across: bool,
    /// Nothing has been added yet; the sums may be anything.
    empty: bool,
}

impl<'a, E: Blocks> Gathered<'a, E> {
    /// Sums that begin as zero, in memory for `width` queries, or for `count` where nothing is gathered across.
    pub(super) fn new(
        level: SimdLevel,
        channels: usize,
        (count, width): (usize, usize),
        memory: &'a mut [E::Sum],
        room: &'a mut GatherRoom<E>,
    ) -> Self {
        let across = E::gathers_across(level, channels, width);
        let queries = if across { width } else { count };
        Self {
            level,
            channels,
            count,
            width,
            sums: &mut memory[..queries * channels],
            room,
            across,
            empty: true,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.empty
    }

    /// Where the sums will lie, if nothing was added yet: the first write would wait for each line.
    pub(super) fn place_soon(&self) -> Fetch {
        match self.empty {
            true => Fetch::of(MatRef::row_major(self.sums, 1, self.sums.len())),
            false => Fetch::default(),
        }
    }

    /// Adds `alpha weights^T tokens`; meanwhile what is read `soon` may be asked for.
    pub(super) fn add(
        &mut self,
        alpha: E::Sum,
        (entries, keys): (Entries<'_, E>, usize),
        tokens: MatRef<'_, E::Element>,
        soon: Fetch,
    ) {
        let weights = WeightBlock {
            entries,
            keys,
            count: self.count,
            width: self.width,
        };
        let beta = if self.empty {
            E::Sum::ZERO
        } else {
            E::Sum::ONE
        };
        let (level, across, room) = (self.level, self.across, &mut self.room.packed);
        E::gather(
            level, across, alpha, weights, tokens, beta, self.sums, room, soon,
        );
        self.empty = false;
    }

    /// Multiplies the sums of each query by its factor.
    pub(super) fn scale(&mut self, factors: &[E::Sum]) {
        if self.empty {
            return;
        }
        if self.across {
            scale_columns(self.level, self.sums, &factors[..self.width]);
        } else {
            scale_rows(self.level, self.sums, self.channels, &factors[..self.count]);
        }
    }

    /// `[queries, channels]`
    pub(super) fn into_rows(self) -> &'a mut [E::Sum] {
        if self.empty {
            self.sums.fill(E::Sum::ZERO);
        }
        if !self.across {
            return self.sums;
        }
        let rows = &mut self.room.rows[..self.count * self.channels];
        let sums = MatRef::strided(self.sums, self.channels, self.count, self.width, 1);
        turn(self.level, sums, E::Sum::ONE, rows, self.channels);
        rows
    }
}
