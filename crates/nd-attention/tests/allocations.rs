//! A steady step of attention allocates nothing. One test: the counter sees the whole process.

use nd_attention::{AttentionExt, AttentionOptions};
use nd_core::Threads;
use nd_core::autograd::{StepContext, Tape};
use nd_testing::alloc::{CountingAllocator, measure};
use nd_testing::cases::normals;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_steady_step_allocates_nothing() {
    let threads = Threads::new(Some(2)).expect("two threads");
    let values = normals::<f32>(1, 64 * 12 * 128);
    let mut tape = Tape::<f32>::default();
    let mut step = || {
        let mut context = StepContext::new(None);
        context.parallel = true;
        tape.begin(context);
        let x = tape.pool().take_copy(&values);
        let x = tape.variable([64, 12, 128], x);
        let options = AttentionOptions::new(16).dropout(0.1).with_scores();
        let (y, scores) = x.attention(x, x, &options, None);
        let (y, _) = y.attention(x, x, &options, scores);
        let (root, mut dy) = (y.id(), tape.scratch(values.len()));
        dy.fill(1.0);
        tape.backward(root, dy, None);
    };
    // Workers set up their own state the first time that they wait for each other.
    let used = threads.install(|| {
        for _ in 0..20 {
            step();
        }
        measure(|| {
            for _ in 0..5 {
                step();
            }
        })
        .1
    });
    assert_eq!(used.count, 0, "allocations in five steady steps");
}
