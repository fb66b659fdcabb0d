//! Products of sixteen-bit operands against plain loops in f64: exact on whole numbers, bounded on others.

use nd_core::options::Precision;
use nd_core::{Element, bf16, f16};
use nd_simd::SimdLevel;
use nd_simd::activations::Activation;
use nd_simd::matmul::{
    Bf16Engine, Epilogue, HALF_PRODUCT_ERROR, MatMut, MatRef, Operand, PackedBf16, multiply_half,
    multiply_half_parallel, multiply_packed, multiply_packed_parallel, pack_bf16, packed_bf16_len,
};

/// Repeatable numbers.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
    /// A whole number of at most `size` in size: exact in bf16 up to 256, in f16 up to 2048.
    fn whole(&mut self, size: i64) -> f64 {
        (self.next() as i64 % (2 * size + 1) - size) as f64
    }
    fn real(&mut self) -> f64 {
        self.next() as f64 / (1_u64 << 30) as f64 - 1.0
    }
}

/// Calls a test at each level, and at AVX-512 with each engine of bf16 products.
fn for_each_way(test: impl Fn(SimdLevel, Bf16Engine)) {
    for level in nd_testing::levels() {
        for engine in Bf16Engine::supported() {
            if level == SimdLevel::Avx512 || engine == Bf16Engine::Widen {
                engine.scope(|| test(level, engine));
            }
        }
    }
}

/// Strides of a matrix.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Rows,
    Columns,
    Spread,
}

const LAYOUTS: [Layout; 3] = [Layout::Rows, Layout::Columns, Layout::Spread];

impl Layout {
    fn strides(self, rows: usize, cols: usize) -> (usize, usize) {
        match self {
            Self::Rows => (cols + 3, 1),
            Self::Columns => (1, rows + 1),
            Self::Spread => (2 * cols + 5, 2),
        }
    }
}

/// A matrix with its strides; places between the elements hold NaN.
struct Matrix<E> {
    data: Vec<E>,
    rows: usize,
    cols: usize,
    strides: (usize, usize),
}

impl<E: Element> Matrix<E> {
    fn new(layout: Layout, rows: usize, cols: usize, mut value: impl FnMut() -> f64) -> Self {
        let strides = layout.strides(rows, cols);
        let len = if rows * cols == 0 {
            0
        } else {
            (rows - 1) * strides.0 + (cols - 1) * strides.1 + 1
        };
        let mut data = vec![E::from_f64(f64::NAN); len];
        for i in 0..rows {
            for j in 0..cols {
                data[i * strides.0 + j * strides.1] = E::from_f64(value());
            }
        }
        Self {
            data,
            rows,
            cols,
            strides,
        }
    }
    fn view(&self) -> MatRef<'_, E> {
        MatRef::strided(
            &self.data,
            self.rows,
            self.cols,
            self.strides.0,
            self.strides.1,
        )
    }
    fn at(&self, i: usize, j: usize) -> f64 {
        self.data[i * self.strides.0 + j * self.strides.1].to_f64()
    }
}

fn rounded(precision: Precision, x: f64) -> f64 {
    match precision {
        Precision::F32 => x,
        Precision::Bf16 => bf16::from_f32(x as f32).to_f64(),
        Precision::F16 => f16::from_f32(x as f32).to_f64(),
    }
}

/// `(A B, |A| |B|)` of the rounded operands.
fn reference<A: Element, B: Element>(
    precision: Precision,
    a: &Matrix<A>,
    b: &Matrix<B>,
) -> Vec<(f64, f64)> {
    let mut out = Vec::with_capacity(a.rows * b.cols);
    for i in 0..a.rows {
        for j in 0..b.cols {
            let terms = (0..a.cols)
                .map(|p| rounded(precision, a.at(i, p)) * rounded(precision, b.at(p, j)));
            out.push(terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs())));
        }
    }
    out
}

