//! Losses of arrays: a number, its gradient, or both in one pass.
//!
//! Every loss has three forms: `mse(&pred, &target)` is the plain mean, `mse_gradient(&pred, &target)` its gradient in the
//! prediction, and `mse_with_gradient(&pred, &target, &options)` both at once with a mask, weights along the horizon and a
//! choice of reduction. [`loss()`] takes the same options without a gradient. Arrays may have any layout; terms are added
//! in the element type over blocks of at most 4096 entries, the blocks in f64, and the result is rounded once.

use ndarray::{Array, ArrayRef, ArrayView, ArrayView1, Dimension, Ix1};

use super::{PointLoss, multi_quantile_loss, point_loss, point_loss_terms, row_scaled_loss};
use crate::lanes::SimdReal;
use crate::layout::{
    Order, cols, from_values, has_shape, in_read_order, level, map, pieces, same_shape, standard,
};
use crate::reduce::sum_slice;

/// What becomes of the terms of a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Their sum over the sum of their weights; zero where the weights add up to zero.
    #[default]
    Mean,
    /// Their sum.
    Sum,
}

/// Which entries count, and how much.
///
/// ```
/// use ndarray::array;
/// use nd_simd::losses::{LossOptions, mae_with_gradient};
///
/// let (pred, target) = (array![[1.0f32, 2.0], [3.0, 4.0]], array![[0.0, f32::NAN], [1.0, 4.0]]);
/// let mask = array![[1.0, 0.0], [1.0, 1.0]];
/// let options = LossOptions { mask: Some(mask.view()), ..LossOptions::default() };
/// let (loss, gradient) = mae_with_gradient(&pred, &target, &options);
/// assert_eq!(loss, 1.0);
/// assert_eq!(gradient[[0, 1]], 0.0);
/// ```
#[derive(Clone, Debug)]
pub struct LossOptions<'a, R, D: Dimension> {
    /// The weight of each entry, of the targets' shape; usually 0 and 1. An entry of weight zero adds exactly zero to loss and
    /// gradient, also where the target or the prediction is NaN.
    pub mask: Option<ArrayView<'a, R, D>>,
    /// The weight of each step of the horizon, which is the last axis of the targets; multiplied with the mask.
    pub horizon_weight: Option<ArrayView1<'a, R>>,
    /// Mean or sum.
    pub reduction: Reduction,
}

impl<R, D: Dimension> Default for LossOptions<'_, R, D> {
    fn default() -> Self {
        Self {
            mask: None,
            horizon_weight: None,
            reduction: Reduction::Mean,
        }
    }
}

impl<R: SimdReal, D: Dimension> LossOptions<'_, R, D> {
    #[track_caller]
    fn check(&self, target: &[usize]) {
        if let Some(mask) = &self.mask {
            same_shape("mask", mask.shape(), "target", target);
        }
        if let Some(weight) = &self.horizon_weight {
            let because = format!("the last axis of `target` {target:?}");
            has_shape("horizon_weight", weight.shape(), &[cols(target)], &because);
        }
    }

    /// The weights of `place..place + len` within the targets, given those of the mask there: the slice itself, or made in `buffer`;
    /// nothing where all entries count the same.
    fn weights<'w>(
        &self,
        place: usize,
        len: usize,
        mask: Option<&'w [R]>,
        buffer: &'w mut Vec<R>,
    ) -> Option<&'w [R]> {
        let Some(horizon) = &self.horizon_weight else {
            return mask;
        };
        buffer.clear();
        let steps = (place..place + len).map(|at| horizon[at % horizon.len()]);
        match mask {
            Some(mask) => buffer.extend(mask.iter().zip(steps).map(|(&mask, step)| mask * step)),
            None => buffer.extend(steps),
        }
        Some(buffer)
    }

    /// The factor of the sum of `len` terms.
    fn scale(&self, len: usize) -> f64 {
        if self.reduction == Reduction::Sum {
            return 1.0;
        }
        let level = level();
        let total = match (&self.mask, &self.horizon_weight) {
            (None, None) => len as f64,
            (None, Some(weight)) => {
                sum_slice(level, &standard(weight)) * (len / weight.len().max(1)) as f64
            }
            (Some(mask), _) => {
                let (mut total, mut buffer) = (0.0, Vec::new());
                let order = self.order();
                pieces(order, [&**mask], |start, [mask]| {
                    if let Some(weights) = self.weights(start, mask.len(), Some(mask), &mut buffer)
                    {
                        total += sum_slice(level, weights);
                    }
                });
                total
            }
        };
        if total == 0.0 { 0.0 } else { 1.0 / total }
    }

    /// Weights along the horizon have to know where they are.
    fn order(&self) -> Order {
        match self.horizon_weight {
            Some(_) => Order::Logical,
            None => Order::Any,
        }
    }
}

