//! Forecasts that need no training: what every model has to beat.

use nd_core::Real;

/// Repeats the last season: value `k` is `y[n - s + k mod s]`.
///
/// A season of one repeats the last value. With fewer rows than a season has, the rows there are form the season; with
/// none the forecast is zero.
///
/// ```
/// use nd_data::baseline::seasonal_naive;
/// assert_eq!(seasonal_naive(&[1.0, 2.0, 3.0], 2, 3), vec![2.0, 3.0, 2.0]);
/// ```
///
/// # Panics
/// If the season is zero.
#[must_use]
#[track_caller]
pub fn seasonal_naive<R: Real>(y: &[R], seasonality: usize, horizon: usize) -> Vec<R> {
    assert!(
        seasonality > 0,
        "a season of 0 rows; 1 repeats the last value"
    );
    let season = &y[y.len() - seasonality.min(y.len())..];
    let mut values = season.iter().copied().cycle();
    (0..horizon)
        .map(|_| values.next().unwrap_or(R::ZERO))
        .collect()
}

/// [`seasonal_naive`] of a series with rows that were not observed: value `k` is that of the last observed row a whole
/// number of seasons before it.
///
/// Where no such row was observed it is the last observed value of the series, and zero where there is none at all.
///
/// ```
/// use nd_data::baseline::observed_seasonal_naive;
/// let seen = [true, true, true, false];
/// assert_eq!(observed_seasonal_naive(&[1.0, 2.0, 3.0, 0.0], &seen, 2, 3), vec![3.0, 2.0, 3.0]);
/// ```
///
/// # Panics
/// If the season is zero, or the lengths differ.
#[must_use]
#[track_caller]
pub fn observed_seasonal_naive<R: Real>(
    y: &[R],
    observed: &[bool],
    seasonality: usize,
    horizon: usize,
) -> Vec<R> {
    assert!(
        y.len() == observed.len(),
        "{} values with {} flags",
        y.len(),
        observed.len()
    );
    assert!(
        seasonality > 0,
        "a season of 0 rows; 1 repeats the last value"
    );
    // A series shorter than a season is one, as in the forecast without a mask.
    let season = seasonality.min(y.len()).max(1);
    let last = (0..y.len()).rev().find(|&row| observed[row]);
    let place = |k: usize| {
        let newest = (y.len() + k % season).checked_sub(season)?;
        let mut rows = (0..=newest).rev().step_by(season);
        rows.find(|&row| observed.get(row) == Some(&true)).or(last)
    };
    (0..horizon)
        .map(|k| place(k).map_or(R::ZERO, |row| y[row]))
        .collect()
}

/// The M4 competition's benchmark Naive2: the last value of the series without its season, times the season.
///
/// The season counts only if the autocorrelation at its lag passes the competition's test at 90 %,
/// `|r_s| > 1.645 sqrt((1 + 2 (r_1^2 + ... + r_(s-1)^2)) / n)`, which needs three seasons of rows. Its factors are those of the
/// classical multiplicative decomposition: the mean over the years of `y / trend`, with the centred moving average over
/// a season as trend, scaled to a mean of one. (Makridakis, Spiliotis and Assimakopoulos, International Journal of
/// Forecasting 2020, and the competition's published benchmark code.)
///
/// # Panics
/// If the season is zero.
#[must_use]
#[track_caller]
pub fn naive2<R: Real>(y: &[R], seasonality: usize, horizon: usize) -> Vec<R> {
    assert!(seasonality > 0, "a season of 0 rows; 1 means no season");
    let y: Vec<f64> = y.iter().map(|y| y.to_f64()).collect();
    let last = y.last().copied().unwrap_or(0.0);
    let n = y.len();
    if seasonality == 1 || !is_seasonal(&y, seasonality) {
        return vec![R::from_f64(last); horizon];
    }
    let factors = seasonal_factors(&y, seasonality);
    let level = last / factors[(n - 1) % seasonality];
    (0..horizon)
        .map(|k| R::from_f64(level * factors[(n + k) % seasonality]))
        .collect()
}

