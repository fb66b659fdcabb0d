//! The backward pass: every block of scores once more, and from it all gradients.
//!
//! ```text
//! delta_i = sum_c dy_ic y_ic
//! P = exp(S - lse)         dP = dy V^T        dS = P (dP - delta)
//! dV += P^T dy             dK += scale dS^T Q       dQ += scale dS K       dbias += dS
//! ```
//!
//! One task has some blocks of queries of all heads that share a head of values, and sums `dK` and `dV` of them: in the gradients
//! themselves where those can hold sums (f32 and f64 that are written, tokens side by side), in memory of its own otherwise. What the first
//! block of queries sees is written, so nothing needs to be zero before. Where there are few heads, the queries of a head are dealt to several
//! tasks like cards, so that a causal mask gives each the same work; how many depends on the shape alone. All but the first of them have
//! memory of their own; their sums are added in the order of the tasks.

use std::mem::replace;

use nd_core::autograd::Accumulate;
use nd_core::{Buffer, Element, Real};
use nd_simd::SimdReal;
use nd_simd::elementwise::accumulate;
use nd_simd::matmul::{Bf16Engine, Fetch, MatMut, MatRef};

use super::bias::{self, BiasMut};
use super::element::{Blocks, Entries, WeightBlock, with_engine};
use super::gathered::{GatherRoom, Gathered};
use super::mask::Visibility;
use super::memory::{pieces, total};
use super::plan::{Dims, FlashPlan, LANE_GRAIN};
use super::softmax_again::{SoftmaxAgain, softmax_again};
use super::sums::{Sums, Target, deliver, in_place, place};
use super::tasks::{for_each, grain};
use super::views::HeadsRef;

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
    pub(super) dq: Target<'a, E::Element>,
    pub(super) dk: Target<'a, E::Element>,
    pub(super) dv: Target<'a, E::Element>,
    pub(super) dbias: Option<BiasMut<'a, E::Sum>>,
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
    let Backward { plan, dims, .. } = arguments;
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
    let engine = E::engine(plan.level);
    let parts = parts(plan, dims);
    let work =
        dims.value_group() * dims.queries * dims.keys * (3 * dims.head_dim + 2 * dims.value_dim);
    let grain = if parts == 1 { grain(heads, work) } else { 1 };
    for_each(plan.parallel, 0..heads, grain, &|heads| {
        let of = |head: usize| (head / dims.value_heads, head % dims.value_heads);
        if parts > 1 {
            for head in heads.map(of) {
                let sums = sum_parts(arguments, engine, head, 0, parts, parts);
                // SAFETY: this head of values and the heads of keys that share it are this task's.
                unsafe { sums.deliver(arguments, head) };
            }
            return;
        }
        with_engine(engine, || {
            let (mut room, mut sums) = (Room::new(arguments), Sums::new(arguments, true));
            for index in heads.clone() {
                let head = of(index);
                let next = (index + 1 < heads.end).then(|| of(index + 1));
                part(arguments, head, next, 0, 1, &mut room, &mut sums);
                // SAFETY: as above.
                unsafe { sums.deliver(arguments, head) };
            }
        });
    });
}

/// The sums of the parts `start..end`, halves in parallel; always added in the same order.
fn sum_parts<E: Blocks>(
    arguments: &Backward<'_, E>,
    engine: Option<Bf16Engine>,
    (b, v): (usize, usize),
    start: usize,
    end: usize,
    parts: usize,
) -> Sums<E> {
    let Backward { plan, dims, .. } = arguments;
    if end - start == 1 {
        let mut sums = Sums::new(arguments, start == 0);
        with_engine(engine, || {
            let mut room = Room::new(arguments);
            part(arguments, (b, v), None, start, parts, &mut room, &mut sums);
        });
        return sums;
    }
    let middle = start + (end - start) / 2;
    let left = || sum_parts(arguments, engine, (b, v), start, middle, parts);
    let right = || sum_parts(arguments, engine, (b, v), middle, end, parts);
    let (mut left, right) = if plan.parallel {
        rayon::join(left, right)
    } else {
        (left(), right())
    };
    // The right sums, which are never in place, to the left ones.
    let add = |term: &[E::Sum], sum: &mut [E::Sum]| {
        accumulate(plan.level, term, sum, Accumulate::Add);
    };
    let each = dims.keys * dims.head_dim;
    for (i, term) in right.dk.chunks_exact(each).enumerate() {
        // SAFETY: the task on the left has ended; its sums are ours.
        add(term, unsafe {
            left.dk(arguments, (b, v * dims.kv_group() + i))
        });
    }
    if !right.dv.is_empty() {
        // SAFETY: as above.
        add(&right.dv, unsafe { left.dv(arguments, (b, v)) });
    }
    left
}

