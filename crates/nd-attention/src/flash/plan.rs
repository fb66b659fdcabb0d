//! The arguments of flash attention, checked once.

use std::any::Any;

use nd_core::autograd::Accumulate;
use nd_core::{MemoryPool, SimdLevel};
use nd_simd::SimdReal;

use super::backward::Backward;
use super::forward::Forward;
use super::mask::{Mask, Visibility};
use super::views::{HeadsMut, HeadsRef};
use crate::Dropout;

/// Queries are padded to a multiple of this: the lanes of the widest vector of f32.
pub(super) const LANE_GRAIN: usize = 16;

/// Queries of a block, if nobody chooses: four vectors of 512 bits, the width of a block of the product.
const BLOCK_Q: usize = 64;

/// Keys of a block, if nobody chooses: 64 x 128 scores of f32 stay in the first cache level.
const BLOCK_K: usize = 128;

/// Something added to the scores before the softmax.
#[derive(Clone, Copy, Debug)]
pub enum Bias<'a, R> {
    /// `bias[b, h, i, j]` with any strides; a stride of zero shares the bias between rows or heads.
    Dense {
        /// The numbers.
        data: &'a [R],
        /// Elements from row to row, head to head, query to query, key to key.
        strides: [usize; 4],
    },
    /// `-slope[h] |i + N_k - N_q - j|` (Press, Smith and Lewis, "Train short, test long", 2022; the last query is beside the last
    /// key).
    Alibi {
        /// One slope for each head.
        slopes: &'a [R],
    },
}

/// Gradients of a flash attention, each `[B, H, N, channels]`; a gradient that is not wanted is `None`.
#[derive(Debug)]
pub struct FlashGradients<'a, R> {
    /// Of the queries.
    pub dq: Option<(HeadsMut<'a, R>, Accumulate)>,
    /// Of the keys.
    pub dk: Option<(HeadsMut<'a, R>, Accumulate)>,
    /// Of the values.
    pub dv: Option<(HeadsMut<'a, R>, Accumulate)>,
}

/// A flash attention whose choices are made; its methods are the kernels.
///
/// `H_kv` heads of keys and values serve `H` heads of queries, `H / H_kv` each (grouped-query attention).
#[derive(Clone, Copy, Debug)]
pub struct FlashPlan<'a, R> {
    /// The factor of the scores.
    pub scale: R,
    /// Which scores exist.
    pub mask: &'a Mask,
    /// What is added to them.
    pub bias: Option<Bias<'a, R>>,
    /// Dropout of probabilities.
    pub dropout: Option<Dropout>,
    /// Where working memory comes from, and goes back to.
    pub pool: &'a MemoryPool,
    /// Queries of a block; zero chooses.
    pub block_q: usize,
    /// Keys of a block; zero chooses.
    pub block_k: usize,
    /// The instruction set.
    pub level: SimdLevel,
    /// Whether to use all threads of the current pool.
    pub parallel: bool,
}

/// The dimensions that q, k and v agree on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dims {
    pub(super) batch: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) head_dim: usize,
    pub(super) value_dim: usize,
}

