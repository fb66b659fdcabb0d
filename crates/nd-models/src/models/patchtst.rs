//! PatchTST: a window cut into overlapping patches, which attend to each other.
//!
//! A window is normalised by its own mean (or last value) and deviation, its last value repeated for a stride, and cut
//! into patches. Each patch becomes a token; the encoder's layers add attention (whose scores also receive those of the
//! layer before, as in RealFormer) and a two-layer network to the tokens, each followed by a batch norm. One linear layer reads all tokens, and the
//! normalisation is undone.
//!
//! Nie, Nguyen, Sinthong and Kalagnanam, "A time series is worth 64 words: Long-term forecasting with transformers", ICLR
//! 2023; He, Ravula, Kanagal and Ainslie, "RealFormer: Transformer likes residual attention", 2021; Kim et al., "Reversible instance
//! normalization for accurate time-series forecasting against distribution shift", ICLR 2022.
//!
//! Known weakness: the batch norms couple all windows of a step, so it cannot be cut into shards.

use std::sync::Arc;

use nd_attention::{AttentionExt, AttentionOptions};
use nd_core::autograd::{Init, ParamId, ParamLayout, ParamsBuilder, Tape, Var};
use nd_core::{BatchView, Network, RowCoupling};
use nd_simd::SimdReal;
use nd_simd::activations::Activation;
use nd_simd::ops::prelude::{BiasExt, DropoutExt, LinearExt, PatchesExt, PermuteExt};
use nd_simd::patches::Patches;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::limits::{MAX_COUNT, MAX_SIZE, require_layout, require_size};
use crate::nn::{
    BatchNormLayer, Linear, ModelDims, RevIn, RevInConfig, denormalize_rows, normalized_windows,
};

/// The activation between the two layers of a token's network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PatchTstActivation {
    /// `x Phi(x)`
    #[default]
    Gelu,
    /// `max(x, 0)`
    Relu,
}

/// What a [`PatchTst`] can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatchTstConfig {
    /// Layers of the encoder.
    pub encoder_layers: usize,
    /// Heads of the attention; they divide `hidden_size`.
    pub n_heads: usize,
    /// The width of a token.
    pub hidden_size: usize,
    /// The width inside a token's network.
    pub linear_hidden_size: usize,
    /// The probability of dropping an element of a token.
    pub dropout: f64,
    /// The probability of dropping an output of the head.
    pub head_dropout: f64,
    /// The probability of dropping an attention weight.
    pub attn_dropout: f64,
    /// Steps of a patch; at most `input_size + stride`, to which it is cut.
    pub patch_len: usize,
    /// Steps from one patch to the next.
    pub stride: usize,
    /// Whether windows are normalised by themselves.
    pub revin: bool,
    /// Whether that normalisation has a learnt weight and bias.
    pub revin_affine: bool,
    /// Whether the last value is subtracted, rather than the mean.
    pub revin_subtract_last: bool,
    /// The activation of a token's network.
    pub activation: PatchTstActivation,
    /// Whether attention scores receive those of the layer before.
    pub res_attention: bool,
    /// Whether the batch norms stand before attention and network, not after them. (They are there in either case.)
    pub batch_normalization: bool,
    /// Whether the positions are learnt.
    pub learn_pos_embed: bool,
}

impl Default for PatchTstConfig {
    fn default() -> Self {
        Self {
            encoder_layers: 3,
            n_heads: 16,
            hidden_size: 128,
            linear_hidden_size: 256,
            dropout: 0.2,
            head_dropout: 0.0,
            attn_dropout: 0.0,
            patch_len: 16,
            stride: 8,
            revin: true,
            revin_affine: false,
            revin_subtract_last: true,
            activation: PatchTstActivation::Gelu,
            res_attention: true,
            batch_normalization: false,
            learn_pos_embed: true,
        }
    }
}

const MODEL: &str = "PatchTST";
/// The positions' initial values are uniform in plus and minus this.
const POSITION_BOUND: f64 = 0.02;