/// Every `parts`-th block of queries of a head of values, from `start` on; `next` is the head of values after it, if the caller does that too.
fn part<E: Blocks>(
    arguments: &Backward<'_, E>,
    (b, v): (usize, usize),
    next: Option<(usize, usize)>,
    start: usize,
    parts: usize,
    room: &mut Room<E>,
    sums: &mut Sums<E>,
) {
    let Backward {
        plan,
        dims,
        visibility,
        ..
    } = arguments;
    let (block_q, _) = plan.blocks(dims);
    let (d, dv) = (dims.head_dim, dims.value_dim);
    let heads = v * dims.value_group()..(v + 1) * dims.value_group();
    let of_keys = dims.heads / dims.key_heads;
    for h in heads.clone() {
        let mut first = start * block_q;
        // What the first blocks of queries do not see begins as zero; what they see, they write.
        let mut new = (h % of_keys == 0, h == heads.start);
        loop {
            let count = block_q.min(dims.queries.saturating_sub(first));
            let seen = match count {
                _ if plan.mask.blocks.is_some() => 0..0,
                0 => 0..0,
                count => {
                    let (start, end) = visibility.keys_of(b, first, count);
                    start..end
                }
            };
            // SAFETY: this head of values and the heads of keys that share it are this task's.
            unsafe {
                if new.0 && arguments.dk.is_some() {
                    let dk = sums.dk(arguments, (b, dims.key_head(h)));
                    dk[..seen.start * d].fill(E::Sum::ZERO);
                    dk[seen.end * d..].fill(E::Sum::ZERO);
                }
                if new.1 && arguments.dv.is_some() {
                    let sum = sums.dv(arguments, (b, v));
                    sum[..seen.start * dv].fill(E::Sum::ZERO);
                    sum[seen.end * dv..].fill(E::Sum::ZERO);
                }
            }
            if count == 0 {
                break;
            }
            let writes = !seen.is_empty();
            let new_here = (new.0 && writes, new.1 && writes);
            let after = match first + parts * block_q {
                next if next < dims.queries => beginning(arguments, (b, h), next),
                // The next head, if this task has that too.
                _ if h + 1 < heads.end || next.is_some_and(|(to, _)| to == b) => {
                    beginning(arguments, (b, h + 1), start * block_q)
                }
                _ if next.is_some() => beginning(arguments, (b + 1, 0), start * block_q),
                _ => <[Fetch; 2]>::default(),
            };
            query_block(arguments, (b, h), first, count, new_here, room, sums, after);
            new = (false, false);
            first += parts * block_q;
            if first >= dims.queries {
                break;
            }
        }
    }
}

/// What a block of queries reads first, in two parts: the queries and gradients of the output; the output and a block of keys.
fn beginning<E: Blocks>(
    arguments: &Backward<'_, E>,
    (b, h): (usize, usize),
    first: usize,
) -> [Fetch; 2] {
    let Backward { plan, dims, .. } = arguments;
    let (block_q, block_k) = plan.blocks(dims);
    let count = block_q.min(dims.queries.saturating_sub(first));
    if count == 0 {
        return <[Fetch; 2]>::default();
    }
    let queries = Fetch::of(arguments.q.block(b, h, first, count));
    let output = Fetch::of(arguments.output.block(b, h, first, count));
    let mut keys = (arguments.visibility).key_blocks(b, (first, count), block_k);
    let keys = keys.next().unwrap_or_default();
    let block = arguments.k.block(b, dims.key_head(h), keys.0, keys.1);
    [
        queries.then(arguments.dy.block(b, h, first, count)),
        output.then(block),
    ]
}

