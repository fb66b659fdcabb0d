//! Batch norm, layer norm and RMS norm with their gradients, by definition.

/// Everything a batch norm computes.
#[derive(Debug)]
pub struct BatchNormResult {
    /// The mean of each column.
    pub mean: Vec<f64>,
    /// The population variance of each column.
    pub variance: Vec<f64>,
    /// The output.
    pub y: Vec<f64>,
    /// The gradient of the input.
    pub dx: Vec<f64>,
    /// The gradient of the gain.
    pub dgain: Vec<f64>,
    /// The gradient of the bias.
    pub dbias: Vec<f64>,
}

/// Batch norm with the statistics of its batch, `x` of `[rows, gain.len()]`, forward and backward.
#[must_use]
pub fn batch_norm(eps: f64, x: &[f64], gain: &[f64], bias: &[f64], dy: &[f64]) -> BatchNormResult {
    let cols = gain.len();
    let rows = x.len() / cols;
    let n = rows as f64;
    let mut out = BatchNormResult {
        mean: vec![0.0; cols],
        variance: vec![0.0; cols],
        y: vec![0.0; x.len()],
        dx: vec![0.0; x.len()],
        dgain: vec![0.0; cols],
        dbias: vec![0.0; cols],
    };
    for c in 0..cols {
        let column = || (0..rows).map(|r| r * cols + c);
        let mean = column().map(|i| x[i]).sum::<f64>() / n;
        let variance = column().map(|i| (x[i] - mean).powi(2)).sum::<f64>() / n;
        let rstd = 1.0 / (variance + eps).sqrt();
        let x_hat = |i: usize| (x[i] - mean) * rstd;
        out.dbias[c] = column().map(|i| dy[i]).sum();
        out.dgain[c] = column().map(|i| dy[i] * x_hat(i)).sum();
        for i in column() {
            out.y[i] = x_hat(i) * gain[c] + bias[c];
            out.dx[i] = gain[c] * rstd * (dy[i] - out.dbias[c] / n - x_hat(i) * out.dgain[c] / n);
        }
        out.mean[c] = mean;
        out.variance[c] = variance;
    }
    out
}

/// Everything a norm over rows computes.
#[derive(Debug)]
pub struct RowNormResult {
    /// The output.
    pub y: Vec<f64>,
    /// The gradient of the input.
    pub dx: Vec<f64>,
    /// The gradient of the gain.
    pub dgain: Vec<f64>,
    /// The gradient of the bias (zero for RMS norm, which has none).
    pub dbias: Vec<f64>,
}

/// Layer norm of each row, or RMS norm (`centered` false: the mean counts as zero), forward and backward.
#[must_use]
pub fn row_norm(
    eps: f64,
    centered: bool,
    x: &[f64],
    gain: &[f64],
    bias: &[f64],
    dy: &[f64],
) -> RowNormResult {
    let cols = gain.len();
    let n = cols as f64;
    let mut out = RowNormResult {
        y: vec![0.0; x.len()],
        dx: vec![0.0; x.len()],
        dgain: vec![0.0; cols],
        dbias: vec![0.0; cols],
    };
    for start in (0..x.len()).step_by(cols.max(1)) {
        let row = &x[start..start + cols];
        let mean = if centered {
            row.iter().sum::<f64>() / n
        } else {
            0.0
        };
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let rstd = 1.0 / (variance + eps).sqrt();
        let x_hat = |c: usize| (row[c] - mean) * rstd;
        let g = |c: usize| dy[start + c] * gain[c];
        let mean_g = if centered {
            (0..cols).map(g).sum::<f64>() / n
        } else {
            0.0
        };
        let mean_gx = (0..cols).map(|c| g(c) * x_hat(c)).sum::<f64>() / n;
        for c in 0..cols {
            out.y[start + c] = x_hat(c) * gain[c] + bias[c];
            out.dx[start + c] = rstd * (g(c) - mean_g - x_hat(c) * mean_gx);
            out.dgain[c] += dy[start + c] * x_hat(c);
            out.dbias[c] += dy[start + c];
        }
    }
    out
}
