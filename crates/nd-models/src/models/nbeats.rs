//! NBEATS: blocks that forecast what the blocks before them left unexplained, in a basis each.
//!
//! Every block sends the residual through an MLP and gets coefficients of a backcast and of a forecast. An identity block gives the values
//! themselves, a trend block coefficients of smooth functions, a seasonality block those of cosines and sines. The forecast
//! begins with the last value. As in NeuralForecast, the series runs backwards inside the residual and the first linear layer of a
//! block has no activation.
//!
//! Oreshkin, Carpov, Chapados and Bengio, "N-BEATS: Neural basis expansion analysis for interpretable time series forecasting",
//! ICLR 2020.

use std::sync::Arc;

use nd_core::autograd::{Init, ParamLayout, ParamsBuilder, Tape, Var};
use nd_core::{BatchView, Network, RowCoupling};
use nd_simd::SimdReal;
use serde::{Deserialize, Serialize};

use super::block_mlp::{BlockMlp, validate_blocks};
use crate::error::ModelError;
use crate::limits::{
    MAX_COUNT, MAX_SIZE, MAX_TABLE, require_at_most, require_layout, require_size, require_values,
};
use crate::nn::{
    ActivationName, Cast, ModelDims, SeasonalityBasis, TrendBasis, add_forecast, naive_forecast,
    reversed, reversed_mask, subtract_backcast,
};

/// What the blocks of a stack forecast with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StackType {
    /// The values themselves.
    Identity,
    /// Smooth functions of time.
    Trend,
    /// Cosines and sines.
    Seasonality,
}

/// What an [`Nbeats`] can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NbeatsConfig {
    /// What each stack forecasts with.
    pub stack_types: Vec<StackType>,
    /// Blocks of each stack.
    pub n_blocks: Vec<usize>,
    /// Inputs and outputs of every hidden layer of a block; each layer's inputs are the outputs of the one before it.
    pub mlp_units: Vec<[usize; 2]>,
    /// Frequencies of a seasonality are multiples of one over this.
    pub n_harmonics: usize,
    /// One less than the number of functions of a trend: the degree of a polynomial.
    pub n_basis: usize,
    /// The functions of a trend.
    pub basis: TrendBasis,
    /// The activation of the hidden layers.
    pub activation: ActivationName,
    /// Whether the blocks of a stack are one and the same.
    pub shared_weights: bool,
}

impl Default for NbeatsConfig {
    fn default() -> Self {
        Self {
            stack_types: vec![
                StackType::Identity,
                StackType::Trend,
                StackType::Seasonality,
            ],
            n_blocks: vec![1; 3],
            mlp_units: vec![[512, 512]; 3],
            n_harmonics: 2,
            n_basis: 2,
            basis: TrendBasis::Polynomial,
            activation: ActivationName::ReLU,
            shared_weights: false,
        }
    }
}

const MODEL: &str = "NBEATS";

impl NbeatsConfig {
    fn validate(&self, dims: &ModelDims) -> Result<(), ModelError> {
        if self.stack_types.len() != self.n_blocks.len() {
            let expected = format!(
                "n_blocks has {} entries: give one for each stack",
                self.n_blocks.len()
            );
            return Err(ModelError::config(
                MODEL,
                "stack_types",
                &self.stack_types,
                expected,
            ));
        }
        validate_blocks(MODEL, &self.n_blocks, &self.mlp_units)?;
        if dims.horizon == 1
            && self
                .stack_types
                .iter()
                .any(|&kind| kind != StackType::Identity)
        {
            let expected = "a trend or a season of a single step is no function of time: take identity stacks, \
                            or a horizon of at least 2";
            return Err(ModelError::config(
                MODEL,
                "stack_types",
                &self.stack_types,
                expected,
            ));
        }
        if self.stack_types.contains(&StackType::Trend) {
            let (found, smallest) = (self.n_basis, self.basis.smallest());
            if found < smallest {
                let expected = format!("the {:?} basis needs at least {smallest}", self.basis);
                return Err(ModelError::config(MODEL, "n_basis", found, expected));
            }
            require_at_most(MODEL, "n_basis", found, MAX_COUNT)?;
        }
        if self.stack_types.contains(&StackType::Seasonality) {
            require_size(MODEL, "n_harmonics", self.n_harmonics, MAX_SIZE)?;
        }
        Ok(())
    }

