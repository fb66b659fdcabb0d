//! The forward pass of a block of queries.

use nd_core::SimdLevel;
use nd_core::autograd::Accumulate;
use nd_core::{Element, Real};
use nd_simd::matmul::{MatMut, MatRef};
use nd_simd::permute::transpose_block;
use nd_simd::{Isa, Kernel, SimdReal, dispatch};

use super::element::{Blocks, with_engine};
use super::mask::Visibility;
use super::memory::{pieces, total};
use super::plan::{Dims, FlashPlan, LANE_GRAIN};
use super::tile::{Running, online_softmax, scale_rows};
use super::views::{HeadLayout, HeadsMut, HeadsRef};

/// The arguments of a forward pass.
pub(super) struct Forward<'a, E: Blocks> {
    plan: FlashPlan<'a, E::Sum>,
    dims: Dims,
    visibility: Visibility<'a>,
    q: HeadsRef<'a, E::Element>,
    k: HeadsRef<'a, E::Element>,
    v: HeadsRef<'a, E::Element>,
    output: HeadsMut<'a, E::Element>,
    /// `[B, H, N_q]`, a token of one channel for each query.
    lse: HeadsMut<'a, E::Sum>,
}

impl<'a, E: Blocks> Forward<'a, E> {
    pub(super) fn new(
        plan: FlashPlan<'a, E::Sum>,
        dims: Dims,
        visibility: Visibility<'a>,
        [q, k, v]: [HeadsRef<'a, E::Element>; 3],
        output: HeadsMut<'a, E::Element>,
        lse: &'a mut [E::Sum],
    ) -> Self {
        let layout = HeadLayout::head_major(dims.batch, dims.heads, dims.queries, 1);
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
pub(super) fn run<E: Blocks>(arguments: &Forward<'_, E>) {
    let dims = &arguments.dims;
    let (block_q, _) = arguments.plan.blocks(dims);
    let blocks = dims.queries.div_ceil(block_q);
    let tasks = dims.batch * dims.heads * blocks;
    let engine = E::engine(arguments.plan.level);
    for_each(arguments.plan.parallel, 0, tasks, &|task| {
        let (pair, block) = (task / blocks, task % blocks);
        let first = block * block_q;
        let count = block_q.min(dims.queries - first);
        let head = (pair / dims.heads, pair % dims.heads);
        with_engine(engine, || query_block(arguments, head, first, count));
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

fn query_block<E: Blocks>(
    arguments: &Forward<'_, E>,
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
    let (zero, one) = (E::Sum::ZERO, E::Sum::ONE);
    let (_, block_k) = plan.blocks(dims);
    let (d, dv) = (dims.head_dim, dims.value_dim);
    let (key_head, value_head) = (dims.key_head(h), dims.value_head(h));
    let width = count.next_multiple_of(LANE_GRAIN);
    let lowest = E::Sum::from_f64(f64::NEG_INFINITY);
    let lengths = plan.forward_memory(dims);
    let mut memory = plan.pool.take::<E::Sum>(total(&lengths));
    let [tile, out, stats, factors] = pieces(&mut memory, lengths);
    let mut queries = plan.pool.take::<E::Packed>(E::packed_len(d, width));
    let out = &mut out[..count * dv];
    let tokens = q.block(b, h, first, count);
    E::pack(level, tokens, plan.scale, &mut queries, width);
    let (base, rest) = stats.split_at_mut(width);
    let (sum, rest) = rest.split_at_mut(width);
    let factor = &mut rest[..width];
    base.fill(lowest);
    sum.fill(zero);
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
        let block = k.block(b, key_head, keys.0, keys.1);
        E::scores(level, plan.scale, block, &queries, width, tile);
        plan.prepare(dims, visibility, (b, h), (first, count), keys, tile, width);
        let running = Running {
            base: &mut *base,
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
        E::weigh(
            level,
            one,
            MatRef::strided(tile, count, keys.1, 1, width),
            v.block(b, value_head, keys.0, keys.1),
            if empty { zero } else { one },
            MatMut::row_major(out, count, dv),
        );
        empty = false;
    }
    for (factor, &sum) in factor.iter_mut().zip(&*sum) {
        // Zero: nothing is visible, or only minus infinities.
        *factor = if sum == zero { zero } else { one / sum };
    }
    if !empty {
        scale_rows(level, out, dv, &factor[..count]);
    }
    for i in 0..count {
        // SAFETY: the tokens of this block of queries of this head are this task's.
        let (row, log) = unsafe {
            (
                output.row(b, h, first + i),
                &mut lse.row(b, h, first + i)[0],
            )
        };
        if empty || sum[i] == zero {
            row.fill(E::Element::ZERO);
            *log = lowest;
            continue;
        }
        let from = &out[i * dv..(i + 1) * dv];
        E::deliver(level, from, Accumulate::Write, row);
        *log = base[i] + E::Sum::from_f64(sum[i].to_f64().ln());
    }
}

/// `target [channels, width] = scale tokens^T`, zeros beyond the tokens.
pub(super) fn turn<R: SimdReal>(
    level: SimdLevel,
    tokens: MatRef<'_, R>,
    scale: R,
    target: &mut [R],
    width: usize,
) {
    dispatch(
        level,
        Turn {
            tokens,
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
