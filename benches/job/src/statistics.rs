//! Medians and quartiles of repeated measurements.
//!
//! Times on a shared machine have a long right tail: the median says what is usual, the smallest value what the machine
//! can do, and the distance between the quartiles how far to trust either.

use serde::{Deserialize, Serialize};

/// A measured quantity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// The middle value.
    pub median: f64,
    /// The smallest value.
    pub min: f64,
    /// The third quartile less the first; zero for a single value.
    pub spread: f64,
    /// How many values were measured.
    pub samples: usize,
    /// The unit of all of them.
    pub unit: String,
}

impl Measure {
    /// Summarises values; `None` when there are none.
    #[must_use]
    pub fn of(values: &[f64], unit: &str) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let min = *sorted.first()?;
        Some(Self {
            median: quantile(&sorted, 0.5),
            min,
            spread: quantile(&sorted, 0.75) - quantile(&sorted, 0.25),
            samples: sorted.len(),
            unit: unit.to_owned(),
        })
    }

    /// A quantity that was measured once.
    #[must_use]
    pub fn single(value: f64, unit: &str) -> Self {
        Self {
            median: value,
            min: value,
            spread: 0.0,
            samples: 1,
            unit: unit.to_owned(),
        }
    }
}

/// A median, and where the true one lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The middle value.
    pub median: f64,
    /// The true median is at least this ...
    pub low: f64,
    /// ... and at most this, 95 times in 100.
    pub high: f64,
}

impl Interval {
    /// The median with the interval of the sign test, which assumes nothing about the distribution: each value is above
    /// the true median with probability one half, so their ranks are binomial. With fewer than six values it is their range.
    ///
    /// # Panics
    /// There are no values.
    #[must_use]
    #[track_caller]
    pub fn of_median(values: &[f64]) -> Self {
        assert!(!values.is_empty(), "the median of nothing");
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let cut = outside_the_interval(sorted.len());
        Self {
            median: quantile(&sorted, 0.5),
            low: sorted[cut],
            high: sorted[sorted.len() - 1 - cut],
        }
    }
}

/// The mean of repetitions whose differences are what is of interest, such as errors of the same model from several seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The arithmetic mean.
    pub mean: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// The sample standard deviation; `None` for a single value.
    pub deviation: Option<f64>,
}

impl Summary {
    /// Summarises values; `None` when there are none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Self {
            mean,
            min: values.iter().copied().reduce(f64::min)?,
            max: values.iter().copied().reduce(f64::max)?,
            deviation: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()),
        })
    }
}

/// The largest `c` such that a binomial count of `n` halves is at most `c` with a probability of 2.5 % or less; zero where none is.
fn outside_the_interval(n: usize) -> usize {
    if n > 500 {
        // Normal approximation; the powers of one half below would become zero.
        return (0.5 * (n as f64 - 1.96 * (n as f64).sqrt())) as usize - 1;
    }
    let mut term = 0.5f64.powi(n as i32);
    let (mut tail, mut count) = (term, 0);
    while tail <= 0.025 {
        term *= (n - count) as f64 / (count + 1) as f64;
        count += 1;
        tail += term;
    }
    count.saturating_sub(1)
}

/// The `q`-quantile of sorted values, by linear interpolation between the two neighbours (Hyndman and Fan's type 7).
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let (below, share) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + share * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_and_even_counts_have_their_median() {
        let odd = Measure::of(&[3.0, 1.0, 2.0], "ms").unwrap();
        assert_eq!((odd.median, odd.min, odd.samples), (2.0, 1.0, 3));
        assert_eq!(
            Measure::of(&[4.0, 1.0, 2.0, 3.0], "ms").unwrap().median,
            2.5
        );
        assert_eq!(Measure::of(&[], "ms"), None);
    }

    #[test]
    fn the_interval_of_a_median_is_that_of_the_sign_test() {
        let values: Vec<f64> = (1..=15).map(f64::from).collect();
        let interval = Interval::of_median(&values);
        // P(Bin(15, 1/2) <= 3) = 0.0176 and P(<= 4) = 0.059: the fourth value from either end.
        assert_eq!(
            (interval.low, interval.median, interval.high),
            (4.0, 8.0, 12.0)
        );
        let few = Interval::of_median(&[3.0, 1.0, 2.0]);
        assert_eq!((few.low, few.median, few.high), (1.0, 2.0, 3.0));
        let many: Vec<f64> = (1..=100).map(f64::from).collect();
        let interval = Interval::of_median(&many);
        // P(Bin(100, 1/2) <= 39) = 0.0176 and P(<= 40) = 0.0284.
        assert_eq!((interval.low, interval.high), (40.0, 61.0));
        assert!(outside_the_interval(501).abs_diff(outside_the_interval(500)) <= 1);
    }

    #[test]
    fn a_mean_over_seeds_has_its_spread() {
        let summary = Summary::of(&[1.0, 2.0, 3.0, 6.0]).unwrap();
        assert_eq!((summary.mean, summary.min, summary.max), (3.0, 1.0, 6.0));
        let deviation = summary.deviation.unwrap();
        assert!((deviation - (14.0f64 / 3.0).sqrt()).abs() < 1e-12);
        let one = Summary::of(&[0.5]).unwrap();
        assert_eq!((one.mean, one.deviation), (0.5, None));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn the_spread_is_the_distance_of_the_quartiles() {
        let values: Vec<f64> = (1..=5).map(f64::from).collect();
        assert_eq!(Measure::of(&values, "ms").unwrap().spread, 2.0);
        assert_eq!(
            Measure::of(&[7.0], "ms").unwrap(),
            Measure::single(7.0, "ms")
        );
    }
}
