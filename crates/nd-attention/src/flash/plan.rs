//! The arguments of flash attention, checked once.

use std::any::Any;

use nd_core::autograd::Accumulate;
use nd_core::{Element, MemoryPool, SimdLevel};
use nd_simd::SimdReal;

use super::backward::Backward;
use super::bias::{Bias, BiasMut};
use super::element::{AttentionElement, Bf16, Blocks, F16, Full};
use super::forward::Forward;
use super::mask::{Mask, Visibility};
use super::views::{HeadsMut, HeadsRef};
use crate::Dropout;

/// Queries are padded to a multiple of this: the lanes of the widest vector of f32.
pub(super) const LANE_GRAIN: usize = 16;

/// Queries of a block, if nobody chooses and every query sees every key: a block of keys and values that was fetched from the second
/// cache level serves so many. Measured with 1024 keys on an Intel Xeon with AVX-512: 3 % less time than 64.
const BLOCK_Q: usize = 128;

/// The same where a mask leaves parts of blocks out, which are the smaller the smaller blocks are: four vectors of 512 bits, the width
/// of a block of the product.
const BLOCK_Q_MASKED: usize = 64;

/// Keys of a block, if nobody chooses: 64 x 128 scores of f32 stay in the first cache level.
const BLOCK_K: usize = 128;

/// Gradients of a flash attention; a gradient that is not wanted is `None`.
#[derive(Debug)]
pub struct FlashGradients<'a, E, S = E> {
    /// Of the queries, `[B, H, N_q, d]`.
    pub dq: Option<(HeadsMut<'a, E>, Accumulate)>,
    /// Of the keys, `[B, H_k, N_k, d]`.
    pub dk: Option<(HeadsMut<'a, E>, Accumulate)>,
    /// Of the values, `[B, H_v, N_k, d_v]`.
    pub dv: Option<(HeadsMut<'a, E>, Accumulate)>,
    /// Of the bias, laid out like it: with its strides if it is dense, one for each head's slope otherwise. What rows, heads,
    /// queries or keys share by a stride of zero is the sum over them.
    pub dbias: Option<(&'a mut [S], Accumulate)>,
}

impl<E, S> Default for FlashGradients<'_, E, S> {
    /// No gradient is wanted.
    fn default() -> Self {
        Self {
            dq: None,
            dk: None,
            dv: None,
            dbias: None,
        }
    }
}

/// A flash attention whose choices are made; its methods are the kernels.
///
/// `H_k` heads of keys serve `H` heads of queries, `H / H_k` each (grouped-query attention); `H_v` heads of values serve
/// `H_k` heads of keys, `H_k / H_v` each (one head of values for all is what the temporal fusion transformer has). Queries, keys, values,
/// output and their gradients are `R`, or, where `R` is f32, bf16 or f16 with sums in f32.
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
    pub(super) key_heads: usize,
    pub(super) value_heads: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) head_dim: usize,
    pub(super) value_dim: usize,
}

impl Dims {
    /// Query heads that share a head of values.
    pub(super) fn value_group(&self) -> usize {
        self.heads / self.value_heads
    }

    /// Heads of keys that share a head of values.
    pub(super) fn kv_group(&self) -> usize {
        self.key_heads / self.value_heads
    }

    /// The head of keys of a head of queries.
    pub(super) fn key_head(&self, h: usize) -> usize {
        h / (self.heads / self.key_heads)
    }

    /// The head of values of a head of queries.
    pub(super) fn value_head(&self, h: usize) -> usize {
        h / self.value_group()
    }

    /// `[B, H, N_q, N_k]`
    pub(super) fn scores(&self) -> [usize; 4] {
        [self.batch, self.heads, self.queries, self.keys]
    }
}

