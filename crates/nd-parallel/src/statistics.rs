//! Statistics of a few numbers: of the members of an ensemble, of draws, of quantiles.

/// The `q`-quantile of sorted values, by linear interpolation between neighbours (Hyndman and Fan's type 7).
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let (below, share) = (place.floor() as usize, place.fract());
    let (low, high) = (sorted[below], sorted[(below + 1).min(sorted.len() - 1)]);
    between(low, high, share)
}

/// What lies at a share of the way from one value to a larger one; with one infinite end, that end.
fn between(low: f64, high: f64, share: f64) -> f64 {
    let gap = high - low;
    // Not a weighted sum in general: equal neighbours, infinite ones too, are their own quantile.
    if share == 0.0 || low == high {
        low
    } else if gap.is_finite() {
        low + share * gap
    } else {
        (1.0 - share) * low + share * high
    }
}

/// The whole part of a product that a decimal share may have left a few roundings below a whole number: 0.29 of 100 are 29.
pub(crate) fn share_of(n: usize, share: f64) -> usize {
    let product = n as f64 * share;
    let nearest = product.round();
    let is_whole = (product - nearest).abs() <= 4.0 * f64::EPSILON * nearest;
    (if is_whole { nearest } else { product.floor() }) as usize
}

/// The mean of some values with weights that are not negative and not all zero.
pub(crate) fn weighted_mean(values: &[f64], weights: &[f64]) -> f64 {
    let largest = weights.iter().copied().fold(0.0, f64::max);
    // A power of two changes no bit of the quotient, and brings the largest weight near 1, so that products neither overflow nor vanish.
    let exponent = (largest.to_bits() >> 52) as i32 - 1023;
    let scale = 2f64.powi(-exponent.max(-1022));
    let scaled = || weights.iter().map(|w| w * scale);
    // A model without weight has no say, infinite or not; NaN is passed on all the same.
    let term = |(&x, w): (&f64, f64)| if w == 0.0 && !x.is_nan() { 0.0 } else { x * w };
    values.iter().zip(scaled()).map(term).sum::<f64>() / scaled().sum::<f64>()
}

/// Mean and sample standard deviation.
pub(crate) fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0)).sqrt())
}

/// Sorts numbers; false if one of them is NaN, which has no place among the others.
pub(crate) fn sort(values: &mut [f64]) -> bool {
    values.sort_unstable_by(f64::total_cmp);
    !values.iter().any(|x| x.is_nan())
}

/// A quantile function through some quantiles: straight lines between them, flat beyond the first and the last.
pub(crate) struct QuantileFunction<'a> {
    /// Ascending.
    pub(crate) probabilities: &'a [f64],
    /// Ascending.
    pub(crate) values: &'a [f64],
}

impl QuantileFunction<'_> {
    /// Its value at a probability.
    pub(crate) fn at(&self, p: f64) -> f64 {
        let after = self.probabilities.partition_point(|&q| q < p);
        let last = self.values.len() - 1;
        if after == 0 {
            return self.values[0];
        }
        if after > last {
            return self.values[last];
        }
        let (p0, p1) = (self.probabilities[after - 1], self.probabilities[after]);
        let (v0, v1) = (self.values[after - 1], self.values[after]);
        if p == p1 {
            v1
        } else {
            between(v0, v1, (p - p0) / (p1 - p0))
        }
    }

    /// Mean and standard deviation of the distribution: integrals of the quantile function and of its square over all
    /// probabilities. Its tails hold no more than their quantile, so the deviation is a lower bound.
    pub(crate) fn moments(&self) -> (f64, f64) {
        let last = self.values.len() - 1;
        let (first_p, last_p) = (self.probabilities[0], self.probabilities[last]);
        let middle = self.at(0.5);
        // Around the median, so that squares of large numbers do not cancel.
        let of = |i: usize| self.values[i] - middle;
        let mut mean = first_p * of(0) + (1.0 - last_p) * of(last);
        let mut square = first_p * of(0).powi(2) + (1.0 - last_p) * of(last).powi(2);
        for i in 0..last {
            let (a, b) = (of(i), of(i + 1));
            let d = self.probabilities[i + 1] - self.probabilities[i];
            mean += d * (a + b) / 2.0;
            square += d * (a * a + a * b + b * b) / 3.0;
        }
        (middle + mean, (square - mean * mean).max(0.0).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let sorted = [1.0, 2.0, 4.0];
        assert_eq!(
            [0.0, 0.25, 0.5, 1.0].map(|q| quantile(&sorted, q)),
            [1.0, 1.5, 2.0, 4.0]
        );
        assert_eq!(quantile(&[f64::INFINITY; 2], 0.3), f64::INFINITY);
        assert_eq!(quantile(&[7.0], 0.9), 7.0);
        let inf = f64::INFINITY;
        assert_eq!(quantile(&[-inf, 5.0], 0.5), -inf);
        assert_eq!(quantile(&[5.0, inf], 0.25), inf);
        assert!(
            quantile(&[-inf, inf], 0.5).is_nan(),
            "as their mean would be"
        );
        assert_eq!(quantile(&[-1.5e308, 1.5e308], 0.5), 0.0);
        let function = QuantileFunction {
            probabilities: &[0.1, 0.9],
            values: &[-inf, 5.0],
        };
        assert_eq!(function.at(0.5), -inf);
    }

    #[test]
    fn shares_are_those_of_the_decimal_number() {
        assert_eq!((100.0 * 0.29) as usize, 28, "what a product alone gives");
        for percent in 0..50 {
            let share = f64::from(percent) / 100.0;
            assert_eq!(share_of(100, share), percent as usize);
        }
        assert_eq!([share_of(5, 0.39), share_of(10, 0.2999)], [1, 2]);
    }

    #[test]
    fn weights_of_any_size_give_a_mean() {
        let near = |values: &[f64], weights: &[f64], wanted: f64| {
            let found = weighted_mean(values, weights);
            assert!((found / wanted - 1.0).abs() < 1e-15, "{found}, {wanted}");
        };
        near(&[1e10, 2.0], &[1e308, 1e307], (1e11 + 2.0) / 11.0);
        near(&[3.0, 5.0], &[5e-324, 5e-324], 4.0);
        near(&[3.0, 5.0], &[1e-308, 3e-308], 4.5);
        let (values, weights) = ([0.1, 0.7, -0.4], [0.3, 1.7, 12.1]);
        let plain = values.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>();
        let plain = plain / weights.iter().sum::<f64>();
        assert_eq!(weighted_mean(&values, &weights), plain, "to the bit");
    }

    #[test]
    fn a_uniform_quantile_function_has_the_moments_of_the_uniform_law() {
        let probabilities = [0.0, 0.25, 0.5, 1.0];
        let values = [10.0, 11.0, 12.0, 14.0];
        let f = QuantileFunction {
            probabilities: &probabilities,
            values: &values,
        };
        let (mean, std) = f.moments();
        assert!((mean - 12.0).abs() < 1e-12 && (std - 4.0 / 12.0f64.sqrt()).abs() < 1e-12);
        assert!((f.at(0.3) - 11.2).abs() < 1e-12);
        assert_eq!((f.at(0.25), f.at(1.0), f.at(0.0)), (11.0, 14.0, 10.0));
    }
}
