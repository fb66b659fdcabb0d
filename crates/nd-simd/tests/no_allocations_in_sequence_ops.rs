//! After two warm-up steps, a step of the ops along time, of products and of recurrent layers asks the system for no
//! memory, on one thread and on several.

use std::sync::Arc;

use nd_core::Threads;
use nd_core::autograd::{Init, ParamGrads, Params, ParamsBuilder, StepContext, Tape};
use nd_simd::interpolate::Interpolation;
use nd_simd::ops::prelude::*;
use nd_simd::patches::Patches;
use nd_simd::pool::Windows;
use nd_simd::recurrent::RnnActivation;
use nd_testing::alloc::{CountingAllocator, measure};
use nd_testing::cases::normals;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const STEPS: usize = 12;
const ROWS: usize = 40;
const HIDDEN: usize = 32;

#[test]
fn a_step_allocates_nothing() {
    let mut b = ParamsBuilder::new();
    let scale = Init::Uniform(0.2);
    let mut layer = |name: &str, gates: usize, input: usize| {
        b.scope(name, |b| {
            let width = gates * HIDDEN;
            [
                b.trainable("w_ih", [input, width], scale.clone()),
                b.trainable("w_hh", [HIDDEN, width], scale.clone()),
                b.trainable("b_ih", [width], scale.clone()),
                b.trainable("b_hh", [width], scale.clone()),
            ]
        })
    };
    let lstm = layer("lstm", 4, 1);
    let gru = layer("gru", 3, HIDDEN);
    let rnn = layer("rnn", 1, HIDDEN);
    let table = b.trainable("table", [9, HIDDEN], scale.clone());
    let params = Arc::new(Params::<f32>::init(&b.build(), 1));
    let mut grads = ParamGrads::new(params.layout());
    let values = normals::<f32>(1, ROWS * STEPS);
    let ids: Vec<u32> = (0..ROWS as u32).map(|i| i % 9).collect();
    let mut tape = Tape::<f32>::default();
    let mut step = |parallel: bool| {
        let mut context = StepContext::new(Some(Arc::clone(&params)));
        context.parallel = parallel;
        tape.begin(context);
        let weights = |layer: [_; 4]| {
            let [w_ih, w_hh, b_ih, b_hh] = layer.map(|id| tape.param(id));
            RecurrentWeights {
                w_ih,
                w_hh,
                biases: Some((b_ih, b_hh)),
            }
        };
        let x = tape.variable([ROWS, STEPS], tape.pool().take_copy(&values));
        let (trend, remainder) = x.decompose(1, 5);
        let pooled = remainder
            .max_pool(1, Windows::tiles(2))
            .avg_pool(1, Windows::tiles(2));
        let smooth = pooled.interpolate(STEPS, Interpolation::Linear).reverse();
        let patches = trend.patches(Patches {
            patch: 4,
            stride: 2,
            padding: 2,
        });
        let scores = patches.matmul_transposed(patches).matmul(patches);
        let tokens = scores.narrow(1, 0..3).reshape([ROWS, STEPS]);
        let sequence = smooth.mul(tokens).swap_axes(0, 1).reshape([STEPS, ROWS, 1]);
        let zeros = tape.constant([ROWS, HIDDEN], tape.pool().take_zeroed(ROWS * HIDDEN));
        let start = tape.param(table).gather_rows(&ids);
        let states = sequence.lstm_from(&weights(lstm), (start, zeros));
        let states = states.y.gru(&weights(gru), Some(states.c));
        let states = states.rnn(&weights(rnn), RnnActivation::Tanh, None);
        let y = concat(
            &[states.narrow(0, 0..1), states.narrow(0, STEPS - 1..STEPS)],
            2,
        );
        let (y, dy) = (y.id(), tape.pool().take_copy(&y.value()));
        tape.backward(y, dy, Some(&mut grads));
        tape.reset();
    };
    for threads in [1, 2] {
        let threads = Threads::new(Some(threads)).unwrap();
        let fewest = threads.install(|| {
            // A worker allocates when it starts, which on a busy machine may be late; so does the harness beside us. What
            // a step allocates it allocates every time.
            rayon::broadcast(|_| ());
            let parallel = threads.count() > 1;
            (0..3).for_each(|_| step(parallel));
            let used = (0..5).map(|_| measure(|| (0..3).for_each(|_| step(parallel))).1.count);
            used.min()
        });
        assert_eq!(
            fewest,
            Some(0),
            "allocations of three steps on {} threads",
            threads.count()
        );
    }
}
