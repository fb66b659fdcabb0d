//! Products into C of sixteen bits: the f32 results of the same product, rounded once by the `half` crate.

use nd_core::options::Precision;
use nd_core::{bf16, f16};
use nd_simd::SimdLevel;
use nd_simd::activations::Activation;
use nd_simd::matmul::{
    Bf16Engine, Epilogue, MatMut, MatRef, Operand, PackedBf16, multiply_half,
    multiply_half_parallel, multiply_packed, multiply_packed_parallel, pack_bf16, packed_bf16_len,
};

/// A sixteen-bit format, with the conversions of the `half` crate.
trait Half: Operand {
    fn round(x: f32) -> Self;
    fn bits(self) -> u16;
}

impl Half for bf16 {
    fn round(x: f32) -> Self {
        Self::from_f32_const(x)
    }
    fn bits(self) -> u16 {
        self.to_bits()
    }
}

impl Half for f16 {
    fn round(x: f32) -> Self {
        Self::from_f32_const(x)
    }
    fn bits(self) -> u16 {
        self.to_bits()
    }
}

/// Repeatable numbers from -1 to 1.
fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f32 / (1_u64 << 30) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn round_all<H: Half>(x: &[f32]) -> Vec<H> {
    x.iter().map(|&x| H::round(x)).collect()
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

/// A product of one right operand, which may be packed, into a C with rows some way apart.
struct Case<'a, A, B> {
    level: SimdLevel,
    precision: Precision,
    sizes: [usize; 3],
    a: MatRef<'a, A>,
    b: MatRef<'a, B>,
    packed: Option<PackedBf16<'a>>,
    parallel: bool,
    alpha: f32,
    beta: f32,
    epilogue: Epilogue<'a, f32>,
}

impl<A: Operand, B: Operand> Case<'_, A, B> {
    fn run<C: Operand>(&self, c: MatMut<'_, C>) {
        let &Self {
            level,
            precision,
            a,
            b,
            alpha,
            beta,
            epilogue,
            ..
        } = self;
        match (self.packed, self.parallel) {
            (Some(b), false) => multiply_packed(level, alpha, a, b, beta, c, epilogue),
            (Some(b), true) => multiply_packed_parallel(level, alpha, a, b, beta, c, epilogue),
            (None, false) => multiply_half(level, precision, alpha, a, b, beta, c, epilogue),
            (None, true) => {
                multiply_half_parallel(level, precision, alpha, a, b, beta, c, epilogue);
            }
        }
    }

    /// Compares with the rounded f32 results; what lies between rows must stay.
    #[track_caller]
    fn check<C: Half>(&self, gap: usize, old: impl Fn(usize) -> f32, what: &str) {
        let [m, _, n] = self.sizes;
        let stride = (n + gap).max(1);
        let border = C::round(77.0);
        let mut c = vec![border; (m * stride).saturating_sub(gap)];
        let mut wide = vec![0.0_f32; m * n];
        for i in 0..m {
            for j in 0..n {
                c[i * stride + j] = C::round(old(i * n + j));
                wide[i * n + j] = c[i * stride + j].widen();
            }
        }
        self.run(MatMut::row_major(&mut wide, m, n));
        self.run(MatMut::strided(&mut c, m, n, stride, 1));
        for (at, got) in c.iter().enumerate() {
            let (i, j) = (at / stride, at % stride);
            let want = if j < n {
                C::round(wide[i * n + j])
            } else {
                border
            };
            assert_eq!(
                got.bits(),
                want.bits(),
                "{what} {:?} ({i}, {j}): {} instead of {}",
                self.sizes,
                got.widen(),
                want.widen()
            );
        }
    }
}

const EPILOGUES: [(bool, Activation); 5] = [
    (false, Activation::Identity),
    (true, Activation::Identity),
    (false, Activation::Relu),
    (true, Activation::Relu),
    (true, Activation::Gelu),
];