/// Calls one of the four instances of a function that are compiled in this crate: functions without parameters, which callers in
/// other crates do not compile again.
macro_rules! compiled_here {
    ($function:path, $Arguments:ident, $arguments:expr) => {{
        fn on_f32(arguments: &$Arguments<'_, Full<f32>>) {
            $function(arguments);
        }
        fn on_f64(arguments: &$Arguments<'_, Full<f64>>) {
            $function(arguments);
        }
        fn on_bf16(arguments: &$Arguments<'_, Bf16>) {
            $function(arguments);
        }
        fn on_f16(arguments: &$Arguments<'_, F16>) {
            $function(arguments);
        }
        let on_f32: &dyn Any = &(on_f32 as for<'x, 'y> fn(&'x $Arguments<'y, Full<f32>>));
        let on_f64: &dyn Any = &(on_f64 as for<'x, 'y> fn(&'x $Arguments<'y, Full<f64>>));
        let on_bf16: &dyn Any = &(on_bf16 as for<'x, 'y> fn(&'x $Arguments<'y, Bf16>));
        let on_f16: &dyn Any = &(on_f16 as for<'x, 'y> fn(&'x $Arguments<'y, F16>));
        let run = on_f32
            .downcast_ref::<for<'x, 'y> fn(&'x $Arguments<'y, E>)>()
            .or_else(|| on_f64.downcast_ref())
            .or_else(|| on_bf16.downcast_ref())
            .or_else(|| on_f16.downcast_ref());
        match run {
            Some(run) => run($arguments),
            None => unreachable!("kernels exist for f32, f64, bf16 and f16"),
        }
    }};
}
pub(super) use compiled_here;