/// The loss, and its gradient if wanted, over entries taken piece by piece.
fn evaluate<R: SimdReal, D: Dimension>(
    loss: PointLoss,
    pred: &ArrayRef<R, D>,
    target: &ArrayRef<R, D>,
    options: &LossOptions<'_, R, D>,
    mut gradient: Option<&mut [R]>,
) -> (f64, bool) {
    let (level, scale) = (level(), options.scale(target.len()));
    let (mut total, mut buffer) = (0.0, Vec::new());
    let mut visit = |start: usize, pred: &[R], target: &[R], mask: Option<&[R]>| {
        let weight = options.weights(start, pred.len(), mask, &mut buffer);
        let gradient = gradient
            .as_mut()
            .map(|gradient| &mut gradient[start..start + pred.len()]);
        total += point_loss(level, loss, target, pred, weight, gradient, scale);
    };
    let order = options.order();
    let memory_order = match &options.mask {
        None => pieces(order, [pred, target], |start, [pred, target]| {
            visit(start, pred, target, None);
        }),
        Some(mask) => pieces(
            order,
            [pred, target, mask],
            |start, [pred, target, mask]| {
                visit(start, pred, target, Some(mask));
            },
        ),
    };
    (total * scale, memory_order)
}

/// Any loss of one prediction per target, with options and without a gradient.
///
/// # Panics
/// The shapes differ.
#[must_use]
#[track_caller]
pub fn loss<R: SimdReal, D: Dimension>(
    loss: PointLoss,
    pred: &ArrayRef<R, D>,
    target: &ArrayRef<R, D>,
    options: &LossOptions<'_, R, D>,
) -> R {
    same_shape("pred", pred.shape(), "target", target.shape());
    options.check(target.shape());
    R::from_f64(evaluate(loss, pred, target, options, None).0)
}

/// The losses of all entries, without a reduction.
///
/// # Panics
/// The shapes differ.
#[must_use]
#[track_caller]
pub fn loss_terms<R: SimdReal, D: Dimension>(
    loss: PointLoss,
    pred: &ArrayRef<R, D>,
    target: &ArrayRef<R, D>,
) -> Array<R, D> {
    same_shape("pred", pred.shape(), "target", target.shape());
    let level = level();
    map([pred, target], |[pred, target], terms| {
        point_loss_terms(level, loss, target, pred, terms);
    })
}

/// Any loss of one prediction per target and its gradient in the prediction, in one pass.
///
/// # Panics
/// The shapes differ.
#[must_use]
#[track_caller]
pub fn loss_with_gradient<R: SimdReal, D: Dimension>(
    loss: PointLoss,
    pred: &ArrayRef<R, D>,
    target: &ArrayRef<R, D>,
    options: &LossOptions<'_, R, D>,
) -> (R, Array<R, D>) {
    same_shape("pred", pred.shape(), "target", target.shape());
    options.check(target.shape());
    let mut gradient = vec![R::ZERO; pred.len()];
    let (value, memory_order) = evaluate(loss, pred, target, options, Some(&mut gradient));
    (
        R::from_f64(value),
        in_read_order(memory_order, pred, gradient),
    )
}

macro_rules! losses {
    ($(
        $formula:literal, $variant:ident ($($parameter:ident),*),
        $value:ident $gradient:ident $both:ident;
    )*) => {
        $(
            #[doc = concat!("The mean of ", $formula, ": see [`PointLoss::", stringify!($variant), "`]. Zero without entries.")]
            ///
            /// # Panics
            /// The shapes differ.
            #[must_use]
            #[track_caller]
            pub fn $value<R: SimdReal, D: Dimension>(
                pred: &ArrayRef<R, D>,
                target: &ArrayRef<R, D>,
                $($parameter: f64,)*
            ) -> R {
                let kind = PointLoss::$variant { $($parameter),* };
                loss(kind, pred, target, &LossOptions::default())
            }

            #[doc = concat!("The gradient of [`", stringify!($value), "()`] in `pred`.")]
            ///
            /// # Panics
            /// The shapes differ.
            #[must_use]
            #[track_caller]
            pub fn $gradient<R: SimdReal, D: Dimension>(
                pred: &ArrayRef<R, D>,
                target: &ArrayRef<R, D>,
                $($parameter: f64,)*
            ) -> Array<R, D> {
                let kind = PointLoss::$variant { $($parameter),* };
                loss_with_gradient(kind, pred, target, &LossOptions::default()).1
            }

            #[doc = concat!("[`", stringify!($value), "()`] with options, and its gradient in `pred`, in one pass.")]
            ///
            /// # Panics
            /// The shapes differ.
            #[must_use]
            #[track_caller]
            pub fn $both<R: SimdReal, D: Dimension>(
                pred: &ArrayRef<R, D>,
                target: &ArrayRef<R, D>,
                $($parameter: f64,)*
                options: &LossOptions<'_, R, D>,
            ) -> (R, Array<R, D>) {
                let kind = PointLoss::$variant { $($parameter),* };
                loss_with_gradient(kind, pred, target, options)
            }
        )*
    };
}

