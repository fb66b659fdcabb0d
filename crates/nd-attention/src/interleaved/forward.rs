//! The forward pass of sixteen pairs side by side.

use nd_core::autograd::Accumulate;
use nd_simd::math::exp;
use nd_simd::{Isa, Kernel, Lanes, SimdReal};

use super::product::{Operand, ScaledRows, Scores, TileMut, product};
use super::tile::Pairs;
use super::{NextGroup, Part, rows_per_block, run};
use crate::rows::Rows;
use crate::scratch::Scratch;
use crate::shape::{GROUP, QUERY_BLOCK};
use crate::standard::{Forward, ForwardOutputs, StandardAttention, Tokens};

/// Some rows of a forward pass.
struct Block<'a, R> {
    plan: &'a StandardAttention<R>,
    q: Tokens<'a, R>,
    k: Tokens<'a, R>,
    v: Tokens<'a, R>,
    residual: Option<&'a [R]>,
    /// Scores, stats and output.
    rows: Rows<'a, R, 3>,
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
        ..
    } = to;
    let shape = &plan.shape;
    let rows = Rows::all(
        shape.batch,
        [
            (scores, shape.scores_per_row()),
            (stats, shape.heads * shape.queries * 2),
            (output, shape.queries * shape.heads * shape.value_dim),
        ],
    );
    rows.for_each_block(plan.parallel, rows_per_block(shape), &|rows| {
        let block = Block {
            plan,
            q,
            k,
            v,
            residual,
            rows,
        };
        run(plan.level, block);
    });
}

impl<R: SimdReal> Kernel for Block<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self {
            plan,
            q,
            k,
            v,
            residual,
            rows,
        } = self;
        let shape = plan.shape;
        let (first_row, row_count) = (rows.first, rows.count);
        let [scores, stats, output] = rows.outputs;
        let (queries, keys) = (shape.queries, shape.keys);
        let (head_dim, value_dim) = (shape.head_dim, shape.value_dim);
        let lanes = Lanes::<S, R>::LEN;

        let mut scratch = Scratch::new();
        let scratch = scratch.zeroed::<R>(shape.forward_vectors() * lanes);
        let (k_tile, scratch) = scratch.split_at_mut(keys * head_dim * lanes);
        let (v_tile, scratch) = scratch.split_at_mut(keys * value_dim * lanes);
        let (q_tile, scratch) = scratch.split_at_mut(QUERY_BLOCK * head_dim * lanes);
        let (y_tile, scratch) = scratch.split_at_mut(QUERY_BLOCK * value_dim * lanes);
        let (p_tile, drop_tile) = scratch.split_at_mut(QUERY_BLOCK * keys * lanes);

        let whole_residual = residual;
        let residual = residual.map(|residual| {
            let first = first_row * shape.scores_per_row();
            R::split::<S>(&residual[first..first + scores.len()]).0
        });
        let scores = R::split_mut::<S>(scores).0;
        let stats = R::split_mut::<S>(stats).0;
        let pair_count = row_count * shape.heads;
        for group in 0..pair_count.div_ceil(GROUP) {
            let next = NextGroup::new(&shape, first_row * shape.heads + group * GROUP);
            next.tokens(k, keys);
            next.tokens(v, keys);
            next.tokens(q, queries);
            if let Some(residual) = whole_residual {
                next.scores(residual);
            }
            next.written(scores, group, queries * keys * GROUP / lanes);
            next.written(output, group, queries * value_dim * GROUP);
            for part in 0..GROUP / lanes {
                let first = group * GROUP + part * lanes;
                // Inputs are whole arrays, outputs begin with the first row of this block.
                let local = Pairs {
                    first,
                    count: pair_count.saturating_sub(first).min(lanes),
                    heads: shape.heads,
                    tokens: queries,
                    dim: value_dim,
                };
                let whole = Pairs {
                    first: first_row * shape.heads + first,
                    ..local
                };
                let of_scores = Part::new(group, part, queries * keys, lanes);
                let of_stats = Part::new(group, part, queries * 2, lanes);
                let of_keys = Pairs {
                    tokens: keys,
                    dim: head_dim,
                    ..whole
                };
                of_keys.gather(simd, k, (0, keys), k_tile);
                let of_values = Pairs {
                    tokens: keys,
                    ..whole
                };
                of_values.gather(simd, v, (0, keys), v_tile);
                let mut start = 0;
                while start < queries {
                    let count = QUERY_BLOCK.min(queries - start);
                    let of_queries = Pairs {
                        dim: head_dim,
                        ..whole
                    };
                    of_queries.gather(simd, q, (start, count), q_tile);
                    product::<S, R>(
                        simd,
                        (count, keys, head_dim),
                        Operand {
                            data: R::split::<S>(q_tile).0,
                            strides: (head_dim, 1),
                        },
                        Operand {
                            data: R::split::<S>(k_tile).0,
                            strides: (head_dim, 1),
                        },
                        &mut Scores {
                            tile: TileMut {
                                data: R::split_mut::<S>(p_tile).0,
                                strides: (keys, 1),
                            },
                            scores: TileMut {
                                data: &mut scores[of_scores.at(start * keys)..],
                                strides: (keys * of_scores.step, of_scores.step),
                            },
                            residual: residual.map(|r| &r[of_scores.at(start * keys)..]),
                            scale: plan.scale,
                        },
                    );
                    let p = R::split_mut::<S>(p_tile).0;
                    for i in 0..count {
                        let query = start + i;
                        let visible = if plan.causal {
                            keys.min(query + 1)
                        } else {
                            keys
                        };
                        let p = &mut p[i * keys..(i + 1) * keys];
                        let (largest, reciprocal) = softmax::<S, R>(simd, visible, p);
                        stats[of_stats.at(2 * query)] = largest.raw();
                        stats[of_stats.at(2 * query + 1)] = reciprocal.raw();
                    }
                    if let Some(dropout) = &plan.dropout {
                        fill_factors::<S, R>(plan, dropout, whole, (start, count), drop_tile);
                        let factors = R::split::<S>(drop_tile).0;
                        for (p, &factor) in p[..count * keys].iter_mut().zip(factors) {
                            *p = (Lanes::<S, R>::from_raw(simd, *p)
                                * Lanes::from_raw(simd, factor))
                            .raw();
                        }
                    }
                    product::<S, R>(
                        simd,
                        (count, value_dim, keys),
                        Operand {
                            data: p,
                            strides: (keys, 1),
                        },
                        Operand {
                            data: R::split::<S>(v_tile).0,
                            strides: (1, value_dim),
                        },
                        &mut ScaledRows {
                            tile: TileMut {
                                data: R::split_mut::<S>(y_tile).0,
                                strides: (value_dim, 1),
                            },
                            factors: &stats[of_stats.at(2 * start + 1)..],
                            step: 2 * of_stats.step,
                        },
                    );
                    local.scatter(
                        simd,
                        y_tile,
                        (start, count),
                        output,
                        Accumulate::Write,
                        q_tile,
                    );
                    start += count;
                }
            }
        }
    }
}

