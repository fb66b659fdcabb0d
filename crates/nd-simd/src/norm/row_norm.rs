//! What layer norm and RMS norm share: statistics of a row, and gradients of gain and bias over rows.
//!
//! A row is read three times (mean, deviations, output) and stays in the first-level cache meanwhile. Each of the three waits for the
//! result of the one before, so up to sixteen short rows take each together. Sums over a row
//! longer than [`chain_block`] are cut there, and the pieces' sums are added in f64.

use nd_core::autograd::Accumulate;

use super::partials::{MergeSums, block_rows, blocks};
use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, same_length};
use crate::elementwise::{accumulate, whole_rows};
use crate::lanes::{LaneMask, Lanes, SimdReal};
use crate::map::{Unary, map_in_place};
use crate::reduce::{CHAIN, chain_block};
use crate::tree;

/// The elements of scratch memory for the backward pass over `[rows, cols]`.
pub(super) fn scratch(rows: usize, cols: usize) -> usize {
    2 * cols * blocks(rows, cols)
}

/// Whether the mean is subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Center {
    Mean,
    Zero,
}

/// Rows that take each step together.
const GROUP: usize = 16;

/// Elements of a group of several rows: what the first cache level holds beside its results.
const GROUP_ELEMENTS: usize = 4096;

/// Running sums of a row: additions wait for each other, loads do not.
const SUMS: usize = 4;

/// The sum of a row.
#[inline(always)]
fn row_sum<S: Isa, R: SimdReal>(simd: S, row: &[R]) -> R {
    let most = chain_block::<S, R>(SUMS);
    if row.len() <= most {
        return piece_sum(simd, row);
    }
    let pieces = row.chunks(most);
    R::from_f64(pieces.map(|piece| piece_sum(simd, piece).to_f64()).sum())
}

#[inline(always)]
fn piece_sum<S: Isa, R: SimdReal>(simd: S, row: &[R]) -> R {
    let (full, rest) = R::split::<S>(row);
    let mut sums = [Lanes::<S, R>::zero(simd); SUMS];
    let (groups, singles) = full.as_chunks::<SUMS>();
    for group in groups {
        for i in 0..SUMS {
            sums[i] += Lanes::from_raw(simd, group[i]);
        }
    }
    for &x in singles {
        sums[0] += Lanes::from_raw(simd, x);
    }
    if !rest.is_empty() {
        sums[1] += Lanes::load_partial(simd, rest);
    }
    ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum()
}

/// `sum (x - center)^2`
#[inline(always)]
fn squared_deviations<S: Isa, R: SimdReal>(simd: S, row: &[R], center: R) -> R {
    let center = Lanes::<S, R>::splat(simd, center);
    let most = chain_block::<S, R>(SUMS);
    if row.len() <= most {
        return piece_deviations(simd, row, center);
    }
    let mut total = 0.0;
    for piece in row.chunks(most) {
        total += piece_deviations(simd, piece, center).to_f64();
    }
    R::from_f64(total)
}

#[inline(always)]
fn piece_deviations<S: Isa, R: SimdReal>(simd: S, row: &[R], center: Lanes<S, R>) -> R {
    let (full, rest) = R::split::<S>(row);
    let mut sums = [Lanes::<S, R>::zero(simd); SUMS];
    let (groups, singles) = full.as_chunks::<SUMS>();
    for group in groups {
        for i in 0..SUMS {
            let d = Lanes::from_raw(simd, group[i]) - center;
            sums[i] = d.mul_add(d, sums[i]);
        }
    }
    for &x in singles {
        let d = Lanes::from_raw(simd, x) - center;
        sums[0] = d.mul_add(d, sums[0]);
    }
    if !rest.is_empty() {
        let mask = LaneMask::first(simd, rest.len());
        let d = mask.or_zero(Lanes::load_partial(simd, rest) - center);
        sums[1] = d.mul_add(d, sums[1]);
    }
    ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum()
}

/// A mean from a sum.
#[derive(Clone, Copy)]
struct Share {
    count: usize,
}

impl Unary for Share {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, sum: Lanes<S, R>) -> Lanes<S, R> {
        sum * (R::ONE / R::from_usize(self.count))
    }
}

