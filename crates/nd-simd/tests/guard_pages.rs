//! Every kernel on memory that ends where its slices end: a read or write beyond either end kills this process.
//!
//! Each kernel runs three times, on ordinary memory and with all slices against a forbidden page at their end and at
//! their start; the results must have the same bits. Lengths reach every tail of every vector length.

#![cfg(unix)]

use nd_core::autograd::Accumulate;
use nd_core::options::Precision;
use nd_core::{SimdLevel, bf16, f16};
use nd_simd::SimdReal;
use nd_simd::activations::{
    Activation, Saved, activation_backward, activation_forward, activation_in_place,
};
use nd_simd::interpolate::{Interpolation, interpolate_backward, interpolate_forward};
use nd_simd::losses::{PointLoss, multi_quantile_loss, point_loss, row_scaled_loss};
use nd_simd::matmul::{
    Bf16Engine, Epilogue, MatMut, MatRef, Operand, PackedBf16, StackMut, StackRef, multiply,
    multiply_fused, multiply_half, multiply_packed, multiply_stack, multiply_vector, pack_bf16,
    packed_bf16_len,
};
use nd_simd::norm::{
    BatchNormSaved, batch_moments, batch_norm_apply, batch_norm_backward, batch_norm_scratch,
    layer_norm_backward, layer_norm_forward, layer_norm_scratch, rms_norm_backward,
    rms_norm_forward, rms_norm_scratch,
};
use nd_simd::optim::{
    Adam, RmsProp, Sgd, adam_step, check_norm, rmsprop_step, sgd_step, unscale_check_norm,
};
use nd_simd::pool::{
    Axis, Windows, avg_pool_backward, avg_pool_forward, max_pool_backward, max_pool_forward,
};
use nd_simd::{convert, dropout, elementwise, moving_average, permute, reduce, softmax};
use nd_testing::cases::normals;
use nd_testing::guard::{Edge, Guarded, Plain};

/// Every tail of 16, 8, 4 and 2 lanes, and what several vectors at a time leave over.
fn lengths() -> impl Iterator<Item = usize> {
    (0..=33).chain([47, 63, 64, 65, 127, 129, 257])
}

/// A type whose values have bits to compare.
trait Bits: Plain {
    fn bits(self) -> u64;
}

macro_rules! bits {
    ($($T:ty),*) => {
        $(impl Bits for $T {
            fn bits(self) -> u64 {
                u64::from(self.to_bits())
            }
        })*
    };
}
bits!(f32, f64, bf16, f16);

/// Runs a kernel of some slices to others on ordinary and on guarded memory.
///
/// `outputs` are what the written slices hold before; the kernel may return a number.
#[track_caller]
fn probe<T: Bits, U: Bits>(
    place: &str,
    inputs: &[&[T]],
    outputs: &[&[U]],
    kernel: impl Fn(&[&[T]], &mut [&mut [U]]) -> f64,
) {
    let mut plain: Vec<Vec<U>> = outputs.iter().map(|output| output.to_vec()).collect();
    let mut slices: Vec<&mut [U]> = plain.iter_mut().map(|output| &mut output[..]).collect();
    let returned = kernel(inputs, &mut slices);
    for edge in Edge::BOTH {
        let inputs: Vec<Guarded<T>> = inputs.iter().map(|x| Guarded::new(edge, x)).collect();
        let mut outputs: Vec<Guarded<U>> = outputs.iter().map(|x| Guarded::new(edge, x)).collect();
        let inputs: Vec<&[T]> = inputs.iter().map(|x| &**x).collect();
        let mut slices: Vec<&mut [U]> = outputs.iter_mut().map(|x| &mut **x).collect();
        let again = kernel(&inputs, &mut slices);
        assert_eq!(again.to_bits(), returned.to_bits(), "{place}, {edge:?}");
        for (which, (plain, guarded)) in plain.iter().zip(&outputs).enumerate() {
            for (i, (&a, &b)) in plain.iter().zip(guarded.iter()).enumerate() {
                let same = a.bits() == b.bits();
                assert!(same, "{place}, {edge:?}: output {which} differs at {i}");
            }
        }
    }
}

const ACCUMULATE: [Accumulate; 2] = [Accumulate::Write, Accumulate::Add];

