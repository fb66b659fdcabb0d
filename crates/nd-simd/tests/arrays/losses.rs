//! Losses with masks, weights and reductions.

use nd_simd::losses::{self, LossOptions, PointLoss, Reduction};
use nd_simd::{SimdReal, reference};
use nd_testing::cases::normals;
use ndarray::{Array1, Array2, Array3, ArrayD, ShapeBuilder};

use crate::support::{SHAPES, both, close, each_type, layouts, to_f64};

fn exact_loss(loss: PointLoss, y: f64, y_hat: f64) -> (f64, f64) {
    use reference::losses as exact;
    match loss {
        PointLoss::Absolute => exact::absolute(y, y_hat),
        PointLoss::Squared => exact::squared(y, y_hat),
        PointLoss::Huber { delta } => exact::huber(delta, y, y_hat),
        PointLoss::Quantile { q } => exact::quantile(q, y, y_hat),
        PointLoss::HuberQuantile { q, delta } => exact::huber_quantile(q, delta, y, y_hat),
        PointLoss::Smape => exact::smape(y, y_hat),
        PointLoss::Mape => exact::mape(y, y_hat),
        PointLoss::Tukey { c } => exact::tukey(c, y, y_hat),
        other => panic!("{other:?} has no reference here"),
    }
}

const LOSSES: [PointLoss; 8] = [
    PointLoss::Absolute,
    PointLoss::Squared,
    PointLoss::Huber { delta: 0.5 },
    PointLoss::Quantile { q: 0.1 },
    PointLoss::HuberQuantile { q: 0.9, delta: 0.5 },
    PointLoss::Smape,
    PointLoss::Mape,
    PointLoss::Tukey { c: 1.5 },
];

#[test]
fn losses_of_every_layout_with_masks_and_weights() {
    fn check<R: SimdReal>(tolerance: f64) {
        for shape in SHAPES {
            let [a, b, c] = shape;
            let mut target =
                Array3::from_shape_vec(shape, normals::<R>(5, shape.iter().product())).unwrap();
            let mut mask = Array3::from_elem(shape, R::ONE);
            for (i, (mask, target)) in mask.iter_mut().zip(&mut target).enumerate() {
                if i % 3 == 1 {
                    (*mask, *target) = (R::ZERO, R::from_f64(f64::NAN));
                }
            }
            let clean = target.mapv(|y| if y.is_nan() { R::ONE } else { y });
            let weight = Array1::from_shape_fn(c, |i| R::from_f64(0.5 + (i % 4) as f64));
            let column_major_mask = {
                let mut mask_f = Array3::from_elem(shape.f(), R::ZERO);
                mask_f.assign(&mask);
                mask_f
            };
            layouts::<R>(shape, |name, pred| {
                let variants = [
                    (None, None, Reduction::Mean),
                    (None, Some(&weight), Reduction::Mean),
                    (Some(&mask), None, Reduction::Sum),
                    (Some(&mask), Some(&weight), Reduction::Mean),
                    (Some(&column_major_mask), Some(&weight), Reduction::Sum),
                    (Some(&column_major_mask), None, Reduction::Mean),
                ];
                for (mask, horizon, reduction) in variants {
                    let options = LossOptions {
                        mask: mask.map(|mask| mask.view()),
                        horizon_weight: horizon.map(|weight| weight.view()),
                        reduction,
                    };
                    let target = if mask.is_some() { &target } else { &clean };
                    let w = |i: [usize; 3]| {
                        mask.map_or(1.0, |mask| mask[i].to_f64())
                            * horizon.map_or(1.0, |weight| weight[i[2]].to_f64())
                    };
                    let mut total_weight = 0.0;
                    for i in 0..a * b * c {
                        total_weight += w([i / (b * c), i / c % b, i % c]);
                    }
                    let scale = match reduction {
                        Reduction::Sum => 1.0,
                        Reduction::Mean if total_weight == 0.0 => 0.0,
                        Reduction::Mean => 1.0 / total_weight,
                    };
                    for loss in LOSSES {
                        let what = format!(
                            "{loss:?} {shape:?} {name} {reduction:?} mask {} weights {}",
                            mask.is_some(),
                            horizon.is_some()
                        );
                        let (value, gradient) =
                            losses::loss_with_gradient(loss, &pred, target, &options);
                        let (mut expected, mut size) = (0.0, 0.0);
                        let mut slopes = Vec::new();
                        for ((i, j, k), pred) in pred.indexed_iter() {
                            let w = w([i, j, k]);
                            if w == 0.0 {
                                slopes.push(0.0);
                                continue;
                            }
                            let y = target[[i, j, k]].to_f64();
                            let (term, slope) = exact_loss(loss, y, pred.to_f64());
                            expected += w * term * scale;
                            size += w * term.abs() * scale;
                            slopes.push(w * slope * scale);
                        }
                        let error = (value.to_f64() - expected).abs();
                        assert!(
                            error <= tolerance * size,
                            "{what}: {value} is not {expected}"
                        );
                        // MAPE and sMAPE have steep slopes.
                        let steepest = slopes.iter().fold(1.0, |m: f64, s| m.max(s.abs()));
                        close(&gradient, &slopes, 10.0 * tolerance * steepest, &what);
                        let alone = losses::loss(loss, &pred, target, &options);
                        assert_eq!(alone, value, "{what}");
                        if mask.is_none() && horizon.is_none() {
                            let terms = losses::loss_terms(loss, &pred, target);
                            let exact: Vec<f64> = pred
                                .iter()
                                .zip(target)
                                .map(|(pred, y)| exact_loss(loss, y.to_f64(), pred.to_f64()).0)
                                .collect();
                            close(&terms, &exact, 10.0 * tolerance, &what);
                        }
                    }
                }
            });
        }
    }
    both!(check, 1e-5);
}

