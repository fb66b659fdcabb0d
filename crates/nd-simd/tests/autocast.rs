//! Ops in sixteen bits: against f64, against themselves on other numbers of threads, and exactly where all numbers are small integers.

use std::sync::Arc;

use nd_core::autograd::{
    Init, NodeId, ParamGrads, Params, ParamsBuilder, StepContext, StoredRef, Tape, Var,
};
use nd_core::rng::Key;
use nd_core::{Precision, RunOptions, SimdLevel, Threads};
use nd_simd::SimdReal;
use nd_simd::activations::Activation;
use nd_simd::norm::BatchNorm;
use nd_simd::ops::prelude::*;
use nd_testing::cases::normals;

/// The value of an op and the gradients of its inputs, for `dy` of given numbers.
struct Found {
    y: Vec<f64>,
    format: Precision,
    gradients: Vec<Vec<f64>>,
}

type Input = (Vec<usize>, Vec<f64>);

fn run<R: SimdReal>(
    precision: Precision,
    level: SimdLevel,
    parallel: bool,
    inputs: &[Input],
    dy: impl Fn(usize) -> Vec<f64>,
    op: impl for<'t> Fn(&'t Tape<R>, &[Var<'t, R>]) -> Var<'t, R>,
) -> Found {
    let mut tape = Tape::<R>::default();
    let (root, format, y, ids): (NodeId, _, Vec<f64>, Vec<NodeId>);
    tape.begin(StepContext {
        options: RunOptions {
            precision,
            simd: level,
            ..RunOptions::default()
        },
        key: Key::new(5),
        first_row: 3,
        parallel,
        ..StepContext::new(None)
    });
    {
        let vars: Vec<Var<'_, R>> = inputs
            .iter()
            .map(|(shape, values)| {
                let values: Vec<R> = values.iter().map(|&x| R::from_f64(x)).collect();
                tape.variable(&shape[..], tape.pool().take_copy(&values))
            })
            .collect();
        let out = op(&tape, &vars);
        format = out.stored().precision();
        y = out.value().iter().map(|x| x.to_f64()).collect();
        root = out.id();
        ids = vars.iter().map(|var| var.id()).collect();
    }
    let dy: Vec<R> = dy(y.len()).into_iter().map(R::from_f64).collect();
    let dy = tape.pool().take_copy(&dy);
    tape.backward(root, dy, None);
    let gradients = ids
        .iter()
        .map(|&id| match tape.gradient(id) {
            Some(gradient) => gradient.iter().map(|x| x.to_f64()).collect(),
            None => Vec::new(),
        })
        .collect();
    Found {
        y,
        format,
        gradients,
    }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied()).max(1e-30)
}

/// Each case must be within a few roundings of f64: values are rounded on the way in and on the way out, gradients of outputs once.
fn bound(precision: Precision) -> f64 {
    match precision {
        Precision::F16 => 4.0 * 2f64.powi(-12),
        _ => 4.0 * 2f64.powi(-9),
    }
}

/// The same for gradients. A rounded sum near zero falls on the other side of a ReLU with a probability of a few roundings, and
/// each such gradient is wrong as a whole: the distance is the root of their share.
fn gradient_bound(precision: Precision, name: &str) -> f64 {
    if name.contains("Relu") {
        bound(precision).sqrt()
    } else {
        4.0 * bound(precision)
    }
}

/// A shape and seed to normal numbers.
fn normal(seed: u64, shape: &[usize]) -> Input {
    let n = shape.iter().product();
    (shape.to_vec(), normals(seed, n))
}