/// Some tokens of sums of so many channels, which are added to soon.
fn rows_soon<E: Blocks>(sums: &[E::Sum], channels: usize, (first, count): (usize, usize)) -> Fetch {
    let rows = &sums[first * channels..(first + count) * channels];
    Fetch::of(MatRef::row_major(rows, count, channels))
}

/// Whether a bias has its gradient from the pass over queries: it belongs to one head of one batch.
fn has_own_bias<E: Blocks>(arguments: &Backward<'_, E>) -> bool {
    let dbias = arguments.dbias.as_ref();
    dbias.is_some_and(|dbias| dbias.is_own(&arguments.dims))
}

/// Working memory of a thread.
struct Room<E: Blocks> {
    tiles: TileRoom<E>,
    /// The gradient of a block of queries, unless that is summed in place.
    dq: Buffer<E::Sum>,
    gather: GatherRoom<E>,
    /// A block of queries and of gradients of the output, laid out for the gradients of keys and values.
    kept: [Buffer<E::Packed>; 2],
}

impl<E: Blocks> Room<E> {
    fn new(arguments: &Backward<'_, E>) -> Self {
        let Backward { plan, dims, dq, .. } = arguments;
        let blocks = plan.blocks(dims);
        let needed = dq.is_some() && !in_place::<E>(dq);
        let len = if needed { blocks.0 * dims.head_dim } else { 0 };
        let kept = |wanted: bool, channels: usize| {
            let len = E::kept_len(plan.level, blocks.0, channels);
            plan.pool.take(if wanted { len } else { 0 })
        };
        Self {
            tiles: TileRoom::new(arguments, !has_own_bias(arguments)),
            dq: plan.pool.take(len),
            gather: GatherRoom::new(
                plan.pool,
                plan.level,
                if dq.is_some() { dims.head_dim } else { 0 },
                blocks,
            ),
            kept: [
                kept(arguments.dk.is_some(), dims.head_dim),
                kept(arguments.dv.is_some(), dims.value_dim),
            ],
        }
    }
}

/// Working memory of [`for_each_tile`].
pub(super) struct TileRoom<E: Blocks> {
    lengths: [usize; 4],
    memory: Buffer<E::Sum>,
    queries: Buffer<E::Packed>,
    gradients: Buffer<E::Packed>,
    /// Probabilities and gradients of scores as products want them; empty where nothing is rounded.
    rounded: Buffer<E::Packed>,
}

impl<E: Blocks> TileRoom<E> {
    /// Room for a pass in which the blocks of scores are rounded, where products want them so and there is no dropout, or for one in
    /// which they are not.
    pub(super) fn new(arguments: &Backward<'_, E>, rounds: bool) -> Self {
        let Backward { plan, dims, .. } = arguments;
        let lengths = plan.backward_memory(dims);
        let (block_q, block_k) = plan.blocks(dims);
        let rounds = rounds && plan.dropout.is_none();
        let rounded = if rounds {
            E::rounded_len(plan.level, block_q * block_k)
        } else {
            0
        };
        Self {
            lengths,
            rounded: plan.pool.take(rounded),
            memory: plan.pool.take(total(&lengths)),
            queries: plan.pool.take(E::packed_len(dims.head_dim, block_q)),
            gradients: plan.pool.take(E::packed_len(dims.value_dim, block_q)),
        }
    }
}

