//! Attention over few keys on a tape in sixteen bits: rows of the batch are widened, computed in f32 and rounded, block by block.
//!
//! The simple version widens q, k and v whole and rounds scores and output whole, which moves every number through memory three times.
//! Here a task takes as many rows as fit in a part of the second cache level, with all that the f32 kernels read and write for
//! them; only sixteen-bit numbers come from memory and go there. The numbers are the same, but for a gradient that is there already:
//! what is added to it is rounded again ([`Backward::half_grad`]).
//!
//! Known weakness: only for scores in the interleaved layout ([`crate::ScoreLayout::Interleaved`]), whose rows are small; other attention over few
//! keys widens whole tensors.

use std::cell::RefMut;
use std::ops::Range;

use nd_core::autograd::{Accumulate, Backward, Grad, NodeId, Op, Stored, StoredRef, Var};
use nd_core::{Buffer, DType, bf16, f16};
use nd_simd::SimdReal;

use crate::flash::op_half::as_f32_mut;
use crate::rounded_rows::{Half, Input, Output, ROOM, Rows, rows_at_a_time};
use crate::shape::AttentionShape;
use crate::standard::{ForwardOutputs, GradMut, StandardAttention, Tokens, ValueGradients};

/// The first `len` numbers of a room, and the rest of it.
fn cut<'a>(room: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (here, rest) = std::mem::take(room).split_at_mut(len);
    *room = rest;
    here
}

/// The plan of some rows.
fn plan_of_rows(
    plan: &StandardAttention<f32>,
    first: usize,
    count: usize,
) -> StandardAttention<f32> {
    let mut part = *plan;
    part.shape.batch = count;
    part.parallel = false;
    if let Some(dropout) = &mut part.dropout {
        dropout.first_row += first;
    }
    part
}

/// Where the scores of some rows lie; rows are whole groups, and the last ones fill their group.
fn scores_of_rows(part: &AttentionShape, first: usize) -> Range<usize> {
    let start = first * part.scores_per_row();
    start..start + part.scores_len()
}

