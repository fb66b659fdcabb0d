//! How close is close.

use nd_core::Real;

/// Asserts `|got - want| <= absolute + relative * |want|` for every element; NaN matches NaN, infinities match themselves.
///
/// # Panics
/// On the first element that is not close, or when the lengths differ.
#[track_caller]
pub fn assert_close<R: Real>(what: &str, got: &[R], want: &[R], absolute: f64, relative: f64) {
    assert_eq!(
        got.len(),
        want.len(),
        "{what}: {} values, expected {}",
        got.len(),
        want.len()
    );
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let (g, w) = (g.to_f64(), w.to_f64());
        if g == w || (g.is_nan() && w.is_nan()) {
            continue;
        }
        let bound = absolute + relative * w.abs();
        assert!(
            (g - w).abs() <= bound && bound.is_finite(),
            "{what}[{i}] = {g:e}, expected {w:e}: the difference {:e} is above {bound:e}",
            (g - w).abs()
        );
    }
}

/// `||got - want|| / ||want||` in the Euclidean norm; the absolute norm of `got` where `want` is zero.
///
/// # Panics
/// The lengths differ.
#[must_use]
#[track_caller]
pub fn norm_error<R: Real>(got: &[R], want: &[f64]) -> f64 {
    assert_eq!(
        got.len(),
        want.len(),
        "{} values, expected {}",
        got.len(),
        want.len()
    );
    let difference = got
        .iter()
        .zip(want)
        .map(|(g, w)| (g.to_f64() - w).powi(2))
        .sum::<f64>();
    let size = want.iter().map(|w| w * w).sum::<f64>();
    if size == 0.0 {
        difference.sqrt()
    } else {
        (difference / size).sqrt()
    }
}

/// Asserts that [`norm_error`] is at most `tolerance`, or that the reference is zero and every value within `absolute`.
///
/// # Panics
/// Otherwise, naming what differs and where it differs most.
#[track_caller]
pub fn assert_norm_close<R: Real>(
    what: &str,
    got: &[R],
    want: &[f64],
    tolerance: f64,
    absolute: f64,
) {
    assert_eq!(
        got.len(),
        want.len(),
        "{what}: {} values, expected {}",
        got.len(),
        want.len()
    );
    if got
        .iter()
        .zip(want)
        .all(|(g, w)| (g.to_f64() - w).abs() <= absolute)
    {
        return;
    }
    let error = norm_error(got, want);
    if error <= tolerance {
        return;
    }
    let (at, _) = got
        .iter()
        .zip(want)
        .map(|(g, w)| (g.to_f64() - w).abs())
        .enumerate()
        .fold((0, -1.0), |worst, (i, e)| {
            if e > worst.1 || e.is_nan() {
                (i, e)
            } else {
                worst
            }
        });
    panic!(
        "{what}: the error is {error:e} of the norm, above {tolerance:e}; worst at [{at}]: {} for {}",
        got[at], want[at]
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_infinities_and_nans_are_close() {
        let values = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1.0];
        assert_close("values", &values, &values, 0.0, 0.0);
    }

    #[test]
    #[should_panic(expected = "v[1] = NaN")]
    fn a_nan_is_not_a_number() {
        assert_close("v", &[1.0, f64::NAN], &[1.0, 2.0], 1.0, 1.0);
    }

    #[test]
    #[should_panic(expected = "above 1e-8; worst at [1]")]
    fn a_wrong_element_is_found() {
        assert_norm_close("v", &[1.0f64, 2.1], &[1.0, 2.0], 1e-8, 0.0);
    }

    #[test]
    #[should_panic(expected = "worst at [0]")]
    fn a_nan_norm_is_an_error() {
        assert_norm_close("v", &[f64::NAN, 2.0], &[1.0, 2.0], 1e-8, 0.0);
    }
}
