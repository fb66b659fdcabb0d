//! How far forecasts are from what happened.
//!
//! The simple version: a metric is a weighted mean of an error per value, `sum(w e) / sum(w)`, with `w = 1` where no
//! weights are given. All take slices of equal length and accumulate in `f64` in order.
//!
//! What holds for all:
//! * a value of weight zero does not count, whatever it is (masked values may be NaN);
//! * NaN or infinity among the values that count makes the result NaN or infinite: it is never skipped, unlike in
//!   NeuralForecast's numpy metrics, whose `nanmean` hides forecasts that failed;
//! * no value that counts gives NaN, the mean of nothing.
//!
//! Percentages are fractions: multiply by 100 for percent. Sources differ about sMAPE; see [`smape`].

use nd_core::Real;

/// What a target of zero means for a relative error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ZeroTarget {
    /// It does not count (utilsforecast).
    #[default]
    Skip,
    /// It counts as an error of zero (NeuralForecast).
    CountAsZero,
}

/// The weighted mean of an error over pairs of target and forecast.
#[track_caller]
fn weighted_mean<R: Real>(
    y: &[R],
    y_hat: &[R],
    weights: Option<&[R]>,
    error: impl Fn(f64, f64) -> Option<f64>,
) -> f64 {
    check(y.len(), y_hat.len(), weights.map(<[R]>::len));
    let (mut sum, mut total) = (0.0, 0.0);
    for (i, (y, y_hat)) in y.iter().zip(y_hat).enumerate() {
        let weight = weights.map_or(1.0, |w| w[i].to_f64());
        if weight == 0.0 {
            continue;
        }
        if let Some(error) = error(y.to_f64(), y_hat.to_f64()) {
            sum += weight * error;
            total += weight;
        }
    }
    sum / total
}

#[track_caller]
fn check(y: usize, y_hat: usize, weights: Option<usize>) {
    assert!(
        y == y_hat && weights.is_none_or(|w| w == y),
        "{y} targets were compared with {y_hat} forecasts and {weights:?} weights"
    );
}

/// The mean absolute error, `mean |y - ŷ|`.
///
/// # Panics
/// If the lengths differ, as in every function of this module.
#[must_use]
#[track_caller]
pub fn mae<R: Real>(y: &[R], y_hat: &[R], weights: Option<&[R]>) -> f64 {
    weighted_mean(y, y_hat, weights, |y, f| Some((y - f).abs()))
}

/// The mean squared error, `mean (y - ŷ)^2`.
///
/// # Panics
/// If the lengths differ.
#[must_use]
#[track_caller]
pub fn mse<R: Real>(y: &[R], y_hat: &[R], weights: Option<&[R]>) -> f64 {
    weighted_mean(y, y_hat, weights, |y, f| Some((y - f) * (y - f)))
}

/// The root of the mean squared error.
///
/// # Panics
/// If the lengths differ.
#[must_use]
#[track_caller]
pub fn rmse<R: Real>(y: &[R], y_hat: &[R], weights: Option<&[R]>) -> f64 {
    mse(y, y_hat, weights).sqrt()
}

/// The mean error, `mean (ŷ - y)`: positive if forecasts are too high.
///
/// # Panics
/// If the lengths differ.
#[must_use]
#[track_caller]
pub fn bias<R: Real>(y: &[R], y_hat: &[R], weights: Option<&[R]>) -> f64 {
    weighted_mean(y, y_hat, weights, |y, f| Some(f - y))
}

/// The mean absolute percentage error, `mean |y - ŷ| / |y|`, as a fraction.
///
/// # Panics
/// If the lengths differ.
#[must_use]
#[track_caller]
pub fn mape<R: Real>(y: &[R], y_hat: &[R], weights: Option<&[R]>, zero: ZeroTarget) -> f64 {
    weighted_mean(y, y_hat, weights, |y, f| match (y == 0.0, zero) {
        (false, _) => Some((y - f).abs() / y.abs()),
        (true, ZeroTarget::Skip) => None,
        // A forecast that is NaN is not a perfect one.
        (true, ZeroTarget::CountAsZero) => Some(if f.is_nan() { f } else { 0.0 }),
    })
}

/// The symmetric mean absolute percentage error, `mean 2 |y - ŷ| / (|y| + |ŷ|)`, from 0 to 2; zero over zero is zero.
///
/// This is NeuralForecast's scale. The M4 competition's is 100 times, utilsforecast's half of it.
/// (Makridakis, "Accuracy measures: theoretical and practical concerns", International Journal of Forecasting 1993.)
///
/// # Panics
/// If the lengths differ.
#[must_use]
#[track_caller]
pub fn smape<R: Real>(y: &[R], y_hat: &[R], weights: Option<&[R]>) -> f64 {
    weighted_mean(y, y_hat, weights, |y, f| {
        let size = y.abs() + f.abs();
        Some(if size == 0.0 {
            0.0
        } else {
            2.0 * (y - f).abs() / size
        })
    })
}

