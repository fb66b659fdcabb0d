//! Normalisation of arrays: over the last axis (layer and RMS norm), or over all axes but the last (batch norm).
//!
//! The gradients work out the statistics again, so that nothing has to be kept from the forward pass but its input.

use nd_core::autograd::Accumulate;
use ndarray::{Array, Array1, ArrayRef, ArrayRef1, Dimension};

use super::{
    BatchNormSaved, batch_moments, batch_norm_apply, batch_norm_backward, batch_norm_scratch,
    layer_norm_backward, layer_norm_forward, layer_norm_scratch, rms_norm_backward,
    rms_norm_forward, rms_norm_scratch,
};
use crate::lanes::SimdReal;
use crate::layout::{cols, from_values, has_shape, level, parallel, same_shape, standard};

/// The gradients of a norm.
#[derive(Clone, Debug, PartialEq)]
pub struct NormGradients<R, D: Dimension> {
    /// Of the input, of its shape.
    pub x: Array<R, D>,
    /// Of the gain, one for each element of the last axis.
    pub gain: Array1<R>,
    /// Of the bias, as many; zeros for a norm without a bias.
    pub bias: Array1<R>,
}

/// Rows and columns of `x`, and that a vector has one number for each column.
#[track_caller]
fn matrix(x: &[usize], named: &[(&str, &[usize])]) -> (usize, usize) {
    let cols = cols(x);
    let because = format!("the last axis of `x` {x:?}");
    for (name, shape) in named {
        has_shape(name, shape, &[cols], &because);
    }
    (x.iter().product::<usize>() / cols.max(1), cols)
}

/// Each row of the last axis to mean zero and variance one, then gain and bias (Ba, Kiros and Hinton 2016).
///
/// `y = (x - mean) / sqrt(variance + eps) gain + bias` with the population variance; PyTorch's `eps` is 1e-5. `gain` and `bias`
/// have one number for each element of the last axis. The result is in standard layout.
///
/// ```
/// use ndarray::{Array1, array};
/// let x = array![[1.0f64, 3.0], [-2.0, 2.0]];
/// let (gain, bias) = (Array1::ones(2), Array1::zeros(2));
/// let y = nd_simd::norm::layer_norm(&x, &gain, &bias, 0.0);
/// assert_eq!(y, array![[-1.0, 1.0], [-1.0, 1.0]]);
/// ```
///
/// # Panics
/// The shapes do not fit.
#[must_use]
#[track_caller]
pub fn layer_norm<R: SimdReal, D: Dimension>(
    x: &ArrayRef<R, D>,
    gain: &ArrayRef1<R>,
    bias: &ArrayRef1<R>,
    eps: f64,
) -> Array<R, D> {
    let (rows, _) = matrix(x.shape(), &[("gain", gain.shape()), ("bias", bias.shape())]);
    let mut y = vec![R::ZERO; x.len()];
    let (mut mean, mut rstd) = (vec![R::ZERO; rows], vec![R::ZERO; rows]);
    let (values, gain, bias) = (standard(x), standard(gain), standard(bias));
    layer_norm_forward(
        level(),
        eps,
        &values,
        &gain,
        &bias,
        &mut y,
        &mut mean,
        &mut rstd,
    );
    from_values(x.raw_dim(), y)
}

/// The gradients of [`layer_norm()`].
///
/// With `g = dy gain`: `dx = rstd (g - mean(g) - x_hat mean(g x_hat))` per row, `dgain = sum dy x_hat`, `dbias = sum dy`.
///
/// # Panics
/// The shapes do not fit.
#[must_use]
#[track_caller]
pub fn layer_norm_gradient<R: SimdReal, D: Dimension>(
    x: &ArrayRef<R, D>,
    gain: &ArrayRef1<R>,
    eps: f64,
    dy: &ArrayRef<R, D>,
) -> NormGradients<R, D> {
    let (rows, cols) = matrix(x.shape(), &[("gain", gain.shape())]);
    same_shape("dy", dy.shape(), "x", x.shape());
    let (values, gain, dy) = (standard(x), standard(gain), standard(dy));
    let (mut mean, mut rstd) = (vec![R::ZERO; rows], vec![R::ZERO; rows]);
    let (mut dx, mut dgain, mut dbias) = buffers(x.len(), cols);
    // The output is not needed: the gradient's memory takes it.
    layer_norm_forward(
        level(),
        eps,
        &values,
        &gain,
        &gain,
        &mut dx,
        &mut mean,
        &mut rstd,
    );
    layer_norm_backward(
        level(),
        parallel(),
        &values,
        &gain,
        &mean,
        &rstd,
        &dy,
        Some((&mut dx, Accumulate::Write)),
        Some((&mut dgain, Accumulate::Write)),
        Some((&mut dbias, Accumulate::Write)),
        &mut vec![R::ZERO; layer_norm_scratch(rows, cols)],
    );
    gradients(x, dx, dgain, dbias)
}