macro_rules! check {
    ($name:expr, $inputs:expr, |$tape:ident, $v:ident| $body:expr) => {{
        let inputs: Vec<Input> = $inputs;
        let dy = |n: usize| normals(99, n);
        let scalar = SimdLevel::Scalar;
        let exact = run::<f64>(Precision::F32, scalar, false, &inputs, dy, |$tape, $v| {
            $body
        });
        for precision in [Precision::Bf16, Precision::F16] {
            for level in nd_testing::levels() {
                let found = run::<f32>(precision, level, false, &inputs, dy, |$tape, $v| $body);
                assert_eq!(
                    found.format, precision,
                    "{}: kept in {:?}",
                    $name, found.format
                );
                let off = distance(&found.y, &exact.y);
                assert!(
                    off <= bound(precision),
                    "{} {precision} {level}: {off:e}",
                    $name
                );
                for (i, (found, exact)) in found.gradients.iter().zip(&exact.gradients).enumerate()
                {
                    let off = distance(found, exact);
                    assert!(
                        off <= gradient_bound(precision, &$name),
                        "{} {precision} {level}: gradient {i}: {off:e}",
                        $name
                    );
                }
                for threads in [2, 3, 8] {
                    let again = Threads::new(Some(threads)).expect("threads").install(|| {
                        run::<f32>(precision, level, true, &inputs, dy, |$tape, $v| $body)
                    });
                    assert!(again.y == found.y, "{} on {threads} threads", $name);
                    assert!(
                        again.gradients == found.gradients,
                        "{} on {threads} threads",
                        $name
                    );
                }
            }
        }
    }};
}

const ACTIVATIONS: [Activation; 5] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Gelu,
    Activation::Tanh,
    Activation::Silu,
];

#[test]
fn linear() {
    for (rows, k, n) in [
        (1, 1, 1),
        (7, 5, 3),
        (70, 33, 130),
        (600, 16, 40),
        (700, 5, 300),
        (3, 9, 33_000),
    ] {
        let inputs = vec![normal(1, &[rows, k]), normal(2, &[k, n]), normal(3, &[n])];
        for activation in ACTIVATIONS {
            // A sum near zero may fall on either side of it, and a single number has no others that make up for it.
            let fewest = match activation {
                Activation::Identity => 0,
                Activation::Relu => 100,
                _ => 10,
            };
            if rows * n < fewest {
                continue;
            }
            let name = format!("linear {rows}x{k}x{n} {activation:?}");
            check!(name, inputs.clone(), |_tape, v| v[0].linear(
                v[1],
                Some(v[2]),
                activation
            ));
        }
        check!("two layers", inputs[..2].to_vec(), |_tape, v| {
            let x = v[0].linear(v[1], None, Activation::Tanh);
            x.activation(Activation::Sigmoid)
        });
    }
}

/// The gradient of its weight is a dot product, whose sums end nowhere but at the end.
#[test]
fn a_layer_from_one_number_to_one_has_the_same_bits_on_any_threads() {
    let inputs = vec![normal(1, &[40_000, 1]), normal(2, &[1, 1])];
    for precision in [Precision::Bf16, Precision::F16] {
        for level in nd_testing::levels() {
            let found = |parallel| {
                let dy = |len| normals(7, len);
                run::<f32>(precision, level, parallel, &inputs, dy, |_, v| {
                    v[0].linear(v[1], None, Activation::Identity)
                })
            };
            let two = Threads::new(Some(2)).unwrap().install(|| found(true));
            assert!(
                two.gradients == found(false).gradients,
                "{precision} {level}"
            );
        }
    }
}

#[test]
fn products() {
    for b_shape in [vec![4, 6, 7], vec![6, 7]] {
        let inputs = vec![normal(1, &[4, 5, 6]), normal(2, &b_shape)];
        check!("matmul", inputs, |_tape, v| v[0].matmul(v[1]));
    }
    let inputs = vec![normal(1, &[5, 6]), normal(2, &[4, 6, 7])];
    check!("one left matrix", inputs, |_tape, v| v[0].matmul(v[1]));
    let inputs = vec![normal(1, &[4, 5, 6]), normal(2, &[4, 7, 6])];
    check!("transposed", inputs, |_tape, v| v[0]
        .matmul_transposed(v[1]));
}

