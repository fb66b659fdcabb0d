//! Rows of the batch in sixteen bits, block by block: what a block reads is widened into a room of f32 numbers, what it writes there is
//! rounded.

use std::ops::Range;

use nd_core::autograd::{Accumulate, Stored, StoredRef};
use nd_core::{Buffer, Element, SimdLevel, bf16, f16};
use nd_simd::SimdReal;
use nd_simd::convert::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};

use crate::flash::op_half::as_f32;
use crate::shape::{AttentionShape, ScoreLayout};
use crate::standard::GradMut;

/// Numbers in f32 that exist at a time: 256 KiB on the stack of a task.
pub(crate) const ROOM: usize = 1 << 16;

/// Blocks of one task, which makes its room once.
const BLOCKS_PER_TASK: usize = 8;

/// A format of sixteen bits.
pub(crate) trait Half: Element {
    fn of<R: SimdReal>(values: StoredRef<'_, R>) -> Option<&[Self]>;
    fn of_mut<R: SimdReal>(values: &mut Stored<R>) -> Option<&mut [Self]>;
    fn keep<R: SimdReal>(values: Buffer<Self>) -> Stored<R>;
    fn widen(level: SimdLevel, narrow: &[Self], wide: &mut [f32]);
    fn narrow(level: SimdLevel, wide: &[f32], narrow: &mut [Self]);
}

macro_rules! half {
    ($type:ty, $variant:ident, $widen:ident, $narrow:ident) => {
        impl Half for $type {
            fn of<R: SimdReal>(values: StoredRef<'_, R>) -> Option<&[Self]> {
                match values {
                    StoredRef::$variant(values) => Some(values),
                    _ => None,
                }
            }
            fn of_mut<R: SimdReal>(values: &mut Stored<R>) -> Option<&mut [Self]> {
                match values {
                    Stored::$variant(values) => Some(values),
                    _ => None,
                }
            }
            fn keep<R: SimdReal>(values: Buffer<Self>) -> Stored<R> {
                Stored::$variant(values)
            }
            fn widen(level: SimdLevel, narrow: &[Self], wide: &mut [f32]) {
                $widen(level, narrow, wide);
            }
            fn narrow(level: SimdLevel, wide: &[f32], narrow: &mut [Self]) {
                $narrow(level, wide, narrow);
            }
        }
    };
}

half!(bf16, Bf16, bf16_to_f32, f32_to_bf16);
half!(f16, F16, f16_to_f32, f32_to_f16);

/// Numbers of f32 for every row of the batch, at most: tokens of queries and of keys with their gradients, scores and their gradient twice.
fn room_per_row(shape: &AttentionShape) -> usize {
    let (queries, keys) = (shape.queries * shape.heads, shape.keys * shape.heads);
    let tokens = 2 * (queries * shape.head_dim.max(shape.value_dim));
    tokens + 2 * keys * (shape.head_dim + shape.value_dim) + 3 * shape.scores_per_row()
}

/// Rows that are computed together: whole groups; `None` where they do not fit in the room.
pub(crate) fn rows_at_a_time(shape: &AttentionShape) -> Option<usize> {
    let grain = shape.row_grain();
    let fit = ROOM / room_per_row(shape).max(1) / grain * grain;
    (shape.score_layout() == ScoreLayout::Interleaved && fit > 0 && shape.scores_len() > 0)
        .then_some(fit)
}

/// Numbers that a block reads.
#[derive(Clone, Copy)]
pub(crate) enum Input<'a, H> {
    Half(&'a [H]),
    Wide(&'a [f32]),
}

impl<'a, H: Half> Input<'a, H> {
    pub(crate) fn of<R: SimdReal>(x: StoredRef<'a, R>) -> Self {
        match (H::of(x), x) {
            (Some(x), _) => Self::Half(x),
            (None, StoredRef::Full(x)) => Self::Wide(as_f32(x)),
            _ => unreachable!("a run has one format"),
        }
    }

    /// Some of them as f32: lent, or widened into `room`.
    pub(crate) fn read(
        self,
        level: SimdLevel,
        range: Range<usize>,
        room: &'a mut [f32],
    ) -> &'a [f32] {
        match self {
            Self::Wide(x) => &x[range],
            Self::Half(x) => {
                H::widen(level, &x[range], room);
                room
            }
        }
    }
}

/// Numbers that a block writes or adds to.
pub(crate) enum Output<'a, H> {
    Unwanted,
    Half(&'a mut [H], Accumulate),
    Wide(&'a mut [f32], Accumulate),
}

impl<H: Half> Output<'_, H> {
    fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            Self::Unwanted => (Self::Unwanted, Self::Unwanted),
            Self::Half(values, how) => {
                let (left, right) = values.split_at_mut(at.min(values.len()));
                (Self::Half(left, how), Self::Half(right, how))
            }
            Self::Wide(values, how) => {
                let (left, right) = values.split_at_mut(at.min(values.len()));
                (Self::Wide(left, how), Self::Wide(right, how))
            }
        }
    }

    /// Where f32 kernels write: the place itself, or `room`, which has what is there already.
    pub(crate) fn wide<'b>(
        &'b mut self,
        level: SimdLevel,
        room: &'b mut [f32],
    ) -> Option<GradMut<'b, f32>> {
        match self {
            Self::Unwanted => None,
            Self::Wide(values, accumulate) => Some(GradMut {
                values,
                accumulate: *accumulate,
            }),
            Self::Half(values, accumulate) => {
                if *accumulate == Accumulate::Add {
                    H::widen(level, values, room);
                }
                Some(GradMut {
                    values: room,
                    accumulate: *accumulate,
                })
            }
        }
    }

    /// Rounds what kernels left in `room`.
    pub(crate) fn round(self, level: SimdLevel, room: &[f32]) {
        if let Self::Half(values, _) = self {
            H::narrow(level, room, values);
        }
    }
}

