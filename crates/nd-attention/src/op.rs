//! Attention on a tape.
//!
//! The engine's ops have one output each, attention has two: the scores, to which the next layer may add its own, and the output.
//! So one pass of the kernel computes both, and two nodes are recorded: the scores, from q, k and the residual; and the
//! output, from the scores and v. The gradient of the scores is where later layers' contributions meet; to the residual it is
//! handed on without a copy.

use nd_core::autograd::{Accumulate, Backward, NodeId, Op, Var};
use nd_core::{AttentionKind, Buffer};
use nd_simd::SimdReal;

use crate::flash;
use crate::standard::{ForwardOutputs, GradMut, StandardAttention, Tokens, ValueGradients};
use crate::{AttentionOptions, AttentionShape, Dropout, op_rounded};

/// Attention as a method of queries.
pub trait AttentionExt<'t, R: SimdReal>: Sized {
    /// Multi-head attention of these queries `[B, N_q, H d]` over keys `k [B, N_k, H d]` and values `v [B, N_k, H d_v]`, or
    /// `[B, N_k, d_v]` with [`AttentionOptions::shared_values`].
    ///
    /// Returns the output `[B, N_q, H d_v]` and, if the options ask for them, the scores before mask and softmax; these are
    /// the `residual_scores` of the next layer, whose shape must be the same ([`AttentionShape::scores_shape`]).
    ///
    /// # Panics
    /// The shapes do not fit each other or the number of heads, or the dropout rate is not in `[0, 1)`.
    #[track_caller]
    fn attention(
        self,
        k: Self,
        v: Self,
        options: &AttentionOptions,
        residual_scores: Option<Self>,
    ) -> (Self, Option<Self>);
}

#[track_caller]
fn shape_of<R: SimdReal>(
    q: Var<'_, R>,
    k: Var<'_, R>,
    v: Var<'_, R>,
    options: &AttentionOptions,
) -> AttentionShape {
    let heads = options.heads;
    let value_heads = if options.shared_values { 1 } else { heads };
    let (q, k, v) = (q.shape(), k.shape(), v.shape());
    let (&[batch, queries, channels], &[_, keys, _], &[_, _, value_channels]) = (&*q, &*k, &*v)
    else {
        panic!("attention takes q, k, v of three dimensions, found {q}, {k}, {v}");
    };
    assert!(
        *k == [batch, keys, channels] && *v == [batch, keys, value_channels],
        "attention of q {q}, k {k}, v {v}: expected [B, N_q, H d], [B, N_k, H d], [B, N_k, H d_v]"
    );
    assert!(
        heads > 0 && channels % heads == 0 && value_channels % value_heads == 0,
        "attention with {heads} heads cannot divide the channels of q {q} and v {v}"
    );
    AttentionShape {
        batch,
        heads,
        queries,
        keys,
        head_dim: channels / heads,
        value_dim: value_channels / value_heads,
    }
}

impl<'t, R: SimdReal> AttentionExt<'t, R> for Var<'t, R> {
    #[track_caller]
    fn attention(
        self,
        k: Self,
        v: Self,
        options: &AttentionOptions,
        residual_scores: Option<Self>,
    ) -> (Self, Option<Self>) {
        let q = self;
        let tape = q.tape();
        let shape = shape_of(q, k, v, options);
        assert!(
            (0.0..1.0).contains(&options.dropout),
            "the dropout rate of attention is {}, expected one in [0, 1): with 1 nothing would be left to scale up",
            options.dropout
        );
        if let Some(residual) = residual_scores {
            assert_eq!(
                residual.shape(),
                shape.scores_shape(),
                "residual scores of an attention of {shape:?}"
            );
        }
        let scale = options
            .scale
            .unwrap_or_else(|| 1.0 / (shape.head_dim as f64).sqrt());
        let dropout = (options.dropout > 0.0 && tape.drops()).then(|| Dropout {
            rate: options.dropout,
            key: tape.next_key(),
            first_row: tape.context().first_row,
        });
        // Scores that others read must exist; those of the layer before are read like a bias.
        if tape.options().attention == AttentionKind::Flash
            && !options.return_scores
            && (residual_scores.is_none() || flash::op::takes_residual(&shape))
            && flash::op::is_worth_it(&shape, options.causal)
        {
            let shared = options.shared_values;
            let choices = flash::op::Choices::new(scale, options.causal, dropout, shared);
            let output = flash::op::attention([q, k, v], residual_scores, shape, choices);
            return (output, None);
        }
        let v = if options.shared_values {
            v.repeat_channels(shape.heads)
        } else {
            v
        };
        let plan = StandardAttention {
            shape,
            scale: R::from_f64(scale),
            causal: options.causal,
            dropout,
            level: tape.options().simd,
            parallel: tape.parallel(),
        };
        if let Some((scores, output)) = op_rounded::attention([q, k, v], residual_scores, &plan) {
            return (output, options.return_scores.then_some(scores));
        }
        let mut scores = tape.scratch(shape.scores_len());
        let mut stats = tape.scratch(shape.stats_len());
        let mut output = tape.scratch(shape.batch * shape.queries * shape.heads * shape.value_dim);
        {
            let (q, k, v) = (q.value(), k.value(), v.value());
            let residual = residual_scores.map(Var::value);
            let mut work = tape.scratch(plan.forward_work_len());
            plan.forward(
                Tokens::contiguous(&q, shape.heads * shape.head_dim),
                Tokens::contiguous(&k, shape.heads * shape.head_dim),
                Tokens::contiguous(&v, shape.heads * shape.value_dim),
                residual.as_deref(),
                ForwardOutputs {
                    scores: &mut scores,
                    stats: &mut stats,
                    output: &mut output,
                    work: &mut work,
                },
            );
        }
        let same = q.shares_value_with(k);
        let scores = {
            let op = || ScoresOp {
                plan,
                q: q.id(),
                k: k.id(),
                same,
                residual: residual_scores.map(Var::id),
            };
            match residual_scores {
                Some(residual) => {
                    tape.record_autocast(shape.scores_shape(), scores, &[q, k, residual], op)
                }
                None => tape.record_autocast(shape.scores_shape(), scores, &[q, k], op),
            }
        };
        let output_shape = q.shape().with_cols(shape.heads * shape.value_dim);
        let output = tape.record_autocast(output_shape, output, &[scores, v], || ValuesOp {
            plan,
            scores: scores.id(),
            v: v.id(),
            stats,
        });
        (output, options.return_scores.then_some(scores))
    }
}