/// Kernels that go along one slice.
fn along<R: SimdReal + Bits>(level: SimdLevel) {
    for len in lengths() {
        let [a, b, c, d]: [Vec<R>; 4] = [1, 2, 3, 4].map(|seed| normals(seed, len));
        let square: Vec<R> = c.iter().map(|&x| x * x).collect();
        let at = |name: &str| format!("{level} {name} of {len} {}", R::DTYPE);
        for activation in Activation::ALL {
            let place = at(&format!("{activation:?}"));
            probe(&place, &[&a], &[&b], |x, y| {
                activation_forward(level, activation, x[0], y[0]);
                0.0
            });
            probe(&place, &[], &[&a], |_: &[&[R]], y| {
                activation_in_place(level, activation, y[0]);
                0.0
            });
            let mut saved = a.clone();
            if activation.saved() == Saved::Output {
                activation_in_place(level, activation, &mut saved);
            }
            for acc in ACCUMULATE {
                probe(&place, &[&saved, &b], &[&c], |x, dx| {
                    activation_backward(level, activation, x[0], x[1], dx[0], acc);
                    0.0
                });
            }
        }
        type Binary<R> = fn(SimdLevel, &[R], &[R], &mut [R]);
        let binaries: [(&str, Binary<R>); 4] = [
            ("add", elementwise::add_forward),
            ("sub", elementwise::sub_forward),
            ("mul", elementwise::mul_forward),
            ("div", elementwise::div_forward),
        ];
        for (name, kernel) in binaries {
            probe(&at(name), &[&a, &b], &[&c], |x, y| {
                kernel(level, x[0], x[1], y[0]);
                0.0
            });
        }
        for acc in ACCUMULATE {
            probe(&at("div backward"), &[&a, &b, &c], &[&d, &d], |x, y| {
                let [scratch, db] = y else { unreachable!() };
                elementwise::div_backward(level, x[0], x[1], x[2], scratch, db, acc);
                0.0
            });
            probe(&at("accumulate"), &[&a, &b], &[&c], |x, y| {
                elementwise::accumulate(level, x[0], y[0], acc);
                elementwise::accumulate_scaled(level, 0.3, x[0], y[0], acc);
                elementwise::accumulate_product(level, x[0], x[1], y[0], acc);
                0.0
            });
            probe(&at("dropout"), &[&a], &[&b], |x, y| {
                let words: Vec<u32> = (0..len as u32)
                    .map(|i| i.wrapping_mul(0x9e37_79b9))
                    .collect();
                let words = Guarded::new(Edge::End, &words);
                dropout::dropout_with_words(level, 0.4, &words, x[0], y[0], acc);
                0.0
            });
        }
        probe(&at("axpy, affine, scale"), &[&a], &[&b, &c], |x, y| {
            elementwise::axpy(level, 0.7, x[0], y[0]);
            elementwise::affine_forward(level, 0.7, 0.1, x[0], y[1]);
            elementwise::scale_in_place(level, 0.9, y[1]);
            0.0
        });
        probe(&at("reductions"), &[&a, &b], &[&c], |x, _| {
            let moments = reduce::moments(level, x[0]);
            let largest = if len == 0 {
                0.0
            } else {
                reduce::max_slice(level, x[0]).to_f64()
            };
            assert!(reduce::all_finite_slice(level, x[0]));
            reduce::sum_slice(level, x[0])
                + reduce::dot_slice(level, x[0], x[1])
                + reduce::squared_norm(level, x[0])
                + moments.population_variance()
                + largest
        });
        for loss in [
            PointLoss::Absolute,
            PointLoss::Squared,
            PointLoss::Huber { delta: 0.5 },
            PointLoss::Quantile { q: 0.3 },
            PointLoss::HuberQuantile { q: 0.3, delta: 0.5 },
            PointLoss::Smape,
            PointLoss::Mape,
            PointLoss::Tukey { c: 1.5 },
        ] {
            probe(
                &at(&format!("{loss:?}")),
                &[&a, &b, &square],
                &[&d],
                |x, grad| {
                    point_loss(level, loss, x[0], x[1], Some(x[2]), Some(grad[0]), 0.5)
                        + point_loss(level, loss, x[0], x[1], Some(x[2]), None, 0.5)
                        + point_loss(level, loss, x[0], x[1], None, None, 0.5)
                },
            );
        }
        let state = [&b[..], &c, &square];
        probe(&at("adam"), &[&a], &state, |grad, state| {
            let [w, m, v] = state else { unreachable!() };
            adam_step(level, false, Adam::default(), 0.5, grad[0], w, m, v);
            0.0
        });
        probe(&at("sgd"), &[&a], &state[..2], |grad, state| {
            let [w, u] = state else { unreachable!() };
            let sgd = Sgd {
                lr: 0.1,
                momentum: 0.9,
                weight_decay: 0.1,
                nesterov: true,
            };
            sgd_step(level, false, sgd, 0.5, grad[0], w, u);
            0.0
        });
        probe(&at("rmsprop"), &[&a], &[&b, &square], |grad, state| {
            let [w, v] = state else { unreachable!() };
            let rmsprop = RmsProp {
                lr: 0.1,
                alpha: 0.9,
                eps: 1e-8,
                weight_decay: 0.1,
            };
            rmsprop_step(level, false, rmsprop, 0.5, grad[0], w, v);
            0.0
        });
        probe(&at("norm of the gradient"), &[&a], &[&b], |x, y| {
            let factor = R::from_f64(0.5);
            check_norm(level, false, x[0]).norm_squared
                + unscale_check_norm(level, false, factor, y[0]).norm_squared
        });
    }
}