/// `1 / sqrt(variance + eps)` from the sum of squared deviations.
#[derive(Clone, Copy)]
struct InverseDeviation {
    count: usize,
    eps: f64,
}

impl Unary for InverseDeviation {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, sum: Lanes<S, R>) -> Lanes<S, R> {
        let variance = sum * (R::ONE / R::from_usize(self.count));
        let deviation = (variance + sum.constant(R::from_f64(self.eps))).sqrt();
        sum.constant(R::ONE) / deviation
    }
}

pub(super) struct Forward<'a, R> {
    pub(super) center: Center,
    pub(super) eps: f64,
    pub(super) x: &'a [R],
    pub(super) gain: &'a [R],
    pub(super) bias: Option<&'a [R]>,
    pub(super) y: &'a mut [R],
    /// One per row; empty when the mean is not subtracted.
    pub(super) mean: &'a mut [R],
    pub(super) rstd: &'a mut [R],
}

impl<R: SimdReal> Kernel for Forward<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self {
            center,
            eps,
            x,
            gain,
            bias,
            y,
            mean,
            rstd,
        } = self;
        let cols = gain.len();
        let group = (GROUP_ELEMENTS / cols).clamp(1, GROUP);
        for first in (0..rstd.len()).step_by(group) {
            let last = rstd.len().min(first + group);
            let x = &x[first * cols..last * cols];
            let y = &mut y[first * cols..last * cols];
            let rstd = &mut rstd[first..last];
            let mut middle = [R::ZERO; GROUP];
            if center == Center::Mean {
                let mean = &mut mean[first..last];
                for (x, sum) in x.chunks_exact(cols).zip(&mut *mean) {
                    *sum = row_sum(simd, x);
                }
                map_in_place::<S, R>(simd, Share { count: cols }, mean);
                middle[..mean.len()].copy_from_slice(mean);
            }
            for ((x, &middle), sum) in x.chunks_exact(cols).zip(&middle).zip(&mut *rstd) {
                *sum = squared_deviations(simd, x, middle);
            }
            map_in_place::<S, R>(simd, InverseDeviation { count: cols, eps }, rstd);
            let rows = x.chunks_exact(cols).zip(y.chunks_exact_mut(cols));
            for ((x, y), (&middle, &rstd)) in rows.zip(middle.iter().zip(&*rstd)) {
                let middle = Lanes::<S, R>::splat(simd, middle);
                let scale = Lanes::<S, R>::splat(simd, rstd);
                match bias {
                    Some(bias) => row_affine::<true, S, R>(simd, x, middle, scale, gain, bias, y),
                    None => row_affine::<false, S, R>(simd, x, middle, scale, gain, gain, y),
                }
            }
        }
    }
}

/// `y = (x - middle) scale gain + bias`, the bias left out when `BIAS` is false.
#[inline(always)]
fn row_affine<const BIAS: bool, S: Isa, R: SimdReal>(
    simd: S,
    x: &[R],
    middle: Lanes<S, R>,
    scale: Lanes<S, R>,
    gain: &[R],
    bias: &[R],
    y: &mut [R],
) {
    let lane = |x| Lanes::<S, R>::from_raw(simd, x);
    let (x_full, x_rest) = R::split::<S>(x);
    let (gain_full, gain_rest) = R::split::<S>(gain);
    let (bias_full, bias_rest) = R::split::<S>(bias);
    let (y_full, y_rest) = R::split_mut::<S>(y);
    for (((&x, &gain), &bias), y) in x_full.iter().zip(gain_full).zip(bias_full).zip(y_full) {
        let x_hat = (lane(x) - middle) * scale;
        *y = if BIAS {
            x_hat.mul_add(lane(gain), lane(bias))
        } else {
            x_hat * lane(gain)
        }
        .raw();
    }
    if !x_rest.is_empty() {
        let x_hat = (Lanes::load_partial(simd, x_rest) - middle) * scale;
        let gain = Lanes::load_partial(simd, gain_rest);
        let y = if BIAS {
            x_hat.mul_add(gain, Lanes::load_partial(simd, bias_rest))
        } else {
            x_hat * gain
        };
        y.store_partial(y_rest);
    }
}

