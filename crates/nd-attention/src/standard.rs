//! Standard attention as kernels over slices; which arrangement runs is decided here.

use std::any::Any;

use nd_core::SimdLevel;
use nd_core::autograd::Accumulate;
use nd_simd::SimdReal;

use crate::dropout::Dropout;
use crate::shape::{AttentionShape, ScoreLayout};
use crate::{interleaved, stacked};

/// Queries, keys or values: the channels of token `n` of row `b` start at `(b N + n) stride`, heads side by side.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a, R> {
    /// The numbers.
    pub data: &'a [R],
    /// Elements from one token to the next, at least `H d`.
    pub stride: usize,
}

impl<'a, R> Tokens<'a, R> {
    /// Tokens without gaps: `[B, N, channels]`.
    #[must_use]
    pub fn contiguous(data: &'a [R], channels: usize) -> Self {
        Self {
            data,
            stride: channels,
        }
    }

    #[track_caller]
    fn check(&self, name: &str, tokens: usize, channels: usize) {
        let fits = tokens == 0
            || channels == 0
            || (self.stride >= channels
                && (tokens - 1) * self.stride + channels <= self.data.len());
        assert!(
            fits,
            "{name}: {tokens} tokens of {channels} channels with the stride {} do not fit in {} elements",
            self.stride,
            self.data.len()
        );
    }
}

/// Where a forward pass writes; nothing of the old contents is read.
#[derive(Debug)]
pub struct ForwardOutputs<'a, R> {
    /// The scores before mask and softmax, [`AttentionShape::scores_len`] elements in the layout of
    /// [`AttentionShape::score_index`].
    pub scores: &'a mut [R],
    /// What the backward pass needs beside the scores, [`AttentionShape::stats_len`] elements.
    pub stats: &'a mut [R],
    /// `[B, N_q, H d_v]`
    pub output: &'a mut [R],
    /// [`StandardAttention::forward_work_len`] elements of working memory.
    pub work: &'a mut [R],
}

/// A gradient to write or to add to.
#[derive(Debug)]
pub struct GradMut<'a, R> {
    /// The gradient; contiguous.
    pub values: &'a mut [R],
    /// Whether to write or to add.
    pub accumulate: Accumulate,
}

/// What [`StandardAttention::values_backward`] computes.
#[derive(Debug)]
pub struct ValueGradients<'a, R> {
    /// The gradient of the scores, in their layout. A caller that wants only `dv` passes memory of its own.
    pub dscores: GradMut<'a, R>,
    /// The gradient of v, `[B, N_k, H d_v]`.
    pub dv: Option<GradMut<'a, R>>,
    /// [`StandardAttention::backward_work_len`] elements of working memory.
    pub work: &'a mut [R],
}

/// An attention whose choices are made; its methods are the kernels.
///
/// Rows of the batch are split over the threads of the current pool when `parallel`; the bits are the same for any number of
/// threads. NaN in a visible score makes its row NaN; a row whose visible scores are all `-inf` gives zeros. Masked
/// probabilities are zeros, and zero times an infinite or NaN value is NaN, as in PyTorch.
#[derive(Clone, Copy, Debug)]
pub struct StandardAttention<R> {
    /// The dimensions.
    pub shape: AttentionShape,
    /// The factor of the scores.
    pub scale: R,
    /// Whether query `i` sees keys `0..=i` only.
    pub causal: bool,
    /// Dropout of probabilities.
    pub dropout: Option<Dropout>,
    /// The instruction set.
    pub level: SimdLevel,
    /// Whether to split rows over threads.
    pub parallel: bool,
}

/// The arguments of a forward pass.
pub(crate) struct Forward<'a, R> {
    pub(crate) plan: &'a StandardAttention<R>,
    pub(crate) q: Tokens<'a, R>,
    pub(crate) k: Tokens<'a, R>,
    pub(crate) v: Tokens<'a, R>,
    pub(crate) residual: Option<&'a [R]>,
    pub(crate) to: ForwardOutputs<'a, R>,
}

