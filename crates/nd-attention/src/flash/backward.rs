//! The backward pass: every block of scores once more, and from it all gradients.
//!
//! ```text
//! delta_i = sum_c dy_ic y_ic
//! P = exp(S - lse)         dP = dy V^T        dS = P (dP - delta)
//! dV += P^T dy             dK += scale dS^T Q       dQ += scale dS K
//! ```
//!
//! One task has some blocks of queries of all heads that share a head of keys, and sums `dK` and `dV` of them in memory of its
//! own. Where there are few heads, the queries of a head are dealt to several tasks like cards, so that a causal mask
//! gives each the same work; how many depends on the shape alone. Their sums are added in the order of the tasks.

use nd_core::autograd::Accumulate;
use nd_core::{Buffer, MemoryPool};
use nd_simd::SimdReal;
use nd_simd::matmul::{MatMut, MatRef, multiply};

use super::forward::{for_each, turn};
use super::mask::Visibility;
use super::memory::{pieces, total};
use super::plan::{Dims, FlashGradients, FlashPlan, LANE_GRAIN};
use super::tile::softmax_again;
use super::views::{HeadsMut, HeadsRef};

/// Tasks that there should be at least.
const TASKS: usize = 8;

/// Tasks that one head of keys is divided into at most: each has its own sums.
const MOST_PARTS: usize = 4;

/// The arguments of a backward pass.
pub(super) struct Backward<'a, R> {
    pub(super) plan: FlashPlan<'a, R>,
    pub(super) dims: Dims,
    pub(super) visibility: Visibility<'a>,
    pub(super) q: HeadsRef<'a, R>,
    pub(super) k: HeadsRef<'a, R>,
    pub(super) v: HeadsRef<'a, R>,
    pub(super) output: HeadsRef<'a, R>,
    pub(super) lse: &'a [R],
    pub(super) dy: HeadsRef<'a, R>,
    pub(super) to: FlashGradients<'a, R>,
}

/// The gradients of one head of keys and values that one task sums.
struct Sums<R: SimdReal> {
    /// `[N_k, d]`
    dk: Buffer<R>,
    /// `[N_k, d_v]`
    dv: Buffer<R>,
}

impl<R: SimdReal> Sums<R> {
    fn zero(pool: &MemoryPool, dims: &Dims) -> Self {
        let mut sums = Self {
            dk: pool.take(dims.keys * dims.head_dim),
            dv: pool.take(dims.keys * dims.value_dim),
        };
        sums.dk.fill(R::ZERO);
        sums.dv.fill(R::ZERO);
        sums
    }
}

/// Into how many tasks the queries of a head of keys are divided.
pub(super) fn parts<R: SimdReal>(plan: &FlashPlan<'_, R>, dims: &Dims) -> usize {
    let (block_q, _) = plan.blocks(dims);
    let blocks = dims.queries.div_ceil(block_q);
    let heads = dims.batch * dims.kv_heads;
    TASKS
        .div_ceil(heads.max(1))
        .min(MOST_PARTS)
        .min(blocks.max(1))
}

/// All gradients.
pub(super) fn run<R: SimdReal>(arguments: &Backward<'_, R>) {
    let dims = &arguments.dims;
    let heads = dims.batch * dims.kv_heads;
    let parts = parts(&arguments.plan, dims);
    for_each(arguments.plan.parallel, 0, heads, &|head| {
        let (b, kv) = (head / dims.kv_heads, head % dims.kv_heads);
        let sums = sum_parts(arguments, (b, kv), 0, parts, parts);
        let Sums { dk, dv } = sums;
        // SAFETY: this head of keys and values is this task's.
        unsafe {
            deliver(&arguments.to.dk, (b, kv), &dk);
            deliver(&arguments.to.dv, (b, kv), &dv);
        }
    });
}