/// What an op on sixteen bits gets: the result of a product with the identity.
fn rounded<'t, R: SimdReal>(tape: &'t Tape<R>, x: Var<'t, R>) -> Var<'t, R> {
    let n = x.shape().cols();
    let mut one = tape.scratch(n * n);
    for (i, one) in one.iter_mut().enumerate() {
        *one = if i % (n + 1) == 0 { R::ONE } else { R::ZERO };
    }
    x.linear(tape.constant([n, n], one), None, Activation::Identity)
}

/// As [`rounded`], for values too wide for that: each number is a row.
fn rounded_as_column<'t, R: SimdReal>(tape: &'t Tape<R>, x: Var<'t, R>) -> Var<'t, R> {
    let shape = x.shape();
    let mut one = tape.scratch(1);
    one[0] = R::ONE;
    let one = tape.constant([1, 1], one);
    let column = x.reshape([shape.numel(), 1]);
    column
        .linear(one, None, Activation::Identity)
        .reshape(shape)
}

#[test]
fn elementwise_ops_keep_the_format_of_their_input() {
    // 7 windows of 1500 elements: parts begin inside windows and inside random words.
    let x = || normal(1, &[7, 5, 300]);
    check!("gelu", vec![x()], |tape, v| rounded(tape, v[0]).gelu());
    check!("tanh", vec![x()], |tape, v| rounded(tape, v[0]).tanh());
    check!("dropout", vec![x()], |tape, v| rounded(tape, v[0])
        .dropout(0.3));
    check!(
        "add_dropout",
        vec![x(), normal(2, &[7, 5, 300])],
        |tape, v| v[0].add_dropout(rounded(tape, v[1]), 0.2)
    );
    check!("add", vec![x(), normal(2, &[7, 5, 300])], |tape, v| {
        rounded(tape, v[0]).add_dropout(rounded(tape, v[1]), 0.0)
    });
    check!("add_bias", vec![x(), normal(2, &[5, 300])], |tape, v| {
        rounded(tape, v[0]).add_bias(v[1])
    });
    check!("narrow", vec![x()], |tape, v| rounded(tape, v[0])
        .narrow(1, 1..4));
    check!(
        "batch_norm",
        vec![normal(1, &[300, 20]), normal(2, &[20]), normal(3, &[20])],
        |tape, v| rounded(tape, v[0]).batch_norm(v[1], v[2], None, BatchNorm::default())
    );
    // Several blocks a task; rows that fit no block; a gradient that comes in sixteen bits.
    for (rows, cols) in [(5000, 20), (33, 1100), (130, 3)] {
        let name = format!("batch_norm {rows}x{cols}");
        let inputs = vec![
            normal(1, &[rows, cols]),
            normal(2, &[cols]),
            normal(3, &[cols]),
        ];
        check!(name, inputs, |tape, v| rounded_as_column(tape, v[0])
            .batch_norm(v[1], v[2], None, BatchNorm::default()));
    }
    let inputs = vec![
        normal(1, &[300, 20]),
        normal(2, &[20]),
        normal(3, &[20]),
        normal(4, &[20, 30]),
    ];
    check!("batch_norm before a layer", inputs, |tape, v| rounded(
        tape, v[0]
    )
    .batch_norm(v[1], v[2], None, BatchNorm::default())
    .linear(v[3], None, Activation::Identity));
}

#[test]
fn layers_add_to_a_rounded_gradient() {
    // Three layers and a residual branch read one value: the first gradient is rounded, the others are added and the sums rounded. The
    // sizes give one block of rows, several, long rows, and fewer rows than a block on several threads.
    for (rows, k, n) in [(7, 5, 3), (600, 16, 40), (9000, 8, 16), (3, 33_000, 4)] {
        let name = format!("a value of {rows}x{k} that layers of {n} read");
        let mut inputs = vec![normal(1, &[rows, k])];
        inputs.extend((2..5).map(|seed| normal(seed, &[k, n])));
        inputs.push(normal(5, &[n, k]));
        check!(name, inputs, |tape, v| {
            let x = rounded_as_column(tape, v[0]);
            let [a, b, c] = [1, 2, 3].map(|i| x.linear(v[i], None, Activation::Identity));
            let sum = a.add_dropout(b, 0.0).add_dropout(c, 0.0);
            x.add_dropout(sum.linear(v[4], None, Activation::Identity), 0.0)
        });
    }
}

