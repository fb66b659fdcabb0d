//! Losses of one prediction per target.

use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate, same_length};
use crate::lanes::{Lanes, SimdReal};
use crate::map::{Binary, map_binary};
use crate::reduce::chain_block;

/// The most entries that are summed in the element type; fewer where vectors are short.
pub(super) const BLOCK: usize = 1024;

/// A loss of one target and one prediction: `e = y_hat - y`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum PointLoss {
    /// `|e|`
    Absolute,
    /// `e^2`
    Squared,
    /// `e^2/2` up to `delta`, `delta (|e| - delta/2)` beyond.
    Huber {
        /// Where the parabola ends.
        delta: f64,
    },
    /// `q max(-e, 0) + (1 - q) max(e, 0)`
    Quantile {
        /// The quantile, between zero and one.
        q: f64,
    },
    /// The Huber loss, weighed by `q` where `e < 0` and by `1 - q` elsewhere.
    HuberQuantile {
        /// The quantile, between zero and one.
        q: f64,
        /// Where the parabola ends.
        delta: f64,
    },
    /// `2 |e| / (|y| + |y_hat|)`, zero where both are zero.
    Smape,
    /// `|e| / |y|`, zero where `y` is zero.
    Mape,
    /// Tukey's biweight: `c^2/6 (1 - (1 - (e/c)^2)^3)` up to `c`, `c^2/6` beyond.
    Tukey {
        /// Beyond this error the loss is constant.
        c: f64,
    },
}

/// A loss of one vector: the loss and its derivative in `y_hat`.
pub(super) trait LossFunction: Copy {
    fn apply<S: Isa, R: SimdReal>(
        self,
        y: Lanes<S, R>,
        y_hat: Lanes<S, R>,
    ) -> (Lanes<S, R>, Lanes<S, R>);
}

/// The sign of `x`, zero and NaN as they are.
#[inline(always)]
fn sign<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    let zero = x.constant(R::ZERO);
    let signed = x.constant(R::ONE).copy_sign(x);
    (x.less_than(zero) | zero.less_than(x)).select(signed, x)
}

#[derive(Clone, Copy)]
struct Absolute;

impl LossFunction for Absolute {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(
        self,
        y: Lanes<S, R>,
        y_hat: Lanes<S, R>,
    ) -> (Lanes<S, R>, Lanes<S, R>) {
        let e = y_hat - y;
        (e.abs(), sign(e))
    }
}

#[derive(Clone, Copy)]
struct Squared;

impl LossFunction for Squared {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(
        self,
        y: Lanes<S, R>,
        y_hat: Lanes<S, R>,
    ) -> (Lanes<S, R>, Lanes<S, R>) {
        let e = y_hat - y;
        (e * e, e + e)
    }
}

#[derive(Clone, Copy)]
struct Huber {
    delta: f64,
}

/// `|e|` up to `delta`: the loss is `clipped (|e| - clipped/2)`, its derivative `clipped` with the sign of `e`.
#[inline(always)]
fn huber<S: Isa, R: SimdReal>(e: Lanes<S, R>, delta: f64) -> (Lanes<S, R>, Lanes<S, R>) {
    let size = e.abs();
    let clipped = e.constant(R::from_f64(delta)).smaller_of(size);
    (
        clipped * clipped.mul_add(e.constant(R::from_f64(-0.5)), size),
        clipped.copy_sign(e),
    )
}

impl LossFunction for Huber {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(
        self,
        y: Lanes<S, R>,
        y_hat: Lanes<S, R>,
    ) -> (Lanes<S, R>, Lanes<S, R>) {
        huber(y_hat - y, self.delta)
    }
}

/// The pinball loss of an error for a quantile that may differ from lane to lane. At zero its slope is the mean of both sides, as in PyTorch.
#[inline(always)]
pub(super) fn pinball<S: Isa, R: SimdReal>(
    e: Lanes<S, R>,
    q: Lanes<S, R>,
) -> (Lanes<S, R>, Lanes<S, R>) {
    let zero = e.constant(R::ZERO);
    let above = e.constant(R::ONE) - q;
    let slope = e.less_than(zero).select(-q, above);
    let slope = e
        .equal(zero)
        .select(e.constant(R::from_f64(0.5)) - q, slope);
    // NaN times the slope is NaN.
    (e * slope, e.is_nan().select(e, slope))
}

#[derive(Clone, Copy)]
struct Quantile {
    q: f64,
}

impl LossFunction for Quantile {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(
        self,
        y: Lanes<S, R>,
        y_hat: Lanes<S, R>,
    ) -> (Lanes<S, R>, Lanes<S, R>) {
        pinball(y_hat - y, y.constant(R::from_f64(self.q)))
    }
}

#[derive(Clone, Copy)]
struct HuberQuantile {
    q: f64,
    delta: f64,
}

