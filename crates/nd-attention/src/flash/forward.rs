//! The forward pass of a block of queries.

use nd_core::SimdLevel;
use nd_simd::matmul::{MatMut, MatRef, multiply};
use nd_simd::permute::transpose_block;
use nd_simd::{Isa, Kernel, SimdReal, dispatch};

use super::mask::Visibility;
use super::memory::{pieces, total};
use super::plan::{Dims, FlashPlan};
use super::tile::{Running, online_softmax, scale_rows};
use super::views::{HeadsMut, HeadsRef};

/// The arguments of a forward pass.
pub(super) struct Forward<'a, R> {
    plan: FlashPlan<'a, R>,
    dims: Dims,
    visibility: Visibility<'a>,
    q: HeadsRef<'a, R>,
    k: HeadsRef<'a, R>,
    v: HeadsRef<'a, R>,
    output: HeadsMut<'a, R>,
    /// `[B, H, N_q]`, a token of one channel for each query.
    lse: HeadsMut<'a, R>,
}

impl<'a, R: SimdReal> Forward<'a, R> {
    pub(super) fn new(
        plan: FlashPlan<'a, R>,
        dims: Dims,
        visibility: Visibility<'a>,
        [q, k, v]: [HeadsRef<'a, R>; 3],
        output: HeadsMut<'a, R>,
        lse: &'a mut [R],
    ) -> Self {
        let layout = super::views::HeadLayout::head_major(dims.batch, dims.heads, dims.queries, 1);
        Self {
            plan,
            dims,
            visibility,
            q,
            k,
            v,
            output,
            lse: HeadsMut::new(lse, layout),
        }
    }
}

/// All blocks of queries of all heads.
pub(super) fn run<R: SimdReal>(arguments: &Forward<'_, R>) {
    let dims = &arguments.dims;
    let (block_q, _) = arguments.plan.blocks(dims);
    let blocks = dims.queries.div_ceil(block_q);
    let tasks = dims.batch * dims.heads * blocks;
    for_each(arguments.plan.parallel, 0, tasks, &|task| {
        let (pair, block) = (task / blocks, task % blocks);
        let first = block * block_q;
        let count = block_q.min(dims.queries - first);
        query_block(
            arguments,
            (pair / dims.heads, pair % dims.heads),
            first,
            count,
        );
    });
}

/// Calls `work` with `start..end`, in parallel if asked; without allocation.
pub(super) fn for_each(parallel: bool, start: usize, end: usize, work: &(impl Fn(usize) + Sync)) {
    if !parallel {
        (start..end).for_each(work);
    } else if end - start > 1 {
        let middle = start + (end - start) / 2;
        rayon::join(
            || for_each(true, start, middle, work),
            || for_each(true, middle, end, work),
        );
    } else if end > start {
        work(start);
    }
}

fn query_block<R: SimdReal>(
    arguments: &Forward<'_, R>,
    (b, h): (usize, usize),
    first: usize,
    count: usize,
) {
    let Forward {
        plan,
        dims,
        visibility,
        q,
        k,
        v,
        output,
        lse,
    } = arguments;
    let level = plan.level;
    let (_, block_k) = plan.blocks(dims);
    let (d, dv) = (dims.head_dim, dims.value_dim);
    let kv = h / dims.group();
    let width = count.next_multiple_of(super::plan::LANE_GRAIN);
    let lowest = R::from_f64(f64::NEG_INFINITY);
    let lengths = plan.forward_memory(dims);
    let mut memory = plan.pool.take::<R>(total(&lengths));
    let [queries, tile, out, stats, factors] = pieces(&mut memory, lengths);
    let queries = &mut queries[..d * width];
    let out = &mut out[..count * dv];
    turn(level, q, (b, h), first, count, plan.scale, queries, width);
    let (largest, rest) = stats.split_at_mut(width);
    let (sum, rest) = rest.split_at_mut(width);
    let factor = &mut rest[..width];
    largest.fill(lowest);
    sum.fill(R::ZERO);
    let mut empty = true;
    let (start, end) = visibility.keys_of(b, first, count);
    let mut key = start;
    while key < end {
        let keys = (key, block_k.min(end - key));
        key += keys.1;
        if !visibility.any((first, count), keys) {
            continue;
        }
        let tile = &mut tile[..keys.1 * width];
        multiply(
            level,
            R::ONE,
            k.block(b, kv, keys.0, keys.1),
            MatRef::row_major(queries, d, width),
            R::ZERO,
            MatMut::row_major(tile, keys.1, width),
        );
        plan.prepare(dims, visibility, (b, h), (first, count), keys, tile, width);
        let running = Running {
            largest: &mut *largest,
            sum: &mut *sum,
            factor: &mut *factor,
        };
        if online_softmax(level, tile, width, running) && !empty {
            scale_rows(level, out, dv, &factor[..count]);
        }
        if plan.dropout.is_some() {
            let factors = &mut factors[..keys.1 * width];
            plan.dropout_factors(dims, (b, h), (first, count), keys, factors, width);
            for (x, &factor) in tile.iter_mut().zip(factors.iter()) {
                *x *= factor;
            }
        }
        multiply(
            level,
            R::ONE,
            MatRef::strided(tile, count, keys.1, 1, width),
            v.block(b, kv, keys.0, keys.1),
            if empty { R::ZERO } else { R::ONE },
            MatMut::row_major(out, count, dv),
        );
        empty = false;
    }
    for i in 0..count {
        // SAFETY: the tokens of this block of queries of this head are this task's.
        let (row, log) = unsafe {
            (
                output.row(b, h, first + i),
                &mut lse.row(b, h, first + i)[0],
            )
        };
        if empty || sum[i] == R::ZERO {
            // Nothing is visible, or only minus infinities.
            row.fill(R::ZERO);
            *log = lowest;
            continue;
        }
        let share = R::ONE / sum[i];
        for (y, &x) in row.iter_mut().zip(&out[i * dv..(i + 1) * dv]) {
            *y = x * share;
        }
        *log = largest[i] + R::from_f64(sum[i].to_f64().ln());
    }
}

/// `target [channels, width] = scale tokens^T`, zeros beyond `count` tokens.
pub(super) fn turn<R: SimdReal>(
    level: SimdLevel,
    tokens: &HeadsRef<'_, R>,
    (b, h): (usize, usize),
    first: usize,
    count: usize,
    scale: R,
    target: &mut [R],
    width: usize,
) {
    dispatch(
        level,
        Turn {
            tokens: tokens.block(b, h, first, count),
            scale,
            target,
            width,
        },
    );
}

struct Turn<'a, 'b, R> {
    tokens: MatRef<'a, R>,
    scale: R,
    target: &'b mut [R],
    width: usize,
}

impl<R: SimdReal> Kernel for Turn<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self {
            tokens,
            scale,
            target,
            width,
        } = self;
        let (count, channels) = (tokens.rows(), tokens.cols());
        let stride = tokens.row_stride();
        transpose_block(
            simd,
            tokens.data(),
            stride,
            (count, channels),
            target,
            width,
        );
        for row in target.chunks_exact_mut(width) {
            for x in &mut row[..count] {
                *x *= scale;
            }
            row[count..].fill(R::ZERO);
        }
    }
}