#[test]
fn named_losses_are_those_of_the_list() {
    let (pred, target) = (
        Array2::from_shape_vec((4, 6), normals::<f64>(1, 24)).unwrap(),
        Array2::from_shape_vec((4, 6), normals::<f64>(2, 24)).unwrap(),
    );
    let options = LossOptions::default();
    let mask = Array2::from_shape_fn((4, 6), |(i, j)| ((i + j) % 2) as f64);
    let masked = LossOptions {
        mask: Some(mask.view()),
        ..LossOptions::default()
    };
    macro_rules! same {
        ($loss:expr, $value:ident $gradient:ident $both:ident ($($parameter:expr),*)) => {
            let (value, gradient) = losses::loss_with_gradient($loss, &pred, &target, &options);
            assert_eq!(losses::$value(&pred, &target $(, $parameter)*), value);
            assert_eq!(losses::$gradient(&pred, &target $(, $parameter)*), gradient);
            let expected = losses::loss_with_gradient($loss, &pred, &target, &masked);
            assert_eq!(losses::$both(&pred, &target $(, $parameter)*, &masked), expected);
            assert_ne!(expected.0, value);
        };
    }
    same!(PointLoss::Squared, mse mse_gradient mse_with_gradient());
    same!(PointLoss::Absolute, mae mae_gradient mae_with_gradient());
    same!(PointLoss::Huber { delta: 0.3 }, huber huber_gradient huber_with_gradient(0.3));
    same!(PointLoss::Quantile { q: 0.2 }, quantile quantile_gradient quantile_with_gradient(0.2));
    same!(
        PointLoss::HuberQuantile { q: 0.2, delta: 0.3 },
        huber_quantile huber_quantile_gradient huber_quantile_with_gradient(0.2, 0.3)
    );
    same!(PointLoss::Mape, mape mape_gradient mape_with_gradient());
    same!(PointLoss::Smape, smape smape_gradient smape_with_gradient());
    same!(PointLoss::Tukey { c: 1.0 }, tukey tukey_gradient tukey_with_gradient(1.0));
    let (mse, gradient) = losses::mse_with_gradient(&pred, &target, &options);
    let (rmse, root_gradient) = losses::rmse_with_gradient(&pred, &target, &options);
    assert!((rmse * rmse - mse).abs() < 1e-14 && rmse == losses::rmse(&pred, &target));
    close(
        &root_gradient,
        &to_f64(&(gradient / (2.0 * rmse))),
        1e-14,
        "rmse",
    );
    assert_eq!(root_gradient, losses::rmse_gradient(&pred, &target));
    assert_eq!(
        losses::rmse_gradient(&pred, &pred),
        Array2::<f64>::zeros((4, 6))
    );
}