/// Values that every head has.
trait RepeatExt {
    /// `[B, N, C]` to `[B, N, times C]`: the channels of each token, so many times.
    fn repeat_channels(self, times: usize) -> Self;
}

impl<R: SimdReal> RepeatExt for Var<'_, R> {
    fn repeat_channels(self, times: usize) -> Self {
        let (tape, channels) = (self.tape(), self.shape().cols());
        let mut output = tape.scratch(self.shape().numel() * times);
        if channels > 0 {
            let value = self.value();
            let rows = output.chunks_exact_mut(channels * times);
            for (to, from) in rows.zip(value.chunks_exact(channels)) {
                for to in to.chunks_exact_mut(channels) {
                    to.copy_from_slice(from);
                }
            }
        }
        let shape = self.shape().with_cols(channels * times);
        tape.record(shape, output, &[self], || RepeatOp {
            x: self.id(),
            channels,
            times,
        })
    }
}

/// `y[n, t C + c] = x[n, c]`
struct RepeatOp {
    x: NodeId,
    channels: usize,
    times: usize,
}

impl<R: SimdReal> Op<R> for RepeatOp {
    fn name(&self) -> &'static str {
        "repeat channels"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let Some(mut dx) = step.grad(self.x) else {
            return;
        };
        let (channels, how) = (self.channels, dx.accumulate);
        if channels == 0 {
            return;
        }
        let rows = step.dy().chunks_exact(channels * self.times);
        for (dx, dy) in dx.chunks_exact_mut(channels).zip(rows) {
            if how == Accumulate::Write {
                dx.fill(R::ZERO);
            }
            for dy in dy.chunks_exact(channels) {
                for (dx, &dy) in dx.iter_mut().zip(dy) {
                    *dx += dy;
                }
            }
        }
    }
}

/// `scores = scale q k^T + residual`
struct ScoresOp<R: SimdReal> {
    plan: StandardAttention<R>,
    q: NodeId,
    k: NodeId,
    /// Whether q and k are one value.
    same: bool,
    residual: Option<NodeId>,
}

impl<R: SimdReal> Op<R> for ScoresOp<R> {
    fn name(&self) -> &'static str {
        "attention scores"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let shape = &self.plan.shape;
        let (q, k) = (step.value(self.q), step.value(self.k));
        let channels = shape.heads * shape.head_dim;
        let (q, k) = (
            Tokens::contiguous(&q, channels),
            Tokens::contiguous(&k, channels),
        );
        let mut dq = step.grad(self.q);
        if self.same {
            // One gradient, which cannot be lent twice at once.
            let to = dq.as_mut().map(|dq| GradMut {
                accumulate: dq.accumulate,
                values: dq,
            });
            self.plan.scores_backward(step.dy(), q, k, to, None);
            drop(dq.take());
        }
        let mut dk = step.grad(self.k);
        let dq = dq.as_mut().map(|dq| GradMut {
            accumulate: dq.accumulate,
            values: dq,
        });
        let dk = dk.as_mut().map(|dk| GradMut {
            accumulate: dk.accumulate,
            values: dk,
        });
        self.plan.scores_backward(step.dy(), q, k, dq, dk);
        if let Some(residual) = self.residual {
            step.pass(residual);
        }
    }
}

/// `output = softmax(scores) v`
struct ValuesOp<R: SimdReal> {
    plan: StandardAttention<R>,
    scores: NodeId,
    v: NodeId,
    /// The largest score of each softmax and the reciprocal of its sum.
    stats: Buffer<R>,
}

impl<R: SimdReal> Op<R> for ValuesOp<R> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let shape = &self.plan.shape;
        let (scores, v) = (step.value(self.scores), step.value(self.v));
        let mut dscores = step.grad(self.scores);
        let mut dv = step.grad(self.v);
        let mut work = step.scratch(self.plan.backward_work_len());
        // The kernel computes the gradient of the scores in any case.
        let mut unwanted = match dscores {
            Some(_) => None,
            None => Some(step.scratch(shape.scores_len())),
        };
        let dscores = match (&mut dscores, &mut unwanted) {
            (Some(grad), _) => GradMut {
                accumulate: grad.accumulate,
                values: grad,
            },
            (None, Some(unwanted)) => GradMut {
                accumulate: Accumulate::Write,
                values: unwanted,
            },
            (None, None) => unreachable!("memory was taken just above"),
        };
        let dv = dv.as_mut().map(|dv| GradMut {
            accumulate: dv.accumulate,
            values: dv,
        });
        self.plan.values_backward(
            step.dy(),
            Tokens::contiguous(&v, shape.heads * shape.value_dim),
            &scores,
            &self.stats,
            ValueGradients {
                dscores,
                dv,
                work: &mut work,
            },
        );
    }
}
