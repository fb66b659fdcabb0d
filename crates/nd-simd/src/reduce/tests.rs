use super::*;
use crate::testing::{LENGTHS, Noise, assert_close, poisoned};

fn agrees<R: SimdReal>() {
    let unit = R::EPSILON.to_f64() / 2.0;
    let mut noise = Noise::new(4);
    for level in nd_testing::levels() {
        for &len in LENGTHS.iter().chain(&[1023, 1024, 1025, 5000, 100_003]) {
            let a: Vec<R> = noise.vec(len, 2.0);
            let b: Vec<R> = noise.vec(len, 2.0);
            let exact: f64 = a.iter().map(|x| x.to_f64()).sum();
            let absolute: f64 = a.iter().map(|x| x.to_f64().abs()).sum();
            let what = || format!("{level}, {len} elements");
            let bound = SUM_ERROR * unit * absolute + 1e-12;
            assert_close(sum_slice(level, &a), exact, bound, what);
            let exact: f64 = a.iter().zip(&b).map(|(a, b)| a.to_f64() * b.to_f64()).sum();
            let absolute: f64 = a
                .iter()
                .zip(&b)
                .map(|(a, b)| (a.to_f64() * b.to_f64()).abs())
                .sum();
            let bound = SUM_ERROR * unit * absolute + 1e-12;
            assert_close(dot_slice(level, &a, &b), exact, bound, what);
            assert!(all_finite_slice(level, &a));
            let largest = a.iter().fold(f64::NEG_INFINITY, |m, x| m.max(x.to_f64()));
            assert_eq!(max_slice(level, &a).to_f64(), largest);
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                for at in [0, len / 2, len.wrapping_sub(1)] {
                    if at < len {
                        let mut x = a.clone();
                        x[at] = R::from_f64(bad);
                        assert!(
                            !all_finite_slice(level, &x),
                            "{level} {bad} at {at} of {len}"
                        );
                        if bad.is_nan() {
                            assert!(max_slice(level, &x).is_nan(), "{level} at {at} of {len}");
                            assert!(sum_slice(level, &x).is_nan());
                            assert!(moments(level, &x).squared_deviations.is_nan());
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn f32_sums_hold_their_bound() {
    agrees::<f32>();
}

#[test]
fn f64_sums_hold_their_bound() {
    agrees::<f64>();
}

#[test]
fn alignment_does_not_change_a_bit() {
    let mut noise = Noise::new(5);
    let x: Vec<f32> = noise.vec(5000, 1.0);
    for level in nd_testing::levels() {
        for offset in 0..17 {
            let mut moved = vec![0.0; offset];
            moved.extend_from_slice(&x);
            let moved = &moved[offset..];
            assert_eq!(
                sum_slice(level, &x).to_bits(),
                sum_slice(level, moved).to_bits()
            );
            assert_eq!(moments(level, &x), moments(level, moved));
        }
    }
}

#[test]
fn moments_survive_a_large_mean() {
    let mut noise = Noise::new(6);
    for level in nd_testing::levels() {
        for len in [1, 2, 7, 100, 1024, 1025, 4000] {
            let x: Vec<f32> = (0..len)
                .map(|_| (10_000.0 + noise.number(1.0)) as f32)
                .collect();
            let n = len as f64;
            let exact_mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
            let exact: f64 = x.iter().map(|&x| (f64::from(x) - exact_mean).powi(2)).sum();
            let found = moments(level, &x);
            assert_eq!(found.count, n);
            assert!((found.mean - exact_mean).abs() < 1e-4, "{level} {len}");
            assert!(
                (found.squared_deviations - exact).abs() <= 1e-4 * exact + 1e-9,
                "{level} {len}: {} {exact}",
                found.squared_deviations
            );
        }
    }
    assert_eq!(moments::<f32>(SimdLevel::Scalar, &[]), Moments::EMPTY);
}

#[test]
fn rows_and_columns_are_summed() {
    let mut noise = Noise::new(7);
    for level in nd_testing::levels() {
        for cols in [1, 2, 3, 7, 15, 16, 17, 31, 33, 63, 64, 65, 130] {
            for rows in [0, 1, 2, 5, 127, 128, 129, 300] {
                let x: Vec<f32> = noise.vec(rows * cols, 1.0);
                let mut out = poisoned(cols);
                column_sums(level, &x, &mut out, Accumulate::Write);
                let old: Vec<f32> = noise.vec(cols, 1.0);
                let mut added = old.clone();
                column_sums(level, &x, &mut added, Accumulate::Add);
                for c in 0..cols {
                    let column = || (0..rows).map(|r| f64::from(x[r * cols + c]));
                    let exact: f64 = column().sum();
                    let bound = 1e-6 * column().map(f64::abs).sum::<f64>() + 1e-12;
                    let what = || format!("{level} column {c} of [{rows}, {cols}]");
                    assert_close(out[c], exact, bound, what);
                    assert_close(added[c], exact + f64::from(old[c]), bound + 1e-6, what);
                }
                let mut sums = poisoned(rows);
                row_sums(level, &x, cols, 0.5, &mut sums);
                for r in 0..rows {
                    let exact: f64 = x[r * cols..][..cols]
                        .iter()
                        .map(|&x| f64::from(x))
                        .sum::<f64>()
                        * 0.5;
                    assert_close(sums[r], exact, 1e-6 * cols as f64, || {
                        format!("{level} row {r} of [{rows}, {cols}]")
                    });
                }
            }
        }
    }
}
