//! The quick reference's epsilon: every f32 kernel is within `1e-5` of the sum of its absolute terms of the f64
//! reference, on every level. The worst of each kernel: `cargo test -p nd-simd --test epsilon -- --nocapture`.
//!
//! What the terms of a result are is part of each row: the products of a dot product, the value itself for a function of
//! one number, the parts of a derivative. Sizes are those of forecasting and some far larger, where plain sums would
//! drift: long rows, many rows, and values that are all alike (whose rounding errors are too).

use std::collections::BTreeMap;

use nd_core::SimdLevel;
use nd_core::autograd::Accumulate;
use nd_simd::activations::{Activation, Saved, activation_backward, activation_forward};
use nd_simd::losses::{PointLoss, multi_quantile_loss, point_loss};
use nd_simd::matmul::{MatMut, MatRef, multiply, multiply_vector};
use nd_simd::norm::{
    BatchNormSaved, batch_moments, batch_norm_apply, batch_norm_backward, batch_norm_scratch,
    layer_norm_backward, layer_norm_forward, layer_norm_scratch, rms_norm_backward,
    rms_norm_forward, rms_norm_scratch,
};
use nd_simd::optim::{
    Adam, RmsProp, Sgd, adam_step, check_norm, rmsprop_step, sgd_step, unscale_check_norm,
};
use nd_simd::pool::{Axis, Windows, avg_pool_forward};
use nd_simd::recurrent::{
    GruSaved, GruWeights, LstmSaved, LstmWeights, RnnActivation, RnnWeights, Sequence, gru_forward,
    lstm_forward, rnn_forward,
};
use nd_simd::{conv, elementwise, interpolate, moving_average, reduce, reference, softmax};
use nd_testing::cases::{normals, uniforms};

/// Of the quick reference.
const EPSILON: f64 = 1e-5;

/// The largest `|error| / sum |terms|` of each kernel on one level.
struct Sheet {
    level: SimdLevel,
    worst: BTreeMap<&'static str, f64>,
    /// What is beyond the epsilon, the first of each kernel.
    broken: BTreeMap<&'static str, String>,
}

impl Sheet {
    /// Compares one value with the reference's and the sum of its absolute terms.
    #[track_caller]
    fn one(&mut self, kernel: &'static str, got: f64, exact: f64, terms: f64) {
        // Below the smallest normal number only a step of the denormals is left.
        let scale = terms.max(f64::from(f32::MIN_POSITIVE));
        let error = (got - exact).abs() / scale;
        // A NaN is no number to be close to.
        if (error.is_nan() || error > EPSILON) && !self.broken.contains_key(kernel) {
            let message = format!(
                "{} {kernel}: {got:e} for {exact:e}, {error:e} of the terms {terms:e}",
                self.level
            );
            self.broken.insert(kernel, message);
        }
        let worst = self.worst.entry(kernel).or_insert(0.0);
        *worst = worst.max(error);
    }