/// The arguments of a backward pass of softmax and values.
pub(crate) struct ValuesBackward<'a, R> {
    pub(crate) plan: &'a StandardAttention<R>,
    pub(crate) dy: &'a [R],
    pub(crate) v: Tokens<'a, R>,
    pub(crate) scores: &'a [R],
    pub(crate) stats: &'a [R],
    pub(crate) to: ValueGradients<'a, R>,
}

/// The arguments of a backward pass of scores.
pub(crate) struct ScoresBackward<'a, R> {
    pub(crate) plan: &'a StandardAttention<R>,
    pub(crate) dscores: &'a [R],
    pub(crate) q: Tokens<'a, R>,
    pub(crate) k: Tokens<'a, R>,
    pub(crate) dq: Option<GradMut<'a, R>>,
    pub(crate) dk: Option<GradMut<'a, R>>,
}

/// Declares a function that runs a kernel compiled in this crate, once for each element type, rather than in each
/// crate that calls it.
macro_rules! compiled_here {
    ($name:ident, $Arguments:ident) => {
        fn $name<R: SimdReal>(arguments: $Arguments<'_, R>) {
            #[inline(always)]
            fn choose<R: SimdReal>(arguments: $Arguments<'_, R>) {
                match arguments.plan.shape.score_layout() {
                    ScoreLayout::Interleaved => interleaved::$name(arguments),
                    ScoreLayout::Plain => stacked::$name(arguments),
                }
            }
            fn on_f32(arguments: $Arguments<'_, f32>) {
                choose(arguments);
            }
            fn on_f64(arguments: $Arguments<'_, f64>) {
                choose(arguments);
            }
            let on_f32: &dyn Any = &(on_f32 as for<'a> fn($Arguments<'a, f32>));
            let on_f64: &dyn Any = &(on_f64 as for<'a> fn($Arguments<'a, f64>));
            let run = on_f32
                .downcast_ref::<for<'a> fn($Arguments<'a, R>)>()
                .or_else(|| on_f64.downcast_ref());
            match run {
                Some(run) => run(arguments),
                None => unreachable!("kernels exist for f32 and f64"),
            }
        }
    };
}
compiled_here!(forward, Forward);
compiled_here!(values_backward, ValuesBackward);
compiled_here!(scores_backward, ScoresBackward);

#[track_caller]
fn check_len(name: &str, found: usize, expected: usize, shape: &AttentionShape) {
    assert_eq!(
        found, expected,
        "{name} of an attention of {shape:?}: {found} elements, expected {expected}"
    );
}

/// What an attention without a single score does to a gradient.
fn no_gradient<R: SimdReal>(grad: Option<GradMut<'_, R>>) {
    if let Some(grad) = grad
        && grad.accumulate == Accumulate::Write
    {
        grad.values.fill(R::ZERO);
    }
}

impl<R: SimdReal> StandardAttention<R> {
    /// The working memory of [`StandardAttention::forward`], in elements.
    #[must_use]
    pub fn forward_work_len(&self) -> usize {
        match self.shape.score_layout() {
            ScoreLayout::Interleaved => 0,
            ScoreLayout::Plain => stacked::probabilities_len(&self.shape),
        }
    }

    /// The working memory of [`StandardAttention::values_backward`], in elements.
    #[must_use]
    pub fn backward_work_len(&self) -> usize {
        2 * self.forward_work_len()
    }

    fn q_tokens(&self) -> (usize, usize) {
        let s = &self.shape;
        (s.batch * s.queries, s.heads * s.head_dim)
    }

    fn k_tokens(&self) -> (usize, usize) {
        let s = &self.shape;
        (s.batch * s.keys, s.heads * s.head_dim)
    }

    fn v_tokens(&self) -> (usize, usize) {
        let s = &self.shape;
        (s.batch * s.keys, s.heads * s.value_dim)
    }

    fn output_len(&self) -> usize {
        let s = &self.shape;
        s.batch * s.queries * s.heads * s.value_dim
    }

