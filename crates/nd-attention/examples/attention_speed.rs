//! Times attention forward and backward on the shapes of PatchTST, and others given as `B N H d`.
//!
//! `cargo run --release -p nd-attention --example attention_speed [B N H d]`

use std::time::{Duration, Instant};

use nd_attention::{
    AttentionShape, ForwardOutputs, GradMut, StandardAttention, Tokens, ValueGradients,
};
use nd_core::autograd::Accumulate;
use nd_core::rng::{Key, Stream};
use nd_core::{MemoryPool, SimdLevel, Threads};

/// How long each measurement goes on; the fastest round counts, because the machine may be shared.
const DURATION: Duration = Duration::from_millis(400);

fn fastest(mut work: impl FnMut()) -> f64 {
    work();
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed() < DURATION {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    best
}

/// Multiply-adds per second that one core reaches when nothing else is in the way.
fn peak_gigaflops(level: SimdLevel) -> f64 {
    use nd_simd::matmul::{MatMut, MatRef, multiply};
    let n = 384;
    let a = vec![0.5f32; n * n];
    let mut c = vec![0.0f32; n * n];
    let milliseconds = fastest(|| {
        let (a, c) = (MatRef::row_major(&a, n, n), MatMut::row_major(&mut c, n, n));
        multiply(level, 1.0, a, a, 0.0, c);
    });
    2.0 * (n * n * n) as f64 / milliseconds / 1e6
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|x| {
        x.parse::<usize>()
            .expect("arguments are the numbers B N H d")
    });
    let mut next = |default| arguments.next().unwrap_or(default);
    let (batch, tokens, heads, dim) = (next(1024), next(12), next(16), next(8));
    let shape = AttentionShape {
        batch,
        heads,
        queries: tokens,
        keys: tokens,
        head_dim: dim,
        value_dim: dim,
    };
    println!(
        "B {batch}, N {tokens}, H {heads}, d {dim}: {:?}",
        shape.score_layout()
    );
    let channels = heads * dim;
    let mut stream = Stream::new(Key::new(1));
    let mut random =
        |len: usize| -> Vec<f32> { (0..len).map(|_| stream.normal() as f32).collect() };
    let [q, k, v, dy] = [(); 4].map(|()| random(batch * tokens * channels));
    let residual = random(shape.scores_len());
    let pool = MemoryPool::new();
    let take = |len: usize| pool.take_zeroed::<f32>(len);
    let (mut scores, mut stats) = (take(shape.scores_len()), take(shape.stats_len()));
    let [mut output, mut dq, mut dk, mut dv] = [(); 4].map(|()| take(q.len()));
    let mut dscores = take(shape.scores_len());
    let products = 2.0 * (batch * heads * tokens * tokens * dim) as f64;
    for level in SimdLevel::supported() {
        let peak = peak_gigaflops(level);
        for threads in [1, 2] {
            let plan = StandardAttention {
                shape,
                scale: 1.0 / (dim as f32).sqrt(),
                causal: false,
                dropout: None,
                level,
                parallel: threads > 1,
            };
            let mut work = take(plan.backward_work_len());
            let (q, k, v) = (
                Tokens::contiguous(&q[..], channels),
                Tokens::contiguous(&k[..], channels),
                Tokens::contiguous(&v[..], channels),
            );
            let pool = Threads::new(Some(threads)).expect("threads");
            let (forward, values, from_scores) = pool.install(|| {
                let forward = fastest(|| {
                    plan.forward(
                        q,
                        k,
                        v,
                        Some(&residual),
                        ForwardOutputs {
                            scores: &mut scores,
                            stats: &mut stats,
                            output: &mut output,
                            work: &mut work[..plan.forward_work_len()],
                        },
                    );
                });
                let values = fastest(|| {
                    plan.values_backward(
                        &dy,
                        v,
                        &scores,
                        &stats,
                        ValueGradients {
                            dscores: GradMut {
                                values: &mut dscores,
                                accumulate: Accumulate::Write,
                            },
                            dv: Some(GradMut {
                                values: &mut dv,
                                accumulate: Accumulate::Write,
                            }),
                            work: &mut work,
                        },
                    );
                });
                let from_scores = fastest(|| {
                    let [dq, dk] = [&mut dq, &mut dk].map(|values| {
                        Some(GradMut {
                            values: &mut values[..],
                            accumulate: Accumulate::Write,
                        })
                    });
                    plan.scores_backward(&dscores, q, k, dq, dk);
                });
                (forward, values, from_scores)
            });
            let total = forward + values + from_scores;
            let limit = |products_done: f64| products * products_done / peak / 1e6 / threads as f64;
            println!(
                "{level:>6}, {threads} thread(s): forward {forward:7.3} ms (products alone {:6.3}), backward \
                 {values:7.3} + {from_scores:7.3} ms (products alone {:6.3}); together {total:7.3} ms, {:5.1} of \
                 {:5.1} GFLOP/s",
                limit(2.0),
                limit(4.0),
                6.0 * products / total / 1e6,
                peak * threads as f64,
            );
        }
    }
}