impl PatchTstConfig {
    fn validate(&self) -> Result<(), ModelError> {
        for (field, found, limit) in [
            ("encoder_layers", self.encoder_layers, MAX_COUNT),
            ("n_heads", self.n_heads, MAX_SIZE),
            ("hidden_size", self.hidden_size, MAX_SIZE),
            ("linear_hidden_size", self.linear_hidden_size, MAX_SIZE),
            ("patch_len", self.patch_len, MAX_SIZE),
            ("stride", self.stride, MAX_SIZE),
        ] {
            require_size(MODEL, field, found, limit)?;
        }
        for (field, found) in [
            ("dropout", self.dropout),
            ("head_dropout", self.head_dropout),
            ("attn_dropout", self.attn_dropout),
        ] {
            ModelError::require_dropout(MODEL, field, found)?;
        }
        if !self.hidden_size.is_multiple_of(self.n_heads) {
            let expected = format!("it must be a multiple of n_heads, {}", self.n_heads);
            return Err(ModelError::config(
                MODEL,
                "hidden_size",
                self.hidden_size,
                expected,
            ));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct EncoderLayer {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm_attn: BatchNormLayer,
    wide: Linear,
    narrow: Linear,
    norm_ffn: BatchNormLayer,
}

/// See the module.
#[derive(Debug)]
pub struct PatchTst {
    dims: ModelDims,
    config: PatchTstConfig,
    layout: Arc<ParamLayout>,
    patches: Patches,
    /// Tokens of a window, `N`.
    tokens: usize,
    revin: Option<RevIn>,
    project: Linear,
    positions: ParamId,
    layers: Vec<EncoderLayer>,
    head: Linear,
    attention: AttentionOptions,
    activation: Activation,
}

impl PatchTst {
    /// A network for the given sizes.
    ///
    /// # Errors
    /// A size is zero, there are exogenous variables, the heads do not divide the width, a probability of dropping is not one,
    /// or something is beyond the [limits](crate::limits).
    pub fn new(config: &PatchTstConfig, dims: &ModelDims) -> Result<Self, ModelError> {
        dims.validate(MODEL)?;
        dims.refuse_exogenous(MODEL)?;
        config.validate()?;
        let patches = Patches {
            patch: config.patch_len.min(dims.input_size + config.stride),
            stride: config.stride,
            padding: config.stride,
        };
        let tokens = patches.count(dims.input_size);
        let width = config.hidden_size;
        let mut b = ParamsBuilder::new();
        let (revin, project, positions, layers, head) = b.scope("model", |b| {
            let revin = config.revin.then(|| {
                let affine = config.revin_affine;
                let subtract_last = config.revin_subtract_last;
                b.scope("revin_layer", |b| {
                    RevIn::new(
                        b,
                        RevInConfig {
                            affine,
                            subtract_last,
                        },
                    )
                })
            });
            let (project, positions, layers) = b.scope("backbone", |b| {
                let project = Linear::new(b, "W_P", patches.patch, width);
                let init = Init::Uniform(POSITION_BOUND);
                let positions = if config.learn_pos_embed {
                    b.trainable("W_pos", [tokens, width], init)
                } else {
                    b.frozen("W_pos", [tokens, width], init)
                };
                let layers: Vec<_> = (0..config.encoder_layers)
                    .map(|k| {
                        b.scope(&format!("encoder.layers.{k}"), |b| {
                            EncoderLayer::new(b, config)
                        })
                    })
                    .collect();
                (project, positions, layers)
            });
            let head = Linear::new(b, "head.linear", width * tokens, dims.outputs());
            (revin, project, positions, layers, head)
        });
        let attention = AttentionOptions::new(config.n_heads).dropout(config.attn_dropout);
        let layout = b.build();
        require_layout(MODEL, dims, &layout)?;
        Ok(Self {
            dims: *dims,
            config: config.clone(),
            layout,
            patches,
            tokens,
            revin,
            project,
            positions,
            layers,
            head,
            attention,
            activation: match config.activation {
                PatchTstActivation::Gelu => Activation::Gelu,
                PatchTstActivation::Relu => Activation::Relu,
            },
        })
    }
}

impl EncoderLayer {
    fn new(b: &mut ParamsBuilder, config: &PatchTstConfig) -> Self {
        let (width, wide) = (config.hidden_size, config.linear_hidden_size);
        let (query, key, value, out) = b.scope("self_attn", |b| {
            (
                Linear::new(b, "W_Q", width, width),
                Linear::new(b, "W_K", width, width),
                Linear::new(b, "W_V", width, width),
                Linear::new(b, "to_out.0", width, width),
            )
        });
        Self {
            query,
            key,
            value,
            out,
            norm_attn: BatchNormLayer::new(b, "norm_attn.1", width),
            wide: Linear::new(b, "ff.0", width, wide),
            narrow: Linear::new(b, "ff.3", wide, width),
            norm_ffn: BatchNormLayer::new(b, "norm_ffn.1", width),
        }
    }

    /// Tokens `[B, N, d]` and the scores of the layer before to the same of this layer.
    fn forward<'t, R: SimdReal>(
        &self,
        tokens: Var<'t, R>,
        scores: Option<Var<'t, R>>,
        attention: &AttentionOptions,
        network: &PatchTst,
    ) -> (Var<'t, R>, Option<Var<'t, R>>) {
        let (config, linear) = (&network.config, Activation::Identity);
        let pre_norm = config.batch_normalization;
        let mut x = tokens;
        if pre_norm {
            x = self.norm_attn.forward(x);
        }
        let (mixed, scores) = self.query.forward(x, linear).attention(
            self.key.forward(x, linear),
            self.value.forward(x, linear),
            attention,
            scores,
        );
        // NeuralForecast drops twice here: once inside the attention module, once on the residual path.
        let mixed = self.out.forward(mixed, linear).dropout(config.dropout);
        x = x.add_dropout(mixed, config.dropout);
        x = if pre_norm {
            self.norm_ffn.forward(x)
        } else {
            self.norm_attn.forward(x)
        };
        let wide = self
            .wide
            .forward(x, network.activation)
            .dropout(config.dropout);
        x = x.add_dropout(self.narrow.forward(wide, linear), config.dropout);
        if !pre_norm {
            x = self.norm_ffn.forward(x);
        }
        (x, scores)
    }
}

impl<R: SimdReal> Network<R> for PatchTst {
    fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }

    fn coupling(&self) -> RowCoupling {
        RowCoupling::BatchWide
    }

    fn forward<'t>(&self, tape: &'t Tape<R>, batch: &BatchView<'_, R>) -> Var<'t, R> {
        let dims = &self.dims;
        dims.require(batch);
        let (rows, n, width) = (batch.rows(), self.tokens, self.config.hidden_size);
        let (windows, statistics) =
            normalized_windows(tape, batch.insample_y, dims.input_size, self.revin.as_ref());
        let mut patches = windows.patches(self.patches);
        if let Some(revin) = &self.revin {
            patches = revin.apply_affine(patches);
        }
        let tokens = self.project.forward(patches, Activation::Identity); // [B, N, d]
        let positions = tape.param(self.positions).reshape([n * width]);
        let tokens = tokens.reshape([rows, n * width]).add_bias(positions);
        let mut tokens = tokens
            .reshape([rows, n, width])
            .dropout(self.config.dropout);
        let mut scores = None;
        for (index, layer) in self.layers.iter().enumerate() {
            // Nobody reads the scores of the last layer, which need not exist then.
            let read = self.config.res_attention && index + 1 < self.layers.len();
            let attention = AttentionOptions {
                return_scores: read,
                ..self.attention
            };
            (tokens, scores) = layer.forward(tokens, scores, &attention, self);
        }
        // The head reads the tokens width by width, [d, N]; turning its weight is cheaper than turning the tokens.
        let weight = self.head.weight(tape).reshape([width, n, dims.outputs()]);
        let weight = weight.swap_axes(0, 1).reshape([n * width, dims.outputs()]);
        let flat = tokens.reshape([rows, n * width]);
        let y = flat.linear(weight, Some(self.head.bias(tape)), Activation::Identity);
        let mut y = y.dropout(self.config.head_dropout);
        if let Some(revin) = &self.revin {
            y = revin.undo_affine(y);
        }
        if let Some(statistics) = statistics {
            y = denormalize_rows(y, Some(statistics.deviations), &statistics.levels);
        }
        y.reshape([rows, dims.horizon, dims.outputs_per_step])
    }
}