/// What is added to the gradient of a value that is kept in f32 is not rounded, though the first gradient came in sixteen bits.
#[test]
fn a_residual_base_in_f32_has_exact_sums() {
    for (precision, large) in [(Precision::Bf16, 256.0), (Precision::F16, 2048.0)] {
        let inputs = [
            (vec![3, 1], vec![1.0; 3]),
            (vec![1, 1], vec![1.0 / large]),
            (vec![1, 1], vec![1.0]),
        ];
        for level in nd_testing::isa::levels() {
            let dy = |n| vec![large; n];
            let found = run::<f32>(precision, level, false, &inputs, dy, |_, v| {
                let base = v[0].activation(Activation::Relu);
                assert_eq!(base.stored().precision(), Precision::F32);
                let branch = base.linear(v[1], None, Activation::Identity);
                let sum = base.add_dropout(branch, 0.0);
                sum.linear(v[2], None, Activation::Identity)
            });
            assert_eq!(
                found.gradients[0],
                vec![large + 1.0; 3],
                "{precision} {level}"
            );
        }
    }
}

/// A copy of a weight that one instruction set has made is not read by another that arranges it differently.
#[test]
fn runs_on_all_levels_may_share_parameters() {
    let [rows, k, n] = [3, 64, 48];
    let mut b = ParamsBuilder::new();
    let w = b.trainable("w", [k, n], Init::Uniform(1.0));
    let mut params = Params::<f32>::init(&b.build(), 1);
    for (i, w) in params.get_mut(w).iter_mut().enumerate() {
        *w = (i % 7) as f32 - 3.0;
    }
    let params = Arc::new(params);
    let x: Vec<f32> = (0..rows * k).map(|i| (i % 5) as f32 - 2.0).collect();
    let mut found = Vec::new();
    let levels: Vec<SimdLevel> = nd_testing::isa::levels().collect();
    for &level in levels.iter().chain(levels.iter().rev()) {
        let mut tape = Tape::<f32>::default();
        tape.begin(StepContext {
            options: RunOptions {
                precision: Precision::Bf16,
                simd: level,
                ..RunOptions::default()
            },
            ..StepContext::new(Some(Arc::clone(&params)))
        });
        let (root, id, y) = {
            let x = tape.variable([rows, k], tape.pool().take_copy(&x));
            let y = x.linear(tape.param(w), None, Activation::Identity);
            (y.id(), x.id(), y.value().to_vec())
        };
        let mut grads = ParamGrads::new(params.layout());
        let dy = tape.pool().take_copy(&vec![1.0; rows * n]);
        tape.backward(root, dy, Some(&mut grads));
        let gradient = tape.gradient(id).expect("x takes a gradient").to_vec();
        found.push((y, gradient));
    }
    let weight = |i: usize, j: usize| ((i * n + j) % 7) as f32 - 3.0;
    let sum: f32 = (0..n).map(|j| weight(0, j)).sum();
    assert_eq!(found[0].1[0], sum, "the row sums of w");
    assert!(
        found.iter().all(|one| *one == found[0]),
        "whole numbers are exact at every level"
    );
}

#[test]
fn recurrent_layers() {
    let (steps, rows, input, hidden) = (9, 37, 3, 20);
    let weights = |gates: usize| {
        let scaled = |seed, shape: &[usize]| {
            let (shape, values) = normal(seed, shape);
            (shape, values.into_iter().map(|x| 0.3 * x).collect())
        };
        vec![
            normal(1, &[steps, rows, input]),
            scaled(2, &[input, gates * hidden]),
            scaled(3, &[hidden, gates * hidden]),
            scaled(4, &[gates * hidden]),
            scaled(5, &[gates * hidden]),
        ]
    };
    fn of<'t, R: SimdReal>(v: &[Var<'t, R>]) -> RecurrentWeights<'t, R> {
        RecurrentWeights {
            w_ih: v[1],
            w_hh: v[2],
            biases: Some((v[3], v[4])),
        }
    }
    check!("lstm", weights(4), |_tape, v| v[0].lstm(&of(v)));
    check!("gru", weights(3), |_tape, v| v[0].gru(&of(v), None));
    check!("lstm on sixteen bits", weights(4), |tape, v| {
        rounded(tape, v[0]).lstm(&of(v))
    });
}

