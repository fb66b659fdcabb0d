//! The engine, exercised by small real ops.

use std::sync::Arc;

use nd_core::autograd::{
    Backward, Init, Mode, NodeId, Op, ParamGrads, Params, ParamsBuilder, StepContext, Stored, Tape,
    Var,
};
use nd_core::rng::Key;
use nd_core::{MemoryPool, Precision, Real};
use nd_testing::ops::{center, dense, dropout, scaled_square, square};
use nd_testing::{GradInput, assert_close, gradcheck};

#[test]
fn gradients_agree_with_finite_differences() {
    let x = GradInput::normal(1, &[4, 3]);
    let w = GradInput::normal(2, &[3, 2]);
    gradcheck("dense", &[x.clone(), w.clone()], |_, v| dense(v[0], v[1]));
    gradcheck(
        "dense with a parameter",
        &[x.clone(), w.clone().param()],
        |_, v| dense(v[0], v[1]),
    );
    gradcheck("square", std::slice::from_ref(&x), |_, v| square(v[0]));
    gradcheck("center", std::slice::from_ref(&x), |_, v| center(v[0]));
    gradcheck(
        "a chain with reshapes",
        &[x.clone(), w.clone().param()],
        |_, v| {
            let y = center(dense(square(v[0]), v[1]));
            dense(y.reshape([2, 4]), v[0].reshape([4, 3]))
        },
    );
    gradcheck(
        "one weight used twice",
        &[GradInput::normal(3, &[2, 2]).param()],
        |tape, v| {
            let x = tape.input([2, 2], &[1.0, 2.0, 3.0, 4.0]);
            dense(dense(x, v[0]), v[0])
        },
    );
    gradcheck(
        "both factors the same node",
        &[GradInput::normal(4, &[2, 2])],
        |_, v| dense(v[0], v[0]),
    );
    gradcheck("dropout", &[GradInput::normal(5, &[8, 8])], |_, v| {
        dropout(v[0], 0.3)
    });
}

fn two_weights() -> (Arc<Params<f64>>, [nd_core::autograd::ParamId; 3]) {
    let mut b = ParamsBuilder::new();
    let w = b.trainable("w", [3, 3], Init::Uniform(1.0));
    let unused = b.trainable("unused", [5], Init::Uniform(1.0));
    let tied = b.tie("tied", w);
    (Arc::new(Params::init(&b.build(), 7)), [w, unused, tied])
}

#[test]
fn gradients_of_two_shards_add_up_to_that_of_the_whole_batch() {
    let (params, [w, unused, tied]) = two_weights();
    let rows: Vec<f64> = nd_testing::cases::normals(3, 6 * 3);
    let mut tape = Tape::<f64>::default();
    let mut run = |grads: &mut ParamGrads<f64>, rows: &[f64]| {
        tape.begin(StepContext::new(Some(Arc::clone(&params))));
        let x = tape.input([rows.len() / 3, 3], rows);
        let y = square(dense(dense(x, tape.param(w)), tape.param(tied)));
        assert_eq!(tape.param(w).id(), tape.param(tied).id());
        let (root, dy) = (y.id(), tape.pool().take_copy(&vec![1.0; y.shape().numel()]));
        tape.backward(root, dy, Some(grads));
    };
    let mut whole = ParamGrads::new(params.layout());
    run(&mut whole, &rows);
    whole.finish();
    assert!(
        whole.get(unused).iter().all(|&g| g == 0.0),
        "no gradient reaches it"
    );
    let mut shards = ParamGrads::new(params.layout());
    // What an earlier step left behind must not be read.
    shards.flat_mut().fill(f64::NAN);
    let untouched = params.layout().range(w).end..params.layout().range(unused).start;
    shards.flat_mut()[untouched].fill(0.0);
    run(&mut shards, &rows[..6]);
    assert!(shards.is_written(tied) && !shards.is_written(unused));
    run(&mut shards, &rows[6..]);
    shards.finish();
    assert_close("dw", shards.get(w), whole.get(w), 1e-12, 1e-12);
    assert_close("unused", shards.get(unused), whole.get(unused), 0.0, 0.0);
}

