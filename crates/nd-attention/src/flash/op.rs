//! Flash attention on a tape: one node, whose backward pass needs no scores.

use nd_core::autograd::{Accumulate, Backward, NodeId, Op, Var};
use nd_core::{Buffer, MemoryPool, SimdLevel};
use nd_simd::SimdReal;
use nd_simd::elementwise::accumulate;

use super::{
    Bias, Causal, FlashGradients, FlashPlan, HeadLayout, HeadsMut, HeadsRef, Mask, op_half,
};
use crate::{AttentionShape, Dropout, ScoreLayout};

/// Keys from which on flash attention is faster than standard attention, forward and backward together: measured on an Intel Xeon with
/// AVX-512 and 64 channels, one thread: 96 keys are a draw, 336 keys 1.2 times and 1024 keys 1.6 times as fast.
const LONG: usize = 256;

/// The same under a causal mask, half of which standard attention computes for nothing: 64 keys take 1.1 times as long, 96 are a draw,
/// 336 keys are 1.8 times as fast.
const LONG_CAUSAL: usize = 96;

/// Whether flash attention serves a shape better than standard attention.
pub(crate) fn is_worth_it(shape: &AttentionShape, causal: bool) -> bool {
    shape.keys >= if causal { LONG_CAUSAL } else { LONG } && shape.head_dim > 0
}

/// Whether residual scores lie in memory as a bias may.
pub(crate) fn takes_residual(shape: &AttentionShape) -> bool {
    shape.score_layout() == ScoreLayout::Plain
}

/// What is not in the shape.
#[derive(Clone, Debug)]
pub(crate) struct Choices {
    scale: f64,
    mask: Mask,
    dropout: Option<Dropout>,
    /// Whether all heads have the same values.
    shared_values: bool,
}

impl Choices {
    pub(crate) fn new(
        scale: f64,
        causal: bool,
        dropout: Option<Dropout>,
        shared_values: bool,
    ) -> Self {
        let mask = Mask {
            causal: causal.then_some(Causal::UpperLeft),
            ..Mask::default()
        };
        Self {
            scale,
            mask,
            dropout,
            shared_values,
        }
    }

    pub(super) fn plan<'a, R: SimdReal>(
        &'a self,
        shape: &AttentionShape,
        residual: Option<&'a [R]>,
        pool: &'a MemoryPool,
        level: SimdLevel,
        parallel: bool,
    ) -> FlashPlan<'a, R> {
        let head = shape.queries * shape.keys;
        FlashPlan {
            scale: R::from_f64(self.scale),
            mask: &self.mask,
            bias: residual.map(|data| Bias::Dense {
                data,
                strides: [shape.heads * head, head, shape.keys, 1],
            }),
            dropout: self.dropout,
            pool,
            block_q: 0,
            block_k: 0,
            level,
            parallel,
        }
    }
}

/// Where the heads of q, k, v and the output lie.
pub(super) struct Layouts {
    pub(super) q: HeadLayout,
    pub(super) k: HeadLayout,
    pub(super) v: HeadLayout,
    pub(super) y: HeadLayout,
}

impl Layouts {
    pub(super) fn new(s: &AttentionShape, choices: &Choices) -> Self {
        let of =
            |tokens, heads, channels| HeadLayout::token_major(s.batch, tokens, heads, channels);
        let value_heads = if choices.shared_values { 1 } else { s.heads };
        Self {
            q: of(s.queries, s.heads, s.head_dim),
            k: of(s.keys, s.heads, s.head_dim),
            v: of(s.keys, value_heads, s.value_dim),
            y: of(s.queries, s.heads, s.value_dim),
        }
    }
}

