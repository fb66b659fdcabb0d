//! Norms, recurrent layers, convolution, pooling, interpolation, moving averages.

use nd_simd::conv::{Conv1d, ConvLayout, conv1d, conv1d_gradient};
use nd_simd::interpolate::{Interpolation, interpolate, interpolate_gradient};
use nd_simd::moving_average::{moving_average, moving_average_gradient};
use nd_simd::pool::{Windows, avg_pool, avg_pool_gradient, max_pool, max_pool_gradient};
use nd_simd::recurrent::{
    RecurrentArrays, RnnActivation, gru, gru_gradient, last_state, lstm, lstm_gradient, rnn,
    rnn_gradient,
};
use nd_simd::{SimdReal, norm, reduce, reference};
use nd_testing::cases::normals;
use ndarray::{Array1, Array2, Array3, ArrayRef, Axis, Dimension, s};

use crate::support::{SHAPES, both, close, each_type, layouts, to_f64};

fn vector<R: SimdReal>(seed: u64, len: usize) -> Array1<R> {
    Array1::from_vec(normals::<R>(seed, len))
}

fn matrix<R: SimdReal>(seed: u64, rows: usize, cols: usize) -> Array2<R> {
    Array2::from_shape_vec((rows, cols), normals::<R>(seed, rows * cols)).unwrap()
}

fn cube<R: SimdReal>(seed: u64, dim: [usize; 3]) -> Array3<R> {
    Array3::from_shape_vec(dim, normals::<R>(seed, dim.iter().product())).unwrap()
}

#[test]
fn norms_of_every_layout() {
    fn check<R: SimdReal>(tolerance: f64) {
        for shape in SHAPES {
            let cols = shape[2];
            let dy = cube::<R>(8, shape);
            let gains = vector::<R>(1, 2 * cols);
            // A view with steps.
            let (gain, bias) = (gains.slice(s![..;2]), vector::<R>(2, cols));
            layouts::<R>(shape, |name, x| {
                let what = format!("{shape:?} {name}");
                let (values, eps) = (to_f64(&x), 1e-2);
                let (g, b, d) = (to_f64(&gain), to_f64(&bias), to_f64(&dy));
                let exact = reference::norm::row_norm(eps, true, &values, &g, &b, &d);
                close(
                    &norm::layer_norm(&x, &gain, &bias, eps),
                    &exact.y,
                    tolerance,
                    &what,
                );
                let got = norm::layer_norm_gradient(&x, &gain, eps, &dy);
                close(&got.x, &exact.dx, 10.0 * tolerance, &what);
                close(&got.gain, &exact.dgain, 10.0 * tolerance, &what);
                close(&got.bias, &exact.dbias, 10.0 * tolerance, &what);
                let zero = vec![0.0; cols];
                let exact = reference::norm::row_norm(eps, false, &values, &g, &zero, &d);
                close(&norm::rms_norm(&x, &gain, eps), &exact.y, tolerance, &what);
                let got = norm::rms_norm_gradient(&x, &gain, eps, &dy);
                close(&got.x, &exact.dx, 10.0 * tolerance, &what);
                close(&got.gain, &exact.dgain, 10.0 * tolerance, &what);
                let got = norm::batch_norm(&x, &gain, &bias, eps);
                assert_eq!(got.y.shape(), x.shape());
                let gradient = norm::batch_norm_gradient(&x, &gain, eps, &dy);
                if x.is_empty() {
                    assert!(got.mean.iter().all(|x| x.is_nan()), "{what}");
                    assert!(gradient.gain.iter().all(|&x| x == R::ZERO), "{what}");
                    return;
                }
                let exact = reference::norm::batch_norm(eps, &values, &g, &b, &d);
                close(&got.y, &exact.y, 5.0 * tolerance, &what);
                close(&got.mean, &exact.mean, tolerance, &what);
                close(&got.variance, &exact.variance, tolerance, &what);
                close(&gradient.x, &exact.dx, 20.0 * tolerance, &what);
                close(&gradient.gain, &exact.dgain, 20.0 * tolerance, &what);
                close(&gradient.bias, &exact.dbias, 20.0 * tolerance, &what);
                let (mean, variance) = (&got.mean, &got.variance);
                let again = norm::batch_norm_inference(&x, &gain, &bias, mean, variance, eps);
                assert_eq!(again, got.y, "{what}");
            });
        }
    }
    // A row of equal values is divided by sqrt(eps), and its rounding errors too.
    both!(check, 2e-4);
}

