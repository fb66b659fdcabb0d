//! Rayon's global pool is the program's: attention does not start it. A process of its own, because it is started once.

use nd_attention::flash::{FlashAttention, FlashAttentionConfig};
use nd_core::Threads;
use ndarray::Array4;

#[test]
fn attention_outside_of_any_pool_leaves_the_global_one_alone() {
    // Large enough to be split up.
    let x = Array4::<f32>::from_shape_fn((2, 4, 256, 16), |(b, h, n, c)| {
        ((b + 3 * h + 5 * n + 7 * c) % 11) as f32 * 0.1 - 0.5
    });
    let flash = FlashAttention::new(FlashAttentionConfig::auto(16));
    let pass = || {
        let saved = flash.forward_saving(&x, &x, &x);
        let gradients = flash.backward(&x, &x, &x, &saved, &x);
        (saved.output, gradients)
    };
    let alone = pass();
    let pool = Threads::new(Some(2)).unwrap();
    assert!(
        pool.install(pass) == alone,
        "the same bits with two threads"
    );
    let ours = rayon::ThreadPoolBuilder::new().num_threads(1);
    ours.build_global()
        .expect("the program's first use of the global pool");
}
