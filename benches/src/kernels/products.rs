//! Matrix products, with the plain loops that stand for them in books: i-j-k at the scalar level, and i-k-j over slices, of which
//! the compiler makes vectors.

use nd_core::bf16;
use nd_core::options::Precision;
use nd_simd::matmul::{
    Epilogue, MatMut, MatRef, StackMut, StackRef, multiply, multiply_half, multiply_stack,
};

use super::{Case, Run, Work, numbers, zeros};

/// m, k, n.
const SHAPES: [(usize, usize, usize); 9] = [
    (64, 64, 64),
    (128, 128, 128),
    (256, 256, 256),
    (512, 512, 512),
    (7, 512, 512),
    (32, 96, 512),
    (32, 512, 512),
    (128, 512, 512),
    (4096, 16, 128),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = SHAPES.into_iter().map(product).collect();
    cases.extend([512, 2048].map(matrix_vector));
    cases.extend([(16, 64, 64), (512, 12, 8)].map(stack));
    cases.extend([(256, 256, 256), (32, 512, 512)].map(half));
    cases
}

fn product((m, k, n): (usize, usize, usize)) -> Case {
    let work = Work::Flops((2 * m * k * n) as f64);
    Case::new(format!("gemm {m} x {k} x {n}"), work, move || {
        let (a, b, mut c) = (numbers(m * k), numbers(k * n), zeros(m * n));
        let (a2, b2, mut c2) = (a.clone(), b.clone(), c.clone());
        Run::of(move |level| {
            let (a, b) = (
                MatRef::row_major(&a[..], m, k),
                MatRef::row_major(&b[..], k, n),
            );
            multiply(level, 1.0, a, b, 0.0, MatMut::row_major(&mut c, m, n));
        })
        .beside("i-k-j over slices", move || {
            for (a, c) in a2.chunks_exact(k).zip(c2.chunks_exact_mut(n)) {
                c.fill(0.0);
                for (&a, b) in a.iter().zip(b2.chunks_exact(n)) {
                    for (c, &b) in c.iter_mut().zip(b) {
                        *c += a * b;
                    }
                }
            }
        })
    })
}

fn matrix_vector(n: usize) -> Case {
    let work = Work::Flops((2 * n * n) as f64);
    Case::new(format!("gemv {n} x {n}"), work, move || {
        let (a, x, mut y) = (numbers(n * n), numbers(n), zeros(n));
        Run::of(move |level| {
            let (a, x) = (
                MatRef::row_major(&a[..], n, n),
                MatRef::row_major(&x[..], n, 1),
            );
            multiply(level, 1.0, a, x, 0.0, MatMut::row_major(&mut y, n, 1));
        })
    })
}

/// `count` products of `[tokens, dim]` with the transpose of as much, as in attention.
fn stack((count, tokens, dim): (usize, usize, usize)) -> Case {
    let work = Work::Flops((2 * count * tokens * tokens * dim) as f64);
    Case::new(
        format!("{count} x (q k^T, {tokens} x {dim})"),
        work,
        move || {
            let (q, k) = (numbers(count * tokens * dim), numbers(count * tokens * dim));
            let mut scores = zeros(count * tokens * tokens);
            Run::of(move |level| {
                let q = StackRef::contiguous(&q[..], count, tokens, dim);
                let k = StackRef::contiguous(&k[..], count, tokens, dim).t();
                let out = StackMut::contiguous(&mut scores[..], count, tokens, tokens);
                multiply_stack(level, 1.0, q, k, 0.0, out);
            })
        },
    )
}

fn half((m, k, n): (usize, usize, usize)) -> Case {
    let work = Work::Flops((2 * m * k * n) as f64);
    Case::new(format!("gemm bf16 {m} x {k} x {n}"), work, move || {
        let round =
            |len| -> Vec<bf16> { numbers(len).iter().map(|&x| bf16::from_f32(x)).collect() };
        let (a, b, mut c) = (round(m * k), round(k * n), zeros(m * n));
        Run::of(move |level| {
            let (a, b) = (
                MatRef::row_major(&a[..], m, k),
                MatRef::row_major(&b[..], k, n),
            );
            let c = MatMut::row_major(&mut c[..], m, n);
            multiply_half(
                level,
                Precision::Bf16,
                1.0,
                a,
                b,
                0.0,
                c,
                Epilogue::default(),
            );
        })
    })
}
