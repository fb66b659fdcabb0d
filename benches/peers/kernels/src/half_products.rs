//! bf16 matrix products with f32 sums. No crate multiplies bf16 faster than f32, so the peer in this process is the
//! fastest of them in f32; torch's bf16 is in `torch_kernels.py`. Each row is there twice: with C in f32, and with C in bf16 as torch has it.

use std::cell::RefCell;
use std::rc::Rc;

use nd_core::options::Precision;
use nd_core::{Buffer, SimdLevel, bf16};
use nd_simd::matmul::{
    Epilogue, MatMut, MatRef, Operand, PackedBf16, multiply_half, multiply_half_parallel,
    multiply_packed, multiply_packed_parallel, pack_bf16, packed_bf16_len,
};

use crate::products::gemm_row_major;
use crate::row::{Contestant, Plan, Row, Work, by, noise};

const SHAPES: [(usize, usize, usize); 8] = [
    (256, 256, 256),
    (512, 512, 512),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (32, 512, 512),
    (1024, 512, 512),
    (1024, 96, 512),
    (11_264, 128, 128),
];

/// The plans of all products, on one thread and on two.
pub(crate) fn plans(level: SimdLevel) -> Vec<Plan> {
    let both = [1, 2].into_iter();
    both.flat_map(|threads| {
        let with = move |rounds| SHAPES.map(|shape| plan(level, threads, rounds, shape));
        [with(false), with(true)].into_iter().flatten()
    })
    .collect()
}

fn plan(level: SimdLevel, threads: usize, rounds: bool, (m, k, n): (usize, usize, usize)) -> Plan {
    let group = if threads == 1 {
        "bf16"
    } else {
        "bf16, two threads"
    };
    let into = if rounds { " into bf16" } else { "" };
    let name = format!("bf16 {m} x {k} x {n}{into}");
    let title = name.clone();
    let make = move || {
        let (a32, b32) = (noise(m * k, 1), noise(k * n, 2));
        // As all buffers here, and torch's, these begin with a cache line.
        let round = |x: &[f32]| -> Rc<Buffer<bf16>> {
            let mut rounded = Buffer::zeroed(x.len());
            nd_simd::convert::f32_to_bf16(level, x, &mut rounded);
            Rc::new(rounded)
        };
        let (a, b) = (round(&a32), round(&b32));
        let mut packed = Buffer::zeroed(packed_bf16_len(k, n));
        pack_bf16(level, MatRef::row_major(&b[..], k, n), &mut packed);
        let packed = Rc::new(packed);
        let again = Rc::clone(&a);
        let sizes = [m, k, n];
        let ours = contestant(
            "nd-simd",
            rounds,
            Ours {
                level,
                threads,
                sizes,
                a,
                b,
                is_packed: false,
            },
        );
        let ours_packed = contestant(
            "nd-simd, packed B",
            rounds,
            Ours {
                level,
                threads,
                sizes,
                a: again,
                b: packed,
                is_packed: true,
            },
        );
        let f32_peer = by("gemm in f32", move |c| {
            gemm_row_major(threads, m, k, n, &a32, &b32, c);
        });
        Row {
            group,
            name: name.clone(),
            work: Work::Flops {
                flops: (2 * m * k * n) as f64,
                // A pair of products per lane and instruction.
                rate: 2.0,
            },
            out: m * n,
            // Both factors are rounded to eight bits.
            tolerance: 0.02,
            threads,
            contestants: vec![ours, ours_packed, f32_peer],
        }
    };
    Plan {
        group,
        name: title,
        threads,
        make: Box::new(make),
    }
}

/// Our product of bf16.
struct Ours {
    level: SimdLevel,
    threads: usize,
    sizes: [usize; 3],
    a: Rc<Buffer<bf16>>,
    b: Rc<Buffer<bf16>>,
    /// Whether `b` was packed before the clock starts.
    is_packed: bool,
}

impl Ours {
    fn multiply<C: Operand>(&self, c: &mut [C]) {
        let (level, [m, k, n]) = (self.level, self.sizes);
        let a = MatRef::row_major(&self.a[..], m, k);
        let (c, none) = (MatMut::row_major(c, m, n), Epilogue::default());
        if self.is_packed {
            let b = PackedBf16::new(&self.b, k, n);
            let multiply = if self.threads == 1 {
                multiply_packed
            } else {
                multiply_packed_parallel
            };
            multiply(level, 1.0, a, b, 0.0, c, none);
        } else {
            let b = MatRef::row_major(&self.b[..], k, n);
            let multiply = if self.threads == 1 {
                multiply_half
            } else {
                multiply_half_parallel
            };
            multiply(level, Precision::Bf16, 1.0, a, b, 0.0, c, none);
        }
    }
}

/// Ours as a contestant; one that rounds writes bf16, to a place of its own.
fn contestant(name: &'static str, rounds: bool, ours: Ours) -> Contestant {
    if !rounds {
        return by(name, move |c| ours.multiply(c));
    }
    let [m, _, n] = ours.sizes;
    let place = Rc::new(RefCell::new(Buffer::<bf16>::zeroed(m * n)));
    let (shown, level) = (Rc::clone(&place), ours.level);
    Contestant {
        show: Some(Box::new(move |c| {
            nd_simd::convert::bf16_to_f32(level, &shown.borrow(), c);
        })),
        ..by(name, move |_| ours.multiply(&mut place.borrow_mut()[..]))
    }
}
