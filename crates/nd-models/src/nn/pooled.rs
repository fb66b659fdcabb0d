//! The input of a block of NHITS: the residual pooled in time, and pooled exogenous variables beside it.

use nd_core::BatchView;
use nd_core::autograd::Var;
use nd_simd::SimdReal;
use nd_simd::ops::prelude::{PoolExt, concat};
use nd_simd::pool::Windows;

use super::dims::ModelDims;
use super::names::PoolingMode;

/// Values of a block's input besides the pooled residual.
pub(crate) fn pooled_exogenous(dims: &ModelDims, kernel: usize) -> usize {
    dims.hist_exog * dims.input_size.div_ceil(kernel)
        + dims.futr_exog * (dims.input_size + dims.horizon).div_ceil(kernel)
        + dims.stat_exog
}

/// The pooled input of a block, `[B, ceil(L / kernel) + E]`: the residual, then historic, future and static variables.
///
/// Windows follow each other without overlap; the last one may be shorter.
pub(crate) fn pooled_input<'t, R: SimdReal>(
    residual: Var<'t, R>,
    batch: &BatchView<'_, R>,
    dims: &ModelDims,
    kernel: usize,
    mode: PoolingMode,
) -> Var<'t, R> {
    let (tape, rows) = (residual.tape(), batch.rows());
    let pool = |x: Var<'t, R>| match mode {
        _ if kernel == 1 => x,
        PoolingMode::Max => x.max_pool(1, Windows::tiles(kernel)),
        PoolingMode::Average => x.avg_pool(1, Windows::tiles(kernel)),
    };
    let own = pool(residual);
    if pooled_exogenous(dims, kernel) == 0 {
        return own;
    }
    let flat = |steps: usize, variables: usize, values: &[R]| {
        let pooled = pool(tape.input([rows, steps, variables], values));
        pooled.reshape([rows, steps.div_ceil(kernel) * variables])
    };
    let hist = flat(dims.input_size, dims.hist_exog, batch.hist_exog);
    let futr = flat(
        dims.input_size + dims.horizon,
        dims.futr_exog,
        batch.futr_exog,
    );
    let stat = tape.input([rows, dims.stat_exog], batch.stat_exog);
    concat(&[own, hist, futr, stat], 1)
}