    /// The functions of a block's basis.
    fn functions(&self, kind: StackType, horizon: usize) -> usize {
        match kind {
            StackType::Identity => 0,
            StackType::Trend => self.n_basis.saturating_add(1),
            StackType::Seasonality => SeasonalityBasis::functions(self.n_harmonics, horizon),
        }
    }

    /// Values of all bases, which are tabulated while the network is built: known before any of them is.
    pub(crate) fn table_values(&self, dims: &ModelDims) -> usize {
        let steps = dims.input_size.saturating_add(dims.horizon);
        let stacks = self.stack_types.iter().zip(&self.n_blocks);
        stacks.fold(0, |sum: usize, (&kind, &count)| {
            let blocks = if self.shared_weights {
                count.min(1)
            } else {
                count
            };
            let functions = self.functions(kind, dims.horizon);
            sum.saturating_add(functions.saturating_mul(steps).saturating_mul(blocks))
        })
    }
}

#[derive(Clone, Debug)]
struct Block {
    mlp: Arc<BlockMlp>,
    backcast: Cast,
    forecast: Cast,
    /// Columns of theta that describe the backcast.
    backcast_size: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Nbeats {
    dims: ModelDims,
    layout: Arc<ParamLayout>,
    blocks: Vec<Block>,
}

impl Nbeats {
    /// A network for the given sizes.
    ///
    /// # Errors
    /// A size is zero, there are exogenous variables, lists of the configuration do not fit together, the horizon is too
    /// short for a basis, or something is beyond the [limits](crate::limits).
    pub fn new(config: &NbeatsConfig, dims: &ModelDims) -> Result<Self, ModelError> {
        dims.validate(MODEL)?;
        dims.refuse_exogenous(MODEL)?;
        config.validate(dims)?;
        require_values(MODEL, dims, config.table_values(dims), MAX_TABLE)?;
        let mut b = ParamsBuilder::new();
        let mut blocks: Vec<Block> = Vec::new();
        for (&kind, &count) in config.stack_types.iter().zip(&config.n_blocks) {
            for in_stack in 0..count {
                if config.shared_weights && in_stack > 0 {
                    blocks.extend(blocks.last().cloned());
                    continue;
                }
                let name = format!("blocks.{}", blocks.len());
                blocks.push(b.scope(&name, |b| Block::new(b, config, dims, kind)));
            }
        }
        let layout = b.build();
        require_layout(MODEL, dims, &layout)?;
        Ok(Self {
            dims: *dims,
            layout,
            blocks,
        })
    }
}

impl Block {
    fn new(
        b: &mut ParamsBuilder,
        config: &NbeatsConfig,
        dims: &ModelDims,
        kind: StackType,
    ) -> Self {
        let (length, horizon, outputs) = (dims.input_size, dims.horizon, dims.outputs_per_step);
        let mut basis = |functions: usize, backcast: Vec<f64>, forecast: Vec<f64>| {
            b.scope("basis", |b| {
                let mut table = |name: &str, values: Vec<f64>, steps: usize| {
                    let init = Init::Values(values.into());
                    Cast::Basis(b.frozen(name, [functions, steps], init))
                };
                (
                    table("backcast_basis", backcast, length),
                    table("forecast_basis", forecast, horizon),
                )
            })
        };
        let (backcast_size, theta, (backcast, forecast)) = match kind {
            StackType::Identity => (
                length,
                length + horizon * outputs,
                (Cast::Values, Cast::Values),
            ),
            StackType::Trend => {
                let functions = config.functions(kind, horizon);
                let table = |steps| config.basis.table(functions, steps);
                let casts = basis(functions, table(length), table(horizon));
                (functions, functions * (1 + outputs), casts)
            }
            StackType::Seasonality => {
                let table = SeasonalityBasis::new(config.n_harmonics, length, horizon);
                let functions = table.functions;
                let casts = basis(functions, table.backcast, table.forecast);
                (functions, functions * (1 + outputs), casts)
            }
        };
        let mlp = BlockMlp::new(b, length, &config.mlp_units, theta, config.activation, 0.0);
        Self {
            mlp: Arc::new(mlp),
            backcast,
            forecast,
            backcast_size,
        }
    }
}

impl<R: SimdReal> Network<R> for Nbeats {
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
            let (theta, size) = (block.mlp.forward(residual), block.backcast_size);
            forecast = add_forecast(forecast, theta, size, block.forecast);
            // Nothing looks at what the last block leaves.
            if i + 1 < self.blocks.len() {
                residual = subtract_backcast(residual, theta, size, mask, block.backcast);
            }
        }
        forecast
    }
}
