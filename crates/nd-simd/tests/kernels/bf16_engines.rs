//! Every way to multiply bf16 at every edge: tiles, blocks of k and of rows, strides, packed operands, threads.
//!
//! Whole numbers make the answer exact, so one product of the largest shape is the reference of all shapes inside it: its running
//! sums over k, kept for each k.

use nd_core::options::Precision;
use nd_core::{Buffer, bf16};
use nd_simd::SimdLevel;
use nd_simd::activations::Activation;
use nd_simd::matmul::{
    Bf16Engine, Epilogue, HALF_PRODUCT_ERROR, MatMut, MatRef, PackedBf16, multiply, multiply_half,
    multiply_half_parallel, multiply_packed, multiply_packed_parallel, pack_bf16, packed_bf16_len,
};

/// The engines of the best level.
fn engines() -> impl Iterator<Item = (SimdLevel, Bf16Engine)> {
    let best = nd_testing::levels().last().expect("at least scalar");
    let some = best == SimdLevel::Avx512;
    Bf16Engine::supported()
        .filter(move |&engine| some || engine == Bf16Engine::Widen)
        .map(move |engine| (best, engine))
}

/// Whole numbers from -8 to 8, none of them zero.
fn whole(seed: usize, i: usize, j: usize) -> f32 {
    let bits = (i * 7919 + j * 104_729 + seed * 31).wrapping_mul(0x9e37_79b9) >> 9;
    let size = (bits % 8 + 1) as f32;
    if bits >> 8 & 1 == 0 { size } else { -size }
}

fn matrix(seed: usize, rows: usize, cols: usize) -> Vec<bf16> {
    (0..rows * cols)
        .map(|at| bf16::from_f32(whole(seed, at / cols, at % cols)))
        .collect()
}

/// Sums over the first k terms, for each k.
struct Reference {
    n: usize,
    sums: Vec<Vec<f32>>,
}

impl Reference {
    fn new(m: usize, k: usize, n: usize) -> Self {
        let mut sums = vec![vec![0.0; m * n]];
        for p in 0..k {
            let mut next = sums[p].clone();
            for i in 0..m {
                for j in 0..n {
                    next[i * n + j] += whole(1, i, p) * whole(2, p, j);
                }
            }
            sums.push(next);
        }
        Self { n, sums }
    }

    fn at(&self, i: usize, k: usize, j: usize) -> f32 {
        self.sums[k][i * self.n + j]
    }
}

/// C with a border of another number, which nobody may write.
const BORDER: f32 = 12345.0;

fn check(
    what: &dyn Fn() -> String,
    c: &[f32],
    (m, n, stride): (usize, usize, usize),
    want: impl Fn(usize, usize) -> f32,
) {
    for (at, &got) in c.iter().enumerate() {
        let (i, j) = (at / stride, at % stride);
        let want = if i < m && j < n { want(i, j) } else { BORDER };
        assert!(got == want, "{} at ({i}, {j}): {got} for {want}", what());
    }
}

#[test]
fn every_small_shape_is_exact() {
    const SIZE: usize = 33;
    const DEPTH: usize = 70;
    let reference = Reference::new(SIZE, DEPTH, SIZE);
    for (level, engine) in engines() {
        let mut cases = 0;
        for k in 0..=DEPTH {
            for m in 1..=SIZE {
                let a = matrix(1, m, k.max(1));
                for n in 1..=SIZE {
                    let b = matrix(2, k.max(1), n);
                    let stride = n + 1;
                    let mut c = vec![BORDER; (m + 1) * stride];
                    let view = MatMut::strided(&mut c[..m * stride], m, n, stride, 1);
                    let a = MatRef::row_major(&a[..m * k], m, k);
                    let b = MatRef::row_major(&b[..k * n], k, n);
                    let precision = Precision::Bf16;
                    engine.scope(|| {
                        let none = Epilogue::default();
                        multiply_half(level, precision, 1.0, a, b, 0.0, view, none);
                    });
                    let what = || format!("{engine} [{m}, {k}] x [{k}, {n}]");
                    check(&what, &c, (m, n, stride), |i, j| reference.at(i, k, j));
                    cases += 1;
                }
            }
        }
        assert_eq!(cases, 77_319);
    }
}

/// A product of real numbers, beside others of the same numbers.
struct Real {
    shape: [usize; 3],
    a: Vec<bf16>,
    b: Vec<bf16>,
}

