//! LSTM with its defaults: two recurrent layers, an MLP on the states of the last steps.

use ndarray::{Array2, ArrayView2, Axis};

use super::layers::{linear, linear_backward, relu, relu_backward};
use super::{Pass, rows_of, rows_of_mut};

const LAYERS: usize = 2;

/// What a layer keeps: rows are time steps times windows.
struct Saved {
    x: Array2<f32>,
    /// Input, forget, cell and output gate after their activations, `[T B, 4 H]`.
    gates: Array2<f32>,
    cells: Array2<f32>,
    y: Array2<f32>,
}

/// Forward, loss and backward; gradients go to `pass.gradients`.
pub(super) fn pass(
    mut pass: Pass<'_>,
    inputs: ArrayView2<'_, f32>,
    horizon: usize,
    loss: &mut dyn FnMut(&Array2<f32>) -> Array2<f32>,
) {
    let (rows, length) = inputs.dim();
    // Step by step: [T B, 1].
    let mut x = Array2::from_shape_fn((length * rows, 1), |(at, _)| inputs[[at % rows, at / rows]]);
    let mut saved = Vec::new();
    for layer in 0..LAYERS {
        let done = forward(&pass, layer, x, rows);
        x = done.y.clone();
        saved.push(done);
    }
    let first = (length - horizon) * rows;
    let last_steps = rows_of(&x, first..length * rows).to_owned();
    let hidden = relu(linear(&pass, "mlp_decoder.layers.0", &last_steps));
    let y = linear(&pass, "mlp_decoder.layers.3", &hidden); // [h B, 1]
    let forecast = Array2::from_shape_fn((rows, horizon), |(row, t)| y[[t * rows + row, 0]]);

    let dforecast = loss(&forecast);
    let dy = Array2::from_shape_fn((horizon * rows, 1), |(at, _)| {
        dforecast[[at % rows, at / rows]]
    });
    let dhidden = linear_backward(&mut pass, "mlp_decoder.layers.3", &hidden, &dy);
    let dhidden = relu_backward(&hidden, dhidden);
    let dlast = linear_backward(&mut pass, "mlp_decoder.layers.0", &last_steps, &dhidden);
    let mut dy = Array2::zeros(x.dim());
    rows_of_mut(&mut dy, first..length * rows).assign(&dlast);
    for (layer, saved) in saved.iter().enumerate().rev() {
        dy = match backward(&mut pass, layer, saved, &dy, rows) {
            Some(dx) => dx,
            None => return,
        };
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn forward(pass: &Pass<'_>, layer: usize, x: Array2<f32>, rows: usize) -> Saved {
    let name = |part: &str| format!("hist_encoder.{part}_l{layer}");
    let w_hh = pass.weights.matrix(&name("weight_hh"));
    let hidden = w_hh.nrows();
    // The input's part of all steps is one product.
    let mut gates = pass
        .products
        .of(x.view(), pass.weights.matrix(&name("weight_ih")));
    gates += &pass.weights.vector(&name("bias_ih"));
    gates += &pass.weights.vector(&name("bias_hh"));
    let steps = gates.nrows() / rows;
    let mut cells = Array2::zeros((steps * rows, hidden));
    let mut y = Array2::zeros((steps * rows, hidden));
    for t in 0..steps {
        let now = t * rows..(t + 1) * rows;
        if t > 0 {
            let before = rows_of(&y, now.start - rows..now.start);
            let recurrent = pass.products.of(before, w_hh);
            let mut gates = rows_of_mut(&mut gates, now.clone());
            gates += &recurrent;
        }
        for row in now {
            let mut gates = gates.row_mut(row);
            let gates = gates.as_slice_mut().unwrap_or(&mut []);
            for j in 0..hidden {
                let (i, f) = (sigmoid(gates[j]), sigmoid(gates[hidden + j]));
                let g = gates[2 * hidden + j].tanh();
                let o = sigmoid(gates[3 * hidden + j]);
                let before = if t == 0 { 0.0 } else { cells[[row - rows, j]] };
                let cell = f * before + i * g;
                cells[[row, j]] = cell;
                y[[row, j]] = o * cell.tanh();
                gates[j] = i;
                gates[hidden + j] = f;
                gates[2 * hidden + j] = g;
                gates[3 * hidden + j] = o;
            }
        }
    }
    Saved { x, gates, cells, y }
}

/// The gradient of a layer's input, except for the first layer, whose input is data.
fn backward(
    pass: &mut Pass<'_>,
    layer: usize,
    saved: &Saved,
    dy: &Array2<f32>,
    rows: usize,
) -> Option<Array2<f32>> {
    let name = |part: &str| format!("hist_encoder.{part}_l{layer}");
    let w_hh = pass.weights.matrix(&name("weight_hh"));
    let hidden = w_hh.nrows();
    let steps = dy.nrows() / rows;
    let mut dgates = saved.gates.clone();
    let mut dcell = Array2::<f32>::zeros((rows, hidden));
    let mut dstate = Array2::<f32>::zeros((rows, hidden));
    for t in (0..steps).rev() {
        let now = t * rows..(t + 1) * rows;
        for (at, row) in now.clone().enumerate() {
            let mut gates = dgates.row_mut(row);
            let gates = gates.as_slice_mut().unwrap_or(&mut []);
            for j in 0..hidden {
                let [i, f, g, o] = [0, 1, 2, 3].map(|gate| gates[gate * hidden + j]);
                let squashed = saved.cells[[row, j]].tanh();
                let before = if t == 0 {
                    0.0
                } else {
                    saved.cells[[row - rows, j]]
                };
                let dh = dy[[row, j]] + dstate[[at, j]];
                let dc = dcell[[at, j]] + dh * o * (1.0 - squashed * squashed);
                gates[j] = dc * g * i * (1.0 - i);
                gates[hidden + j] = dc * before * f * (1.0 - f);
                gates[2 * hidden + j] = dc * i * (1.0 - g * g);
                gates[3 * hidden + j] = dh * squashed * o * (1.0 - o);
                dcell[[at, j]] = dc * f;
            }
        }
        if t > 0 {
            let now = rows_of(&dgates, now);
            dstate = pass.products.of(now, w_hh.t());
        }
    }
    let before = rows_of(&saved.y, 0..(steps - 1) * rows);
    let after = rows_of(&dgates, rows..steps * rows);
    let dw_hh = pass.products.of(before.t(), after);
    let dw_ih = pass.products.of(saved.x.t(), dgates.view());
    let dbias = dgates.sum_axis(Axis(0));
    let dx = (layer > 0).then(|| {
        let w_ih = pass.weights.matrix(&name("weight_ih"));
        pass.products.of(dgates.view(), w_ih.t())
    });
    pass.gradients.put_matrix(&name("weight_hh"), &dw_hh);
    pass.gradients.put_matrix(&name("weight_ih"), &dw_ih);
    pass.gradients.put_vector(&name("bias_ih"), &dbias);
    pass.gradients.put_vector(&name("bias_hh"), &dbias);
    dx
}
