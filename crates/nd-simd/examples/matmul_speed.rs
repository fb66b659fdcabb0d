//! Times matrix products of the shapes that forecasting networks have, beside the `gemm` crate, in the same run.
//!
//! `cargo run --release -p nd-simd --example matmul_speed [seconds per row]`. Each figure is GFLOP/s, the median of
//! interleaved rounds, and the share of this core's FMA peak, which is probed between the rounds.

use std::hint::black_box;
use std::time::Instant;

use nd_simd::matmul::{MatMut, MatRef, StackMut, StackRef, multiply, multiply_stack};
use nd_simd::{Isa, Kernel, Lanes, SimdLevel, dispatch, permute};

/// Independent chains of fused multiply-adds: twelve hide a latency of four at two a cycle.
struct Peak {
    rounds: usize,
}

impl Kernel for Peak {
    type Output = f32;

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) -> f32 {
        let x = Lanes::<S, f32>::splat(simd, black_box(0.999));
        let mut sums = [Lanes::<S, f32>::splat(simd, black_box(1.0)); 12];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = sum.mul_add(x, x);
            }
        }
        sums.into_iter().fold(Lanes::zero(simd), |a, b| a + b).sum()
    }
}

fn seconds(body: &mut dyn FnMut(), calls: usize) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        body();
    }
    start.elapsed().as_secs_f64() / calls as f64
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Interleaves the bodies for a while; the median time of each.
fn compare(bodies: &mut [&mut dyn FnMut()], budget: f64) -> Vec<f64> {
    let calls: Vec<usize> = bodies
        .iter_mut()
        .map(|body| {
            body();
            (2e-4 / seconds(*body, 1)).ceil().clamp(1.0, 1e5) as usize
        })
        .collect();
    let mut times = vec![Vec::new(); bodies.len()];
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < budget || times[0].len() < 15 {
        for ((body, &calls), times) in bodies.iter_mut().zip(&calls).zip(&mut times) {
            times.push(seconds(*body, calls));
        }
    }
    times.iter_mut().map(|times| median(times)).collect()
}

fn fill(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| (i * 37 % 101) as f32 / 101.0 - 0.5)
        .collect()
}

/// How an operand lies in memory.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Plain,
    Transposed,
}