impl Real {
    fn new([m, k, n]: [usize; 3]) -> Self {
        let fractions = |seed: usize, rows: usize, cols: usize| -> Vec<bf16> {
            let whole =
                |at: usize| whole(seed, at / cols, at % cols) + whole(seed + 7, at % 31, at) / 64.0;
            (0..rows * cols)
                .map(|at| bf16::from_f32(whole(at)))
                .collect()
        };
        Self {
            shape: [m, k, n],
            a: fractions(1, m, k),
            b: fractions(2, k, n),
        }
    }

    /// C with an A whose rows begin so many numbers behind a cache line.
    fn run(
        &self,
        (level, engine): (SimdLevel, Bf16Engine),
        begin: usize,
        threads: usize,
    ) -> Vec<f32> {
        let [m, k, n] = self.shape;
        let mut room = Buffer::<bf16>::zeroed(begin + m * k);
        room[begin..].copy_from_slice(&self.a);
        let a = MatRef::row_major(&room[begin..], m, k);
        let b = MatRef::row_major(&self.b, k, n);
        let mut c = vec![f32::NAN; m * n];
        let view = MatMut::row_major(&mut c, m, n);
        let (precision, none) = (Precision::Bf16, Epilogue::default());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("a pool").install(|| {
            engine.scope(|| {
                if threads == 1 {
                    multiply_half(level, precision, 1.0, a, b, 0.0, view, none);
                } else {
                    multiply_half_parallel(level, precision, 1.0, a, b, 0.0, view, none);
                }
            });
        });
        c
    }
}

/// Rows of A that begin with a cache line are read in place, others packed: once for all columns, for each block of them, or not at all where columns
/// are few; how many there are depends on the threads, too.
#[test]
fn neither_where_rows_of_a_begin_nor_threads_change_a_bit() {
    let shapes = [
        [5, 64, 300],
        [40, 96, 544],
        [128, 288, 320],
        [130, 1056, 640],
        [600, 128, 544],
        [2080, 256, 96],
    ];
    for way in engines() {
        for shape in shapes {
            let product = Real::new(shape);
            let want = product.run(way, 0, 1);
            assert!(want.iter().all(|x| x.is_finite()));
            for (begin, threads) in [(8, 1), (0, 2), (8, 2), (8, 3)] {
                let got = product.run(way, begin, threads);
                let same = got
                    .iter()
                    .zip(&want)
                    .all(|(x, y)| x.to_bits() == y.to_bits());
                assert!(same, "{} {shape:?} from {begin}, {threads} threads", way.1);
            }
        }
    }
}

/// So large that kernels ask for the next ones' lines, with whole and broken strips and every number of steps that is asked in; rows of A
/// begin with a cache line or within one, which decides whether they are packed.
#[test]
fn large_products_are_exact_wherever_rows_of_a_begin() {
    const N: usize = 544;
    for (level, engine) in engines() {
        let heights = [545, 576].into_iter().cycle();
        for (k, m) in [32, 64, 96, 160, 288, 520, 544, 1024, 1056, 1088]
            .into_iter()
            .zip(heights)
        {
            let (a, b) = (matrix(1, m, k), matrix(2, k, N));
            let wide = |x: &[bf16]| -> Vec<f32> { x.iter().map(|x| x.to_f32()).collect() };
            let (a_wide, b_wide) = (wide(&a), wide(&b));
            let mut want = vec![0.0; m * N];
            multiply(
                level,
                1.0,
                MatRef::row_major(&a_wide, m, k),
                MatRef::row_major(&b_wide, k, N),
                0.0,
                MatMut::row_major(&mut want, m, N),
            );
            for begin in [0, 8] {
                let mut room = Buffer::<bf16>::zeroed(begin + m * k);
                room[begin..].copy_from_slice(&a);
                let a = MatRef::row_major(&room[begin..], m, k);
                let b = MatRef::row_major(&b, k, N);
                // The second time, sums are added to what is there.
                let mut c = vec![BORDER; m * N];
                for beta in [0.0, -1.0] {
                    let view = MatMut::row_major(&mut c, m, N);
                    engine.scope(|| {
                        let none = Epilogue::default();
                        multiply_half(level, Precision::Bf16, 1.0, a, b, beta, view, none);
                    });
                    let what =
                        || format!("{engine} [{m}, {k}] x [{k}, {N}] from {begin}, beta {beta}");
                    let want = |i, j| if beta == 0.0 { want[i * N + j] } else { 0.0 };
                    check(&what, &c, (m, N, N), want);
                }
            }
        }
    }
}

