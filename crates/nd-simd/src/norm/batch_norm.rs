//! Batch normalisation (Ioffe and Szegedy 2015) over the rows of `[rows, cols]`.
//!
//! The simple version: per column, mean and variance over the rows, `y = (x - mean) / sqrt(variance + eps) * gain + bias`.
//!
//! The statistics are computed block by block (mean first, then squared deviations from it, both while the block is in cache) and
//! merged with Chan's formula in a fixed tree, so they are accurate also where the mean is large, and the same for any
//! number of threads. Mean and variance are what is saved; `1 / sqrt(variance + eps)` is cheap to form again, and so the running
//! statistics of inference go through the same [`batch_norm_apply`].
//!
//! As in PyTorch, the running variance is the unbiased one, `momentum` weighs the new value, and with one row its
//! variance counts as zero.

use nd_core::autograd::Accumulate;

use super::partials::{MergeSums, Merges, Sum, block_rows, blocks, two_blocks};
use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate, same_length};
use crate::elementwise::{accumulate, whole_rows};
use crate::lanes::{Lanes, SimdReal};
use crate::map::{Binary, Ternary, Unary, map_unary, update_binary, update_unary};
use crate::tree;

/// The constants of a batch norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub eps: f64,
    /// The weight of the batch in the running statistics.
    pub momentum: f64,
}

impl Default for BatchNorm {
    fn default() -> Self {
        Self {
            eps: 1e-5,
            momentum: 0.1,
        }
    }
}

/// The elements of scratch memory that [`batch_moments`] and the backward passes need.
#[must_use]
pub fn batch_norm_scratch(rows: usize, cols: usize) -> usize {
    2 * cols * blocks(rows, cols)
}

/// Vectors side by side in a strip of columns.
const STRIP: usize = 4;

/// Calls `$body` for every strip of columns: `STRIP` whole vectors while they last, then single vectors, the last of
/// them partial. `$c` is the first column, `$W` the vectors, `$width` the columns.
macro_rules! for_each_strip {
    ($S:ident, $R:ident, $cols:expr, |$c:ident, $width:ident| $body:ident ( $($arg:expr),* )) => {{
        let lanes = Lanes::<$S, $R>::LEN;
        let mut $c = 0;
        while $c + STRIP * lanes <= $cols {
            let $width = STRIP * lanes;
            $body::<STRIP, $S, $R>($($arg),*);
            $c += $width;
        }
        while $c < $cols {
            let $width = lanes.min($cols - $c);
            $body::<1, $S, $R>($($arg),*);
            $c += $width;
        }
    }};
}

/// Loads `W` vectors from the start of `row`; a shorter row fills the lanes that are left with zeros.
#[inline(always)]
fn load<const W: usize, S: Isa, R: SimdReal>(simd: S, row: &[R]) -> [Lanes<S, R>; W] {
    let lanes = Lanes::<S, R>::LEN;
    if row.len() >= W * lanes {
        let (vectors, _) = R::split::<S>(&row[..W * lanes]);
        std::array::from_fn(|i| Lanes::from_raw(simd, vectors[i]))
    } else {
        // Only the last strip is partial, and it is one vector wide.
        [Lanes::load_partial(simd, row); W]
    }
}

#[inline(always)]
fn store<const W: usize, S: Isa, R: SimdReal>(values: [Lanes<S, R>; W], row: &mut [R]) {
    let lanes = Lanes::<S, R>::LEN;
    if row.len() >= W * lanes {
        let (vectors, _) = R::split_mut::<S>(&mut row[..W * lanes]);
        for i in 0..W {
            vectors[i] = values[i].raw();
        }
    } else {
        values[0].store_partial(row);
    }
}

/// Mean and sum of squared deviations of each column of one block: `out` is `[2, cols]`.
struct BlockMoments<'a, R> {
    x: &'a [R],
    cols: usize,
    out: &'a mut [R],
}

impl<R: SimdReal> Kernel for BlockMoments<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self { x, cols, out } = self;
        let (means, squares) = out.split_at_mut(cols);
        for_each_strip!(S, R, cols, |c, width| strip_moments(
            simd,
            x,
            cols,
            c,
            &mut means[c..c + width],
            &mut squares[c..c + width]
        ));
    }
}

#[inline(always)]
fn strip_moments<const W: usize, S: Isa, R: SimdReal>(
    simd: S,
    x: &[R],
    cols: usize,
    c: usize,
    means: &mut [R],
    squares: &mut [R],
) {
    let width = means.len();
    let zero = Lanes::<S, R>::zero(simd);
    let share = R::ONE / R::from_usize(x.len() / cols);
    let mut sum = [zero; W];
    for row in x.chunks_exact(cols) {
        let v = load::<W, S, R>(simd, &row[c..c + width]);
        for i in 0..W {
            sum[i] += v[i];
        }
    }
    let center = sum.map(|sum| sum * share);
    let mut deviation = [zero; W];
    let mut square = [zero; W];
    for row in x.chunks_exact(cols) {
        let v = load::<W, S, R>(simd, &row[c..c + width]);
        for i in 0..W {
            let d = v[i] - center[i];
            deviation[i] += d;
            square[i] = d.mul_add(d, square[i]);
        }
    }
    // What the rounded center left over corrects both.
    let mut mean = [zero; W];
    for i in 0..W {
        let left_over = deviation[i] * share;
        mean[i] = center[i] + left_over;
        // NaN is the second operand and stays.
        square[i] = zero.larger_of(square[i] - deviation[i] * left_over);
    }
    store(mean, means);
    store(square, squares);
}

