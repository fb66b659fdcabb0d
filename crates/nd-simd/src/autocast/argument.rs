//! The gradient of an activation's argument, from that of its value.

use nd_core::autograd::{Accumulate, StoredRef};
use nd_core::{Buffer, threads};

use super::blocks::{BLOCK, Format, PART};
use super::products::{Gradient, Place, task_blocks};
use super::sums::sum_rows;
use crate::activations::{Activation, activation_backward};
use crate::dispatch::SimdLevel;
use crate::reduce::column_sums;
use crate::tree::for_each_block;

/// An activation, and the gradient of its value `[rows, outputs]`.
pub(crate) struct Argument<'a> {
    pub(crate) activation: Activation,
    /// What the activation saved; unused for none.
    pub(crate) saved: StoredRef<'a, f32>,
    pub(crate) dy: StoredRef<'a, f32>,
}

/// Room for what is read.
type Rooms = [[f32; PART]; 2];

impl<'a> Argument<'a> {
    /// The gradient where it is there already: that of the value, rounded, and nothing in between.
    pub(super) fn given<H: Format>(&self) -> Option<&'a [H]> {
        H::of(self.dy).filter(|_| self.activation == Activation::Identity)
    }

    /// The part from `start` on, in f32.
    fn fill<H: Format>(&self, level: SimdLevel, start: usize, out: &mut [f32], rooms: &mut Rooms) {
        if let Some(given) = self.given::<H>() {
            return H::widen_all(level, &given[start..start + out.len()], out);
        }
        match self.dy {
            StoredRef::Full(dy) if self.activation == Activation::Identity => {
                out.copy_from_slice(&dy[start..start + out.len()]);
            }
            _ => {
                let [saved_room, dy_room] = rooms;
                for (i, out) in out.chunks_mut(PART).enumerate() {
                    let at = start + i * PART;
                    let part = at..at + out.len();
                    let dy = super::read(level, self.dy, part.clone(), dy_room);
                    let saved = super::read(level, self.saved, part, saved_room);
                    let how = Accumulate::Write;
                    activation_backward(level, self.activation, saved, dy, out, how);
                }
            }
        }
    }

    /// All of it, rounded; in the same pass, while it is f32, its column sums.
    pub(super) fn rounded<H: Format>(
        &self,
        place: Place<'_>,
        [rows, outputs]: [usize; 2],
        db: Option<Gradient<'_>>,
    ) -> Buffer<H> {
        let Place {
            level,
            parallel,
            pool,
        } = place;
        let len = rows * outputs;
        let mut dz: Buffer<H> = pool.take(len);
        if outputs > BLOCK {
            // Rows that fit no block: one after the other, in parts; the sums come from the rounded gradient.
            threads::for_each_chunk(parallel, &mut dz, PART, |i, dz| {
                let (mut rooms, mut out) = ([[0.0; PART]; 2], [0.0; PART]);
                let out = &mut out[..dz.len()];
                self.fill::<H>(level, i * PART, out, &mut rooms);
                H::narrow_all(level, out, dz);
            });
            if let Some(db) = db {
                let mut wide: Buffer<f32> = pool.take(len);
                H::widen_all(level, &dz, &mut wide);
                column_sums(level, &wide, db.values, db.accumulate);
            }
            return dz;
        }
        let mut sums = BlockSums::new(place, [rows, outputs], db.is_some());
        let all = sums.rows(0, &mut dz);
        let task = all.block * task_blocks(rows, all.block);
        for_each_block(all, rows, task, parallel, &Rows::split, &|piece: Rows<
            '_,
            H,
        >| {
            let mut rooms = [[0.0; PART]; 2];
            let mut room: Buffer<f32> = pool.take(BLOCK);
            piece.for_each(|start, dz, sums| {
                let found = &mut room[..dz.len()];
                self.fill::<H>(level, start, found, &mut rooms);
                if let Some(sums) = sums {
                    column_sums(level, found, sums, Accumulate::Write);
                }
                H::narrow_all(level, found, dz);
            });
        });
        if let Some(db) = db {
            sums.finish(level, db);
        }
        dz
    }

    /// Rows of it from `first` on, which begin a block of `sums`, rounded and widened; their column sums.
    pub(super) fn widened<H: Format>(
        &self,
        place: Place<'_>,
        first: usize,
        dz: &mut [f32],
        sums: &mut BlockSums,
    ) {
        let level = place.level;
        let all = sums.rows(first, dz);
        let rows = all.values.len() / all.cols.max(1);
        let task = all.block * task_blocks(rows, all.block);
        for_each_block(
            all,
            rows,
            task,
            place.parallel,
            &Rows::split,
            &|piece: Rows<'_, f32>| {
                let mut rooms = [[0.0; PART]; 2];
                piece.for_each(|start, dz, sums| {
                    self.fill::<H>(level, start, dz, &mut rooms);
                    if let Some(sums) = sums {
                        column_sums(level, dz, sums, Accumulate::Write);
                    }
                    if self.given::<H>().is_none() {
                        H::round_all(level, dz);
                    }
                });
            },
        );
    }
}