/// Rows or columns as they are stored, and what becomes of them.
fn stored(x: &[bf16], rows: usize, cols: usize, by_columns: bool) -> Vec<bf16> {
    if !by_columns {
        return x.to_vec();
    }
    let mut out = vec![bf16::ZERO; x.len()];
    for i in 0..rows {
        for j in 0..cols {
            out[j * rows + i] = x[i * cols + j];
        }
    }
    out
}

fn view(x: &[bf16], rows: usize, cols: usize, by_columns: bool) -> MatRef<'_, bf16> {
    if by_columns {
        MatRef::strided(x, rows, cols, 1, rows)
    } else {
        MatRef::row_major(x, rows, cols)
    }
}

#[test]
fn borders_of_blocks_layouts_and_epilogues_are_exact() {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(3)
        .build()
        .unwrap();
    let depths = [1, 31, 32, 33, 96, 511, 512, 513, 1030, 2049];
    for (m, n) in [
        (1, 64),
        (2, 130),
        (15, 48),
        (16, 16),
        (17, 65),
        (33, 96),
        (48, 129),
        (63, 200),
        (95, 31),
        (97, 63),
        (513, 17),
        (545, 140),
    ] {
        let reference = Reference::new(
            m,
            depths[depths.len() - 1].min(if m > 500 { 513 } else { 4096 }),
            n,
        );
        for (index, &k) in depths.iter().enumerate() {
            if k >= reference.sums.len() {
                continue;
            }
            let (a, b) = (matrix(1, m, k), matrix(2, k, n));
            let bias: Vec<f32> = (0..n).map(|j| whole(3, 0, j)).collect();
            let (by_columns_a, by_columns_b) = (index % 2 == 1, index / 2 % 2 == 1);
            let a32: Vec<f32> = a.iter().map(|x| x.to_f32()).collect();
            let (a_stored, b_stored) = (
                stored(&a, m, k, by_columns_a),
                stored(&b, k, n, by_columns_b),
            );
            let a_view = view(&a_stored, m, k, by_columns_a);
            let b_view = view(&b_stored, k, n, by_columns_b);
            for (level, engine) in engines() {
                let mut packed = vec![bf16::NAN; packed_bf16_len(k, n)];
                engine.scope(|| pack_bf16(level, b_view, &mut packed));
                let packed = PackedBf16::new(&packed, k, n);
                let stride = n + index % 3;
                for (alpha, beta, fused) in [(1.0, 0.0, false), (1.0, 1.0, true), (-2.0, 0.5, true)]
                {
                    let epilogue = if fused {
                        Epilogue {
                            bias: Some(&bias),
                            activation: Activation::Relu,
                        }
                    } else {
                        Epilogue::default()
                    };
                    let old = |i: usize, j: usize| 2.0 * whole(4, i, j);
                    let want = |i: usize, j: usize| {
                        let mut value = alpha * reference.at(i, k, j);
                        if beta != 0.0 {
                            value += beta * old(i, j);
                        }
                        if fused {
                            (value + bias[j]).max(0.0)
                        } else {
                            value
                        }
                    };
                    for way in 0..5 {
                        let mut c = vec![BORDER; (m + 1) * stride];
                        if beta != 0.0 {
                            for i in 0..m {
                                for j in 0..n {
                                    c[i * stride + j] = old(i, j);
                                }
                            }
                        }
                        let view = MatMut::strided(&mut c[..m * stride], m, n, stride, 1);
                        let rows = MatRef::row_major(&a32, m, k);
                        let precision = Precision::Bf16;
                        pool.install(|| {
                            engine.scope(|| match way {
                                0 => multiply_half(
                                    level, precision, alpha, a_view, b_view, beta, view, epilogue,
                                ),
                                1 => multiply_half_parallel(
                                    level, precision, alpha, a_view, b_view, beta, view, epilogue,
                                ),
                                2 => multiply_packed(
                                    level, alpha, a_view, packed, beta, view, epilogue,
                                ),
                                3 => multiply_packed_parallel(
                                    level, alpha, rows, packed, beta, view, epilogue,
                                ),
                                _ => multiply_half(
                                    level, precision, alpha, rows, b_view, beta, view, epilogue,
                                ),
                            });
                        });
                        let what = || {
                            format!(
                                "{engine} way {way} [{m}, {k}] x [{k}, {n}] alpha {alpha} beta {beta}, columns {by_columns_a} {by_columns_b}"
                            )
                        };
                        check(&what, &c, (m, n, stride), want);
                    }
                }
            }
        }
    }
}

