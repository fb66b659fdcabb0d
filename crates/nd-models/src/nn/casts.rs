//! The two ends of a block of NBEATS and NHITS: its backcast leaves the residual, its forecast joins the sum.
//!
//! A block's last layer gives `theta [B, C]`: the first columns describe the backcast, the others the forecast. What they
//! describe is a [`Cast`]: the values themselves, knots to be interpolated, or coefficients of a basis.

use nd_core::autograd::{ParamId, Tape, Var};
use nd_simd::SimdReal;
use nd_simd::interpolate::Interpolation;
use nd_simd::ops::prelude::{ArithmeticExt, InterpolateExt, MatmulExt, PermuteExt, SliceExt};

/// What columns of `theta` describe.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cast {
    /// The values themselves: `[L]` of a backcast, `[h, Q]` of a forecast.
    Values,
    /// Knots `[Q, n]` of a forecast.
    Knots(Interpolation),
    /// Coefficients `[P, Q]` of the rows of a frozen basis `[P, T]`.
    Basis(ParamId),
}

/// `(residual - backcast(theta)) * mask`, shape `[B, L]`; the backcast is in the first `size` columns of `theta`.
#[track_caller]
pub(crate) fn subtract_backcast<'t, R: SimdReal>(
    residual: Var<'t, R>,
    theta: Var<'t, R>,
    size: usize,
    mask: Option<Var<'t, R>>,
    cast: Cast,
) -> Var<'t, R> {
    let columns = theta.narrow(1, 0..size);
    let backcast = match cast {
        Cast::Basis(basis) => columns.matmul(theta.tape().param(basis)),
        Cast::Values | Cast::Knots(_) => columns,
    };
    let left = residual.sub(backcast);
    match mask {
        Some(mask) => left.mul(mask),
        None => left,
    }
}

/// `forecast + forecast(theta)`, shape `[B, h, Q]`; the block's forecast is in the columns of `theta` from `first` on.
#[track_caller]
pub(crate) fn add_forecast<'t, R: SimdReal>(
    forecast: Var<'t, R>,
    theta: Var<'t, R>,
    first: usize,
    cast: Cast,
) -> Var<'t, R> {
    let (shape, cols) = (forecast.shape(), theta.shape().cols());
    let (rows, horizon, outputs) = (shape[0], shape[1], shape[2]);
    let columns = theta.narrow(1, first..cols);
    let per_output = (cols - first) / outputs;
    // Steps come last in an interpolation and in a product with a basis: [B, Q, h].
    let steps_first = |x: Var<'t, R>| {
        if outputs == 1 {
            x.reshape(shape)
        } else {
            x.swap_axes(1, 2)
        }
    };
    let part = match cast {
        Cast::Values => columns.reshape(shape),
        Cast::Knots(mode) => {
            let knots = columns.reshape([rows, outputs, per_output]);
            steps_first(knots.interpolate(horizon, mode))
        }
        Cast::Basis(basis) => {
            let coefficients = if outputs == 1 {
                columns
            } else {
                let by_function = columns.reshape([rows, per_output, outputs]);
                by_function
                    .swap_axes(1, 2)
                    .reshape([rows * outputs, per_output])
            };
            let steps = coefficients.matmul(theta.tape().param(basis));
            steps_first(steps.reshape([rows, outputs, horizon]))
        }
    };
    forecast.add(part)
}

/// The last observed value of every window, repeated over the horizon: where the sum of forecasts begins, `[B, h, Q]`.
pub(crate) fn naive_forecast<'t, R: SimdReal>(
    tape: &'t Tape<R>,
    insample_y: &[R],
    input_size: usize,
    shape: [usize; 3],
) -> Var<'t, R> {
    let mut level = tape.scratch(shape.iter().product());
    let per_row = shape[1] * shape[2];
    for (level, window) in level
        .chunks_exact_mut(per_row)
        .zip(insample_y.chunks_exact(input_size))
    {
        level.fill(window[input_size - 1]);
    }
    tape.constant(shape, level)
}

/// A copy of windows with the time reversed, `[B, L]`.
pub(crate) fn reversed<'t, R: SimdReal>(
    tape: &'t Tape<R>,
    windows: &[R],
    input_size: usize,
) -> Var<'t, R> {
    let mut out = tape.scratch(windows.len());
    for (out, window) in out
        .chunks_exact_mut(input_size)
        .zip(windows.chunks_exact(input_size))
    {
        for (out, &x) in out.iter_mut().zip(window.iter().rev()) {
            *out = x;
        }
    }
    tape.constant([windows.len() / input_size, input_size], out)
}

/// The mask with the time reversed, or nothing when every value was observed.
pub(crate) fn reversed_mask<'t, R: SimdReal>(
    tape: &'t Tape<R>,
    mask: &[R],
    input_size: usize,
) -> Option<Var<'t, R>> {
    let all = mask.iter().all(|&m| m == R::ONE);
    (!all).then(|| reversed(tape, mask, input_size))
}