/// Small whole numbers survive every rounding, so both formats must give what f32 gives, to the bit.
#[test]
fn whole_numbers_are_exact() {
    let whole = |seed, shape: &[usize], most: f64| -> Input {
        let (shape, values) = normal(seed, shape);
        let values = values.into_iter();
        (
            shape,
            values.map(|x| x.round().clamp(-most, most)).collect(),
        )
    };
    for (rows, k, n) in [(1, 3, 5), (5, 4, 17), (300, 4, 130), (1000, 3, 64)] {
        let inputs = vec![
            whole(1, &[rows, k], 2.0),
            whole(2, &[k, n], 2.0),
            whole(3, &[n], 2.0),
        ];
        let dy = |n: usize| {
            normals::<f64>(9, n)
                .iter()
                .map(|x| x.round().clamp(-1.0, 1.0))
                .collect()
        };
        for level in nd_testing::levels() {
            for activation in [Activation::Identity, Activation::Relu] {
                let op = |precision| {
                    run::<f32>(precision, level, false, &inputs, dy, |_, v| {
                        v[0].linear(v[1], Some(v[2]), activation)
                    })
                };
                let full = op(Precision::F32);
                for precision in [Precision::Bf16, Precision::F16] {
                    let half = op(precision);
                    assert!(half.y == full.y, "{precision} {level} {rows}x{k}x{n}");
                    assert!(
                        half.gradients == full.gradients,
                        "{precision} {level} {rows}x{k}x{n} {activation:?}"
                    );
                }
            }
        }
    }
}

/// The mask of dropout does not know the format.
#[test]
fn dropout_drops_the_same_elements() {
    let ones = vec![(vec![5, 1, 2500], vec![1.0; 12_500])];
    let drop = |precision| {
        run::<f32>(
            precision,
            SimdLevel::current(),
            false,
            &ones,
            |n| vec![1.0; n],
            |tape, v| {
                rounded(tape, v[0].reshape([5, 1250, 2]))
                    .reshape([5, 2500])
                    .dropout(0.4)
            },
        )
    };
    let full = drop(Precision::F32);
    for precision in [Precision::Bf16, Precision::F16] {
        let half = drop(precision);
        let mask = |y: &[f64]| y.iter().map(|&y| y != 0.0).collect::<Vec<_>>();
        assert!(mask(&half.y) == mask(&full.y));
        assert!(mask(&half.gradients[0]) == mask(&full.gradients[0]));
    }
}

#[test]
fn a_tape_in_f64_stays_exact() {
    let inputs = vec![normal(1, &[4, 5]), normal(2, &[5, 6])];
    let dy = |n: usize| normals(9, n);
    let level = SimdLevel::current();
    let op = |precision| {
        run::<f64>(precision, level, false, &inputs, dy, |_, v| {
            v[0].linear(v[1], None, Activation::Gelu)
        })
    };
    let (full, half) = (op(Precision::F32), op(Precision::Bf16));
    assert!(full.y == half.y && full.gradients == half.gradients);
    assert_eq!(half.format, Precision::F32);
}

#[test]
fn values_are_kept_in_half_the_bytes() {
    let mut tape = Tape::<f32>::default();
    tape.begin(StepContext {
        options: RunOptions {
            precision: Precision::Bf16,
            ..RunOptions::default()
        },
        ..StepContext::new(None)
    });
    let x = tape.variable([8, 4], tape.pool().take_zeroed(32));
    let w = tape.variable([4, 6], tape.pool().take_zeroed(24));
    let y = x.linear(w, None, Activation::Relu);
    assert!(matches!(y.stored(), StoredRef::Bf16(y) if y.len() == 48));
}