#[test]
fn buffers_are_updated_after_the_step_and_inference_records_nothing() {
    let mut b = ParamsBuilder::new();
    let w = b.trainable("w", [2, 2], Init::Constant(1.0));
    let mean = b.buffer("mean", [2], Init::Constant(0.0));
    let mut params = Arc::new(Params::<f64>::init(&b.build(), 0));
    let mut tape = Tape::default();
    tape.begin(StepContext::new(Some(Arc::clone(&params))));
    assert!(tape.is_training() && tape.drops());
    tape.update_buffer(mean, tape.pool().take_copy(&[3.0, 4.0]));
    assert_eq!(
        tape.params().get(mean),
        &[0.0, 0.0],
        "not before the step is over"
    );
    let updates: Vec<_> = tape.take_updates().collect();
    tape.reset();
    let owned = Arc::get_mut(&mut params).expect("a reset tape lets go of the parameters");
    for update in updates {
        owned.get_mut(update.param).copy_from_slice(&update.values);
    }
    assert_eq!(params.get(mean), &[3.0, 4.0]);

    tape.begin(StepContext {
        mode: Mode::Infer,
        ..StepContext::new(Some(params))
    });
    let y = dense(tape.input([1, 2], &[1.0, 2.0]), tape.param(w));
    assert!(!y.requires_grad() && !tape.drops());
    assert_eq!(&*y.value(), &[3.0, 3.0]);
}

#[test]
fn saved_activations_obey_the_precision_and_use_half_the_memory() {
    let peak = |precision| {
        let pool = MemoryPool::new();
        let mut tape = Tape::<f32>::new(pool.clone());
        let mut context = StepContext::new(None);
        context.options.precision = precision;
        let mut gradient = Vec::new();
        for _ in 0..2 {
            tape.begin(context.clone());
            let values: Vec<f32> = (0..4096).map(|i| 2.0 + i as f32 / 4096.0).collect();
            let x = tape.variable([4096], tape.pool().take_copy(&values));
            let mut y = x;
            for _ in 0..4 {
                y = scaled_square(y);
            }
            let (id, root) = (x.id(), y.id());
            let dy = tape.pool().take_copy(&[1.0; 4096]);
            pool.reset_peak();
            tape.backward(root, dy, None);
            gradient = tape.gradient(id).expect("x is a variable").to_vec();
        }
        (pool.stats().peak_bytes, gradient)
    };
    let (full_bytes, full) = peak(Precision::F32);
    for (precision, tolerance) in [(Precision::Bf16, 0.05), (Precision::F16, 0.01)] {
        let (bytes, half) = peak(precision);
        // Four values take two bytes an element instead of four; one widened copy lives beside them.
        assert!(
            bytes + 4 * 4096 * 2 <= full_bytes + 4096 * 4,
            "{bytes} of {full_bytes} bytes"
        );
        assert_close("gradient", &half, &full, 0.0, tolerance);
        assert!(half != full, "values were rounded");
    }
}

#[test]
fn random_ops_depend_on_the_row_not_on_the_shard() {
    let x: Vec<f64> = (0..24).map(f64::from).collect();
    let key = Key {
        seed: 5,
        step: 9,
        op: 0,
    };
    let run = |first_row: usize, rows: &[f64]| {
        let mut tape = Tape::<f64>::default();
        tape.begin(StepContext {
            key,
            first_row,
            ..StepContext::new(None)
        });
        let first = dropout(tape.input([rows.len() / 4, 4], rows), 0.5)
            .value()
            .to_vec();
        let second = dropout(tape.input([rows.len() / 4, 4], rows), 0.5)
            .value()
            .to_vec();
        assert_ne!(first, second, "each op has a key of its own");
        first
    };
    let whole = run(0, &x);
    let shards = [run(0, &x[..8]), run(2, &x[8..])].concat();
    assert_eq!(whole, shards);
}

