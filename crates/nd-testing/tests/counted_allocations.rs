//! What is allocated while something is measured is counted, on whatever thread. (A binary of its own: the counter sees every thread.)

use std::hint::black_box;

use nd_testing::alloc::{CountingAllocator, measure, measure_large};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Bytes that the harness may come to hold meanwhile: they are live, and so a part of the peak.
const HARNESS: usize = 1 << 16;

#[test]
fn every_allocation_of_the_work_is_counted() {
    let room = |bytes: usize| drop(black_box(Vec::<u8>::with_capacity(bytes)));
    let ((), none) = measure(|| ());
    assert_eq!(none.count, 0);
    let ((), used) = measure(|| (0..3).for_each(|_| room(1000)));
    assert_eq!(used.count, 3);
    assert!(
        (1000..1000 + HARNESS).contains(&used.peak_bytes),
        "{used:?}"
    );
    let ((), used) = measure_large(1000, || [10, 1000, 999, 4000].into_iter().for_each(room));
    assert_eq!((used.count, used.large), (4, 2));
    assert!(
        (4000..4000 + HARNESS).contains(&used.peak_bytes),
        "{used:?}"
    );
    let ((), used) = measure_large(1 << 20, || {
        std::thread::scope(|threads| {
            threads.spawn(|| room(1 << 20));
        });
    });
    assert_eq!(used.large, 1, "on another thread: {used:?}");
    assert!(used.peak_bytes >= 1 << 20, "{used:?}");
}
