//! The backward pass: every block of scores once more, and from it all gradients.
//!
//! ```text
//! delta_i = sum_c dy_ic y_ic
//! P = exp(S - lse)         dP = dy V^T        dS = P (dP - delta)
//! dV += P^T dy             dK += scale dS^T Q       dQ += scale dS K       dbias += dS
//! ```
//!
//! One task has some blocks of queries of all heads that share a head of values, and sums `dK` and `dV` of them in memory of its
//! own. Where there are few heads, the queries of a head are dealt to several tasks like cards, so that a causal mask
//! gives each the same work; how many depends on the shape alone. Their sums are added in the order of the tasks.

use nd_core::autograd::Accumulate;
use nd_core::{Buffer, Element, MemoryPool, Real, SimdLevel};
use nd_simd::SimdReal;
use nd_simd::matmul::{Bf16Engine, MatMut, MatRef};

use super::bias::{self, BiasMut};
use super::element::{Blocks, with_engine};
use super::forward::for_each;
use super::mask::Visibility;
use super::memory::{pieces, total};
use super::plan::{Dims, FlashPlan, LANE_GRAIN};
use super::tile::softmax_again;
use super::views::{HeadsMut, HeadsRef};

/// Tasks that there should be at least.
const TASKS: usize = 8;

/// Tasks that one head of values is divided into at most: each has its own sums.
const MOST_PARTS: usize = 4;

