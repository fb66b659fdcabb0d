//! MLP: everything known about a window through linear layers with ReLU.

use std::sync::Arc;

use nd_core::autograd::{ParamLayout, ParamsBuilder, Tape, Var};
use nd_core::{BatchView, Network, RowCoupling};
use nd_simd::SimdReal;
use nd_simd::activations::Activation;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::limits::{MAX_COUNT, MAX_SIZE, require_layout, require_size};
use crate::nn::{Linear, ModelDims, flat_windows};

/// What an [`Mlp`] can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MlpConfig {
    /// Hidden layers.
    pub num_layers: usize,
    /// Units of each hidden layer.
    pub hidden_size: usize,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self {
            num_layers: 2,
            hidden_size: 1024,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Mlp {
    dims: ModelDims,
    layout: Arc<ParamLayout>,
    hidden: Vec<Linear>,
    out: Linear,
}

impl Mlp {
    /// A network for the given sizes.
    ///
    /// # Errors
    /// A size or a number of layers is zero or beyond the [limits](crate::limits).
    pub fn new(config: &MlpConfig, dims: &ModelDims) -> Result<Self, ModelError> {
        const MODEL: &str = "MLP";
        dims.validate(MODEL)?;
        let &MlpConfig {
            num_layers,
            hidden_size,
        } = config;
        require_size(MODEL, "num_layers", num_layers, MAX_COUNT)?;
        require_size(MODEL, "hidden_size", hidden_size, MAX_SIZE)?;
        let mut b = ParamsBuilder::new();
        let mut inputs = dims.input_size + dims.exogenous_values();
        let mut hidden = Vec::with_capacity(num_layers);
        for layer in 0..num_layers {
            hidden.push(Linear::new(
                &mut b,
                &format!("mlp.{layer}"),
                inputs,
                hidden_size,
            ));
            inputs = hidden_size;
        }
        let out = Linear::new(&mut b, "out", hidden_size, dims.outputs());
        let layout = b.build();
        require_layout(MODEL, dims, &layout)?;
        Ok(Self {
            dims: *dims,
            layout,
            hidden,
            out,
        })
    }
}

impl<R: SimdReal> Network<R> for Mlp {
    fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }

    fn coupling(&self) -> RowCoupling {
        RowCoupling::RowLocal
    }

    fn forward<'t>(&self, tape: &'t Tape<R>, batch: &BatchView<'_, R>) -> Var<'t, R> {
        let dims = &self.dims;
        dims.require(batch);
        let mut x = flat_windows(tape, batch, dims);
        for layer in &self.hidden {
            x = layer.forward(x, Activation::Relu);
        }
        self.out.forward(x, Activation::Identity).reshape([
            batch.rows(),
            dims.horizon,
            dims.outputs_per_step,
        ])
    }
}
