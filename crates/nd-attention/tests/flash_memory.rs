//! Working memory of flash attention, counted by the allocator.

use nd_attention::flash::{
    FlashAttention, FlashAttentionConfig, FlashGradients, FlashPlan, HeadLayout, HeadsMut,
    HeadsRef, Mask,
};
use nd_attention::{AttentionShape, ForwardOutputs, StandardAttention, Tokens};
use nd_core::autograd::Accumulate;
use nd_core::{MemoryPool, SimdLevel};
use nd_testing::alloc::{CountingAllocator, measure};

#[global_allocator]
static ALLOC: CountingAllocator = CountingAllocator;

const D: usize = 64;

fn plan<'a>(mask: &'a Mask, pool: &'a MemoryPool) -> FlashPlan<'a, f32> {
    FlashPlan {
        scale: 0.125,
        mask,
        bias: None,
        dropout: None,
        pool,
        block_q: 0,
        block_k: 0,
        level: SimdLevel::current(),
        parallel: false,
    }
}

/// Peak bytes of a forward pass, and of a backward pass after it, beyond inputs and outputs.
fn flash(n: usize) -> (usize, usize) {
    let layout = HeadLayout::head_major(1, 1, n, D);
    let x: Vec<f32> = (0..n * D).map(|i| (i % 13) as f32 * 0.05).collect();
    let (mut y, mut lse) = (vec![0.0; n * D], vec![0.0; n]);
    let mut grads = [vec![0.0; n * D], vec![0.0; n * D], vec![0.0; n * D]];
    let view = HeadsRef::new(&x, layout);
    let mask = Mask::default();
    let (forward, pool) = {
        let pool = MemoryPool::new();
        let mut run = || {
            plan(&mask, &pool).forward(view, view, view, HeadsMut::new(&mut y, layout), &mut lse)
        };
        let ((), allocations) = measure(&mut run);
        let ((), again) = measure(&mut run);
        assert_eq!(again.count, 0, "a second pass allocates");
        (allocations.peak_bytes, pool)
    };
    let [dq, dk, dv] = &mut grads;
    let to = FlashGradients {
        dq: Some((HeadsMut::new(dq, layout), Accumulate::Write)),
        dk: Some((HeadsMut::new(dk, layout), Accumulate::Write)),
        dv: Some((HeadsMut::new(dv, layout), Accumulate::Write)),
    };
    let y = HeadsRef::new(&y, layout);
    let ((), backward) =
        measure(|| plan(&mask, &pool).backward(view, view, view, y, &lse, view, to));
    (forward, forward + backward.peak_bytes)
}

/// Peak bytes of a forward pass of standard attention, beyond inputs and output.
fn standard(n: usize) -> usize {
    let shape = AttentionShape {
        batch: 1,
        heads: 1,
        queries: n,
        keys: n,
        head_dim: D,
        value_dim: D,
    };
    let plan = StandardAttention {
        shape,
        scale: 0.125_f32,
        causal: false,
        dropout: None,
        level: SimdLevel::current(),
        parallel: false,
    };
    let x: Vec<f32> = (0..n * D).map(|i| (i % 13) as f32 * 0.05).collect();
    let mut y = vec![0.0; n * D];
    let tokens = Tokens::contiguous(&x, D);
    let ((), allocations) = measure(|| {
        let mut scores = vec![0.0; shape.scores_len()];
        let mut stats = vec![0.0; shape.stats_len()];
        let mut work = vec![0.0; plan.forward_work_len()];
        plan.forward(
            tokens,
            tokens,
            tokens,
            None,
            ForwardOutputs {
                scores: &mut scores,
                stats: &mut stats,
                output: &mut y,
                work: &mut work,
            },
        );
    });
    allocations.peak_bytes
}

#[test]
fn memory_is_constant_forward_and_linear_with_backward_and_as_the_model_says() {
    let attention = FlashAttention::new(FlashAttentionConfig::auto(D));
    let mut forwards = Vec::new();
    for n in [512, 1024, 2048, 4096] {
        let (forward, both) = flash(n);
        let standard = standard(n);
        let ratio = standard as f64 / forward as f64;
        let model = attention.memory_savings_ratio(n);
        println!(
            "N {n}: standard {standard} bytes, flash {forward}, with backward {both}; ratio {ratio:.0}, model {model:.0}"
        );
        assert!(
            (ratio / model - 1.0).abs() < 0.1,
            "N = {n}: measured {ratio}, model {model}"
        );
        // Two gradients of a head for each of four tasks and their scratch.
        let gradients = 2 * 4 * n * D * size_of::<f32>();
        assert!(both <= 5 * gradients / 4 + 400_000, "N = {n}: {both} bytes");
        forwards.push(forward);
    }
    assert!(
        forwards.iter().all(|&bytes| bytes == forwards[0]),
        "{forwards:?}"
    );
    assert!(attention.memory_savings_ratio(16_384) >= 5000.0);
}