/// The backward pass of one block of rows: `dx`, and the block's sums `dy x_hat` and `dy` in `out`, `[2, cols]`.
struct BlockBackward<'a, R> {
    center: Center,
    x: &'a [R],
    gain: &'a [R],
    mean: &'a [R],
    rstd: &'a [R],
    dy: &'a [R],
    dx: Option<(&'a mut [R], Accumulate)>,
    out: &'a mut [R],
}

impl<R: SimdReal> Kernel for BlockBackward<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self {
            center,
            x,
            gain,
            mean,
            rstd,
            dy,
            mut dx,
            out,
        } = self;
        let cols = gain.len();
        out.fill(R::ZERO);
        let (gains, biases) = out.split_at_mut(cols);
        let rows = Rows {
            x,
            dy,
            gain,
            mean: if center == Center::Mean { mean } else { &[] },
            rstd,
        };
        let share = R::ONE / R::from_usize(cols);
        let group = (GROUP_ELEMENTS / cols).clamp(1, GROUP);
        for first in (0..rstd.len()).step_by(group) {
            let last = rstd.len().min(first + group);
            // The means of `dy gain` and of `dy gain x_hat`.
            let mut means = [(R::ZERO, R::ZERO); GROUP];
            for (r, means) in (first..last).zip(&mut means) {
                let (sum_g, sum_gx) = rows.row(simd, r).sums(simd, gains, biases);
                if center == Center::Mean {
                    means.0 = sum_g * share;
                }
                means.1 = sum_gx * share;
            }
            let Some((dx, acc)) = &mut dx else {
                continue;
            };
            for (r, (mean_g, mean_gx)) in (first..last).zip(means) {
                let dx = &mut dx[r * cols..][..cols];
                let (mean_g, mean_gx) = (Lanes::splat(simd, mean_g), Lanes::splat(simd, mean_gx));
                let row = rows.row(simd, r);
                match acc {
                    Accumulate::Write => row.input_gradient::<false>(simd, mean_g, mean_gx, dx),
                    Accumulate::Add => row.input_gradient::<true>(simd, mean_g, mean_gx, dx),
                }
            }
        }
    }
}

/// The rows of a block and their statistics; no means where none is subtracted.
struct Rows<'a, R> {
    x: &'a [R],
    dy: &'a [R],
    gain: &'a [R],
    mean: &'a [R],
    rstd: &'a [R],
}

impl<'a, R: SimdReal> Rows<'a, R> {
    #[inline(always)]
    fn row<S: Isa>(&self, simd: S, r: usize) -> Row<'a, S, R> {
        let cols = self.gain.len();
        let middle = self.mean.get(r).copied().unwrap_or(R::ZERO);
        Row {
            x: &self.x[r * cols..][..cols],
            dy: &self.dy[r * cols..][..cols],
            gain: self.gain,
            middle: Lanes::splat(simd, middle),
            rstd: Lanes::splat(simd, self.rstd[r]),
        }
    }
}

struct Row<'a, S: Isa, R: SimdReal> {
    x: &'a [R],
    dy: &'a [R],
    gain: &'a [R],
    middle: Lanes<S, R>,
    rstd: Lanes<S, R>,
}

