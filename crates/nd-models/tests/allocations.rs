//! A steady training step of every model asks for no memory. One test: the counter sees the whole process.

mod common;

use common::{Run, long, panel};
use nd_core::Precision;
use nd_models::ZOO;
use nd_testing::alloc::{CountingAllocator, measure};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_steady_step_of_every_model_allocates_nothing() {
    let panel = panel();
    for entry in ZOO {
        for (precision, threads) in Precision::ALL.into_iter().flat_map(|p| [(p, 1), (p, 2)]) {
            // The full network on a batch that is small enough for a test, yet cut into three shards, more than threads.
            let windows = if long() { 128 } else { 72 };
            let run = Run::new(&panel, entry, &(entry.config)(), windows, threads);
            let mut run = run.in_precision(precision);
            let used = run.inside(|run| {
                for _ in 0..2 {
                    run.step();
                }
                // A thread that finds its first work late makes its scratch late: once, not at every step.
                let mut used = None;
                for _ in 0..5 {
                    let ((), now) = measure(|| {
                        for _ in 0..3 {
                            run.step();
                        }
                    });
                    let done = now.count == 0;
                    used = Some(now);
                    if done {
                        break;
                    }
                }
                used.expect("it was measured")
            });
            assert_eq!(
                used.count, 0,
                "allocations of {} in three steady steps in {precision} on {threads} threads",
                entry.name
            );
        }
    }
}