/// Compares a gradient with central differences of `sum f(x) dy` in a few directions.
#[track_caller]
fn check_gradient<D: Dimension>(
    what: &str,
    x: &ndarray::Array<f64, D>,
    gradient: &ArrayRef<f64, D>,
    f: impl Fn(&ndarray::Array<f64, D>) -> f64,
) {
    assert_eq!(x.shape(), gradient.shape(), "{what}");
    for seed in 1..4 {
        let values = normals::<f64>(seed, x.len());
        let direction = ndarray::Array::from_shape_vec(x.raw_dim(), values).unwrap();
        let step = 1e-6;
        let slope = (f(&(x + &direction * step)) - f(&(x - &direction * step))) / (2.0 * step);
        let expected = reduce::dot(gradient, &direction);
        let error = (slope - expected).abs();
        assert!(
            error < 1e-6 * (1.0 + slope.abs()),
            "{what}: {slope} is not {expected}"
        );
    }
}

#[test]
fn recurrent_layers_and_their_gradients() {
    let (steps, rows, input, hidden) = (5, 3, 4, 2);
    // Batch-major memory, seen time-major; PyTorch's weights, transposed.
    let x = cube::<f64>(1, [rows, steps, input]).permuted_axes([1, 0, 2]);
    let (h, c) = (matrix(2, rows, hidden), matrix(3, rows, hidden));
    let dy = cube::<f64>(4, [steps, rows, hidden]);
    let dc = matrix::<f64>(5, rows, hidden);
    let sizes = (rows, input, hidden);
    for gates in [4, 3, 1] {
        let (w_ih, w_hh) = (
            matrix::<f64>(6, gates * hidden, input).reversed_axes(),
            matrix::<f64>(7, gates * hidden, hidden).reversed_axes(),
        );
        let bias = vector::<f64>(8, if gates == 1 { hidden } else { 4 * hidden });
        let weights = RecurrentArrays {
            w_ih: w_ih.view(),
            w_hh: w_hh.view(),
            bias: Some(bias.view()),
        };
        let (w, b) = ((to_f64(&w_ih), to_f64(&w_hh)), to_f64(&bias));
        let w = (&w.0[..], &w.1[..], &b[..]);
        let (values, first) = (to_f64(&x), to_f64(&h));
        let with = |w_ih: &Array2<f64>,
                    w_hh: &Array2<f64>,
                    bias: &Array1<f64>,
                    x: &Array3<f64>,
                    h: &Array2<f64>,
                    c: &Array2<f64>| {
            let weights = RecurrentArrays {
                w_ih: w_ih.view(),
                w_hh: w_hh.view(),
                bias: Some(bias.view()),
            };
            match gates {
                4 => {
                    let run = lstm(x, &weights, Some((h, c)));
                    let last = run.cells.index_axis(Axis(0), steps - 1).to_owned();
                    reduce::dot(&run.y, &dy) + reduce::dot(&last, &dc)
                }
                3 => reduce::dot(&gru(x, &weights, Some(h)).y, &dy),
                _ => reduce::dot(&rnn(x, &weights, RnnActivation::Tanh, Some(h)), &dy),
            }
        };
        let (y, gradients) = match gates {
            4 => {
                let run = lstm(&x, &weights, Some((&h, &c)));
                let (y, cells) =
                    reference::recurrent::lstm(&values, sizes, w, (&first, &to_f64(&c)));
                close(&run.y, &y, 1e-14, "lstm");
                close(&run.cells, &cells, 1e-14, "lstm cells");
                let y = run.y.clone();
                let state = Some((&*h, &*c));
                (y, lstm_gradient(&x, &weights, state, run, &dy, Some(&dc)))
            }
            3 => {
                let run = gru(&x, &weights, Some(&h));
                let y = reference::recurrent::gru(&values, sizes, w, &first);
                close(&run.y, &y, 1e-14, "gru");
                let y = run.y.clone();
                (y, gru_gradient(&x, &weights, Some(&h), run, &dy))
            }
            _ => {
                let y = rnn(&x, &weights, RnnActivation::Tanh, Some(&h));
                let exact = reference::recurrent::rnn(&values, sizes, w, &first, f64::tanh);
                close(&y, &exact, 1e-14, "rnn");
                let got = rnn_gradient(&x, &weights, RnnActivation::Tanh, Some(&h), &y, &dy);
                (y, got)
            }
        };
        assert_eq!(last_state(&y).unwrap(), y.index_axis(Axis(0), steps - 1));
        let what = |name: &str| format!("{name} of {gates} gates");
        check_gradient(&what("x"), &x, &gradients.x, |x| {
            with(&w_ih, &w_hh, &bias, x, &h, &c)
        });
        check_gradient(&what("w_ih"), &w_ih, &gradients.w_ih, |w| {
            with(w, &w_hh, &bias, &x, &h, &c)
        });
        check_gradient(&what("w_hh"), &w_hh, &gradients.w_hh, |w| {
            with(&w_ih, w, &bias, &x, &h, &c)
        });
        check_gradient(&what("bias"), &bias, &gradients.bias, |b| {
            with(&w_ih, &w_hh, b, &x, &h, &c)
        });
        check_gradient(&what("h0"), &h, &gradients.h0, |h| {
            with(&w_ih, &w_hh, &bias, &x, h, &c)
        });
        if gates == 4 {
            check_gradient("c0", &c, &gradients.c0, |c| {
                with(&w_ih, &w_hh, &bias, &x, &h, c)
            });
        }
        // From zeros, without a bias; no steps and no rows.
        let plain = RecurrentArrays {
            bias: None,
            ..weights
        };
        for dim in [[0, rows, input], [steps, 0, input], [1, 1, input]] {
            let x = cube::<f64>(9, dim);
            let y = match gates {
                4 => lstm(&x, &plain, None).y,
                3 => gru(&x, &plain, None).y,
                _ => rnn(&x, &plain, RnnActivation::Relu, None),
            };
            assert_eq!(y.dim(), (dim[0], dim[1], hidden));
            assert_eq!(last_state(&y).is_some(), dim[0] > 0);
        }
    }
}

