//! Losses of one prediction per target.

mod functions;
mod pass;

pub(super) use functions::pinball;
pub(super) use pass::weigh;

use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate, same_length};
use crate::lanes::{Lanes, SimdReal};
use crate::map::{Binary, map_binary};
use functions::{
    Absolute, Huber, HuberQuantile, LossFunction, Mape, Quantile, Smape, Squared, Tukey,
};
use pass::{LossKernel, RowScaled};

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
fn check<R>(y: &[R], y_hat: &[R], weight: Option<&[R]>, grad: &Option<&mut [R]>) {
    same_length("y", y.len(), "y_hat", y_hat.len());
    if let Some(weight) = weight {
        same_length("y", y.len(), "weight", weight.len());
    }
    if let Some(grad) = grad {
        same_length("y", y.len(), "grad", grad.len());
    }
}

instantiate! {
    /// `sum w loss(y, y_hat)`; writes `grad_scale w dloss/dy_hat` to `grad` when given. Without weights all are one.
    ///
    /// # Panics
    /// The lengths differ, or the machine lacks the level.
    pub fn point_loss<R>(
        level: SimdLevel,
        loss: PointLoss,
        y: &[R],
        y_hat: &[R],
        weight: Option<&[R]>,
        grad: Option<&mut [R]>,
        grad_scale: f64,
    ) -> f64
    { check(y, y_hat, weight, &grad); }
    then {
        let grad_scale = R::from_f64(grad_scale);
        with_loss!(loss, |loss| {
            dispatch(level, LossKernel { loss, y, y_hat, weight, grad, grad_scale })
        })
    }
}

/// The loss alone.
#[derive(Clone, Copy)]
struct Alone<F>(F);

impl<F: LossFunction> Binary for Alone<F> {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, y: Lanes<S, R>, y_hat: Lanes<S, R>) -> Lanes<S, R> {
        let terms = self.0.apply::<S, R>(y, y_hat);
        terms.factor * terms.rest
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
        map_binary::<false, S, R>(simd, Alone(self.loss), self.y, self.y_hat, self.out);
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
        weight: Option<&[R]>,
        grad: Option<&mut [R]>,
        grad_scale: f64,
    ) -> f64
    {
        check(y, y_hat, weight, &grad);
        let whole = scale.len() * (y.len() / scale.len().max(1));
        same_length("y", y.len(), "whole rows of `scale`", whole);
    }
    then {
        let grad_scale = R::from_f64(grad_scale);
        with_loss!(loss, |loss| {
            RowScaled { loss, scale, y, y_hat, weight, grad, grad_scale }.run(level)
        })
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
                weight: Option<&[R]>,
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