/// Merges the blocks' moments in a tree and leaves mean and population variance.
struct MergeMoments<'a, R> {
    partials: &'a mut [R],
    rows: usize,
    mean: &'a mut [R],
    variance: &'a mut [R],
}

impl<R: SimdReal> Kernel for MergeMoments<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self {
            partials,
            rows,
            mean,
            variance,
        } = self;
        let cols = mean.len();
        let block = block_rows(cols);
        for merge in Merges::new(blocks(rows, cols)) {
            let (left, right) = two_blocks(partials, 2 * cols, merge.left, merge.right);
            let (left_mean, left_square) = left.split_at_mut(cols);
            let (right_mean, right_square) = right.split_at_mut(cols);
            let left_rows = (merge.right - merge.left) * block;
            let right_rows = rows.min(merge.end * block) - merge.right * block;
            let share = right_rows as f64 / (left_rows + right_rows) as f64;
            // The deviations first: they need both means.
            let squares = MergeSquares {
                weight: left_rows as f64 * share,
            };
            update_binary(simd, squares, left_mean, right_mean, right_square);
            update_unary(simd, Sum, right_square, left_square);
            update_unary(simd, MergeMeans { share }, right_mean, left_mean);
        }
        mean.copy_from_slice(&partials[..cols]);
        let share = 1.0 / rows as f64;
        map_unary::<false, S, R>(simd, Scale(share), &partials[cols..2 * cols], variance);
    }
}

/// `b + share-weighted (mean_b - mean_a)^2`
#[derive(Clone, Copy)]
struct MergeSquares {
    weight: f64,
}

impl Ternary for MergeSquares {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(
        self,
        left_mean: Lanes<S, R>,
        right_mean: Lanes<S, R>,
        square: Lanes<S, R>,
    ) -> Lanes<S, R> {
        let delta = right_mean - left_mean;
        (delta * delta).mul_add(delta.constant(R::from_f64(self.weight)), square)
    }
}

/// `left + (right - left) share`
#[derive(Clone, Copy)]
struct MergeMeans {
    share: f64,
}

impl Binary for MergeMeans {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, right: Lanes<S, R>, left: Lanes<S, R>) -> Lanes<S, R> {
        (right - left).mul_add(left.constant(R::from_f64(self.share)), left)
    }
}

#[derive(Clone, Copy)]
struct Scale(f64);

impl Unary for Scale {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
        x * R::from_f64(self.0)
    }
}

instantiate! {
    /// Mean and population variance of each column of `x`, `[rows, cols]` with `cols = mean.len()`.
    ///
    /// `scratch` has [`batch_norm_scratch`] elements. With `parallel` the blocks of rows are computed on the threads of the
    /// current rayon pool; the bits do not depend on it.
    ///
    /// # Panics
    /// The lengths do not fit, there is no row, or the machine lacks the level.
    pub fn batch_moments<R>(
        level: SimdLevel,
        parallel: bool,
        x: &[R],
        mean: &mut [R],
        variance: &mut [R],
        scratch: &mut [R],
    )
    {
        whole_rows("x", x.len(), "mean", mean.len());
        same_length("mean", mean.len(), "variance", variance.len());
        assert!(!x.is_empty() || mean.is_empty(), "batch norm needs at least one row");
        let needed = batch_norm_scratch(x.len() / mean.len().max(1), mean.len());
        same_length("scratch", scratch.len(), "batch_norm_scratch(rows, cols)", needed);
    }
    then {
        let cols = mean.len();
        if cols == 0 {
            return;
        }
        let (rows, block) = (x.len() / cols, block_rows(cols));
        tree::for_each_block(
            (x, &mut *scratch),
            rows,
            block,
            parallel,
            &|(x, partials): (&[R], &mut [R]), at| {
                let (x_left, x_right) = x.split_at(at * cols);
                let (left, right) = partials.split_at_mut(at / block * 2 * cols);
                ((x_left, left), (x_right, right))
            },
            &|(x, partials)| {
                let blocks = x.chunks(block * cols).zip(partials.chunks_exact_mut(2 * cols));
                for (x, out) in blocks {
                    dispatch(level, BlockMoments { x, cols, out });
                }
            },
        );
        dispatch(level, MergeMoments { partials: scratch, rows, mean, variance });
    }
}

struct Apply<'a, R> {
    saved: BatchNormSaved<'a, R>,
    bias: &'a [R],
    x: &'a [R],
    y: &'a mut [R],
}

