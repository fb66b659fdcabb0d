//! Convolution along time, and what is picked and scattered by number: against the references, and gradients against finite
//! differences.

use nd_core::autograd::{Accumulate, StepContext, Tape};
use nd_core::{SimdLevel, Threads};
use nd_simd::SimdReal;
use nd_simd::conv::{
    Conv1d, ConvLayout, ConvSizes, conv1d_backward, conv1d_forward, conv1d_scratch, transpose_taps,
};
use nd_simd::ops::prelude::*;
use nd_simd::reference::conv as reference;
use nd_simd::softmax::log_softmax_forward;
use nd_testing::cases::normals;
use nd_testing::{GradInput, gradcheck};

const SIZES: [ConvSizes; 8] = [
    sizes(2, 9, 3, 5),
    sizes(1, 1, 1, 1),
    sizes(0, 4, 2, 2),
    sizes(2, 0, 2, 3),
    sizes(3, 5, 0, 2),
    sizes(3, 5, 2, 0),
    sizes(2, 70, 17, 40),
    // More sequences than one chain of additions takes.
    sizes(150, 9, 2, 3),
];

const fn sizes(batch: usize, len: usize, inputs: usize, outputs: usize) -> ConvSizes {
    ConvSizes {
        batch,
        len,
        inputs,
        outputs,
    }
}

/// `(kernel, dilation, left, right)`: causal ones, centred ones, without padding, with more padding than taps, looking ahead.
const TAPS: [(usize, usize, usize, usize); 9] = [
    (1, 1, 0, 0),
    (2, 1, 1, 0),
    (3, 2, 4, 0),
    (3, 1, 1, 1),
    (3, 1, 0, 0),
    (2, 4, 0, 4),
    (2, 3, 5, 2),
    (7, 3, 18, 0),
    (4, 2, 3, 2),
];

/// `[batch, rows, cols]` to `[batch, cols, rows]`.
fn turned<R: Copy>(x: &[R], batch: usize, rows: usize, cols: usize) -> Vec<R> {
    let mut y = Vec::with_capacity(x.len());
    for b in 0..batch {
        for c in 0..cols {
            y.extend((0..rows).map(|r| x[(b * rows + r) * cols + c]));
        }
    }
    y
}

fn to_f64<R: SimdReal>(x: &[R]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

#[track_caller]
fn close<R: SimdReal>(got: &[R], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (got.to_f64() - expected).abs();
        assert!(
            error <= tolerance,
            "{what}, element {i}: {got} is not {expected}"
        );
    }
}

fn agrees<R: SimdReal>(tolerance: f64) {
    for level in nd_testing::levels() {
        for sizes in SIZES {
            for (kernel, dilation, left, right) in TAPS {
                let reach = (kernel - 1) * dilation;
                if sizes.len + left + right <= reach {
                    continue;
                }
                for layout in [ConvLayout::ChannelsLast, ConvLayout::ChannelsFirst] {
                    let conv = Conv1d {
                        kernel,
                        dilation,
                        left,
                        right,
                        layout,
                    };
                    check::<R>(level, conv, sizes, tolerance);
                }
            }
        }
    }
}