losses! {
    "`(pred - target)^2`", Squared (), mse mse_gradient mse_with_gradient;
    "`|pred - target|`", Absolute (), mae mae_gradient mae_with_gradient;
    "the Huber loss: half the squared error up to `delta`, linear beyond", Huber (delta),
        huber huber_gradient huber_with_gradient;
    "the pinball loss of the quantile `q`", Quantile (q),
        quantile quantile_gradient quantile_with_gradient;
    "the Huber loss, weighed as the pinball loss of the quantile `q`", HuberQuantile (q, delta),
        huber_quantile huber_quantile_gradient huber_quantile_with_gradient;
    "`|pred - target| / |target|` (a fraction, not per cent; zero where the target is zero)", Mape (),
        mape mape_gradient mape_with_gradient;
    "`2 |pred - target| / (|pred| + |target|)` (from 0 to 2)", Smape (),
        smape smape_gradient smape_with_gradient;
    "Tukey's biweight, constant beyond `c`", Tukey (c), tukey tukey_gradient tukey_with_gradient;
}

/// The root of the mean squared error.
///
/// # Panics
/// The shapes differ.
#[must_use]
#[track_caller]
pub fn rmse<R: SimdReal, D: Dimension>(pred: &ArrayRef<R, D>, target: &ArrayRef<R, D>) -> R {
    same_shape("pred", pred.shape(), "target", target.shape());
    let options = LossOptions::default();
    R::from_f64(
        evaluate(PointLoss::Squared, pred, target, &options, None)
            .0
            .sqrt(),
    )
}

/// The gradient of [`rmse()`] in `pred`: `(pred - target) / (n rmse)`; zero where the error is zero.
///
/// # Panics
/// The shapes differ.
#[must_use]
#[track_caller]
pub fn rmse_gradient<R: SimdReal, D: Dimension>(
    pred: &ArrayRef<R, D>,
    target: &ArrayRef<R, D>,
) -> Array<R, D> {
    rmse_with_gradient(pred, target, &LossOptions::default()).1
}

/// The root of the (weighted) mean or sum of squared errors, and its gradient in `pred`.
///
/// # Panics
/// The shapes differ.
#[must_use]
#[track_caller]
pub fn rmse_with_gradient<R: SimdReal, D: Dimension>(
    pred: &ArrayRef<R, D>,
    target: &ArrayRef<R, D>,
    options: &LossOptions<'_, R, D>,
) -> (R, Array<R, D>) {
    same_shape("pred", pred.shape(), "target", target.shape());
    options.check(target.shape());
    let mut gradient = vec![R::ZERO; pred.len()];
    let squared = PointLoss::Squared;
    let (value, memory_order) = evaluate(squared, pred, target, options, Some(&mut gradient));
    let root = value.sqrt();
    let scale = if root == 0.0 { 0.0 } else { 0.5 / root };
    crate::elementwise::scale_in_place(level(), scale, &mut gradient);
    (
        R::from_f64(root),
        in_read_order(memory_order, pred, gradient),
    )
}

/// All weights of the targets, in standard order; nothing where all entries count the same.
fn all_weights<R: SimdReal, D: Dimension>(
    target: &ArrayRef<R, D>,
    options: &LossOptions<'_, R, D>,
) -> Option<Vec<R>> {
    if options.mask.is_none() && options.horizon_weight.is_none() {
        return None;
    }
    let mut weights = match &options.mask {
        Some(mask) => standard(mask).into_owned(),
        None => vec![R::ONE; target.len()],
    };
    if let Some(horizon) = &options.horizon_weight {
        for row in weights.chunks_mut(horizon.len().max(1)) {
            for (weight, &step) in row.iter_mut().zip(horizon) {
                *weight *= step;
            }
        }
    }
    Some(weights)
}

/// The pinball loss of several quantiles at once: the mean over entries and quantiles.
///
/// `pred` has the shape of `target` with one more axis at the end, for the quantiles.
///
/// # Panics
/// The shapes do not fit, or there is no quantile.
#[must_use]
#[track_caller]
pub fn multi_quantile<R: SimdReal, D: Dimension>(
    pred: &ArrayRef<R, D::Larger>,
    target: &ArrayRef<R, D>,
    quantiles: &[R],
) -> R {
    multi_quantile_with_gradient(pred, target, quantiles, &LossOptions::default()).0
}