/// The competition's test of the autocorrelation at the season's lag.
fn is_seasonal(y: &[f64], seasonality: usize) -> bool {
    /// The 0.95 quantile of the standard normal distribution, as rounded in the competition's code.
    const LIMIT: f64 = 1.645;
    let n = y.len();
    if n < 3 * seasonality {
        return false;
    }
    let mean = y.iter().sum::<f64>() / n as f64;
    let covariance = |lag: usize| -> f64 {
        y[lag..]
            .iter()
            .zip(y)
            .map(|(a, b)| (a - mean) * (b - mean))
            .sum::<f64>()
    };
    let variance = covariance(0);
    let r = |lag| covariance(lag) / variance;
    let noise: f64 = (1..seasonality).map(|lag| r(lag) * r(lag)).sum();
    let limit = LIMIT * ((1.0 + 2.0 * noise) / n as f64).sqrt();
    r(seasonality).abs() > limit
}

/// One factor per row of the season, the first for rows 0, s, 2s, ...; their mean is one.
fn seasonal_factors(y: &[f64], seasonality: usize) -> Vec<f64> {
    let half = seasonality / 2;
    let mut sums = vec![(0.0, 0_u32); seasonality];
    for t in half..y.len().saturating_sub(half) {
        // An even season has no middle row: its two outer rows count half.
        let trend = if seasonality.is_multiple_of(2) {
            let inner: f64 = y[t - half + 1..t + half].iter().sum();
            (inner + (y[t - half] + y[t + half]) / 2.0) / seasonality as f64
        } else {
            y[t - half..=t + half].iter().sum::<f64>() / seasonality as f64
        };
        let (sum, count) = &mut sums[t % seasonality];
        *sum += y[t] / trend;
        *count += 1;
    }
    let factors: Vec<f64> = sums
        .iter()
        .map(|&(sum, count)| sum / f64::from(count))
        .collect();
    let mean = factors.iter().sum::<f64>() / seasonality as f64;
    factors.iter().map(|factor| factor / mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_series_still_have_a_forecast() {
        assert_eq!(seasonal_naive(&[5.0_f32], 24, 3), vec![5.0; 3]);
        assert_eq!(seasonal_naive::<f32>(&[], 24, 2), vec![0.0; 2]);
        assert_eq!(naive2(&[1.0, 4.0], 12, 2), vec![4.0, 4.0]);
        assert_eq!(naive2::<f64>(&[], 12, 1), vec![0.0]);
    }

    #[test]
    fn the_observed_naive_forecast_is_the_plain_one_of_a_whole_series() {
        for (n, season, horizon) in [
            (0, 3, 4),
            (1, 3, 4),
            (2, 3, 7),
            (3, 3, 2),
            (10, 4, 9),
            (9, 1, 3),
        ] {
            let y: Vec<f32> = (0..n).map(|t| (t * t) as f32).collect();
            let plain = seasonal_naive(&y, season, horizon);
            let seen = vec![true; n];
            assert_eq!(observed_seasonal_naive(&y, &seen, season, horizon), plain);
        }
    }

    #[test]
    fn the_observed_naive_forecast_steps_back_whole_seasons() {
        let mut y: Vec<f64> = (0..21).map(|t| f64::from(t % 7)).collect();
        let mut seen = vec![true; 21];
        for hole in [14, 15, 8, 20] {
            (y[hole], seen[hole]) = (-1e9, false);
        }
        let weekdays: Vec<f64> = (0..7).chain(0..3).map(f64::from).collect();
        assert_eq!(observed_seasonal_naive(&y, &seen, 7, 10), weekdays);
        // No Tuesday was ever seen: the last observed value stands in.
        (seen[1], seen[19]) = (false, false);
        assert_eq!(observed_seasonal_naive(&y, &seen, 7, 2), vec![0.0, 4.0]);
        assert_eq!(
            observed_seasonal_naive(&y, &[false; 21], 7, 2),
            vec![0.0; 2]
        );
    }

    #[test]
    fn naive2_continues_a_pure_season_times_a_level() {
        for season in [vec![0.5, 1.0, 1.5, 1.0], vec![0.6, 1.0, 1.4]] {
            let s = season.len();
            let y: Vec<f64> = (0..10 * s + 1).map(|t| 20.0 * season[t % s]).collect();
            let forecast = naive2(&y, s, 2 * s);
            for (k, value) in forecast.iter().enumerate() {
                let expected = 20.0 * season[(y.len() + k) % s];
                assert!(
                    (value - expected).abs() < 1e-9,
                    "step {k}: {value} for {expected}"
                );
            }
        }
    }

    #[test]
    fn naive2_of_noise_without_a_season_is_the_last_value() {
        let y: Vec<f64> = (0..60).map(|t| f64::from(t * t % 17)).collect();
        assert!(!is_seasonal(&y, 4));
        assert_eq!(naive2(&y, 4, 2), vec![y[59]; 2]);
    }
}
