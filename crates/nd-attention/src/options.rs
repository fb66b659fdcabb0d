//! What a caller of the op chooses.

/// The choices of one attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionOptions {
    /// The number of heads; it divides the channels of q, k and v.
    pub heads: usize,
    /// The factor of the scores; `None` is `1 / sqrt(d)`.
    pub scale: Option<f64>,
    /// Whether query `i` sees keys `0..=i` only (PyTorch's `is_causal`: the upper left corner when lengths differ).
    pub causal: bool,
    /// The share of probabilities that training sets to zero, scaling the others up by `1 / (1 - dropout)`.
    pub dropout: f64,
    /// Whether the next layer wants the scores, before mask and softmax.
    pub return_scores: bool,
    /// Whether all heads have the same values: v is `[B, N_k, d_v]`, as in the temporal fusion transformer.
    pub shared_values: bool,
}

impl AttentionOptions {
    /// Plain attention with so many heads: scale `1 / sqrt(d)`, no mask, no dropout, scores not returned.
    #[must_use]
    pub fn new(heads: usize) -> Self {
        Self {
            heads,
            scale: None,
            causal: false,
            dropout: 0.0,
            return_scores: false,
            shared_values: false,
        }
    }

    /// The same with a causal mask.
    #[must_use]
    pub fn causal(self) -> Self {
        Self {
            causal: true,
            ..self
        }
    }

    /// The same with dropout of probabilities.
    #[must_use]
    pub fn dropout(self, rate: f64) -> Self {
        Self {
            dropout: rate,
            ..self
        }
    }

    /// The same with a factor of the scores.
    #[must_use]
    pub fn scale(self, scale: f64) -> Self {
        Self {
            scale: Some(scale),
            ..self
        }
    }

    /// The same with one head of values for all heads.
    #[must_use]
    pub fn shared_values(self) -> Self {
        Self {
            shared_values: true,
            ..self
        }
    }

    /// The same, returning the scores for the next layer.
    #[must_use]
    pub fn with_scores(self) -> Self {
        Self {
            return_scores: true,
            ..self
        }
    }
}
