//! Point losses and their slopes in the prediction, one entry at a time: `(loss, d loss / d y_hat)`.

/// Minus one, zero or one.
fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

/// `|y_hat - y|`
#[must_use]
pub fn absolute(y: f64, y_hat: f64) -> (f64, f64) {
    let e = y_hat - y;
    (e.abs(), sign(e))
}

/// `(y_hat - y)^2`
#[must_use]
pub fn squared(y: f64, y_hat: f64) -> (f64, f64) {
    let e = y_hat - y;
    (e * e, 2.0 * e)
}

/// Half the square up to `delta`, linear beyond.
#[must_use]
pub fn huber(delta: f64, y: f64, y_hat: f64) -> (f64, f64) {
    let e = y_hat - y;
    if e.abs() <= delta {
        (0.5 * e * e, e)
    } else {
        (delta * (e.abs() - 0.5 * delta), delta * sign(e))
    }
}

/// `q max(-e, 0) + (1 - q) max(e, 0)`; at zero the slope is the mean of both sides.
#[must_use]
pub fn quantile(q: f64, y: f64, y_hat: f64) -> (f64, f64) {
    let e = y_hat - y;
    if e < 0.0 {
        (-q * e, -q)
    } else if e == 0.0 {
        (0.0, 0.5 - q)
    } else {
        ((1.0 - q) * e, 1.0 - q)
    }
}

/// The Huber loss, weighed by `q` below the target and `1 - q` elsewhere.
#[must_use]
pub fn huber_quantile(q: f64, delta: f64, y: f64, y_hat: f64) -> (f64, f64) {
    let (loss, slope) = huber(delta, y, y_hat);
    let weight = if y_hat < y { q } else { 1.0 - q };
    (weight * loss, weight * slope)
}

/// `2 |e| / (|y| + |y_hat|)`, zero where both are zero.
#[must_use]
pub fn smape(y: f64, y_hat: f64) -> (f64, f64) {
    let (e, sum) = (y_hat - y, y.abs() + y_hat.abs());
    if sum == 0.0 {
        return (0.0, 0.0);
    }
    (
        2.0 * e.abs() / sum,
        2.0 * (sign(e) * sum - e.abs() * sign(y_hat)) / (sum * sum),
    )
}

/// `|e| / |y|`, zero where `y` is zero.
#[must_use]
pub fn mape(y: f64, y_hat: f64) -> (f64, f64) {
    let e = y_hat - y;
    if y == 0.0 {
        (0.0, 0.0)
    } else {
        (e.abs() / y.abs(), sign(e) / y.abs())
    }
}

/// Tukey's biweight.
#[must_use]
pub fn tukey(c: f64, y: f64, y_hat: f64) -> (f64, f64) {
    let e = y_hat - y;
    if e.abs() >= c {
        return (c * c / 6.0, 0.0);
    }
    let rest = 1.0 - (e / c) * (e / c);
    (c * c / 6.0 * (1.0 - rest.powi(3)), e * rest * rest)
}
