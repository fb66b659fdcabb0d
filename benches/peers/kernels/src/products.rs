//! f32 matrix products, `C = A B`, of the shapes that forecasting networks and textbooks have.

use std::rc::Rc;

use faer::Par;
use nd_core::{Buffer, SimdLevel};
use nd_simd::matmul::{MatMut, MatRef, multiply, multiply_parallel};
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, ShapeBuilder};
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensorView;

use crate::row::{Contestant, Plan, Row, Work, by, noise};

/// How an operand lies in memory.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// Row-major.
    Plain,
    /// Its transpose is row-major.
    Turned,
}
use Form::{Plain, Turned};

/// m, k, n, and how A and B lie.
const ONE_THREAD: [(usize, usize, usize, Form, Form); 26] = [
    (64, 64, 64, Plain, Plain),
    (128, 128, 128, Plain, Plain),
    (256, 256, 256, Plain, Plain),
    (512, 512, 512, Plain, Plain),
    (1024, 1024, 1024, Plain, Plain),
    (2048, 2048, 2048, Plain, Plain),
    (32, 96, 512, Plain, Plain),
    (32, 512, 512, Plain, Plain),
    (128, 512, 512, Plain, Plain),
    (256, 512, 2048, Plain, Plain),
    (1024, 512, 512, Plain, Plain),
    (4096, 128, 128, Plain, Plain),
    (4096, 16, 128, Plain, Plain),
    (7, 512, 512, Plain, Plain),
    (512, 512, 512, Turned, Plain),
    (1024, 1024, 1024, Turned, Plain),
    (512, 512, 512, Plain, Turned),
    (1024, 1024, 1024, Plain, Turned),
    (512, 4096, 128, Turned, Plain),
    (512, 128, 512, Turned, Plain),
    (128, 512, 512, Plain, Turned),
    (4096, 128, 128, Plain, Turned),
    (512, 512, 1, Plain, Plain),
    (2048, 2048, 1, Plain, Plain),
    (1, 512, 512, Plain, Plain),
    (1, 2048, 2048, Plain, Plain),
];

const TWO_THREADS: [(usize, usize, usize, Form, Form); 6] = [
    (512, 512, 512, Plain, Plain),
    (1024, 512, 512, Plain, Plain),
    (4096, 128, 128, Plain, Plain),
    (32, 512, 512, Plain, Plain),
    (7, 512, 512, Plain, Plain),
    (64, 64, 64, Plain, Plain),
];

/// One product: a shape and its operands.
#[derive(Clone)]
struct Product {
    m: usize,
    k: usize,
    n: usize,
    a_form: Form,
    b_form: Form,
    a: Rc<Buffer<f32>>,
    b: Rc<Buffer<f32>>,
    level: SimdLevel,
    threads: usize,
}

/// Row and column stride of an operand.
fn strides(form: Form, rows: usize, cols: usize) -> (usize, usize) {
    if form == Plain { (cols, 1) } else { (1, rows) }
}

impl Product {
    fn ours(self) -> Contestant {
        by("nd-simd", move |c| {
            let Self { m, k, n, .. } = self;
            let (rs, cs) = strides(self.a_form, m, k);
            let a = MatRef::strided(&self.a, m, k, rs, cs);
            let (rs, cs) = strides(self.b_form, k, n);
            let b = MatRef::strided(&self.b, k, n, rs, cs);
            let c = MatMut::row_major(c, m, n);
            match self.threads {
                1 => multiply(self.level, 1.0, a, b, 0.0, c),
                _ => multiply_parallel(self.level, 1.0, a, b, 0.0, c),
            }
        })
    }

    fn gemm(self) -> Contestant {
        by("gemm", move |c| {
            let Self { m, k, n, .. } = self;
            let a = (&self.a[..], strides(self.a_form, m, k));
            let b = (&self.b[..], strides(self.b_form, k, n));
            gemm_strided(self.threads, (m, k, n), a, b, c);
        })
    }

