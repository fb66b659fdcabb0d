//! Nanoseconds per element of the hot kernels, at every SIMD level of this machine and on one thread.
//!
//! `cargo run --release -p nd-simd --example kernel_times [filter]`. Each figure is the best of 15 interleaved rounds.

use std::hint::black_box;
use std::time::Instant;

use nd_core::autograd::Accumulate;
use nd_core::rng::Key;
use nd_simd::activations::{Activation, activation_backward, activation_forward};
use nd_simd::dropout::dropout;
use nd_simd::elementwise::{add_forward, bias_forward};
use nd_simd::losses::{PointLoss, point_loss};
use nd_simd::norm::{
    BatchNormSaved, batch_moments, batch_norm_apply, batch_norm_backward, batch_norm_scratch,
    layer_norm_backward, layer_norm_forward, layer_norm_scratch,
};
use nd_simd::reduce::{column_sums, moments, sum_slice};
use nd_simd::softmax::{softmax_backward, softmax_forward};
use nd_simd::{SimdLevel, optim};

const ROUNDS: usize = 15;

struct Case<'a> {
    name: String,
    elements: usize,
    run: Box<dyn FnMut(SimdLevel) + 'a>,
}

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let noise = |len: usize| -> Vec<f32> {
        (0..len)
            .map(|i| ((i * 7919 % 2003) as f32 / 1001.5 - 1.0) * 3.0)
            .collect()
    };
    let mut cases: Vec<Case<'_>> = Vec::new();
    for len in [4096, 65_536, 4 << 20] {
        for activation in Activation::ALL {
            let (x, mut y) = (noise(len), vec![0.0; len]);
            cases.push(Case {
                name: format!("{activation:?} forward {len}"),
                elements: len,
                run: Box::new(move |level| activation_forward(level, activation, &x, &mut y)),
            });
            if len == 65_536 {
                let (x, dy, mut dx) = (noise(len), noise(len), vec![0.0; len]);
                cases.push(Case {
                    name: format!("{activation:?} backward {len}"),
                    elements: len,
                    run: Box::new(move |level| {
                        let acc = Accumulate::Write;
                        activation_backward(level, activation, &x, &dy, &mut dx, acc);
                    }),
                });
            }
        }
        let (x, z, mut y) = (noise(len), noise(len), vec![0.0; len]);
        cases.push(Case {
            name: format!("add {len}"),
            elements: len,
            run: Box::new(move |level| add_forward(level, &x, &z, &mut y)),
        });
        let (x, mut y) = (noise(len), vec![0.0; len]);
        cases.push(Case {
            name: format!("dropout {len}"),
            elements: len,
            run: Box::new(move |level| {
                dropout(
                    level,
                    Key::new(1),
                    0.2,
                    0,
                    len,
                    &x,
                    &mut y,
                    Accumulate::Write,
                );
            }),
        });
        let x = noise(len);
        cases.push(Case {
            name: format!("sum {len}"),
            elements: len,
            run: Box::new(move |level| {
                black_box(sum_slice(level, &x));
            }),
        });
        let x = noise(len);
        cases.push(Case {
            name: format!("moments {len}"),
            elements: len,
            run: Box::new(move |level| {
                black_box(moments(level, &x));
            }),
        });
        for loss in [PointLoss::Absolute, PointLoss::Squared, PointLoss::Smape] {
            let (y, y_hat, w, mut grad) = (noise(len), noise(len), noise(len), vec![0.0; len]);
            cases.push(Case {
                name: format!("{loss:?} loss and gradient {len}"),
                elements: len,
                run: Box::new(move |level| {
                    black_box(point_loss(
                        level,
                        loss,
                        &y,
                        &y_hat,
                        &w,
                        Some(&mut grad),
                        0.5,
                    ));
                }),
            });
        }
        let (mut params, grad) = (noise(len), noise(len));
        let (mut m, mut v) = (vec![0.0; len], vec![0.0; len]);
        cases.push(Case {
            name: format!("adam {len}"),
            elements: len,
            run: Box::new(move |level| {
                let adam = optim::Adam {
                    step: 10,
                    ..optim::Adam::default()
                };
                optim::adam_step(level, false, adam, 1.0, &grad, &mut params, &mut m, &mut v);
            }),
        });
    }
    for (rows, cols) in [
        (1024, 12),
        (1024, 64),
        (1024, 128),
        (1024, 1024),
        (12_288, 128),
    ] {
        let len = rows * cols;
        let shape = format!("[{rows}, {cols}]");
        let (x, mut y) = (noise(len), vec![0.0; len]);
        cases.push(Case {
            name: format!("softmax {shape}"),
            elements: len,
            run: Box::new(move |level| softmax_forward(level, cols, &x, &mut y)),
        });
        let (y, dy, mut dx) = (noise(len), noise(len), vec![0.0; len]);
        cases.push(Case {
            name: format!("softmax backward {shape}"),
            elements: len,
            run: Box::new(move |level| {
                softmax_backward(level, cols, &y, &dy, &mut dx, Accumulate::Write);
            }),
        });
        let (x, gain, mut y) = (noise(len), noise(cols), vec![0.0; len]);
        let (mut mean, mut rstd) = (vec![0.0; rows], vec![1.0; rows]);
        cases.push(Case {
            name: format!("layer norm {shape}"),
            elements: len,
            run: Box::new(move |level| {
                layer_norm_forward(level, 1e-5, &x, &gain, &gain, &mut y, &mut mean, &mut rstd);
            }),
        });
        let (x, gain, dy) = (noise(len), noise(cols), noise(len));
        let (mean, rstd) = (vec![0.0; rows], vec![1.0; rows]);
        let (mut dx, mut dg, mut db) = (vec![0.0; len], vec![0.0; cols], vec![0.0; cols]);
        let mut scratch = vec![0.0; layer_norm_scratch(rows, cols)];
        cases.push(Case {
            name: format!("layer norm backward {shape}"),
            elements: len,
            run: Box::new(move |level| {
                let acc = Accumulate::Write;
                layer_norm_backward(
                    level,
                    false,
                    &x,
                    &gain,
                    &mean,
                    &rstd,
                    &dy,
                    Some((&mut dx, acc)),
                    Some((&mut dg, acc)),
                    Some((&mut db, acc)),
                    &mut scratch,
                );
            }),
        });
        let (x, gain, mut y) = (noise(len), noise(cols), vec![0.0; len]);
        let (mut mean, mut variance) = (vec![0.0; cols], vec![0.0; cols]);
        let mut scratch = vec![0.0; batch_norm_scratch(rows, cols)];
        cases.push(Case {
            name: format!("batch norm {shape}"),
            elements: len,
            run: Box::new(move |level| {
                batch_moments(level, false, &x, &mut mean, &mut variance, &mut scratch);
                let (mean, variance, gain) = (&mean, &variance, &gain);
                let saved = BatchNormSaved {
                    eps: 1e-5,
                    mean,
                    variance,
                    gain,
                };
                batch_norm_apply(level, false, saved, gain, &x, &mut y);
            }),
        });
        let (x, gain, dy) = (noise(len), noise(cols), noise(len));
        let (mean, variance) = (vec![0.0; cols], vec![1.0; cols]);
        let (mut dx, mut dg, mut db) = (vec![0.0; len], vec![0.0; cols], vec![0.0; cols]);
        let mut scratch = vec![0.0; batch_norm_scratch(rows, cols)];
        cases.push(Case {
            name: format!("batch norm backward {shape}"),
            elements: len,
            run: Box::new(move |level| {
                let acc = Accumulate::Write;
                let (mean, variance, gain) = (&mean, &variance, &gain);
                let saved = BatchNormSaved {
                    eps: 1e-5,
                    mean,
                    variance,
                    gain,
                };
                batch_norm_backward(
                    level,
                    false,
                    saved,
                    &x,
                    &dy,
                    Some((&mut dx, acc)),
                    Some((&mut dg, acc)),
                    Some((&mut db, acc)),
                    &mut scratch,
                );
            }),
        });
        let (x, mut out) = (noise(len), vec![0.0; cols]);
        cases.push(Case {
            name: format!("column sums {shape}"),
            elements: len,
            run: Box::new(move |level| column_sums(level, &x, &mut out, Accumulate::Write)),
        });
        let (x, b, mut y) = (noise(len), noise(cols), vec![0.0; len]);
        cases.push(Case {
            name: format!("bias {shape}"),
            elements: len,
            run: Box::new(move |level| bias_forward(level, &x, &b, &mut y)),
        });
    }
    cases.retain(|case| case.name.to_lowercase().contains(&filter.to_lowercase()));

    let levels: Vec<SimdLevel> = SimdLevel::supported().collect();
    print!("{:44}", "ns per element");
    for level in &levels {
        print!("{level:>10}");
    }
    println!();
    for case in &mut cases {
        let repeats = (200_000 / case.elements).max(1);
        let mut best = vec![f64::INFINITY; levels.len()];
        for _ in 0..ROUNDS {
            for (best, &level) in best.iter_mut().zip(&levels) {
                let start = Instant::now();
                for _ in 0..repeats {
                    (case.run)(level);
                }
                let time = start.elapsed().as_nanos() as f64;
                *best = best.min(time / (repeats * case.elements) as f64);
            }
        }
        print!("{:44}", case.name);
        for best in best {
            print!("{best:>10.3}");
        }
        println!();
    }
}
