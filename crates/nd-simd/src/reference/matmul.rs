//! The matrix product.

use nd_core::Real;

use crate::matmul::{MatMut, MatRef};

/// `C = alpha A B + beta C`, summed in f64 and rounded once; C is not read when `beta = 0`.
pub fn gemm<R: Real>(alpha: R, a: MatRef<'_, R>, b: MatRef<'_, R>, beta: R, mut c: MatMut<'_, R>) {
    for i in 0..c.rows() {
        for j in 0..c.cols() {
            let sum: f64 = (0..a.cols())
                .map(|p| a.at(i, p).to_f64() * b.at(p, j).to_f64())
                .sum();
            let mut value = alpha.to_f64() * sum;
            let slot = c.at_mut(i, j);
            if beta != R::ZERO {
                value += beta.to_f64() * slot.to_f64();
            }
            *slot = R::from_f64(value);
        }
    }
}
