//! Products of whole numbers, whose answer is exact: more than 100 000 cases, tolerance zero; and the error of products
//! of real numbers beside that of a well-known library.
//!
//! Whole numbers of one digit keep every sum below 2^24, so f32 and f64 must give the reference's bits whatever the order
//! of the sum. Operands are padded with NaN between their elements, C holds NaN where `beta = 0`, and its padding must
//! come back unchanged; so what is read or written beside a matrix shows.

use nd_core::{Real, SimdLevel};
use nd_simd::SimdReal;
use nd_simd::matmul::{MatMut, MatRef, multiply};
use nd_simd::reference;
use nd_testing::cases::uniforms;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// From -8 to 8 without zero, so that no term goes unnoticed.
    fn digit(&mut self) -> f64 {
        let size = 1.0 + self.below(8) as f64;
        if self.next() >> 63 == 0 { size } else { -size }
    }
}

/// A matrix in memory: its strides, and the elements that they span.
#[derive(Clone, Debug)]
struct Stored {
    rows: usize,
    cols: usize,
    strides: (usize, usize),
    values: Vec<f64>,
}

impl Stored {
    /// Whole numbers, with NaN between them; or NaN everywhere.
    fn new(random: &mut Random, rows: usize, cols: usize, layout: usize, known: bool) -> Self {
        let pad = 1 + random.below(5);
        let strides = match layout {
            0 => (cols.max(1), 1),
            1 => (1, rows.max(1)),
            2 => (cols + pad, 1),
            3 => (1, rows + pad),
            // Rows a page apart, as columns of a wide table are.
            4 if cols <= 128 => (128, 1),
            _ => (2 * cols + pad, 2),
        };
        Self::strided(random, [rows, cols], strides, known)
    }

    fn strided(
        random: &mut Random,
        [rows, cols]: [usize; 2],
        strides: (usize, usize),
        known: bool,
    ) -> Self {
        let len = if rows * cols == 0 {
            0
        } else {
            (rows - 1) * strides.0 + (cols - 1) * strides.1 + 1
        };
        let mut stored = Self {
            rows,
            cols,
            strides,
            values: vec![f64::NAN; len],
        };
        for at in 0..if known { rows * cols } else { 0 } {
            let place = stored.place(at / cols, at % cols);
            stored.values[place] = random.digit();
        }
        stored
    }

    fn place(&self, i: usize, j: usize) -> usize {
        i * self.strides.0 + j * self.strides.1
    }

    fn at(&self, i: usize, j: usize) -> f64 {
        self.values[self.place(i, j)]
    }

    fn rounded<R: Real>(&self) -> Vec<R> {
        self.values.iter().map(|&x| R::from_f64(x)).collect()
    }
}

struct Case {
    a: Stored,
    b: Stored,
    c: Stored,
    alpha: f64,
    beta: f64,
    /// All of C's memory afterwards.
    expected: Vec<f64>,
}

impl Case {
    fn new(random: &mut Random, (m, k, n): (usize, usize, usize)) -> Self {
        let alpha = random.pick(&[1.0, 1.0, -1.0, 2.0, 0.5, -0.25]);
        let beta = random.pick(&[0.0, 0.0, 1.0, 2.0, -0.5]);
        let layout = random.below(6);
        let a = Stored::new(random, m, k, layout, true);
        Self::of(random, a, n, alpha, beta)
    }

    /// A product with this A.
    fn of(random: &mut Random, a: Stored, n: usize, alpha: f64, beta: f64) -> Self {
        let (m, k) = (a.rows, a.cols);
        let [lb, lc] = [0; 2].map(|_| random.below(6));
        let b = Stored::new(random, k, n, lb, true);
        let c = Stored::new(random, m, n, lc, beta != 0.0);
        let product = reference::matmul::gemm(
            (m, k, n),
            alpha,
            |i, p| a.at(i, p),
            |p, j| b.at(p, j),
            beta,
            |i, j| c.at(i, j),
        );
        let mut expected = c.values.clone();
        for (at, value) in product.into_iter().enumerate() {
            expected[c.place(at / n, at % n)] = value;
        }
        Self {
            a,
            b,
            c,
            alpha,
            beta,
            expected,
        }
    }

