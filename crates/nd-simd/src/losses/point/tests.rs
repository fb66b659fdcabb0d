use super::*;
use crate::reference::losses as reference;
use crate::testing::{LENGTHS, Noise, assert_all_close, assert_close, poisoned, to_f64};

const ALL: [PointLoss; 9] = [
    PointLoss::Absolute,
    PointLoss::Squared,
    PointLoss::Huber { delta: 1.0 },
    PointLoss::Quantile { q: 0.1 },
    PointLoss::Quantile { q: 0.5 },
    PointLoss::HuberQuantile { q: 0.9, delta: 0.5 },
    PointLoss::Smape,
    PointLoss::Mape,
    PointLoss::Tukey { c: 2.0 },
];

fn exact(loss: PointLoss, y: f64, y_hat: f64) -> (f64, f64) {
    match loss {
        PointLoss::Absolute => reference::absolute(y, y_hat),
        PointLoss::Squared => reference::squared(y, y_hat),
        PointLoss::Huber { delta } => reference::huber(delta, y, y_hat),
        PointLoss::Quantile { q } => reference::quantile(q, y, y_hat),
        PointLoss::HuberQuantile { q, delta } => reference::huber_quantile(q, delta, y, y_hat),
        PointLoss::Smape => reference::smape(y, y_hat),
        PointLoss::Mape => reference::mape(y, y_hat),
        PointLoss::Tukey { c } => reference::tukey(c, y, y_hat),
    }
}

fn agrees<R: SimdReal>(tolerance: f64) {
    let mut noise = Noise::new(15);
    for level in nd_testing::levels() {
        for loss in ALL {
            for &len in LENGTHS {
                let what = format!("{level} {loss:?}, {len} entries");
                let mut y: Vec<R> = noise.vec(len, 3.0);
                let mut y_hat: Vec<R> = noise.vec(len, 3.0);
                let mut weight: Vec<R> = noise.vec(len, 1.0);
                for i in 0..len {
                    weight[i] += R::from_f64(1.5);
                    match i % 7 {
                        1 => (weight[i], y[i]) = (R::ZERO, R::from_f64(f64::NAN)),
                        2 => (weight[i], y_hat[i]) = (R::ZERO, R::from_f64(f64::NAN)),
                        3 => weight[i] = R::ZERO,
                        4 => y[i] = y_hat[i],
                        5 => y[i] = R::ZERO,
                        6 => (y[i], y_hat[i]) = (R::ZERO, R::ZERO),
                        _ => (),
                    }
                }
                let (y64, y_hat64, weight64) = (to_f64(&y), to_f64(&y_hat), to_f64(&weight));
                let (mut sum, mut size, mut slopes) = (0.0, 0.0, Vec::new());
                for i in 0..len {
                    let (l, d) = exact(loss, y64[i], y_hat64[i]);
                    let w = weight64[i];
                    if w == 0.0 {
                        slopes.push(0.0);
                    } else {
                        sum += w * l;
                        size += (w * l).abs();
                        slopes.push(0.25 * w * d);
                    }
                }
                let mut grad = poisoned(len);
                let weighted = Some(&weight[..]);
                let found = point_loss(level, loss, &y, &y_hat, weighted, Some(&mut grad), 0.25);
                assert_close(found, sum, tolerance * (1.0 + size), || what.clone());
                for (i, (grad, slope)) in grad.iter().zip(&slopes).enumerate() {
                    assert_close(
                        *grad,
                        *slope,
                        20.0 * tolerance * (1.0 + slope.abs()),
                        || format!("{what}: gradient {i}"),
                    );
                }
                let alone = point_loss(level, loss, &y, &y_hat, weighted, None, 0.25);
                assert_eq!(found, alone, "{what}");
            }
        }
    }
}

#[test]
fn f32_agrees_with_the_reference() {
    agrees::<f32>(1e-6);
}

#[test]
fn f64_agrees_with_the_reference() {
    agrees::<f64>(1e-14);
}

#[test]
fn gradients_are_the_slopes_of_the_losses() {
    let mut noise = Noise::new(16);
    for loss in ALL {
        for _ in 0..200 {
            let (y, y_hat) = (noise.number(3.0), noise.number(3.0));
            let h = 1e-6;
            let (up, down) = (exact(loss, y, y_hat + h).0, exact(loss, y, y_hat - h).0);
            let (_, slope) = exact(loss, y, y_hat);
            let kinks = [y, 0.0, y + 1.0, y - 1.0, y + 0.5, y - 0.5];
            if kinks.iter().all(|kink| (y_hat - kink).abs() > 1e-3) && y.abs() > 0.01 {
                let found = (up - down) / (2.0 * h);
                assert!(
                    (found - slope).abs() < 1e-4 * (1.0 + slope.abs()),
                    "{loss:?} {y} {y_hat}"
                );
            }
        }
    }
}

