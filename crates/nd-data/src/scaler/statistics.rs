//! Sums, extremes and medians of a slice.

use nd_core::Real;

/// Lanes of a sum. Fixed, so that a sum has the same bits on every machine.
const LANES: usize = 8;

/// `sum of f(x)` in `f64`, in [`LANES`] lanes that are added in order.
#[inline(always)]
fn sum_of<R: Real>(values: &[R], f: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let chunks = values.chunks_exact(LANES);
    let tail = chunks.remainder();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x.to_f64());
        }
    }
    let tail: f64 = tail.iter().map(|x| f(x.to_f64())).sum();
    lanes.iter().sum::<f64>() + tail
}

/// The mean; NaN of an empty slice.
pub(super) fn mean<R: Real>(values: &[R]) -> f64 {
    sum_of(values, |x| x) / values.len() as f64
}

/// The square root of the mean squared distance from `mean`; exactly zero if all values are equal.
pub(super) fn population_std<R: Real>(values: &[R], mean: f64) -> f64 {
    let variance = sum_of(values, |x| (x - mean) * (x - mean)) / values.len() as f64;
    let std = variance.sqrt();
    // The mean of equal values may be off by a rounding, which must not pass for a spread.
    let all_equal = || values.iter().all(|x| *x == values[0]);
    if std <= mean.abs() * 1e-12 && all_equal() {
        0.0
    } else {
        std
    }
}

/// The smallest and the largest value; NaN if there is one. The slice must not be empty.
pub(super) fn extremes<R: Real>(values: &[R]) -> (R, R) {
    let (mut low, mut high) = (values[0], values[0]);
    for &x in values {
        if x.is_nan() {
            return (x, x);
        }
        low = if x < low { x } else { low };
        high = if x > high { x } else { high };
    }
    (low, high)
}

/// The value below which lie at most half of the others: the lower one of two middle values.
///
/// The slice must not be empty and must hold no NaN; its order is destroyed.
pub(super) fn lower_median<R: Real>(values: &mut [R]) -> R {
    let middle = (values.len() - 1) / 2;
    *values.select_nth_unstable_by(middle, compare).1
}

/// The mean of the two middle values, or the middle one.
///
/// The slice must not be empty and must hold no NaN; its order is destroyed.
pub(super) fn median<R: Real>(values: &mut [R]) -> f64 {
    let (count, middle) = (values.len(), values.len() / 2);
    let (below, upper, _) = values.select_nth_unstable_by(middle, compare);
    let upper = upper.to_f64();
    if count % 2 == 1 {
        return upper;
    }
    // The other middle value is the largest of those below.
    let lower = below
        .iter()
        .map(|x| x.to_f64())
        .fold(f64::NEG_INFINITY, f64::max);
    lower + (upper - lower) / 2.0
}

fn compare<R: Real>(a: &R, b: &R) -> std::cmp::Ordering {
    a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal)
}