fn buffers<R: SimdReal>(len: usize, cols: usize) -> (Vec<R>, Vec<R>, Vec<R>) {
    (vec![R::ZERO; len], vec![R::ZERO; cols], vec![R::ZERO; cols])
}

fn gradients<R: SimdReal, D: Dimension>(
    x: &ArrayRef<R, D>,
    dx: Vec<R>,
    dgain: Vec<R>,
    dbias: Vec<R>,
) -> NormGradients<R, D> {
    NormGradients {
        x: from_values(x.raw_dim(), dx),
        gain: Array1::from_vec(dgain),
        bias: Array1::from_vec(dbias),
    }
}

/// Each row of the last axis over its root mean square, times a gain (Zhang and Sennrich 2019).
///
/// `y = x / sqrt(mean(x^2) + eps) gain`, in standard layout.
///
/// # Panics
/// The shapes do not fit.
#[must_use]
#[track_caller]
pub fn rms_norm<R: SimdReal, D: Dimension>(
    x: &ArrayRef<R, D>,
    gain: &ArrayRef1<R>,
    eps: f64,
) -> Array<R, D> {
    let (rows, _) = matrix(x.shape(), &[("gain", gain.shape())]);
    let (mut y, mut rstd) = (vec![R::ZERO; x.len()], vec![R::ZERO; rows]);
    rms_norm_forward(
        level(),
        eps,
        &standard(x),
        &standard(gain),
        &mut y,
        &mut rstd,
    );
    from_values(x.raw_dim(), y)
}

/// The gradients of [`rms_norm()`]: with `g = dy gain`, `dx = rstd (g - x_hat mean(g x_hat))` per row, `dgain = sum dy x_hat`.
///
/// # Panics
/// The shapes do not fit.
#[must_use]
#[track_caller]
pub fn rms_norm_gradient<R: SimdReal, D: Dimension>(
    x: &ArrayRef<R, D>,
    gain: &ArrayRef1<R>,
    eps: f64,
    dy: &ArrayRef<R, D>,
) -> NormGradients<R, D> {
    let (rows, cols) = matrix(x.shape(), &[("gain", gain.shape())]);
    same_shape("dy", dy.shape(), "x", x.shape());
    let (values, gain, dy) = (standard(x), standard(gain), standard(dy));
    let mut rstd = vec![R::ZERO; rows];
    let (mut dx, mut dgain, dbias) = buffers(x.len(), cols);
    rms_norm_forward(level(), eps, &values, &gain, &mut dx, &mut rstd);
    rms_norm_backward(
        level(),
        parallel(),
        &values,
        &gain,
        &rstd,
        &dy,
        Some((&mut dx, Accumulate::Write)),
        Some((&mut dgain, Accumulate::Write)),
        &mut vec![R::ZERO; rms_norm_scratch(rows, cols)],
    );
    gradients(x, dx, dgain, dbias)
}

/// A batch norm's output and the statistics it used.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNormOutput<R, D: Dimension> {
    /// The output, of the input's shape, in standard layout.
    pub y: Array<R, D>,
    /// The mean of each column, as [`super::update_running_moments`] takes it.
    pub mean: Array1<R>,
    /// The population variance of each column.
    pub variance: Array1<R>,
}