    #[track_caller]
    fn all(
        &mut self,
        kernel: &'static str,
        got: &[f32],
        exact: &[f64],
        terms: impl Fn(usize) -> f64,
    ) {
        assert_eq!(got.len(), exact.len(), "{kernel}");
        for (i, (&got, &exact)) in got.iter().zip(exact).enumerate() {
            self.one(kernel, f64::from(got), exact, terms(i));
        }
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// The data of sums: noise, values that are all alike, large values that cancel.
fn hard_sums(len: usize) -> [Vec<f32>; 3] {
    let noise = normals(1, len);
    let alike = vec![0.1f32; len];
    let cancelling = (0..len)
        .map(|i| if i % 2 == 0 { 1e4 } else { -1e4 + 0.37 })
        .collect();
    [noise, alike, cancelling]
}

fn sums(sheet: &mut Sheet) {
    let level = sheet.level;
    for len in [0, 1, 7, 33, 1000, 300_007] {
        for x in hard_sums(len) {
            let exact = wide(&x);
            let size: f64 = exact.iter().map(|x| x.abs()).sum();
            let square: f64 = exact.iter().map(|x| x * x).sum();
            let total: f64 = exact.iter().sum();
            sheet.one("sum", reduce::sum_slice(level, &x), total, size);
            sheet.one(
                "squared_norm",
                reduce::squared_norm(level, &x),
                square,
                square,
            );
            let norm = check_norm(level, false, &x).norm_squared;
            sheet.one("gradient norm", norm, square, square);
            let mut scaled = x.clone();
            let norm = unscale_check_norm(level, false, 0.5, &mut scaled).norm_squared;
            sheet.one("unscaled norm", norm, square / 4.0, square / 4.0);
            let y: Vec<f32> = normals(2, len);
            let products: Vec<f64> = exact
                .iter()
                .zip(&y)
                .map(|(x, &y)| x * f64::from(y))
                .collect();
            let terms: f64 = products.iter().map(|p| p.abs()).sum();
            let dot = reduce::dot_slice(level, &x, &y);
            sheet.one("dot", dot, products.iter().sum(), terms);
            if len > 0 {
                let n = len as f64;
                let moments = reduce::moments(level, &x);
                let mean = total / n;
                sheet.one("mean", moments.mean, mean, size / n);
                let variance = exact.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                // The terms of `(x - mean)^2` before they cancel.
                let terms = square / n + mean * mean;
                sheet.one("variance", moments.population_variance(), variance, terms);
            }
        }
    }
    for (rows, cols) in [(1, 5), (7, 33), (3, 40_000), (40_000, 3), (1000, 65)] {
        for x in hard_sums(rows * cols) {
            let at = |r: usize, c: usize| f64::from(x[r * cols + c]);
            let mut by_row = vec![0.0; rows];
            reduce::row_sums(level, &x, cols, 0.5, &mut by_row);
            for (r, &got) in by_row.iter().enumerate() {
                let row = || (0..cols).map(|c| 0.5 * at(r, c));
                let terms = row().map(f64::abs).sum();
                sheet.one("row_sums", f64::from(got), row().sum(), terms);
            }
            let mut by_column = vec![f32::NAN; cols];
            reduce::column_sums(level, &x, &mut by_column, Accumulate::Write);
            for (c, &got) in by_column.iter().enumerate() {
                let column = || (0..rows).map(|r| at(r, c));
                let terms = column().map(f64::abs).sum();
                sheet.one("column_sums", f64::from(got), column().sum(), terms);
            }
        }
    }
}

fn products(sheet: &mut Sheet) {
    let level = sheet.level;
    for (m, k, n) in [
        (32, 96, 24),
        (9, 512, 17),
        (3, 40_000, 5),
        (65, 1030, 33),
        (1, 20_000, 7),
    ] {
        // Where all terms are alike, so are their rounding errors.
        for alike in [false, true] {
            let (a, b) = if alike {
                (vec![0.3f32; m * k], vec![0.7f32; k * n])
            } else {
                (normals(1, m * k), normals(2, k * n))
            };
            let mut c = vec![f32::NAN; m * n];
            let (av, bv) = (MatRef::row_major(&a, m, k), MatRef::row_major(&b, k, n));
            multiply(level, 1.0, av, bv, 0.0, MatMut::row_major(&mut c, m, n));
            for (at, &got) in c.iter().enumerate() {
                let (i, j) = (at / n, at % n);
                let term = |p: usize| f64::from(av.at(i, p)) * f64::from(bv.at(p, j));
                let terms = (0..k).map(|p| term(p).abs()).sum();
                sheet.one("multiply", f64::from(got), (0..k).map(term).sum(), terms);
            }
            let x = &b[..k];
            let mut y = vec![f32::NAN; m];
            multiply_vector(level, 1.0, av, x, 0.0, &mut y);
            for (i, &got) in y.iter().enumerate() {
                let term = |p: usize| f64::from(av.at(i, p)) * f64::from(x[p]);
                let terms = (0..k).map(|p| term(p).abs()).sum();
                sheet.one(
                    "multiply_vector",
                    f64::from(got),
                    (0..k).map(term).sum(),
                    terms,
                );
            }
        }
    }
}

fn pointwise(sheet: &mut Sheet) {
    use reference::activations as exact;
    let level = sheet.level;
    let mut x: Vec<f32> = uniforms(3, 4001, -20.0, 20.0);
    x.extend(normals::<f32>(4, 4000));
    x.extend((0..300).map(|i| -(i as f32) * 0.35));
    let dy: Vec<f32> = normals(5, x.len());
    type Row = (
        &'static str,
        &'static str,
        Activation,
        fn(f64) -> f64,
        fn(f64) -> f64,
        fn(f64) -> f64,
    );
    // Names, the function, its derivative, and the sum of the absolute parts of the derivative.
    let rows: [Row; 9] = [
        (
            "relu",
            "relu'",
            Activation::Relu,
            exact::relu,
            |x| f64::from(x > 0.0),
            |x| f64::from(x > 0.0),
        ),
        (
            "leaky_relu",
            "leaky_relu'",
            Activation::LeakyRelu { slope: 0.01 },
            |x| exact::leaky_relu(x, 0.01),
            |x| if x > 0.0 { 1.0 } else { 0.01 },
            |x| if x > 0.0 { 1.0 } else { 0.01 },
        ),
        (
            "elu",
            "elu'",
            Activation::Elu { alpha: 1.0 },
            |x| exact::elu(x, 1.0),
            |x| if x > 0.0 { 1.0 } else { x.exp() },
            // y + alpha
            |x| if x > 0.0 { 1.0 } else { 1.0 - x.exp_m1() },
        ),
        (
            "gelu",
            "gelu'",
            Activation::Gelu,
            exact::gelu,
            exact::gelu_derivative,
            |x| exact::normal_cdf(x) + (x * (-0.5 * x * x).exp()).abs() * 0.4,
        ),
        (
            "gelu_tanh",
            "gelu_tanh'",
            Activation::GeluTanh,
            exact::gelu_tanh,
            exact::gelu_tanh_derivative,
            |x| {
                let s = exact::sigmoid(exact::gelu_tanh_argument(x));
                let rest = exact::sigmoid(-exact::gelu_tanh_argument(x));
                s + (x * s * rest * 1.6 * (1.0 + 0.134_145 * x * x)).abs()
            },
        ),
        (
            "silu",
            "silu'",
            Activation::Silu,
            exact::silu,
            exact::silu_derivative,
            |x| {
                let s = exact::sigmoid(x);
                s + (x * s * exact::sigmoid(-x)).abs()
            },
        ),
        (
            "sigmoid",
            "sigmoid'",
            Activation::Sigmoid,
            exact::sigmoid,
            |x| exact::sigmoid(x) * exact::sigmoid(-x),
            // y (1 - y)
            |x| exact::sigmoid(x) * (1.0 + exact::sigmoid(x)),
        ),
        (
            "tanh",
            "tanh'",
            Activation::Tanh,
            f64::tanh,
            |x| 1.0 - x.tanh().powi(2),
            // 1 - y^2
            |x| 1.0 + x.tanh().powi(2),
        ),
        (
            "softplus",
            "softplus'",
            Activation::Softplus,
            exact::softplus,
            exact::sigmoid,
            exact::sigmoid,
        ),
    ];
    for (name, slope_name, activation, f, slope, parts) in rows {
        let mut y = vec![f32::NAN; x.len()];
        activation_forward(level, activation, &x, &mut y);
        for (&x, &y) in x.iter().zip(&y) {
            let exact = f(f64::from(x));
            sheet.one(name, f64::from(y), exact, exact.abs());
        }
        let saved = match activation.saved() {
            Saved::Input => &x,
            Saved::Output => &y,
        };
        let mut dx = vec![f32::NAN; x.len()];
        activation_backward(level, activation, saved, &dy, &mut dx, Accumulate::Write);
        for ((&x, &dy), &dx) in x.iter().zip(&dy).zip(&dx) {
            let (x, dy) = (f64::from(x), f64::from(dy));
            sheet.one(
                slope_name,
                f64::from(dx),
                slope(x) * dy,
                (parts(x) * dy).abs(),
            );
        }
    }
    let (a, b) = (wide(&x), wide(&dy));
    let mut y = vec![f32::NAN; x.len()];
    elementwise::add_forward(level, &x, &dy, &mut y);
    let sum: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    sheet.all("add", &y, &sum, |i| a[i].abs() + b[i].abs());
    elementwise::sub_forward(level, &x, &dy, &mut y);
    let difference: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
    sheet.all("sub", &y, &difference, |i| a[i].abs() + b[i].abs());
    elementwise::mul_forward(level, &x, &dy, &mut y);
    let product: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a * b).collect();
    sheet.all("mul", &y, &product, |i| product[i].abs());
    elementwise::div_forward(level, &x, &dy, &mut y);
    let quotient: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a / b).collect();
    sheet.all("div", &y, &quotient, |i| quotient[i].abs());
    let mut y = dy.clone();
    elementwise::axpy(level, 0.7, &x, &mut y);
    let exact: Vec<f64> = a.iter().zip(&b).map(|(a, b)| 0.7 * a + b).collect();
    sheet.all("axpy", &y, &exact, |i| (0.7 * a[i]).abs() + b[i].abs());
    elementwise::affine_forward(level, 0.7, 0.1, &x, &mut y);
    let exact: Vec<f64> = a.iter().map(|a| 0.7 * a + 0.1).collect();
    sheet.all("affine", &y, &exact, |i| (0.7 * a[i]).abs() + 0.1);
}

