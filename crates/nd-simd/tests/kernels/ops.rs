//! What ops do beside their gradients: modes, shards, threads, running statistics.

use std::sync::Arc;

use nd_core::autograd::{Init, Mode, ParamGrads, Params, ParamsBuilder, StepContext, Tape};
use nd_core::rng::Key;
use nd_core::{SimdLevel, Threads};
use nd_simd::activations::Activation;
use nd_simd::norm::BatchNorm;
use nd_simd::ops::prelude::*;
use nd_testing::cases::normals;

fn context(mode: Mode) -> StepContext<f32> {
    StepContext {
        mode,
        key: Key {
            seed: 3,
            step: 5,
            op: 0,
        },
        ..StepContext::new(None)
    }
}

#[test]
fn dropout_obeys_the_mode() {
    let mut tape = Tape::<f32>::default();
    let values = vec![1.0; 60];
    for (mode, drops) in [
        (Mode::Train, true),
        (Mode::TrainFrozen, false),
        (Mode::Infer, false),
        (Mode::InferWithDropout, true),
    ] {
        tape.begin(context(mode));
        let x = tape.input([6, 10], &values);
        let dropped = x.dropout(0.5).value().contains(&0.0);
        assert_eq!(dropped, drops, "{mode:?}");
        assert_eq!(x.dropout(0.0).id(), x.id());
    }
}

#[test]
fn shards_drop_what_the_whole_batch_drops() {
    let (rows, cols) = (10, 37);
    let values = normals::<f32>(1, rows * cols);
    let branch = normals::<f32>(2, rows * cols);
    let run = |first_row: usize, rows: usize| {
        let mut tape = Tape::<f32>::default();
        tape.begin(StepContext {
            first_row,
            ..context(Mode::Train)
        });
        let part = first_row * cols..(first_row + rows) * cols;
        let x = tape.input([rows, cols], &values[part.clone()]);
        let b = tape.input([rows, cols], &branch[part]);
        (
            x.dropout(0.4).value().to_vec(),
            x.add_dropout(b, 0.4).value().to_vec(),
        )
    };
    let whole = run(0, rows);
    for (first, len) in [(0, 3), (3, 4), (7, 3)] {
        let part = run(first, len);
        let range = first * cols..(first + len) * cols;
        assert!(part.0 == whole.0[range.clone()] && part.1 == whole.1[range]);
    }
}

#[test]
fn two_dropouts_of_a_step_differ() {
    let mut tape = Tape::<f32>::default();
    tape.begin(context(Mode::Train));
    let x = tape.input([4, 100], &[1.0; 400]);
    let (a, b) = (x.dropout(0.5), x.dropout(0.5));
    assert_ne!(a.value().to_vec(), b.value().to_vec());
}

#[test]
fn batch_norm_learns_its_statistics_and_uses_them() {
    let mut builder = ParamsBuilder::new();
    let gain = builder.trainable("gain", [3], Init::Constant(1.0));
    let bias = builder.trainable("bias", [3], Init::Constant(0.0));
    let running = RunningMoments {
        mean: builder.buffer("running_mean", [3], Init::Constant(0.0)),
        variance: builder.buffer("running_variance", [3], Init::Constant(1.0)),
    };
    let mut params = Params::<f64>::init(&builder.build(), 0);
    let mut tape = Tape::<f64>::default();
    let x: Vec<f64> = normals::<f64>(4, 300)
        .iter()
        .map(|x| 3.0 * x + 7.0)
        .collect();
    for _ in 0..200 {
        let shared = Arc::new(params);
        tape.begin(StepContext::new(Some(Arc::clone(&shared))));
        let y = tape.input([100, 3], &x).batch_norm(
            tape.param(gain),
            tape.param(bias),
            Some(running),
            BatchNorm::default(),
        );
        let mean: f64 = y.value().iter().step_by(3).sum::<f64>() / 100.0;
        assert!(mean.abs() < 1e-12, "{mean}");
        let updates: Vec<_> = tape.take_updates().collect();
        tape.reset();
        params = Arc::into_inner(shared).expect("the tape let go");
        for update in updates {
            params.get_mut(update.param).copy_from_slice(&update.values);
        }
    }
    for c in 0..3 {
        let column = || x.iter().skip(c).step_by(3);
        let mean = column().sum::<f64>() / 100.0;
        let variance = column().map(|x| (x - mean).powi(2)).sum::<f64>() / 99.0;
        assert!((params.get(running.mean)[c] - mean).abs() < 1e-6);
        assert!((params.get(running.variance)[c] - variance).abs() < 1e-6);
    }
    // Inference normalises with them, whatever the batch.
    let shared = Arc::new(params);
    let mut context = StepContext::new(Some(Arc::clone(&shared)));
    context.mode = Mode::Infer;
    tape.begin(context);
    let one = tape.input([1, 3], &[7.0, 10.0, 4.0]);
    let y = one.batch_norm(
        tape.param(gain),
        tape.param(bias),
        Some(running),
        BatchNorm::default(),
    );
    for (c, (&y, x)) in y.value().iter().zip([7.0, 10.0, 4.0]).enumerate() {
        let (mean, variance) = (shared.get(running.mean)[c], shared.get(running.variance)[c]);
        assert!((y - (x - mean) / (variance + 1e-5).sqrt()).abs() < 1e-12);
    }
    assert_eq!(tape.take_updates().count(), 0);
}

