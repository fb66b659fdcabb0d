//! DLinear: a moving average and the rest, one linear layer for each, added.
//!
//! Zeng, Chen, Zhang and Xu, "Are transformers effective for time series forecasting?", AAAI 2023. Computed as one product with one
//! weight ([`crate::nn::decomposition_weight`]).

use std::sync::Arc;

use nd_core::autograd::{ParamLayout, ParamsBuilder, Tape, Var};
use nd_core::{BatchView, Network, RowCoupling};
use nd_simd::SimdReal;
use nd_simd::activations::Activation;
use nd_simd::ops::prelude::{ArithmeticExt, LinearExt};
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::limits::{MAX_SIZE, require_at_most, require_layout};
use crate::nn::{Linear, ModelDims, decomposition_weight};

/// What a [`DLinear`] can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DLinearConfig {
    /// Steps of the moving average that is the trend; odd.
    pub moving_avg_window: usize,
}

impl Default for DLinearConfig {
    fn default() -> Self {
        Self {
            moving_avg_window: 25,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct DLinear {
    dims: ModelDims,
    layout: Arc<ParamLayout>,
    trend: Linear,
    season: Linear,
    window: usize,
}

impl DLinear {
    /// A network for the given sizes.
    ///
    /// # Errors
    /// A size is zero, there are exogenous variables, the window of the average is even, or something is beyond the
    /// [limits](crate::limits).
    pub fn new(config: &DLinearConfig, dims: &ModelDims) -> Result<Self, ModelError> {
        const MODEL: &str = "DLinear";
        dims.validate(MODEL)?;
        dims.refuse_exogenous(MODEL)?;
        let window = config.moving_avg_window;
        require_at_most(MODEL, "moving_avg_window", window, MAX_SIZE)?;
        if window.is_multiple_of(2) {
            return Err(ModelError::config(
                MODEL,
                "moving_avg_window",
                window,
                "it must be odd, so that the average is centred",
            ));
        }
        let mut b = ParamsBuilder::new();
        let trend = Linear::new(&mut b, "linear_trend", dims.input_size, dims.outputs());
        let season = Linear::new(&mut b, "linear_season", dims.input_size, dims.outputs());
        let layout = b.build();
        require_layout(MODEL, dims, &layout)?;
        Ok(Self {
            dims: *dims,
            layout,
            trend,
            season,
            window,
        })
    }
}

impl<R: SimdReal> Network<R> for DLinear {
    fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }

    fn coupling(&self) -> RowCoupling {
        RowCoupling::RowLocal
    }

    fn forward<'t>(&self, tape: &'t Tape<R>, batch: &BatchView<'_, R>) -> Var<'t, R> {
        let dims = &self.dims;
        dims.require(batch);
        let x = tape.input([batch.rows(), dims.input_size], batch.insample_y);
        let weight = decomposition_weight(
            self.trend.weight(tape),
            self.season.weight(tape),
            self.window,
        );
        let bias = self.trend.bias(tape).add(self.season.bias(tape));
        x.linear(weight, Some(bias), Activation::Identity).reshape([
            batch.rows(),
            dims.horizon,
            dims.outputs_per_step,
        ])
    }
}