fn main() {
    let budget = std::env::args()
        .nth(1)
        .map_or(0.3, |x| x.parse().expect("seconds per row"));
    let level = SimdLevel::current();
    let rounds = 20_000;
    let peak_flops = |time: f64| {
        let lanes = match level {
            SimdLevel::Avx512 => 16,
            SimdLevel::Avx2 => 8,
            SimdLevel::Neon => 4,
            SimdLevel::Scalar => 1,
        };
        (rounds * 12 * lanes * 2) as f64 / time * 1e-9
    };
    let mut peak = || {
        black_box(dispatch(level, Peak { rounds }));
    };
    println!("level {level}");
    println!(
        "{:34} {:>9} {:>9} {:>7} {:>6}",
        "product", "ours", "gemm", "peak", "share"
    );
    use Form::{Plain, Transposed};
    for (m, k, n, fa, fb) in [
        (128, 96, 512, Plain, Plain),
        (128, 512, 512, Plain, Plain),
        (128, 512, 120, Plain, Plain),
        (32, 512, 512, Plain, Plain),
        (16, 128, 512, Plain, Plain),
        (64, 128, 512, Plain, Plain),
        (7, 512, 512, Plain, Plain),
        (1, 512, 512, Plain, Plain),
        (1, 2048, 2048, Plain, Plain),
        (512, 512, 1, Plain, Plain),
        (2048, 2048, 1, Plain, Plain),
        (64, 64, 64, Plain, Plain),
        (512, 512, 512, Plain, Plain),
        (1024, 512, 512, Plain, Plain),
        (1024, 1024, 1024, Plain, Plain),
        (4096, 128, 128, Plain, Plain),
        (4096, 16, 128, Plain, Plain),
        (96, 128, 512, Transposed, Plain),
        (512, 128, 512, Transposed, Plain),
        (512, 128, 120, Transposed, Plain),
        (512, 4096, 128, Transposed, Plain),
        (128, 12288, 512, Transposed, Plain),
        (128, 512, 512, Plain, Transposed),
        (512, 512, 512, Plain, Transposed),
        (4096, 128, 128, Plain, Transposed),
    ] {
        let (a, b) = (fill(m * k), fill(k * n));
        let (mut c, mut d) = (vec![0.0; m * n], vec![0.0; m * n]);
        let (a_strides, b_strides) = (
            if fa == Plain { (k, 1) } else { (1, m) },
            if fb == Plain { (n, 1) } else { (1, k) },
        );
        let av = MatRef::strided(&a, m, k, a_strides.0, a_strides.1);
        let bv = MatRef::strided(&b, k, n, b_strides.0, b_strides.1);
        let mut ours = || multiply(level, 1.0, av, bv, 0.0, MatMut::row_major(&mut c, m, n));
        let mut theirs = || {
            // SAFETY: the strides are those of the views above.
            unsafe {
                gemm::gemm(
                    m,
                    n,
                    k,
                    d.as_mut_ptr(),
                    1,
                    n as isize,
                    false,
                    a.as_ptr(),
                    a_strides.1 as isize,
                    a_strides.0 as isize,
                    b.as_ptr(),
                    b_strides.1 as isize,
                    b_strides.0 as isize,
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    gemm::Parallelism::None,
                );
            }
        };
        let times = compare(&mut [&mut ours, &mut theirs, &mut peak], budget);
        let flops = (2 * m * k * n) as f64 * 1e-9;
        let (ours, theirs, peak) = (flops / times[0], flops / times[1], peak_flops(times[2]));
        let mark = |form| if form == Plain { "" } else { "^T" };
        let name = format!("A{} B{} {m} x {k} x {n}", mark(fa), mark(fb));
        println!(
            "{name:34} {ours:9.1} {theirs:9.1} {peak:7.1} {:5.0}%",
            100.0 * ours / peak
        );
    }

    println!("\nstacks of small products; 16384 x (12 x 8) is PatchTST's, beyond the caches");
    for (count, tokens, dim) in [
        (512, 12, 8),
        (16_384, 12, 8),
        (64, 32, 32),
        (16, 64, 64),
        (8, 64, 128),
    ] {
        let (q, v) = (fill(count * tokens * dim), fill(count * tokens * dim));
        let mut scores = vec![0.0; count * tokens * tokens];
        let mut out = vec![0.0; count * tokens * dim];
        let s = fill(scores.len());
        let mut product = || {
            let a = StackRef::contiguous(&q, count, tokens, dim);
            let b = StackRef::contiguous(&v, count, tokens, dim).t();
            multiply_stack(
                level,
                1.0,
                a,
                b,
                0.0,
                StackMut::contiguous(&mut scores, count, tokens, tokens),
            );
        };
        let mut apply = || {
            let a = StackRef::contiguous(&s, count, tokens, tokens);
            let b = StackRef::contiguous(&v, count, tokens, dim);
            multiply_stack(
                level,
                1.0,
                a,
                b,
                0.0,
                StackMut::contiguous(&mut out, count, tokens, dim),
            );
        };
        let times = compare(&mut [&mut product, &mut apply, &mut peak], budget);
        let flops = (2 * count * tokens * tokens * dim) as f64 * 1e-9;
        println!(
            "{count} x ({tokens} x {dim}): q k^T {:.1}, scores v {:.1}, peak {:.1}",
            flops / times[0],
            flops / times[1],
            peak_flops(times[2])
        );
    }

    println!("\ntransposes, GB/s of read and write");
    for (rows, cols) in [(512, 512), (96, 512), (512, 120), (4096, 128), (2048, 2048)] {
        let x = fill(rows * cols);
        let mut y = vec![0.0; rows * cols];
        let mut turn = || permute::transpose(level, &x, rows, cols, &mut y);
        let time = compare(&mut [&mut turn], budget)[0];
        println!(
            "{rows} x {cols}: {:.1}",
            (8 * rows * cols) as f64 / time * 1e-9
        );
    }
}
