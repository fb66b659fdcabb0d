//! Optimizer steps on arrays, in place.
//!
//! Weights and moments keep their layout; one pass without copies where they and the gradient share a memory order without
//! gaps. The caller keeps the moments, which begin as zeros, and counts the steps ([`Adam::step`]).

use ndarray::{ArrayRef, Dimension};

use super::{
    Adam, RmsProp, Sgd, adam_step, check_norm, rmsprop_step, sgd_step, unscale_check_norm,
};
use crate::lanes::SimdReal;
use crate::layout::{Order, level, parallel, pieces, same_shape, update};

/// One step of Adam, or of AdamW where [`Adam::decoupled_decay`] is set.
///
/// `m += (1 - beta1)(g - m)`, `v = beta2 v + (1 - beta2) g^2`,
/// `w -= lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)`; decays as [`Adam`] says.
///
/// ```
/// use ndarray::Array1;
/// use nd_simd::optim::{Adam, adam};
///
/// let (mut weight, gradient) = (Array1::<f32>::zeros(3), Array1::ones(3));
/// let (mut mean, mut square) = (Array1::zeros(3), Array1::zeros(3));
/// for step in 1..=10 {
///     let config = Adam { lr: 0.1, decoupled_decay: 0.01, step, ..Adam::default() };
///     adam(config, &gradient, &mut weight, &mut mean, &mut square);
/// }
/// assert!((weight[0] + 1.0).abs() < 0.01);
/// ```
///
/// # Panics
/// The shapes differ.
#[track_caller]
pub fn adam<R: SimdReal, D: Dimension>(
    adam: Adam,
    gradient: &ArrayRef<R, D>,
    weight: &mut ArrayRef<R, D>,
    mean: &mut ArrayRef<R, D>,
    square: &mut ArrayRef<R, D>,
) {
    same_shape("weight", weight.shape(), "gradient", gradient.shape());
    same_shape("mean", mean.shape(), "gradient", gradient.shape());
    same_shape("square", square.shape(), "gradient", gradient.shape());
    let (level, parallel) = (level(), parallel());
    update([weight, mean, square], gradient, |[w, m, v], g| {
        adam_step(level, parallel, adam, 1.0, g, w, m, v);
    });
}

/// One step of SGD with momentum: `u = momentum u + g`, `w -= lr u` (Nesterov: `w -= lr (g + momentum u)`).
///
/// # Panics
/// The shapes differ.
#[track_caller]
pub fn sgd<R: SimdReal, D: Dimension>(
    sgd: Sgd,
    gradient: &ArrayRef<R, D>,
    weight: &mut ArrayRef<R, D>,
    velocity: &mut ArrayRef<R, D>,
) {
    same_shape("weight", weight.shape(), "gradient", gradient.shape());
    same_shape("velocity", velocity.shape(), "gradient", gradient.shape());
    let (level, parallel) = (level(), parallel());
    update([weight, velocity], gradient, |[w, u], g| {
        sgd_step(level, parallel, sgd, 1.0, g, w, u);
    });
}

/// One step of RMSprop: `v = alpha v + (1 - alpha) g^2`, `w -= lr g / (sqrt(v) + eps)`.
///
/// # Panics
/// The shapes differ.
#[track_caller]
pub fn rmsprop<R: SimdReal, D: Dimension>(
    rmsprop: RmsProp,
    gradient: &ArrayRef<R, D>,
    weight: &mut ArrayRef<R, D>,
    square: &mut ArrayRef<R, D>,
) {
    same_shape("weight", weight.shape(), "gradient", gradient.shape());
    same_shape("square", square.shape(), "gradient", gradient.shape());
    let (level, parallel) = (level(), parallel());
    update([weight, square], gradient, |[w, v], g| {
        rmsprop_step(level, parallel, rmsprop, 1.0, g, w, v);
    });
}

/// Shrinks gradients so that the Euclidean norm of all of them together is at most `max_norm`, and returns their norm before,
/// as PyTorch's `clip_grad_norm_`.
///
/// A norm that is not finite leaves them as they are: there is nothing to scale by, and the caller sees it.
///
/// ```
/// use ndarray::arr1;
/// let mut gradients = [arr1(&[3.0f32]).into_dyn(), arr1(&[4.0]).into_dyn()];
/// let norm = nd_simd::optim::clip_by_norm(gradients.iter_mut().map(|g| &mut **g), 1.0);
/// assert_eq!(norm, 5.0);
/// assert!((gradients[1][0] - 0.8).abs() < 1e-6);
/// ```
pub fn clip_by_norm<'a, R: SimdReal, D: Dimension + 'a>(
    gradients: impl IntoIterator<Item = &'a mut ArrayRef<R, D>>,
    max_norm: f64,
) -> f64 {
    let (level, parallel) = (level(), parallel());
    let gradients: Vec<_> = gradients.into_iter().collect();
    let mut squares = 0.0;
    for gradient in &gradients {
        match gradient.as_slice_memory_order() {
            Some(gradient) => squares += check_norm(level, parallel, gradient).norm_squared,
            None => {
                pieces(Order::Logical, [&**gradient], |_, [gradient]| {
                    squares += check_norm(level, false, gradient).norm_squared;
                });
            }
        }
    }
    let norm = squares.sqrt();
    if norm.is_finite() && norm > max_norm {
        let factor = R::from_f64(max_norm / norm);
        for gradient in gradients {
            match gradient.as_slice_memory_order_mut() {
                Some(gradient) => {
                    unscale_check_norm(level, parallel, factor, gradient);
                }
                None => gradient.mapv_inplace(|g| g * factor),
            }
        }
    }
    norm
}
