//! A small network on ndarray arrays, trained by hand: forward, loss, gradients, optimizer.
//!
//! `cargo run --release -p nd-simd --example arrays`

use nd_simd::optim::{Adam, adam, clip_by_norm};
use nd_simd::{activations, detect_cpu_features, losses, matmul, reduce};
use ndarray::{Array2, Axis};

/// Windows of this many steps ...
const INPUT: usize = 24;
/// ... and forecasts of this many.
const HORIZON: usize = 12;
const HIDDEN: usize = 64;
const WINDOWS: usize = 256;

/// A season of twelve steps and a slow wave.
fn series(t: usize) -> f32 {
    let t = t as f32;
    (t * std::f32::consts::TAU / 12.0).sin() + 0.5 * (t * 0.013).cos()
}

/// Weights that begin small and differ.
fn weights(rows: usize, cols: usize) -> Array2<f32> {
    let bound = 1.0 / (rows as f32).sqrt();
    Array2::from_shape_fn((rows, cols), |(i, j)| {
        (((i * 131 + j * 71) % 97) as f32 / 48.0 - 1.0) * bound
    })
}

/// A weight matrix and its moments.
struct Parameter {
    value: Array2<f32>,
    mean: Array2<f32>,
    square: Array2<f32>,
}

impl Parameter {
    fn new(rows: usize, cols: usize) -> Self {
        Self {
            value: weights(rows, cols),
            mean: Array2::zeros((rows, cols)),
            square: Array2::zeros((rows, cols)),
        }
    }

    fn step(&mut self, config: Adam, gradient: &Array2<f32>) {
        adam(
            config,
            gradient,
            &mut self.value,
            &mut self.mean,
            &mut self.square,
        );
    }
}

fn main() {
    println!("{}", detect_cpu_features());
    let x = Array2::from_shape_fn((WINDOWS, INPUT), |(i, j)| series(i + j));
    let y = Array2::from_shape_fn((WINDOWS, HORIZON), |(i, j)| series(i + INPUT + j));
    let (mut first, mut second) = (
        Parameter::new(INPUT, HIDDEN),
        Parameter::new(HIDDEN, HORIZON),
    );
    let mut before = f32::INFINITY;
    for step in 1..=300 {
        let hidden = matmul::gemm(&x, &first.value);
        let active = activations::gelu(&hidden);
        let forecast = matmul::gemm(&active, &second.value);
        let loss = losses::mse(&forecast, &y);

        let d_forecast = losses::mse_gradient(&forecast, &y);
        let d_second = matmul::gemm(&active.t(), &d_forecast);
        let d_active = matmul::gemm(&d_forecast, &second.value.t());
        let d_hidden = activations::gelu_gradient(&hidden, &d_active);
        let mut gradients = [matmul::gemm(&x.t(), &d_hidden), d_second];
        let norm = clip_by_norm(gradients.iter_mut().map(|gradient| &mut **gradient), 1.0);

        let config = Adam {
            lr: 0.01,
            step,
            ..Adam::default()
        };
        first.step(config, &gradients[0]);
        second.step(config, &gradients[1]);
        if step % 50 == 0 {
            println!("step {step}: mean squared error {loss:.6}, gradient norm {norm:.4}");
            assert!(loss < before, "the loss should fall");
            before = loss;
        }
    }
    let hidden = activations::gelu(&matmul::gemm(&x, &first.value));
    let forecast = matmul::gemm(&hidden, &second.value);
    let error = losses::mae(&forecast, &y);
    let steps = reduce::mean_axis(&(&forecast - &y).mapv(f32::abs), Axis(0));
    println!("mean absolute error {error:.4}; per step of the horizon {steps:.3}");
}
