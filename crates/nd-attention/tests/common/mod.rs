//! One attention, run by the kernels and by the specification.
#![allow(dead_code, reason = "each test binary uses some of it")]

pub(crate) mod rounded;

use nd_attention::reference::{Attention, Gradients, Values};
use nd_attention::{
    AttentionShape, Dropout, ForwardOutputs, GradMut, StandardAttention, Tokens, ValueGradients,
};
use nd_core::autograd::Accumulate;
use nd_core::rng;
use nd_core::{Element, SimdLevel};
use nd_simd::SimdReal;
use nd_testing::cases::normals;

/// An attention and its inputs; scores in `[B, H, N_q, N_k]`.
pub(crate) struct Case {
    pub(crate) shape: AttentionShape,
    pub(crate) causal: bool,
    pub(crate) scale: f64,
    pub(crate) dropout: Option<Dropout>,
    pub(crate) q: Vec<f64>,
    pub(crate) k: Vec<f64>,
    pub(crate) v: Vec<f64>,
    pub(crate) residual: Option<Vec<f64>>,
    pub(crate) dy: Vec<f64>,
    /// A gradient that arrives at the scores from elsewhere.
    pub(crate) from_above: Option<Vec<f64>>,
}

/// What the kernels computed, scores in `[B, H, N_q, N_k]`.
pub(crate) struct Results {
    pub(crate) scores: Vec<f64>,
    pub(crate) output: Vec<f64>,
    pub(crate) dscores: Vec<f64>,
    pub(crate) dq: Vec<f64>,
    pub(crate) dk: Vec<f64>,
    pub(crate) dv: Vec<f64>,
}

pub(crate) fn shape(
    batch: usize,
    heads: usize,
    (queries, keys): (usize, usize),
    (head_dim, value_dim): (usize, usize),
) -> AttentionShape {
    AttentionShape {
        batch,
        heads,
        queries,
        keys,
        head_dim,
        value_dim,
    }
}

impl Case {
    /// Standard normal inputs, rounded to f32 so that both precisions start from the same.
    pub(crate) fn random(shape: AttentionShape, residual: bool) -> Self {
        let seed = (shape.keys * 31 + shape.head_dim) as u64;
        let draw = |what: u64, len: usize| -> Vec<f64> {
            normals::<f32>(seed * 10 + what, len)
                .into_iter()
                .map(f64::from)
                .collect()
        };
        let s = &shape;
        let scores = s.batch * s.heads * s.queries * s.keys;
        Self {
            shape,
            causal: false,
            scale: 1.0 / (s.head_dim.max(1) as f64).sqrt(),
            dropout: None,
            q: draw(1, s.batch * s.queries * s.heads * s.head_dim),
            k: draw(2, s.batch * s.keys * s.heads * s.head_dim),
            v: draw(3, s.batch * s.keys * s.heads * s.value_dim),
            residual: residual.then(|| draw(4, scores)),
            dy: draw(5, s.batch * s.queries * s.heads * s.value_dim),
            from_above: residual.then(|| draw(6, scores)),
        }
    }

    /// Dropout factors `[B, H, N_q, N_k]`, from the definition: one random word per element of a row.
    fn factors(&self) -> Option<Vec<f64>> {
        let dropout = self.dropout?;
        let per_row = self.shape.heads * self.shape.queries * self.shape.keys;
        let mut out = Vec::new();
        for b in 0..self.shape.batch {
            let mut words = vec![0; per_row];
            let row = (dropout.first_row + b) as u64;
            rng::fill(SimdLevel::Scalar, dropout.key, row, 0, &mut words);
            let kept = 1.0 / (1.0 - dropout.rate);
            out.extend(words.iter().map(|&word| {
                if f64::from(word) / 2f64.powi(32) < dropout.rate {
                    0.0
                } else {
                    kept
                }
            }));
        }
        Some(out)
    }

    pub(crate) fn reference(&self) -> (Values, Gradients) {
        let factors = self.factors();
        let s = &self.shape;
        let attention = Attention {
            dims: [s.batch, s.heads, s.queries, s.keys, s.head_dim, s.value_dim],
            scale: self.scale,
            causal: self.causal,
            factors: factors.as_deref(),
            q: &self.q,
            k: &self.k,
            v: &self.v,
            residual: self.residual.as_deref(),
        };
        (
            attention.forward(),
            attention.backward(&self.dy, self.from_above.as_deref()),
        )
    }

    /// Where each score of `[B, H, N_q, N_k]` lies in the kernels' layout.
    fn places(&self) -> Vec<usize> {
        let s = &self.shape;
        let mut out = Vec::new();
        for b in 0..s.batch {
            for h in 0..s.heads {
                for i in 0..s.queries {
                    out.extend((0..s.keys).map(|j| s.score_index(b, h, i, j)));
                }
            }
        }
        out
    }