/// A block of scores in the backward pass, `[keys, width]` with the queries across.
pub(super) struct Tile<'a, E: Blocks> {
    /// The first key, and how many.
    pub(super) keys: (usize, usize),
    /// The same of the block after it.
    pub(super) next: Option<(usize, usize)>,
    /// Probabilities, after dropout.
    pub(super) probabilities: Entries<'a, E>,
    /// The gradient of the scores.
    pub(super) dscores: Entries<'a, E>,
    pub(super) width: usize,
}

impl<'a, E: Blocks> Tile<'a, E> {
    /// The gradient of the scores of a pass that asked for no rounding.
    pub(super) fn full_dscores(&self) -> &'a [E::Sum] {
        match self.dscores {
            Entries::Full(dscores) => dscores,
            Entries::Rounded(_) => unreachable!("nobody asked for rounded gradients"),
        }
    }
}

/// Calls `visit` with every block of scores of a block of queries; `after` is what is read once all are done.
pub(super) fn for_each_tile<E: Blocks>(
    arguments: &Backward<'_, E>,
    (b, h): (usize, usize),
    first: usize,
    count: usize,
    room: &mut TileRoom<E>,
    after: [Fetch; 2],
    mut visit: impl FnMut(&Tile<'_, E>),
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
    let [stats, scores, dscores, factors] = pieces(&mut room.memory, room.lengths);
    let queries = &mut room.queries[..E::packed_len(d, width)];
    let gradients = &mut room.gradients[..E::packed_len(dv, width)];
    E::pack(
        level,
        q.block(b, h, first, count),
        plan.scale,
        queries,
        width,
    );
    E::pack(level, dy.block(b, h, first, count), one, gradients, width);
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
    let mut blocks = visibility.key_blocks(b, (first, count), block_k).peekable();
    while let Some(keys) = blocks.next() {
        let scores = &mut scores[..keys.1 * width];
        let dscores = &mut dscores[..keys.1 * width];
        let dropped = factors.len().min(keys.1 * width);
        let factors = &mut factors[..dropped];
        let key_block = k.block(b, key_head, keys.0, keys.1);
        let value_block = v.block(b, value_head, keys.0, keys.1);
        let soon = Fetch::of(value_block);
        E::scores(level, plan.scale, key_block, queries, width, scores, soon);
        plan.prepare(
            dims,
            visibility,
            (b, h),
            (first, count),
            keys,
            scores,
            width,
        );
        let next = blocks.peek().copied();
        let soon = match next {
            Some((key, count)) => Fetch::of(k.block(b, key_head, key, count)),
            None => after[0],
        };
        E::scores(level, one, value_block, gradients, width, dscores, soon);
        plan.dropout_factors(dims, (b, h), (first, count), keys, factors, width);
        let again = SoftmaxAgain {
            scores: &mut *scores,
            gradients: &mut *dscores,
            width,
            lse: log_sums,
            delta,
            factors,
        };
        let rounded = match &mut room.rounded[..] {
            [] => None,
            rounded => E::softmax_rounded(level, &again, rounded),
        };
        let (probabilities, dscores) = match rounded {
            Some([probabilities, dscores]) => {
                (Entries::Rounded(probabilities), Entries::Rounded(dscores))
            }
            None => {
                softmax_again(level, again);
                (Entries::Full(&*scores), Entries::Full(&*dscores))
            }
        };
        visit(&Tile {
            keys,
            next,
            probabilities,
            dscores,
            width,
        });
    }
}

/// All gradients of a block of queries; those of what it sees are written rather than added to the sums where they are `new`, dk and
/// dv.
fn query_block<E: Blocks>(
    arguments: &Backward<'_, E>,
    (b, h): (usize, usize),
    first: usize,
    count: usize,
    new: (bool, bool),
    room: &mut Room<E>,
    sums: &mut Sums<E>,
    after: [Fetch; 2],
) {
    let Backward { plan, dims, .. } = arguments;
    let (zero, one) = (E::Sum::ZERO, E::Sum::ONE);
    let (d, dv) = (dims.head_dim, dims.value_dim);
    let (key_head, value_head) = (dims.key_head(h), dims.value_head(h));
    let own_bias = arguments.dbias.as_ref().filter(|_| has_own_bias(arguments));
    let Room {
        tiles,
        dq: own,
        gather,
        kept: [kept_q, kept_dy],
    } = room;
    // SAFETY: these queries of this head are this task's.
    let place = unsafe { place::<E>(&arguments.dq, (b, h), first, count) };
    let delivered = place.is_some();
    let width = count.next_multiple_of(LANE_GRAIN);
    let mut dq = arguments.dq.as_ref().map(|_| {
        let sums = place.unwrap_or(&mut own[..]);
        Gathered::<E>::new(plan.level, d, (count, width), sums, gather)
    });
    let (q, dy) = (
        arguments.q.block(b, h, first, count),
        arguments.dy.block(b, h, first, count),
    );
    let mut kept = false;
    let beta = |new: bool| if new { zero } else { one };
    for_each_tile(arguments, (b, h), first, count, tiles, after, |tile| {
        let (start, keys) = tile.keys;
        let block = |entries| WeightBlock {
            entries,
            keys,
            count,
            width: tile.width,
        };
        let (probabilities, dscores) = (block(tile.probabilities), block(tile.dscores));
        if !replace(&mut kept, true) {
            if arguments.dk.is_some() {
                E::keep(plan.level, q, kept_q);
            }
            if arguments.dv.is_some() {
                E::keep(plan.level, dy, kept_dy);
            }
        }
        if arguments.dv.is_some() {
            let dk_soon = match arguments.dk {
                Some(_) => {
                    // SAFETY: this head of keys is this task's.
                    let sum = unsafe { sums.dk(arguments, (b, key_head)) };
                    rows_soon::<E>(sum, d, (start, keys))
                }
                None => Fetch::default(),
            };
            // SAFETY: this head of values is this task's.
            let sum = unsafe { sums.dv(arguments, (b, value_head)) };
            let sum = MatMut::row_major(&mut sum[start * dv..(start + keys) * dv], keys, dv);
            let beta = beta(new.1);
            E::weigh_kept(
                plan.level,
                one,
                probabilities,
                dy,
                kept_dy,
                beta,
                sum,
                dk_soon,
            );
        }
        if arguments.dk.is_some() {
            let dv_soon = match tile.next {
                Some(next) if arguments.dv.is_some() => {
                    // SAFETY: this head of values is this task's.
                    let sum = unsafe { sums.dv(arguments, (b, value_head)) };
                    rows_soon::<E>(sum, dv, next)
                }
                _ => Fetch::default(),
            };
            let dq_soon = match &dq {
                Some(dq) if delivered => dq.place_soon(),
                _ => Fetch::default(),
            };
            // SAFETY: this head of keys is this task's.
            let sum = unsafe { sums.dk(arguments, (b, key_head)) };
            let sum = MatMut::row_major(&mut sum[start * d..(start + keys) * d], keys, d);
            let beta = beta(new.0);
            let soon = dq_soon.and(dv_soon);
            E::weigh_kept(plan.level, plan.scale, dscores, q, kept_q, beta, sum, soon);
        }
        if let Some(dq) = &mut dq {
            let k = arguments.k.block(b, key_head, start, keys);
            let soon = match tile.next {
                Some((key, count)) => Fetch::of(arguments.v.block(b, value_head, key, count)),
                None => after[1],
            };
            dq.add(plan.scale, (tile.dscores, keys), k, soon);
        }
        if let Some(dbias) = own_bias {
            // SAFETY: the bias of these queries of this head is this task's.
            unsafe { dbias.add(dims, (b, h), (first, count), tile) };
        }
    });
    let Some(dq) = dq else { return };
    let dq = dq.into_rows();
    if let Some((to, how)) = &arguments.dq
        && !delivered
    {
        // SAFETY: these queries of this head are this task's.
        unsafe { deliver::<E>(plan.level, to, *how, (b, h), first, dq) };
    }
}