fn forward_rows<H: Half>(
    plan: &StandardAttention<f32>,
    [q, k, v]: [Input<'_, H>; 3],
    residual: Option<Input<'_, H>>,
    rows: Rows<'_, H, 3>,
    room: &mut [f32; ROOM],
) {
    let (level, first) = (plan.level, rows.first);
    let part = plan_of_rows(plan, first, rows.count);
    let shape = part.shape;
    let (query_width, value_width) = (shape.heads * shape.head_dim, shape.heads * shape.value_dim);
    let mut room = &mut room[..];
    let of_rows = |width: usize| first * width..(first + shape.batch) * width;
    let per_row = [
        shape.queries * query_width,
        shape.keys * query_width,
        shape.keys * value_width,
    ];
    let [q, k, v] = [(q, per_row[0]), (k, per_row[1]), (v, per_row[2])]
        .map(|(x, width)| x.read(level, of_rows(width), cut(&mut room, shape.batch * width)));
    let scores_len = shape.scores_len();
    let of_scores = scores_of_rows(&shape, first);
    let residual_room = cut(&mut room, scores_len);
    let residual = residual.map(|x| x.read(level, of_scores, residual_room));
    let scores_room = cut(&mut room, scores_len);
    let output_room = cut(&mut room, shape.batch * shape.queries * value_width);
    let [(scores, _), (mut stats, _), (output, _)] = rows.outputs;
    let Some(stats) = stats.wide(level, &mut []) else {
        unreachable!("what a softmax leaves is always kept")
    };
    part.forward(
        Tokens::contiguous(q, query_width),
        Tokens::contiguous(k, query_width),
        Tokens::contiguous(v, value_width),
        residual,
        ForwardOutputs {
            scores: scores_room,
            stats: stats.values,
            output: output_room,
            work: &mut [],
        },
    );
    scores.round(level, scores_room);
    output.round(level, output_room);
}

/// From the gradient of the output to those of scores and v.
fn values_backward_rows<H: Half>(
    plan: &StandardAttention<f32>,
    [dy, v, scores]: [Input<'_, H>; 3],
    stats: &[f32],
    rows: Rows<'_, H, 2>,
    room: &mut [f32; ROOM],
) {
    let (level, first) = (plan.level, rows.first);
    let part = plan_of_rows(plan, first, rows.count);
    let shape = part.shape;
    let width = shape.heads * shape.value_dim;
    let mut room = &mut room[..];
    let tokens = |per_row: usize| first * per_row..(first + shape.batch) * per_row;
    let (of_dy, of_v) = (tokens(shape.queries * width), tokens(shape.keys * width));
    let dy = dy.read(level, of_dy.clone(), cut(&mut room, of_dy.len()));
    let v = v.read(level, of_v.clone(), cut(&mut room, of_v.len()));
    let scores_len = shape.scores_len();
    let of_scores = scores_of_rows(&shape, first);
    let scores = scores.read(level, of_scores, cut(&mut room, scores_len));
    let (scores_room, unwanted_room) = (cut(&mut room, scores_len), cut(&mut room, scores_len));
    let v_room = cut(&mut room, of_v.len());
    let [(mut dscores, _), (mut dv, _)] = rows.outputs;
    {
        // The kernel computes the gradient of the scores in any case.
        let wanted = dscores.wide(level, scores_room);
        let dscores = wanted.unwrap_or(GradMut {
            values: unwanted_room,
            accumulate: Accumulate::Write,
        });
        let at = first * shape.heads * shape.queries * 2;
        part.values_backward(
            dy,
            Tokens::contiguous(v, width),
            scores,
            &stats[at..at + shape.stats_len()],
            ValueGradients {
                dscores,
                dv: dv.wide(level, v_room),
                work: &mut [],
            },
        );
    }
    dscores.round(level, scores_room);
    dv.round(level, v_room);
}

/// From the gradient of the scores to those of q and k.
fn scores_backward_rows<H: Half>(
    plan: &StandardAttention<f32>,
    [dscores, q, k]: [Input<'_, H>; 3],
    rows: Rows<'_, H, 2>,
    room: &mut [f32; ROOM],
) {
    let (level, first) = (plan.level, rows.first);
    let part = plan_of_rows(plan, first, rows.count);
    let shape = part.shape;
    let width = shape.heads * shape.head_dim;
    let mut room = &mut room[..];
    let tokens = |per_row: usize| first * per_row..(first + shape.batch) * per_row;
    let (of_q, of_k) = (tokens(shape.queries * width), tokens(shape.keys * width));
    let of_scores = scores_of_rows(&shape, first);
    let scores_room = cut(&mut room, shape.scores_len());
    let dscores = dscores.read(level, of_scores, scores_room);
    let q = q.read(level, of_q.clone(), cut(&mut room, of_q.len()));
    let k = k.read(level, of_k.clone(), cut(&mut room, of_k.len()));
    let (q_room, k_room) = (cut(&mut room, of_q.len()), cut(&mut room, of_k.len()));
    let [(mut dq, _), (mut dk, _)] = rows.outputs;
    part.scores_backward(
        dscores,
        Tokens::contiguous(q, width),
        Tokens::contiguous(k, width),
        dq.wide(level, q_room),
        dk.wide(level, k_room),
    );
    dq.round(level, q_room);
    dk.round(level, k_room);
}

/// Scores and output of attention over few keys whose inputs are all kept in one format of sixteen bits; `None` where they are not, or a row
/// does not fit.
pub(crate) fn attention<'t, R: SimdReal>(
    [q, k, v]: [Var<'t, R>; 3],
    residual: Option<Var<'t, R>>,
    plan: &StandardAttention<R>,
) -> Option<(Var<'t, R>, Var<'t, R>)> {
    let block = rows_at_a_time(&plan.shape)?;
    if R::DTYPE != DType::F32 || q.shares_value_with(k) {
        return None;
    }
    match q.stored() {
        StoredRef::Full(_) => None,
        StoredRef::Bf16(_) => run::<bf16, R>([q, k, v], residual, plan, block),
        StoredRef::F16(_) => run::<f16, R>([q, k, v], residual, plan, block),
    }
}

fn run<'t, H: Half, R: SimdReal>(
    [q, k, v]: [Var<'t, R>; 3],
    residual: Option<Var<'t, R>>,
    plan: &StandardAttention<R>,
    block: usize,
) -> Option<(Var<'t, R>, Var<'t, R>)> {
    let tape = q.tape();
    let halves = [q, k, v].into_iter().chain(residual);
    if !halves.into_iter().all(|x| H::of(x.stored()).is_some()) {
        return None;
    }
    let shape = plan.shape;
    let plan = StandardAttention {
        shape,
        scale: plan.scale.to_f64() as f32,
        causal: plan.causal,
        dropout: plan.dropout,
        level: plan.level,
        parallel: plan.parallel,
    };
    let mut scores: Buffer<H> = tape.pool().take(shape.scores_len());
    let mut stats: Buffer<f32> = tape.pool().take(shape.stats_len());
    let output_per_row = shape.queries * shape.heads * shape.value_dim;
    let mut output: Buffer<H> = tape.pool().take(shape.batch * output_per_row);
    let rows = Rows {
        first: 0,
        count: shape.batch,
        outputs: [
            (
                Output::Half(&mut scores, Accumulate::Write),
                shape.scores_per_row(),
            ),
            (
                Output::Wide(&mut stats, Accumulate::Write),
                shape.heads * shape.queries * 2,
            ),
            (Output::Half(&mut output, Accumulate::Write), output_per_row),
        ],
    };
    let inputs = [q, k, v].map(|x| Input::<H>::of(x.stored()));
    let of_residual = residual.map(|x| Input::<H>::of(x.stored()));
    rows.for_each_block(plan.parallel, block, &|rows, room| {
        forward_rows(&plan, inputs, of_residual, rows, room);
    });
    let op = || ScoresOp {
        plan,
        block,
        q: q.id(),
        k: k.id(),
        residual: residual.map(Var::id),
    };
    let (scores_shape, scores) = (shape.scores_shape(), H::keep(scores));
    let scores = match residual {
        Some(residual) => tape.record_stored(scores_shape, scores, &[q, k, residual], op),
        None => tape.record_stored(scores_shape, scores, &[q, k], op),
    };
    let output_shape = q.shape().with_cols(shape.heads * shape.value_dim);
    let output = tape.record_stored(output_shape, H::keep(output), &[scores, v], || ValuesOp {
        plan,
        block,
        scores: scores.id(),
        v: v.id(),
        stats,
    });
    Some((scores, output))
}

/// Where the gradient of an input goes.
enum Destination<'s, R: SimdReal, H: Half> {
    Unwanted,
    /// It is the first.
    First(Buffer<H>),
    /// It is added to one in sixteen bits.
    Rounded(RefMut<'s, Stored<R>>),
    /// The tape's own type.
    Wide(Grad<'s, R>),
}

impl<'s, R: SimdReal, H: Half> Destination<'s, R, H> {
    fn of(step: &'s Backward<'_, R>, id: NodeId) -> Self {
        if step.takes_half(id).is_some() {
            return Self::First(step.pool().take(step.shape(id).numel()));
        }
        if let Some(there) = step.half_grad(id) {
            return Self::Rounded(there);
        }
        match step.grad(id) {
            Some(grad) => Self::Wide(grad),
            None => Self::Unwanted,
        }
    }

    fn output(&mut self) -> Output<'_, H> {
        match self {
            Self::Unwanted => Output::Unwanted,
            Self::First(values) => Output::Half(values, Accumulate::Write),
            Self::Rounded(there) => match H::of_mut(there) {
                Some(values) => Output::Half(values, Accumulate::Add),
                None => unreachable!("a run has one format"),
            },
            Self::Wide(grad) => {
                let accumulate = grad.accumulate;
                Output::Wide(as_f32_mut(&mut grad[..]), accumulate)
            }
        }
    }

    fn deliver(self, step: &Backward<'_, R>, id: NodeId) {
        if let Self::First(values) = self {
            step.give(id, H::keep(values));
        }
    }
}

/// `scores = scale q k^T + residual`
struct ScoresOp {
    plan: StandardAttention<f32>,
    block: usize,
    q: NodeId,
    k: NodeId,
    residual: Option<NodeId>,
}

impl<R: SimdReal> Op<R> for ScoresOp {
    fn name(&self) -> &'static str {
        "attention scores"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        match step.stored(self.q) {
            StoredRef::F16(_) => self.backward_in::<f16, R>(step),
            _ => self.backward_in::<bf16, R>(step),
        }
    }
}

impl ScoresOp {
    fn backward_in<H: Half, R: SimdReal>(&self, step: &Backward<'_, R>) {
        let shape = &self.plan.shape;
        let width = shape.heads * shape.head_dim;
        let inputs = [
            Input::<H>::of(step.stored_dy()),
            Input::of(step.stored(self.q)),
            Input::of(step.stored(self.k)),
        ];
        let mut dq = Destination::<R, H>::of(step, self.q);
        let mut dk = Destination::<R, H>::of(step, self.k);
        let rows = Rows {
            first: 0,
            count: shape.batch,
            outputs: [
                (dq.output(), shape.queries * width),
                (dk.output(), shape.keys * width),
            ],
        };
        rows.for_each_block(step.parallel(), self.block, &|rows, room| {
            scores_backward_rows(&self.plan, inputs, rows, room);
        });
        dq.deliver(step, self.q);
        dk.deliver(step, self.k);
        if let Some(residual) = self.residual {
            step.pass(residual);
        }
    }
}

/// `output = softmax(scores) v`
struct ValuesOp {
    plan: StandardAttention<f32>,
    block: usize,
    scores: NodeId,
    v: NodeId,
    /// The largest score of each softmax and the reciprocal of its sum.
    stats: Buffer<f32>,
}

impl<R: SimdReal> Op<R> for ValuesOp {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        match step.stored(self.scores) {
            StoredRef::F16(_) => self.backward_in::<f16, R>(step),
            _ => self.backward_in::<bf16, R>(step),
        }
    }
}

impl ValuesOp {
    fn backward_in<H: Half, R: SimdReal>(&self, step: &Backward<'_, R>) {
        let shape = &self.plan.shape;
        let inputs = [
            Input::<H>::of(step.stored_dy()),
            Input::of(step.stored(self.v)),
            Input::of(step.stored(self.scores)),
        ];
        let mut dscores = Destination::<R, H>::of(step, self.scores);
        let mut dv = Destination::<R, H>::of(step, self.v);
        let rows = Rows {
            first: 0,
            count: shape.batch,
            outputs: [
                (dscores.output(), shape.scores_per_row()),
                (dv.output(), shape.keys * shape.heads * shape.value_dim),
            ],
        };
        rows.for_each_block(step.parallel(), self.block, &|rows, room| {
            values_backward_rows(&self.plan, inputs, &self.stats, rows, room);
        });
        dscores.deliver(step, self.scores);
        dv.deliver(step, self.v);
    }
}
