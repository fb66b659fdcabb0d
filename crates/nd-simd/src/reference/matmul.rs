//! The matrix product.

/// `alpha A B + beta C` for `shape = (m, k, n)`, row-major, each element one sum in the order of `k`.
///
/// A, B and C are functions of row and column; C is not called when `beta = 0`, whatever it holds.
#[must_use]
pub fn gemm(
    shape: (usize, usize, usize),
    alpha: f64,
    a: impl Fn(usize, usize) -> f64,
    b: impl Fn(usize, usize) -> f64,
    beta: f64,
    c: impl Fn(usize, usize) -> f64,
) -> Vec<f64> {
    let (m, k, n) = shape;
    let mut out = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            let sum: f64 = (0..k).map(|p| a(i, p) * b(p, j)).sum();
            let old = if beta == 0.0 { 0.0 } else { beta * c(i, j) };
            out.push(alpha * sum + old);
        }
    }
    out
}