#[test]
fn results_are_those_of_f32_rounded_once() {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(3)
        .build()
        .unwrap();
    for (index, sizes @ [m, k, n]) in [
        [0, 5, 4],
        [4, 5, 0],
        [3, 0, 5],
        [1, 1, 1],
        [1, 40, 33],
        [2, 3, 70],
        [32, 32, 32],
        [33, 96, 31],
        [48, 128, 64],
        [96, 40, 70],
        [64, 96, 129],
        [64, 200, 96],
        [64, 500, 96],
        [64, 1024, 96],
        [70, 1100, 200],
        [131, 2100, 75],
        [65, 64, 2100],
        [700, 33, 129],
    ]
    .into_iter()
    .enumerate()
    {
        let (a, b, bias) = (noise(1, m * k), noise(2, k * n), noise(3, n));
        let (a16, b16) = (round_all::<bf16>(&a), round_all::<bf16>(&b));
        let a16 = MatRef::row_major(&a16, m, k);
        // As a gradient of weights has it.
        let by_columns = noise(4, m * k);
        let by_columns = MatRef::row_major(&by_columns, k, m).t();
        let b = MatRef::row_major(&b, k, n);
        let b16 = MatRef::row_major(&b16, k, n);
        for_each_way(|level, engine| {
            // Plain loops take a minute for what vectors do in a second.
            if level == SimdLevel::Scalar && m * k * n > 1 << 18 {
                return;
            }
            let mut packed = vec![bf16::NAN; packed_bf16_len(k, n)];
            pack_bf16(level, b, &mut packed);
            let packed = PackedBf16::new(&packed, k, n);
            for (way, (has_bias, activation)) in EPILOGUES.into_iter().enumerate() {
                for (alpha, beta) in [(1.0, 0.0), (1.0, 1.0), (-1.5, 0.5)] {
                    let what = format!("{engine} at {level}, epilogue {way}, {alpha}, {beta}");
                    let old = |i: usize| (i % 17) as f32 / 8.0 - 1.0;
                    let gap = (index + way) % 3;
                    for parallel in [false, true] {
                        let epilogue = Epilogue {
                            bias: has_bias.then_some(&bias[..]),
                            activation,
                        };
                        let case = Case {
                            level,
                            precision: Precision::Bf16,
                            sizes,
                            a: a16,
                            b: b16,
                            packed: (way % 2 == 1).then_some(packed),
                            parallel,
                            alpha,
                            beta,
                            epilogue,
                        };
                        pool.install(|| {
                            engine.scope(|| {
                                case.check::<bf16>(gap, old, &what);
                                let of_f32 = |precision| Case {
                                    level,
                                    precision,
                                    sizes,
                                    a: by_columns,
                                    b,
                                    packed: None,
                                    parallel,
                                    alpha,
                                    beta,
                                    epilogue,
                                };
                                of_f32(Precision::Bf16).check::<bf16>(gap, old, &what);
                                of_f32(Precision::Bf16).check::<f16>(gap, old, &what);
                                of_f32(Precision::F32).check::<bf16>(gap, old, &what);
                                of_f32(Precision::F16).check::<bf16>(gap, old, &what);
                            });
                        });
                    }
                }
            }
        });
    }
}

/// A column-major C: the transposed product.
#[test]
fn columns_may_be_neighbours() {
    let (m, k, n) = (45, 70, 37);
    let (a, b) = (noise(1, m * k), noise(2, k * n));
    let (a, b) = (MatRef::row_major(&a, m, k), MatRef::row_major(&b, k, n));
    for_each_way(|level, engine| {
        let (mut wide, mut c) = (vec![0.0_f32; m * n], vec![bf16::ZERO; m * n]);
        let (precision, none) = (Precision::Bf16, Epilogue::default());
        let to = MatMut::row_major(&mut wide, n, m).t();
        multiply_half(level, precision, 1.0, a, b, 0.0, to, none);
        let to = MatMut::row_major(&mut c, n, m).t();
        multiply_half(level, precision, 1.0, a, b, 0.0, to, none);
        for (got, want) in c.iter().zip(&wide) {
            assert_eq!(got.to_bits(), bf16::round(*want).to_bits(), "{engine}");
        }
    });
}