impl<S: Isa, R: SimdReal> Row<'_, S, R> {
    /// Adds the row to the sums over rows; returns `sum dy gain` and `sum dy gain x_hat` over the row.
    #[inline(always)]
    fn sums(&self, simd: S, gains: &mut [R], biases: &mut [R]) -> (R, R) {
        let lane = |x| Lanes::<S, R>::from_raw(simd, x);
        let (x_full, x_rest) = R::split::<S>(self.x);
        let (dy_full, dy_rest) = R::split::<S>(self.dy);
        let (gain_full, gain_rest) = R::split::<S>(self.gain);
        let (gains_full, gains_rest) = R::split_mut::<S>(gains);
        let (biases_full, biases_rest) = R::split_mut::<S>(biases);
        let zero = Lanes::<S, R>::zero(simd);
        let (mut sum_g, mut sum_gx) = (zero, zero);
        let mut totals = (0.0, 0.0);
        for i in 0..x_full.len() {
            if i % CHAIN == 0 && i > 0 {
                totals.0 += sum_g.sum().to_f64();
                totals.1 += sum_gx.sum().to_f64();
                (sum_g, sum_gx) = (zero, zero);
            }
            let (x_hat, dy) = (
                (lane(x_full[i]) - self.middle) * self.rstd,
                lane(dy_full[i]),
            );
            let g = dy * lane(gain_full[i]);
            sum_g += g;
            sum_gx = g.mul_add(x_hat, sum_gx);
            gains_full[i] = dy.mul_add(x_hat, lane(gains_full[i])).raw();
            biases_full[i] = (lane(biases_full[i]) + dy).raw();
        }
        if !x_rest.is_empty() {
            // Loads give zeros beyond the row, so dy and g add nothing there.
            let x_hat = (Lanes::load_partial(simd, x_rest) - self.middle) * self.rstd;
            let x_hat = LaneMask::first(simd, x_rest.len()).or_zero(x_hat);
            let dy = Lanes::<S, R>::load_partial(simd, dy_rest);
            let g = dy * Lanes::load_partial(simd, gain_rest);
            sum_g += g;
            sum_gx = g.mul_add(x_hat, sum_gx);
            dy.mul_add(x_hat, Lanes::load_partial(simd, gains_rest))
                .store_partial(gains_rest);
            (Lanes::load_partial(simd, biases_rest) + dy).store_partial(biases_rest);
        }
        let (sum_g, sum_gx) = (sum_g.sum().to_f64(), sum_gx.sum().to_f64());
        (
            R::from_f64(totals.0 + sum_g),
            R::from_f64(totals.1 + sum_gx),
        )
    }

    /// `dx (+)= rstd (dy gain - mean_g - x_hat mean_gx)`
    #[inline(always)]
    fn input_gradient<const ADD: bool>(
        &self,
        simd: S,
        mean_g: Lanes<S, R>,
        mean_gx: Lanes<S, R>,
        dx: &mut [R],
    ) {
        let lane = |x| Lanes::<S, R>::from_raw(simd, x);
        let (x_full, x_rest) = R::split::<S>(self.x);
        let (dy_full, dy_rest) = R::split::<S>(self.dy);
        let (gain_full, gain_rest) = R::split::<S>(self.gain);
        let (dx_full, dx_rest) = R::split_mut::<S>(dx);
        for (((&x, &dy), &gain), dx) in x_full.iter().zip(dy_full).zip(gain_full).zip(dx_full) {
            let value = self.gradient(lane(x), lane(dy), lane(gain), mean_g, mean_gx);
            *dx = if ADD { lane(*dx) + value } else { value }.raw();
        }
        if !x_rest.is_empty() {
            let value = self.gradient(
                Lanes::load_partial(simd, x_rest),
                Lanes::load_partial(simd, dy_rest),
                Lanes::load_partial(simd, gain_rest),
                mean_g,
                mean_gx,
            );
            let value = if ADD {
                Lanes::load_partial(simd, dx_rest) + value
            } else {
                value
            };
            value.store_partial(dx_rest);
        }
    }

    #[inline(always)]
    fn gradient(
        &self,
        x: Lanes<S, R>,
        dy: Lanes<S, R>,
        gain: Lanes<S, R>,
        mean_g: Lanes<S, R>,
        mean_gx: Lanes<S, R>,
    ) -> Lanes<S, R> {
        let x_hat = (x - self.middle) * self.rstd;
        (dy * gain - mean_g - x_hat * mean_gx) * self.rstd
    }
}