impl Dims {
    /// Query heads that share a head of keys.
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

/// Calls one of two instances of a function that are compiled in this crate.
macro_rules! compiled_here {
    ($function:path, $Arguments:ident, $arguments:expr) => {{
        fn on_f32(arguments: &$Arguments<'_, f32>) {
            $function(arguments);
        }
        fn on_f64(arguments: &$Arguments<'_, f64>) {
            $function(arguments);
        }
        let on_f32: &dyn Any = &(on_f32 as for<'x, 'y> fn(&'x $Arguments<'y, f32>));
        let on_f64: &dyn Any = &(on_f64 as for<'x, 'y> fn(&'x $Arguments<'y, f64>));
        let run = on_f32
            .downcast_ref::<for<'x, 'y> fn(&'x $Arguments<'y, R>)>()
            .or_else(|| on_f64.downcast_ref());
        match run {
            Some(run) => run($arguments),
            None => unreachable!("kernels exist for f32 and f64"),
        }
    }};
}

impl<R: SimdReal> FlashPlan<'_, R> {
    #[track_caller]
    fn dims(&self, q: &HeadsRef<'_, R>, k: &HeadsRef<'_, R>, v: &HeadsRef<'_, R>) -> Dims {
        let (ql, kl, vl) = (q.layout(), k.layout(), v.layout());
        assert!(
            kl.batch == ql.batch
                && vl.batch == ql.batch
                && vl.heads == kl.heads
                && vl.tokens == kl.tokens
                && kl.channels == ql.channels,
            "attention of q {:?}, k {:?}, v {:?}: expected q [B, H, N_q, d], k [B, H_kv, N_k, d], \
             v [B, H_kv, N_k, d_v]",
            ql.shape(),
            kl.shape(),
            vl.shape()
        );
        assert!(
            kl.heads > 0 && ql.heads.is_multiple_of(kl.heads),
            "{} heads of queries cannot share {} heads of keys evenly",
            ql.heads,
            kl.heads
        );
        assert!(ql.channels > 0, "attention with d = 0 has no scores");
        assert!(
            kl.tokens > 0,
            "attention over zero keys has no probabilities"
        );
        assert!(
            self.scale.is_finite(),
            "the scale of attention is {}, expected a finite number",
            self.scale
        );
        let dims = Dims {
            batch: ql.batch,
            heads: ql.heads,
            kv_heads: kl.heads,
            queries: ql.tokens,
            keys: kl.tokens,
            head_dim: ql.channels,
            value_dim: vl.channels,
        };
        match self.bias {
            Some(Bias::Dense { data, strides }) => {
                let extents = [dims.batch, dims.heads, dims.queries, dims.keys];
                let last: usize = extents
                    .iter()
                    .zip(strides)
                    .map(|(&extent, stride)| extent.saturating_sub(1) * stride)
                    .sum();
                assert!(
                    extents.contains(&0) || last < data.len(),
                    "a bias of {extents:?} with strides {strides:?} needs {} elements, its slice has {}",
                    last + 1,
                    data.len()
                );
            }
            Some(Bias::Alibi { slopes }) => assert_eq!(
                slopes.len(),
                dims.heads,
                "slopes of the bias: one for each head"
            ),
            None => {}
        }
        dims
    }

    /// Queries and keys of a block.
    pub(super) fn blocks(&self, dims: &Dims) -> (usize, usize) {
        let q = if self.block_q == 0 {
            BLOCK_Q
        } else {
            self.block_q
        };
        let k = if self.block_k == 0 {
            BLOCK_K
        } else {
            self.block_k
        };
        (
            q.min(dims.queries.max(1)).next_multiple_of(LANE_GRAIN),
            k.min(dims.keys),
        )
    }

    /// The pieces of a forward task's memory: queries, tile, output, statistics, dropout.
    pub(super) fn forward_memory(&self, dims: &Dims) -> [usize; 5] {
        let (q, k) = self.blocks(dims);
        let dropped = if self.dropout.is_some() { k * q } else { 0 };
        [dims.head_dim * q, k * q, q * dims.value_dim, 3 * q, dropped]
    }

    /// The pieces of a backward task's memory: queries, gradients of the output, statistics, two tiles, gradient of the queries,
    /// dropout.
    pub(super) fn backward_memory(&self, dims: &Dims) -> [usize; 7] {
        let (q, k) = self.blocks(dims);
        let dropped = if self.dropout.is_some() { k * q } else { 0 };
        [
            dims.head_dim * q,
            dims.value_dim * q,
            2 * q,
            k * q,
            k * q,
            q * dims.head_dim,
            dropped,
        ]
    }

    /// `output = softmax(scale q k^T + bias) v`, and the logarithm of each softmax's sum, `lse [B, H, N_q]`; `-inf` for a query
    /// that sees nothing, whose output is zero.
    ///
    /// # Panics
    /// The shapes do not fit each other, there are no keys or no channels, or the scale is not finite.
    #[track_caller]
    pub fn forward(
        &self,
        q: HeadsRef<'_, R>,
        k: HeadsRef<'_, R>,
        v: HeadsRef<'_, R>,
        output: HeadsMut<'_, R>,
        lse: &mut [R],
    ) {
        let dims = self.dims(&q, &k, &v);
        let ol = output.layout();
        assert!(
            ol.shape() == [dims.batch, dims.heads, dims.queries, dims.value_dim],
            "the output {:?} of an attention of {dims:?}",
            ol.shape()
        );
        assert_eq!(
            lse.len(),
            dims.batch * dims.heads * dims.queries,
            "the logarithms of the sums, one for each query of each head"
        );
        let visibility = Visibility::new(self.mask, dims.batch, dims.queries, dims.keys);
        let arguments = Forward::new(*self, dims, visibility, [q, k, v], output, lse);
        compiled_here!(super::forward::run, Forward, &arguments);
    }

