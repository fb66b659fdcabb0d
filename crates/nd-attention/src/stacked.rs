//! Matrix products head by head, for sequences and heads large enough to keep them busy.
//!
//! The simple version is the formula: scores by one product, softmax of their rows, output by another. The heads of a row of
//! the batch are one stack of strided matrices, so nothing is copied. Probabilities exist for [`QUERIES`] queries of each head at a
//! time, and the backward pass computes them again from the scores, the largest of each row and the reciprocal of its sum: of the
//! scores themselves, which later layers may read, there is no second copy.
//!
//! Rows of the batch are split over threads, unless there are too few; then the products of a row are.
//!
//! Known weakness: the scores, and in the backward pass their gradient, are whole matrices.

use nd_core::autograd::Accumulate;
use nd_simd::math::exp;
use nd_simd::matmul::{
    MatMut, MatRef, StackMut, StackRef, multiply_stack, multiply_stack_parallel,
};
use nd_simd::{Isa, Kernel, Lanes, SimdReal, dispatch};

use crate::dropout::Dropout;
use crate::rows::{Rows, optional};
use crate::shape::AttentionShape;
use crate::standard::{
    Forward, ForwardOutputs, ScoresBackward, StandardAttention, Tokens, ValueGradients,
    ValuesBackward,
};

/// Rows of the batch from which on they, not the products of a row, are split over threads.
const ROWS_TO_SPLIT: usize = 8;

/// Queries whose probabilities exist at a time: as many as a product adds in one chain, so that it is the same product whether a
/// sequence is cut or not.
const QUERIES: usize = 128;

/// Probabilities that exist at a time, of one row of the batch.
fn probabilities_per_row(s: &AttentionShape) -> usize {
    s.heads * s.queries.min(QUERIES) * s.keys
}

/// Probabilities that exist at a time.
pub(crate) fn probabilities_len(s: &AttentionShape) -> usize {
    s.batch * probabilities_per_row(s)
}

/// The heads of one row: `heads` matrices `[tokens, dim]`.
fn heads_of<R: SimdReal>(
    from: Tokens<'_, R>,
    row: usize,
    tokens: usize,
    heads: usize,
    dim: usize,
) -> StackRef<'_, R> {
    heads_from(from, row * tokens, tokens, heads, dim)
}

/// The heads of the tokens from `first` on.
fn heads_from<R: SimdReal>(
    from: Tokens<'_, R>,
    first: usize,
    tokens: usize,
    heads: usize,
    dim: usize,
) -> StackRef<'_, R> {
    let data = &from.data[(first * from.stride).min(from.data.len())..];
    StackRef::new(
        MatRef::strided(data, tokens, dim, from.stride, 1),
        heads,
        dim,
    )
}

/// The heads of one row of a contiguous output.
fn heads_of_mut<R: SimdReal>(
    to: &mut [R],
    tokens: usize,
    heads: usize,
    dim: usize,
) -> StackMut<'_, R> {
    StackMut::new(MatMut::strided(to, tokens, dim, heads * dim, 1), heads, dim)
}

/// How the work is split: over rows, or inside the products of one row after the other.
#[derive(Clone, Copy)]
struct Split {
    rows: bool,
    products: bool,
}

impl Split {
    fn of<R>(plan: &StandardAttention<R>) -> Self {
        let rows = plan.shape.batch >= ROWS_TO_SPLIT;
        Self {
            rows: plan.parallel && rows,
            products: plan.parallel && !rows,
        }
    }

    fn product<R: SimdReal>(
        self,
        plan: &StandardAttention<R>,
        alpha: R,
        a: StackRef<'_, R>,
        b: StackRef<'_, R>,
        accumulate: Accumulate,
        c: StackMut<'_, R>,
    ) {
        let beta = accumulate.beta();
        if self.products {
            multiply_stack_parallel(plan.level, alpha, a, b, beta, c);
        } else {
            multiply_stack(plan.level, alpha, a, b, beta, c);
        }
    }
}