/// Kernels of matrices.
fn across<R: SimdReal + Bits>(level: SimdLevel) {
    for rows in [1, 2, 5, 17] {
        for cols in (1..=33).chain([63, 64, 65, 130]) {
            let len = rows * cols;
            let [x, dy, old]: [Vec<R>; 3] = [1, 2, 3].map(|seed| normals(seed, len));
            let [gain, bias, column]: [Vec<R>; 3] = [4, 5, 6].map(|seed| normals(seed, cols));
            let row: Vec<R> = normals(7, rows);
            let weight: Vec<R> = x.iter().map(|&x| x * x).collect();
            let at = |name: &str| format!("{level} {name} of {rows} x {cols} {}", R::DTYPE);
            probe(&at("softmax"), &[&x, &dy], &[&old, &old], |x, out| {
                let [y, dx] = out else { unreachable!() };
                softmax::softmax_forward(level, cols, x[0], y);
                softmax::softmax_backward(level, cols, y, x[1], dx, Accumulate::Add);
                0.0
            });
            probe(&at("sums"), &[&x], &[&row, &column], |x, out| {
                reduce::row_sums(level, x[0], cols, 0.5, out[0]);
                reduce::column_sums(level, x[0], out[1], Accumulate::Add);
                0.0
            });
            probe(&at("bias"), &[&x, &bias], &[&old], |x, y| {
                elementwise::bias_forward(level, x[0], x[1], y[0]);
                elementwise::bias_in_place(level, x[1], y[0]);
                0.0
            });
            let inputs = [&x[..], &gain, &bias, &dy];
            let scratch: Vec<R> = normals(8, layer_norm_scratch(rows, cols));
            let outputs = [&old[..], &row, &row, &old, &gain, &bias, &scratch];
            probe(&at("layer norm"), &inputs, &outputs, |x, out| {
                let [y, mean, rstd, dx, dgain, dbias, scratch] = out else {
                    unreachable!()
                };
                layer_norm_forward(level, 1e-5, x[0], x[1], x[2], y, mean, rstd);
                layer_norm_backward(
                    level,
                    false,
                    x[0],
                    x[1],
                    mean,
                    rstd,
                    x[3],
                    Some((dx, Accumulate::Write)),
                    Some((dgain, Accumulate::Add)),
                    Some((dbias, Accumulate::Write)),
                    scratch,
                );
                0.0
            });
            let scratch: Vec<R> = normals(8, rms_norm_scratch(rows, cols));
            let outputs = [&old[..], &row, &old, &gain, &scratch];
            probe(&at("RMS norm"), &inputs, &outputs, |x, out| {
                let [y, rstd, dx, dgain, scratch] = out else {
                    unreachable!()
                };
                rms_norm_forward(level, 1e-5, x[0], x[1], y, rstd);
                let dx = Some((&mut **dx, Accumulate::Write));
                let dgain = Some((&mut **dgain, Accumulate::Write));
                rms_norm_backward(level, false, x[0], x[1], rstd, x[3], dx, dgain, scratch);
                0.0
            });
            let scratch: Vec<R> = normals(8, batch_norm_scratch(rows, cols));
            let outputs = [&bias[..], &bias, &old, &old, &gain, &bias, &scratch];
            probe(&at("batch norm"), &inputs, &outputs, |x, out| {
                let [mean, variance, y, dx, dgain, dbias, scratch] = out else {
                    unreachable!()
                };
                batch_moments(level, false, x[0], mean, variance, scratch);
                let saved = BatchNormSaved {
                    eps: 1e-5,
                    mean,
                    variance,
                    gain: x[1],
                };
                batch_norm_apply(level, false, saved, x[2], x[0], y);
                batch_norm_backward(
                    level,
                    false,
                    saved,
                    x[0],
                    x[3],
                    Some((dx, Accumulate::Write)),
                    Some((dgain, Accumulate::Write)),
                    Some((dbias, Accumulate::Write)),
                    scratch,
                );
                0.0
            });
            let quantiles = &gain;
            let inputs = [quantiles, &row[..], &x, &row];
            probe(&at("quantiles"), &inputs, &[&old], |x, grad| {
                let weighted =
                    multi_quantile_loss(level, x[0], x[1], x[2], Some(x[3]), Some(grad[0]), 0.5);
                weighted + multi_quantile_loss(level, x[0], x[1], x[2], None, None, 0.5)
            });
            let inputs = [&row[..], &x, &dy, &weight];
            probe(&at("scaled loss"), &inputs, &[&old], |x, grad| {
                let loss = PointLoss::Squared;
                row_scaled_loss(
                    level,
                    loss,
                    x[0],
                    x[1],
                    x[2],
                    Some(x[3]),
                    Some(grad[0]),
                    0.5,
                )
            });
            probe(&at("rearrangements"), &[&x], &[&old, &old], |x, out| {
                permute::transpose(level, x[0], rows, cols, out[0]);
                let (dims, axes) = ([rows, cols], [1, 0]);
                permute::permute_axes(level, &dims, &axes, x[0], out[0], Accumulate::Add);
                permute::reverse_rows(level, cols, x[0], out[1], Accumulate::Add);
                0.0
            });
            let axis = Axis::last(rows, cols);
            let windows = Windows {
                kernel: 3,
                stride: 2,
                padding: 1,
                ceil_mode: true,
            };
            let pooled: Vec<R> = normals(9, rows * windows.count(cols));
            probe(
                &at("pools"),
                &[&x, &pooled],
                &[&pooled, &pooled, &old],
                |x, out| {
                    let acc = Accumulate::Add;
                    max_pool_forward(level, windows, axis, x[0], out[0]);
                    avg_pool_forward(level, windows, axis, x[0], out[1]);
                    max_pool_backward(level, windows, axis, x[0], x[1], out[2], acc);
                    avg_pool_backward(level, windows, axis, x[1], out[2], acc);
                    0.0
                },
            );
            probe(&at("moving average"), &[&x], &[&old, &old], |x, out| {
                let window = 3;
                moving_average::moving_average_forward(level, window, axis, x[0], out[0]);
                let acc = Accumulate::Write;
                moving_average::moving_average_backward(level, window, axis, x[0], out[1], acc);
                0.0
            });
            let size = 2 * cols + 1;
            let wide: Vec<R> = normals(10, rows * size);
            for mode in [
                Interpolation::Nearest,
                Interpolation::Linear,
                Interpolation::Cubic,
            ] {
                probe(
                    &at("interpolation"),
                    &[&x, &wide],
                    &[&wide, &old],
                    |x, out| {
                        interpolate_forward(level, mode, cols, size, x[0], out[0]);
                        interpolate_backward(
                            level,
                            mode,
                            cols,
                            size,
                            x[1],
                            out[1],
                            Accumulate::Add,
                        );
                        0.0
                    },
                );
            }
        }
    }
}

