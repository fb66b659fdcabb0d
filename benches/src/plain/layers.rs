//! Layers with their gradients, written by hand.

use nd_core::SimdLevel;
use nd_core::autograd::Accumulate;
use nd_core::rng::Key;
use nd_simd::dropout::dropout;
use ndarray::{Array1, Array2, Axis, Zip};

use super::Pass;

/// Added to a variance.
const NORM_EPS: f32 = 1e-5;

/// `x w + b` with the parameters `name.weight` and `name.bias`.
pub(super) fn linear(pass: &Pass<'_>, name: &str, x: &Array2<f32>) -> Array2<f32> {
    let weight = pass.weights.matrix(&format!("{name}.weight"));
    let mut y = pass.products.of(x.view(), weight);
    y += &pass.weights.vector(&format!("{name}.bias"));
    y
}

/// The gradients of weight and bias.
pub(super) fn linear_weights(pass: &mut Pass<'_>, name: &str, x: &Array2<f32>, dy: &Array2<f32>) {
    let dw = pass.products.of(x.t(), dy.view());
    pass.gradients.put_matrix(&format!("{name}.weight"), &dw);
    pass.gradients
        .put_vector(&format!("{name}.bias"), &dy.sum_axis(Axis(0)));
}

/// The gradients of weight, bias and argument.
pub(super) fn linear_backward(
    pass: &mut Pass<'_>,
    name: &str,
    x: &Array2<f32>,
    dy: &Array2<f32>,
) -> Array2<f32> {
    linear_weights(pass, name, x, dy);
    let weight = pass.weights.matrix(&format!("{name}.weight"));
    pass.products.of(dy.view(), weight.t())
}

pub(super) fn relu(x: Array2<f32>) -> Array2<f32> {
    x.mapv_into(|x| x.max(0.0))
}

/// `dy` where the activation let its argument through.
pub(super) fn relu_backward(y: &Array2<f32>, mut dy: Array2<f32>) -> Array2<f32> {
    Zip::from(&mut dy).and(y).for_each(|dy, &y| {
        if y <= 0.0 {
            *dy = 0.0;
        }
    });
    dy
}

fn normal_cdf(x: f32) -> f32 {
    0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// `x Phi(x)`
pub(super) fn gelu(x: &Array2<f32>) -> Array2<f32> {
    x.mapv(|x| x * normal_cdf(x))
}

pub(super) fn gelu_backward(x: &Array2<f32>, mut dy: Array2<f32>) -> Array2<f32> {
    const DENSITY_AT_ZERO: f32 = 0.398_942_3;
    Zip::from(&mut dy).and(x).for_each(|dy, &x| {
        *dy *= normal_cdf(x) + x * DENSITY_AT_ZERO * (-0.5 * x * x).exp();
    });
    dy
}

/// The factors of dropout: zero, or `1 / (1 - p)`; `windows` windows have equally many elements each. Takes the next random op of
/// the pass. They are the library's, made at its best level: another generator would train another network.
pub(super) fn mask(pass: &mut Pass<'_>, windows: usize, shape: (usize, usize), p: f64) -> Mask {
    if p == 0.0 {
        return Mask(None);
    }
    let key: Key = pass.key;
    pass.key.op += 1;
    let ones = vec![1.0; shape.0 * shape.1];
    let mut factors = Array2::zeros(shape);
    if let Some(out) = factors.as_slice_mut() {
        let cols = ones.len() / windows;
        let level = SimdLevel::best();
        dropout(level, key, p, 0, cols, &ones, out, Accumulate::Write);
    }
    Mask(Some(factors))
}

/// Factors of dropout, or none.
pub(super) struct Mask(Option<Array2<f32>>);

impl Mask {
    pub(super) fn apply(&self, mut x: Array2<f32>) -> Array2<f32> {
        if let Some(factors) = &self.0 {
            x *= factors;
        }
        x
    }
}

/// What a batch norm keeps.
pub(super) struct Normalized {
    x_hat: Array2<f32>,
    rstd: Array1<f32>,
    pub(super) y: Array2<f32>,
}

/// Every column to mean zero and variance one, then a gain and a bias.
pub(super) fn batch_norm(pass: &Pass<'_>, name: &str, x: Array2<f32>) -> Normalized {
    let rows = x.nrows() as f32;
    let mean = x.sum_axis(Axis(0)) / rows;
    let centered = x - &mean;
    let variance = centered.mapv(|x| x * x).sum_axis(Axis(0)) / rows;
    let rstd = variance.mapv(|v| 1.0 / (v + NORM_EPS).sqrt());
    let x_hat = centered * &rstd;
    let mut y = &x_hat * &pass.weights.vector(&format!("{name}.weight"));
    y += &pass.weights.vector(&format!("{name}.bias"));
    Normalized { x_hat, rstd, y }
}

pub(super) fn batch_norm_backward(
    pass: &mut Pass<'_>,
    name: &str,
    saved: &Normalized,
    dy: Array2<f32>,
) -> Array2<f32> {
    let rows = dy.nrows() as f32;
    let dbias = dy.sum_axis(Axis(0));
    let dgain = (&dy * &saved.x_hat).sum_axis(Axis(0));
    let slope = &saved.rstd * &pass.weights.vector(&format!("{name}.weight"));
    let mut dx = dy - &(&dbias / rows);
    dx -= &(&saved.x_hat * &(&dgain / rows));
    dx *= &slope;
    pass.gradients.put_vector(&format!("{name}.bias"), &dbias);
    pass.gradients.put_vector(&format!("{name}.weight"), &dgain);
    dx
}