pub(crate) fn forward<R: SimdReal>(arguments: Forward<'_, R>) {
    let Forward {
        plan,
        q,
        k,
        v,
        residual,
        to,
    } = arguments;
    let ForwardOutputs {
        scores,
        stats,
        output,
        work,
    } = to;
    let s = plan.shape;
    let split = Split::of(plan);
    let per_row = s.scores_per_row();
    let rows = Rows::all(
        s.batch,
        [
            (scores, per_row),
            (stats, s.heads * s.queries * 2),
            (output, s.queries * s.heads * s.value_dim),
            (work, probabilities_per_row(&s)),
        ],
    );
    rows.for_each_block(split.rows, 1, &|rows| {
        let b = rows.first;
        let [scores, stats, output, p] = rows.outputs;
        let q = heads_of(q, b, s.queries, s.heads, s.head_dim);
        let k = heads_of(k, b, s.keys, s.heads, s.head_dim);
        let accumulate = match residual {
            Some(residual) => {
                scores.copy_from_slice(&residual[b * per_row..(b + 1) * per_row]);
                Accumulate::Add
            }
            None => Accumulate::Write,
        };
        let stack = StackMut::contiguous(&mut *scores, s.heads, s.queries, s.keys);
        split.product(plan, plan.scale, q, k.t(), accumulate, stack);
        let v = heads_of(v, b, s.keys, s.heads, s.value_dim);
        for first in (0..s.queries).step_by(QUERIES) {
            let count = QUERIES.min(s.queries - first);
            let each = count * s.keys;
            let p = &mut p[..s.heads * each];
            for (h, p) in p.chunks_exact_mut(each).enumerate() {
                let pair = h * s.queries + first;
                let softmax = Softmax {
                    plan,
                    row: b,
                    first: pair,
                    scores: &scores[pair * s.keys..][..each],
                    stats: &mut stats[2 * pair..][..2 * count],
                    p,
                };
                softmax.split(split.products);
            }
            let p = StackRef::contiguous(p, s.heads, count, s.keys);
            let rest = &mut output[first * s.heads * s.value_dim..];
            let y = heads_of_mut(rest, count, s.heads, s.value_dim);
            split.product(plan, R::ONE, p, v, Accumulate::Write, y);
        }
    });
}

/// Softmaxes worth handing to another thread, in scores.
const SOFTMAX_WORK: usize = 1 << 14;

/// Some (head, query) rows of the softmax of one row of the batch.
struct Softmax<'a, R> {
    plan: &'a StandardAttention<R>,
    row: usize,
    /// The first (head, query) pair.
    first: usize,
    scores: &'a [R],
    stats: &'a mut [R],
    p: &'a mut [R],
}

impl<R: SimdReal> Softmax<'_, R> {
    /// Runs, on several threads if asked.
    fn split(self, parallel: bool) {
        let keys = self.plan.shape.keys;
        let count = self.stats.len() / 2;
        if !parallel || count < 2 || count * keys <= SOFTMAX_WORK {
            dispatch(self.plan.level, self);
            return;
        }
        let half = count / 2;
        let (scores, later_scores) = self.scores.split_at(half * keys);
        let (stats, later_stats) = self.stats.split_at_mut(half * 2);
        let (p, later_p) = self.p.split_at_mut(half * keys);
        let now = Softmax {
            scores,
            stats,
            p,
            ..self
        };
        let later = Softmax {
            plan: self.plan,
            row: self.row,
            first: self.first + half,
            scores: later_scores,
            stats: later_stats,
            p: later_p,
        };
        rayon::join(|| now.split(true), || later.split(true));
    }
}

/// How many keys the query of a (head, query) pair sees.
fn visible<R>(plan: &StandardAttention<R>, pair: usize) -> usize {
    let s = &plan.shape;
    if plan.causal {
        s.keys.min(pair % s.queries + 1)
    } else {
        s.keys
    }
}