#[test]
fn slices_are_read_no_further_than_their_ends() {
    for level in nd_testing::levels() {
        along::<f32>(level);
        along::<f64>(level);
    }
}

#[test]
fn matrices_are_read_no_further_than_their_ends() {
    for level in nd_testing::levels() {
        across::<f32>(level);
        across::<f64>(level);
    }
}

#[test]
fn conversions_stay_inside() {
    for level in nd_testing::levels() {
        for len in lengths() {
            let x: Vec<f32> = normals(1, len);
            let brain: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
            let half: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
            let place = format!("{level} conversion of {len}");
            probe(&place, &[&x], &[&brain], |x, y| {
                convert::f32_to_bf16(level, x[0], y[0]);
                0.0
            });
            probe(&place, &[&brain], &[&x], |x, y| {
                convert::bf16_to_f32(level, x[0], y[0]);
                0.0
            });
            probe(&place, &[&x], &[&half], |x, y| {
                convert::f32_to_f16(level, x[0], y[0]);
                0.0
            });
            probe(&place, &[&half], &[&x], |x, y| {
                convert::f16_to_f32(level, x[0], y[0]);
                0.0
            });
        }
    }
}

/// Strides of rows and columns, for their numbers.
type Strides = fn(usize, usize) -> (usize, usize);
/// Row-major, column-major, and rows further apart than they are long.
const LAYOUTS: [Strides; 3] = [
    |_, cols| (cols, 1),
    |rows, _| (1, rows),
    |_, cols| (cols + 3, 1),
];