fn check<R: SimdReal>(level: SimdLevel, conv: Conv1d, sizes: ConvSizes, tolerance: f64) {
    let what = format!("{level} {conv:?} {sizes:?}");
    let ConvSizes {
        batch,
        len,
        inputs,
        outputs,
    } = sizes;
    let steps = conv.output_len(len);
    let first = conv.layout == ConvLayout::ChannelsFirst;
    let place = |x: &[R], steps, channels| {
        if first {
            turned(x, batch, steps, channels)
        } else {
            x.to_vec()
        }
    };
    // Back to channels last, to compare.
    let seen = |x: &[R], steps, channels| {
        if first {
            turned(x, batch, channels, steps)
        } else {
            x.to_vec()
        }
    };
    let x = normals::<R>(1, batch * len * inputs);
    let w = normals::<R>(2, conv.kernel * inputs * outputs);
    let bias = normals::<R>(3, outputs);
    let dy = normals::<R>(4, batch * steps * outputs);
    let taps = (conv.kernel, conv.dilation, conv.left, conv.right);
    let shape = (batch, len, inputs, outputs);
    let nan = R::from_f64(f64::NAN);
    for bias in [Some(&bias[..]), None] {
        let mut y = vec![nan; dy.len()];
        let placed = place(&x, len, inputs);
        conv1d_forward(level, false, conv, sizes, &placed, &w, bias, &mut y);
        let b = bias.map_or(vec![0.0; outputs], to_f64);
        let exact = reference::conv1d(shape, taps, &to_f64(&x), &to_f64(&w), &b);
        close(&seen(&y, steps, outputs), &exact, tolerance, &what);
    }
    let exact = reference::conv1d_gradient(shape, taps, &to_f64(&x), &to_f64(&w), &to_f64(&dy));
    let mut w_t = vec![nan; w.len()];
    transpose_taps(level, &w, (conv.kernel, inputs, outputs), &mut w_t);
    for acc in [Accumulate::Write, Accumulate::Add] {
        let (old, old_value) = match acc {
            Accumulate::Write => (nan, 0.0),
            Accumulate::Add => (R::ONE, 1.0),
        };
        let mut dx = vec![old; x.len()];
        let mut dw = vec![old; w.len()];
        let mut dbias = vec![old; outputs];
        conv1d_backward(
            level,
            false,
            conv,
            sizes,
            &place(&x, len, inputs),
            &w_t,
            &place(&dy, steps, outputs),
            Some((&mut dx, acc)),
            Some((&mut dw, acc)),
            Some((&mut dbias, acc)),
            &mut vec![nan; conv1d_scratch(conv, sizes)],
        );
        let plus = |x: &[f64]| -> Vec<f64> { x.iter().map(|x| x + old_value).collect() };
        close(&seen(&dx, len, inputs), &plus(&exact.0), tolerance, &what);
        close(&dw, &plus(&exact.1), tolerance, &what);
        close(&dbias, &plus(&exact.2), tolerance, &what);
    }
}

#[test]
fn convolutions_are_the_definition() {
    agrees::<f32>(1e-3);
    agrees::<f64>(1e-11);
}

/// Memory that ends where the slices end: a read or write beyond either end kills this process.
#[cfg(unix)]
#[test]
fn nothing_is_touched_beyond_the_slices() {
    use nd_testing::guard::{Edge, Guarded};
    let conv = Conv1d::causal(3, 2);
    for level in nd_testing::levels() {
        for (sizes, layout) in SIZES.into_iter().flat_map(|sizes| {
            [ConvLayout::ChannelsLast, ConvLayout::ChannelsFirst].map(|layout| (sizes, layout))
        }) {
            let conv = conv.layout(layout);
            if sizes.len == 0 {
                continue;
            }
            let (from, to) = (sizes.len * sizes.inputs, sizes.len * sizes.outputs);
            let count = 3 * sizes.inputs * sizes.outputs;
            let [x, w, w_t, bias, dy] = [
                sizes.batch * from,
                count,
                count,
                sizes.outputs,
                sizes.batch * to,
            ]
            .map(|len| normals::<f32>(1, len));
            let scratch = conv1d_scratch(conv, sizes);
            let mut plain: Option<Vec<Vec<f32>>> = None;
            for edge in [None, Some(Edge::Start), Some(Edge::End)] {
                let run = |x: &[f32],
                           w: &[f32],
                           w_t: &[f32],
                           bias: &[f32],
                           dy: &[f32],
                           out: [&mut [f32]; 6]| {
                    let [y, dx, dw, dbias, log, scratch] = out;
                    let add = Accumulate::Add;
                    conv1d_forward(level, false, conv, sizes, x, w, Some(bias), y);
                    let (dx, dw, dbias) = (Some((dx, add)), Some((dw, add)), Some((dbias, add)));
                    conv1d_backward(
                        level, false, conv, sizes, x, w_t, dy, dx, dw, dbias, scratch,
                    );
                    log_softmax_forward(level, sizes.outputs, dy, log);
                };
                let mut out = [dy.len(), x.len(), w.len(), bias.len(), dy.len(), scratch]
                    .map(|len| vec![0.5f32; len]);
                match edge {
                    None => run(&x, &w, &w_t, &bias, &dy, out.each_mut().map(|x| &mut x[..])),
                    Some(edge) => {
                        let guard = |x: &[f32]| Guarded::new(edge, x);
                        let mut guarded = out.each_ref().map(|x| guard(x));
                        run(
                            &guard(&x),
                            &guard(&w),
                            &guard(&w_t),
                            &guard(&bias),
                            &guard(&dy),
                            guarded.each_mut().map(|x| &mut **x),
                        );
                        out = guarded.each_ref().map(|x| x.to_vec());
                    }
                }
                let out = out.to_vec();
                assert!(
                    *plain.get_or_insert_with(|| out.clone()) == out,
                    "{level} {sizes:?} {edge:?}"
                );
            }
        }
    }
}

