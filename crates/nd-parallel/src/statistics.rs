//! Statistics of a few numbers: of the members of an ensemble, of draws, of quantiles.

/// The `q`-quantile of sorted values, by linear interpolation between neighbours (Hyndman and Fan's type 7).
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let (below, share) = (place.floor() as usize, place.fract());
    let (low, high) = (sorted[below], sorted[(below + 1).min(sorted.len() - 1)]);
    // Not a weighted sum: equal neighbours, infinite ones too, are their own quantile.
    if share == 0.0 || low == high {
        low
    } else {
        low + share * (high - low)
    }
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
            v0 + (p - p0) / (p1 - p0) * (v1 - v0)
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