/// Each column (the last axis) to mean zero and variance one over all rows, then gain and bias, with the statistics of `x`
/// itself (Ioffe and Szegedy 2015): the training form.
///
/// `y = (x - mean) / sqrt(variance + eps) gain + bias` with the population variance. An array without rows has statistics
/// of NaN and an empty output.
///
/// # Panics
/// The shapes do not fit.
#[must_use]
#[track_caller]
pub fn batch_norm<R: SimdReal, D: Dimension>(
    x: &ArrayRef<R, D>,
    gain: &ArrayRef1<R>,
    bias: &ArrayRef1<R>,
    eps: f64,
) -> BatchNormOutput<R, D> {
    let (_, cols) = matrix(x.shape(), &[("gain", gain.shape()), ("bias", bias.shape())]);
    let (mean, variance) = statistics(&standard(x), cols);
    let y = batch_norm_inference(x, gain, bias, &mean, &variance, eps);
    BatchNormOutput { y, mean, variance }
}

/// Mean and population variance of the columns.
fn statistics<R: SimdReal>(x: &[R], cols: usize) -> (Array1<R>, Array1<R>) {
    let nan = R::from_f64(f64::NAN);
    let (mut mean, mut variance) = (vec![nan; cols], vec![nan; cols]);
    if !x.is_empty() {
        let mut scratch = vec![R::ZERO; batch_norm_scratch(x.len() / cols, cols)];
        let (level, parallel) = (level(), parallel());
        batch_moments(level, parallel, x, &mut mean, &mut variance, &mut scratch);
    }
    (Array1::from_vec(mean), Array1::from_vec(variance))
}

/// [`batch_norm()`] with given (running) statistics: the inference form.
///
/// # Panics
/// The shapes do not fit.
#[must_use]
#[track_caller]
pub fn batch_norm_inference<R: SimdReal, D: Dimension>(
    x: &ArrayRef<R, D>,
    gain: &ArrayRef1<R>,
    bias: &ArrayRef1<R>,
    mean: &ArrayRef1<R>,
    variance: &ArrayRef1<R>,
    eps: f64,
) -> Array<R, D> {
    let named = [
        ("gain", gain.shape()),
        ("bias", bias.shape()),
        ("mean", mean.shape()),
        ("variance", variance.shape()),
    ];
    matrix(x.shape(), &named);
    let (gain, mean, variance) = (standard(gain), standard(mean), standard(variance));
    let saved = BatchNormSaved {
        eps,
        mean: &mean,
        variance: &variance,
        gain: &gain,
    };
    let mut y = vec![R::ZERO; x.len()];
    batch_norm_apply(
        level(),
        parallel(),
        saved,
        &standard(bias),
        &standard(x),
        &mut y,
    );
    from_values(x.raw_dim(), y)
}

/// The gradients of [`batch_norm()`], through the statistics too.
///
/// `dbias = sum dy`, `dgain = sum dy x_hat`, `dx = gain rstd (dy - mean(dy) - x_hat mean(dy x_hat))` over each column.
///
/// # Panics
/// The shapes do not fit.
#[must_use]
#[track_caller]
pub fn batch_norm_gradient<R: SimdReal, D: Dimension>(
    x: &ArrayRef<R, D>,
    gain: &ArrayRef1<R>,
    eps: f64,
    dy: &ArrayRef<R, D>,
) -> NormGradients<R, D> {
    let (rows, cols) = matrix(x.shape(), &[("gain", gain.shape())]);
    same_shape("dy", dy.shape(), "x", x.shape());
    let (values, gain, dy) = (standard(x), standard(gain), standard(dy));
    let (mean, variance) = statistics(&values, cols);
    let (mut dx, mut dgain, mut dbias) = buffers(x.len(), cols);
    let saved = BatchNormSaved {
        eps,
        mean: &standard(&mean),
        variance: &standard(&variance),
        gain: &gain,
    };
    batch_norm_backward(
        level(),
        parallel(),
        saved,
        &values,
        &dy,
        Some((&mut dx, Accumulate::Write)),
        Some((&mut dgain, Accumulate::Write)),
        Some((&mut dbias, Accumulate::Write)),
        &mut vec![R::ZERO; batch_norm_scratch(rows, cols)],
    );
    gradients(x, dx, dgain, dbias)
}