/// Column sums of blocks of rows, which depend on the shape alone, and from them those of all rows.
pub(super) struct BlockSums {
    cols: usize,
    /// Rows of a block.
    block: usize,
    /// Columns that are summed: all, or none if nobody wants them.
    sums: usize,
    /// `[blocks, sums]`
    partial: Buffer<f32>,
}

impl BlockSums {
    pub(super) fn new(place: Place<'_>, [rows, cols]: [usize; 2], wanted: bool) -> Self {
        let (block, sums) = (sum_rows(cols), if wanted { cols } else { 0 });
        Self {
            cols,
            block,
            sums,
            partial: place.pool.take(rows.div_ceil(block) * sums),
        }
    }

    /// Rows of values from `first` on, with the sums of their blocks.
    fn rows<'a, T>(&'a mut self, first: usize, values: &'a mut [T]) -> Rows<'a, T> {
        Rows {
            first,
            cols: self.cols,
            block: self.block,
            sums: self.sums,
            values,
            partial: &mut self.partial[first / self.block * self.sums..],
        }
    }

    /// Adds up the blocks.
    pub(super) fn finish(self, level: SimdLevel, db: Gradient<'_>) {
        if !self.partial.is_empty() {
            column_sums(level, &self.partial, db.values, db.accumulate);
        } else if db.accumulate == Accumulate::Write {
            db.values.fill(0.0);
        }
    }
}

/// Rows of values, and a row of sums for each block of them.
struct Rows<'a, T> {
    first: usize,
    cols: usize,
    block: usize,
    /// Columns that are summed: all or none.
    sums: usize,
    values: &'a mut [T],
    partial: &'a mut [f32],
}

impl<'a, T> Rows<'a, T> {
    fn split(self, rows: usize) -> (Self, Self) {
        let (values, values_right) = self.values.split_at_mut(rows * self.cols);
        let (partial, partial_right) = self.partial.split_at_mut(rows / self.block * self.sums);
        (
            Self {
                values,
                partial,
                ..self
            },
            Self {
                first: self.first + rows,
                values: values_right,
                partial: partial_right,
                ..self
            },
        )
    }

    /// Calls `work` for each block with the place of its first value, its values, and the place of its sums if they are wanted.
    fn for_each(self, mut work: impl FnMut(usize, &mut [T], Option<&mut [f32]>)) {
        let (mut partial, mut start) = (self.partial, self.first * self.cols);
        for values in self.values.chunks_mut((self.block * self.cols).max(1)) {
            let (here, rest) = partial.split_at_mut(self.sums);
            work(start, values, (!here.is_empty()).then_some(here));
            partial = rest;
            start += values.len();
        }
    }
}