/// The sums of the parts `start..end`, halves in parallel; always added in the same order.
fn sum_parts<R: SimdReal>(
    arguments: &Backward<'_, R>,
    head: (usize, usize),
    start: usize,
    end: usize,
    parts: usize,
) -> Sums<R> {
    if end - start == 1 {
        return part(arguments, head, start, parts);
    }
    let middle = start + (end - start) / 2;
    let left = || sum_parts(arguments, head, start, middle, parts);
    let right = || sum_parts(arguments, head, middle, end, parts);
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
unsafe fn deliver<R: SimdReal>(
    to: &Option<(HeadsMut<'_, R>, Accumulate)>,
    (b, h): (usize, usize),
    values: &[R],
) {
    let Some((to, accumulate)) = to else {
        return;
    };
    let channels = to.layout().channels;
    for (n, from) in values.chunks_exact(channels.max(1)).enumerate() {
        // SAFETY: the caller's.
        let row = unsafe { to.row(b, h, n) };
        match accumulate {
            Accumulate::Write => row.copy_from_slice(from),
            Accumulate::Add => {
                for (x, &y) in row.iter_mut().zip(from) {
                    *x += y;
                }
            }
        }
    }
}

/// Every `parts`-th block of queries, from `start` on.
fn part<R: SimdReal>(
    arguments: &Backward<'_, R>,
    (b, kv): (usize, usize),
    start: usize,
    parts: usize,
) -> Sums<R> {
    let dims = &arguments.dims;
    let (block_q, _) = arguments.plan.blocks(dims);
    let mut sums = Sums::zero(arguments.plan.pool, dims);
    for h in kv * dims.group()..(kv + 1) * dims.group() {
        for first in (start * block_q..dims.queries).step_by(parts * block_q) {
            let count = block_q.min(dims.queries - first);
            query_block(arguments, (b, h, kv), first, count, &mut sums);
        }
    }
    sums
}

fn query_block<R: SimdReal>(
    arguments: &Backward<'_, R>,
    (b, h, kv): (usize, usize, usize),
    first: usize,
    count: usize,
    sums: &mut Sums<R>,
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
        to,
    } = arguments;
    let level = plan.level;
    let (_, block_k) = plan.blocks(dims);
    let (d, dv) = (dims.head_dim, dims.value_dim);
    let width = count.next_multiple_of(LANE_GRAIN);
    let lengths = plan.backward_memory(dims);
    let mut memory = plan.pool.take::<R>(total(&lengths));
    let [queries, gradients, stats, scores, dscores, dq, factors] = pieces(&mut memory, lengths);
    let queries = &mut queries[..d * width];
    let gradients = &mut gradients[..dv * width];
    let dq = &mut dq[..count * d];
    turn(level, q, (b, h), first, count, plan.scale, queries, width);
    turn(level, dy, (b, h), first, count, R::ONE, gradients, width);
    let (log_sums, delta) = stats[..2 * width].split_at_mut(width);
    let logs = &lse[(b * dims.heads + h) * dims.queries + first..][..count];
    for (to, &log) in log_sums.iter_mut().zip(logs) {
        // A query that sees nothing has probabilities exp(-inf - inf) = 0.
        *to = if log == R::from_f64(f64::NEG_INFINITY) {
            R::from_f64(f64::INFINITY)
        } else {
            log
        };
    }
    log_sums[count..].fill(R::from_f64(f64::INFINITY));
    for (i, delta) in delta[..count].iter_mut().enumerate() {
        let (y, dy) = (output.row(b, h, first + i), dy.row(b, h, first + i));
        *delta = R::from_f64(nd_simd::reduce::dot_slice(level, y, dy));
    }
    delta[count..].fill(R::ZERO);
    let mut empty = true;
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
        let (k_block, v_block) = (
            k.block(b, kv, keys.0, keys.1),
            v.block(b, kv, keys.0, keys.1),
        );
        let (qt, dyt) = (
            MatRef::row_major(queries, d, width),
            MatRef::row_major(gradients, dv, width),
        );
        multiply(
            level,
            R::ONE,
            k_block,
            qt,
            R::ZERO,
            MatMut::row_major(scores, keys.1, width),
        );
        plan.prepare(
            dims,
            visibility,
            (b, h),
            (first, count),
            keys,
            scores,
            width,
        );
        multiply(
            level,
            R::ONE,
            v_block,
            dyt,
            R::ZERO,
            MatMut::row_major(dscores, keys.1, width),
        );
        plan.dropout_factors(dims, (b, h), (first, count), keys, factors, width);
        softmax_again(level, scores, dscores, width, log_sums, delta, factors);
        // [keys, queries] without the lanes beyond.
        let probabilities = MatRef::strided(scores, keys.1, count, width, 1);
        let dscores = MatRef::strided(dscores, keys.1, count, width, 1);
        if to.dv.is_some() {
            let sum = &mut sums.dv[keys.0 * dv..(keys.0 + keys.1) * dv];
            let sum = MatMut::row_major(sum, keys.1, dv);
            let dy = dy.block(b, h, first, count);
            multiply(level, R::ONE, probabilities, dy, R::ONE, sum);
        }
        if to.dk.is_some() {
            let sum = &mut sums.dk[keys.0 * d..(keys.0 + keys.1) * d];
            let sum = MatMut::row_major(sum, keys.1, d);
            let q = q.block(b, h, first, count);
            multiply(level, plan.scale, dscores, q, R::ONE, sum);
        }
        if to.dq.is_some() {
            let beta = if empty { R::ZERO } else { R::ONE };
            let sum = MatMut::row_major(dq, count, d);
            multiply(level, plan.scale, dscores.t(), k_block, beta, sum);
        }
        empty = false;
    }
    if let Some((to, accumulate)) = &to.dq {
        if empty {
            dq.fill(R::ZERO);
        }
        for (i, from) in dq.chunks_exact(d).enumerate() {
            // SAFETY: these queries of this head are this task's.
            let row = unsafe { to.row(b, h, first + i) };
            match accumulate {
                Accumulate::Write => row.copy_from_slice(from),
                Accumulate::Add => {
                    for (x, &y) in row.iter_mut().zip(from) {
                        *x += y;
                    }
                }
            }
        }
    }
}
