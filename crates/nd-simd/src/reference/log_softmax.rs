//! The logarithm of the softmax over rows, by definition.

/// `x - log sum e^x` over rows of `cols`; rows of `-inf` stay as they are.
#[must_use]
pub fn log_softmax(cols: usize, x: &[f64]) -> Vec<f64> {
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks(cols) {
        let best = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|x| (x - best).exp()).sum();
        let masked = best == f64::NEG_INFINITY && row.iter().all(|x| !x.is_nan());
        y.extend(
            row.iter()
                .map(|x| if masked { *x } else { x - best - sum.ln() }),
        );
    }
    y
}

/// `dx_i = sum_j ([i = j] - e^y_i) dy_j` over rows of `cols`; zero for rows of `-inf`.
#[must_use]
pub fn log_softmax_gradient(cols: usize, y: &[f64], dy: &[f64]) -> Vec<f64> {
    let mut dx = Vec::with_capacity(y.len());
    for (y, dy) in y.chunks(cols).zip(dy.chunks(cols)) {
        let masked = y.iter().all(|&y| y == f64::NEG_INFINITY);
        for i in 0..y.len() {
            let jacobian = |j: usize| f64::from(i == j) - y[i].exp();
            let gradient: f64 = (0..y.len()).map(|j| jacobian(j) * dy[j]).sum();
            dx.push(if masked { 0.0 } else { gradient });
        }
    }
    dx
}