/// Elements from the first to the last one of a matrix; nothing of the padding behind it.
fn span(rows: usize, cols: usize, (row, col): (usize, usize)) -> usize {
    (rows - 1) * row + (cols - 1) * col + 1
}

fn products<R: SimdReal + Bits>(level: SimdLevel) {
    const SIZES: [usize; 8] = [1, 3, 6, 8, 13, 17, 33, 65];
    let mut turn = 0;
    for m in SIZES {
        for n in SIZES {
            for k in [1, 4, 9, 33] {
                for a_layout in LAYOUTS {
                    for b_layout in LAYOUTS {
                        turn += 1;
                        let (sa, sb) = (a_layout(m, k), b_layout(k, n));
                        let sc = LAYOUTS[turn % 3](m, n);
                        let a: Vec<R> = normals(1, span(m, k, sa));
                        let b: Vec<R> = normals(2, span(k, n, sb));
                        let c: Vec<R> = normals(3, span(m, n, sc));
                        let bias: Vec<R> = normals(4, n);
                        let place = format!("{level} {m}x{k}x{n} {sa:?} {sb:?} {sc:?}");
                        probe(&place, &[&a, &b, &bias], &[&c], |x, c| {
                            let a = MatRef::strided(x[0], m, k, sa.0, sa.1);
                            let b = MatRef::strided(x[1], k, n, sb.0, sb.1);
                            let c = MatMut::strided(c[0], m, n, sc.0, sc.1);
                            let (alpha, beta) = (R::ONE, R::from_f64((turn % 2) as f64));
                            // An epilogue wants neighbouring columns.
                            if turn % 5 == 0 && sc.1 == 1 {
                                let epilogue = Epilogue {
                                    bias: Some(x[2]),
                                    activation: Activation::Relu,
                                };
                                multiply_fused(level, alpha, a, b, beta, c, epilogue);
                            } else {
                                multiply(level, alpha, a, b, beta, c);
                            }
                            0.0
                        });
                    }
                }
            }
        }
    }
    // Rows taken in parts, for which panels are packed together and asked for beforehand.
    let (m, k, n) = (1030, 258, 259);
    let [a, b, c]: [Vec<R>; 3] =
        [(1, m * k), (2, k * n), (3, m * n)].map(|(seed, len)| normals(seed, len));
    for (a_columns, b_columns) in [(false, false), (false, true), (true, false)] {
        let place = format!("{level} {m}x{k}x{n} {a_columns} {b_columns}");
        probe(&place, &[&a, &b], &[&c], |x, c| {
            let a = match a_columns {
                true => MatRef::row_major(x[0], k, m).t(),
                false => MatRef::row_major(x[0], m, k),
            };
            let b = match b_columns {
                true => MatRef::row_major(x[1], n, k).t(),
                false => MatRef::row_major(x[1], k, n),
            };
            let c = MatMut::row_major(c[0], m, n);
            multiply(level, R::ONE, a, b, R::ZERO, c);
            0.0
        });
    }
    for (m, k) in [(1, 1), (5, 31), (9, 64), (6, 100), (33, 17)] {
        let [a, x, y]: [Vec<R>; 3] =
            [(1, m * k), (2, k), (3, m)].map(|(seed, len)| normals(seed, len));
        probe(
            &format!("{level} {m}x{k} vector"),
            &[&a, &x],
            &[&y],
            |x, y| {
                let a = MatRef::row_major(x[0], m, k);
                multiply_vector(level, R::ONE, a, x[1], R::ONE, y[0]);
                0.0
            },
        );
        let (count, n) = (3, 7);
        let [a, b, c]: [Vec<R>; 3] =
            [(1, m * k), (2, k * n), (3, m * n)].map(|(seed, len)| normals(seed, count * len));
        probe(
            &format!("{level} {m}x{k} stack"),
            &[&a, &b],
            &[&c],
            |x, c| {
                let a = StackRef::contiguous(x[0], count, m, k);
                let b = StackRef::contiguous(x[1], count, k, n);
                let c = StackMut::contiguous(c[0], count, m, n);
                multiply_stack(level, R::ONE, a, b, R::ZERO, c);
                0.0
            },
        );
    }
}