#[test]
fn convolutions_of_every_layout() {
    fn check<R: SimdReal>(tolerance: f64) {
        let (outputs, bias) = (3, vector::<R>(2, 3));
        for shape in [[2, 4, 9], [1, 1, 1], [0, 4, 5], [2, 5, 0], [2, 3, 40]] {
            for (kernel, dilation) in [(1, 1), (2, 1), (3, 4)] {
                for layout in [ConvLayout::ChannelsFirst, ConvLayout::ChannelsLast] {
                    let conv = Conv1d::causal(kernel, dilation).layout(layout);
                    let first = layout == ConvLayout::ChannelsFirst;
                    let [batch, a, b] = shape;
                    let (inputs, len) = if first { (a, b) } else { (b, a) };
                    if len == 0 {
                        continue;
                    }
                    let w = cube::<R>(1, [outputs, inputs, kernel]);
                    let taps = to_f64(&w.view().reversed_axes());
                    layouts::<R>(shape, |name, x| {
                        let what = format!("{shape:?} {name} {conv:?}");
                        let last = |x: &ArrayRef<R, ndarray::Ix3>| {
                            let mut x = x.view();
                            if first {
                                x.swap_axes(1, 2);
                            }
                            to_f64(&x)
                        };
                        let sizes = (batch, len, inputs, outputs);
                        let reach = (kernel, dilation, (kernel - 1) * dilation, 0);
                        let y = conv1d(&x, &w, Some(&bias), &conv);
                        let exact =
                            reference::conv::conv1d(sizes, reach, &last(&x), &taps, &to_f64(&bias));
                        let seen: Vec<R> = last(&y).into_iter().map(R::from_f64).collect();
                        close(&Array1::from_vec(seen), &exact, tolerance, &what);
                        let dy = y.mapv(|y| y * R::from_f64(0.5));
                        let got = conv1d_gradient(&x, &w, &dy, &conv);
                        let (dx, dw, dbias) = reference::conv::conv1d_gradient(
                            sizes,
                            reach,
                            &last(&x),
                            &taps,
                            &last(&dy),
                        );
                        let seen: Vec<R> = last(&got.x).into_iter().map(R::from_f64).collect();
                        close(&Array1::from_vec(seen), &dx, 10.0 * tolerance, &what);
                        let taps = got.w.view().reversed_axes();
                        close(&taps, &dw, 10.0 * tolerance, &what);
                        close(&got.bias, &dbias, 10.0 * tolerance, &what);
                    });
                }
            }
        }
    }
    both!(check, 2e-5);
}

