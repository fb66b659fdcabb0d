//! LSTM: a recurrent encoder over the input, an MLP on the states of its last steps.
//!
//! The encoder starts from zeros. The states of the last `h` steps of the input stand for the steps of the horizon; a horizon longer
//! than the input gets its states from a linear map over time. So the model forecasts all steps at once, like NeuralForecast's
//! with `recurrent=False`, its default.
//!
//! Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9, 1997.
//!
//! Known weakness: forecasting step after step (`recurrent=True`) needs an LSTM with a projected state, which there is not.

use std::sync::Arc;

use nd_core::autograd::{ParamLayout, ParamsBuilder, Tape, Var};
use nd_core::{BatchView, Network, RecurrentNetwork, RowCoupling};
use nd_simd::SimdReal;
use nd_simd::activations::Activation;
use nd_simd::ops::prelude::{PermuteExt, SliceExt};
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::limits::{MAX_COUNT, MAX_SIZE, require_layout, require_size};
use crate::nn::{
    ActivationName, Linear, LstmLayer, ModelDims, append_future, mix_steps, sequence_inputs,
    step_dropout,
};

/// What an [`Lstm`] can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LstmConfig {
    /// Recurrent layers.
    pub encoder_n_layers: usize,
    /// Units of each recurrent layer.
    pub encoder_hidden_size: usize,
    /// Whether the recurrent layers have biases.
    pub encoder_bias: bool,
    /// The probability of dropping an output of a recurrent layer, the last one excepted.
    pub encoder_dropout: f64,
    /// Units of each hidden layer of the decoder.
    pub decoder_hidden_size: usize,
    /// Layers of the decoder; with one it is a single linear layer.
    pub decoder_layers: usize,
    /// The activation of the decoder's hidden layers.
    pub decoder_activation: ActivationName,
    /// Whether to forecast step after step. Only `false` can be built; see the module.
    pub recurrent: bool,
}