/// Turns scores into `e^(score - largest)`, zero for masked keys; returns the largest score and the reciprocal of the sum.
///
/// Where every visible score is `-inf` the largest counts as zero, and the reciprocal of the sum of zeros as zero.
#[inline(always)]
fn softmax<S: Isa, R: SimdReal>(
    simd: S,
    visible: usize,
    p: &mut [R::Vector<S>],
) -> (Lanes<S, R>, Lanes<S, R>) {
    let zero = Lanes::<S, R>::zero(simd);
    let lowest = Lanes::<S, R>::splat(simd, R::from_f64(f64::NEG_INFINITY));
    let (p, masked) = p.split_at_mut(visible);
    let mut largest = lowest;
    for &score in p.iter() {
        // A NaN may be lost here; its own exponential brings it back.
        largest = largest.larger_of(Lanes::from_raw(simd, score));
    }
    let largest = largest.equal(lowest).select(zero, largest);
    let mut sum = zero;
    for p in p {
        let e = exp(Lanes::from_raw(simd, *p) - largest);
        sum += e;
        *p = e.raw();
    }
    masked.fill(zero.raw());
    let one = Lanes::splat(simd, R::ONE);
    (largest, sum.equal(zero).select(zero, one / sum))
}

/// `tile[i, j, lane]`: the dropout factors of a block of queries.
#[inline(always)]
pub(super) fn fill_factors<S: Isa, R: SimdReal>(
    plan: &StandardAttention<R>,
    dropout: &crate::Dropout,
    pairs: Pairs,
    (start, count): (usize, usize),
    tile: &mut [R],
) {
    let shape = &plan.shape;
    for lane in 0..pairs.count {
        let pair = pairs.first + lane;
        let (b, h) = (pair / shape.heads, pair % shape.heads);
        dropout.factors(
            plan.level,
            b,
            (h * shape.queries + start) * shape.keys,
            count * shape.keys,
            &mut tile[lane..],
            Lanes::<S, R>::LEN,
        );
    }
}