fn softmaxes(sheet: &mut Sheet) {
    let level = sheet.level;
    for (rows, cols) in [(9, 1), (9, 7), (9, 16), (9, 65), (2, 30_000)] {
        for alike in [false, true] {
            let x: Vec<f32> = if alike {
                vec![0.3; rows * cols]
            } else {
                normals(6, rows * cols)
            };
            let dy: Vec<f32> = if alike {
                vec![0.1; rows * cols]
            } else {
                normals(7, rows * cols)
            };
            let mut y = vec![f32::NAN; x.len()];
            softmax::softmax_forward(level, cols, &x, &mut y);
            let exact = reference::softmax::softmax(cols, &wide(&x));
            sheet.all("softmax", &y, &exact, |i| exact[i]);
            let mut dx = vec![f32::NAN; x.len()];
            softmax::softmax_backward(level, cols, &y, &dy, &mut dx, Accumulate::Write);
            let dy = wide(&dy);
            let row = |i: usize| i - i % cols..i - i % cols + cols;
            // By row, not by the Jacobian: rows are long.
            let dots: Vec<(f64, f64)> = (0..rows)
                .map(|r| {
                    let products = row(r * cols).map(|j| exact[j] * dy[j]);
                    products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()))
                })
                .collect();
            let exact_dx: Vec<f64> = (0..x.len())
                .map(|i| exact[i] * (dy[i] - dots[i / cols].0))
                .collect();
            sheet.all("softmax'", &dx, &exact_dx, |i| {
                exact[i] * (dy[i].abs() + dots[i / cols].1)
            });
            softmax::log_softmax_forward(level, cols, &x, &mut y);
            let x64 = wide(&x);
            let exact = reference::log_softmax::log_softmax(cols, &x64);
            sheet.all("log_softmax", &y, &exact, |i| {
                x64[i].abs() + (x64[i] - exact[i]).abs()
            });
            let narrow: Vec<f32> = dy.iter().map(|&dy| dy as f32).collect();
            softmax::log_softmax_backward(level, cols, &y, &narrow, &mut dx, Accumulate::Write);
            let sums: Vec<(f64, f64)> = (0..rows)
                .map(|r| {
                    let row = row(r * cols).map(|j| dy[j]);
                    row.fold((0.0, 0.0), |(sum, size), dy| (sum + dy, size + dy.abs()))
                })
                .collect();
            let exact_dx: Vec<f64> = (0..x.len())
                .map(|i| dy[i] - exact[i].exp() * sums[i / cols].0)
                .collect();
            sheet.all("log_softmax'", &dx, &exact_dx, |i| {
                dy[i].abs() + exact[i].exp() * sums[i / cols].1
            });
        }
    }
}