#[test]
fn the_first_bad_value_is_named() {
    let (params, [w, ..]) = two_weights();
    let mut tape = Tape::<f64>::default();
    tape.begin(StepContext::new(Some(params)));
    let x = tape.input([1, 3], &[1e200, 1.0, 1.0]);
    assert_eq!(tape.first_non_finite(), None);
    let y = square(dense(x, tape.param(w)));
    let _ = square(y);
    let found = tape.first_non_finite().expect("1e400 is infinite");
    assert_eq!(found.to_string(), "square");
}

#[test]
#[should_panic(expected = "the gradient of w was asked for twice at once")]
fn one_gradient_cannot_be_held_twice() {
    let (params, [w, ..]) = two_weights();
    let mut grads = ParamGrads::new(params.layout());
    let mut tape = Tape::<f64>::default();
    tape.begin(StepContext::new(Some(params)));
    let y = careless(tape.param(w));
    let (root, dy) = (y.id(), tape.pool().take_copy(&[1.0; 9]));
    tape.backward(root, dy, Some(&mut grads));
}

#[test]
#[should_panic(expected = "the numbers of elements differ")]
fn a_reshape_keeps_the_number_of_elements() {
    let tape = Tape::<f64>::default();
    let _ = tape.input([2, 3], &[0.0; 6]).reshape([4]);
}

#[test]
#[should_panic(expected = "is not a buffer")]
fn weights_are_not_updated_by_the_forward_pass() {
    let (params, [w, ..]) = two_weights();
    let mut tape = Tape::<f64>::default();
    tape.begin(StepContext::new(Some(params)));
    tape.update_buffer(w, tape.pool().take_zeroed(9));
}

/// An op that does nothing, kept in bf16; it passes its gradient on, rounded where that may be.
struct Rounded {
    x: NodeId,
    gives: bool,
}

fn rounded(x: Var<'_, f32>, gives: bool) -> Var<'_, f32> {
    let tape = x.tape();
    let y = tape.save_for_backward(tape.pool().take_copy(&x.value()), Precision::Bf16);
    tape.record_stored(x.shape(), y, &[x], || Rounded { x: x.id(), gives })
}

impl Op<f32> for Rounded {
    fn name(&self) -> &'static str {
        "rounded"
    }

    fn backward(&self, step: &Backward<'_, f32>) {
        match step.takes_half(self.x) {
            Some(precision) if self.gives => {
                let dy = step.pool().take_copy(step.dy());
                step.give(self.x, Stored::new(step.pool(), dy, precision));
            }
            _ => step.pass(self.x),
        }
    }
}

#[test]
fn a_rounded_gradient_that_is_passed_on_reaches_a_variable() {
    let mut tape = Tape::<f32>::default();
    tape.begin(StepContext::new(None));
    let x = tape.variable([3], tape.pool().take_copy(&[1.0, 2.0, 3.0]));
    let y = rounded(rounded(x, false), true);
    let (id, root) = (x.id(), y.id());
    let dy = tape.pool().take_copy(&[0.5, -4.0, 1.0 + f32::EPSILON]);
    tape.backward(root, dy, None);
    let gradient = tape.gradient(id).expect("a gradient arrived");
    assert_eq!(*gradient, [0.5, -4.0, 1.0]);
}

struct Careless {
    x: NodeId,
}

/// An op with a fault: its backward pass holds one gradient twice.
fn careless<R: Real>(x: Var<'_, R>) -> Var<'_, R> {
    let y = x.tape().pool().take_copy(&x.value());
    x.tape()
        .record(x.shape(), y, &[x], || Careless { x: x.id() })
}

impl<R: Real> Op<R> for Careless {
    fn name(&self) -> &'static str {
        "careless"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let first = step.grad(self.x);
        let second = step.grad(self.x);
        drop((first, second));
    }
}
