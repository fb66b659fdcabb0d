use super::*;
use crate::reference::norm as reference;
use crate::testing::{Noise, assert_all_close, poisoned, to_f64};

const SHAPES: [(usize, usize); 12] = [
    (1, 1),
    (1, 5),
    (2, 3),
    (5, 7),
    (7, 16),
    (8, 17),
    (33, 31),
    (40, 65),
    (3, 130),
    (1025, 1),
    (2100, 3),
    (700, 66),
];

fn agrees<R: SimdReal>(tolerance: f64) {
    let mut noise = Noise::new(8);
    for level in nd_testing::levels() {
        for (rows, cols) in SHAPES {
            let what = format!("{level} [{rows}, {cols}]");
            let mut x: Vec<R> = noise.vec(rows * cols, 2.0);
            // Means that are large beside the spread.
            for (i, x) in x.iter_mut().enumerate() {
                *x += R::from_usize(i % cols % 5 * 10);
            }
            let gain: Vec<R> = noise.vec(cols, 1.0);
            let bias: Vec<R> = noise.vec(cols, 1.0);
            let dy: Vec<R> = noise.vec(rows * cols, 1.0);
            let eps = 1e-3;
            let exact = reference::batch_norm(
                eps,
                &to_f64(&x),
                &to_f64(&gain),
                &to_f64(&bias),
                &to_f64(&dy),
            );
            let mut scratch = poisoned(batch_norm_scratch(rows, cols));
            let (mut mean, mut variance) = (poisoned(cols), poisoned(cols));
            batch_moments(level, false, &x, &mut mean, &mut variance, &mut scratch);
            assert_all_close(&mean, &exact.mean, 50.0 * tolerance, &what);
            assert_all_close(&variance, &exact.variance, 10.0 * tolerance, &what);
            let saved = BatchNormSaved {
                eps,
                mean: &mean,
                variance: &variance,
                gain: &gain,
            };
            let mut y = poisoned(rows * cols);
            batch_norm_apply(level, false, saved, &bias, &x, &mut y);
            assert_all_close(&y, &exact.y, 500.0 * tolerance, &what);

            let (mut dx, mut dgain, mut dbias) =
                (poisoned(rows * cols), poisoned(cols), poisoned(cols));
            batch_norm_backward(
                level,
                false,
                saved,
                &x,
                &dy,
                Some((&mut dx, Accumulate::Write)),
                Some((&mut dgain, Accumulate::Write)),
                Some((&mut dbias, Accumulate::Write)),
                &mut scratch,
            );
            // With one row or two the variance is tiny and 1 / sqrt(variance + eps) large.
            let bound = 5e3 * tolerance * (rows as f64).sqrt();
            assert_all_close(&dx, &exact.dx, bound, &what);
            assert_all_close(&dgain, &exact.dgain, bound, &what);
            assert_all_close(&dbias, &exact.dbias, bound, &what);

            // Adding, and on several threads: the same bits on top of one.
            let mut again = (
                vec![R::ONE; rows * cols],
                vec![R::ONE; cols],
                vec![R::ONE; cols],
            );
            batch_norm_backward(
                level,
                true,
                saved,
                &x,
                &dy,
                Some((&mut again.0, Accumulate::Add)),
                Some((&mut again.1, Accumulate::Add)),
                Some((&mut again.2, Accumulate::Add)),
                &mut scratch,
            );
            for (added, written) in again
                .0
                .iter()
                .zip(&dx)
                .chain(again.1.iter().zip(&dgain))
                .chain(again.2.iter().zip(&dbias))
            {
                let difference = (*added - R::ONE - *written).to_f64().abs();
                assert!(
                    difference <= 4.0 * R::EPSILON.to_f64() * (1.0 + written.to_f64().abs()),
                    "{what}"
                );
            }
            let (mut mean2, mut variance2) = (poisoned(cols), poisoned(cols));
            batch_moments(level, true, &x, &mut mean2, &mut variance2, &mut scratch);
            assert!(
                mean == mean2 && variance == variance2,
                "{what}: threads change bits"
            );
            let mut y2 = poisoned(rows * cols);
            batch_norm_apply(level, true, saved, &bias, &x, &mut y2);
            assert!(y == y2, "{what}: threads change bits");

            let mut frozen = poisoned(rows * cols);
            batch_norm_frozen_backward(
                level,
                false,
                saved,
                &x,
                &dy,
                Some((&mut frozen, Accumulate::Write)),
                None,
                None,
                &mut scratch,
            );
            for (i, dx) in frozen.iter().enumerate() {
                let c = i % cols;
                let expected =
                    dy[i].to_f64() * gain[c].to_f64() / (variance[c].to_f64() + eps).sqrt();
                crate::testing::assert_close(*dx, expected, 1e2 * tolerance, || what.clone());
            }
        }
    }
}

#[test]
fn f32_agrees_with_the_reference() {
    agrees::<f32>(3e-7);
}

#[test]
fn f64_agrees_with_the_reference() {
    agrees::<f64>(4e-15);
}

#[test]
fn nan_stays_in_its_column() {
    for level in nd_testing::levels() {
        let (rows, cols) = (40, 19);
        let mut x: Vec<f32> = Noise::new(9).vec(rows * cols, 1.0);
        x[5 * cols + 18] = f32::NAN;
        let mut scratch = vec![0.0; batch_norm_scratch(rows, cols)];
        let (mut mean, mut variance) = (vec![0.0; cols], vec![0.0; cols]);
        batch_moments(level, false, &x, &mut mean, &mut variance, &mut scratch);
        assert!(mean[18].is_nan() && variance[18].is_nan());
        assert!(
            mean[..18]
                .iter()
                .chain(&variance[..18])
                .all(|x| x.is_finite())
        );
    }
}

#[test]
fn running_statistics_are_unbiased() {
    let (mut mean, mut variance) = ([0.0f64], [1.0]);
    update_running_moments(
        BatchNorm::default(),
        5,
        &[2.0],
        &[4.0],
        &mut mean,
        &mut variance,
    );
    assert!((mean[0] - 0.2).abs() < 1e-15);
    assert!((variance[0] - (0.9 + 0.1 * 5.0)).abs() < 1e-15);
    update_running_moments(
        BatchNorm::default(),
        1,
        &[2.0],
        &[0.0],
        &mut mean,
        &mut variance,
    );
    assert!(variance[0].is_finite());
}