impl<R: SimdReal> Kernel for Softmax<'_, R> {
    type Output = ();

    /// Writes normalised probabilities, with dropout, and the stats.
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let keys = self.plan.shape.keys;
        for (i, stats) in self.stats.chunks_exact_mut(2).enumerate() {
            let pair = self.first + i;
            let scores = &self.scores[i * keys..(i + 1) * keys];
            let p = &mut self.p[i * keys..(i + 1) * keys];
            let visible = visible(self.plan, pair);
            let (scores, (p, masked)) = (&scores[..visible], p.split_at_mut(visible));
            masked.fill(R::ZERO);
            let largest = largest::<S, R>(simd, scores);
            let sum = exponentials::<S, R>(simd, scores, largest, R::ONE, p);
            let reciprocal = if sum == R::ZERO {
                R::ZERO
            } else {
                R::ONE / sum
            };
            stats[0] = largest;
            stats[1] = reciprocal;
            scale::<S, R>(simd, reciprocal, p);
            if let Some(dropout) = &self.plan.dropout {
                drop_some(simd, self.plan, dropout, self.row, pair * keys, p);
            }
        }
    }
}

/// The largest score; zero when all are `-inf` or there are none. A NaN may be lost: its own exponential brings it back.
#[inline(always)]
fn largest<S: Isa, R: SimdReal>(simd: S, scores: &[R]) -> R {
    let lowest = R::from_f64(f64::NEG_INFINITY);
    let (full, rest) = R::split::<S>(scores);
    let mut largest = Lanes::<S, R>::splat(simd, lowest);
    for &x in full {
        // Where `x` is NaN, the largest so far stays: `largest_lane` does not promise anything about NaN.
        largest = Lanes::from_raw(simd, x).larger_of(largest);
    }
    let mut out = largest.largest_lane();
    for &x in rest {
        if x > out {
            out = x;
        }
    }
    if out == lowest { R::ZERO } else { out }
}

/// `p = factor e^(score - largest)`; returns the sum.
#[inline(always)]
fn exponentials<S: Isa, R: SimdReal>(
    simd: S,
    scores: &[R],
    largest: R,
    factor: R,
    p: &mut [R],
) -> R {
    let (full, rest) = R::split::<S>(scores);
    let (p_full, p_rest) = R::split_mut::<S>(p);
    let mut sum = Lanes::<S, R>::zero(simd);
    for (&x, p) in full.iter().zip(p_full) {
        let e = exp(Lanes::<S, R>::from_raw(simd, x) - largest) * factor;
        sum += e;
        *p = e.raw();
    }
    let mut sum = sum.sum();
    if !rest.is_empty() {
        let e = exp(Lanes::<S, R>::load_partial(simd, rest) - largest) * factor;
        e.store_partial(p_rest);
        for &e in p_rest.iter() {
            sum += e;
        }
    }
    sum
}

/// `x = factor x`
#[inline(always)]
fn scale<S: Isa, R: SimdReal>(simd: S, factor: R, x: &mut [R]) {
    let (full, rest) = R::split_mut::<S>(x);
    for x in full {
        *x = (Lanes::<S, R>::from_raw(simd, *x) * factor).raw();
    }
    for x in rest {
        *x *= factor;
    }
}

/// Elements whose dropout factors are computed at once.
const FACTORS: usize = 256;

/// Multiplies by the dropout factors of the elements `first ..`.
#[inline(always)]
fn drop_some<S: Isa, R: SimdReal>(
    _: S,
    plan: &StandardAttention<R>,
    dropout: &Dropout,
    row: usize,
    first: usize,
    x: &mut [R],
) {
    let mut factors = [R::ZERO; FACTORS];
    for (i, x) in x.chunks_mut(FACTORS).enumerate() {
        let factors = &mut factors[..x.len()];
        dropout.factors(plan.level, row, first + i * FACTORS, x.len(), factors, 1);
        for (x, &factor) in x.iter_mut().zip(factors.iter()) {
            *x *= factor;
        }
    }
}