    /// Runs the kernels on memory full of NaN. With `add`, the gradients of q, k and v start from one.
    pub(crate) fn run<R: SimdReal>(&self, level: SimdLevel, parallel: bool, add: bool) -> Results {
        let s = &self.shape;
        let plan = StandardAttention {
            shape: self.shape,
            scale: R::from_f64(self.scale),
            causal: self.causal,
            dropout: self.dropout,
            level,
            parallel,
        };
        let places = self.places();
        let round = |x: &[f64]| -> Vec<R> { x.iter().map(|&x| R::from_f64(x)).collect() };
        let arrange = |x: &[f64]| {
            let mut out = vec![R::ZERO; s.scores_len()];
            for (&at, &x) in places.iter().zip(x) {
                out[at] = R::from_f64(x);
            }
            out
        };
        let noise = |len: usize| vec![R::from_f64(f64::NAN); len];
        let (q, k, v) = (round(&self.q), round(&self.k), round(&self.v));
        let (q_channels, v_channels) = (s.heads * s.head_dim, s.heads * s.value_dim);
        let (q, k, v) = (
            Tokens::contiguous(&q[..], q_channels),
            Tokens::contiguous(&k[..], q_channels),
            Tokens::contiguous(&v[..], v_channels),
        );
        let residual = self.residual.as_deref().map(arrange);
        let (mut scores, mut stats) = (noise(s.scores_len()), noise(s.stats_len()));
        let mut output = noise(self.dy.len());
        plan.forward(
            q,
            k,
            v,
            residual.as_deref(),
            ForwardOutputs {
                scores: &mut scores,
                stats: &mut stats,
                output: &mut output,
                work: &mut noise(plan.forward_work_len()),
            },
        );
        let (mut dscores, accumulate_scores) = match &self.from_above {
            Some(from_above) => (arrange(from_above), Accumulate::Add),
            None => (noise(s.scores_len()), Accumulate::Write),
        };
        let accumulate = if add {
            Accumulate::Add
        } else {
            Accumulate::Write
        };
        let gradient = |len: usize| {
            if add { vec![R::ONE; len] } else { noise(len) }
        };
        let mut dq = gradient(self.q.len());
        let mut dk = gradient(self.k.len());
        let mut dv = gradient(self.v.len());
        plan.values_backward(
            &round(&self.dy),
            v,
            &scores,
            &stats,
            ValueGradients {
                dscores: GradMut {
                    values: &mut dscores,
                    accumulate: accumulate_scores,
                },
                dv: Some(GradMut {
                    values: &mut dv,
                    accumulate,
                }),
                work: &mut noise(plan.backward_work_len()),
            },
        );
        let [to_q, to_k] = [&mut dq, &mut dk].map(|values| {
            Some(GradMut {
                values: &mut values[..],
                accumulate,
            })
        });
        plan.scores_backward(&dscores, q, k, to_q, to_k);
        let wide = |x: &[R]| -> Vec<f64> { x.iter().map(|&x| Element::to_f64(x)).collect() };
        let pick = |x: &[R]| -> Vec<f64> { places.iter().map(|&at| x[at].to_f64()).collect() };
        let less_one = |x: &[R]| -> Vec<f64> {
            x.iter()
                .map(|&x| x.to_f64() - if add { 1.0 } else { 0.0 })
                .collect()
        };
        Results {
            scores: pick(&scores),
            output: wide(&output),
            dscores: pick(&dscores),
            dq: less_one(&dq),
            dk: less_one(&dk),
            dv: less_one(&dv),
        }
    }

    /// Compares the kernels of one level with the specification.
    #[track_caller]
    pub(crate) fn check_at<R: SimdReal>(&self, level: SimdLevel, parallel: bool, add: bool) {
        let tolerance = if R::EPSILON.to_f64() < 1e-10 {
            TOLERANCE_F64
        } else {
            TOLERANCE_F32
        };
        let (values, gradients) = self.reference();
        let found = self.run::<R>(level, parallel, add);
        for (what, found, expected) in [
            ("scores", &found.scores, &values.scores),
            ("output", &found.output, &values.output),
            ("dscores", &found.dscores, &gradients.dscores),
            ("dq", &found.dq, &gradients.dq),
            ("dk", &found.dk, &gradients.dk),
            ("dv", &found.dv, &gradients.dv),
        ] {
            let what = format!(
                "{what} of {:?} at {level}, causal {}, residual {}, add {add}",
                self.shape,
                self.causal,
                self.residual.is_some()
            );
            nd_testing::assert_close(&what, found, expected, tolerance, tolerance);
        }
    }

    /// Compares every level and both precisions with the specification.
    #[track_caller]
    pub(crate) fn check(&self) {
        for level in nd_testing::levels() {
            self.check_at::<f64>(level, false, false);
            self.check_at::<f32>(level, false, true);
        }
    }
}

/// A few hundred roundings of numbers up to about ten.
pub(crate) const TOLERANCE_F64: f64 = 1e-12;
/// A few hundred roundings of numbers up to about ten.
pub(crate) const TOLERANCE_F32: f64 = 2e-4;