impl Default for LstmConfig {
    fn default() -> Self {
        Self {
            encoder_n_layers: 2,
            encoder_hidden_size: 128,
            encoder_bias: true,
            encoder_dropout: 0.0,
            decoder_hidden_size: 128,
            decoder_layers: 2,
            decoder_activation: ActivationName::ReLU,
            recurrent: false,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Lstm {
    dims: ModelDims,
    layout: Arc<ParamLayout>,
    encoder: Vec<LstmLayer>,
    encoder_dropout: f64,
    upsample: Option<Linear>,
    decoder: Vec<Linear>,
    activation: Activation,
}

impl Lstm {
    /// A network for the given sizes.
    ///
    /// # Errors
    /// A size or a number of layers is zero or beyond the [limits](crate::limits), or a probability of dropping is not one.
    pub fn new(config: &LstmConfig, dims: &ModelDims) -> Result<Self, ModelError> {
        const MODEL: &str = "LSTM";
        dims.validate(MODEL)?;
        for (field, found, limit) in [
            ("encoder_n_layers", config.encoder_n_layers, MAX_COUNT),
            ("encoder_hidden_size", config.encoder_hidden_size, MAX_SIZE),
            ("decoder_hidden_size", config.decoder_hidden_size, MAX_SIZE),
            ("decoder_layers", config.decoder_layers, MAX_COUNT),
        ] {
            require_size(MODEL, field, found, limit)?;
        }
        ModelError::require_dropout(MODEL, "encoder_dropout", config.encoder_dropout)?;
        if config.recurrent {
            let expected = "forecasting step after step is not supported: leave it false, and all steps are forecast at once";
            return Err(ModelError::config(
                MODEL,
                "recurrent",
                config.recurrent,
                expected,
            ));
        }
        let mut b = ParamsBuilder::new();
        let hidden = config.encoder_hidden_size;
        let mut inputs = 1 + dims.hist_exog + dims.stat_exog + dims.futr_exog;
        let mut encoder = Vec::with_capacity(config.encoder_n_layers);
        b.scope("hist_encoder", |b| {
            for layer in 0..config.encoder_n_layers {
                encoder.push(LstmLayer::new(
                    b,
                    layer,
                    inputs,
                    hidden,
                    config.encoder_bias,
                ));
                inputs = hidden;
            }
        });
        let mut decoder = Vec::with_capacity(config.decoder_layers);
        let mut inputs = hidden + dims.futr_exog;
        for layer in 0..config.decoder_layers {
            let outputs = if layer + 1 == config.decoder_layers {
                dims.outputs_per_step
            } else {
                config.decoder_hidden_size
            };
            // Each hidden layer is three modules of NeuralForecast's: linear, activation, dropout.
            let name = format!("mlp_decoder.layers.{}", 3 * layer);
            decoder.push(Linear::new(&mut b, &name, inputs, outputs));
            inputs = outputs;
        }
        let upsample = (dims.horizon > dims.input_size)
            .then(|| Linear::new(&mut b, "upsample_sequence", dims.input_size, dims.horizon));
        let layout = b.build();
        require_layout(MODEL, dims, &layout)?;
        Ok(Self {
            dims: *dims,
            layout,
            encoder,
            encoder_dropout: config.encoder_dropout,
            upsample,
            decoder,
            activation: config.decoder_activation.into(),
        })
    }
}

impl<R: SimdReal> Network<R> for Lstm {
    fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }

    fn coupling(&self) -> RowCoupling {
        RowCoupling::RowLocal
    }

    fn forward<'t>(&self, tape: &'t Tape<R>, batch: &BatchView<'_, R>) -> Var<'t, R> {
        let dims = &self.dims;
        dims.require(batch);
        let mut x = sequence_inputs(tape, batch, dims); // [L, B, I]
        for (i, layer) in self.encoder.iter().enumerate() {
            x = layer.forward(x);
            if i + 1 < self.encoder.len() {
                x = step_dropout(x, self.encoder_dropout);
            }
        }
        x = match self.upsample {
            None => x.narrow(0, dims.input_size - dims.horizon..dims.input_size),
            Some(linear) => mix_steps(x, linear.weight(tape), linear.bias(tape)),
        };
        x = append_future(x, batch, dims); // [h, B, H + F]
        let last = self.decoder.len() - 1;
        for layer in &self.decoder[..last] {
            x = layer.forward(x, self.activation);
        }
        let y = self.decoder[last].forward(x, Activation::Identity); // [h, B, Q]
        y.swap_axes(0, 1)
    }
}

/// Step by step: an input `[rows, 1 + X + S + F]` in the order of the encoder's sequence to the decoder's output
/// `[rows, Q]` at that step. Over a whole window this gives what [`Network::forward`] gives, as long as the
/// horizon is not longer than the input and there are no future variables, which the decoder takes from later steps.
impl<R: SimdReal> RecurrentNetwork<R> for Lstm {
    /// Hidden state and cell of every layer, `[rows, H]` each.
    type State<'t>
        = Vec<(Var<'t, R>, Var<'t, R>)>
    where
        R: 't;

    fn init_state<'t>(&self, tape: &'t Tape<R>, rows: usize) -> Self::State<'t> {
        self.encoder
            .iter()
            .map(|layer| layer.zero_state(tape, rows))
            .collect()
    }

    /// # Panics
    /// The network takes future variables or maps a shorter input to a longer horizon, or shapes do not fit.
    #[track_caller]
    fn step<'t>(&self, input: Var<'t, R>, state: Self::State<'t>) -> (Var<'t, R>, Self::State<'t>) {
        assert!(
            self.dims.futr_exog == 0 && self.upsample.is_none(),
            "a step needs a network without future variables whose horizon is at most its input size, found {:?}",
            self.dims
        );
        let (rows, features) = (input.shape().rows(), input.shape().cols());
        let mut x = input.reshape([1, rows, features]);
        let mut next = Vec::with_capacity(state.len());
        for (i, (layer, state)) in self.encoder.iter().zip(state).enumerate() {
            let output = layer.forward_from(x, state);
            x = output.y;
            let hidden = x.shape().cols();
            next.push((x.reshape([rows, hidden]), output.c));
            if i + 1 < self.encoder.len() {
                x = step_dropout(x, self.encoder_dropout);
            }
        }
        let mut y = x.reshape([rows, x.shape().cols()]);
        let last = self.decoder.len() - 1;
        for layer in &self.decoder[..last] {
            y = layer.forward(y, self.activation);
        }
        (self.decoder[last].forward(y, Activation::Identity), next)
    }
}