    /// `scores = scale q k^T + residual`, `output = softmax(scores) v`.
    ///
    /// # Panics
    /// A slice has not the length that the shape asks for, or the dropout rate is not in `[0, 1)`.
    #[track_caller]
    pub fn forward(
        &self,
        q: Tokens<'_, R>,
        k: Tokens<'_, R>,
        v: Tokens<'_, R>,
        residual: Option<&[R]>,
        to: ForwardOutputs<'_, R>,
    ) {
        let shape = &self.shape;
        let (q_tokens, k_tokens, v_tokens) = (self.q_tokens(), self.k_tokens(), self.v_tokens());
        q.check("q", q_tokens.0, q_tokens.1);
        k.check("k", k_tokens.0, k_tokens.1);
        v.check("v", v_tokens.0, v_tokens.1);
        if let Some(residual) = residual {
            check_len("residual scores", residual.len(), shape.scores_len(), shape);
        }
        check_len("scores", to.scores.len(), shape.scores_len(), shape);
        check_len("stats", to.stats.len(), shape.stats_len(), shape);
        check_len("output", to.output.len(), self.output_len(), shape);
        check_len("work", to.work.len(), self.forward_work_len(), shape);
        if let Some(dropout) = &self.dropout {
            dropout.check();
        }
        if shape.scores_len() == 0 {
            to.output.fill(R::ZERO);
            to.stats.fill(R::ZERO);
            return;
        }
        forward(Forward {
            plan: self,
            q,
            k,
            v,
            residual,
            to,
        });
    }

    /// From `dy`, the gradient of the output, to those of the scores and of v. `scores` and `stats` are what the forward
    /// pass wrote.
    ///
    /// # Panics
    /// A slice has not the length that the shape asks for.
    #[track_caller]
    pub fn values_backward(
        &self,
        dy: &[R],
        v: Tokens<'_, R>,
        scores: &[R],
        stats: &[R],
        to: ValueGradients<'_, R>,
    ) {
        let shape = &self.shape;
        let v_tokens = self.v_tokens();
        check_len("dy", dy.len(), self.output_len(), shape);
        v.check("v", v_tokens.0, v_tokens.1);
        check_len("scores", scores.len(), shape.scores_len(), shape);
        check_len("stats", stats.len(), shape.stats_len(), shape);
        let dscores = to.dscores.values.len();
        check_len("dscores", dscores, shape.scores_len(), shape);
        if let Some(dv) = &to.dv {
            check_len("dv", dv.values.len(), v_tokens.0 * v_tokens.1, shape);
        }
        check_len("work", to.work.len(), self.backward_work_len(), shape);
        if shape.scores_len() == 0 {
            no_gradient(to.dv);
            return;
        }
        values_backward(ValuesBackward {
            plan: self,
            dy,
            v,
            scores,
            stats,
            to,
        });
    }

    /// From the gradient of the scores, in their layout, to those of q and k. (That of the residual is `dscores` itself.)
    ///
    /// # Panics
    /// A slice has not the length that the shape asks for.
    #[track_caller]
    pub fn scores_backward(
        &self,
        dscores: &[R],
        q: Tokens<'_, R>,
        k: Tokens<'_, R>,
        dq: Option<GradMut<'_, R>>,
        dk: Option<GradMut<'_, R>>,
    ) {
        let shape = &self.shape;
        let (q_tokens, k_tokens) = (self.q_tokens(), self.k_tokens());
        check_len("dscores", dscores.len(), shape.scores_len(), shape);
        q.check("q", q_tokens.0, q_tokens.1);
        k.check("k", k_tokens.0, k_tokens.1);
        if let Some(dq) = &dq {
            check_len("dq", dq.values.len(), q_tokens.0 * q_tokens.1, shape);
        }
        if let Some(dk) = &dk {
            check_len("dk", dk.values.len(), k_tokens.0 * k_tokens.1, shape);
        }
        if shape.scores_len() == 0 {
            no_gradient(dq);
            no_gradient(dk);
            return;
        }
        if dq.is_none() && dk.is_none() {
            return;
        }
        scores_backward(ScoresBackward {
            plan: self,
            dscores,
            q,
            k,
            dq,
            dk,
        });
    }
}
