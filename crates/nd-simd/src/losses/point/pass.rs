//! One pass over targets and predictions: the sum of the losses, and the gradient where there is memory for it.
//!
//! In its simple form: a loop that adds `w loss(y, y_hat)`. Without weights none are read, so that an unweighted loss costs two
//! streams of memory and not three. Eight running sums hide the latency of additions; a block of them ends before rounding
//! tells, and the blocks are added in f64.

use super::functions::{LossFunction, Terms};
use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch};
use crate::lanes::{LaneMask, Lanes, SimdReal};
use crate::map::{Unary, map_unary};
use crate::reduce::chain_block;

/// The most entries that are summed in the element type; fewer where vectors are short.
const BLOCK: usize = 4096;

/// Running sums of a block: additions wait for each other, loads do not.
const SUMS: usize = 8;

pub(super) struct LossKernel<'a, F, R> {
    pub(super) loss: F,
    pub(super) y: &'a [R],
    pub(super) y_hat: &'a [R],
    pub(super) weight: Option<&'a [R]>,
    pub(super) grad: Option<&'a mut [R]>,
    pub(super) grad_scale: R,
}

impl<F: LossFunction, R: SimdReal> Kernel for LossKernel<'_, F, R> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) -> f64 {
        let Self {
            loss,
            y,
            y_hat,
            weight,
            grad,
            grad_scale,
        } = self;
        let entry = Entry {
            loss,
            grad_scale: Lanes::<S, R>::splat(simd, grad_scale),
        };
        match (weight, grad) {
            (None, None) => pass::<false, false, S, R>(simd, entry, y, y_hat, &[], &mut []),
            (None, Some(grad)) => pass::<false, true, S, R>(simd, entry, y, y_hat, &[], grad),
            (Some(w), None) => pass::<true, false, S, R>(simd, entry, y, y_hat, w, &mut []),
            (Some(w), Some(grad)) => pass::<true, true, S, R>(simd, entry, y, y_hat, w, grad),
        }
    }
}

/// A loss, and what its gradient is multiplied by.
#[derive(Clone, Copy)]
struct Entry<F, S: Isa, R: SimdReal> {
    loss: F,
    grad_scale: Lanes<S, R>,
}

/// `sum + factor rest`, or without a weight `sum`; and the gradient.
#[inline(always)]
pub(in crate::losses) fn weigh<S: Isa, R: SimdReal>(
    Terms {
        factor,
        rest,
        slope,
    }: Terms<S, R>,
    weight: Lanes<S, R>,
    grad_scale: Lanes<S, R>,
    sum: Lanes<S, R>,
) -> (Lanes<S, R>, Lanes<S, R>) {
    // Whatever the entry holds, NaN too, a weight of zero adds exactly zero.
    let counts = !weight.equal(weight.constant(R::ZERO));
    (
        counts.select((factor * weight).mul_add(rest, sum), sum),
        counts.or_zero(slope * weight * grad_scale),
    )
}

impl<F: LossFunction, S: Isa, R: SimdReal> Entry<F, S, R> {
    /// `sum` with the losses of a vector, and the gradient.
    #[inline(always)]
    fn add<const WEIGHTED: bool>(
        &self,
        y: Lanes<S, R>,
        y_hat: Lanes<S, R>,
        weight: Lanes<S, R>,
        sum: Lanes<S, R>,
    ) -> (Lanes<S, R>, Lanes<S, R>) {
        let terms = self.loss.apply(y, y_hat);
        if WEIGHTED {
            weigh(terms, weight, self.grad_scale, sum)
        } else {
            (
                terms.factor.mul_add(terms.rest, sum),
                terms.slope * self.grad_scale,
            )
        }
    }
}

/// The sum over all entries; weights and gradient are empty where they do not count.
#[inline(always)]
fn pass<const WEIGHTED: bool, const GRAD: bool, S: Isa, R: SimdReal>(
    simd: S,
    entry: Entry<impl LossFunction, S, R>,
    y: &[R],
    y_hat: &[R],
    weight: &[R],
    grad: &mut [R],
) -> f64 {
    let mut total = 0.0;
    let most = BLOCK.min(chain_block::<S, R>(SUMS));
    for start in (0..y.len()).step_by(most) {
        let block = start..y.len().min(start + most);
        let (y, y_hat) = (&y[block.clone()], &y_hat[block.clone()]);
        let weight = if WEIGHTED {
            &weight[block.clone()]
        } else {
            &[]
        };
        let grad = if GRAD { &mut grad[block] } else { &mut [] };
        let sum = block_loss::<WEIGHTED, GRAD, S, R>(simd, entry, y, y_hat, weight, grad);
        total += sum.to_f64();
    }
    total
}