#[test]
fn losses_without_entries_that_count_are_zero() {
    let empty = Array2::<f32>::zeros((0, 7));
    assert_eq!(losses::mse(&empty, &empty), 0.0);
    assert_eq!(losses::mse_gradient(&empty, &empty), empty);
    let nan = Array2::from_elem((2, 3), f32::NAN);
    let nothing = Array2::zeros((2, 3));
    let options = LossOptions {
        mask: Some(nothing.view()),
        ..LossOptions::default()
    };
    let (loss, gradient) = losses::mae_with_gradient(&nan, &nan, &options);
    assert_eq!((loss, gradient), (0.0, Array2::zeros((2, 3))));
    assert!(losses::mse(&nan, &nan).is_nan());
}

#[test]
fn quantiles_and_scaled_rows() {
    fn check<R: SimdReal>(tolerance: f64) {
        let quantiles = [0.1, 0.5, 0.9].map(R::from_f64);
        for (rows, cols) in [(3, 4), (1, 1), (0, 4), (5, 0), (70, 30)] {
            let noise = |seed, dim: &[usize]| {
                let values = normals::<R>(seed, dim.iter().product());
                ArrayD::from_shape_vec(dim, values).unwrap()
            };
            let target = noise(1, &[rows, cols]);
            let pred = noise(2, &[3, rows, cols]).permuted_axes(vec![1, 2, 0]);
            let mask = ArrayD::from_shape_fn(vec![rows, cols], |i| {
                R::from_usize(usize::from((i[0] + i[1]) % 3 != 0))
            });
            let weight = Array1::from_shape_fn(cols, |i| R::from_usize(1 + i % 2));
            let options = LossOptions {
                mask: Some(mask.view()),
                horizon_weight: Some(weight.view()),
                reduction: Reduction::Mean,
            };
            let w = |i: usize, j: usize| (mask[[i, j]] * weight[j]).to_f64();
            let total: f64 = (0..rows * cols).map(|at| w(at / cols, at % cols)).sum();
            let share = if total == 0.0 { 0.0 } else { 1.0 / total };
            let (mut expected, mut slopes) = (0.0, Vec::new());
            for (at, pred) in pred.indexed_iter() {
                let q = quantiles[at[2]].to_f64();
                let y = target[[at[0], at[1]]].to_f64();
                let (loss, slope) = reference::losses::quantile(q, y, pred.to_f64());
                let w = w(at[0], at[1]) * share / 3.0;
                expected += w * loss;
                slopes.push(w * slope);
            }
            let (value, gradient) =
                losses::multi_quantile_with_gradient(&pred, &target, &quantiles, &options);
            assert!(
                (value.to_f64() - expected).abs() <= tolerance,
                "{rows} {cols}"
            );
            close(&gradient, &slopes, tolerance, "multi-quantile");
            let (plain, none) = (
                losses::multi_quantile(&pred, &target, &quantiles),
                LossOptions::default(),
            );
            let both = losses::multi_quantile_with_gradient(&pred, &target, &quantiles, &none);
            assert_eq!(both.0, plain);
            assert_eq!(
                losses::multi_quantile_gradient(&pred, &target, &quantiles),
                both.1
            );

            let pred = noise(3, &[cols, rows]).reversed_axes();
            // The second row has nothing to compare with.
            let scale = Array1::from_shape_fn(rows, |i| R::from_f64([2.0, 0.0, 0.5][i % 3]));
            let (value, gradient) = losses::mase_with_gradient(&pred, &target, &scale, &options);
            let (mut expected, mut slopes) = (0.0, Vec::new());
            for (at, pred) in pred.indexed_iter() {
                let (i, j) = (at[0], at[1]);
                let inverse = if i % 3 == 1 {
                    0.0
                } else {
                    1.0 / scale[i].to_f64()
                };
                let (loss, slope) =
                    reference::losses::absolute(target[[i, j]].to_f64(), pred.to_f64());
                expected += w(i, j) * share * loss * inverse;
                slopes.push(w(i, j) * share * slope * inverse);
            }
            assert!(
                (value.to_f64() - expected).abs() <= tolerance * 10.0,
                "{rows} {cols}"
            );
            close(&gradient, &slopes, tolerance, "mase");
            let both = losses::mase_with_gradient(&pred, &target, &scale, &none);
            assert_eq!(losses::mase(&pred, &target, &scale), both.0);
            assert_eq!(losses::mase_gradient(&pred, &target, &scale), both.1);
        }
    }
    both!(check, 2e-6);
}
