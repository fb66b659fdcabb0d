//! Ours: flash and standard attention with all their buffers.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use nd_attention::flash::{
    Causal, FlashGradients, FlashPlan, HeadLayout, HeadsMut, HeadsRef, Mask,
};
use nd_attention::{
    AttentionShape, ForwardOutputs, GradMut, StandardAttention, Tokens, ValueGradients,
};
use nd_core::autograd::Accumulate;
use nd_core::{Buffer, MemoryPool, SimdLevel, Threads};

use super::{Case, Contestant, Inputs, Pass, Size};

/// The threads of a contestant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threading {
    /// The calling thread.
    One,
    /// A pool of two.
    Two,
}

impl Threading {
    /// Runs `work` on these threads.
    pub(super) fn install(self, work: impl FnOnce() + Send) {
        static TWO: LazyLock<Option<Threads>> = LazyLock::new(|| Threads::new(Some(2)).ok());
        match (self, &*TWO) {
            (Self::Two, Some(two)) => two.install(work),
            _ => work(),
        }
    }

    pub(super) fn parallel(self) -> bool {
        self == Self::Two
    }
}

pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn layout(size: Size) -> HeadLayout {
    HeadLayout::head_major(size.batch, size.heads, size.tokens, size.dim)
}

/// The mask of a case.
pub(super) fn mask(case: Case) -> Mask {
    Mask {
        causal: case.causal.then_some(Causal::UpperLeft),
        ..Mask::default()
    }
}

/// What flash attention writes.
struct FlashOutputs {
    y: Buffer<f32>,
    lse: Buffer<f32>,
    grads: [Buffer<f32>; 3],
}

/// Flash attention.
#[must_use]
pub fn flash(case: Case, inputs: &Arc<Inputs>, threading: Threading) -> Contestant {
    flash_masked(case, inputs, threading, mask(case))
}

/// Flash attention under any mask.
#[must_use]
pub fn flash_masked(
    case: Case,
    inputs: &Arc<Inputs>,
    threading: Threading,
    mask: Mask,
) -> Contestant {
    let size = case.size;
    let numel = size.numel();
    let gradients = if case.pass == Pass::Both { numel } else { 0 };
    let outputs = Arc::new(Mutex::new(FlashOutputs {
        y: Buffer::zeroed(numel),
        lse: Buffer::zeroed(numel / size.dim),
        grads: [(); 3].map(|()| Buffer::zeroed(gradients)),
    }));
    let (inputs, shared, pool) = (Arc::clone(inputs), Arc::clone(&outputs), MemoryPool::new());
    let run = move || {
        let mut shared = lock(&shared);
        let FlashOutputs { y, lse, grads } = &mut *shared;
        let plan = FlashPlan {
            scale: inputs.scale(),
            mask: &mask,
            bias: None,
            dropout: None,
            pool: &pool,
            block_q: 0,
            block_k: 0,
            level: SimdLevel::current(),
            parallel: threading.parallel(),
        };
        let layout = layout(size);
        threading.install(|| {
            let (q, k) = (
                HeadsRef::new(&inputs.q, layout),
                HeadsRef::new(&inputs.k, layout),
            );
            let v = HeadsRef::new(&inputs.v, layout);
            plan.forward(q, k, v, HeadsMut::new(y, layout), lse);
            if case.pass == Pass::Forward {
                return;
            }
            let [dq, dk, dv] = grads;
            let write = |x| Some((HeadsMut::new(x, layout), Accumulate::Write));
            let to = FlashGradients {
                dq: write(dq),
                dk: write(dk),
                dv: write(dv),
                dbias: None,
            };
            let (y, dy) = (HeadsRef::new(y, layout), HeadsRef::new(&inputs.dy, layout));
            plan.backward(q, k, v, y, lse, dy, to);
        });
    };
    Contestant {
        name: "flash",
        run: Box::new(run),
        result: Box::new(move || {
            let outputs = lock(&outputs);
            match case.pass {
                Pass::Forward => outputs.y.to_vec(),
                Pass::Both => outputs.grads[0].to_vec(),
            }
        }),
    }
}

