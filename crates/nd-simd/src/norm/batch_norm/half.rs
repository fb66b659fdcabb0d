//! Batch norm of values in sixteen bits: blocks of rows are widened, the kernels of f32 run on them, and what they write is rounded.
//!
//! The blocks are those of f32, so statistics and gradients of gain and bias have the bits that widening everything first would give; and
//! only sixteen-bit numbers pass through memory, twice forward and twice backward.

use nd_core::autograd::{Accumulate, StoredRef};

use super::backward::{BlockGradients, InputGradient};
use super::{Apply, BatchNormSaved, BlockMoments, MergeMoments};
use crate::autocast::{self, Format};
use crate::dispatch::{SimdLevel, dispatch};
use crate::elementwise::accumulate;
use crate::norm::partials::{MergeSums, block_rows};
use crate::tree;

/// Numbers in f32 that exist at a time of each operand, on the stack of a task: 128 KiB.
const BLOCK: usize = 32 * 1024;

/// Numbers that are widened, moved and rounded at a time where no sum runs over them; they stay in the first cache level.
const PART: usize = 4096;

/// Whether blocks of rows of so many columns fit.
pub(crate) fn fits(cols: usize) -> bool {
    cols > 0 && cols <= PART && block_rows(cols) * cols <= BLOCK
}

/// Whole rows of about [`PART`] elements.
fn part_rows(cols: usize) -> usize {
    PART / cols
}

/// Rows of a task: whole blocks, several where there are many, for a task zeroes its room first.
fn task_rows(rows: usize, block: usize) -> usize {
    block * (rows / block / 16).clamp(1, 8)
}

/// As [`super::batch_moments`].
pub(crate) fn batch_moments_half<H: Format>(
    level: SimdLevel,
    parallel: bool,
    x: &[H],
    mean: &mut [f32],
    variance: &mut [f32],
    scratch: &mut [f32],
) {
    let cols = mean.len();
    let (rows, block) = (x.len() / cols, block_rows(cols));
    assert!(rows > 0, "batch norm needs at least one row");
    tree::for_each_block(
        (x, &mut *scratch),
        rows,
        task_rows(rows, block),
        parallel,
        &|(x, partials): (&[H], &mut [f32]), at| {
            let (x_left, x_right) = x.split_at(at * cols);
            let (left, right) = partials.split_at_mut(at / block * 2 * cols);
            ((x_left, left), (x_right, right))
        },
        &|(x, partials)| moments_of_rows(level, cols, x, partials),
    );
    let partials = scratch;
    dispatch(
        level,
        MergeMoments {
            partials,
            rows,
            mean,
            variance,
        },
    );
}

/// The moments of each block of rows. Not inlined, as all tasks here: the room must not become part of the frames that split rows.
#[inline(never)]
fn moments_of_rows<H: Format>(level: SimdLevel, cols: usize, x: &[H], partials: &mut [f32]) {
    let mut wide = [0.0; BLOCK];
    let blocks = x.chunks(block_rows(cols) * cols);
    for (x, out) in blocks.zip(partials.chunks_exact_mut(2 * cols)) {
        let wide = &mut wide[..x.len()];
        H::widen_all(level, x, wide);
        dispatch(level, BlockMoments { x: wide, cols, out });
    }
}

/// As [`super::batch_norm_apply`].
pub(crate) fn batch_norm_apply_half<H: Format>(
    level: SimdLevel,
    parallel: bool,
    saved: BatchNormSaved<'_, f32>,
    bias: &[f32],
    x: &[H],
    y: &mut [H],
) {
    let cols = bias.len();
    let rows = x.len() / cols;
    tree::for_each_block(
        (x, y),
        rows,
        task_rows(rows, block_rows(cols)),
        parallel,
        &|(x, y): (&[H], &mut [H]), at| {
            let (x_left, x_right) = x.split_at(at * cols);
            let (y_left, y_right) = y.split_at_mut(at * cols);
            ((x_left, y_left), (x_right, y_right))
        },
        &|(x, y)| apply_to_rows(level, saved, bias, x, y),
    );
}

#[inline(never)]
fn apply_to_rows<H: Format>(
    level: SimdLevel,
    saved: BatchNormSaved<'_, f32>,
    bias: &[f32],
    x: &[H],
    y: &mut [H],
) {
    let part = part_rows(bias.len()) * bias.len();
    let (mut wide, mut out) = ([0.0; PART], [0.0; PART]);
    for (x, y) in x.chunks(part).zip(y.chunks_mut(part)) {
        let (wide, out) = (&mut wide[..x.len()], &mut out[..x.len()]);
        H::widen_all(level, x, wide);
        let apply = Apply {
            saved,
            bias,
            x: wide,
            y: &mut *out,
        };
        dispatch(level, apply);
        H::narrow_all(level, out, y);
    }
}

