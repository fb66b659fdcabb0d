//! The backward pass of sixteen pairs side by side, in two halves: from the output to the scores and the values, and
//! from the scores to the queries and the keys. Between them stands the gradient of the scores, to which a later layer may add.

use nd_core::autograd::Accumulate;
use nd_simd::math::exp;
use nd_simd::{Isa, Kernel, Lanes, SimdReal};

use super::forward::fill_factors;
use super::product::{Added, Operand, Scaled, TileMut, product};
use super::tile::Pairs;
use super::{NextGroup, Part, rows_per_block, run};
use crate::rows::{Rows, optional};
use crate::scratch::Scratch;
use crate::shape::{GROUP, QUERY_BLOCK};
use crate::standard::{ScoresBackward, StandardAttention, Tokens, ValueGradients, ValuesBackward};

/// Some rows of the half from the output.
struct Values<'a, R> {
    plan: &'a StandardAttention<R>,
    dy: &'a [R],
    v: Tokens<'a, R>,
    scores: &'a [R],
    stats: &'a [R],
    accumulate_scores: Accumulate,
    accumulate_v: Option<Accumulate>,
    /// The gradients of scores and v.
    rows: Rows<'a, R, 2>,
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
    let shape = &plan.shape;
    let ValueGradients { dscores, dv, .. } = to;
    let (dv, accumulate_v) = optional(dv, shape.keys * shape.heads * shape.value_dim);
    let accumulate_scores = dscores.accumulate;
    let rows = Rows::all(shape.batch, [(dscores.values, shape.scores_per_row()), dv]);
    rows.for_each_block(plan.parallel, rows_per_block(shape), &|rows| {
        let block = Values {
            plan,
            dy,
            v,
            scores,
            stats,
            accumulate_scores,
            accumulate_v,
            rows,
        };
        run(plan.level, block);
    });
}

impl<R: SimdReal> Kernel for Values<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self {
            plan,
            dy,
            v,
            scores,
            stats,
            accumulate_scores,
            accumulate_v,
            rows,
        } = self;
        let shape = plan.shape;
        let (first_row, row_count) = (rows.first, rows.count);
        let [dscores, dv] = rows.outputs;
        let (queries, keys, value_dim) = (shape.queries, shape.keys, shape.value_dim);
        let dy = Tokens::contiguous(dy, shape.heads * value_dim);
        let lanes = Lanes::<S, R>::LEN;

        let mut scratch = Scratch::new();
        let scratch = scratch.zeroed::<R>(shape.values_backward_vectors() * lanes);
        let (v_tile, scratch) = scratch.split_at_mut(keys * value_dim * lanes);
        let (dv_tile, scratch) = scratch.split_at_mut(keys * value_dim * lanes);
        let (dy_tile, scratch) = scratch.split_at_mut(QUERY_BLOCK * value_dim * lanes);
        let (p_tile, scratch) = scratch.split_at_mut(QUERY_BLOCK * keys * lanes);
        let (dp_tile, scratch) = scratch.split_at_mut(QUERY_BLOCK * keys * lanes);
        let (drop_tile, spare) = scratch.split_at_mut(QUERY_BLOCK * keys * lanes);

        let first = first_row * shape.scores_per_row();
        let all_scores = scores;
        let scores = R::split::<S>(&scores[first..first + dscores.len()]).0;
        let stats = R::split::<S>(&stats[first_row * shape.heads * queries * 2..]).0;
        let dscores = R::split_mut::<S>(dscores).0;
        let pair_count = row_count * shape.heads;
        for group in 0..pair_count.div_ceil(GROUP) {
            let next = NextGroup::new(&shape, first_row * shape.heads + group * GROUP);
            next.tokens(v, keys);
            next.tokens(dy, queries);
            next.scores(all_scores);
            for part in 0..GROUP / lanes {
                let first = group * GROUP + part * lanes;
                let local = Pairs {
                    first,
                    count: pair_count.saturating_sub(first).min(lanes),
                    heads: shape.heads,
                    tokens: keys,
                    dim: value_dim,
                };
                let whole = Pairs {
                    first: first_row * shape.heads + first,
                    ..local
                };
                let of_scores = Part::new(group, part, queries * keys, lanes);
                let of_stats = Part::new(group, part, queries * 2, lanes);
                whole.gather(simd, v, (0, keys), v_tile);
                dv_tile.fill(R::ZERO);
                let mut start = 0;
                while start < queries {
                    let count = QUERY_BLOCK.min(queries - start);
                    let of_queries = Pairs {
                        tokens: queries,
                        ..whole
                    };
                    of_queries.gather(simd, dy, (start, count), dy_tile);
                    let dy_rows = R::split::<S>(dy_tile).0;
                    product::<S, R>(
                        simd,
                        (count, keys, value_dim),
                        Operand {
                            data: dy_rows,
                            strides: (value_dim, 1),
                        },
                        Operand {
                            data: R::split::<S>(v_tile).0,
                            strides: (value_dim, 1),
                        },
                        &mut Scaled {
                            tile: TileMut {
                                data: R::split_mut::<S>(dp_tile).0,
                                strides: (keys, 1),
                            },
                            factor: R::ONE,
                        },
                    );
                    if let Some(dropout) = &plan.dropout {
                        fill_factors::<S, R>(plan, dropout, whole, (start, count), drop_tile);
                    }
                    let factors = plan.dropout.map(|_| R::split::<S>(drop_tile).0);
                    let p = R::split_mut::<S>(p_tile).0;
                    let dp = R::split_mut::<S>(dp_tile).0;
                    for i in 0..count {
                        let query = start + i;
                        let row = SoftmaxRow::<S, R> {
                            largest: Lanes::from_raw(simd, stats[of_stats.at(2 * query)]),
                            reciprocal: Lanes::from_raw(simd, stats[of_stats.at(2 * query + 1)]),
                            visible: if plan.causal {
                                keys.min(query + 1)
                            } else {
                                keys
                            },
                            part: of_scores,
                            first: query * keys,
                        };
                        let of_row = i * keys..(i + 1) * keys;
                        row.backward(
                            simd,
                            scores,
                            &mut p[of_row.clone()],
                            &mut dp[of_row.clone()],
                            factors.map(|factors| &factors[of_row]),
                            dscores,
                            accumulate_scores,
                        );
                    }
                    if accumulate_v.is_some() {
                        product::<S, R>(
                            simd,
                            (keys, value_dim, count),
                            Operand {
                                data: p,
                                strides: (1, keys),
                            },
                            Operand {
                                data: dy_rows,
                                strides: (1, value_dim),
                            },
                            &mut Added {
                                tile: TileMut {
                                    data: R::split_mut::<S>(dv_tile).0,
                                    strides: (value_dim, 1),
                                },
                            },
                        );
                    }
                    start += count;
                }
                if let Some(accumulate) = accumulate_v {
                    local.scatter(simd, dv_tile, (0, keys), dv, accumulate, spare);
                }
            }
        }
    }
}