impl LossFunction for HuberQuantile {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(
        self,
        y: Lanes<S, R>,
        y_hat: Lanes<S, R>,
    ) -> (Lanes<S, R>, Lanes<S, R>) {
        let e = y_hat - y;
        let (loss, slope) = huber(e, self.delta);
        let below = e.constant(R::from_f64(self.q));
        let above = e.constant(R::from_f64(1.0 - self.q));
        let weight = e.less_than(e.constant(R::ZERO)).select(below, above);
        (loss * weight, slope * weight)
    }
}

#[derive(Clone, Copy)]
struct Smape;

impl LossFunction for Smape {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(
        self,
        y: Lanes<S, R>,
        y_hat: Lanes<S, R>,
    ) -> (Lanes<S, R>, Lanes<S, R>) {
        let e = y_hat - y;
        let sum = y.abs() + y_hat.abs();
        let two = y.constant(R::ONE + R::ONE);
        let ratio = e.abs() / sum;
        // d/dy_hat of |e| / sum is (sign(e) - ratio sign(y_hat)) / sum.
        let slope = (sign(e) - ratio * sign(y_hat)) / sum;
        let nothing = sum.equal(y.constant(R::ZERO));
        let zero = y.constant(R::ZERO);
        (
            nothing.select(zero, two * ratio),
            nothing.select(zero, two * slope),
        )
    }
}

#[derive(Clone, Copy)]
struct Mape;

impl LossFunction for Mape {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(
        self,
        y: Lanes<S, R>,
        y_hat: Lanes<S, R>,
    ) -> (Lanes<S, R>, Lanes<S, R>) {
        let e = y_hat - y;
        let size = y.abs();
        let zero = y.constant(R::ZERO);
        // Only a finite prediction may be forgotten: 0 y_hat is NaN otherwise.
        let forgotten = y_hat * R::ZERO;
        let nothing = size.equal(zero);
        (
            nothing.select(forgotten, e.abs() / size),
            nothing.select(forgotten, sign(e) / size),
        )
    }
}

#[derive(Clone, Copy)]
struct Tukey {
    c: f64,
}

impl LossFunction for Tukey {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(
        self,
        y: Lanes<S, R>,
        y_hat: Lanes<S, R>,
    ) -> (Lanes<S, R>, Lanes<S, R>) {
        let e = y_hat - y;
        let one = y.constant(R::ONE);
        let t = e * R::from_f64(1.0 / self.c);
        // (e/c)^2 up to one; NaN is the second operand and stays.
        let square = one.smaller_of(t * t);
        let rest = one - square;
        let cube = rest * rest * rest;
        let inside = (t * t).less_than(one);
        let slope = e * rest * rest;
        let slope = (inside | e.is_nan()).or_zero(slope);
        ((one - cube) * R::from_f64(self.c * self.c / 6.0), slope)
    }
}

/// Running sums of a block: additions wait for each other, loads do not.
const SUMS: usize = 4;

pub(super) struct LossKernel<'a, F, R> {
    pub(super) loss: F,
    /// Both target and prediction are multiplied by this first.
    pub(super) scale: R,
    pub(super) y: &'a [R],
    pub(super) y_hat: &'a [R],
    pub(super) weight: &'a [R],
    pub(super) grad: Option<&'a mut [R]>,
    pub(super) grad_scale: R,
}

impl<F: LossFunction, R: SimdReal> Kernel for LossKernel<'_, F, R> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Isa>(mut self, simd: S) -> f64 {
        let mut total = 0.0;
        let most = BLOCK.min(chain_block::<S, R>(SUMS));
        for start in (0..self.y.len()).step_by(most) {
            let block = start..self.y.len().min(start + most);
            let (y, y_hat) = (&self.y[block.clone()], &self.y_hat[block.clone()]);
            let weight = &self.weight[block.clone()];
            let sum = match &mut self.grad {
                Some(grad) => block_loss::<true, S, R>(
                    simd,
                    self.loss,
                    self.scale,
                    y,
                    y_hat,
                    weight,
                    &mut grad[block],
                    self.grad_scale,
                ),
                None => block_loss::<false, S, R>(
                    simd,
                    self.loss,
                    self.scale,
                    y,
                    y_hat,
                    weight,
                    &mut [],
                    self.grad_scale,
                ),
            };
            total += sum.to_f64();
        }
        total
    }
}

/// A loss and what it is multiplied by.
struct Entry<F, S: Isa, R: SimdReal> {
    loss: F,
    scale: Lanes<S, R>,
    grad_scale: Lanes<S, R>,
}