#[test]
fn convolutions_have_exact_gradients() {
    for layout in [ConvLayout::ChannelsLast, ConvLayout::ChannelsFirst] {
        for conv in [
            Conv1d::causal(3, 2).layout(layout),
            Conv1d::valid(2, 1).layout(layout),
            Conv1d {
                left: 1,
                right: 2,
                ..Conv1d::valid(2, 2).layout(layout)
            },
        ] {
            let x = match layout {
                ConvLayout::ChannelsLast => GradInput::normal(1, &[2, 6, 3]),
                ConvLayout::ChannelsFirst => GradInput::normal(1, &[2, 3, 6]),
            };
            let w = GradInput::normal(2, &[conv.kernel, 3, 4]);
            let bias = GradInput::normal(3, &[4]);
            for inputs in [
                [x.clone(), w.clone(), bias.clone()],
                [x.clone(), w.param(), bias.param()],
            ] {
                gradcheck("conv1d", &inputs, |_, v| {
                    v[0].conv1d(v[1], Some(v[2]), conv)
                });
                gradcheck("conv1d without a bias", &inputs[..2], |_, v| {
                    v[0].conv1d(v[1], None, conv)
                });
            }
        }
    }
}

#[test]
fn what_is_picked_and_scattered_has_exact_gradients() {
    let x = [GradInput::normal(1, &[2, 4, 3])];
    for axis in 0..3 {
        let (mut dims, len) = ([2, 4, 3], [2, 4, 3][axis]);
        dims[axis] = 5;
        let count = dims.iter().product();
        let ids: Vec<u32> = (0..count).map(|i: u32| (i * 7 + 3) % len).collect();
        gradcheck("take_along", &x, |_, v| v[0].take_along(axis, 5, &ids));
    }
    let x = [GradInput::normal(1, &[4, 3])];
    gradcheck("scatter_rows", &x, |_, v| {
        v[0].scatter_rows(6, &[5, 0, 5, 2])
    });
}

#[test]
fn log_softmax_has_exact_gradients() {
    for shape in [&[7][..], &[2, 1], &[3, 4, 5], &[2, 33]] {
        let x = [GradInput::normal(1, shape)];
        gradcheck("log_softmax", &x, |_, v| v[0].log_softmax());
    }
}

#[test]
fn threads_change_no_bit() {
    let conv = Conv1d::causal(3, 2);
    let (x, w, bias) = (
        normals::<f32>(1, 40 * 50 * 32),
        normals::<f32>(2, 3 * 32 * 48),
        normals::<f32>(3, 48),
    );
    let run = |parallel: bool| {
        let mut tape = Tape::<f32>::default();
        let mut context = StepContext::new(None);
        context.parallel = parallel;
        tape.begin(context);
        let variable = |shape: &[usize], values: &[f32]| {
            let copy = tape.pool().take_copy(values);
            tape.variable(shape, copy)
        };
        let (x, w) = (variable(&[40, 50, 32], &x), variable(&[3, 32, 48], &w));
        let bias = variable(&[48], &bias);
        let y = x.conv1d(w, Some(bias), conv).log_softmax();
        let value = y.value().to_vec();
        let ids = [x.id(), w.id(), bias.id()];
        let (y, dy) = (y.id(), tape.pool().take_copy(&value));
        tape.backward(y, dy, None);
        let gradients = ids.map(|id| tape.gradient(id).map(|d| d.to_vec()));
        (value, gradients)
    };
    let serial = run(false);
    for count in [1, 2, 3] {
        let threads = Threads::new(Some(count)).unwrap();
        assert!(threads.install(|| run(true)) == serial, "{count} threads");
    }
}