pub(crate) fn values_backward<R: SimdReal>(arguments: ValuesBackward<'_, R>) {
    let ValuesBackward {
        plan,
        dy,
        v,
        scores,
        stats,
        to,
    } = arguments;
    let ValueGradients { dscores, dv, work } = to;
    let s = plan.shape;
    let split = Split::of(plan);
    let per_row = s.scores_per_row();
    let dy = Tokens::contiguous(dy, s.heads * s.value_dim);
    let (dv, accumulate_v) = optional(dv, s.keys * s.heads * s.value_dim);
    let accumulate_scores = dscores.accumulate;
    let at_a_time = probabilities_per_row(&s);
    let rows = Rows::all(
        s.batch,
        [(dscores.values, per_row), dv, (work, 2 * at_a_time)],
    );
    rows.for_each_block(split.rows, 1, &|rows| {
        let b = rows.first;
        let [dscores, dv, work] = rows.outputs;
        let (p, dp) = work.split_at_mut(at_a_time);
        let v = heads_of(v, b, s.keys, s.heads, s.value_dim);
        let scores = &scores[b * per_row..(b + 1) * per_row];
        let stats = &stats[b * s.heads * s.queries * 2..(b + 1) * s.heads * s.queries * 2];
        for first in (0..s.queries).step_by(QUERIES) {
            let count = QUERIES.min(s.queries - first);
            let each = count * s.keys;
            let (p, dp) = (&mut p[..s.heads * each], &mut dp[..s.heads * each]);
            let dy = heads_from(dy, b * s.queries + first, count, s.heads, s.value_dim);
            let stack = StackMut::contiguous(&mut *dp, s.heads, count, s.keys);
            split.product(plan, R::ONE, dy, v.t(), Accumulate::Write, stack);
            let heads = p.chunks_exact_mut(each).zip(dp.chunks_exact_mut(each));
            for (h, (p, dp)) in heads.enumerate() {
                let pair = h * s.queries + first;
                let of_block = pair * s.keys..pair * s.keys + each;
                let softmax = SoftmaxBackward {
                    plan,
                    row: b,
                    first: pair,
                    scores: &scores[of_block.clone()],
                    stats: &stats[2 * pair..][..2 * count],
                    p,
                    dp,
                    dscores: &mut dscores[of_block],
                    accumulate: accumulate_scores,
                };
                softmax.split(split.products);
            }
            if let Some(accumulate) = accumulate_v {
                let accumulate = if first == 0 {
                    accumulate
                } else {
                    Accumulate::Add
                };
                let p = StackRef::contiguous(p, s.heads, count, s.keys);
                let dv = heads_of_mut(dv, s.keys, s.heads, s.value_dim);
                split.product(plan, R::ONE, p.t(), dy, accumulate, dv);
            }
        }
    });
}

/// Some (head, query) rows of the softmax's backward pass.
struct SoftmaxBackward<'a, R> {
    plan: &'a StandardAttention<R>,
    row: usize,
    /// The first (head, query) pair.
    first: usize,
    scores: &'a [R],
    stats: &'a [R],
    p: &'a mut [R],
    dp: &'a mut [R],
    dscores: &'a mut [R],
    accumulate: Accumulate,
}

impl<R: SimdReal> SoftmaxBackward<'_, R> {
    /// Runs, on several threads if asked.
    fn split(self, parallel: bool) {
        let keys = self.plan.shape.keys;
        let count = self.stats.len() / 2;
        if !parallel || count < 2 || count * keys <= SOFTMAX_WORK {
            dispatch(self.plan.level, self);
            return;
        }
        let half = count / 2;
        let (scores, later_scores) = self.scores.split_at(half * keys);
        let (stats, later_stats) = self.stats.split_at(half * 2);
        let (p, later_p) = self.p.split_at_mut(half * keys);
        let (dp, later_dp) = self.dp.split_at_mut(half * keys);
        let (dscores, later_dscores) = self.dscores.split_at_mut(half * keys);
        let now = SoftmaxBackward {
            scores,
            stats,
            p,
            dp,
            dscores,
            ..self
        };
        let later = SoftmaxBackward {
            plan: self.plan,
            row: self.row,
            first: self.first + half,
            scores: later_scores,
            stats: later_stats,
            p: later_p,
            dp: later_dp,
            dscores: later_dscores,
            accumulate: self.accumulate,
        };
        rayon::join(|| now.split(true), || later.split(true));
    }
}