/// The error of the seasonal naive forecast within the training rows, `mean |y_t - y_(t - s)|`: the scale of [`mase`].
///
/// NaN if there are not more rows than a season has.
///
/// # Panics
/// If the season is zero.
#[must_use]
#[track_caller]
pub fn mase_scale<R: Real>(insample: &[R], seasonality: usize) -> f64 {
    assert!(seasonality > 0, "a season of 0 rows; 1 means no season");
    match insample.len().checked_sub(seasonality) {
        None | Some(0) => f64::NAN,
        Some(pairs) => mae(&insample[seasonality..], &insample[..pairs], None),
    }
}

/// The mean absolute scaled error: [`mae`] over [`mase_scale`] of the rows before the forecast.
///
/// A training series that repeats exactly has scale zero: the result is infinite, or NaN for a perfect forecast.
/// (Hyndman and Koehler, "Another look at measures of forecast accuracy", International Journal of Forecasting 2006.)
///
/// # Panics
/// If the lengths of `y`, `y_hat` and `weights` differ, or the season is zero.
#[must_use]
#[track_caller]
pub fn mase<R: Real>(
    y: &[R],
    y_hat: &[R],
    insample: &[R],
    seasonality: usize,
    weights: Option<&[R]>,
) -> f64 {
    mae(y, y_hat, weights) / mase_scale(insample, seasonality)
}

/// The normalised deviation, `sum |y - ŷ| / sum |y|` (with weights in both sums).
///
/// # Panics
/// If the lengths differ.
#[must_use]
#[track_caller]
pub fn nd<R: Real>(y: &[R], y_hat: &[R], weights: Option<&[R]>) -> f64 {
    mae(y, y_hat, weights) / weighted_mean(y, y, weights, |y, _| Some(y.abs()))
}

/// The quantile (pinball) loss, `mean max(q (y - ŷ), (q - 1)(y - ŷ))`.
///
/// (Koenker and Bassett, "Regression quantiles", Econometrica 1978.)
///
/// # Panics
/// If the lengths differ.
#[must_use]
#[track_caller]
pub fn quantile_loss<R: Real>(y: &[R], y_hat: &[R], q: f64, weights: Option<&[R]>) -> f64 {
    weighted_mean(y, y_hat, weights, |y, f| Some(pinball(y, f, q)))
}

fn pinball(y: f64, f: f64, q: f64) -> f64 {
    let error = y - f;
    // Not `max`, which would swallow a NaN.
    if error < 0.0 {
        (q - 1.0) * error
    } else {
        q * error
    }
}

/// The mean of the quantile losses of several quantiles; `y_hat` holds `[values, quantiles]`.
///
/// # Panics
/// If the lengths do not fit.
#[must_use]
#[track_caller]
pub fn mqloss<R: Real>(y: &[R], y_hat: &[R], quantiles: &[f64], weights: Option<&[R]>) -> f64 {
    let n = quantiles.len();
    assert!(
        y_hat.len() == y.len() * n,
        "{} targets with {} quantiles need {} forecasts, not {}",
        y.len(),
        n,
        y.len() * n,
        y_hat.len()
    );
    check(y.len(), y.len(), weights.map(<[R]>::len));
    let (mut sum, mut total) = (0.0, 0.0);
    for (i, y) in y.iter().enumerate() {
        let weight = weights.map_or(1.0, |w| w[i].to_f64());
        if weight == 0.0 {
            continue;
        }
        let forecasts = y_hat[i * n..(i + 1) * n].iter().zip(quantiles);
        let losses = forecasts.map(|(f, &q)| pinball(y.to_f64(), f.to_f64(), q));
        sum += weight * losses.sum::<f64>() / n as f64;
        total += weight;
    }
    sum / total
}

/// The continuous ranked probability score approximated by quantiles and scaled: `2 n mqloss / sum |y|`.
///
/// The division adds the machine epsilon to its denominator, as utilsforecast does.
/// (Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", JASA 2007.)
///
/// # Panics
/// If the lengths do not fit.
#[must_use]
#[track_caller]
pub fn scaled_crps<R: Real>(y: &[R], y_hat: &[R], quantiles: &[f64]) -> f64 {
    let norm: f64 = y.iter().map(|y| y.to_f64().abs()).sum();
    2.0 * mqloss(y, y_hat, quantiles, None) * y.len() as f64 / (norm + f64::EPSILON)
}

