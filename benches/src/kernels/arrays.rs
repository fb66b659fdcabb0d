//! Kernels over arrays: activations, arithmetic, losses, sums, dropout, optimizers, conversions.

use std::hint::black_box;

use nd_core::autograd::Accumulate::Write;
use nd_core::rng::Key;
use nd_core::{bf16, f16};
use nd_simd::activations::{Activation, activation_backward, activation_forward};
use nd_simd::convert::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use nd_simd::dropout::dropout;
use nd_simd::elementwise::{add_forward, axpy, div_forward, mul_forward};
use nd_simd::losses::{PointLoss, multi_quantile_loss, point_loss};
use nd_simd::optim::{self, check_norm};
use nd_simd::reduce::{dot_slice, max_slice, moments, sum_slice};

use super::{Case, Run, Work, numbers, zeros};

const SIZES: [usize; 3] = [4096, 65_536, 4 << 20];
/// In the second-level cache: where one size says enough.
const MIDDLE: usize = 65_536;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for len in SIZES {
        activations(&mut cases, len);
        arithmetic(&mut cases, len);
        losses(&mut cases, len);
        sums(&mut cases, len);
    }
    gradients(&mut cases);
    conversions(&mut cases);
    cases
}

fn activations(cases: &mut Vec<Case>, len: usize) {
    for activation in Activation::ALL {
        let name = format!("{activation:?} {len}");
        cases.push(Case::new(name, Work::elements(len, 2), move || {
            let (x, mut y) = (numbers(len), zeros(len));
            Run::of(move |level| activation_forward(level, activation, &x, &mut y))
        }));
    }
}

fn gradients(cases: &mut Vec<Case>) {
    let len = MIDDLE;
    for activation in Activation::ALL {
        let name = format!("{activation:?} backward {len}");
        cases.push(Case::new(name, Work::elements(len, 3), move || {
            let (saved, dy, mut dx) = (numbers(len), numbers(len), zeros(len));
            Run::of(move |level| {
                activation_backward(level, activation, &saved, &dy, &mut dx, Write)
            })
        }));
    }
}

fn arithmetic(cases: &mut Vec<Case>, len: usize) {
    type Forward = fn(nd_core::SimdLevel, &[f32], &[f32], &mut [f32]);
    let table: [(&str, Forward); 3] = [
        ("add", add_forward),
        ("multiply", mul_forward),
        ("divide", div_forward),
    ];
    for (name, forward) in table {
        let name = format!("{name} {len}");
        cases.push(Case::new(name, Work::elements(len, 3), move || {
            let (a, b, mut y) = (numbers(len), numbers(len), zeros(len));
            Run::of(move |level| forward(level, &a, &b, &mut y))
        }));
    }
    cases.push(Case::new(
        format!("axpy {len}"),
        Work::elements(len, 3),
        move || {
            let (x, mut y) = (numbers(len), zeros(len));
            Run::of(move |level| axpy(level, 1e-3, &x, &mut y))
        },
    ));
    cases.push(Case::new(
        format!("dropout {len}"),
        Work::elements(len, 2),
        move || {
            let (x, mut y) = (numbers(len), zeros(len));
            Run::of(move |level| dropout(level, Key::new(1), 0.2, 0, len, &x, &mut y, Write))
        },
    ));
    cases.push(Case::new(
        format!("Adam {len}"),
        Work::elements(len, 7),
        move || {
            let (grad, mut weight) = (numbers(len), numbers(len));
            let (mut mean, mut square) = (zeros(len), zeros(len));
            Run::of(move |level| {
                let adam = optim::Adam {
                    step: 10,
                    ..optim::Adam::default()
                };
                let (mean, square) = (&mut mean[..], &mut square[..]);
                optim::adam_step(level, false, adam, 1.0, &grad, &mut weight, mean, square);
            })
        },
    ));
    cases.push(Case::new(
        format!("gradient norm and finiteness {len}"),
        Work::elements(len, 1),
        move || {
            let grad = numbers(len);
            Run::of(move |level| {
                black_box(check_norm(level, false, &grad[..]));
            })
        },
    ));
}