/// Records flash attention of `q [B, N_q, H d]` over `k [B, N_k, H d]` and `v [B, N_k, H d_v]` (`[B, N_k, d_v]` where all heads
/// have the same values), with residual scores `[B, H, N_q, N_k]`.
pub(crate) fn attention<'t, R: SimdReal>(
    [q, k, v]: [Var<'t, R>; 3],
    residual: Option<Var<'t, R>>,
    shape: AttentionShape,
    choices: Choices,
) -> Var<'t, R> {
    let tape = q.tape();
    if op_half::serves([q, k, v], tape.options().simd) {
        return op_half::attention([q, k, v], residual, shape, choices);
    }
    let layouts = Layouts::new(&shape, &choices);
    let mut output = tape.scratch(layouts.y.count() * shape.value_dim);
    let mut lse = tape.scratch(layouts.q.count());
    {
        let scores = residual.map(Var::value);
        let (level, parallel) = (tape.options().simd, tape.parallel());
        choices
            .plan(&shape, scores.as_deref(), tape.pool(), level, parallel)
            .forward(
                HeadsRef::new(&q.value(), layouts.q),
                HeadsRef::new(&k.value(), layouts.k),
                HeadsRef::new(&v.value(), layouts.v),
                HeadsMut::new(&mut output, layouts.y),
                &mut lse,
            );
    }
    let shared = q.shares_value_with(k) || q.shares_value_with(v) || k.shares_value_with(v);
    let output_shape = q.shape().with_cols(shape.heads * shape.value_dim);
    let op = || FlashOp {
        shape,
        choices,
        q: q.id(),
        k: k.id(),
        v: v.id(),
        residual: residual.map(Var::id),
        shared,
        lse,
    };
    match residual {
        Some(residual) => tape.record_autocast(output_shape, output, &[q, k, v, residual], op),
        None => tape.record_autocast(output_shape, output, &[q, k, v], op),
    }
}

struct FlashOp<R: SimdReal> {
    shape: AttentionShape,
    choices: Choices,
    q: NodeId,
    k: NodeId,
    v: NodeId,
    residual: Option<NodeId>,
    /// Whether two of q, k, v are one value, whose gradient cannot be lent twice at once.
    shared: bool,
    lse: Buffer<R>,
}

impl<R: SimdReal> Op<R> for FlashOp<R> {
    fn name(&self) -> &'static str {
        "flash attention"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let layouts = Layouts::new(&self.shape, &self.choices);
        let level = step.options().simd;
        let (q, k, v) = (step.value(self.q), step.value(self.k), step.value(self.v));
        let scores = self.residual.map(|id| step.value(id));
        let scores = scores.as_deref();
        let plan = self
            .choices
            .plan(&self.shape, scores, step.pool(), level, step.parallel());
        let y = step.y();
        let run = |to: FlashGradients<'_, R>| {
            plan.backward(
                HeadsRef::new(&q, layouts.q),
                HeadsRef::new(&k, layouts.k),
                HeadsRef::new(&v, layouts.v),
                HeadsRef::new(&y, layouts.y),
                &self.lse,
                HeadsRef::new(step.dy(), layouts.y),
                to,
            );
        };
        let mut dresidual = self.residual.and_then(|id| step.grad(id));
        let dbias = dresidual.as_mut().map(|grad| {
            let how = grad.accumulate;
            (&mut grad[..], how)
        });
        let inputs = [
            (self.q, layouts.q),
            (self.k, layouts.k),
            (self.v, layouts.v),
        ];
        if self.shared {
            let mut sums = inputs.map(|(_, layout)| step.scratch(layout.count() * layout.channels));
            let [dq, dk, dv] = &mut sums;
            let write = |sum, layout| Some((HeadsMut::new(sum, layout), Accumulate::Write));
            run(FlashGradients {
                dq: write(dq, layouts.q),
                dk: write(dk, layouts.k),
                dv: write(dv, layouts.v),
                dbias,
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
                (HeadsMut::new(grad, layouts.q), how)
            }),
            dk: dk.as_mut().map(|grad| {
                let how = grad.accumulate;
                (HeadsMut::new(grad, layouts.k), how)
            }),
            dv: dv.as_mut().map(|grad| {
                let how = grad.accumulate;
                (HeadsMut::new(grad, layouts.v), how)
            }),
            dbias,
        });
    }
}