/// One query's softmax, one pair per lane.
struct SoftmaxRow<S: Isa, R: SimdReal> {
    largest: Lanes<S, R>,
    reciprocal: Lanes<S, R>,
    visible: usize,
    part: Part,
    /// The place of its first score.
    first: usize,
}

impl<S: Isa, R: SimdReal> SoftmaxRow<S, R> {
    /// `ds = p (dp - sum p dp)` from the gradients `dp` of the probabilities; leaves in `p` the (dropped) probabilities.
    #[inline(always)]
    fn backward(
        &self,
        simd: S,
        scores: &[R::Vector<S>],
        p: &mut [R::Vector<S>],
        dp: &mut [R::Vector<S>],
        factors: Option<&[R::Vector<S>]>,
        dscores: &mut [R::Vector<S>],
        accumulate: Accumulate,
    ) {
        let zero = Lanes::<S, R>::zero(simd);
        let (first, step) = (self.part.at(self.first), self.part.step);
        let scores = scores[first..].iter().step_by(step);
        let mut dscores = dscores[first..].iter_mut().step_by(step);
        let (p, masked) = p.split_at_mut(self.visible);
        let mut delta = zero;
        match factors {
            None => {
                for ((p, dp), &score) in p.iter_mut().zip(dp.iter()).zip(scores) {
                    let probability = self.probability(simd, score);
                    delta = probability.mul_add(Lanes::from_raw(simd, *dp), delta);
                    *p = probability.raw();
                }
            }
            Some(factors) => {
                for (((p, dp), &factor), &score) in
                    p.iter_mut().zip(dp.iter_mut()).zip(factors).zip(scores)
                {
                    let probability = self.probability(simd, score);
                    let gradient = Lanes::from_raw(simd, *dp) * Lanes::from_raw(simd, factor);
                    delta = probability.mul_add(gradient, delta);
                    *dp = gradient.raw();
                    *p = probability.raw();
                }
            }
        }
        let gradients = p.iter().zip(dp.iter()).zip(&mut dscores);
        match accumulate {
            Accumulate::Write => {
                for ((&p, &dp), slot) in gradients {
                    let ds = Lanes::<S, R>::from_raw(simd, p) * (Lanes::from_raw(simd, dp) - delta);
                    *slot = ds.raw();
                }
                for (_, slot) in masked.iter().zip(dscores) {
                    *slot = zero.raw();
                }
            }
            Accumulate::Add => {
                for ((&p, &dp), slot) in gradients {
                    let difference = Lanes::<S, R>::from_raw(simd, dp) - delta;
                    let sum = Lanes::from_raw(simd, *slot);
                    *slot = Lanes::from_raw(simd, p).mul_add(difference, sum).raw();
                }
            }
        }
        if let Some(factors) = factors {
            for (p, &factor) in p.iter_mut().zip(factors) {
                *p = (Lanes::<S, R>::from_raw(simd, *p) * Lanes::from_raw(simd, factor)).raw();
            }
        }
        masked.fill(zero.raw());
    }

    #[inline(always)]
    fn probability(&self, simd: S, score: R::Vector<S>) -> Lanes<S, R> {
        exp(Lanes::from_raw(simd, score) - self.largest) * self.reciprocal
    }
}