fn losses(cases: &mut Vec<Case>, len: usize) {
    let table = [
        ("mae", PointLoss::Absolute),
        ("mse", PointLoss::Squared),
        ("huber", PointLoss::Huber { delta: 1.0 }),
        ("quantile", PointLoss::Quantile { q: 0.1 }),
        ("smape", PointLoss::Smape),
        ("mape", PointLoss::Mape),
        ("tukey", PointLoss::Tukey { c: 4.685 }),
    ];
    for (name, loss) in table {
        for gradient in [false, true] {
            let suffix = if gradient { " and gradient" } else { "" };
            let work = Work::elements(len, 3 + usize::from(gradient));
            cases.push(Case::new(
                format!("{name}{suffix} {len}"),
                work,
                move || {
                    let (y, y_hat) = (numbers(len), shifted(len));
                    let mut grad = zeros(len);
                    Run::of(move |level| {
                        let grad = gradient.then_some(&mut grad[..]);
                        black_box(point_loss(level, loss, &y, &y_hat, None, grad, 0.5));
                    })
                },
            ));
        }
    }
    let work = Work::elements(len, 3);
    cases.push(Case::new(
        format!("multi quantile {len}"),
        work,
        move || {
            let rows = len / 4;
            let (y, y_hat, weight) = (numbers(rows), shifted(len), vec![1.0f32; rows]);
            let (quantiles, mut grad) = ([0.1f32, 0.4, 0.6, 0.9], zeros(len));
            Run::of(move |level| {
                let grad = Some(&mut grad[..]);
                black_box(multi_quantile_loss(
                    level,
                    &quantiles,
                    &y,
                    &y_hat,
                    Some(&weight),
                    grad,
                    0.5,
                ));
            })
        },
    ));
}

fn shifted(len: usize) -> nd_core::Buffer<f32> {
    let mut x = numbers(len);
    x.rotate_left(len / 3);
    x
}

fn sums(cases: &mut Vec<Case>, len: usize) {
    cases.push(Case::new(
        format!("sum {len}"),
        Work::elements(len, 1),
        move || {
            let x = numbers(len);
            Run::of(move |level| {
                black_box(sum_slice(level, &x[..]));
            })
        },
    ));
    cases.push(Case::new(
        format!("dot {len}"),
        Work::elements(len, 2),
        move || {
            let (a, b) = (numbers(len), numbers(len));
            Run::of(move |level| {
                black_box(dot_slice(level, &a[..], &b[..]));
            })
        },
    ));
    cases.push(Case::new(
        format!("moments {len}"),
        Work::elements(len, 1),
        move || {
            let x = numbers(len);
            Run::of(move |level| {
                black_box(moments(level, &x[..]));
            })
        },
    ));
    cases.push(Case::new(
        format!("maximum {len}"),
        Work::elements(len, 1),
        move || {
            let x = numbers(len);
            Run::of(move |level| {
                black_box(max_slice(level, &x[..]));
            })
        },
    ));
}

fn conversions(cases: &mut Vec<Case>) {
    let len = MIDDLE;
    // A sixteen-bit number counts half an f32.
    let work = Work::Elements {
        count: len,
        moved: len + len / 2,
    };
    cases.push(Case::new(format!("f32 to bf16 {len}"), work, move || {
        let (x, mut y) = (numbers(len), vec![bf16::ZERO; len]);
        Run::of(move |level| f32_to_bf16(level, &x, &mut y))
    }));
    cases.push(Case::new(format!("bf16 to f32 {len}"), work, move || {
        let (x, mut y) = (vec![bf16::ONE; len], zeros(len));
        Run::of(move |level| bf16_to_f32(level, &x, &mut y))
    }));
    cases.push(Case::new(format!("f32 to f16 {len}"), work, move || {
        let (x, mut y) = (numbers(len), vec![f16::ZERO; len]);
        Run::of(move |level| f32_to_f16(level, &x, &mut y))
    }));
    cases.push(Case::new(format!("f16 to f32 {len}"), work, move || {
        let (x, mut y) = (vec![f16::ONE; len], zeros(len));
        Run::of(move |level| f16_to_f32(level, &x, &mut y))
    }));
}
