//! Optimizer steps, one element at a time.

use crate::optim::{Adam, RmsProp, Sgd};

/// Adam and AdamW; `state` is weight, first and second moment.
pub fn adam(adam: Adam, factor: f64, grad: &[f64], state: &mut [Vec<f64>; 3]) {
    let [weight, mean, square] = state;
    let t = adam.step as f64;
    for (i, &g) in grad.iter().enumerate() {
        let g = g * factor + adam.coupled_decay * weight[i];
        weight[i] -= adam.lr * adam.decoupled_decay * weight[i];
        mean[i] = adam.beta1 * mean[i] + (1.0 - adam.beta1) * g;
        square[i] = adam.beta2 * square[i] + (1.0 - adam.beta2) * g * g;
        let mean_hat = mean[i] / (1.0 - adam.beta1.powf(t));
        let square_hat = square[i] / (1.0 - adam.beta2.powf(t));
        weight[i] -= adam.lr * mean_hat / (square_hat.sqrt() + adam.eps);
    }
}

/// SGD with momentum; `state` is weight and velocity.
pub fn sgd(sgd: Sgd, factor: f64, grad: &[f64], state: &mut [Vec<f64>; 2]) {
    let [weight, velocity] = state;
    for (i, &g) in grad.iter().enumerate() {
        let g = g * factor + sgd.weight_decay * weight[i];
        velocity[i] = sgd.momentum * velocity[i] + g;
        let direction = if sgd.nesterov {
            g + sgd.momentum * velocity[i]
        } else {
            velocity[i]
        };
        weight[i] -= sgd.lr * direction;
    }
}

/// RMSprop; `state` is weight and mean of squares.
pub fn rmsprop(rmsprop: RmsProp, factor: f64, grad: &[f64], state: &mut [Vec<f64>; 2]) {
    let [weight, square] = state;
    for (i, &g) in grad.iter().enumerate() {
        let g = g * factor + rmsprop.weight_decay * weight[i];
        square[i] = rmsprop.alpha * square[i] + (1.0 - rmsprop.alpha) * g * g;
        weight[i] -= rmsprop.lr * g / (square[i].sqrt() + rmsprop.eps);
    }
}
