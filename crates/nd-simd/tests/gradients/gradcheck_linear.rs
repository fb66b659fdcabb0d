//! The dense layer against finite differences, against the plain product, and over threads.

use std::sync::Arc;

use nd_core::autograd::{Init, ParamGrads, Params, ParamsBuilder, StepContext, Tape};
use nd_core::{SimdLevel, Threads};
use nd_simd::activations::Activation;
use nd_simd::ops::prelude::*;
use nd_testing::{GradInput, assert_close, gradcheck, ops};

const ACTIVATIONS: [Activation; 10] = [
    Activation::Identity,
    Activation::Relu,
    Activation::LeakyRelu { slope: 0.1 },
    Activation::Elu { alpha: 1.0 },
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Silu,
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Softplus,
];

#[test]
fn gradients_agree_with_finite_differences() {
    let x = GradInput::normal(1, &[2, 3, 5]);
    let w = GradInput::normal(2, &[5, 4]);
    let b = GradInput::normal(3, &[4]);
    for activation in ACTIVATIONS {
        let name = format!("linear {activation:?}");
        gradcheck(
            &name,
            &[x.clone(), w.clone().param(), b.clone().param()],
            |_, v| v[0].linear(v[1], Some(v[2]), activation),
        );
        gradcheck(&name, &[x.clone(), w.clone(), b.clone()], |_, v| {
            v[0].linear(v[1], Some(v[2]), activation)
        });
        gradcheck(&name, &[x.clone(), w.clone().param()], |_, v| {
            v[0].linear(v[1], None, activation)
        });
    }
}

#[test]
fn without_bias_and_activation_it_is_the_product() {
    let tape = Tape::<f64>::default();
    let x = tape.input([3, 5], &nd_testing::cases::normals::<f64>(1, 15));
    let w = tape.input([5, 2], &nd_testing::cases::normals::<f64>(2, 10));
    let y = x.linear(w, None, Activation::Identity);
    assert_close("y", &y.value(), &ops::dense(x, w).value(), 1e-14, 1e-14);
    assert_eq!(&y.shape()[..], &[3, 2]);
}

#[test]
fn threads_change_no_bit() {
    let mut b = ParamsBuilder::new();
    // Several strips of the transposed weight, and two parts of the batch.
    let w = b.trainable("w", [96, 400], Init::Uniform(0.1));
    let bias = b.trainable("b", [400], Init::Uniform(0.1));
    let params = Arc::new(Params::<f32>::init(&b.build(), 1));
    let rows = nd_testing::cases::normals::<f32>(3, 1024 * 96);
    let run = |threads: usize, parallel: bool| {
        let mut tape = Tape::<f32>::default();
        let mut grads = ParamGrads::new(params.layout());
        Threads::new(Some(threads)).unwrap().install(|| {
            let context = StepContext::new(Some(Arc::clone(&params)));
            tape.begin(StepContext {
                parallel,
                ..context
            });
            let x = tape.variable([1024, 96], tape.pool().take_copy(&rows));
            let y = x.linear(tape.param(w), Some(tape.param(bias)), Activation::Gelu);
            let (x, y, values) = (x.id(), y.id(), y.value().to_vec());
            let dy = tape.pool().take_copy(&values);
            tape.backward(y, dy, Some(&mut grads));
            let dx = tape.gradient(x).expect("a variable").to_vec();
            (values, dx, grads.flat().to_vec())
        })
    };
    let one = run(1, false);
    for (threads, parallel) in [(1, true), (2, true), (3, true)] {
        assert!(one == run(threads, parallel), "{threads} threads");
    }
}

#[test]
fn bias_gradients_are_exact_for_whole_numbers_and_have_the_same_bits_on_any_number_of_threads() {
    for (rows, cols) in [
        (0, 3),
        (1, 1),
        (127, 600),
        (1024, 512),
        (1025, 130),
        (12_288, 17),
        (70_000, 1),
    ] {
        let mut b = ParamsBuilder::new();
        let bias = b.trainable("b", [cols], Init::Uniform(0.1));
        let params = Arc::new(Params::<f32>::init(&b.build(), 1));
        let real = nd_testing::cases::normals::<f32>(3, rows * cols);
        let whole: Vec<f32> = real.iter().map(|x| (x * 20.0).round()).collect();
        for level in nd_testing::levels() {
            let run = |threads: usize, parallel: bool, dy: &[f32]| {
                let mut tape = Tape::<f32>::default();
                let mut grads = ParamGrads::new(params.layout());
                Threads::new(Some(threads)).unwrap().install(|| {
                    let mut context = StepContext::new(Some(Arc::clone(&params)));
                    context.options.simd = level;
                    tape.begin(StepContext {
                        parallel,
                        ..context
                    });
                    let x = tape.input([rows, cols], dy);
                    let y = x.add_bias(tape.param(bias)).id();
                    let dy = tape.pool().take_copy(dy);
                    tape.backward(y, dy, Some(&mut grads));
                });
                grads.finish();
                grads.get(bias).to_vec()
            };
            let what = format!("{level} [{rows}, {cols}]");
            for (c, found) in run(1, false, &whole).into_iter().enumerate() {
                let column = whole.iter().skip(c).step_by(cols);
                let sum: f64 = column.map(|&x| f64::from(x)).sum();
                assert_eq!(f64::from(found), sum, "{what} column {c}");
            }
            let one = run(1, false, &real);
            for threads in [1, 2, 3] {
                assert!(
                    one == run(threads, true, &real),
                    "{what}: {threads} threads"
                );
            }
        }
    }
}

#[test]
fn half_precision_saves_the_argument_of_the_activation_in_half() {
    let run = |precision| {
        let mut tape = Tape::<f32>::default();
        let mut context = StepContext::new(None);
        context.options.precision = precision;
        context.options.simd = SimdLevel::Scalar;
        tape.begin(context);
        let x = tape.variable(
            [8, 8],
            tape.pool().take_copy(&nd_testing::cases::normals(1, 64)),
        );
        let w = tape.input([8, 8], &nd_testing::cases::normals::<f32>(2, 64));
        let y = x.linear(w, None, Activation::Gelu);
        let (x, root) = (x.id(), y.id());
        let dy = tape.pool().take_copy(&[1.0; 64]);
        tape.backward(root, dy, None);
        tape.gradient(x).expect("a variable").to_vec()
    };
    let (full, half) = (run(nd_core::Precision::F32), run(nd_core::Precision::Bf16));
    assert_close("gradient", &half, &full, 0.05, 0.05);
    assert!(full != half);
}

#[test]
#[should_panic(expected = "a linear layer of x [2, 3] needs a weight [3, out], found [4, 2]")]
fn a_weight_of_another_size_is_refused() {
    let tape = Tape::<f32>::default();
    let x = tape.input([2, 3], &[0.0; 6]);
    let w = tape.input([4, 2], &[0.0; 8]);
    let _ = x.linear(w, None, Activation::Identity);
}
