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
    fn the_spread_is_the_distance_of_the_quartiles() {
        let values: Vec<f64> = (1..=5).map(f64::from).collect();
        assert_eq!(Measure::of(&values, "ms").unwrap().spread, 2.0);
        assert_eq!(
            Measure::of(&[7.0], "ms").unwrap(),
            Measure::single(7.0, "ms")
        );
    }
}