/// Real numbers whose sums round, in every number of threads and with each operand packed or not.
#[test]
fn threads_and_packing_change_no_bit() {
    let mut state = 1_u64;
    let mut noise = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as f32 / (1_u64 << 30) as f32 - 1.0
    };
    for (m, k, n) in [
        (5, 700, 300),
        (70, 96, 70),
        (300, 1100, 200),
        (1000, 64, 130),
    ] {
        let a: Vec<f32> = (0..m * k).map(|_| noise()).collect();
        let b: Vec<f32> = (0..k * n).map(|_| noise()).collect();
        let (a, b) = (MatRef::row_major(&a, m, k), MatRef::row_major(&b, k, n));
        for (level, engine) in engines() {
            let mut packed = vec![bf16::NAN; packed_bf16_len(k, n)];
            pack_bf16(level, b, &mut packed);
            let packed = PackedBf16::new(&packed, k, n);
            let none = Epilogue::default();
            let mut first = vec![0.5; m * n];
            engine.scope(|| {
                let c = MatMut::row_major(&mut first, m, n);
                multiply_half(level, Precision::Bf16, 1.0, a, b, 1.0, c, none);
            });
            for threads in [1, 2, 3, 5] {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let mut again = vec![vec![0.5; m * n]; 2];
                let [one, two] = &mut again[..] else {
                    unreachable!()
                };
                pool.install(|| {
                    engine.scope(|| {
                        let c = MatMut::row_major(one, m, n);
                        multiply_half_parallel(level, Precision::Bf16, 1.0, a, b, 1.0, c, none);
                        let c = MatMut::row_major(two, m, n);
                        multiply_packed_parallel(level, 1.0, a, packed, 1.0, c, none);
                    });
                });
                for again in &again {
                    let same = first
                        .iter()
                        .zip(again)
                        .all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(
                        same,
                        "{engine} [{m}, {k}] x [{k}, {n}] with {threads} threads"
                    );
                }
            }
        }
    }
}

/// The bound also where all terms are alike, whose rounding errors have one sign.
#[test]
fn sums_of_equal_terms_keep_the_bound() {
    for (level, engine) in engines() {
        for k in [100, 1000, 4096, 20_000] {
            let (x, y) = (bf16::from_f32(1.992_187_5), bf16::from_f32(1.976_562_5));
            let (m, n) = (3, 17);
            let (a, b) = (vec![x; m * k], vec![y; k * n]);
            let mut c = vec![f32::NAN; m * n];
            engine.scope(|| {
                multiply_half(
                    level,
                    Precision::Bf16,
                    1.0,
                    MatRef::row_major(&a, m, k),
                    MatRef::row_major(&b, k, n),
                    0.0,
                    MatMut::row_major(&mut c, m, n),
                    Epilogue::default(),
                );
            });
            let want = x.to_f64() * y.to_f64() * k as f64;
            let worst = c
                .iter()
                .map(|&c| (f64::from(c) - want).abs() / (want * 2.0_f64.powi(-24)))
                .fold(0.0, f64::max);
            println!("{engine} k {k}: {worst:.2} units");
            // A chain of half its length, in one direction: 512 products of `dot`, 32 tiles of `amx`.
            let most = if engine == Bf16Engine::Dot {
                256.0
            } else {
                2.0 * HALF_PRODUCT_ERROR
            };
            assert!(worst <= most, "{engine} k {k}: {worst} units");
        }
    }
}

/// The thread that calls decides; the environment's engine is used unless a scope says otherwise.
#[test]
fn a_scope_decides_for_all_threads_of_a_product() {
    let (m, k, n) = (256, 1000, 256);
    let a: Vec<f32> = (0..m * k).map(|i| (i % 97) as f32 / 97.0).collect();
    let b: Vec<f32> = (0..k * n).map(|i| (i % 89) as f32 / 89.0).collect();
    let level = SimdLevel::best();
    let run = || {
        let mut c = vec![0.0; m * n];
        multiply_half_parallel(
            level,
            Precision::Bf16,
            1.0,
            MatRef::row_major(&a, m, k),
            MatRef::row_major(&b, k, n),
            0.0,
            MatMut::row_major(&mut c, m, n),
            Epilogue::default(),
        );
        c
    };
    for (_, engine) in engines() {
        let (first, again) = (engine.scope(run), engine.scope(run));
        assert!(first == again, "{engine}");
    }
    let _ = Bf16Engine::current();
}
