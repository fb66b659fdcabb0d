//! Optimizer steps, one element at a time. `factor` multiplies the gradient first.

/// Adam and AdamW at step `t` (from 1); `state` is weight, first and second moment.
///
/// `rates` are the learning rate and epsilon, `betas` the decays of the moments, `decays` the weight decay that is added
/// to the gradient and the one that shrinks the weight beside it.
pub fn adam(
    rates: [f64; 2],
    betas: [f64; 2],
    decays: [f64; 2],
    t: f64,
    factor: f64,
    grad: &[f64],
    state: &mut [Vec<f64>; 3],
) {
    let ([lr, eps], [beta1, beta2], [coupled, decoupled]) = (rates, betas, decays);
    let [weight, mean, square] = state;
    for (i, &g) in grad.iter().enumerate() {
        let g = g * factor + coupled * weight[i];
        weight[i] -= lr * decoupled * weight[i];
        mean[i] = beta1 * mean[i] + (1.0 - beta1) * g;
        square[i] = beta2 * square[i] + (1.0 - beta2) * g * g;
        let mean_hat = mean[i] / (1.0 - beta1.powf(t));
        let square_hat = square[i] / (1.0 - beta2.powf(t));
        weight[i] -= lr * mean_hat / (square_hat.sqrt() + eps);
    }
}

/// SGD; `state` is weight and velocity, and the step goes along the velocity or looks ahead of it (`nesterov`).
pub fn sgd(
    [lr, momentum, weight_decay]: [f64; 3],
    nesterov: bool,
    factor: f64,
    grad: &[f64],
    state: &mut [Vec<f64>; 2],
) {
    let [weight, velocity] = state;
    for (i, &g) in grad.iter().enumerate() {
        let g = g * factor + weight_decay * weight[i];
        velocity[i] = momentum * velocity[i] + g;
        let direction = if nesterov {
            g + momentum * velocity[i]
        } else {
            velocity[i]
        };
        weight[i] -= lr * direction;
    }
}

/// RMSprop; `state` is weight and mean of squares.
pub fn rmsprop(
    [lr, alpha, eps, weight_decay]: [f64; 4],
    factor: f64,
    grad: &[f64],
    state: &mut [Vec<f64>; 2],
) {
    let [weight, square] = state;
    for (i, &g) in grad.iter().enumerate() {
        let g = g * factor + weight_decay * weight[i];
        square[i] = alpha * square[i] + (1.0 - alpha) * g * g;
        weight[i] -= lr * g / (square[i].sqrt() + eps);
    }
}