    /// The gradients of [`FlashPlan::forward`] from `dy`, the gradient of its output; `output` and `lse` are what it wrote.
    ///
    /// # Panics
    /// As [`FlashPlan::forward`].
    #[track_caller]
    pub fn backward(
        &self,
        q: HeadsRef<'_, R>,
        k: HeadsRef<'_, R>,
        v: HeadsRef<'_, R>,
        output: HeadsRef<'_, R>,
        lse: &[R],
        dy: HeadsRef<'_, R>,
        to: FlashGradients<'_, R>,
    ) {
        let dims = self.dims(&q, &k, &v);
        for (name, layout) in [("output", output.layout()), ("gradient", dy.layout())] {
            assert!(
                layout.shape() == [dims.batch, dims.heads, dims.queries, dims.value_dim],
                "the {name} {:?} of an attention of {dims:?}",
                layout.shape()
            );
        }
        for (name, gradient, of) in [
            ("dq", &to.dq, q.layout()),
            ("dk", &to.dk, k.layout()),
            ("dv", &to.dv, v.layout()),
        ] {
            if let Some((gradient, _)) = gradient {
                let layout = gradient.layout();
                assert!(
                    layout.shape() == of.shape(),
                    "{name} {:?} is the gradient of {:?}",
                    layout.shape(),
                    of.shape()
                );
            }
        }
        assert_eq!(
            lse.len(),
            dims.batch * dims.heads * dims.queries,
            "the logarithms of the sums, one for each query of each head"
        );
        let visibility = Visibility::new(self.mask, dims.batch, dims.queries, dims.keys);
        let arguments = Backward {
            plan: *self,
            dims,
            visibility,
            q,
            k,
            v,
            output,
            lse,
            dy,
            to,
        };
        compiled_here!(super::backward::run, Backward, &arguments);
    }
}

impl<R: SimdReal> FlashPlan<'_, R> {
    /// Adds the bias to a tile `[keys, width]` of scores, and hides what the mask hides.
    pub(super) fn prepare(
        &self,
        dims: &Dims,
        visibility: &Visibility<'_>,
        (b, h): (usize, usize),
        queries: (usize, usize),
        keys: (usize, usize),
        tile: &mut [R],
        width: usize,
    ) {
        match self.bias {
            Some(Bias::Dense { data, strides }) => {
                for (p, row) in tile.chunks_exact_mut(width).enumerate() {
                    let start = b * strides[0]
                        + h * strides[1]
                        + queries.0 * strides[2]
                        + (keys.0 + p) * strides[3];
                    for (i, score) in row[..queries.1].iter_mut().enumerate() {
                        *score += data[start + i * strides[2]];
                    }
                }
            }
            Some(Bias::Alibi { slopes }) => {
                let shift = dims.keys as f64 - dims.queries as f64;
                let slope = slopes[h].to_f64();
                for (p, row) in tile.chunks_exact_mut(width).enumerate() {
                    for (i, score) in row[..queries.1].iter_mut().enumerate() {
                        let distance = (queries.0 + i) as f64 + shift - (keys.0 + p) as f64;
                        *score += R::from_f64(-slope * distance.abs());
                    }
                }
            }
            None => {}
        }
        visibility.hidden(b, queries, keys, |p, lanes| {
            tile[p * width..(p + 1) * width][lanes].fill(R::from_f64(f64::NEG_INFINITY));
        });
    }

    /// Factors of dropout for a tile, if there is dropout.
    pub(super) fn dropout_factors(
        &self,
        dims: &Dims,
        (b, h): (usize, usize),
        queries: (usize, usize),
        keys: (usize, usize),
        factors: &mut [R],
        width: usize,
    ) {
        let Some(dropout) = &self.dropout else {
            return;
        };
        for i in 0..queries.1 {
            let first = (h * dims.queries + queries.0 + i) * dims.keys + keys.0;
            dropout.factors(self.level, b, first, keys.1, &mut factors[i..], width);
        }
        // Lanes without a query hold finite numbers, so that nothing odd is multiplied there.
        for row in factors.chunks_exact_mut(width) {
            row[queries.1..].fill(R::ZERO);
        }
    }
}