#[test]
fn a_frozen_batch_norm_has_the_gradient_of_an_affine_map() {
    let mut builder = ParamsBuilder::new();
    let gain = builder.trainable("gain", [2], Init::Constant(2.0));
    let bias = builder.trainable("bias", [2], Init::Constant(0.5));
    let running = RunningMoments {
        mean: builder.buffer("running_mean", [2], Init::Constant(1.0)),
        variance: builder.buffer("running_variance", [2], Init::Constant(4.0)),
    };
    let params = Arc::new(Params::<f64>::init(&builder.build(), 0));
    let mut grads = ParamGrads::new(params.layout());
    let mut tape = Tape::<f64>::default();
    let mut context = StepContext::new(Some(Arc::clone(&params)));
    context.mode = Mode::TrainFrozen;
    tape.begin(context);
    let x = tape.variable(
        [3, 2],
        tape.pool().take_copy(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    );
    let y = x.batch_norm(
        tape.param(gain),
        tape.param(bias),
        Some(running),
        BatchNorm {
            eps: 0.0,
            momentum: 0.1,
        },
    );
    let (x, y) = (x.id(), y.id());
    let dy = tape.pool().take_copy(&[1.0, 1.0, 1.0, 1.0, 1.0, 3.0]);
    tape.backward(y, dy, Some(&mut grads));
    let dx = tape.gradient(x).expect("a variable").to_vec();
    assert_eq!(dx, [1.0, 1.0, 1.0, 1.0, 1.0, 3.0]); // gain / sqrt(variance) = 1
}

#[test]
fn threads_change_no_bit() {
    let (rows, cols) = (3000, 40);
    let values = normals::<f32>(5, rows * cols);
    let row = normals::<f32>(6, cols);
    let run = |threads: usize, parallel: bool, level: SimdLevel| {
        Threads::new(Some(threads)).unwrap().install(|| {
            let mut tape = Tape::<f32>::default();
            let mut context = StepContext {
                parallel,
                ..context(Mode::Train)
            };
            context.options.simd = level;
            tape.begin(context);
            let x = tape.variable([rows, cols], tape.pool().take_copy(&values));
            let gain = tape.variable([cols], tape.pool().take_copy(&row));
            let bias = tape.variable([cols], tape.pool().take_copy(&row));
            let y = x
                .activation(Activation::Gelu)
                .dropout(0.2)
                .add_bias(gain)
                .layer_norm(gain, bias, LAYER_NORM_EPS)
                .mul(x)
                .batch_norm(gain, bias, None, BatchNorm::default())
                .rms_norm(gain, 1e-5)
                .softmax()
                .mul_gain(gain)
                .scale(2.0);
            let out = x.add_dropout(y, 0.1);
            let (x, gain, out, value) = (x.id(), gain.id(), out.id(), out.value().to_vec());
            let dy = tape.pool().take_copy(&values);
            tape.backward(out, dy, None);
            let dx = tape.gradient(x).expect("a variable").to_vec();
            let dgain = tape.gradient(gain).expect("a variable").to_vec();
            (value, dx, dgain)
        })
    };
    for level in nd_testing::levels() {
        let one = run(1, false, level);
        assert!(
            one.0
                .iter()
                .chain(&one.1)
                .chain(&one.2)
                .all(|x| x.is_finite())
        );
        for threads in [1, 2, 3, 8] {
            assert!(
                run(threads, true, level) == one,
                "{level} {threads} threads"
            );
        }
    }
}

#[test]
#[should_panic(expected = "arithmetic between the shapes [2, 3] and [3, 2]")]
fn shapes_must_agree() {
    let tape = Tape::<f32>::default();
    let _ = tape
        .input([2, 3], &[0.0; 6])
        .add(tape.input([3, 2], &[0.0; 6]));
}