fn norms(sheet: &mut Sheet) {
    let level = sheet.level;
    for (rows, cols) in [(32, 24), (5, 65), (2, 20_000), (5000, 9)] {
        for alike in [false, true] {
            // Off centre, as activations are; and gradients all alike, as those of a mean are.
            let x: Vec<f32> = uniforms(8, rows * cols, 0.5, 3.5);
            let dy: Vec<f32> = if alike {
                vec![0.1; rows * cols]
            } else {
                normals(9, rows * cols)
            };
            let gain: Vec<f32> = normals(10, cols);
            let bias: Vec<f32> = normals(11, cols);
            let (x64, dy64, gain64, bias64) = (wide(&x), wide(&dy), wide(&gain), wide(&bias));
            for centered in [true, false] {
                let exact =
                    reference::norm::row_norm(1e-5, centered, &x64, &gain64, &bias64, &dy64);
                let mut y = vec![f32::NAN; x.len()];
                let mut dx = y.clone();
                let (mut mean, mut rstd) = (vec![f32::NAN; rows], vec![f32::NAN; rows]);
                let (mut dgain, mut dbias) = (vec![f32::NAN; cols], vec![f32::NAN; cols]);
                let names = if centered {
                    layer_norm_forward(level, 1e-5, &x, &gain, &bias, &mut y, &mut mean, &mut rstd);
                    let mut scratch = vec![f32::NAN; layer_norm_scratch(rows, cols)];
                    layer_norm_backward(
                        level,
                        false,
                        &x,
                        &gain,
                        &mean,
                        &rstd,
                        &dy,
                        Some((&mut dx, Accumulate::Write)),
                        Some((&mut dgain, Accumulate::Write)),
                        Some((&mut dbias, Accumulate::Write)),
                        &mut scratch,
                    );
                    ["layer_norm", "layer_norm dx", "layer_norm dgain"]
                } else {
                    rms_norm_forward(level, 1e-5, &x, &gain, &mut y, &mut rstd);
                    let mut scratch = vec![f32::NAN; rms_norm_scratch(rows, cols)];
                    rms_norm_backward(
                        level,
                        false,
                        &x,
                        &gain,
                        &rstd,
                        &dy,
                        Some((&mut dx, Accumulate::Write)),
                        Some((&mut dgain, Accumulate::Write)),
                        &mut scratch,
                    );
                    ["rms_norm", "rms_norm dx", "rms_norm dgain"]
                };
                // Of each row: mean, 1 / deviation, and the means of |g| and |g x_hat|.
                let parts: Vec<[f64; 4]> = (0..rows)
                    .map(|r| {
                        let row = &x64[r * cols..][..cols];
                        let n = cols as f64;
                        let mean = if centered {
                            row.iter().sum::<f64>() / n
                        } else {
                            0.0
                        };
                        let rstd = 1.0
                            / (row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n + 1e-5)
                                .sqrt();
                        let g = |c: usize| (dy64[r * cols + c] * gain64[c]).abs();
                        let mean_g = if centered {
                            (0..cols).map(g).sum::<f64>() / n
                        } else {
                            0.0
                        };
                        let spread = |c: usize| (row[c].abs() + mean.abs()) * rstd;
                        let mean_gx = (0..cols).map(|c| g(c) * spread(c)).sum::<f64>() / n;
                        [mean, rstd, mean_g, mean_gx]
                    })
                    .collect();
                let spread = |i: usize| {
                    let [mean, rstd, ..] = parts[i / cols];
                    (x64[i].abs() + mean.abs()) * rstd
                };
                let bias_part = |c: usize| if centered { bias64[c].abs() } else { 0.0 };
                let exact_y: Vec<f64> = (0..x.len())
                    .map(|i| {
                        let c = i % cols;
                        exact.y[i] - if centered { 0.0 } else { bias64[c] }
                    })
                    .collect();
                sheet.all(names[0], &y, &exact_y, |i| {
                    spread(i) * gain64[i % cols].abs() + bias_part(i % cols)
                });
                sheet.all(names[1], &dx, &exact.dx, |i| {
                    let [_, rstd, mean_g, mean_gx] = parts[i / cols];
                    let g = (dy64[i] * gain64[i % cols]).abs();
                    rstd * (g + mean_g + spread(i) * mean_gx)
                });
                sheet.all(names[2], &dgain, &exact.dgain, |c| {
                    (0..rows)
                        .map(|r| dy64[r * cols + c].abs() * spread(r * cols + c))
                        .sum()
                });
                if centered {
                    sheet.all("layer_norm dbias", &dbias, &exact.dbias, |c| {
                        (0..rows).map(|r| dy64[r * cols + c].abs()).sum()
                    });
                }
            }

            let exact = reference::norm::batch_norm(1e-5, &x64, &gain64, &bias64, &dy64);
            let (mut mean, mut variance) = (vec![f32::NAN; cols], vec![f32::NAN; cols]);
            let mut scratch = vec![f32::NAN; batch_norm_scratch(rows, cols)];
            batch_moments(level, false, &x, &mut mean, &mut variance, &mut scratch);
            let n = rows as f64;
            let column = |c: usize| (0..rows).map(move |r| r * cols + c);
            sheet.all("batch mean", &mean, &exact.mean, |c| {
                column(c).map(|i| x64[i].abs()).sum::<f64>() / n
            });
            sheet.all("batch variance", &variance, &exact.variance, |c| {
                column(c).map(|i| x64[i] * x64[i]).sum::<f64>() / n + exact.mean[c].powi(2)
            });
            let saved = BatchNormSaved {
                eps: 1e-5,
                mean: &mean,
                variance: &variance,
                gain: &gain,
            };
            let mut y = vec![f32::NAN; x.len()];
            batch_norm_apply(level, false, saved, &bias, &x, &mut y);
            let mut dx = vec![f32::NAN; x.len()];
            let (mut dgain, mut dbias) = (vec![f32::NAN; cols], vec![f32::NAN; cols]);
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
            let rstd = |c: usize| 1.0 / (exact.variance[c] + 1e-5).sqrt();
            let spread = |i: usize| (x64[i].abs() + exact.mean[i % cols].abs()) * rstd(i % cols);
            sheet.all("batch_norm", &y, &exact.y, |i| {
                spread(i) * gain64[i % cols].abs() + bias64[i % cols].abs()
            });
            let gain_terms: Vec<f64> = (0..cols)
                .map(|c| column(c).map(|i| dy64[i].abs() * spread(i)).sum())
                .collect();
            let bias_terms: Vec<f64> = (0..cols)
                .map(|c| column(c).map(|i| dy64[i].abs()).sum())
                .collect();
            sheet.all("batch_norm dgain", &dgain, &exact.dgain, |c| gain_terms[c]);
            sheet.all("batch_norm dbias", &dbias, &exact.dbias, |c| bias_terms[c]);
            sheet.all("batch_norm dx", &dx, &exact.dx, |i| {
                let c = i % cols;
                let inner = dy64[i].abs() + bias_terms[c] / n + spread(i) * gain_terms[c] / n;
                gain64[c].abs() * rstd(c) * inner
            });
        }
    }
}

