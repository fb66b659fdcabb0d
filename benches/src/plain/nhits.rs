//! NHITS with its defaults.

use ndarray::{Array2, ArrayView2, Axis};

use super::layers::{linear, linear_backward, linear_weights, relu, relu_backward};
use super::{Pass, cols_of, cols_of_mut};

/// Steps pooled to one, and steps of the horizon for each knot, block by block.
const BLOCKS: [(usize, usize); 3] = [(2, 4), (2, 2), (1, 1)];
/// Hidden layers of a block, by their place among its modules.
const HIDDEN: [usize; 3] = [1, 3, 5];

/// What a block keeps for its backward pass.
struct Saved {
    /// The inputs of its five layers.
    inputs: Vec<Array2<f32>>,
    /// Where the residual's pooled values came from.
    places: Array2<usize>,
    /// From knots to the horizon, `[knots, h]`.
    interpolation: Array2<f32>,
}

/// Forward, loss and backward; gradients go to `pass.gradients`.
pub(super) fn pass(
    mut pass: Pass<'_>,
    inputs: ArrayView2<'_, f32>,
    loss: &mut dyn FnMut(&Array2<f32>) -> Array2<f32>,
) {
    let (rows, length) = inputs.dim();
    // As in NeuralForecast, the residual runs backwards.
    let mut residual = inputs.to_owned();
    residual.invert_axis(Axis(1));
    residual = residual.as_standard_layout().into_owned();
    let theta = pass.weights.vector("blocks.2.layers.7.bias").len();
    let horizon = theta - length;
    let mut forecast = Array2::zeros((rows, horizon));
    forecast += &inputs.column(length - 1).insert_axis(Axis(1));
    let mut blocks = Vec::new();
    for (i, (kernel, freq)) in BLOCKS.into_iter().enumerate() {
        let (pooled, places) = max_pool(&residual, kernel);
        let name = |layer: usize| format!("blocks.{i}.layers.{layer}");
        let mut inputs = vec![pooled];
        inputs.push(linear(&pass, &name(0), &inputs[0]));
        for layer in HIDDEN {
            let x = relu(linear(&pass, &name(layer), &inputs[inputs.len() - 1]));
            inputs.push(x);
        }
        let theta = linear(&pass, &name(7), &inputs[4]);
        let interpolation = interpolation(horizon / freq, horizon);
        let knots = cols_of(&theta, length..theta.ncols());
        forecast += &pass.products.of(knots, interpolation.view());
        residual -= &cols_of(&theta, 0..length);
        blocks.push(Saved {
            inputs,
            places,
            interpolation,
        });
    }

    let dy = loss(&forecast);
    let mut dresidual: Option<Array2<f32>> = None;
    for (i, saved) in blocks.iter().enumerate().rev() {
        let name = |layer: usize| format!("blocks.{i}.layers.{layer}");
        let knots = pass.products.of(dy.view(), saved.interpolation.t());
        let mut dtheta = Array2::zeros((rows, length + knots.ncols()));
        cols_of_mut(&mut dtheta, length..length + knots.ncols()).assign(&knots);
        if let Some(dresidual) = &dresidual {
            let mut backcast = cols_of_mut(&mut dtheta, 0..length);
            backcast -= dresidual;
        }
        let mut dx = linear_backward(&mut pass, &name(7), &saved.inputs[4], &dtheta);
        for (at, layer) in HIDDEN.into_iter().enumerate().rev() {
            dx = relu_backward(&saved.inputs[at + 2], dx);
            dx = linear_backward(&mut pass, &name(layer), &saved.inputs[at + 1], &dx);
        }
        if i == 0 {
            // Nothing is trained below the first block.
            linear_weights(&mut pass, &name(0), &saved.inputs[0], &dx);
            return;
        }
        let dpooled = linear_backward(&mut pass, &name(0), &saved.inputs[0], &dx);
        let mut sum = dresidual.unwrap_or_else(|| Array2::zeros((rows, length)));
        for ((row, at), &dx) in dpooled.indexed_iter() {
            sum[[row, saved.places[[row, at]]]] += dx;
        }
        dresidual = Some(sum);
    }
}

/// The largest of every `kernel` neighbours, and where it is.
fn max_pool(x: &Array2<f32>, kernel: usize) -> (Array2<f32>, Array2<usize>) {
    let (rows, length) = x.dim();
    let count = length.div_ceil(kernel);
    let mut places = Array2::zeros((rows, count));
    let mut pooled = Array2::zeros((rows, count));
    for (row, x) in x.outer_iter().enumerate() {
        for at in 0..count {
            let mut best = at * kernel;
            for place in best + 1..length.min(best + kernel) {
                if x[place] > x[best] {
                    best = place;
                }
            }
            places[[row, at]] = best;
            pooled[[row, at]] = x[best];
        }
    }
    (pooled, places)
}

/// Linear interpolation as a matrix `[knots, size]`, PyTorch's `align_corners=False`.
fn interpolation(knots: usize, size: usize) -> Array2<f32> {
    let mut matrix = Array2::zeros((knots, size));
    for j in 0..size {
        let position = ((j as f32 + 0.5) * knots as f32 / size as f32 - 0.5).max(0.0);
        let place = (position as usize).min(knots - 1);
        let share = position - place as f32;
        matrix[[place, j]] += 1.0 - share;
        matrix[[(place + 1).min(knots - 1), j]] += share;
    }
    matrix
}
