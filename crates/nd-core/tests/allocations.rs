//! A steady step of the engine allocates nothing. One test: the counter sees the whole process.

use std::sync::Arc;

use nd_core::autograd::{Init, ParamGrads, Params, ParamsBuilder, StepContext, Tape};
use nd_testing::alloc::{CountingAllocator, measure};
use nd_testing::ops::{center, dense, square};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_steady_step_allocates_nothing() {
    let mut b = ParamsBuilder::new();
    let ids: Vec<_> = (0..30)
        .map(|i| b.trainable(&format!("w{i}"), [8, 8], Init::Uniform(0.5)))
        .collect();
    let mut params = Arc::new(Params::<f32>::init(&b.build(), 1));
    let mut grads = ParamGrads::new(params.layout());
    let mut tape = Tape::<f32>::default();
    let rows = vec![0.5f32; 16 * 8];
    let mut step = |grads: &mut ParamGrads<f32>| {
        tape.begin(StepContext::new(Some(Arc::clone(&params))));
        let mut x = tape.input([16, 8], &rows);
        for &id in &ids {
            x = center(square(dense(x, tape.param(id))))
                .reshape([8, 16])
                .reshape([16, 8]);
        }
        let (root, mut dy) = (x.id(), tape.scratch(16 * 8));
        dy.fill(1.0);
        grads.clear();
        tape.backward(root, dy, Some(grads));
        grads.finish();
        tape.reset();
        let values = Arc::get_mut(&mut params)
            .expect("the tape let go")
            .trainable_mut();
        for (value, gradient) in values.iter_mut().zip(grads.flat()) {
            *value -= 1e-3 * gradient;
        }
    };
    for _ in 0..2 {
        step(&mut grads);
    }
    let ((), used) = measure(|| {
        for _ in 0..5 {
            step(&mut grads);
        }
    });
    assert_eq!(used.count, 0, "allocations in five steady steps");
}