/// `[B, H, N, d]` to `[B, N, H d]`, the layout that standard attention takes.
fn token_major(size: Size, x: &[f32]) -> Buffer<f32> {
    let mut out = Buffer::zeroed(x.len());
    for (at, row) in x.chunks_exact(size.dim).enumerate() {
        let (pair, n) = (at / size.tokens, at % size.tokens);
        let (b, h) = (pair / size.heads, pair % size.heads);
        let to = ((b * size.tokens + n) * size.heads + h) * size.dim;
        out[to..to + size.dim].copy_from_slice(row);
    }
    out
}

fn head_major(size: Size, x: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for (at, row) in out.chunks_exact_mut(size.dim).enumerate() {
        let (pair, n) = (at / size.tokens, at % size.tokens);
        let (b, h) = (pair / size.heads, pair % size.heads);
        let from = ((b * size.tokens + n) * size.heads + h) * size.dim;
        row.copy_from_slice(&x[from..from + size.dim]);
    }
    out
}

/// What standard attention writes.
struct StandardOutputs {
    scores: Buffer<f32>,
    stats: Buffer<f32>,
    work: Buffer<f32>,
    y: Buffer<f32>,
    dscores: Buffer<f32>,
    grads: [Buffer<f32>; 3],
}

/// Standard attention, with the same products and exponentials and all scores in memory.
#[must_use]
pub fn standard(case: Case, inputs: &Arc<Inputs>, threading: Threading) -> Contestant {
    let size = case.size;
    let shape = AttentionShape {
        batch: size.batch,
        heads: size.heads,
        queries: size.tokens,
        keys: size.tokens,
        head_dim: size.dim,
        value_dim: size.dim,
    };
    let plan = StandardAttention {
        shape,
        scale: inputs.scale(),
        causal: case.causal,
        dropout: None,
        level: SimdLevel::current(),
        parallel: threading.parallel(),
    };
    let both = case.pass == Pass::Both;
    let when = |wanted: bool, len: usize| Buffer::zeroed(if wanted { len } else { 0 });
    let work_len = if both {
        plan.backward_work_len()
    } else {
        plan.forward_work_len()
    };
    let outputs = Arc::new(Mutex::new(StandardOutputs {
        scores: Buffer::zeroed(shape.scores_len()),
        stats: Buffer::zeroed(shape.stats_len()),
        work: Buffer::zeroed(work_len),
        y: Buffer::zeroed(size.numel()),
        dscores: when(both, shape.scores_len()),
        grads: [(); 3].map(|()| when(both, size.numel())),
    }));
    let [q, k, v, dy] = [&inputs.q, &inputs.k, &inputs.v, &inputs.dy].map(|x| token_major(size, x));
    let shared = Arc::clone(&outputs);
    let run = move || {
        let mut shared = lock(&shared);
        let StandardOutputs {
            scores,
            stats,
            work,
            y,
            dscores,
            grads,
        } = &mut *shared;
        let channels = size.heads * size.dim;
        let (q, k, v) = (
            Tokens::contiguous(&q[..], channels),
            Tokens::contiguous(&k[..], channels),
            Tokens::contiguous(&v[..], channels),
        );
        threading.install(|| {
            let to = ForwardOutputs {
                scores: &mut scores[..],
                stats: &mut stats[..],
                output: &mut y[..],
                work: &mut work[..plan.forward_work_len()],
            };
            plan.forward(q, k, v, None, to);
            if !both {
                return;
            }
            let accumulate = Accumulate::Write;
            let [dq, dk, dv] = grads.each_mut().map(|values| GradMut {
                values: &mut values[..],
                accumulate,
            });
            let to = ValueGradients {
                dscores: GradMut {
                    values: &mut dscores[..],
                    accumulate,
                },
                dv: Some(dv),
                work: &mut work[..],
            };
            plan.values_backward(&dy, v, scores, stats, to);
            plan.scores_backward(dscores, q, k, Some(dq), Some(dk));
        });
    };
    Contestant {
        name: "standard",
        run: Box::new(run),
        result: Box::new(move || {
            let outputs = lock(&outputs);
            match case.pass {
                Pass::Forward => head_major(size, &outputs.y),
                Pass::Both => head_major(size, &outputs.grads[0]),
            }
        }),
    }
}
