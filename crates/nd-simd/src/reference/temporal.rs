//! Pooling, interpolation, moving averages and patches of one row, in f64.

/// The largest value of each window of `kernel` values, `stride` apart, the row padded on both ends; NaN wins.
#[must_use]
pub fn max_pool(x: &[f64], kernel: usize, stride: usize, padding: usize, count: usize) -> Vec<f64> {
    let value = |index: usize| {
        let places =
            (index * stride..index * stride + kernel).filter_map(|t| t.checked_sub(padding));
        places
            .filter_map(|t| x.get(t))
            .fold(f64::NEG_INFINITY, |max, &x| {
                if x > max || x.is_nan() { x } else { max }
            })
    };
    (0..count).map(value).collect()
}

/// The mean of each window, the padding counted as zeros, what lies beyond it not counted.
#[must_use]
pub fn avg_pool(x: &[f64], kernel: usize, stride: usize, padding: usize, count: usize) -> Vec<f64> {
    let value = |index: usize| {
        let places = index * stride..(index * stride + kernel).min(x.len() + 2 * padding);
        let n = places.len() as f64;
        let sum: f64 = places.filter_map(|t| x.get(t.checked_sub(padding)?)).sum();
        sum / n
    };
    (0..count).map(value).collect()
}

/// Linear interpolation at `(j + 1/2) n / size - 1/2`.
#[must_use]
pub fn interpolate_linear(x: &[f64], size: usize) -> Vec<f64> {
    let value = |j: usize| {
        let position = ((j as f64 + 0.5) * x.len() as f64 / size as f64 - 0.5).max(0.0);
        let left = position.floor();
        let right = x[(left as usize + 1).min(x.len() - 1)];
        x[left as usize] + (position - left) * (right - x[left as usize])
    };
    (0..size).map(value).collect()
}

/// The knot at `floor(j n / size)`.
#[must_use]
pub fn interpolate_nearest(x: &[f64], size: usize) -> Vec<f64> {
    (0..size).map(|j| x[j * x.len() / size]).collect()
}

/// Keys' cubic convolution with `a = -3/4`, each output a sum over all knots and their repetitions.
#[must_use]
pub fn interpolate_cubic(x: &[f64], size: usize) -> Vec<f64> {
    let a = -0.75;
    let kernel = |d: f64| match d.abs() {
        d if d <= 1.0 => (a + 2.0) * d.powi(3) - (a + 3.0) * d.powi(2) + 1.0,
        d if d < 2.0 => a * d.powi(3) - 5.0 * a * d.powi(2) + 8.0 * a * d - 4.0 * a,
        _ => 0.0,
    };
    let last = x.len() as isize - 1;
    let value = |j: usize| {
        let position = (j as f64 + 0.5) * x.len() as f64 / size as f64 - 0.5;
        (-4..=last + 4)
            .map(|i| kernel(position - i as f64) * x[i.clamp(0, last) as usize])
            .sum()
    };
    (0..size).map(value).collect()
}

/// The mean of `window` values around each value, the ends repeated.
#[must_use]
pub fn moving_average(x: &[f64], window: usize) -> Vec<f64> {
    let half = (window / 2) as isize;
    let last = x.len() as isize - 1;
    let value = |t: isize| {
        let sum: f64 = (t - half..=t + half)
            .map(|t| x[t.clamp(0, last) as usize])
            .sum();
        sum / window as f64
    };
    (0..=last).map(value).collect()
}

/// Patches of `patch` values, `stride` apart, of a row whose last value is repeated `padding` times.
#[must_use]
pub fn patches(x: &[f64], patch: usize, stride: usize, padding: usize) -> Vec<f64> {
    let count = (x.len() + padding - patch) / stride + 1;
    let places = (0..count).flat_map(|p| p * stride..p * stride + patch);
    places.map(|t| x[t.min(x.len() - 1)]).collect()
}