#[test]
fn windows_of_every_layout() {
    fn check<R: SimdReal>(tolerance: f64) {
        let windows = Windows {
            kernel: 3,
            stride: 2,
            padding: 1,
            ceil_mode: false,
        };
        for shape in SHAPES {
            layouts::<R>(shape, |name, x| {
                for axis in (0..3).filter(|&axis| shape[axis] > 0) {
                    let what = format!("{shape:?} {name} axis {axis}");
                    let axis = Axis(axis);
                    let len = x.len_of(axis);
                    let count = windows.count(len);
                    let (most, mean) = (max_pool(&x, axis, windows), avg_pool(&x, axis, windows));
                    let smooth = moving_average(&x, axis, 5);
                    for (i, lane) in x.lanes(axis).into_iter().enumerate() {
                        let lane = to_f64(&lane);
                        let exact = reference::temporal::max_pool(&lane, 3, 2, 1, count);
                        close(
                            &most.lanes(axis).into_iter().nth(i).unwrap(),
                            &exact,
                            0.0,
                            &what,
                        );
                        let exact = reference::temporal::avg_pool(&lane, 3, 2, 1, count);
                        let got = mean.lanes(axis).into_iter().nth(i).unwrap();
                        close(&got, &exact, tolerance, &what);
                        let exact = reference::temporal::moving_average(&lane, 5);
                        let got = smooth.lanes(axis).into_iter().nth(i).unwrap();
                        close(&got, &exact, tolerance, &what);
                        if i > 40 {
                            break;
                        }
                    }
                    // The means are linear: <A x, dy> = <x, A^T dy>; the maximum is so in its own neighbourhood.
                    let dy = mean.mapv(|y| y + R::ONE);
                    let pairs = [
                        (
                            reduce::dot(&mean, &dy),
                            avg_pool_gradient(&dy, axis, windows, len),
                        ),
                        (
                            reduce::dot(&most, &dy),
                            max_pool_gradient(&x, &dy, axis, windows),
                        ),
                        (
                            reduce::dot(&smooth, &x),
                            moving_average_gradient(&x, axis, 5),
                        ),
                    ];
                    for (forward, dx) in pairs {
                        let backward = reduce::dot(&x.to_owned(), &dx);
                        let error = (forward - backward).to_f64().abs();
                        let size = 1.0 + reduce::dot(&x, &x).to_f64();
                        assert!(error <= 10.0 * tolerance * size, "{what}");
                    }
                }
                if shape[2] == 0 {
                    return;
                }
                for mode in [
                    Interpolation::Nearest,
                    Interpolation::Linear,
                    Interpolation::Cubic,
                ] {
                    let what = format!("{shape:?} {name} {mode:?}");
                    let y = interpolate(&x, 7, mode);
                    let exact = |x: &[f64]| match mode {
                        Interpolation::Nearest => reference::temporal::interpolate_nearest(x, 7),
                        Interpolation::Linear => reference::temporal::interpolate_linear(x, 7),
                        Interpolation::Cubic => reference::temporal::interpolate_cubic(x, 7),
                    };
                    let expected: Vec<f64> = x
                        .rows()
                        .into_iter()
                        .flat_map(|row| exact(&to_f64(&row)))
                        .collect();
                    close(&y, &expected, 1e3 * tolerance, &what);
                    let dx = interpolate_gradient(&y, shape[2], mode);
                    let error = (reduce::dot(&y, &y) - reduce::dot(&x, &dx)).to_f64().abs();
                    let size = 1.0 + reduce::dot(&y, &y).to_f64();
                    assert!(error <= 100.0 * tolerance * size, "{what}");
                }
            });
        }
    }
    both!(check, 2e-6);
}
