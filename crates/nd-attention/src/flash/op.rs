//! Flash attention on a tape: one node, whose backward pass needs no scores.

use nd_core::autograd::{Accumulate, Backward, NodeId, Op, Var};
use nd_core::{Buffer, MemoryPool, SimdLevel};
use nd_simd::SimdReal;
use nd_simd::elementwise::accumulate;

use super::{Causal, FlashGradients, FlashPlan, HeadLayout, HeadsMut, HeadsRef, Mask};
use crate::{AttentionShape, Dropout};

/// Keys from which on flash attention is faster than standard attention, forward and backward together: measured on Zen 5 with
/// 64 channels, two threads: 336 keys are a draw, 1024 keys 1.2 times as fast.
const LONG: usize = 512;

/// The same under a causal mask, half of which standard attention computes for nothing: 64 keys are a draw.
const LONG_CAUSAL: usize = 96;

/// Whether flash attention serves a shape better than standard attention.
pub(crate) fn is_worth_it(shape: &AttentionShape, causal: bool) -> bool {
    shape.keys >= if causal { LONG_CAUSAL } else { LONG } && shape.head_dim > 0
}

/// What is not in the shape.
#[derive(Clone, Debug)]
pub(crate) struct Choices {
    pub(crate) scale: f64,
    pub(crate) mask: Mask,
    pub(crate) dropout: Option<Dropout>,
}

impl Choices {
    pub(crate) fn new(scale: f64, causal: bool, dropout: Option<Dropout>) -> Self {
        let mask = Mask {
            causal: causal.then_some(Causal::UpperLeft),
            ..Mask::default()
        };
        Self {
            scale,
            mask,
            dropout,
        }
    }

    fn plan<'a, R: SimdReal>(
        &'a self,
        pool: &'a MemoryPool,
        level: SimdLevel,
        parallel: bool,
    ) -> FlashPlan<'a, R> {
        FlashPlan {
            scale: R::from_f64(self.scale),
            mask: &self.mask,
            bias: None,
            dropout: self.dropout,
            pool,
            block_q: 0,
            block_k: 0,
            level,
            parallel,
        }
    }
}

/// Where the heads of q, k (or the output and v) lie.
fn layouts(shape: &AttentionShape, channels: usize) -> (HeadLayout, HeadLayout) {
    let of = |tokens| HeadLayout::token_major(shape.batch, tokens, shape.heads, channels);
    (of(shape.queries), of(shape.keys))
}

/// Records flash attention of `q [B, N_q, H d]` over `k [B, N_k, H d]` and `v [B, N_k, H d_v]`.
pub(crate) fn attention<'t, R: SimdReal>(
    q: Var<'t, R>,
    k: Var<'t, R>,
    v: Var<'t, R>,
    shape: AttentionShape,
    choices: Choices,
) -> Var<'t, R> {
    let tape = q.tape();
    let (q_layout, k_layout) = layouts(&shape, shape.head_dim);
    let (y_layout, v_layout) = layouts(&shape, shape.value_dim);
    let mut output = tape.scratch(shape.batch * shape.queries * shape.heads * shape.value_dim);
    let mut lse = tape.scratch(shape.batch * shape.heads * shape.queries);
    choices
        .plan(tape.pool(), tape.options().simd, tape.parallel())
        .forward(
            HeadsRef::new(&q.value(), q_layout),
            HeadsRef::new(&k.value(), k_layout),
            HeadsRef::new(&v.value(), v_layout),
            HeadsMut::new(&mut output, y_layout),
            &mut lse,
        );
    let shared = q.shares_value_with(k) || q.shares_value_with(v) || k.shares_value_with(v);
    let output_shape = q.shape().with_cols(shape.heads * shape.value_dim);
    tape.record_autocast(output_shape, output, &[q, k, v], || FlashOp {
        shape,
        choices,
        q: q.id(),
        k: k.id(),
        v: v.id(),
        shared,
        lse,
    })
}

struct FlashOp<R: SimdReal> {
    shape: AttentionShape,
    choices: Choices,
    q: NodeId,
    k: NodeId,
    v: NodeId,
    /// Whether two of q, k, v are one value, whose gradient cannot be lent twice at once.
    shared: bool,
    lse: Buffer<R>,
}

impl<R: SimdReal> Op<R> for FlashOp<R> {
    fn name(&self) -> &'static str {
        "flash attention"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let shape = &self.shape;
        let (q_layout, k_layout) = layouts(shape, shape.head_dim);
        let (y_layout, v_layout) = layouts(shape, shape.value_dim);
        let level = step.options().simd;
        let plan = self.choices.plan(step.pool(), level, step.parallel());
        let (q, k, v) = (step.value(self.q), step.value(self.k), step.value(self.v));
        let y = step.y();
        let run = |to: FlashGradients<'_, R>| {
            plan.backward(
                HeadsRef::new(&q, q_layout),
                HeadsRef::new(&k, k_layout),
                HeadsRef::new(&v, v_layout),
                HeadsRef::new(&y, y_layout),
                &self.lse,
                HeadsRef::new(step.dy(), y_layout),
                to,
            );
        };
        let inputs = [(self.q, q_layout), (self.k, k_layout), (self.v, v_layout)];
        if self.shared {
            let mut sums = inputs.map(|(_, layout)| step.scratch(layout.count() * layout.channels));
            let [dq, dk, dv] = &mut sums;
            let write = |sum, layout| Some((HeadsMut::new(sum, layout), Accumulate::Write));
            run(FlashGradients {
                dq: write(dq, q_layout),
                dk: write(dk, k_layout),
                dv: write(dv, v_layout),
            });
            for ((id, _), sum) in inputs.into_iter().zip(&sums) {
                if let Some(mut grad) = step.grad(id) {
                    let how = grad.accumulate;
                    accumulate(level, sum, &mut grad, how);
                }
            }
            return;
        }
        let [mut dq, mut dk, mut dv] = inputs.map(|(id, _)| step.grad(id));
        run(FlashGradients {
            dq: dq.as_mut().map(|grad| {
                let how = grad.accumulate;
                (HeadsMut::new(grad, q_layout), how)
            }),
            dk: dk.as_mut().map(|grad| {
                let how = grad.accumulate;
                (HeadsMut::new(grad, k_layout), how)
            }),
            dv: dv.as_mut().map(|grad| {
                let how = grad.accumulate;
                (HeadsMut::new(grad, v_layout), how)
            }),
        });
    }
}