impl<R: SimdReal> Kernel for Apply<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self { saved, bias, x, y } = self;
        let cols = bias.len();
        for_each_strip!(S, R, cols, |c, width| apply_strip(
            simd, saved, bias, x, y, c, width
        ));
    }
}

#[inline(always)]
fn apply_strip<const W: usize, S: Isa, R: SimdReal>(
    simd: S,
    saved: BatchNormSaved<'_, R>,
    bias: &[R],
    x: &[R],
    y: &mut [R],
    c: usize,
    width: usize,
) {
    let cols = bias.len();
    let [mean, _, slope] = saved.strip::<W, S>(simd, c, width);
    let bias = load::<W, S, R>(simd, &bias[c..c + width]);
    for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
        let v = load::<W, S, R>(simd, &x[c..c + width]);
        let mut out = [Lanes::<S, R>::zero(simd); W];
        for i in 0..W {
            out[i] = (v[i] - mean[i]).mul_add(slope[i], bias[i]);
        }
        store(out, &mut y[c..c + width]);
    }
}

/// What the forward pass of a batch norm leaves for the backward pass, beside its input.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormSaved<'a, R> {
    /// Added to the variance.
    pub eps: f64,
    /// The mean of each column that was subtracted.
    pub mean: &'a [R],
    /// The population variance of each column that was divided by.
    pub variance: &'a [R],
    /// The gain of each column.
    pub gain: &'a [R],
}

impl<R: SimdReal> BatchNormSaved<'_, R> {
    /// Mean, `1 / sqrt(variance + eps)`, and that times the gain, of one strip of columns.
    #[inline(always)]
    fn strip<const W: usize, S: Isa>(
        &self,
        simd: S,
        c: usize,
        width: usize,
    ) -> [[Lanes<S, R>; W]; 3] {
        let mean = load::<W, S, R>(simd, &self.mean[c..c + width]);
        let variance = load::<W, S, R>(simd, &self.variance[c..c + width]);
        let gain = load::<W, S, R>(simd, &self.gain[c..c + width]);
        let mut rstd = [Lanes::<S, R>::zero(simd); W];
        let mut slope = rstd;
        for i in 0..W {
            let one = Lanes::<S, R>::splat(simd, R::ONE);
            rstd[i] = one / (variance[i] + R::from_f64(self.eps)).sqrt();
            slope[i] = rstd[i] * gain[i];
        }
        [mean, rstd, slope]
    }

    #[inline]
    #[track_caller]
    fn check(&self, cols: usize) {
        same_length("mean", self.mean.len(), "gain", cols);
        same_length("variance", self.variance.len(), "gain", cols);
        same_length("gain", self.gain.len(), "gain", cols);
    }
}

instantiate! {
    /// `y = (x - mean) / sqrt(variance + eps) gain + bias`, column by column, with statistics of the batch (training) or running ones.
    ///
    /// # Panics
    /// The lengths do not fit, or the machine lacks the level.
    pub fn batch_norm_apply<R>(
        level: SimdLevel,
        parallel: bool,
        saved: BatchNormSaved<'_, R>,
        bias: &[R],
        x: &[R],
        y: &mut [R],
    )
    {
        saved.check(bias.len());
        same_length("x", x.len(), "y", y.len());
        whole_rows("x", x.len(), "bias", bias.len());
    }
    then {
        let cols = bias.len();
        if cols == 0 {
            return;
        }
        tree::for_each_block(
            (x, y),
            x.len() / cols,
            block_rows(cols),
            parallel,
            &|(x, y): (&[R], &mut [R]), at| {
                let (x_left, x_right) = x.split_at(at * cols);
                let (y_left, y_right) = y.split_at_mut(at * cols);
                ((x_left, y_left), (x_right, y_right))
            },
            &|(x, y)| dispatch(level, Apply { saved, bias, x, y }),
        );
    }
}

/// Moves the running statistics towards those of a batch of `rows` rows: `running += momentum (new - running)`, the variance with
/// `rows - 1` in its denominator.
///
/// # Panics
/// The lengths differ.
#[track_caller]
pub fn update_running_moments<R: SimdReal>(
    config: BatchNorm,
    rows: usize,
    mean: &[R],
    variance: &[R],
    running_mean: &mut [R],
    running_variance: &mut [R],
) {
    same_length("mean", mean.len(), "running_mean", running_mean.len());
    same_length(
        "variance",
        variance.len(),
        "running_variance",
        running_variance.len(),
    );
    let momentum = R::from_f64(config.momentum);
    let unbiased = R::from_f64(rows as f64 / rows.saturating_sub(1).max(1) as f64);
    for (running, &new) in running_mean.iter_mut().zip(mean) {
        *running += momentum * (new - *running);
    }
    for (running, &new) in running_variance.iter_mut().zip(variance) {
        *running += momentum * (new * unbiased - *running);
    }
}

mod backward;
mod half;

pub use backward::{batch_norm_backward, batch_norm_frozen_backward};
pub(crate) use half::{
    HalfInputGradient, batch_moments_half, batch_norm_apply_half, batch_norm_backward_half, fits,
};

#[cfg(test)]
mod tests;