/// The gradient of [`multi_quantile()`] in `pred`.
///
/// # Panics
/// As [`multi_quantile()`].
#[must_use]
#[track_caller]
pub fn multi_quantile_gradient<R: SimdReal, D: Dimension>(
    pred: &ArrayRef<R, D::Larger>,
    target: &ArrayRef<R, D>,
    quantiles: &[R],
) -> Array<R, D::Larger> {
    multi_quantile_with_gradient(pred, target, quantiles, &LossOptions::default()).1
}

/// [`multi_quantile()`] with options, and its gradient in `pred`, in standard layout.
///
/// # Panics
/// As [`multi_quantile()`].
#[must_use]
#[track_caller]
pub fn multi_quantile_with_gradient<R: SimdReal, D: Dimension>(
    pred: &ArrayRef<R, D::Larger>,
    target: &ArrayRef<R, D>,
    quantiles: &[R],
    options: &LossOptions<'_, R, D>,
) -> (R, Array<R, D::Larger>) {
    assert!(
        !quantiles.is_empty(),
        "a multi-quantile loss needs at least one quantile"
    );
    let wanted: Vec<usize> = target
        .shape()
        .iter()
        .copied()
        .chain([quantiles.len()])
        .collect();
    let because = format!(
        "`target` {:?} with {} quantiles",
        target.shape(),
        quantiles.len()
    );
    has_shape("pred", pred.shape(), &wanted, &because);
    options.check(target.shape());
    let mut gradient = vec![R::ZERO; pred.len()];
    let scale = options.scale(target.len());
    let total = multi_quantile_loss(
        level(),
        quantiles,
        &standard(target),
        &standard(pred),
        all_weights(target, options).as_deref(),
        Some(&mut gradient),
        scale,
    );
    (
        R::from_f64(total * scale),
        from_values(pred.raw_dim(), gradient),
    )
}

/// A loss of rows that are divided by a scale of their own first: targets and predictions of row `r` by `scale[r]`.
///
/// `scale` has one number for each row (all axes but the last). A row whose scale is zero or infinite adds zero: there is
/// nothing to compare with. The gradient is in standard layout.
///
/// # Panics
/// The shapes do not fit.
#[must_use]
#[track_caller]
pub fn scaled_loss_with_gradient<R: SimdReal, D: Dimension>(
    loss: PointLoss,
    pred: &ArrayRef<R, D>,
    target: &ArrayRef<R, D>,
    scale: &ArrayRef<R, Ix1>,
    options: &LossOptions<'_, R, D>,
) -> (R, Array<R, D>) {
    same_shape("pred", pred.shape(), "target", target.shape());
    options.check(target.shape());
    let shape = target.shape();
    let rows: usize = shape[..shape.len().saturating_sub(1)].iter().product();
    has_shape(
        "scale",
        scale.shape(),
        &[rows],
        &format!("one number per row of {shape:?}"),
    );
    let inverse: Vec<R> = scale.iter().map(|&scale| R::ONE / scale).collect();
    let mut gradient = vec![R::ZERO; pred.len()];
    let share = options.scale(target.len());
    let total = row_scaled_loss(
        level(),
        loss,
        &inverse,
        &standard(target),
        &standard(pred),
        all_weights(target, options).as_deref(),
        Some(&mut gradient),
        share,
    );
    (
        R::from_f64(total * share),
        from_values(pred.raw_dim(), gradient),
    )
}

/// The mean absolute scaled error (Hyndman and Koehler 2006): the mean of `|pred - target| / scale[row]`.
///
/// `scale[r]` is the mean absolute seasonal difference of row `r`'s past; where it is zero the row adds zero.
///
/// # Panics
/// The shapes do not fit.
#[must_use]
#[track_caller]
pub fn mase<R: SimdReal, D: Dimension>(
    pred: &ArrayRef<R, D>,
    target: &ArrayRef<R, D>,
    scale: &ArrayRef<R, Ix1>,
) -> R {
    mase_with_gradient(pred, target, scale, &LossOptions::default()).0
}

/// The gradient of [`mase()`] in `pred`.
///
/// # Panics
/// The shapes do not fit.
#[must_use]
#[track_caller]
pub fn mase_gradient<R: SimdReal, D: Dimension>(
    pred: &ArrayRef<R, D>,
    target: &ArrayRef<R, D>,
    scale: &ArrayRef<R, Ix1>,
) -> Array<R, D> {
    mase_with_gradient(pred, target, scale, &LossOptions::default()).1
}

/// [`mase()`] with options, and its gradient in `pred`, in one pass.
///
/// # Panics
/// The shapes do not fit.
#[must_use]
#[track_caller]
pub fn mase_with_gradient<R: SimdReal, D: Dimension>(
    pred: &ArrayRef<R, D>,
    target: &ArrayRef<R, D>,
    scale: &ArrayRef<R, Ix1>,
    options: &LossOptions<'_, R, D>,
) -> (R, Array<R, D>) {
    scaled_loss_with_gradient(PointLoss::Absolute, pred, target, scale, options)
}
