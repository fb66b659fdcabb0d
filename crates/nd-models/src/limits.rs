//! How large a network may be.
//!
//! A configuration comes from a user or from a file. A zero too many, or a hostile file, must be an error with the name of the
//! setting, before any memory is asked for and before any product of sizes can overflow. So every size has a limit of
//! its own, chosen so that all products of two or three of them can be counted, and the number of values that a
//! configuration makes has one too.
//!
//! Known weakness: the limits say what can be counted, not what fits into the memory of a machine.

use nd_core::autograd::ParamLayout;

use crate::error::ModelError;
use crate::nn::ModelDims;

/// The largest size: inputs, steps of the horizon, units of a layer, exogenous columns of a kind, windows of a step.
pub const MAX_SIZE: usize = 1 << 20;
/// The largest number of layers, blocks, basis functions or quantiles.
pub const MAX_COUNT: usize = 1 << 10;
/// The largest number of outputs of a window: steps of the horizon times outputs of each.
pub const MAX_OUTPUTS: usize = 1 << 22;
/// The largest number of inputs of a window, exogenous values included.
pub const MAX_INPUTS: usize = 1 << 28;
/// The largest number of values in a network, 8 GiB in f32; training keeps four such copies.
pub const MAX_VALUES: usize = 1 << 31;
/// The largest number of values that are tabulated while a network is built, such as the bases of NBEATS.
pub const MAX_TABLE: usize = 1 << 27;
/// The longest horizon of a loss that tabulates waves, `h (h + 2)` values.
pub const MAX_WAVE_HORIZON: usize = 1 << 12;

/// Requires a size between 1 and a limit.
pub(crate) fn require_size(
    owner: &'static str,
    field: &'static str,
    found: usize,
    limit: usize,
) -> Result<(), ModelError> {
    ModelError::require_positive(owner, field, found)?;
    require_at_most(owner, field, found, limit)
}

/// Requires a number up to a limit.
pub(crate) fn require_at_most(
    owner: &'static str,
    field: &'static str,
    found: usize,
    limit: usize,
) -> Result<(), ModelError> {
    if found > limit {
        let expected = format!("it can be at most {limit}");
        return Err(ModelError::config(owner, field, found, expected));
    }
    Ok(())
}

/// Requires that the values of a network are not too many.
pub(crate) fn require_values(
    model: &'static str,
    dims: &ModelDims,
    found: usize,
    limit: usize,
) -> Result<(), ModelError> {
    if found > limit {
        return Err(ModelError::TooLarge {
            model,
            input_size: dims.input_size,
            horizon: dims.horizon,
            found,
            limit,
        });
    }
    Ok(())
}

/// Requires that the parameters of a finished layout are not too many.
pub(crate) fn require_layout(
    model: &'static str,
    dims: &ModelDims,
    layout: &ParamLayout,
) -> Result<(), ModelError> {
    require_values(model, dims, layout.len(), MAX_VALUES)
}