    fn check<R: SimdReal>(&self, level: SimdLevel) {
        let (m, k, n) = (self.a.rows, self.a.cols, self.b.cols);
        let (a, b) = (self.a.rounded::<R>(), self.b.rounded::<R>());
        let mut c = self.c.rounded::<R>();
        let (sa, sb, sc) = (self.a.strides, self.b.strides, self.c.strides);
        multiply(
            level,
            R::from_f64(self.alpha),
            MatRef::strided(&a, m, k, sa.0, sa.1),
            MatRef::strided(&b, k, n, sb.0, sb.1),
            R::from_f64(self.beta),
            MatMut::strided(&mut c, m, n, sc.0, sc.1),
        );
        for (place, (x, &expected)) in c.iter().zip(&self.expected).enumerate() {
            let x = x.to_f64();
            // Zero of either sign is the answer zero; NaN is padding that nobody touched.
            let same = x == expected || (x.is_nan() && expected.is_nan());
            assert!(
                same,
                "{level} {} {m}x{k}x{n}, strides {sa:?} {sb:?} {sc:?}, alpha {}, beta {}: place {place} of C is \
                 {x}, not {expected}",
                R::DTYPE,
                self.alpha,
                self.beta,
            );
        }
    }
}

/// Every number of rows and columns up to beyond the largest register tile; then shapes at random, with the edges of
/// tiles and blocks drawn most often.
#[test]
fn whole_numbers_are_exact_in_a_hundred_thousand_cases() {
    const EDGES: [usize; 20] = [
        1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 15, 16, 17, 31, 32, 33, 63, 64, 65,
    ];
    let mut random = Random(1);
    let mut shapes = Vec::new();
    for m in 0..=25 {
        for n in 0..=66 {
            shapes.extend([1, 3, 16].map(|k| (m, k, n)));
        }
    }
    for _ in 0..20_500 {
        let mut size = || match random.below(4) {
            0 => random.below(71),
            _ => random.pick(&EDGES),
        };
        shapes.push((size(), size(), size()));
    }
    let levels: Vec<SimdLevel> = nd_testing::levels().collect();
    let mut cases = 0;
    // A machine with one level alone has half as many cases.
    for shape in shapes {
        let case = Case::new(&mut random, shape);
        for &level in &levels {
            case.check::<f32>(level);
            case.check::<f64>(level);
            cases += 2;
        }
    }
    eprintln!("{cases} products of whole numbers, all exact, at {levels:?}");
    assert!(
        cases >= 50_000 * levels.len().min(2),
        "{cases} cases at {levels:?}"
    );
}

/// Columns of A so far apart, sums so long and rows so wide that blocks of A are packed; whole panels of columns and narrower last ones, whose
/// blocks have other heights and are not.
#[test]
fn products_of_packed_columns_are_exact() {
    let mut random = Random(2);
    for m in [3, 5, 6, 7, 8, 9, 12, 13, 40, 61] {
        for k in [255, 256, 300, 512, 513] {
            for n in [128, 145, 200, 264] {
                for strides in [(1, 521), (2, 530)] {
                    let (alpha, beta) = random.pick(&[(1.0, 0.0), (1.0, 1.0), (0.5, 1.0)]);
                    let a = Stored::strided(&mut random, [m, k], strides, true);
                    let case = Case::of(&mut random, a, n, alpha, beta);
                    for level in nd_testing::levels() {
                        case.check::<f32>(level);
                        case.check::<f64>(level);
                    }
                }
            }
        }
    }
}

/// The largest error of an element, in units of `2^-24 sum |a| |b|`, at these depths for square-ish products of numbers
/// from -1 to 1, and what Intel's MKL makes of the same depths (measured through PyTorch).
const DEPTHS: [(usize, usize, f64); 3] = [(96, 256, 5.4), (1024, 128, 0.86), (20_000, 24, 0.28)];

#[test]
fn real_numbers_err_no_more_than_mkl() {
    for (k, size, bound) in DEPTHS {
        let (m, n) = (size, size);
        let a: Vec<f32> = uniforms(1, m * k, -1.0, 1.0);
        let b: Vec<f32> = uniforms(2, k * n, -1.0, 1.0);
        let (mut exact, mut terms) = (vec![0.0; m * n], vec![0.0; m * n]);
        for i in 0..m {
            for p in 0..k {
                let x = f64::from(a[i * k + p]);
                for j in 0..n {
                    let product = x * f64::from(b[p * n + j]);
                    exact[i * n + j] += product;
                    terms[i * n + j] += product.abs();
                }
            }
        }
        for level in nd_testing::levels() {
            let mut c = vec![f32::NAN; m * n];
            multiply(
                level,
                1.0,
                MatRef::row_major(&a, m, k),
                MatRef::row_major(&b, k, n),
                0.0,
                MatMut::row_major(&mut c, m, n),
            );
            let errors = c.iter().zip(&exact).zip(&terms);
            let worst = errors
                .map(|((&c, exact), terms)| (f64::from(c) - exact).abs() / terms)
                .fold(0.0, |worst: f64, error| worst.max(error))
                * 2f64.powi(24);
            eprintln!("{level} K = {k}: {worst:.3} of 2^-24 sum |a||b|, MKL {bound}");
            assert!(worst <= bound, "{level} K = {k}: {worst} > {bound}");
            assert!(c.iter().all(|c| c.is_finite()), "{level}");
        }
    }
}
