//! NHITS: blocks that see the residual at several rates and forecast by interpolation.
//!
//! Every block pools what the blocks before it left unexplained, sends it through an MLP, and gets back a backcast (what it explains
//! of the input) and a few knots (its part of the forecast), which are interpolated to the horizon. The forecast begins
//! with the last value. As in NeuralForecast, the series runs backwards inside the residual and the first linear layer of a block has no activation.
//!
//! Challu, Olivares, Oreshkin, Garza, Mergenthaler-Canseco and Dubrawski, "NHITS: Neural hierarchical interpolation for time series
//! forecasting", AAAI 2023.

use std::sync::Arc;

use nd_core::autograd::{ParamLayout, ParamsBuilder, Tape, Var};
use nd_core::{BatchView, Network, RowCoupling};
use nd_simd::SimdReal;
use serde::{Deserialize, Serialize};

use super::block_mlp::{BlockMlp, validate_blocks};
use crate::error::ModelError;
use crate::limits::{MAX_SIZE, require_layout};
use crate::nn::{
    ActivationName, Cast, InterpolationMode, ModelDims, PoolingMode, add_forecast, naive_forecast,
    pooled_exogenous, pooled_input, reversed, reversed_mask, subtract_backcast,
};

/// What an [`Nhits`] can be told.
///
/// The lists `n_blocks`, `n_pool_kernel_size` and `n_freq_downsample` have one entry for each stack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NhitsConfig {
    /// Blocks of each stack.
    pub n_blocks: Vec<usize>,
    /// Inputs and outputs of every hidden layer of a block; each layer's inputs are the outputs of the one before it.
    pub mlp_units: Vec<[usize; 2]>,
    /// Steps that are pooled to one, for each stack.
    pub n_pool_kernel_size: Vec<usize>,
    /// Steps of the horizon for each knot, for each stack.
    pub n_freq_downsample: Vec<usize>,
    /// How steps are pooled.
    pub pooling_mode: PoolingMode,
    /// How the knots become a forecast.
    pub interpolation_mode: InterpolationMode,
    /// The probability of dropping a hidden unit.
    pub dropout_prob_theta: f64,
    /// The activation of the hidden layers.
    pub activation: ActivationName,
}

impl Default for NhitsConfig {
    fn default() -> Self {
        Self {
            n_blocks: vec![1; 3],
            mlp_units: vec![[512, 512]; 3],
            n_pool_kernel_size: vec![2, 2, 1],
            n_freq_downsample: vec![4, 2, 1],
            pooling_mode: PoolingMode::Max,
            interpolation_mode: InterpolationMode::Linear,
            dropout_prob_theta: 0.0,
            activation: ActivationName::ReLU,
        }
    }
}

const MODEL: &str = "NHITS";

impl NhitsConfig {
    fn validate(&self) -> Result<(), ModelError> {
        let stacks = self.n_blocks.len();
        validate_blocks(MODEL, &self.n_blocks, &self.mlp_units)?;
        for (field, list) in [
            ("n_pool_kernel_size", &self.n_pool_kernel_size),
            ("n_freq_downsample", &self.n_freq_downsample),
        ] {
            if list.len() != stacks {
                let expected =
                    format!("n_blocks has {stacks} stacks: give one entry for each of them");
                return Err(ModelError::config(MODEL, field, list, expected));
            }
            if list.iter().any(|entry| !(1..=MAX_SIZE).contains(entry)) {
                let expected = format!("every entry must be at least 1 and at most {MAX_SIZE}");
                return Err(ModelError::config(MODEL, field, list, expected));
            }
        }
        ModelError::require_dropout(MODEL, "dropout_prob_theta", self.dropout_prob_theta)
    }
}

#[derive(Debug)]
struct Block {
    mlp: BlockMlp,
    kernel: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Nhits {
    dims: ModelDims,
    layout: Arc<ParamLayout>,
    blocks: Vec<Block>,
    pooling: PoolingMode,
    forecast: Cast,
}

impl Nhits {
    /// A network for the given sizes.
    ///
    /// # Errors
    /// A size is zero or beyond the [limits](crate::limits), or lists of the configuration do not fit together.
    pub fn new(config: &NhitsConfig, dims: &ModelDims) -> Result<Self, ModelError> {
        dims.validate(MODEL)?;
        config.validate()?;
        let mut b = ParamsBuilder::new();
        let mut blocks = Vec::new();
        let stacks = config
            .n_blocks
            .iter()
            .zip(&config.n_pool_kernel_size)
            .zip(&config.n_freq_downsample);
        for ((&count, &kernel), &freq) in stacks {
            let knots = (dims.horizon / freq).max(1);
            for _ in 0..count {
                let inputs = dims.input_size.div_ceil(kernel) + pooled_exogenous(dims, kernel);
                let theta = dims.input_size + dims.outputs_per_step * knots;
                let name = format!("blocks.{}", blocks.len());
                let mlp = b.scope(&name, |b| {
                    BlockMlp::new(
                        b,
                        inputs,
                        &config.mlp_units,
                        theta,
                        config.activation,
                        config.dropout_prob_theta,
                    )
                });
                blocks.push(Block { mlp, kernel });
            }
        }
        let layout = b.build();
        require_layout(MODEL, dims, &layout)?;
        Ok(Self {
            dims: *dims,
            layout,
            blocks,
            pooling: config.pooling_mode,
            forecast: Cast::Knots(config.interpolation_mode.into()),
        })
    }
}

impl<R: SimdReal> Network<R> for Nhits {
    fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }

    fn coupling(&self) -> RowCoupling {
        RowCoupling::RowLocal
    }

    fn forward<'t>(&self, tape: &'t Tape<R>, batch: &BatchView<'_, R>) -> Var<'t, R> {
        let dims = &self.dims;
        dims.require(batch);
        let length = dims.input_size;
        let mask = reversed_mask(tape, batch.insample_mask, length);
        let mut residual = reversed(tape, batch.insample_y, length);
        let shape = [batch.rows(), dims.horizon, dims.outputs_per_step];
        let mut forecast = naive_forecast(tape, batch.insample_y, length, shape);
        for (i, block) in self.blocks.iter().enumerate() {
            let input = pooled_input(residual, batch, dims, block.kernel, self.pooling);
            let theta = block.mlp.forward(input);
            forecast = add_forecast(forecast, theta, length, self.forecast);
            // Nothing looks at what the last block leaves.
            if i + 1 < self.blocks.len() {
                residual = subtract_backcast(residual, theta, length, mask, Cast::Values);
            }
        }
        forecast
    }
}
