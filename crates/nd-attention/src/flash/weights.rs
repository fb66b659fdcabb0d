//! Attention weights, for those who want to look at them: probabilities of all keys, written block by block.

use std::any::Any;

use nd_core::{Element, Real};
use nd_simd::SimdReal;
use nd_simd::matmul::Fetch;

use super::element::{Bf16, Blocks, F16, Full, with_engine};
use super::mask::Visibility;
use super::memory::{pieces, total};
use super::plan::{Dims, FlashPlan, LANE_GRAIN, compiled_here};
use super::softmax_again::{SoftmaxAgain, softmax_again};
use super::tasks::for_each;
use super::views::{HeadLayout, HeadsMut, HeadsRef};

/// Which weights are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightsOf {
    /// Those of each head: `[B, H, N_q, N_k]`.
    EachHead,
    /// Their mean over the heads, `[B, N_q, N_k]`, without those of each head ever in memory.
    MeanOfHeads,
}

/// The arguments.
pub(super) struct Weights<'a, E: Blocks> {
    plan: FlashPlan<'a, E::Sum>,
    dims: Dims,
    visibility: Visibility<'a>,
    q: HeadsRef<'a, E::Element>,
    k: HeadsRef<'a, E::Element>,
    lse: &'a [E::Sum],
    of: WeightsOf,
    /// A token for each query, a channel for each key.
    to: HeadsMut<'a, E::Sum>,
}

impl<R: SimdReal> FlashPlan<'_, R> {
    /// The attention weights `softmax(scale q k^T + bias)`, before dropout; zeros where the mask hides. `lse` is what
    /// [`FlashPlan::forward`] wrote.
    ///
    /// # Panics
    /// As [`FlashPlan::forward`]; or `to` has not the size of the weights.
    #[track_caller]
    pub fn weights(
        &self,
        q: HeadsRef<'_, R>,
        k: HeadsRef<'_, R>,
        lse: &[R],
        of: WeightsOf,
        to: &mut [R],
    ) {
        self.weights_of::<Full<R>>(q, k, lse, of, to);
    }

    #[track_caller]
    pub(super) fn weights_of<E: Blocks<Sum = R>>(
        &self,
        q: HeadsRef<'_, E::Element>,
        k: HeadsRef<'_, E::Element>,
        lse: &[R],
        of: WeightsOf,
        to: &mut [R],
    ) {
        let dims = self.dims(&q, &k, &k);
        let heads = match of {
            WeightsOf::EachHead => dims.heads,
            WeightsOf::MeanOfHeads => 1,
        };
        let layout = HeadLayout::head_major(dims.batch, heads, dims.queries, dims.keys);
        assert_eq!(
            to.len(),
            layout.count() * dims.keys,
            "weights of {:?}, {of:?}",
            dims.scores()
        );
        assert_eq!(
            lse.len(),
            dims.batch * dims.heads * dims.queries,
            "the logarithms of the sums, one for each query of each head"
        );
        let arguments = Weights::<E> {
            plan: *self,
            dims,
            visibility: Visibility::new(self.mask, dims.batch, dims.queries, dims.keys),
            q,
            k,
            lse,
            of,
            to: HeadsMut::new(to, layout),
        };
        compiled_here!(run, Weights, &arguments);
    }
}

fn run<E: Blocks>(arguments: &Weights<'_, E>) {
    let dims = &arguments.dims;
    let (block_q, _) = arguments.plan.blocks(dims);
    let blocks = dims.queries.div_ceil(block_q);
    let (heads, share) = match arguments.of {
        WeightsOf::EachHead => (dims.heads, 1),
        WeightsOf::MeanOfHeads => (1, dims.heads),
    };
    let engine = E::engine(arguments.plan.level);
    let tasks = dims.batch * heads * blocks;
    for_each(arguments.plan.parallel, 0..tasks, 1, &|pieces| {
        for task in pieces {
            let (pair, first) = (task / blocks, task % blocks * block_q);
            let (b, head) = (pair / heads, pair % heads);
            let count = block_q.min(dims.queries - first);
            for i in 0..count {
                // SAFETY: these queries of this head, or of all, are this task's.
                unsafe { arguments.to.row(b, head, first + i) }.fill(E::Sum::ZERO);
            }
            for h in head..head + share {
                let place = (b, h, head);
                with_engine(engine, || {
                    query_block(arguments, place, first, count, share)
                });
            }
        }
    });
}

/// Adds the weights of a block of queries of head `h`, divided by `share`, to head `to` of the result.
fn query_block<E: Blocks>(
    arguments: &Weights<'_, E>,
    (b, h, to): (usize, usize, usize),
    first: usize,
    count: usize,
    share: usize,
) {
    let Weights {
        plan,
        dims,
        visibility,
        q,
        k,
        lse,
        ..
    } = arguments;
    let level = plan.level;
    let width = count.next_multiple_of(LANE_GRAIN);
    let infinite = E::Sum::from_f64(f64::INFINITY);
    let part = E::Sum::ONE / E::Sum::from_usize(share);
    let (_, block_k) = plan.blocks(dims);
    let lengths = plan.backward_memory(dims);
    let mut memory = plan.pool.take::<E::Sum>(total(&lengths));
    let [stats, scores, unused, _] = pieces(&mut memory, lengths);
    let mut queries = plan
        .pool
        .take::<E::Packed>(E::packed_len(dims.head_dim, width));
    E::pack(
        level,
        q.block(b, h, first, count),
        plan.scale,
        &mut queries,
        width,
    );
    let (log_sums, zeros) = stats[..2 * width].split_at_mut(width);
    log_sums.fill(infinite);
    zeros.fill(E::Sum::ZERO);
    let logs = &lse[(b * dims.heads + h) * dims.queries + first..][..count];
    for (to, &log) in log_sums.iter_mut().zip(logs) {
        if log != -infinite {
            *to = log;
        }
    }
    for keys in visibility.key_blocks(b, (first, count), block_k) {
        let scores = &mut scores[..keys.1 * width];
        let unused = &mut unused[..keys.1 * width];
        unused.fill(E::Sum::ZERO);
        let block = k.block(b, dims.key_head(h), keys.0, keys.1);
        E::scores(
            level,
            plan.scale,
            block,
            &queries,
            width,
            scores,
            Fetch::default(),
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
        let again = SoftmaxAgain {
            scores: &mut *scores,
            gradients: unused,
            width,
            lse: log_sums,
            delta: zeros,
            factors: &[],
        };
        softmax_again(level, again);
        for i in 0..count {
            // SAFETY: as in `run`.
            let row = unsafe { arguments.to.row(b, to, first + i) };
            for (p, weight) in row[keys.0..keys.0 + keys.1].iter_mut().enumerate() {
                *weight += part * scores[p * width + i];
            }
        }
    }
}