impl<R: SimdReal> FlashPlan<'_, R> {
    /// The dimensions of queries and keys, and of values if there are any.
    #[track_caller]
    pub(super) fn dims<E: Element>(
        &self,
        q: &HeadsRef<'_, E>,
        k: &HeadsRef<'_, E>,
        v: &HeadsRef<'_, E>,
    ) -> Dims {
        let (ql, kl, vl) = (q.layout(), k.layout(), v.layout());
        assert!(
            kl.batch == ql.batch
                && vl.batch == ql.batch
                && vl.tokens == kl.tokens
                && kl.channels == ql.channels,
            "attention of q {:?}, k {:?}, v {:?}: expected q [B, H, N_q, d], k [B, H_k, N_k, d], \
             v [B, H_v, N_k, d_v], with one B, one N_k and one d",
            ql.shape(),
            kl.shape(),
            vl.shape()
        );
        assert!(
            kl.heads > 0 && ql.heads.is_multiple_of(kl.heads),
            "{} heads of queries cannot share {} heads of keys evenly: q {:?}, k {:?}",
            ql.heads,
            kl.heads,
            ql.shape(),
            kl.shape()
        );
        assert!(
            vl.heads > 0 && kl.heads.is_multiple_of(vl.heads),
            "{} heads of keys cannot share {} heads of values evenly: k {:?}, v {:?}",
            kl.heads,
            vl.heads,
            kl.shape(),
            vl.shape()
        );
        assert!(
            ql.channels > 0,
            "attention of q {:?} and k {:?} with d = 0 has no scores: expected at least one channel on the last axis",
            ql.shape(),
            kl.shape()
        );
        assert!(
            kl.tokens > 0,
            "attention of q {:?} over zero keys, k {:?}, has no probabilities: expected at least one; rows of a batch without keys are \
             said by the mask's key_lengths",
            ql.shape(),
            kl.shape()
        );
        assert!(
            self.scale.is_finite(),
            "the scale of attention is {}, expected a finite number such as 1 / sqrt(d)",
            self.scale
        );
        if let Some(dropout) = &self.dropout {
            dropout.check();
        }
        let dims = Dims {
            batch: ql.batch,
            heads: ql.heads,
            key_heads: kl.heads,
            value_heads: vl.heads,
            queries: ql.tokens,
            keys: kl.tokens,
            head_dim: ql.channels,
            value_dim: vl.channels,
        };
        if let Some(bias) = &self.bias {
            bias.check(&dims);
        }
        dims
    }

    /// Queries and keys of a block.
    pub(super) fn blocks(&self, dims: &Dims) -> (usize, usize) {
        // As many blocks as of the greatest size, but nearly equal: a small last block is nothing but edges. Those of a grid begin where
        // the grid's do.
        let grid = self.mask.blocks.is_some();
        let equal = |tokens: usize, most: usize| match tokens.max(1) {
            _ if grid => most,
            tokens => tokens.div_ceil(tokens.div_ceil(most)),
        };
        let q = match self.block_q {
            0 if self.mask.leaves_out_parts(BLOCK_Q) => equal(dims.queries, BLOCK_Q_MASKED),
            0 => equal(dims.queries, BLOCK_Q),
            chosen => chosen,
        };
        let k = match self.block_k {
            0 => equal(dims.keys, BLOCK_K),
            chosen => chosen,
        };
        (
            q.min(dims.queries.max(1)).next_multiple_of(LANE_GRAIN),
            k.min(dims.keys),
        )
    }

    /// The pieces of a forward task's memory: tile, output unless it is summed `in_place`, statistics, dropout. The queries are beside
    /// it, and what a kind of number needs to lay out weights.
    pub(super) fn forward_memory(&self, dims: &Dims, in_place: bool) -> [usize; 4] {
        let (q, k) = self.blocks(dims);
        let dropped = if self.dropout.is_some() { k * q } else { 0 };
        let output = if in_place { 0 } else { q * dims.value_dim };
        [k * q, output, 3 * q, dropped]
    }

    /// The pieces of a backward task's memory: statistics, two tiles, dropout. Queries and gradients of the output are beside it, sums
    /// that are not made in place, and what a kind of number needs to lay out or round weights and tokens.
    pub(super) fn backward_memory(&self, dims: &Dims) -> [usize; 4] {
        let (q, k) = self.blocks(dims);
        let dropped = if self.dropout.is_some() { k * q } else { 0 };
        [2 * q, k * q, k * q, dropped]
    }

    /// `output = softmax(scale q k^T + bias) v`, and the logarithm of each softmax's sum, `lse [B, H, N_q]`; `-inf` for a query
    /// that sees nothing, whose output is zero.
    ///
    /// # Panics
    /// The shapes do not fit each other, there are no keys or no channels, the scale is not finite, or the dropout rate is not in
    /// `[0, 1)`.
    #[track_caller]
    pub fn forward(
        &self,
        q: HeadsRef<'_, R>,
        k: HeadsRef<'_, R>,
        v: HeadsRef<'_, R>,
        output: HeadsMut<'_, R>,
        lse: &mut [R],
    ) {
        self.forward_of::<Full<R>>(q, k, v, output, lse);
    }

    /// [`FlashPlan::forward`] of other elements: sixteen-bit numbers with sums in f32.
    ///
    /// # Panics
    /// As [`FlashPlan::forward`].
    #[track_caller]
    pub fn forward_half<E: AttentionElement<Sum = R>>(
        &self,
        q: HeadsRef<'_, E>,
        k: HeadsRef<'_, E>,
        v: HeadsRef<'_, E>,
        output: HeadsMut<'_, E>,
        lse: &mut [R],
    ) {
        self.forward_of::<E::Kind>(q, k, v, output, lse);
    }

    #[track_caller]
    pub(super) fn forward_of<E: Blocks<Sum = R>>(
        &self,
        q: HeadsRef<'_, E::Element>,
        k: HeadsRef<'_, E::Element>,
        v: HeadsRef<'_, E::Element>,
        output: HeadsMut<'_, E::Element>,
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
        let arguments = Forward::<E>::new(*self, dims, visibility, [q, k, v], output, lse);
        compiled_here!(super::forward::run, Forward, &arguments);
    }

    /// The gradients of [`FlashPlan::forward`] from `dy`, the gradient of its output; `output` and `lse` are what it wrote.
    ///
    /// # Panics
    /// As [`FlashPlan::forward`]; or a gradient has another shape than what it is the gradient of; or that of a bias is wanted
    /// without a bias, or one whose elements overlap.
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
        self.backward_of::<Full<R>>(q, k, v, output, lse, dy, to);
    }

    /// [`FlashPlan::backward`] of other elements: sixteen-bit numbers with sums in f32.
    ///
    /// # Panics
    /// As [`FlashPlan::backward`].
    #[track_caller]
    pub fn backward_half<E: AttentionElement<Sum = R>>(
        &self,
        q: HeadsRef<'_, E>,
        k: HeadsRef<'_, E>,
        v: HeadsRef<'_, E>,
        output: HeadsRef<'_, E>,
        lse: &[R],
        dy: HeadsRef<'_, E>,
        to: FlashGradients<'_, E, R>,
    ) {
        self.backward_of::<E::Kind>(q, k, v, output, lse, dy, to);
    }

    #[track_caller]
    pub(super) fn backward_of<E: Blocks<Sum = R>>(
        &self,
        q: HeadsRef<'_, E::Element>,
        k: HeadsRef<'_, E::Element>,
        v: HeadsRef<'_, E::Element>,
        output: HeadsRef<'_, E::Element>,
        lse: &[R],
        dy: HeadsRef<'_, E::Element>,
        to: FlashGradients<'_, E::Element, R>,
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
        let dbias = to.dbias.map(|to| BiasMut::new(self.bias, to, &dims));
        let arguments = Backward::<E> {
            plan: *self,
            dims,
            visibility,
            q,
            k,
            v,
            output,
            lse,
            dy,
            dq: to.dq,
            dk: to.dk,
            dv: to.dv,
            dbias,
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
        if let Some(bias) = &self.bias {
            bias.add_to(dims, (b, h), queries, keys, tile, width);
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