/// The share of targets within their interval, borders included.
///
/// A NaN target or border that counts makes the result NaN.
///
/// # Panics
/// If the lengths differ.
#[must_use]
#[track_caller]
pub fn coverage<R: Real>(y: &[R], low: &[R], high: &[R], weights: Option<&[R]>) -> f64 {
    check(y.len(), low.len(), Some(high.len()));
    check(y.len(), low.len(), weights.map(<[R]>::len));
    let (mut sum, mut total) = (0.0, 0.0);
    for (i, ((y, low), high)) in y.iter().zip(low).zip(high).enumerate() {
        let weight = weights.map_or(1.0, |w| w[i].to_f64());
        if weight == 0.0 {
            continue;
        }
        if y.is_nan() || low.is_nan() || high.is_nan() {
            return f64::NAN;
        }
        sum += if *low <= *y && *y <= *high {
            weight
        } else {
            0.0
        };
        total += weight;
    }
    sum / total
}

/// The M4 competition's overall weighted average: the mean of sMAPE and MASE, each relative to the Naive2 forecast's.
///
/// All four are averages over the series. (Makridakis, Spiliotis and Assimakopoulos, "The M4 competition: 100,000 time
/// series and 61 forecasting methods", International Journal of Forecasting 2020.)
#[must_use]
pub fn owa(smape: f64, mase: f64, naive2_smape: f64, naive2_mase: f64) -> f64 {
    (smape / naive2_smape + mase / naive2_mase) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    type Metric = dyn Fn(&[f64], &[f64], Option<&[f64]>) -> f64;

    const Y: [f64; 4] = [1.0, -2.0, 0.0, 4.0];
    const F: [f64; 4] = [2.0, -4.0, 1.0, 4.0];

    #[test]
    fn by_hand() {
        assert_eq!(mae(&Y, &F, None), 1.0);
        assert_eq!(mse(&Y, &F, None), 1.5);
        assert_eq!(rmse(&Y, &F, None), 1.5_f64.sqrt());
        assert_eq!(bias(&Y, &F, None), 0.0);
        assert_eq!(mape(&Y, &F, None, ZeroTarget::Skip), 2.0 / 3.0);
        assert_eq!(mape(&Y, &F, None, ZeroTarget::CountAsZero), 0.5);
        let expected = (2.0 / 3.0 + 4.0 / 6.0 + 2.0 + 0.0) / 4.0;
        assert!((smape(&Y, &F, None) - expected).abs() < 1e-15);
        assert_eq!(smape(&[0.0], &[0.0], None), 0.0);
        assert_eq!(nd(&Y, &F, None), 4.0 / 7.0);
        assert_eq!(mase_scale(&[1.0, 5.0, 2.0, 8.0], 2), 2.0);
        assert_eq!(mase(&Y, &F, &[1.0, 5.0, 2.0, 8.0], 2, None), 0.5);
        assert_eq!(quantile_loss(&[3.0], &[1.0], 0.9, None), 1.8);
        assert!((quantile_loss(&[1.0], &[3.0], 0.9, None) - 0.2).abs() < 1e-15);
        assert_eq!(
            coverage(&Y, &[1.0, -1.0, -1.0, 0.0], &[1.0, 0.0, 1.0, 3.0], None),
            0.5
        );
        assert_eq!(owa(1.0, 3.0, 2.0, 2.0), 1.0);
    }

    #[test]
    fn weight_zero_hides_even_nan_and_other_nan_is_never_hidden() {
        let (y, f) = ([1.0, f64::NAN, 3.0], [2.0, 5.0, 3.0]);
        let weights = [1.0, 0.0, 3.0];
        let all: [&Metric; 7] = [
            &mae,
            &mse,
            &rmse,
            &bias,
            &|y, f, w| mape(y, f, w, ZeroTarget::CountAsZero),
            &smape,
            &|y, f, w| quantile_loss(y, f, 0.3, w),
        ];
        for metric in all {
            assert!(metric(&y, &f, Some(&weights)).is_finite());
            assert!(metric(&y, &f, None).is_nan());
            assert!(metric(&f, &y, None).is_nan());
            assert!(metric(&[], &[], None).is_nan());
            assert!(metric(&y, &f, Some(&[0.0; 3])).is_nan());
        }
        assert!(mape(&[0.0], &[f64::NAN], None, ZeroTarget::CountAsZero).is_nan());
        assert!(coverage(&y, &f, &f, None).is_nan());
        assert!(mqloss(&y, &[0.0; 6], &[0.1, 0.9], None).is_nan());
        assert!(mase_scale::<f64>(&[1.0, 2.0], 2).is_nan());
        assert_eq!(mae(&y, &f, Some(&weights)), 0.25);
    }

    #[test]
    #[should_panic(expected = "4 targets were compared with 3 forecasts")]
    fn lengths_must_agree() {
        let _ = mae(&Y, &F[..3], None);
    }
}
