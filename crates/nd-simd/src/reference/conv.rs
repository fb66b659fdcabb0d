//! The convolution along time with its gradients, by definition.

/// The shape of a convolution: `(batch, len, inputs, outputs)`.
pub type Sizes = (usize, usize, usize, usize);

/// Taps, their distance, and the zeros before and after: `(kernel, dilation, left, right)`.
pub type Taps = (usize, usize, usize, usize);

/// Calls `visit(y, x, w)` with the places of every product: y `[batch, steps, outputs]`, x `[batch, len, inputs]`, w
/// `[kernel, inputs, outputs]`.
fn products(sizes: Sizes, taps: Taps, mut visit: impl FnMut(usize, usize, usize)) -> usize {
    let (batch, len, inputs, outputs) = sizes;
    let (kernel, dilation, left, right) = taps;
    let steps = len + left + right - (kernel - 1) * dilation;
    for b in 0..batch {
        for t in 0..steps {
            for j in 0..kernel {
                let Some(s) = (t + j * dilation).checked_sub(left).filter(|&s| s < len) else {
                    continue;
                };
                for c in 0..inputs {
                    for o in 0..outputs {
                        visit(
                            (b * steps + t) * outputs + o,
                            (b * len + s) * inputs + c,
                            (j * inputs + c) * outputs + o,
                        );
                    }
                }
            }
        }
    }
    batch * steps * outputs
}

/// `y[b, t, o] = bias[o] + sum_j sum_c w[j, c, o] x[b, t + j dilation - left, c]`
#[must_use]
pub fn conv1d(sizes: Sizes, taps: Taps, x: &[f64], w: &[f64], bias: &[f64]) -> Vec<f64> {
    let len = products(sizes, taps, |_, _, _| {});
    let mut y: Vec<f64> = (0..len).map(|i| bias[i % sizes.3]).collect();
    products(sizes, taps, |at, from, weight| y[at] += x[from] * w[weight]);
    y
}

/// The gradients of input, weight and bias.
#[must_use]
pub fn conv1d_gradient(
    sizes: Sizes,
    taps: Taps,
    x: &[f64],
    w: &[f64],
    dy: &[f64],
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    products(sizes, taps, |at, from, weight| {
        dx[from] += dy[at] * w[weight];
        dw[weight] += dy[at] * x[from];
    });
    let mut dbias = vec![0.0; sizes.3];
    for (i, dy) in dy.iter().enumerate() {
        dbias[i % sizes.3] += dy;
    }
    (dx, dw, dbias)
}