/// Some rows of the half from the scores.
struct Scores<'a, R> {
    plan: &'a StandardAttention<R>,
    dscores: &'a [R],
    q: Tokens<'a, R>,
    k: Tokens<'a, R>,
    accumulate_q: Option<Accumulate>,
    accumulate_k: Option<Accumulate>,
    /// The gradients of q and k.
    rows: Rows<'a, R, 2>,
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
    let shape = &plan.shape;
    let (dq, accumulate_q) = optional(dq, shape.queries * shape.heads * shape.head_dim);
    let (dk, accumulate_k) = optional(dk, shape.keys * shape.heads * shape.head_dim);
    let rows = Rows::all(shape.batch, [dq, dk]);
    rows.for_each_block(plan.parallel, rows_per_block(shape), &|rows| {
        let block = Scores {
            plan,
            dscores,
            q,
            k,
            accumulate_q,
            accumulate_k,
            rows,
        };
        run(plan.level, block);
    });
}

impl<R: SimdReal> Kernel for Scores<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self {
            plan,
            dscores,
            q,
            k,
            accumulate_q,
            accumulate_k,
            rows,
        } = self;
        let shape = plan.shape;
        let (first_row, row_count) = (rows.first, rows.count);
        let [dq, dk] = rows.outputs;
        let (queries, keys, head_dim) = (shape.queries, shape.keys, shape.head_dim);
        let lanes = Lanes::<S, R>::LEN;

        let mut scratch = Scratch::new();
        let scratch = scratch.zeroed::<R>(shape.scores_backward_vectors() * lanes);
        let (k_tile, scratch) = scratch.split_at_mut(keys * head_dim * lanes);
        let (dk_tile, scratch) = scratch.split_at_mut(keys * head_dim * lanes);
        let (q_tile, scratch) = scratch.split_at_mut(QUERY_BLOCK * head_dim * lanes);
        let (dq_tile, spare) = scratch.split_at_mut(QUERY_BLOCK * head_dim * lanes);

        let all_dscores = dscores;
        let dscores = R::split::<S>(&dscores[first_row * shape.scores_per_row()..]).0;
        let pair_count = row_count * shape.heads;
        for group in 0..pair_count.div_ceil(GROUP) {
            let next = NextGroup::new(&shape, first_row * shape.heads + group * GROUP);
            next.tokens(k, keys);
            next.tokens(q, queries);
            next.scores(all_dscores);
            for part in 0..GROUP / lanes {
                let first = group * GROUP + part * lanes;
                let local = Pairs {
                    first,
                    count: pair_count.saturating_sub(first).min(lanes),
                    heads: shape.heads,
                    tokens: keys,
                    dim: head_dim,
                };
                let whole = Pairs {
                    first: first_row * shape.heads + first,
                    ..local
                };
                let part = Part::new(group, part, queries * keys, lanes);
                if accumulate_q.is_some() {
                    whole.gather(simd, k, (0, keys), k_tile);
                }
                dk_tile.fill(R::ZERO);
                let mut start = 0;
                while start < queries {
                    let count = QUERY_BLOCK.min(queries - start);
                    let of_block = &dscores[part.at(start * keys)..];
                    if let Some(accumulate) = accumulate_q {
                        product::<S, R>(
                            simd,
                            (count, head_dim, keys),
                            Operand {
                                data: of_block,
                                strides: (keys * part.step, part.step),
                            },
                            Operand {
                                data: R::split::<S>(k_tile).0,
                                strides: (1, head_dim),
                            },
                            &mut Scaled {
                                tile: TileMut {
                                    data: R::split_mut::<S>(dq_tile).0,
                                    strides: (head_dim, 1),
                                },
                                factor: plan.scale,
                            },
                        );
                        let of_queries = Pairs {
                            tokens: queries,
                            ..local
                        };
                        let tokens = (start, count);
                        of_queries.scatter(simd, dq_tile, tokens, dq, accumulate, spare);
                    }
                    if accumulate_k.is_some() {
                        let of_queries = Pairs {
                            tokens: queries,
                            ..whole
                        };
                        of_queries.gather(simd, q, (start, count), q_tile);
                        product::<S, R>(
                            simd,
                            (keys, head_dim, count),
                            Operand {
                                data: of_block,
                                strides: (part.step, keys * part.step),
                            },
                            Operand {
                                data: R::split::<S>(q_tile).0,
                                strides: (1, head_dim),
                            },
                            &mut Added {
                                tile: TileMut {
                                    data: R::split_mut::<S>(dk_tile).0,
                                    strides: (head_dim, 1),
                                },
                            },
                        );
                    }
                    start += count;
                }
                if let Some(accumulate) = accumulate_k {
                    for x in R::split_mut::<S>(dk_tile).0 {
                        *x = (Lanes::<S, R>::from_raw(simd, *x) * plan.scale).raw();
                    }
                    local.scatter(simd, dk_tile, (0, keys), dk, accumulate, spare);
                }
            }
        }
    }
}