impl<F: LossFunction, S: Isa, R: SimdReal> Entry<F, S, R> {
    /// The loss and its gradient, both weighted; zero where the weight is.
    #[inline(always)]
    fn weighted(
        &self,
        y: Lanes<S, R>,
        y_hat: Lanes<S, R>,
        weight: Lanes<S, R>,
    ) -> (Lanes<S, R>, Lanes<S, R>) {
        let counts = !weight.equal(y.constant(R::ZERO));
        let (loss, slope) = self.loss.apply(y * self.scale, y_hat * self.scale);
        (
            counts.or_zero(loss * weight),
            counts.or_zero(slope * weight * self.grad_scale),
        )
    }
}

#[allow(clippy::too_many_arguments, reason = "the inner loop of one kernel")]
#[inline(always)]
fn block_loss<const GRAD: bool, S: Isa, R: SimdReal>(
    simd: S,
    loss: impl LossFunction,
    scale: R,
    y: &[R],
    y_hat: &[R],
    weight: &[R],
    grad: &mut [R],
    grad_scale: R,
) -> R {
    let lane = |x| Lanes::<S, R>::from_raw(simd, x);
    let scale = Lanes::<S, R>::splat(simd, scale);
    let (y_full, y_rest) = R::split::<S>(y);
    let (y_hat_full, y_hat_rest) = R::split::<S>(y_hat);
    let (weight_full, weight_rest) = R::split::<S>(weight);
    let (grad_full, grad_rest) = R::split_mut::<S>(grad);
    let entry = Entry {
        loss,
        scale,
        grad_scale: scale * grad_scale,
    };
    let mut sums = [Lanes::<S, R>::zero(simd); SUMS];
    let whole = y_full.len() / SUMS * SUMS;
    for i in (0..whole).step_by(SUMS) {
        for j in 0..SUMS {
            let (y, y_hat) = (lane(y_full[i + j]), lane(y_hat_full[i + j]));
            let (term, slope) = entry.weighted(y, y_hat, lane(weight_full[i + j]));
            sums[j] += term;
            if GRAD {
                grad_full[i + j] = slope.raw();
            }
        }
    }
    for i in whole..y_full.len() {
        let (y, y_hat) = (lane(y_full[i]), lane(y_hat_full[i]));
        let (term, slope) = entry.weighted(y, y_hat, lane(weight_full[i]));
        sums[i - whole] += term;
        if GRAD {
            grad_full[i] = slope.raw();
        }
    }
    if !y_rest.is_empty() {
        let (y, y_hat) = (
            Lanes::load_partial(simd, y_rest),
            Lanes::load_partial(simd, y_hat_rest),
        );
        // Weights beyond the end load as zero.
        let weight = Lanes::load_partial(simd, weight_rest);
        let (term, slope) = entry.weighted(y, y_hat, weight);
        sums[SUMS - 1] += term;
        if GRAD {
            slope.store_partial(grad_rest);
        }
    }
    ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum()
}

/// Runs `$body` with the loss function's struct bound to `$f`.
macro_rules! with_loss {
    ($loss:expr, |$f:ident| $body:expr) => {
        match $loss {
            PointLoss::Absolute => {
                let $f = Absolute;
                $body
            }
            PointLoss::Squared => {
                let $f = Squared;
                $body
            }
            PointLoss::Huber { delta } => {
                let $f = Huber { delta };
                $body
            }
            PointLoss::Quantile { q } => {
                let $f = Quantile { q };
                $body
            }
            PointLoss::HuberQuantile { q, delta } => {
                let $f = HuberQuantile { q, delta };
                $body
            }
            PointLoss::Smape => {
                let $f = Smape;
                $body
            }
            PointLoss::Mape => {
                let $f = Mape;
                $body
            }
            PointLoss::Tukey { c } => {
                let $f = Tukey { c };
                $body
            }
        }
    };
}

#[track_caller]
fn check<R>(y: &[R], y_hat: &[R], weight: &[R], grad: &Option<&mut [R]>) {
    same_length("y", y.len(), "y_hat", y_hat.len());
    same_length("y", y.len(), "weight", weight.len());
    if let Some(grad) = grad {
        same_length("y", y.len(), "grad", grad.len());
    }
}

instantiate! {
    /// `sum w loss(y, y_hat)`; writes `grad_scale w dloss/dy_hat` to `grad` when given.
    ///
    /// # Panics
    /// The lengths differ, or the machine lacks the level.
    pub fn point_loss<R>(
        level: SimdLevel,
        loss: PointLoss,
        y: &[R],
        y_hat: &[R],
        weight: &[R],
        grad: Option<&mut [R]>,
        grad_scale: f64,
    ) -> f64
    { check(y, y_hat, weight, &grad); }
    then {
        let grad_scale = R::from_f64(grad_scale);
        with_loss!(loss, |loss| {
            dispatch(level, LossKernel { loss, scale: R::ONE, y, y_hat, weight, grad, grad_scale })
        })
    }
}