    fn ndarray(self) -> Contestant {
        fn view(form: Form, data: &[f32], rows: usize, cols: usize) -> ArrayView2<'_, f32> {
            let shape = (rows, cols).set_f(form == Turned);
            ArrayView2::from_shape(shape, data).expect("a contiguous matrix")
        }
        by("ndarray", move |c| {
            let Self { m, k, n, .. } = self;
            let a = view(self.a_form, &self.a, m, k);
            if n == 1 {
                let x = ArrayView1::from(&self.b[..]);
                let mut y = ArrayViewMut1::from(c);
                ndarray::linalg::general_mat_vec_mul(1.0, &a, &x, 0.0, &mut y);
                return;
            }
            let b = view(self.b_form, &self.b, k, n);
            let mut c = ArrayViewMut2::from_shape((m, n), c).expect("a contiguous matrix");
            ndarray::linalg::general_mat_mul(1.0, &a, &b, 0.0, &mut c);
        })
    }

    fn faer(self) -> Contestant {
        fn view(form: Form, data: &[f32], rows: usize, cols: usize) -> faer::MatRef<'_, f32> {
            match form {
                Plain => faer::MatRef::from_row_major_slice(data, rows, cols),
                Turned => faer::MatRef::from_column_major_slice(data, rows, cols),
            }
        }
        by("faer", move |c| {
            let Self { m, k, n, .. } = self;
            faer::linalg::matmul::matmul(
                faer::MatMut::from_row_major_slice_mut(c, m, n),
                faer::Accum::Replace,
                view(self.a_form, &self.a, m, k),
                view(self.b_form, &self.b, k, n),
                1.0f32,
                if self.threads == 1 {
                    Par::Seq
                } else {
                    Par::rayon(self.threads)
                },
            );
        })
    }

    fn rten(self) -> Contestant {
        let executor = GemmExecutor::<f32>::new();
        by("rten-gemm", move |c| {
            let Self { m, k, n, .. } = self;
            let a = rten_view(self.a_form, &self.a, m, k);
            let b = rten_view(self.b_form, &self.b, k, n);
            executor
                .gemm(
                    c,
                    GemmInputA::Unpacked(a),
                    GemmInputB::Unpacked(b),
                    GemmOptions::default(),
                )
                .expect("a product whose shapes fit");
        })
    }

    /// rten with weights that were packed before.
    fn rten_packed(self) -> Contestant {
        let executor = GemmExecutor::<f32>::new();
        let packed = executor.prepack_b(rten_view(self.b_form, &self.b, self.k, self.n));
        by("rten-gemm, packed B", move |c| {
            let a = rten_view(self.a_form, &self.a, self.m, self.k);
            executor
                .gemm(
                    c,
                    GemmInputA::Unpacked(a),
                    GemmInputB::Packed(&packed),
                    GemmOptions::default(),
                )
                .expect("a product whose shapes fit");
        })
    }
}

/// `C = A B` by gemm, all of them row-major.
pub(crate) fn gemm_row_major(
    threads: usize,
    m: usize,
    k: usize,
    n: usize,
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
) {
    gemm_strided(threads, (m, k, n), (a, (k, 1)), (b, (n, 1)), c);
}

/// `C = A B` by gemm; operands with their row and column strides, C row-major.
fn gemm_strided(
    threads: usize,
    (m, k, n): (usize, usize, usize),
    (a, (a_rs, a_cs)): (&[f32], (usize, usize)),
    (b, (b_rs, b_cs)): (&[f32], (usize, usize)),
    c: &mut [f32],
) {
    assert!(a.len() == m * k && b.len() == k * n && c.len() == m * n);
    let parallelism = match threads {
        1 => gemm::Parallelism::None,
        n => gemm::Parallelism::Rayon(n),
    };
    // SAFETY: the strides are those of contiguous matrices of these shapes, and the slices hold them.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            a_cs as isize,
            a_rs as isize,
            b.as_ptr(),
            b_cs as isize,
            b_rs as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

fn rten_view(form: Form, data: &[f32], rows: usize, cols: usize) -> NdTensorView<'_, f32, 2> {
    match form {
        Plain => NdTensorView::from_data([rows, cols], data),
        Turned => NdTensorView::from_data([cols, rows], data).transposed(),
    }
}

/// The plans of all products.
pub(crate) fn plans(level: SimdLevel) -> Vec<Plan> {
    let one = ONE_THREAD.iter().map(move |&shape| plan(level, 1, shape));
    let two = TWO_THREADS.iter().map(move |&shape| plan(level, 2, shape));
    one.chain(two).collect()
}

fn plan(
    level: SimdLevel,
    threads: usize,
    (m, k, n, a_form, b_form): (usize, usize, usize, Form, Form),
) -> Plan {
    let mark = |form| if form == Plain { "" } else { "^T" };
    let group = if threads == 1 {
        "gemm"
    } else {
        "gemm, two threads"
    };
    let name = match (a_form, b_form) {
        (Plain, Plain) => format!("{m} x {k} x {n}"),
        _ => format!("A{} B{} {m} x {k} x {n}", mark(a_form), mark(b_form)),
    };
    let title = name.clone();
    let make = move || {
        let product = Product {
            m,
            k,
            n,
            a_form,
            b_form,
            a: Rc::new(noise(m * k, 1)),
            b: Rc::new(noise(k * n, 2)),
            level,
            threads,
        };
        Row {
            group,
            name: name.clone(),
            work: Work::Flops {
                flops: (2 * m * k * n) as f64,
                rate: 1.0,
            },
            out: m * n,
            tolerance: 1e-5 * (k as f32).sqrt(),
            threads,
            contestants: vec![
                product.clone().ours(),
                product.clone().gemm(),
                product.clone().faer(),
                product.clone().ndarray(),
                product.clone().rten(),
                product.rten_packed(),
            ],
        }
    };
    Plan {
        group,
        name: title,
        threads,
        make: Box::new(make),
    }
}
