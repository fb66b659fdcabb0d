//! Recurrent layers, one number at a time, in f64. Sequences are `[T, B, features]`.

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `x W` for one row: `w` is `[x.len(), width]`, and the result column `j`.
fn column(x: &[f64], w: &[f64], width: usize, j: usize) -> f64 {
    x.iter()
        .enumerate()
        .map(|(p, x)| x * w[p * width + j])
        .sum()
}

/// The outputs and the cells of an LSTM, `[T, B, H]` each, from the state `(h, c)`, `[B, H]` each.
///
/// `w_ih [I, 4 H]`, `w_hh [H, 4 H]`, `bias [4 H]`; gates in the order `i f g o`.
#[must_use]
pub fn lstm(
    x: &[f64],
    (rows, input, hidden): (usize, usize, usize),
    (w_ih, w_hh, bias): (&[f64], &[f64], &[f64]),
    (h, c): (&[f64], &[f64]),
) -> (Vec<f64>, Vec<f64>) {
    let (mut h, mut c) = (h.to_vec(), c.to_vec());
    let (mut outputs, mut cells) = (Vec::new(), Vec::new());
    for x in x.chunks_exact((rows * input).max(1)) {
        let before = h.clone();
        for row in 0..rows {
            let x = &x[row * input..][..input];
            let state = &before[row * hidden..][..hidden];
            let gate = |gate: usize, j: usize| {
                let j = gate * hidden + j;
                column(x, w_ih, 4 * hidden, j) + column(state, w_hh, 4 * hidden, j) + bias[j]
            };
            for j in 0..hidden {
                let (i, f) = (sigmoid(gate(0, j)), sigmoid(gate(1, j)));
                let (g, o) = (gate(2, j).tanh(), sigmoid(gate(3, j)));
                let at = row * hidden + j;
                c[at] = f * c[at] + i * g;
                h[at] = o * c[at].tanh();
            }
        }
        outputs.extend_from_slice(&h);
        cells.extend_from_slice(&c);
    }
    (outputs, cells)
}

/// The outputs of a GRU, `[T, B, H]`, from the state `h [B, H]`.
///
/// `w_ih [I, 3 H]`, `w_hh [H, 3 H]`; gates in the order `r z n`. `bias [4 H]`: those of `r` and `z`, then `b_in`, then `b_hn`.
#[must_use]
pub fn gru(
    x: &[f64],
    (rows, input, hidden): (usize, usize, usize),
    (w_ih, w_hh, bias): (&[f64], &[f64], &[f64]),
    h: &[f64],
) -> Vec<f64> {
    let mut h = h.to_vec();
    let mut outputs = Vec::new();
    for x in x.chunks_exact((rows * input).max(1)) {
        let before = h.clone();
        for row in 0..rows {
            let x = &x[row * input..][..input];
            let state = &before[row * hidden..][..hidden];
            let from_x = |gate: usize, j: usize| column(x, w_ih, 3 * hidden, gate * hidden + j);
            let from_h = |gate: usize, j: usize| column(state, w_hh, 3 * hidden, gate * hidden + j);
            for j in 0..hidden {
                let r = sigmoid(from_x(0, j) + from_h(0, j) + bias[j]);
                let z = sigmoid(from_x(1, j) + from_h(1, j) + bias[hidden + j]);
                let m = from_h(2, j) + bias[3 * hidden + j];
                let n = (from_x(2, j) + bias[2 * hidden + j] + r * m).tanh();
                h[row * hidden + j] = (1.0 - z) * n + z * state[j];
            }
        }
        outputs.extend_from_slice(&h);
    }
    outputs
}

/// The outputs of a plain recurrent network, `[T, B, H]`, from the state `h [B, H]`.
#[must_use]
pub fn rnn(
    x: &[f64],
    (rows, input, hidden): (usize, usize, usize),
    (w_ih, w_hh, bias): (&[f64], &[f64], &[f64]),
    h: &[f64],
    activation: impl Fn(f64) -> f64,
) -> Vec<f64> {
    let mut h = h.to_vec();
    let mut outputs = Vec::new();
    for x in x.chunks_exact((rows * input).max(1)) {
        let before = h.clone();
        for row in 0..rows {
            let x = &x[row * input..][..input];
            let state = &before[row * hidden..][..hidden];
            for j in 0..hidden {
                let sum = column(x, w_ih, hidden, j) + column(state, w_hh, hidden, j) + bias[j];
                h[row * hidden + j] = activation(sum);
            }
        }
        outputs.extend_from_slice(&h);
    }
    outputs
}