/// The loss alone.
#[derive(Clone, Copy)]
struct Terms<F>(F);

impl<F: LossFunction> Binary for Terms<F> {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, y: Lanes<S, R>, y_hat: Lanes<S, R>) -> Lanes<S, R> {
        self.0.apply::<S, R>(y, y_hat).0
    }
}

struct TermsKernel<'a, F, R> {
    loss: F,
    y: &'a [R],
    y_hat: &'a [R],
    out: &'a mut [R],
}

impl<F: LossFunction, R: SimdReal> Kernel for TermsKernel<'_, F, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        map_binary::<false, S, R>(simd, Terms(self.loss), self.y, self.y_hat, self.out);
    }
}

instantiate! {
    /// `out = loss(y, y_hat)`, entry by entry.
    ///
    /// # Panics
    /// The lengths differ, or the machine lacks the level.
    pub fn point_loss_terms<R>(
        level: SimdLevel,
        loss: PointLoss,
        y: &[R],
        y_hat: &[R],
        out: &mut [R],
    )
    {
        same_length("y", y.len(), "y_hat", y_hat.len());
        same_length("y", y.len(), "out", out.len());
    }
    then {
        with_loss!(loss, |loss| dispatch(level, TermsKernel { loss, y, y_hat, out }))
    }
}

instantiate! {
    /// The loss of `y s` and `y_hat s` with a factor `s` per row; with `s` the inverse of the mean seasonal difference and [`PointLoss::Absolute`]
    /// it is the numerator of the MASE, with the inverse standard deviation and [`PointLoss::Tukey`] the normalised Tukey loss.
    ///
    /// `y` is `[scale.len(), cols]`. A row whose factor is zero or not finite adds zero: there is nothing to compare with.
    ///
    /// # Panics
    /// The lengths do not fit, or the machine lacks the level.
    pub fn row_scaled_loss<R>(
        level: SimdLevel,
        loss: PointLoss,
        scale: &[R],
        y: &[R],
        y_hat: &[R],
        weight: &[R],
        grad: Option<&mut [R]>,
        grad_scale: f64,
    ) -> f64
    {
        check(y, y_hat, weight, &grad);
        let whole = scale.len() * (y.len() / scale.len().max(1));
        same_length("y", y.len(), "whole rows of `scale`", whole);
    }
    then {
        let cols = y.len() / scale.len().max(1);
        let grad_scale = R::from_f64(grad_scale);
        let mut grad = grad;
        let mut total = 0.0;
        for (r, &scale) in scale.iter().enumerate() {
            let row = r * cols..(r + 1) * cols;
            let grad = grad.as_mut().map(|grad| &mut grad[row.clone()]);
            if scale == R::ZERO || !(scale.is_finite() || scale.is_nan()) {
                if let Some(grad) = grad {
                    grad.fill(R::ZERO);
                }
                continue;
            }
            let (y, y_hat, weight) = (&y[row.clone()], &y_hat[row.clone()], &weight[row]);
            total += with_loss!(loss, |loss| {
                dispatch(level, LossKernel { loss, scale, y, y_hat, weight, grad, grad_scale })
            });
        }
        total
    }
}

macro_rules! named {
    ($($doc:literal $name:ident ($($parameter:ident),*) $variant:ident;)*) => {
        $(
            #[doc = $doc]
            ///
            /// Returns the sum, and writes `grad_scale w dloss/dy_hat` to `grad` when given.
            ///
            /// # Panics
            /// The lengths differ, or the machine lacks the level.
            #[track_caller]
            #[allow(clippy::too_many_arguments, reason = "a kernel names its slices one by one")]
            pub fn $name<R: SimdReal>(
                level: SimdLevel,
                $($parameter: f64,)*
                y: &[R],
                y_hat: &[R],
                weight: &[R],
                grad: Option<&mut [R]>,
                grad_scale: f64,
            ) -> f64 {
                let loss = PointLoss::$variant { $($parameter),* };
                point_loss(level, loss, y, y_hat, weight, grad, grad_scale)
            }
        )*
    };
}

named! {
    "`sum w |y_hat - y|`" absolute_loss () Absolute;
    "`sum w (y_hat - y)^2`" squared_loss () Squared;
    "The weighted sum of [`PointLoss::Huber`]." huber_loss (delta) Huber;
    "The weighted sum of [`PointLoss::Quantile`]." quantile_loss (q) Quantile;
    "The weighted sum of [`PointLoss::HuberQuantile`]." huber_quantile_loss (q, delta) HuberQuantile;
    "The weighted sum of [`PointLoss::Smape`]." smape_loss () Smape;
    "The weighted sum of [`PointLoss::Mape`]." mape_loss () Mape;
    "The weighted sum of [`PointLoss::Tukey`]." tukey_loss (c) Tukey;
}

#[cfg(test)]
mod tests;