/// Where the gradient of the input of a batch norm goes.
pub(crate) enum HalfInputGradient<'a, H> {
    Unwanted,
    /// It is rounded.
    Rounded(&'a mut [H]),
    /// It is written or added to f32.
    Wide(&'a mut [f32], Accumulate),
}

impl<H> HalfInputGradient<'_, H> {
    fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            Self::Unwanted => (Self::Unwanted, Self::Unwanted),
            Self::Rounded(dx) => {
                let (left, right) = dx.split_at_mut(at);
                (Self::Rounded(left), Self::Rounded(right))
            }
            Self::Wide(dx, how) => {
                let (left, right) = dx.split_at_mut(at);
                (Self::Wide(left, how), Self::Wide(right, how))
            }
        }
    }
}

type Slot<'a> = Option<(&'a mut [f32], Accumulate)>;

/// As [`super::batch_norm_backward`] if the statistics depend on `x`, else as [`super::batch_norm_frozen_backward`].
pub(crate) fn batch_norm_backward_half<H: Format>(
    level: SimdLevel,
    parallel: bool,
    saved: BatchNormSaved<'_, f32>,
    x: &[H],
    dy: StoredRef<'_, f32>,
    dx: HalfInputGradient<'_, H>,
    dgain: Slot<'_>,
    dbias: Slot<'_>,
    scratch: &mut [f32],
    through_statistics: bool,
) {
    let cols = saved.gain.len();
    let (rows, block) = (x.len() / cols, block_rows(cols));
    tree::for_each_block(
        (0, x, &mut *scratch),
        rows,
        task_rows(rows, block),
        parallel,
        &|(first, x, partials): (usize, &[H], &mut [f32]), at| {
            let (x_left, x_right) = x.split_at(at * cols);
            let (left, right) = partials.split_at_mut(at / block * 2 * cols);
            ((first, x_left, left), (first + at * cols, x_right, right))
        },
        &|(first, x, partials)| sums_of_rows(level, saved, first, x, dy, partials),
    );
    let sums = MergeSums {
        partials: scratch,
        width: 2 * cols,
    };
    dispatch(level, sums);
    let (bias, gain) = scratch[..2 * cols].split_at(cols);
    if let Some((dbias, how)) = dbias {
        accumulate(level, bias, dbias, how);
    }
    if let Some((dgain, how)) = dgain {
        accumulate(level, gain, dgain, how);
    }
    if let HalfInputGradient::Unwanted = dx {
        return;
    }
    let means = through_statistics.then_some((bias, gain));
    let share = 1.0 / rows as f64;
    tree::for_each_block(
        (0, x, dx),
        rows,
        task_rows(rows, block),
        parallel,
        &|(first, x, dx): (usize, &[H], HalfInputGradient<'_, H>), at| {
            let (x_left, x_right) = x.split_at(at * cols);
            let (left, right) = dx.split_at(at * cols);
            ((first, x_left, left), (first + at * cols, x_right, right))
        },
        &|(first, x, dx)| gradient_of_rows(level, saved, (means, share), first, x, dy, dx),
    );
}

/// The sums over each block of rows; `first` is the place of `x` in the whole.
#[inline(never)]
fn sums_of_rows<H: Format>(
    level: SimdLevel,
    saved: BatchNormSaved<'_, f32>,
    mut first: usize,
    x: &[H],
    dy: StoredRef<'_, f32>,
    partials: &mut [f32],
) {
    let cols = saved.gain.len();
    let (mut wide, mut room) = ([0.0; BLOCK], [0.0; BLOCK]);
    let blocks = x.chunks(block_rows(cols) * cols);
    for (x, out) in blocks.zip(partials.chunks_exact_mut(2 * cols)) {
        let wide = &mut wide[..x.len()];
        H::widen_all(level, x, wide);
        let dy = autocast::read(level, dy, first..first + x.len(), &mut room);
        first += x.len();
        let x = &*wide;
        dispatch(level, BlockGradients { saved, x, dy, out });
    }
}

/// The sums that the gradient of the input has in it, and one over the number of rows.
type Means<'a> = (Option<(&'a [f32], &'a [f32])>, f64);

#[inline(never)]
fn gradient_of_rows<H: Format>(
    level: SimdLevel,
    saved: BatchNormSaved<'_, f32>,
    (means, share): Means<'_>,
    mut first: usize,
    x: &[H],
    dy: StoredRef<'_, f32>,
    mut rest: HalfInputGradient<'_, H>,
) {
    let cols = saved.gain.len();
    let (mut wide, mut room, mut out) = ([0.0; PART], [0.0; PART], [0.0; PART]);
    for x in x.chunks(part_rows(cols) * cols) {
        let (here, after) = rest.split_at(x.len());
        rest = after;
        let wide = &mut wide[..x.len()];
        H::widen_all(level, x, wide);
        let dy = autocast::read(level, dy, first..first + x.len(), &mut room);
        first += x.len();
        let x = &*wide;
        let out = &mut out[..x.len()];
        let (dx, acc, rounded) = match here {
            HalfInputGradient::Unwanted => return,
            HalfInputGradient::Wide(dx, how) => (dx, how, None),
            HalfInputGradient::Rounded(to) => (&mut *out, Accumulate::Write, Some(to)),
        };
        let gradient = InputGradient {
            saved,
            means,
            share,
            x,
            dy,
            dx,
            acc,
        };
        dispatch(level, gradient);
        if let Some(to) = rounded {
            H::narrow_all(level, out, to);
        }
    }
}
