//! Reductions over everything and along axes.

use nd_simd::{SimdReal, reduce};
use ndarray::Axis;

use crate::support::{SHAPES, both, close, each_type, layouts, to_f64};

#[test]
fn reductions_of_every_layout() {
    fn check<R: SimdReal>(tolerance: f64) {
        for shape in SHAPES {
            layouts::<R>(shape, |name, x| {
                let what = format!("{shape:?} {name}");
                let values = to_f64(&x);
                let n = values.len() as f64;
                let close_to = |got: R, expected: f64| {
                    let size: f64 = values.iter().map(|x| x.abs() + x * x).sum();
                    let error = (got.to_f64() - expected).abs();
                    let fine = error <= tolerance * (1.0 + size)
                        || got.to_f64() == expected
                        || (got.is_nan() && expected.is_nan());
                    assert!(fine, "{what}: {got} is not {expected}");
                };
                let sum: f64 = values.iter().sum();
                close_to(reduce::sum(&x), sum);
                close_to(reduce::mean(&x), sum / n);
                let variance = |ddof: f64| {
                    values.iter().map(|x| (x - sum / n).powi(2)).sum::<f64>() / (n - ddof)
                };
                if n > 1.0 {
                    close_to(reduce::variance(&x, 0.0), variance(0.0));
                    close_to(reduce::variance(&x, 1.0), variance(1.0));
                }
                let best = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                assert_eq!(reduce::max(&x).to_f64(), best, "{what}");
                let square: f64 = values.iter().map(|x| x * x).sum();
                close_to(reduce::l2_norm(&x), square.sqrt());
                let other = x.mapv(|x| x + x);
                close_to(reduce::dot(&x, &other), 2.0 * square);
                assert!(reduce::all_finite(&x));
                for axis in 0..3 {
                    let axis = Axis(axis);
                    let lanes = || x.lanes(axis).into_iter().map(|lane| to_f64(&lane));
                    let expected: Vec<f64> = lanes().map(|lane| lane.iter().sum()).collect();
                    close(
                        &reduce::sum_axis(&x, axis),
                        &expected,
                        1e3 * tolerance,
                        &what,
                    );
                    let len = x.len_of(axis) as f64;
                    let means: Vec<f64> = expected.iter().map(|sum| sum / len).collect();
                    close(&reduce::mean_axis(&x, axis), &means, 1e3 * tolerance, &what);
                    if len > 1.0 {
                        let expected: Vec<f64> = lanes()
                            .zip(&means)
                            .map(|(lane, mean)| {
                                lane.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (len - 1.0)
                            })
                            .collect();
                        let got = reduce::variance_axis(&x, axis, 1.0);
                        close(&got, &expected, 1e3 * tolerance, &what);
                    }
                    let expected: Vec<f64> = lanes()
                        .map(|lane| lane.into_iter().fold(f64::NEG_INFINITY, f64::max))
                        .collect();
                    close(&reduce::max_axis(&x, axis), &expected, 0.0, &what);
                }
                // One bad element anywhere is seen by all.
                for at in [0, x.len() / 2, x.len().saturating_sub(1)] {
                    if x.is_empty() {
                        continue;
                    }
                    let mut bad = x.to_owned();
                    *bad.iter_mut().nth(at).unwrap() = R::from_f64(f64::NAN);
                    assert!(
                        reduce::max(&bad).is_nan() && reduce::sum(&bad).is_nan(),
                        "{what}"
                    );
                    assert!(!reduce::all_finite(&bad), "{what}");
                }
            });
        }
    }
    both!(check, 1e-5);
}
