//! The kernels alone, on arrays: a small network by hand, attention over long sequences, and what the processor offers.
//!
//! ```text
//! cargo run --release --package neuro-divergent --example kernels
//! ```

use neuro_divergent::optimizations::flash_attention::{FlashAttention, FlashAttentionConfig};
use neuro_divergent::optimizations::simd::ndarray::{Array2, Array3};
use neuro_divergent::optimizations::simd::{self, activations, losses, matmul};

fn main() {
    println!("{}", simd::detect_cpu_features());

    // 32 windows of 96 steps, a hidden layer, 24 steps to forecast.
    let x = Array2::<f32>::from_shape_fn((32, 96), |(i, t)| ((i + t) as f32 / 12.0).sin());
    let w1 = Array2::<f32>::from_elem((96, 64), 0.01);
    let w2 = Array2::<f32>::from_elem((64, 24), 0.02);
    let hidden = activations::gelu(&matmul::gemm(&x, &w1));
    let y = matmul::gemm(&hidden, &w2);
    let target = Array2::<f32>::zeros((32, 24));
    println!(
        "loss {:.4}, gradient of its first output {:.2e}",
        losses::mse(&y, &target),
        losses::mse_gradient(&y, &target)[[0, 0]]
    );

    // Eight heads over 2048 tokens: the matrix of scores would take 128 MiB.
    let q =
        Array3::<f32>::from_shape_fn((8, 2048, 64), |(h, i, c)| ((h + i + c) % 13) as f32 * 0.1);
    let flash = FlashAttention::new(FlashAttentionConfig::auto(64));
    let attended = flash.forward(&q, &q, &q);
    println!(
        "attention {:?}, {:.0} times less working memory than with the matrix of scores",
        attended.dim(),
        flash.memory_savings_ratio(2048)
    );
}
