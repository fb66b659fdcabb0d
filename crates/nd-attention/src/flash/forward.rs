//! The forward pass of a block of queries.

use nd_core::autograd::Accumulate;
use nd_core::{Buffer, Element, Real};
use nd_simd::matmul::Fetch;

use super::element::{Blocks, Entries, with_engine};
use super::gathered::{GatherRoom, Gathered};
use super::mask::Visibility;
use super::memory::{pieces, total};
use super::plan::{Dims, FlashPlan, LANE_GRAIN};
use super::sums::deliver;
use super::tasks::{for_each, grain};
use super::tile::{Running, finish, online_softmax};
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
    let Forward { plan, dims, .. } = arguments;
    let (block_q, _) = plan.blocks(dims);
    let blocks = dims.queries.div_ceil(block_q);
    let tasks = dims.batch * dims.heads * blocks;
    let work = block_q * dims.keys * (dims.head_dim + dims.value_dim);
    let engine = E::engine(plan.level);
    for_each(plan.parallel, 0..tasks, grain(tasks, work), &|tasks| {
        with_engine(engine, || {
            let mut room = Room::new(arguments);
            let place = |task: usize| {
                let (pair, block) = (task / blocks, task % blocks);
                let first = block * block_q;
                let count = block_q.min(dims.queries - first);
                ((pair / dims.heads, pair % dims.heads), first, count)
            };
            for task in tasks.clone() {
                let (head, first, count) = place(task);
                let next = match task + 1 {
                    next if next < tasks.end => beginning(arguments, place(next)),
                    _ => Fetch::default(),
                };
                query_block(arguments, head, first, count, &mut room, next);
            }
        });
    });
}

/// What a block of queries reads first: the queries, and a block of keys.
fn beginning<E: Blocks>(
    arguments: &Forward<'_, E>,
    ((b, h), first, count): ((usize, usize), usize, usize),
) -> Fetch {
    let Forward {
        plan,
        dims,
        visibility,
        q,
        k,
        ..
    } = arguments;
    let queries = Fetch::of(q.block(b, h, first, count));
    let (_, block_k) = plan.blocks(dims);
    let mut blocks = visibility.key_blocks(b, (first, count), block_k);
    match blocks.next() {
        Some((key, count)) => queries.then(k.block(b, dims.key_head(h), key, count)),
        None => queries,
    }
}

/// Working memory of a thread.
struct Room<E: Blocks> {
    lengths: [usize; 4],
    memory: Buffer<E::Sum>,
    queries: Buffer<E::Packed>,
    gather: GatherRoom<E>,
}

impl<E: Blocks> Room<E> {
    fn new(arguments: &Forward<'_, E>) -> Self {
        let Forward {
            plan, dims, output, ..
        } = arguments;
        let in_place = output.layout().is_gapless() && E::as_sums(&mut []).is_some();
        let lengths = plan.forward_memory(dims, in_place);
        let blocks = plan.blocks(dims);
        Self {
            lengths,
            memory: plan.pool.take(total(&lengths)),
            queries: plan.pool.take(E::packed_len(dims.head_dim, blocks.0)),
            gather: GatherRoom::new(plan.pool, plan.level, dims.value_dim, blocks),
        }
    }
}

/// The output of a block of queries; `next` is what the block after it begins with.
fn query_block<E: Blocks>(
    arguments: &Forward<'_, E>,
    (b, h): (usize, usize),
    first: usize,
    count: usize,
    room: &mut Room<E>,
    next: Fetch,
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
    let [tile, out, stats, factors] = pieces(&mut room.memory, room.lengths);
    let queries = &mut room.queries[..E::packed_len(d, width)];
    // SAFETY: the tokens of this block of queries of this head are this task's.
    let place = unsafe { output.rows(b, h, first, count) };
    let (out, delivered) = match place.and_then(E::as_sums) {
        Some(place) => (place, true),
        None => (out, false),
    };
    let mut out = Gathered::<E>::new(level, dv, (count, width), out, &mut room.gather);
    let tokens = q.block(b, h, first, count);
    E::pack(level, tokens, plan.scale, queries, width);
    let (base, rest) = stats.split_at_mut(width);
    let (sum, rest) = rest.split_at_mut(width);
    let factor = &mut rest[..width];
    base.fill(lowest);
    sum.fill(zero);
    let mut blocks = visibility.key_blocks(b, (first, count), block_k).peekable();
    while let Some(keys) = blocks.next() {
        let tile = &mut tile[..keys.1 * width];
        let block = k.block(b, key_head, keys.0, keys.1);
        let values = v.block(b, value_head, keys.0, keys.1);
        let mut soon = Fetch::of(values);
        // Sums in this thread's own room are in its caches already.
        if delivered {
            soon = soon.and(out.place_soon());
        }
        E::scores(level, plan.scale, block, queries, width, tile, soon);
        plan.prepare(dims, visibility, (b, h), (first, count), keys, tile, width);
        let running = Running {
            base: &mut *base,
            sum: &mut *sum,
            factor: &mut *factor,
        };
        if online_softmax(level, tile, width, running) {
            out.scale(factor);
        }
        if plan.dropout.is_some() {
            let factors = &mut factors[..keys.1 * width];
            plan.dropout_factors(dims, (b, h), (first, count), keys, factors, width);
            for (x, &factor) in tile.iter_mut().zip(factors.iter()) {
                *x *= factor;
            }
        }
        let soon = match blocks.peek() {
            Some(&(key, count)) => Fetch::of(k.block(b, key_head, key, count)),
            None => next,
        };
        out.add(one, (Entries::Full(tile), keys.1), values, soon);
    }
    finish(level, base, sum, factor);
    // SAFETY: as above.
    if let Some(logs) = unsafe { lse.rows(b, h, first, count) } {
        logs.copy_from_slice(&base[..count]);
    }
    out.scale(factor);
    let any = !out.is_empty();
    let out = out.into_rows();
    if any {
        for (row, _) in out
            .chunks_exact_mut(dv.max(1))
            .zip(&*sum)
            .filter(|(_, sum)| **sum == zero)
        {
            // Minus infinities only: even where they weigh an infinite value.
            row.fill(zero);
        }
    }
    if !delivered {
        // SAFETY: as above.
        unsafe { deliver::<E>(level, output, Accumulate::Write, (b, h), first, out) };
    }
}