fn exact_case<A: Operand, B: Operand>(
    noise: &mut Noise,
    precision: Precision,
    (m, k, n): (usize, usize, usize),
    layouts: [Layout; 3],
    (alpha, beta): (f32, f32),
) {
    let a = Matrix::<A>::new(layouts[0], m, k, || noise.whole(8));
    let b = Matrix::<B>::new(layouts[1], k, n, || noise.whole(8));
    let expected = reference(precision, &a, &b);
    let old = Matrix::<f32>::new(layouts[2], m, n, || {
        if beta == 0.0 {
            f64::NAN
        } else {
            noise.whole(9)
        }
    });
    let bias: Vec<f32> = (0..n).map(|_| noise.whole(5) as f32).collect();
    let with_epilogue = old.strides.1 == 1;
    let epilogue = if with_epilogue {
        Epilogue {
            bias: Some(&bias),
            activation: Activation::Relu,
        }
    } else {
        Epilogue::default()
    };
    for_each_way(|level, engine| {
        let mut c = old.data.clone();
        let view = MatMut::strided(&mut c, m, n, old.strides.0, old.strides.1);
        multiply_half(
            level,
            precision,
            alpha,
            a.view(),
            b.view(),
            beta,
            view,
            epilogue,
        );
        for i in 0..m {
            for j in 0..n {
                let mut want = f64::from(alpha) * expected[i * n + j].0;
                if beta != 0.0 {
                    want += f64::from(beta) * old.at(i, j);
                }
                if with_epilogue {
                    want = (want + f64::from(bias[j])).max(0.0);
                }
                let got = f64::from(c[i * old.strides.0 + j * old.strides.1]);
                assert!(
                    got == want,
                    "{level} {engine} {precision} [{m}, {k}] x [{k}, {n}] {layouts:?} alpha {alpha} beta {beta} at ({i}, {j}): {got} for {want}"
                );
            }
        }
        // Between the elements of C nothing was written.
        for (at, (new, old_value)) in c.iter().zip(&old.data).enumerate() {
            let (rows, cols) = old.strides;
            let inside = if rows > cols {
                at % rows % cols == 0 && at % rows / cols < n
            } else {
                at % cols < m
            };
            assert!(
                inside || new.to_bits() == old_value.to_bits(),
                "{level} {engine}: wrote between the elements, at {at}"
            );
        }
    });
}

#[test]
fn whole_numbers_are_exact_at_every_edge_in_every_format() {
    let mut noise = Noise(7);
    let sizes = [
        1, 2, 3, 5, 6, 7, 8, 9, 12, 13, 15, 16, 17, 31, 33, 47, 49, 63, 64, 65,
    ];
    let mut cases = 0;
    for (index, &m) in sizes.iter().enumerate() {
        for &n in &sizes {
            let k = sizes[(index * 7 + n) % sizes.len()];
            let a_layout = LAYOUTS[noise.next() as usize % 3];
            let b_layout = LAYOUTS[noise.next() as usize % 3];
            let c_layout = LAYOUTS[noise.next() as usize % 2];
            let layouts = [a_layout, b_layout, c_layout];
            let scale =
                [(1.0, 0.0), (1.0, 1.0), (-2.0, 0.5), (0.5, 0.0)][noise.next() as usize % 4];
            let shape = (m, k, n);
            exact_case::<f32, f32>(&mut noise, Precision::Bf16, shape, layouts, scale);
            exact_case::<bf16, bf16>(&mut noise, Precision::Bf16, shape, layouts, scale);
            exact_case::<f32, bf16>(&mut noise, Precision::Bf16, shape, layouts, scale);
            exact_case::<bf16, f16>(&mut noise, Precision::Bf16, shape, layouts, scale);
            exact_case::<f16, f16>(&mut noise, Precision::F16, shape, layouts, scale);
            exact_case::<f32, f16>(&mut noise, Precision::F16, shape, layouts, scale);
            exact_case::<f32, bf16>(&mut noise, Precision::F32, shape, layouts, scale);
            cases += 7;
        }
    }
    assert_eq!(cases, 2800);
}

