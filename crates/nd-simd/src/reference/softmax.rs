//! Softmax over rows, by definition.

/// `e^x / sum e^x` over rows of `cols`; rows of `-inf` become zeros.
#[must_use]
pub fn softmax(cols: usize, x: &[f64]) -> Vec<f64> {
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks(cols) {
        let best = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let e: Vec<f64> = row.iter().map(|x| (x - best).exp()).collect();
        let sum: f64 = e.iter().sum();
        let masked = row.iter().all(|&x| x == f64::NEG_INFINITY);
        y.extend(e.iter().map(|e| if masked { 0.0 } else { e / sum }));
    }
    y
}

/// `dx_i = sum_j y_i ([i = j] - y_j) dy_j` over rows of `cols`.
#[must_use]
pub fn softmax_gradient(cols: usize, y: &[f64], dy: &[f64]) -> Vec<f64> {
    let mut dx = Vec::with_capacity(y.len());
    for (y, dy) in y.chunks(cols).zip(dy.chunks(cols)) {
        for i in 0..y.len() {
            let jacobian = |j: usize| y[i] * (f64::from(i == j) - y[j]);
            dx.push((0..y.len()).map(|j| jacobian(j) * dy[j]).sum());
        }
    }
    dx
}