#[test]
fn products_read_no_further_than_their_operands() {
    for level in nd_testing::levels() {
        products::<f32>(level);
        products::<f64>(level);
    }
}

#[test]
fn half_products_read_no_further_than_their_operands() {
    for level in nd_testing::levels() {
        for engine in Bf16Engine::supported() {
            // Only AVX-512 has engines to choose from.
            if level == SimdLevel::Avx512 || engine == Bf16Engine::Widen {
                engine.scope(|| half_products(level, &format!("{level} {engine}")));
            }
        }
    }
}

fn half_products(level: SimdLevel, way: &str) {
    for m in [1, 3, 6, 13, 16, 17, 31, 32, 33] {
        for n in [1, 3, 8, 16, 17, 32, 33, 65] {
            // The last is more than one chain of sums.
            for k in [1, 2, 5, 16, 31, 32, 33, 64, 70, 1100] {
                if k > 1024 && !([1, 31, 33].contains(&m) && [1, 33].contains(&n)) {
                    continue;
                }
                let narrow = |seed, len| -> Vec<bf16> {
                    let x: Vec<f32> = normals(seed, len);
                    x.iter().map(|&x| bf16::from_f32(x)).collect()
                };
                let (a, b) = (narrow(1, m * k), narrow(2, k * n));
                let c: Vec<f32> = normals(3, m * n);
                let place = format!("{way} {m}x{k}x{n} of bf16");
                for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
                    probe(&place, &[&a, &b], &[&c], |x, c| {
                        multiply_half(
                            level,
                            precision,
                            1.0,
                            MatRef::row_major(x[0], m, k),
                            MatRef::row_major(x[1], k, n),
                            1.0,
                            MatMut::row_major(c[0], m, n),
                            Epilogue::default(),
                        );
                        0.0
                    });
                }
                let half = narrow(3, m * n);
                let bias: Vec<f32> = normals(4, n);
                for beta in [0.0, 1.0] {
                    probe(&place, &[&a, &b], &[&half], |x, c| {
                        multiply_half(
                            level,
                            Precision::Bf16,
                            1.0,
                            MatRef::row_major(x[0], m, k),
                            MatRef::row_major(x[1], k, n),
                            beta,
                            MatMut::row_major(c[0], m, n),
                            Epilogue::default(),
                        );
                        0.0
                    });
                }
                probe(&place, &[&bias], &[&half], |x, c| {
                    multiply_half(
                        level,
                        Precision::Bf16,
                        1.0,
                        MatRef::row_major(&a, m, k),
                        MatRef::row_major(&b, k, n),
                        0.0,
                        MatMut::row_major(c[0], m, n),
                        Epilogue {
                            bias: Some(x[0]),
                            ..Epilogue::default()
                        },
                    );
                    0.0
                });
                let packed = vec![bf16::ZERO; packed_bf16_len(k, n)];
                probe(&place, &[&b], &[&packed], |x, packed| {
                    pack_bf16(level, MatRef::row_major(x[0], k, n), packed[0]);
                    0.0
                });
                let mut packed = packed;
                pack_bf16(level, MatRef::row_major(&b, k, n), &mut packed);
                probe(&place, &[&a, &packed], &[&c], |x, c| {
                    by_packed(level, [m, k, n], x, c[0]);
                    0.0
                });
                probe(&place, &[&a, &packed], &[&half], |x, c| {
                    by_packed(level, [m, k, n], x, c[0]);
                    0.0
                });
            }
        }
    }
}

/// A product with a right operand that was packed before.
fn by_packed<C: Operand>(level: SimdLevel, [m, k, n]: [usize; 3], x: &[&[bf16]], c: &mut [C]) {
    multiply_packed(
        level,
        1.0,
        MatRef::row_major(x[0], m, k),
        PackedBf16::new(x[1], k, n),
        0.0,
        MatMut::row_major(c, m, n),
        Epilogue::default(),
    );
}
