//! The specification: attention and its gradients in plain f64 loops, which share no type with the kernels.

/// The arguments of an attention; layouts as in the crate's documentation, except that scores are `[B, H, N_q, N_k]`.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// `[B, H, N_q, N_k, d, d_v]`
    pub dims: [usize; 6],
    /// The factor of the scores.
    pub scale: f64,
    /// Whether query `i` sees keys `0..=i` only.
    pub causal: bool,
    /// Factors of the probabilities, `[B, H, N_q, N_k]`.
    pub factors: Option<&'a [f64]>,
    /// `[B, N_q, H d]`
    pub q: &'a [f64],
    /// `[B, N_k, H d]`
    pub k: &'a [f64],
    /// `[B, N_k, H d_v]`
    pub v: &'a [f64],
    /// Added to the scores, `[B, H, N_q, N_k]`.
    pub residual: Option<&'a [f64]>,
}

/// What attention computes.
#[derive(Clone, Debug)]
pub struct Values {
    /// `[B, H, N_q, N_k]`, before mask and softmax.
    pub scores: Vec<f64>,
    /// `[B, H, N_q, N_k]`, before dropout.
    pub probabilities: Vec<f64>,
    /// `[B, N_q, H d_v]`
    pub output: Vec<f64>,
}

/// The gradients of attention.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// Of q.
    pub dq: Vec<f64>,
    /// Of k.
    pub dk: Vec<f64>,
    /// Of v.
    pub dv: Vec<f64>,
    /// Of the scores, and so of the residual.
    pub dscores: Vec<f64>,
}

/// The probabilities of one row of scores; zeros when no key is visible or every visible score is `-inf`.
fn softmax(scores: &[f64], visible: usize) -> Vec<f64> {
    let largest =
        scores[..visible].iter().fold(
            f64::NEG_INFINITY,
            |a, &b| if b.is_nan() { b } else { a.max(b) },
        );
    if largest == f64::NEG_INFINITY && !scores[..visible].iter().any(|x| x.is_nan()) {
        return vec![0.0; scores.len()];
    }
    let weight = |j: usize| {
        if j < visible {
            (scores[j] - largest).exp()
        } else {
            0.0
        }
    };
    let sum: f64 = (0..visible).map(weight).sum();
    (0..scores.len())
        .map(|j| if j < visible { weight(j) / sum } else { 0.0 })
        .collect()
}

impl Attention<'_> {
    fn visible(&self, i: usize) -> usize {
        let keys = self.dims[3];
        if self.causal { keys.min(i + 1) } else { keys }
    }

    /// The forward pass.
    #[must_use]
    pub fn forward(&self) -> Values {
        let [batch, heads, queries, keys, head_dim, value_dim] = self.dims;
        let mut scores = Vec::new();
        let mut probabilities = Vec::new();
        let mut output = vec![0.0; batch * queries * heads * value_dim];
        for b in 0..batch {
            for h in 0..heads {
                for i in 0..queries {
                    let first = scores.len();
                    for j in 0..keys {
                        let q = &self.q[((b * queries + i) * heads + h) * head_dim..][..head_dim];
                        let k = &self.k[((b * keys + j) * heads + h) * head_dim..][..head_dim];
                        let dot: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
                        let residual = self.residual.map_or(0.0, |residual| residual[first + j]);
                        scores.push(self.scale * dot + residual);
                    }
                    let row = softmax(&scores[first..], self.visible(i));
                    for c in 0..value_dim {
                        output[((b * queries + i) * heads + h) * value_dim + c] = (0..keys)
                            .map(|j| {
                                let factor = self.factors.map_or(1.0, |f| f[first + j]);
                                row[j]
                                    * factor
                                    * self.v[((b * keys + j) * heads + h) * value_dim + c]
                            })
                            .sum();
                    }
                    probabilities.extend(row);
                }
            }
        }
        Values {
            scores,
            probabilities,
            output,
        }
    }

    /// The backward pass from the gradient of the output, `[B, N_q, H d_v]`, and one that arrives at the scores.
    #[must_use]
    pub fn backward(&self, dy: &[f64], dscores: Option<&[f64]>) -> Gradients {
        let [batch, heads, queries, keys, head_dim, value_dim] = self.dims;
        let probabilities = self.forward().probabilities;
        let mut out = Gradients {
            dq: vec![0.0; self.q.len()],
            dk: vec![0.0; self.k.len()],
            dv: vec![0.0; self.v.len()],
            dscores: dscores.map_or(vec![0.0; probabilities.len()], <[f64]>::to_vec),
        };
        for b in 0..batch {
            for h in 0..heads {
                for i in 0..queries {
                    let first = ((b * heads + h) * queries + i) * keys;
                    let p = &probabilities[first..][..keys];
                    let dy = &dy[((b * queries + i) * heads + h) * value_dim..][..value_dim];
                    let mut dp = vec![0.0; keys];
                    for j in 0..keys {
                        let factor = self.factors.map_or(1.0, |f| f[first + j]);
                        for c in 0..value_dim {
                            let at = ((b * keys + j) * heads + h) * value_dim + c;
                            out.dv[at] += p[j] * factor * dy[c];
                            dp[j] += dy[c] * self.v[at] * factor;
                        }
                    }
                    let delta: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
                    for j in 0..self.visible(i) {
                        out.dscores[first + j] += p[j] * (dp[j] - delta);
                    }
                    for j in 0..keys {
                        let ds = self.scale * out.dscores[first + j];
                        for c in 0..head_dim {
                            let at_q = ((b * queries + i) * heads + h) * head_dim + c;
                            let at_k = ((b * keys + j) * heads + h) * head_dim + c;
                            out.dq[at_q] += ds * self.k[at_k];
                            out.dk[at_k] += ds * self.q[at_q];
                        }
                    }
                }
            }
        }
        out
    }
}
