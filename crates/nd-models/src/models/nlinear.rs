//! NLinear: one linear layer on the distance from the last value.
//!
//! Zeng, Chen, Zhang and Xu, "Are transformers effective for time series forecasting?", AAAI 2023.

use std::sync::Arc;

use nd_core::autograd::{ParamLayout, ParamsBuilder, Tape, Var};
use nd_core::{BatchView, Network, RowCoupling};
use nd_simd::SimdReal;
use nd_simd::activations::Activation;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::limits::require_layout;
use crate::nn::{Linear, ModelDims, centered_windows, denormalize_rows};

/// What an [`NLinear`] can be told: nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NLinearConfig {}

/// See the module.
#[derive(Debug)]
pub struct NLinear {
    dims: ModelDims,
    layout: Arc<ParamLayout>,
    linear: Linear,
}

impl NLinear {
    /// A network for the given sizes.
    ///
    /// # Errors
    /// A size is zero, there are exogenous variables, or something is beyond the [limits](crate::limits).
    pub fn new(_: &NLinearConfig, dims: &ModelDims) -> Result<Self, ModelError> {
        const MODEL: &str = "NLinear";
        dims.validate(MODEL)?;
        dims.refuse_exogenous(MODEL)?;
        let mut b = ParamsBuilder::new();
        let linear = Linear::new(&mut b, "linear", dims.input_size, dims.outputs());
        let layout = b.build();
        require_layout(MODEL, dims, &layout)?;
        Ok(Self {
            dims: *dims,
            layout,
            linear,
        })
    }
}

impl<R: SimdReal> Network<R> for NLinear {
    fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }

    fn coupling(&self) -> RowCoupling {
        RowCoupling::RowLocal
    }

    fn forward<'t>(&self, tape: &'t Tape<R>, batch: &BatchView<'_, R>) -> Var<'t, R> {
        let dims = &self.dims;
        dims.require(batch);
        let (x, last) = centered_windows(tape, batch.insample_y, dims.input_size);
        let y = self.linear.forward(x, Activation::Identity);
        denormalize_rows(y, None, &last).reshape([
            batch.rows(),
            dims.horizon,
            dims.outputs_per_step,
        ])
    }
}