#[inline(always)]
fn block_loss<const WEIGHTED: bool, const GRAD: bool, S: Isa, R: SimdReal>(
    simd: S,
    entry: Entry<impl LossFunction, S, R>,
    y: &[R],
    y_hat: &[R],
    weight: &[R],
    grad: &mut [R],
) -> R {
    let lane = |x| Lanes::<S, R>::from_raw(simd, x);
    let one = Lanes::<S, R>::splat(simd, R::ONE);
    let (y_full, y_rest) = R::split::<S>(y);
    let (y_hat_full, y_hat_rest) = R::split::<S>(y_hat);
    let (weight_full, weight_rest) = R::split::<S>(weight);
    let (grad_full, grad_rest) = R::split_mut::<S>(grad);
    let y_hat_full = &y_hat_full[..y_full.len()];
    let mut sums = [Lanes::<S, R>::zero(simd); SUMS];
    macro_rules! add {
        ($i:expr, $sum:expr) => {{
            let (y, y_hat) = (lane(y_full[$i]), lane(y_hat_full[$i]));
            let weight = if WEIGHTED { lane(weight_full[$i]) } else { one };
            let (sum, slope) = entry.add::<WEIGHTED>(y, y_hat, weight, $sum);
            $sum = sum;
            if GRAD {
                grad_full[$i] = slope.raw();
            }
        }};
    }
    let whole = y_full.len() / SUMS * SUMS;
    for i in (0..whole).step_by(SUMS) {
        for j in 0..SUMS {
            add!(i + j, sums[j]);
        }
    }
    for i in whole..y_full.len() {
        add!(i, sums[i - whole]);
    }
    if !y_rest.is_empty() {
        let (y, y_hat) = (
            Lanes::load_partial(simd, y_rest),
            Lanes::load_partial(simd, y_hat_rest),
        );
        // Weights beyond the end load as zero.
        let weight = if WEIGHTED {
            Lanes::load_partial(simd, weight_rest)
        } else {
            one
        };
        let old = sums[SUMS - 1];
        let (sum, slope) = entry.add::<WEIGHTED>(y, y_hat, weight, old);
        // What a loss gives beyond the end is its own business.
        sums[SUMS - 1] = LaneMask::first(simd, y_rest.len()).select(sum, old);
        if GRAD {
            slope.store_partial(grad_rest);
        }
    }
    let half: [_; SUMS / 2] = std::array::from_fn(|i| sums[i] + sums[i + SUMS / 2]);
    ((half[0] + half[1]) + (half[2] + half[3])).sum()
}

/// Entries of a row that are scaled at a time.
const SCALED: usize = 256;

/// A loss of rows whose targets and predictions are first multiplied by a factor of the row.
///
/// No kernel of its own: it runs those of multiplication and of the loss over pieces that stay in the first cache level, so
/// that no loss is compiled a second time.
pub(super) struct RowScaled<'a, F, R> {
    pub(super) loss: F,
    pub(super) scale: &'a [R],
    pub(super) y: &'a [R],
    pub(super) y_hat: &'a [R],
    pub(super) weight: Option<&'a [R]>,
    pub(super) grad: Option<&'a mut [R]>,
    pub(super) grad_scale: R,
}

/// `out = s x` of targets and of predictions.
struct Scale<'a, R> {
    factor: R,
    from: [&'a [R]; 2],
    to: [&'a mut [R]; 2],
}

/// `s x`
#[derive(Clone, Copy)]
struct Times<R>(R);

impl<A: SimdReal> Unary for Times<A> {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
        // `A` is `R`: through f64 without loss.
        x * R::from_f64(self.0.to_f64())
    }
}

impl<R: SimdReal> Kernel for Scale<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        for (from, to) in self.from.into_iter().zip(self.to) {
            map_unary::<false, S, R>(simd, Times(self.factor), from, to);
        }
    }
}

impl<F: LossFunction, R: SimdReal> RowScaled<'_, F, R> {
    /// The sum of all rows.
    pub(super) fn run(mut self, level: SimdLevel) -> f64 {
        let cols = self.y.len() / self.scale.len().max(1);
        let (mut y, mut y_hat) = ([R::ZERO; SCALED], [R::ZERO; SCALED]);
        let mut total = 0.0;
        for (r, &factor) in self.scale.iter().enumerate() {
            // There is nothing to compare with.
            let skip = factor == R::ZERO || !(factor.is_finite() || factor.is_nan());
            for start in (r * cols..(r + 1) * cols).step_by(SCALED) {
                let piece = start..((r + 1) * cols).min(start + SCALED);
                let grad = self.grad.as_mut().map(|grad| &mut grad[piece.clone()]);
                if skip {
                    if let Some(grad) = grad {
                        grad.fill(R::ZERO);
                    }
                    continue;
                }
                let (y, y_hat) = (&mut y[..piece.len()], &mut y_hat[..piece.len()]);
                let scale = Scale {
                    factor,
                    from: [&self.y[piece.clone()], &self.y_hat[piece.clone()]],
                    to: [y, y_hat],
                };
                dispatch(level, scale);
                let loss = LossKernel {
                    loss: self.loss,
                    y,
                    y_hat,
                    weight: self.weight.map(|weight| &weight[piece]),
                    grad,
                    grad_scale: factor * self.grad_scale,
                };
                total += dispatch(level, loss);
            }
        }
        total
    }
}
