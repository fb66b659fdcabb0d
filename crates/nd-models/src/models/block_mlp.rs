//! The MLP inside a block of NBEATS and NHITS.

use nd_core::autograd::{ParamsBuilder, Var};
use nd_simd::SimdReal;
use nd_simd::activations::Activation;
use nd_simd::ops::prelude::DropoutExt;

use crate::error::ModelError;
use crate::limits::{MAX_COUNT, MAX_SIZE};
use crate::nn::{ActivationName, Linear};

/// A linear layer without activation, hidden layers, and the linear layer to theta.
#[derive(Debug)]
pub(super) struct BlockMlp {
    input: Linear,
    hidden: Vec<Linear>,
    theta: Linear,
    activation: Activation,
    dropout: f64,
}

/// Checks that there is a block, that blocks and layers can be counted, and that each layer takes what the one before it gives.
pub(super) fn validate_blocks(
    model: &'static str,
    n_blocks: &[usize],
    units: &[[usize; 2]],
) -> Result<(), ModelError> {
    let blocks = n_blocks
        .iter()
        .fold(0, |sum: usize, &n| sum.saturating_add(n));
    if blocks == 0 {
        return Err(ModelError::config(
            model,
            "n_blocks",
            n_blocks,
            "there must be a block",
        ));
    }
    // Beside the hidden layers, a block has one before and one behind them.
    let layers = blocks.saturating_mul(units.len().saturating_add(2));
    if layers > MAX_COUNT {
        let expected = format!(
            "with {} entries of mlp_units that makes {layers} layers: there can be at most {MAX_COUNT}",
            units.len()
        );
        return Err(ModelError::config(model, "n_blocks", n_blocks, expected));
    }
    if units.as_flattened().iter().any(|&size| size > MAX_SIZE) {
        let expected = format!("an entry can be at most {MAX_SIZE}");
        return Err(ModelError::config(model, "mlp_units", units, expected));
    }
    let fits = units.windows(2).all(|pair| pair[0][1] == pair[1][0]);
    if units.is_empty() || !fits || units.as_flattened().contains(&0) {
        return Err(ModelError::config(
            model,
            "mlp_units",
            units,
            "it must be a list of [inputs, outputs], at least 1 each, where every layer takes as many \
             inputs as the layer before it has outputs",
        ));
    }
    Ok(())
}

impl BlockMlp {
    /// Declares the layers under the names that NeuralForecast's `nn.Sequential` gives them.
    pub(super) fn new(
        b: &mut ParamsBuilder,
        inputs: usize,
        units: &[[usize; 2]],
        theta: usize,
        activation: ActivationName,
        dropout: f64,
    ) -> Self {
        let mut place = 0;
        let mut layer = |inputs, outputs, modules| {
            let linear = Linear::new(b, &format!("layers.{place}"), inputs, outputs);
            place += modules;
            linear
        };
        // A hidden layer is a linear layer, its activation and, where there is one, its dropout.
        let modules = if dropout > 0.0 { 3 } else { 2 };
        Self {
            input: layer(inputs, units[0][0], 1),
            hidden: units
                .iter()
                .map(|&[inputs, outputs]| layer(inputs, outputs, modules))
                .collect(),
            theta: layer(units[units.len() - 1][1], theta, 1),
            activation: activation.into(),
            dropout,
        }
    }

    /// Inputs `[B, inputs]` to theta `[B, theta]`.
    pub(super) fn forward<'t, R: SimdReal>(&self, input: Var<'t, R>) -> Var<'t, R> {
        let mut x = self.input.forward(input, Activation::Identity);
        for layer in &self.hidden {
            x = layer.forward(x, self.activation).dropout(self.dropout);
        }
        self.theta.forward(x, Activation::Identity)
    }
}
