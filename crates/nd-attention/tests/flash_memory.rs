//! Working memory of flash attention, counted by the allocator.

use nd_attention::flash::{
    FlashAttention, FlashAttentionConfig, FlashGradients, FlashPlan, HeadLayout, HeadsMut,
    HeadsRef, Mask,
};
use nd_attention::{
    AttentionShape, ForwardOutputs, GradMut, StandardAttention, Tokens, ValueGradients,
};
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
        // The harness, whose threads are counted too, may allocate during one of them.
        let steady = (0..10).any(|_| measure(&mut run).1.count == 0);
        assert!(steady, "every pass allocates");
        (allocations.peak_bytes, pool)
    };
    let [dq, dk, dv] = &mut grads;
    let to = FlashGradients {
        dq: Some((HeadsMut::new(dq, layout), Accumulate::Write)),
        dk: Some((HeadsMut::new(dk, layout), Accumulate::Write)),
        dv: Some((HeadsMut::new(dv, layout), Accumulate::Write)),
        dbias: None,
    };
    let y = HeadsRef::new(&y, layout);
    let ((), backward) =
        measure(|| plan(&mask, &pool).backward(view, view, view, y, &lse, view, to));
    (forward, forward + backward.peak_bytes)
}

/// Standard attention of one head.
fn standard_plan(n: usize) -> StandardAttention<f32> {
    StandardAttention {
        shape: AttentionShape {
            batch: 1,
            heads: 1,
            queries: n,
            keys: n,
            head_dim: D,
            value_dim: D,
        },
        scale: 0.125,
        causal: false,
        dropout: None,
        level: SimdLevel::current(),
        parallel: false,
    }
}

/// Peak bytes of a forward pass of standard attention, and with a backward pass after it, beyond inputs, output and gradients.
fn standard(n: usize) -> (usize, usize) {
    let plan = standard_plan(n);
    let shape = plan.shape;
    let x: Vec<f32> = (0..n * D).map(|i| (i % 13) as f32 * 0.05).collect();
    let mut y = vec![0.0; n * D];
    let [mut dq, mut dk, mut dv] = [(); 3].map(|()| vec![0.0; n * D]);
    let tokens = Tokens::contiguous(&x, D);
    let mut forward = |scores: &mut [f32], stats: &mut [f32]| {
        let to = ForwardOutputs {
            scores,
            stats,
            output: &mut y,
            work: &mut vec![0.0; plan.forward_work_len()],
        };
        plan.forward(tokens, tokens, tokens, None, to);
    };
    let (kept, first) = measure(|| {
        let mut scores = vec![0.0; shape.scores_len()];
        let mut stats = vec![0.0; shape.stats_len()];
        forward(&mut scores, &mut stats);
        (scores, stats)
    });
    let (scores, stats) = &kept;
    let held = size_of_val(&scores[..]) + size_of_val(&stats[..]);
    let ((), second) = measure(|| {
        fn write(values: &mut [f32]) -> GradMut<'_, f32> {
            GradMut {
                values,
                accumulate: Accumulate::Write,
            }
        }
        let mut dscores = vec![0.0; shape.scores_len()];
        let to = ValueGradients {
            dscores: write(&mut dscores),
            dv: Some(write(&mut dv)),
            work: &mut vec![0.0; plan.backward_work_len()],
        };
        plan.values_backward(&x, tokens, scores, stats, to);
        let (dq, dk) = (Some(write(&mut dq)), Some(write(&mut dk)));
        plan.scores_backward(&dscores, tokens, tokens, dq, dk);
    });
    let both = first.peak_bytes.max(held + second.peak_bytes);
    (first.peak_bytes, both)
}

/// What [`standard`] would measure: scores, statistics and the probabilities of some queries; then also the gradient of the scores.
fn standard_computed(n: usize) -> (usize, usize) {
    let plan = standard_plan(n);
    let (scores, stats) = (plan.shape.scores_len(), plan.shape.stats_len());
    let forward = scores + stats + plan.forward_work_len();
    let both = forward.max(2 * scores + stats + plan.backward_work_len());
    (forward * size_of::<f32>(), both * size_of::<f32>())
}

/// The table in docs/performance.md.
#[test]
#[ignore = "takes 5 GiB and minutes: `cargo test -p nd-attention --test flash_memory -- --ignored --nocapture`"]
fn table() {
    println!(
        "| N | standard, forward | flash | ratio | standard, with backward | flash | ratio |\n|---|---|---|---|---|---|---|"
    );
    for n in [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536] {
        let (flash_forward, flash_both) = flash(n);
        let measured = n <= 16_384;
        let computed = standard_computed(n);
        let (forward, both) = if measured { standard(n) } else { computed };
        // Products have a little memory of their own beside it.
        for (found, expected) in [(forward, computed.0), (both, computed.1)] {
            assert!(
                found >= expected && found - expected <= expected / 100 + 65_536,
                "N = {n}: {found} bytes measured, {expected} computed"
            );
        }
        let mark = if measured { "" } else { " (computed)" };
        let kib = |bytes: usize| bytes as f64 / 1024.0;
        println!(
            "| {n} | {:.0} KiB{mark} | {:.0} KiB | {:.0}x | {:.0} KiB{mark} | {:.0} KiB | {:.1}x |",
            kib(forward),
            kib(flash_forward),
            forward as f64 / flash_forward as f64,
            kib(both),
            kib(flash_both),
            both as f64 / flash_both as f64,
        );
    }
}

#[test]
fn memory_is_constant_forward_and_linear_with_backward_and_as_the_model_says() {
    let attention = FlashAttention::new(FlashAttentionConfig::auto(D));
    let mut forwards = Vec::new();
    for n in [512, 1024, 2048, 4096] {
        let (forward, both) = flash(n);
        let (standard, _) = standard(n);
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
    // The harness allocates a little beside the test.
    assert!(
        forwards
            .iter()
            .all(|&bytes| bytes.abs_diff(forwards[0]) < 4096),
        "{forwards:?}"
    );
    assert!(attention.memory_savings_ratio(16_384) >= 5000.0);
}