/// The arguments of a backward pass.
pub(super) struct Backward<'a, E: Blocks> {
    pub(super) plan: FlashPlan<'a, E::Sum>,
    pub(super) dims: Dims,
    pub(super) visibility: Visibility<'a>,
    pub(super) q: HeadsRef<'a, E::Element>,
    pub(super) k: HeadsRef<'a, E::Element>,
    pub(super) v: HeadsRef<'a, E::Element>,
    pub(super) output: HeadsRef<'a, E::Element>,
    pub(super) lse: &'a [E::Sum],
    pub(super) dy: HeadsRef<'a, E::Element>,
    pub(super) dq: Option<(HeadsMut<'a, E::Element>, Accumulate)>,
    pub(super) dk: Option<(HeadsMut<'a, E::Element>, Accumulate)>,
    pub(super) dv: Option<(HeadsMut<'a, E::Element>, Accumulate)>,
    pub(super) dbias: Option<BiasMut<'a, E::Sum>>,
}

/// The gradients of one head of values, and of the heads of keys that share it, that one task sums.
struct Sums<R: SimdReal> {
    /// `[heads of keys, N_k, d]`
    dk: Buffer<R>,
    /// `[N_k, d_v]`
    dv: Buffer<R>,
}

impl<R: SimdReal> Sums<R> {
    fn zero(pool: &MemoryPool, dims: &Dims) -> Self {
        let mut sums = Self {
            dk: pool.take(dims.kv_group() * dims.keys * dims.head_dim),
            dv: pool.take(dims.keys * dims.value_dim),
        };
        sums.dk.fill(R::ZERO);
        sums.dv.fill(R::ZERO);
        sums
    }
}

/// Into how many tasks the queries of a head of values are divided.
pub(super) fn parts<R: SimdReal>(plan: &FlashPlan<'_, R>, dims: &Dims) -> usize {
    let (block_q, _) = plan.blocks(dims);
    let blocks = dims.queries.div_ceil(block_q);
    let heads = dims.batch * dims.value_heads;
    TASKS
        .div_ceil(heads.max(1))
        .min(MOST_PARTS)
        .min(blocks.max(1))
}

/// All gradients.
pub(super) fn run<E: Blocks>(arguments: &Backward<'_, E>) {
    let dims = &arguments.dims;
    let only_bias = arguments.dq.is_none() && arguments.dk.is_none() && arguments.dv.is_none();
    let later = match &arguments.dbias {
        Some(dbias) => {
            dbias.begin(dims);
            !dbias.is_own(dims)
        }
        None => false,
    };
    if later {
        bias::run(arguments);
        if only_bias {
            return;
        }
    }
    let heads = dims.batch * dims.value_heads;
    let engine = E::engine(arguments.plan.level);
    let parts = parts(&arguments.plan, dims);
    for_each(arguments.plan.parallel, 0, heads, &|head| {
        let (b, v) = (head / dims.value_heads, head % dims.value_heads);
        let Sums { dk, dv } = sum_parts(arguments, engine, (b, v), 0, parts, parts);
        // SAFETY: this head of values and the heads of keys that share it are this task's.
        unsafe {
            let level = arguments.plan.level;
            deliver::<E>(level, &arguments.dv, (b, v), &dv);
            let each = dims.keys * dims.head_dim;
            for (i, dk) in dk.chunks_exact(each).enumerate() {
                deliver::<E>(level, &arguments.dk, (b, v * dims.kv_group() + i), dk);
            }
        }
    });
}

/// The sums of the parts `start..end`, halves in parallel; always added in the same order.
fn sum_parts<E: Blocks>(
    arguments: &Backward<'_, E>,
    engine: Option<Bf16Engine>,
    head: (usize, usize),
    start: usize,
    end: usize,
    parts: usize,
) -> Sums<E::Sum> {
    if end - start == 1 {
        return with_engine(engine, || part(arguments, head, start, parts));
    }
    let middle = start + (end - start) / 2;
    let left = || sum_parts(arguments, engine, head, start, middle, parts);
    let right = || sum_parts(arguments, engine, head, middle, end, parts);
    let (mut left, right) = if arguments.plan.parallel {
        rayon::join(left, right)
    } else {
        (left(), right())
    };
    for (sum, term) in [(&mut left.dk, &right.dk), (&mut left.dv, &right.dv)] {
        nd_simd::elementwise::accumulate(arguments.plan.level, term, sum, Accumulate::Add);
    }
    left
}

/// Writes or adds the gradient of a head.
///
/// # Safety
/// The head is the caller's.
unsafe fn deliver<E: Blocks>(
    level: SimdLevel,
    to: &Option<(HeadsMut<'_, E::Element>, Accumulate)>,
    (b, h): (usize, usize),
    values: &[E::Sum],
) {
    let Some((to, how)) = to else {
        return;
    };
    let channels = to.layout().channels;
    for (n, from) in values.chunks_exact(channels.max(1)).enumerate() {
        // SAFETY: the caller's.
        let row = unsafe { to.row(b, h, n) };
        E::deliver(level, from, *how, row);
    }
}

/// Every `parts`-th block of queries, from `start` on.
fn part<E: Blocks>(
    arguments: &Backward<'_, E>,
    (b, v): (usize, usize),
    start: usize,
    parts: usize,
) -> Sums<E::Sum> {
    let dims = &arguments.dims;
    let (block_q, _) = arguments.plan.blocks(dims);
    let mut sums = Sums::zero(arguments.plan.pool, dims);
    for h in v * dims.value_group()..(v + 1) * dims.value_group() {
        for first in (start * block_q..dims.queries).step_by(parts * block_q) {
            let count = block_q.min(dims.queries - first);
            query_block(arguments, (b, h), first, count, &mut sums);
        }
    }
    sums
}

/// A block of scores in the backward pass, `[keys, width]` with the queries across.
pub(super) struct Tile<'a, R> {
    /// The first key, and how many.
    pub(super) keys: (usize, usize),
    /// Probabilities, after dropout.
    pub(super) probabilities: &'a [R],
    /// The gradient of the scores.
    pub(super) dscores: &'a [R],
    pub(super) width: usize,
}

/// Calls `visit` with every block of scores of a block of queries.
pub(super) fn for_each_tile<E: Blocks>(
    arguments: &Backward<'_, E>,
    (b, h): (usize, usize),
    first: usize,
    count: usize,
    mut visit: impl FnMut(&Tile<'_, E::Sum>),
) {
    let Backward {
        plan,
        dims,
        visibility,
        q,
        k,
        v,
        output,
        lse,
        dy,
        ..
    } = arguments;
    let level = plan.level;
    let one = E::Sum::ONE;
    let (key_head, value_head) = (dims.key_head(h), dims.value_head(h));
    let (_, block_k) = plan.blocks(dims);
    let (d, dv) = (dims.head_dim, dims.value_dim);
    let width = count.next_multiple_of(LANE_GRAIN);
    let infinite = E::Sum::from_f64(f64::INFINITY);
    let lengths = plan.backward_memory(dims);
    let mut memory = plan.pool.take::<E::Sum>(total(&lengths));
    let [stats, scores, dscores, factors] = pieces(&mut memory, lengths);
    let mut queries = plan.pool.take::<E::Packed>(E::packed_len(d, width));
    let mut gradients = plan.pool.take::<E::Packed>(E::packed_len(dv, width));
    E::pack(
        level,
        q.block(b, h, first, count),
        plan.scale,
        &mut queries,
        width,
    );
    E::pack(
        level,
        dy.block(b, h, first, count),
        one,
        &mut gradients,
        width,
    );
    let (log_sums, delta) = stats[..2 * width].split_at_mut(width);
    let logs = &lse[(b * dims.heads + h) * dims.queries + first..][..count];
    for (to, &log) in log_sums.iter_mut().zip(logs) {
        // A query that sees nothing has probabilities exp(-inf - inf) = 0.
        *to = if log == -infinite { infinite } else { log };
    }
    log_sums[count..].fill(infinite);
    for (i, delta) in delta[..count].iter_mut().enumerate() {
        *delta = E::dot(level, output.row(b, h, first + i), dy.row(b, h, first + i));
    }
    delta[count..].fill(E::Sum::ZERO);
    let (start, end) = visibility.keys_of(b, first, count);
    let mut key = start;
    while key < end {
        let keys = (key, block_k.min(end - key));
        key += keys.1;
        if !visibility.any((first, count), keys) {
            continue;
        }
        let scores = &mut scores[..keys.1 * width];
        let dscores = &mut dscores[..keys.1 * width];
        let dropped = factors.len().min(keys.1 * width);
        let factors = &mut factors[..dropped];
        let key_block = k.block(b, key_head, keys.0, keys.1);
        E::scores(level, plan.scale, key_block, &queries, width, scores);
        plan.prepare(
            dims,
            visibility,
            (b, h),
            (first, count),
            keys,
            scores,
            width,
        );
        let value_block = v.block(b, value_head, keys.0, keys.1);
        E::scores(level, one, value_block, &gradients, width, dscores);
        plan.dropout_factors(dims, (b, h), (first, count), keys, factors, width);
        softmax_again(level, scores, dscores, width, log_sums, delta, factors);
        visit(&Tile {
            keys,
            probabilities: scores,
            dscores,
            width,
        });
    }
}

fn query_block<E: Blocks>(
    arguments: &Backward<'_, E>,
    (b, h): (usize, usize),
    first: usize,
    count: usize,
    sums: &mut Sums<E::Sum>,
) {
    let (plan, dims) = (&arguments.plan, &arguments.dims);
    let (zero, one) = (E::Sum::ZERO, E::Sum::ONE);
    let (d, dv) = (dims.head_dim, dims.value_dim);
    let key_head = dims.key_head(h);
    let dk_start = key_head % dims.kv_group() * dims.keys * d;
    let own_bias = arguments.dbias.as_ref().filter(|dbias| dbias.is_own(dims));
    let wanted = if arguments.dq.is_some() { count * d } else { 0 };
    let mut dq = plan.pool.take::<E::Sum>(wanted);
    let mut empty = true;
    for_each_tile(arguments, (b, h), first, count, |tile| {
        let (start, keys) = tile.keys;
        // [keys, queries] without the lanes beyond.
        let probabilities = MatRef::strided(tile.probabilities, keys, count, tile.width, 1);
        let dscores = MatRef::strided(tile.dscores, keys, count, tile.width, 1);
        if arguments.dv.is_some() {
            let sum = &mut sums.dv[start * dv..(start + keys) * dv];
            let sum = MatMut::row_major(sum, keys, dv);
            let dy = arguments.dy.block(b, h, first, count);
            E::weigh(plan.level, one, probabilities, dy, one, sum);
        }
        if arguments.dk.is_some() {
            let sum = &mut sums.dk[dk_start + start * d..dk_start + (start + keys) * d];
            let sum = MatMut::row_major(sum, keys, d);
            let q = arguments.q.block(b, h, first, count);
            E::weigh(plan.level, plan.scale, dscores, q, one, sum);
        }
        if arguments.dq.is_some() {
            let beta = if empty { zero } else { one };
            let sum = MatMut::row_major(&mut dq, count, d);
            let k = arguments.k.block(b, key_head, start, keys);
            E::weigh(plan.level, plan.scale, dscores.t(), k, beta, sum);
        }
        if let Some(dbias) = own_bias {
            // SAFETY: the bias of these queries of this head is this task's.
            unsafe { dbias.add(dims, (b, h), (first, count), tile) };
        }
        empty = false;
    });
    if let Some((to, how)) = &arguments.dq {
        if empty {
            dq.fill(zero);
        }
        for (i, from) in dq.chunks_exact(d).enumerate() {
            // SAFETY: these queries of this head are this task's.
            let row = unsafe { to.row(b, h, first + i) };
            E::deliver(plan.level, from, *how, row);
        }
    }
}