#[test]
fn whole_numbers_are_exact_across_blocks_of_rows_and_of_k() {
    let mut noise = Noise(8);
    for shape in [
        (97, 1030, 70),
        (200, 513, 17),
        (3, 2049, 130),
        (192, 256, 64),
        // Few rows, whose packed strips stay while several panels and blocks of k pass; and one row more.
        (128, 1400, 130),
        (33, 2600, 66),
        (129, 1300, 70),
        (100, 0, 5),
        (0, 4, 4),
    ] {
        for layouts in [
            [LAYOUTS[0]; 3],
            [LAYOUTS[1], LAYOUTS[1], LAYOUTS[0]],
            [LAYOUTS[0], LAYOUTS[1], LAYOUTS[1]],
        ] {
            exact_case::<bf16, bf16>(&mut noise, Precision::Bf16, shape, layouts, (1.0, 0.0));
            exact_case::<f32, f32>(&mut noise, Precision::Bf16, shape, layouts, (-1.0, 2.0));
            exact_case::<f16, f32>(&mut noise, Precision::F16, shape, layouts, (1.0, 1.0));
        }
    }
}

#[test]
fn reals_are_within_the_bound_of_f32_sums() {
    let mut noise = Noise(9);
    for (m, k, n) in [(17, 96, 33), (5, 1000, 64), (40, 20000, 3)] {
        let a = Matrix::<f32>::new(Layout::Rows, m, k, || noise.real());
        let b = Matrix::<f32>::new(Layout::Columns, k, n, || noise.real());
        for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
            let expected = reference(precision, &a, &b);
            for_each_way(|level, engine| {
                let mut c = vec![f32::NAN; m * n];
                let view = MatMut::row_major(&mut c, m, n);
                multiply_half(
                    level,
                    precision,
                    1.0,
                    a.view(),
                    b.view(),
                    0.0,
                    view,
                    Epilogue::default(),
                );
                let mut worst = 0.0_f64;
                for (got, (want, size)) in c.iter().zip(&expected) {
                    // The textbook loop adds one by one; its bound grows with k.
                    worst = worst.max((f64::from(*got) - want).abs() / (size * 2.0_f64.powi(-24)));
                }
                println!("{level} {engine} {precision} k {k}: {worst:.2} units");
                assert!(
                    worst <= HALF_PRODUCT_ERROR,
                    "{level} {engine} {precision} k {k}: {worst} units of roundoff"
                );
            });
        }
    }
}

/// A product of one row and a column-major B is dot products, whose sums end where k is cut.
#[test]
fn threads_change_no_bit_of_single_rows() {
    let mut noise = Noise(11);
    let pool = nd_core::Threads::new(Some(2)).unwrap();
    for (m, k, n) in [(1, 1024, 256), (129, 1024, 256), (65, 512, 64)] {
        let a = Matrix::<f16>::new(Layout::Rows, m, k, || noise.real());
        let b = Matrix::<f16>::new(Layout::Columns, k, n, || noise.real());
        let wide = Matrix::<f32>::new(Layout::Columns, k, n, || noise.real());
        let (plain, half) = (Epilogue::default(), Precision::F16);
        for level in nd_testing::levels() {
            let [mut one, mut two, mut three, mut four] = [(); 4].map(|()| vec![0.0_f32; m * n]);
            let c = MatMut::row_major(&mut one, m, n);
            multiply_half(level, half, 1.0, a.view(), b.view(), 0.0, c, plain);
            let c = MatMut::row_major(&mut three, m, n);
            let exact = Precision::F32;
            multiply_half(level, exact, 1.0, a.view(), wide.view(), 0.0, c, plain);
            pool.install(|| {
                let c = MatMut::row_major(&mut two, m, n);
                multiply_half_parallel(level, half, 1.0, a.view(), b.view(), 0.0, c, plain);
                let c = MatMut::row_major(&mut four, m, n);
                multiply_half_parallel(level, exact, 1.0, a.view(), wide.view(), 0.0, c, plain);
            });
            assert!(one == two, "{m} x {k} x {n} {level}");
            assert!(three == four, "{m} x {k} x {n} {level}, f32 on the right");
        }
    }
}