fn losses(sheet: &mut Sheet) {
    use reference::losses as exact;
    let level = sheet.level;
    type Row = (&'static str, PointLoss, fn(f64, f64) -> f64);
    let rows: [Row; 8] = [
        ("absolute loss", PointLoss::Absolute, |y, p| {
            exact::absolute(y, p).0
        }),
        ("squared loss", PointLoss::Squared, |y, p| {
            exact::squared(y, p).0
        }),
        ("Huber loss", PointLoss::Huber { delta: 0.5 }, |y, p| {
            exact::huber(0.5, y, p).0
        }),
        ("quantile loss", PointLoss::Quantile { q: 0.3 }, |y, p| {
            exact::quantile(0.3, y, p).0
        }),
        (
            "Huber quantile loss",
            PointLoss::HuberQuantile { q: 0.3, delta: 0.5 },
            |y, p| exact::huber_quantile(0.3, 0.5, y, p).0,
        ),
        ("SMAPE", PointLoss::Smape, |y, p| exact::smape(y, p).0),
        ("MAPE", PointLoss::Mape, |y, p| exact::mape(y, p).0),
        ("Tukey loss", PointLoss::Tukey { c: 1.5 }, |y, p| {
            exact::tukey(1.5, y, p).0
        }),
    ];
    for len in [1, 24, 65, 200_003] {
        for alike in [false, true] {
            let y: Vec<f32> = if alike {
                vec![1.1; len]
            } else {
                normals(12, len)
            };
            let y_hat: Vec<f32> = if alike {
                vec![1.4; len]
            } else {
                normals(13, len)
            };
            let weight: Vec<f32> = uniforms(14, len, 0.0, 1.0);
            for (name, loss, f) in rows {
                let got = point_loss(level, loss, &y, &y_hat, Some(&weight), None, 1.0);
                let entries = (0..len)
                    .map(|i| f64::from(weight[i]) * f(f64::from(y[i]), f64::from(y_hat[i])));
                let total: f64 = entries.sum();
                sheet.one(name, got, total, total);
            }
            let quantiles = [0.1f32, 0.5, 0.9];
            let forecasts: Vec<f32> = normals(15, 3 * len);
            let got =
                multi_quantile_loss(level, &quantiles, &y, &forecasts, Some(&weight), None, 1.0);
            let entries = (0..3 * len).map(|i| {
                let q = f64::from(quantiles[i % 3]);
                let loss = exact::quantile(q, f64::from(y[i / 3]), f64::from(forecasts[i])).0;
                f64::from(weight[i / 3]) * loss / 3.0
            });
            let total: f64 = entries.sum();
            sheet.one("multi-quantile loss", got, total, total);
        }
    }
}

fn series(sheet: &mut Sheet) {
    let level = sheet.level;
    for len in [9, 65, 20_000] {
        let x: Vec<f32> = normals(16, len);
        let x64 = wide(&x);
        let size: Vec<f64> = x64.iter().map(|x| x.abs()).collect();
        for window in [3, 7, if len > 5000 { 5001 } else { 5 }] {
            let mut y = vec![f32::NAN; len];
            let axis = Axis::last(1, len);
            moving_average::moving_average_forward(level, window, axis, &x, &mut y);
            let exact = reference::temporal::moving_average(&x64, window);
            let terms = reference::temporal::moving_average(&size, window);
            sheet.all("moving_average", &y, &exact, |i| terms[i]);
        }
        let windows = Windows::tiles(4);
        let count = windows.count(len);
        let mut y = vec![f32::NAN; count];
        avg_pool_forward(level, windows, Axis::last(1, len), &x, &mut y);
        let exact = reference::temporal::avg_pool(&x64, 4, 4, 0, count);
        let terms = reference::temporal::avg_pool(&size, 4, 4, 0, count);
        sheet.all("avg_pool", &y, &exact, |i| terms[i]);
        let wide_size = 2 * len.min(500) + 1;
        let knots = len.min(500);
        let (x, x64, size) = (&x[..knots], &x64[..knots], &size[..knots]);
        let mut y = vec![f32::NAN; wide_size];
        let mode = interpolate::Interpolation::Linear;
        interpolate::interpolate_forward(level, mode, knots, wide_size, x, &mut y);
        let exact = reference::temporal::interpolate_linear(x64, wide_size);
        let terms = reference::temporal::interpolate_linear(size, wide_size);
        sheet.all("interpolate", &y, &exact, |i| terms[i]);
    }
}

fn convolutions(sheet: &mut Sheet) {
    use reference::conv as exact;
    let level = sheet.level;
    // Many channels, and many sequences, over which the gradient of a weight adds up.
    for (batch, len, inputs, outputs) in [(2, 40, 17, 9), (2000, 24, 2, 3)] {
        for alike in [false, true] {
            let conv = conv::Conv1d::causal(3, 2);
            let sizes = conv::ConvSizes {
                batch,
                len,
                inputs,
                outputs,
            };
            let values = |seed, len| -> Vec<f32> {
                if alike {
                    vec![0.1; len]
                } else {
                    normals(seed, len)
                }
            };
            let (x, dy) = (
                values(1, batch * len * inputs),
                values(2, batch * len * outputs),
            );
            let (w, bias) = (values(3, 3 * inputs * outputs), values(4, outputs));
            let mut w_t = w.clone();
            conv::transpose_taps(level, &w, (3, inputs, outputs), &mut w_t);
            let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
            let (mut dw, mut dbias) = (w.clone(), bias.clone());
            conv::conv1d_forward(level, false, conv, sizes, &x, &w, Some(&bias), &mut y);
            let write = Accumulate::Write;
            conv::conv1d_backward(
                level,
                false,
                conv,
                sizes,
                &x,
                &w_t,
                &dy,
                Some((&mut dx, write)),
                Some((&mut dw, write)),
                Some((&mut dbias, write)),
                &mut vec![f32::NAN; conv::conv1d_scratch(conv, sizes)],
            );
            let size = |x: &[f32]| -> Vec<f64> { wide(x).iter().map(|x| x.abs()).collect() };
            let (shape, taps) = ((batch, len, inputs, outputs), (3, 2, 4, 0));
            let (x64, w64, dy64) = (wide(&x), wide(&w), wide(&dy));
            let (xs, ws, dys) = (size(&x), size(&w), size(&dy));
            let out = exact::conv1d(shape, taps, &x64, &w64, &wide(&bias));
            let terms = exact::conv1d(shape, taps, &xs, &ws, &size(&bias));
            sheet.all("conv1d", &y, &out, |i| terms[i]);
            let out = exact::conv1d_gradient(shape, taps, &x64, &w64, &dy64);
            let terms = exact::conv1d_gradient(shape, taps, &xs, &ws, &dys);
            sheet.all("conv1d'", &dx, &out.0, |i| terms.0[i]);
            sheet.all("conv1d' in w", &dw, &out.1, |i| terms.1[i]);
            sheet.all("conv1d' in bias", &dbias, &out.2, |i| terms.2[i]);
        }
    }
}

/// The state stays between -1 and 1 and every step adds to the error of the one before: the terms are those of the
/// candidate, at most one.
fn recurrent(sheet: &mut Sheet) {
    use reference::recurrent as exact;
    let level = sheet.level;
    let (steps, rows, input, hidden) = (24, 5, 7, 17);
    let sequence = Sequence {
        steps,
        rows,
        input,
        hidden,
    };
    let sizes = (rows, input, hidden);
    let weights = |seed, len| -> Vec<f32> {
        let bound = 1.0 / (hidden as f64).sqrt();
        uniforms(seed, len, -bound, bound)
    };
    let x: Vec<f32> = normals(17, steps * rows * input);
    let (w_ih, w_hh, bias) = (
        weights(18, input * 4 * hidden),
        weights(19, hidden * 4 * hidden),
        weights(20, 4 * hidden),
    );
    let zeros = vec![0.0; rows * hidden];
    let len = steps * rows * hidden;
    let mut y = vec![f32::NAN; len];
    let (mut gates, mut cells) = (vec![f32::NAN; 4 * len], vec![f32::NAN; len]);
    let lstm = LstmWeights {
        w_ih: &w_ih,
        w_hh: &w_hh,
        bias: Some(&bias),
    };
    let saved = LstmSaved {
        gates: &mut gates,
        cells: &mut cells,
    };
    lstm_forward(level, sequence, &lstm, &x, None, saved, &mut y, false);
    let (x64, bias64) = (wide(&x), wide(&bias));
    let whole = (&wide(&w_ih)[..], &wide(&w_hh)[..], &bias64[..]);
    let (outputs, _) = exact::lstm(&x64, sizes, whole, (&zeros, &zeros));
    sheet.all("lstm", &y, &outputs, |_| 1.0);

    let (w_ih3, w_hh3) = (&w_ih[..input * 3 * hidden], &w_hh[..hidden * 3 * hidden]);
    let gru = GruWeights {
        w_ih: w_ih3,
        w_hh: w_hh3,
        bias: Some(&bias),
    };
    let saved = GruSaved { blocks: &mut gates };
    gru_forward(level, sequence, &gru, &x, None, saved, &mut y, false);
    let whole = (&wide(w_ih3)[..], &wide(w_hh3)[..], &bias64[..]);
    let outputs = exact::gru(&x64, sizes, whole, &zeros);
    sheet.all("gru", &y, &outputs, |_| 1.0);

    let (w_ih1, w_hh1) = (&w_ih[..input * hidden], &w_hh[..hidden * hidden]);
    let rnn = RnnWeights {
        w_ih: w_ih1,
        w_hh: w_hh1,
        bias: Some(&bias[..hidden]),
        activation: RnnActivation::Tanh,
    };
    rnn_forward(level, sequence, &rnn, &x, None, &mut y, false);
    let whole = (&wide(w_ih1)[..], &wide(w_hh1)[..], &bias64[..hidden]);
    let outputs = exact::rnn(&x64, sizes, whole, &zeros, f64::tanh);
    sheet.all("rnn", &y, &outputs, |_| 1.0);
}

fn optimizers(sheet: &mut Sheet) {
    use reference::optim as exact;
    let level = sheet.level;
    let len = 1003;
    let grad: Vec<f32> = normals(21, len);
    let weight: Vec<f32> = normals(22, len);
    let mean: Vec<f32> = normals(23, len);
    let square: Vec<f32> = uniforms(24, len, 1e-6, 1.0);
    let (grad64, before) = (wide(&grad), wide(&weight));
    let adam = Adam {
        lr: 0.01,
        decoupled_decay: 0.1,
        step: 7,
        ..Adam::default()
    };
    let (mut w, mut m, mut v) = (weight.clone(), mean.clone(), square.clone());
    adam_step(level, false, adam, 0.5, &grad, &mut w, &mut m, &mut v);
    let mut state = [before.clone(), wide(&mean), wide(&square)];
    let (rates, betas) = ([adam.lr, adam.eps], [adam.beta1, adam.beta2]);
    exact::adam(rates, betas, [0.0, 0.1], 7.0, 0.5, &grad64, &mut state);
    let old_mean = wide(&mean);
    sheet.all("adam weight", &w, &state[0], |i| {
        before[i].abs() + (state[0][i] - before[i]).abs()
    });
    sheet.all("adam mean", &m, &state[1], |i| {
        old_mean[i].abs() + 0.1 * (grad64[i].abs() + old_mean[i].abs())
    });
    sheet.all("adam square", &v, &state[2], |i| state[2][i]);

    let sgd = Sgd {
        lr: 0.01,
        momentum: 0.9,
        weight_decay: 0.1,
        nesterov: true,
    };
    let (mut w, mut u) = (weight.clone(), mean.clone());
    sgd_step(level, false, sgd, 0.5, &grad, &mut w, &mut u);
    let mut state = [before.clone(), wide(&mean)];
    exact::sgd([0.01, 0.9, 0.1], true, 0.5, &grad64, &mut state);
    sheet.all("sgd weight", &w, &state[0], |i| {
        before[i].abs() + 0.02 * old_mean[i].abs()
    });
    let rmsprop = RmsProp {
        lr: 0.01,
        alpha: 0.99,
        eps: 1e-8,
        weight_decay: 0.1,
    };
    let (mut w, mut v) = (weight, square.clone());
    rmsprop_step(level, false, rmsprop, 0.5, &grad, &mut w, &mut v);
    let mut state = [before.clone(), wide(&square)];
    exact::rmsprop([0.01, 0.99, 1e-8, 0.1], 0.5, &grad64, &mut state);
    sheet.all("rmsprop weight", &w, &state[0], |i| {
        before[i].abs() + (state[0][i] - before[i]).abs()
    });
}

#[test]
fn every_kernel_keeps_the_epsilon_on_every_level() {
    let mut sheets = Vec::new();
    for level in nd_testing::levels() {
        let mut sheet = Sheet {
            level,
            worst: BTreeMap::new(),
            broken: BTreeMap::new(),
        };
        for part in [
            sums,
            products,
            pointwise,
            softmaxes,
            norms,
            losses,
            series,
            convolutions,
            recurrent,
            optimizers,
        ] {
            part(&mut sheet);
        }
        sheets.push(sheet);
    }
    let mut table = String::from("| kernel |");
    for sheet in &sheets {
        table += &format!(" {} |", sheet.level);
    }
    for kernel in sheets[0].worst.keys() {
        table += &format!("\n| {kernel} |");
        for sheet in &sheets {
            table += &format!(" {:.1e} |", sheet.worst[kernel]);
        }
    }
    eprintln!("{table}");
    let broken: Vec<&String> = sheets
        .iter()
        .flat_map(|sheet| sheet.broken.values())
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
}