/// The arguments of a backward pass over all rows.
pub(super) struct Backward<'a, R> {
    pub(super) center: Center,
    pub(super) x: &'a [R],
    pub(super) gain: &'a [R],
    pub(super) mean: &'a [R],
    pub(super) rstd: &'a [R],
    pub(super) dy: &'a [R],
    pub(super) dx: Option<(&'a mut [R], Accumulate)>,
    pub(super) dgain: Option<(&'a mut [R], Accumulate)>,
    pub(super) dbias: Option<(&'a mut [R], Accumulate)>,
    pub(super) scratch: &'a mut [R],
}

impl<R: SimdReal> Backward<'_, R> {
    #[track_caller]
    pub(super) fn check(&self) {
        let cols = self.gain.len();
        whole_rows("x", self.x.len(), "gain", cols);
        same_length("x", self.x.len(), "dy", self.dy.len());
        let rows = self.x.len() / cols.max(1);
        same_length("rstd", self.rstd.len(), "rows", rows);
        if self.center == Center::Mean {
            same_length("mean", self.mean.len(), "rows", rows);
        }
        if let Some((dx, _)) = &self.dx {
            same_length("x", self.x.len(), "dx", dx.len());
        }
        for slot in [&self.dgain, &self.dbias].into_iter().flatten() {
            same_length("gain", cols, "dgain or dbias", slot.0.len());
        }
        same_length(
            "scratch",
            self.scratch.len(),
            "norm scratch",
            scratch(rows, cols),
        );
    }

    #[inline(always)]
    pub(super) fn run(self, level: SimdLevel, parallel: bool) {
        let Self {
            center,
            x,
            gain,
            mean,
            rstd,
            dy,
            dx,
            dgain,
            dbias,
            scratch,
        } = self;
        let cols = gain.len();
        if x.is_empty() {
            for (slot, acc) in [dgain, dbias].into_iter().flatten() {
                if acc == Accumulate::Write {
                    slot.fill(R::ZERO);
                }
            }
            return;
        }
        let block = block_rows(cols);
        struct Piece<'a, R> {
            x: &'a [R],
            mean: &'a [R],
            rstd: &'a [R],
            dy: &'a [R],
            dx: Option<(&'a mut [R], Accumulate)>,
            partials: &'a mut [R],
        }
        tree::for_each_block(
            Piece {
                x,
                mean,
                rstd,
                dy,
                dx,
                partials: &mut *scratch,
            },
            x.len() / cols,
            block,
            parallel,
            &|piece: Piece<'_, R>, at| {
                let (x, x_right) = piece.x.split_at(at * cols);
                let (mean, mean_right) = piece.mean.split_at(at.min(piece.mean.len()));
                let (rstd, rstd_right) = piece.rstd.split_at(at);
                let (dy, dy_right) = piece.dy.split_at(at * cols);
                let (dx, dx_right) = match piece.dx {
                    Some((dx, acc)) => {
                        let (left, right) = dx.split_at_mut(at * cols);
                        (Some((left, acc)), Some((right, acc)))
                    }
                    None => (None, None),
                };
                let (partials, partials_right) = piece.partials.split_at_mut(at / block * 2 * cols);
                (
                    Piece {
                        x,
                        mean,
                        rstd,
                        dy,
                        dx,
                        partials,
                    },
                    Piece {
                        x: x_right,
                        mean: mean_right,
                        rstd: rstd_right,
                        dy: dy_right,
                        dx: dx_right,
                        partials: partials_right,
                    },
                )
            },
            &|piece: Piece<'_, R>| {
                let mut dx = piece.dx;
                for (b, out) in piece.partials.chunks_exact_mut(2 * cols).enumerate() {
                    let rows = b * block..piece.rstd.len().min((b + 1) * block);
                    let elements = rows.start * cols..rows.end * cols;
                    let kernel = BlockBackward {
                        center,
                        x: &piece.x[elements.clone()],
                        gain,
                        mean: if center == Center::Mean {
                            &piece.mean[rows.clone()]
                        } else {
                            &[]
                        },
                        rstd: &piece.rstd[rows],
                        dy: &piece.dy[elements.clone()],
                        dx: dx.as_mut().map(|(dx, acc)| (&mut dx[elements], *acc)),
                        out,
                    };
                    dispatch(level, kernel);
                }
            },
        );
        dispatch(
            level,
            MergeSums {
                partials: scratch,
                width: 2 * cols,
            },
        );
        let (gains, biases) = scratch[..2 * cols].split_at(cols);
        if let Some((dgain, acc)) = dgain {
            accumulate(level, gains, dgain, acc);
        }
        if let Some((dbias, acc)) = dbias {
            accumulate(level, biases, dbias, acc);
        }
    }
}
