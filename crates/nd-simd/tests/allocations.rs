//! A step that looks like the last one allocates nothing. (A binary of its own: the counter sees every thread.)

use std::sync::Arc;

use nd_core::autograd::{Init, ParamGrads, Params, ParamsBuilder, StepContext, Tape};
use nd_core::options::Precision;
use nd_core::{bf16, f16};
use nd_simd::activations::Activation;
use nd_simd::matmul::{Bf16Engine, Epilogue, MatMut, MatRef, multiply_half};
use nd_simd::norm::BatchNorm;
use nd_simd::ops::prelude::*;
use nd_testing::alloc::{CountingAllocator, measure};
use nd_testing::cases::normals;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// One after the other: the counter sees all threads.
#[test]
fn what_has_run_before_allocates_nothing() {
    let before = threads();
    steps_allocate_nothing_after_two();
    products_into_sixteen_bits_allocate_nothing_after_one();
    assert_eq!(threads(), before, "work of one thread started others");
}

/// Threads of this process, where the system lists them.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

fn steps_allocate_nothing_after_two() {
    let (rows, cols) = (64, 48);
    let mut builder = ParamsBuilder::new();
    let gain = builder.trainable("gain", [cols], Init::Constant(1.0));
    let bias = builder.trainable("bias", [cols], Init::Constant(0.1));
    let running = RunningMoments {
        mean: builder.buffer("mean", [cols], Init::Constant(0.0)),
        variance: builder.buffer("variance", [cols], Init::Constant(1.0)),
    };
    let params = Arc::new(Params::<f32>::init(&builder.build(), 0));
    let mut grads = ParamGrads::new(params.layout());
    let values = normals::<f32>(1, rows * cols);
    let mut tape = Tape::<f32>::default();
    let mut step = || {
        tape.begin(StepContext::new(Some(Arc::clone(&params))));
        let (gain, bias) = (tape.param(gain), tape.param(bias));
        let x = tape.input([rows, cols], &values).add_bias(bias);
        let mut y = x;
        for activation in Activation::ALL {
            y = y.activation(activation);
        }
        let y = y
            .dropout(0.2)
            .layer_norm(gain, bias, LAYER_NORM_EPS)
            .batch_norm(gain, bias, Some(running), BatchNorm::default())
            .rms_norm(gain, 1e-5)
            .mul_gain(gain)
            .softmax()
            .mul(x)
            .sub(x)
            .div(x.softmax())
            .affine(0.5, 1.0)
            .add(x);
        let y = x.add_dropout(y, 0.3).id();
        let dy = tape.pool().take_copy(&values);
        tape.backward(y, dy, Some(&mut grads));
        assert_eq!(tape.take_updates().count(), 2);
    };
    step();
    step();
    let ((), used) = measure(|| {
        for _ in 0..3 {
            step();
        }
    });
    assert_eq!(used.count, 0, "{used:?}");
}

fn products_into_sixteen_bits_allocate_nothing_after_one() {
    for level in nd_testing::levels() {
        // One chain of sums or several, one block of rows or several.
        for (m, k, n) in [(5, 40, 33), (70, 1100, 64), (600, 96, 128)] {
            let (a, b) = (normals::<f32>(1, m * k), normals::<f32>(2, k * n));
            let (mut c, mut d) = (vec![bf16::ZERO; m * n], vec![f16::ZERO; m * n]);
            let bias = normals::<f32>(3, n);
            let mut product = || {
                let (a, b) = (MatRef::row_major(&a, m, k), MatRef::row_major(&b, k, n));
                let epilogue = Epilogue {
                    bias: Some(&bias[..]),
                    activation: Activation::Gelu,
                };
                let precision = Precision::Bf16;
                let c = MatMut::row_major(&mut c, m, n);
                multiply_half(level, precision, 1.0, a, b, 1.0, c, epilogue);
                let d = MatMut::row_major(&mut d, m, n);
                multiply_half(level, precision, 1.0, a, b, 0.0, d, epilogue);
            };
            for engine in Bf16Engine::supported() {
                engine.scope(|| {
                    product();
                    let ((), used) = measure(&mut product);
                    let what = format!("{engine} at {level}, {m} x {k} x {n}");
                    assert_eq!(used.count, 0, "{what}: {used:?}");
                });
            }
        }
    }
}