#[test]
fn packing_and_threads_change_no_bit() {
    let mut noise = Noise(10);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(3)
        .build()
        .unwrap();
    for (m, k, n) in [(7, 100, 65), (96, 512, 64), (250, 700, 130), (60, 64, 900)] {
        let a = Matrix::<f32>::new(Layout::Rows, m, k, || noise.real());
        let b = Matrix::<f32>::new(Layout::Columns, k, n, || noise.real());
        let bias: Vec<f32> = (0..n).map(|_| noise.real() as f32).collect();
        let epilogue = Epilogue {
            bias: Some(&bias),
            activation: Activation::Identity,
        };
        for_each_way(|level, engine| {
            let mut packed = vec![bf16::NAN; packed_bf16_len(k, n)];
            pack_bf16(level, b.view(), &mut packed);
            let packed = PackedBf16::new(&packed, k, n);
            let mut results = vec![vec![0.25_f32; m * n]; 4];
            let [one, two, three, four] = &mut results[..] else {
                unreachable!()
            };
            let p = Precision::Bf16;
            multiply_half(
                level,
                p,
                1.0,
                a.view(),
                b.view(),
                1.0,
                MatMut::row_major(one, m, n),
                epilogue,
            );
            multiply_packed(
                level,
                1.0,
                a.view(),
                packed,
                1.0,
                MatMut::row_major(two, m, n),
                epilogue,
            );
            // The pool's thread is another one.
            let on_this_thread = || {
                let c = MatMut::row_major(three, m, n);
                multiply_half_parallel(level, p, 1.0, a.view(), b.view(), 1.0, c, epilogue);
                let c = MatMut::row_major(four, m, n);
                multiply_packed_parallel(level, 1.0, a.view(), packed, 1.0, c, epilogue);
            };
            pool.install(|| engine.scope(on_this_thread));
            let bits: Vec<Vec<u32>> = results
                .iter()
                .map(|c| c.iter().map(|x| x.to_bits()).collect())
                .collect();
            assert!(
                bits.iter().all(|other| *other == bits[0]),
                "{level} {engine} [{m}, {k}] x [{k}, {n}]"
            );
        });
    }
}

#[test]
fn nan_and_infinity_reach_their_rows_and_columns_only() {
    for_each_way(|level, engine| {
        for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
            let mut a = vec![1.0_f32; 3 * 40];
            let b = vec![0.5_f32; 40 * 20];
            a[40 + 7] = f32::NAN;
            a[80 + 39] = f32::INFINITY;
            let mut c = vec![0.0; 60];
            multiply_half(
                level,
                precision,
                1.0,
                MatRef::row_major(&a, 3, 40),
                MatRef::row_major(&b, 40, 20),
                0.0,
                MatMut::row_major(&mut c, 3, 20),
                Epilogue::default(),
            );
            assert!(
                c[..20].iter().all(|&x| x == 20.0),
                "{level} {engine} {precision}"
            );
            assert!(
                c[20..40].iter().all(|x| x.is_nan()),
                "{level} {engine} {precision}"
            );
            assert!(
                c[40..].iter().all(|&x| x == f32::INFINITY),
                "{level} {engine} {precision}"
            );
        }
    });
}

#[test]
fn mismatched_shapes_name_both() {
    let (a, b) = ([bf16::ZERO; 6], [bf16::ZERO; 8]);
    let mut c = [0.0; 8];
    let error = std::panic::catch_unwind(move || {
        multiply_half(
            SimdLevel::current(),
            Precision::Bf16,
            1.0,
            MatRef::row_major(&a, 2, 3),
            MatRef::row_major(&b, 2, 4),
            0.0,
            MatMut::row_major(&mut c, 2, 4),
            Epilogue::default(),
        );
    })
    .unwrap_err();
    let message = error.downcast_ref::<String>().unwrap();
    assert!(message.contains("A [2, 3] B [2, 4]"), "{message}");
}