impl<R: SimdReal> Kernel for SoftmaxBackward<'_, R> {
    type Output = ();

    /// `ds = p (dp - sum p dp)`; leaves the (dropped) probabilities in `p`.
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let keys = self.plan.shape.keys;
        for (i, stats) in self.stats.chunks_exact(2).enumerate() {
            let pair = self.first + i;
            let of_row = i * keys..(i + 1) * keys;
            let visible = visible(self.plan, pair);
            let scores = &self.scores[of_row.clone()][..visible];
            let (p, masked) = self.p[of_row.clone()].split_at_mut(visible);
            let dp = &mut self.dp[of_row.clone()][..visible];
            let (ds, masked_ds) = self.dscores[of_row].split_at_mut(visible);
            masked.fill(R::ZERO);
            if self.accumulate == Accumulate::Write {
                masked_ds.fill(R::ZERO);
            }
            exponentials::<S, R>(simd, scores, stats[0], stats[1], p);
            if let Some(dropout) = &self.plan.dropout {
                drop_some(simd, self.plan, dropout, self.row, pair * keys, dp);
            }
            let delta = dot::<S, R>(simd, p, dp);
            softmax_gradient::<S, R>(simd, p, dp, delta, ds, self.accumulate);
            if let Some(dropout) = &self.plan.dropout {
                drop_some(simd, self.plan, dropout, self.row, pair * keys, p);
            }
        }
    }
}

#[inline(always)]
fn dot<S: Isa, R: SimdReal>(simd: S, a: &[R], b: &[R]) -> R {
    let (a_full, a_rest) = R::split::<S>(a);
    let (b_full, b_rest) = R::split::<S>(b);
    let mut sum = Lanes::<S, R>::zero(simd);
    for (&a, &b) in a_full.iter().zip(b_full) {
        sum = Lanes::from_raw(simd, a).mul_add(Lanes::from_raw(simd, b), sum);
    }
    let rest = Lanes::<S, R>::load_partial(simd, a_rest) * Lanes::load_partial(simd, b_rest);
    (sum + rest).sum()
}

/// `ds = p (dp - delta)`, or `+=`.
#[inline(always)]
fn softmax_gradient<S: Isa, R: SimdReal>(
    simd: S,
    p: &[R],
    dp: &[R],
    delta: R,
    ds: &mut [R],
    accumulate: Accumulate,
) {
    let (p_full, p_rest) = R::split::<S>(p);
    let (dp_full, dp_rest) = R::split::<S>(dp);
    let (ds_full, ds_rest) = R::split_mut::<S>(ds);
    for ((&p, &dp), ds) in p_full.iter().zip(dp_full).zip(ds_full) {
        let value = Lanes::<S, R>::from_raw(simd, p) * (Lanes::from_raw(simd, dp) - delta);
        *ds = match accumulate {
            Accumulate::Write => value,
            Accumulate::Add => Lanes::from_raw(simd, *ds) + value,
        }
        .raw();
    }
    for ((&p, &dp), ds) in p_rest.iter().zip(dp_rest).zip(ds_rest) {
        accumulate.store(ds, p * (dp - delta));
    }
}

pub(crate) fn scores_backward<R: SimdReal>(arguments: ScoresBackward<'_, R>) {
    let ScoresBackward {
        plan,
        dscores,
        q,
        k,
        dq,
        dk,
    } = arguments;
    let s = plan.shape;
    let split = Split::of(plan);
    let per_row = s.scores_per_row();
    let (dq, accumulate_q) = optional(dq, s.queries * s.heads * s.head_dim);
    let (dk, accumulate_k) = optional(dk, s.keys * s.heads * s.head_dim);
    let rows = Rows::all(s.batch, [dq, dk]);
    rows.for_each_block(split.rows, 1, &|rows| {
        let b = rows.first;
        let [dq, dk] = rows.outputs;
        let ds = &dscores[b * per_row..(b + 1) * per_row];
        let ds = StackRef::contiguous(ds, s.heads, s.queries, s.keys);
        if let Some(accumulate) = accumulate_q {
            let k = heads_of(k, b, s.keys, s.heads, s.head_dim);
            let dq = heads_of_mut(dq, s.queries, s.heads, s.head_dim);
            split.product(plan, plan.scale, ds, k, accumulate, dq);
        }
        if let Some(accumulate) = accumulate_k {
            let q = heads_of(q, b, s.queries, s.heads, s.head_dim);
            let dk = heads_of_mut(dk, s.keys, s.heads, s.head_dim);
            split.product(plan, plan.scale, ds.t(), q, accumulate, dk);
        }
    });
}