/// Some rows of the batch and what is written for them.
pub(crate) struct Rows<'a, H, const N: usize> {
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// Each with its numbers per row; the last row may have some more.
    pub(crate) outputs: [(Output<'a, H>, usize); N],
}

impl<'a, H: Half, const N: usize> Rows<'a, H, N> {
    fn split(self, rows: usize) -> (Self, Self) {
        let mut left = [const { (Output::Unwanted, 0) }; N];
        let right = self.outputs;
        let mut rest = [const { (Output::Unwanted, 0) }; N];
        for (i, (output, per_row)) in right.into_iter().enumerate() {
            let (here, after) = output.split_at(rows * per_row);
            (left[i], rest[i]) = ((here, per_row), (after, per_row));
        }
        let before = Self {
            first: self.first,
            count: rows,
            outputs: left,
        };
        let after = Self {
            first: self.first + rows,
            count: self.count - rows,
            outputs: rest,
        };
        (before, after)
    }

    /// Calls `work` for every `block` rows, on all threads of the current pool if asked; the blocks depend on the shape alone.
    pub(crate) fn for_each_block(
        self,
        parallel: bool,
        block: usize,
        work: &(impl Fn(Rows<'a, H, N>, &mut [f32; ROOM]) + Sync),
    ) {
        let task = block * BLOCKS_PER_TASK;
        let tasks = self.count.div_ceil(task);
        if tasks <= 1 || !parallel {
            in_a_room(self, block, work);
            return;
        }
        let (left, right) = self.split(tasks / 2 * task);
        rayon::join(
            || left.for_each_block(true, block, work),
            || right.for_each_block(true, block, work),
        );
    }
}

/// Not inlined: the room must not become part of the frames that split rows, one inside the other.
#[inline(never)]
fn in_a_room<'a, H: Half, const N: usize>(
    rows: Rows<'a, H, N>,
    block: usize,
    work: &impl Fn(Rows<'a, H, N>, &mut [f32; ROOM]),
) {
    let mut room = [0.0; ROOM];
    let mut rest = rows;
    while rest.count > block {
        let (here, after) = rest.split(block);
        work(here, &mut room);
        rest = after;
    }
    work(rest, &mut room);
}