#[test]
fn weighted_nan_comes_through() {
    for level in nd_testing::levels() {
        for loss in ALL {
            for (y, y_hat) in [(f32::NAN, 1.0), (1.0, f32::NAN), (0.0, f32::NAN)] {
                let mut grad = [0.0];
                let weight = Some(&[0.5][..]);
                let sum = point_loss(level, loss, &[y], &[y_hat], weight, Some(&mut grad), 1.0);
                assert!(
                    sum.is_nan() && grad[0].is_nan(),
                    "{level} {loss:?} {y} {y_hat}"
                );
                grad = [0.0];
                let sum = point_loss(level, loss, &[y], &[y_hat], None, Some(&mut grad), 1.0);
                assert!(
                    sum.is_nan() && grad[0].is_nan(),
                    "{level} {loss:?} {y} {y_hat} without a weight"
                );
            }
            let weight = Some(&[f32::NAN][..]);
            let sum = point_loss(level, loss, &[1.0], &[1.0], weight, None, 1.0);
            assert!(sum.is_nan(), "{level} {loss:?}");
        }
    }
}

#[test]
fn no_weights_are_weights_of_one() {
    let mut noise = Noise::new(18);
    for level in nd_testing::levels() {
        for loss in ALL {
            for &len in LENGTHS {
                let (y, y_hat): (Vec<f32>, Vec<f32>) = (noise.vec(len, 3.0), noise.vec(len, 3.0));
                let (ones, mut grad, mut plain) = (vec![1.0; len], poisoned(len), poisoned(len));
                let run = |weight: Option<&[f32]>, grad: Option<&mut [f32]>| {
                    point_loss(level, loss, &y, &y_hat, weight, grad, 0.25)
                };
                let weighted = run(Some(&ones), Some(&mut grad));
                let what = format!("{level} {loss:?}, {len} entries");
                assert_eq!(run(None, Some(&mut plain)), weighted, "{what}");
                assert_eq!(run(None, None), weighted, "{what}");
                assert_eq!(plain, grad, "{what}");
                let scaled = |weight: Option<&[f32]>, grad: Option<&mut [f32]>| {
                    row_scaled_loss(level, loss, &[2.0], &y, &y_hat, weight, grad, 0.25)
                };
                let weighted = scaled(Some(&ones), Some(&mut grad));
                assert_eq!(scaled(None, Some(&mut plain)), weighted, "{what}");
                assert_eq!(plain, grad, "{what}");
            }
        }
    }
}

#[test]
fn long_rows_are_scaled_in_pieces() {
    let mut noise = Noise::new(19);
    let cols = 1037;
    let (y, y_hat): (Vec<f64>, Vec<f64>) = (noise.vec(2 * cols, 3.0), noise.vec(2 * cols, 3.0));
    let scale = [0.5, -3.0];
    for level in nd_testing::levels() {
        for loss in ALL {
            let mut grad = poisoned(2 * cols);
            let found =
                row_scaled_loss(level, loss, &scale, &y, &y_hat, None, Some(&mut grad), 0.25);
            let mut sum = 0.0;
            for i in 0..2 * cols {
                let s = scale[i / cols];
                let (l, d) = exact(loss, s * y[i], s * y_hat[i]);
                sum += l;
                assert_close(grad[i], 0.25 * s * d, 1e-12, || {
                    format!("{level} {loss:?} {i}")
                });
            }
            assert_close(found, sum, 1e-12 * sum, || format!("{level} {loss:?}"));
        }
    }
}

#[test]
fn rows_are_scaled() {
    for level in nd_testing::levels() {
        let y = [1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0];
        let y_hat = [2.0, 0.0, 3.5, 4.0, 0.0, 0.0];
        let weight = [1.0, 1.0, 1.0, 0.5, 1.0, 1.0];
        let mut grad = [9.0; 6];
        let scale = [0.5, 2.0, f64::INFINITY];
        let loss = PointLoss::Absolute;
        let sum = row_scaled_loss(
            level,
            loss,
            &scale,
            &y,
            &y_hat,
            Some(&weight),
            Some(&mut grad),
            1.0,
        );
        assert_eq!(sum, 0.5 * (1.0 + 2.0) + 2.0 * 0.5);
        assert_all_close(&grad, &[0.5, -0.5, 2.0, 0.0, 0.0, 0.0], 0.0, "MASE");
    }
}