/// Sums so small that a bias, a factor or other sums make denormal numbers of them, and those that are no numbers.
#[test]
fn denormal_and_infinite_results_are_rounded_as_others() {
    let tiny = 2.0_f32.powi(-110);
    let sums = [
        0.0,
        -0.0,
        tiny,
        -tiny,
        f32::MIN_POSITIVE,
        3.0e38,
        f32::INFINITY,
        f32::NAN,
    ];
    let near = tiny * (1.0 + 2.0_f32.powi(-20));
    let biases = [
        0.0,
        1e-39,
        -3e-45,
        near,
        -near,
        -tiny,
        1.5e38,
        f32::NEG_INFINITY,
        f32::NAN,
        0.7,
    ];
    // Only one of them small, the others such that tiles round without a second look.
    let mostly_common = |n: usize| -> Vec<f32> {
        let common = [0.0, -0.0, 1.5e38, f32::NEG_INFINITY, f32::NAN, 0.7, -1e-30];
        let mut bias: Vec<f32> = common.iter().cycle().take(n).copied().collect();
        if let Some(last) = bias.get_mut(31) {
            *last = -near;
        }
        bias
    };
    // One row and column of C for each pair; the other 31 products of a sum are zeros.
    for (m, n) in [
        (sums.len(), biases.len()),
        (sums.len(), 32),
        (40, 70),
        (96, 96),
    ] {
        let k = 32;
        let mut a = vec![bf16::ZERO; m * k];
        for i in 0..m {
            a[i * k] = bf16::round(sums[i % sums.len()]);
        }
        let mut b = vec![bf16::ZERO; k * n];
        b[..n].fill(bf16::ONE);
        let small: Vec<f32> = biases.iter().cycle().take(n).copied().collect();
        let common = mostly_common(n);
        for_each_way(|level, engine| {
            for (way, (has_bias, activation)) in EPILOGUES.into_iter().chain(EPILOGUES).enumerate()
            {
                let bias = if way < EPILOGUES.len() {
                    &small
                } else {
                    &common
                };
                for (alpha, beta) in [(1.0, 0.0), (1.0, 1.0), (2.0_f32.powi(-20), 0.0)] {
                    let case = Case {
                        level,
                        precision: Precision::Bf16,
                        sizes: [m, k, n],
                        a: MatRef::row_major(&a, m, k),
                        b: MatRef::row_major(&b, k, n),
                        packed: None,
                        parallel: false,
                        alpha,
                        beta,
                        epilogue: Epilogue {
                            bias: has_bias.then_some(&bias[..]),
                            activation,
                        },
                    };
                    let old = |i: usize| sums[i % 5] * -0.75;
                    case.check::<bf16>(1, old, &format!("{engine} at {level}, {way}, {alpha}"));
                }
            }
        });
    }
}

/// A single column is dot products, which add up in another order where k is cut elsewhere.
#[test]
fn a_single_column_has_the_bits_of_f32() {
    let (k, n) = (1100, 1);
    for m in [20, 300, 600] {
        let mut a = vec![0.0_f32; m * k];
        for a in a.chunks_exact_mut(k) {
            (a[0], a[640], a[800]) = (16_777_216.0, 1.0, -16_777_216.0);
        }
        let b = vec![1.0_f32; k];
        let (a, b) = (MatRef::row_major(&a, m, k), MatRef::row_major(&b, k, n));
        for_each_way(|level, engine| {
            let mut packed = vec![bf16::NAN; packed_bf16_len(k, n)];
            pack_bf16(level, b, &mut packed);
            let packed = PackedBf16::new(&packed, k, n);
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                for packed in [None, Some(packed)] {
                    let case = Case {
                        level,
                        precision: Precision::Bf16,
                        sizes: [m, k, n],
                        a,
                        b,
                        packed,
                        parallel: threads > 1,
                        alpha: 1.0,
                        beta: 0.0,
                        epilogue: Epilogue::default(),
                    };
                    let what = format!("{engine} at {level}, {threads} threads");
                    pool.install(|| {
                        engine.scope(|| {
                            case.check::<bf16>(0, |_| 0.0, &what);
                            case.check::<f16>(0, |_| 0.0, &what);
                        });
                    });
                }
            }
        });
    }
}

/// The stride of a single row may be any number.
#[test]
fn the_stride_of_a_single_row_is_not_used() {
    let (k, n) = (64, 700);
    let (a, b) = (vec![bf16::ONE; k], vec![bf16::ONE; k * n]);
    for_each_way(|level, engine| {
        let mut c = vec![bf16::ZERO; n];
        let mut wide = vec![0.0_f32; n];
        let a = MatRef::strided(&a, 1, k, usize::MAX, 1);
        let b = MatRef::row_major(&b, k, n);
        let (precision, none) = (Precision::Bf16, Epilogue::default());
        let to = MatMut::strided(&mut c, 1, n, usize::MAX, 1);
        multiply_half(level, precision, 1.0, a, b, 0.0, to, none);
        let to = MatMut::strided(&mut wide, 1, n, usize::MAX, 1);
        multiply_half(level, precision, 1.0, a, b, 0.0, to, none);
        assert!(c.iter().all(|&c| c == bf16::from_f32(64.0)), "{engine}");
        assert!(wide.iter().all(|&c| c == 64.0), "{engine}");
    });
}

#[test]
#[should_panic(expected = "C [2, 3] = A [2, 4] B [5, 3]: the shapes do not fit")]
fn shapes_that_do_not_fit_are_named() {
    let (a, b) = (vec![bf16::ONE; 8], vec![bf16::ONE; 15]);
    let mut c = [bf16::ZERO; 6];
    multiply_half(
        SimdLevel::current(),
        Precision::Bf16,
        1.0,
        MatRef::row_major(&a, 2, 4),
        MatRef::row_major(&b, 5, 3),
        0.0,
        MatMut::row_major(&mut c, 2, 3),
        Epilogue::default(),
    );
}
