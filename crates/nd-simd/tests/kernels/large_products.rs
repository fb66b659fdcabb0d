//! Products so large that rows, and columns, are taken in parts: the bits of their blocks of rows, each computed alone.

use nd_core::options::Precision;
use nd_core::{SimdLevel, f16};
use nd_simd::SimdReal;
use nd_simd::activations::Activation;
use nd_simd::matmul::{
    Epilogue, Fetch, MatMut, MatRef, multiply_fetching, multiply_fused, multiply_half,
    multiply_half_parallel,
};
use nd_testing::cases::normals;

/// Rows that are few enough to be taken together.
const FEW: usize = 300;

/// What lies between the rows of C, and stays there.
const BETWEEN: f64 = 77.0;

/// Elements between the rows of C.
const GAP: usize = 3;

/// A product at once and by blocks of rows, of matrices that are stored by rows or `[a, b]` by columns.
fn check<R: SimdReal>(level: SimdLevel, [m, k, n]: [usize; 3], [a_columns, b_columns]: [bool; 2]) {
    let stored = |seed, rows: usize, cols: usize| normals::<R>(seed, rows * cols);
    let (a, b, bias) = (stored(1, m, k), stored(2, k, n), stored(3, 1, n));
    let a = match a_columns {
        true => MatRef::row_major(&a, k, m).t(),
        false => MatRef::row_major(&a, m, k),
    };
    let b = match b_columns {
        true => MatRef::row_major(&b, n, k).t(),
        false => MatRef::row_major(&b, k, n),
    };
    for (alpha, beta, activation) in [(1.0, 0.0, Activation::Silu), (-0.5, 2.0, Activation::Relu)] {
        let epilogue = Epilogue {
            bias: Some(&bias[..]),
            activation,
        };
        let (alpha, beta) = (R::from_f64(alpha), R::from_f64(beta));
        let stride = n + GAP;
        let mut whole: Vec<R> = normals(4, m * stride);
        for row in whole.chunks_exact_mut(stride) {
            row[n..].fill(R::from_f64(BETWEEN));
        }
        let mut blocks = whole.clone();
        let c = MatMut::strided(&mut whole, m, n, stride, 1);
        multiply_fused(level, alpha, a, b, beta, c, epilogue);
        for (i, c) in blocks.chunks_mut(FEW * stride).enumerate() {
            let rows = c.len() / stride;
            let c = MatMut::strided(c, rows, n, stride, 1);
            let a = a.row_block(i * FEW, rows);
            multiply_fused(level, alpha, a, b, beta, c, epilogue);
        }
        for (at, (found, expected)) in whole.iter().zip(&blocks).enumerate() {
            let place = format!(
                "{level} {m} x {k} x {n}, row {}, column {}",
                at / stride,
                at % stride
            );
            let bits = |x: &R| x.to_f64().to_bits();
            assert_eq!(bits(found), bits(expected), "{place}");
            assert!(at % stride < n || *found == R::from_f64(BETWEEN), "{place}");
        }
    }
}

#[test]
fn large_products_without_rows_columns_or_terms_are_nothing() {
    for level in nd_testing::levels() {
        for [m, k, n] in [[600, 512, 0], [0, 512, 600], [600, 0, 600], [600, 512, 1]] {
            let (a, b) = (vec![1.0_f32; m * k], vec![1.0; k * n]);
            for b in [MatRef::row_major(&b, k, n), MatRef::row_major(&b, n, k).t()] {
                let mut c = vec![f32::NAN; m * n];
                let a = MatRef::row_major(&a, m, k);
                let to = MatMut::row_major(&mut c, m, n);
                multiply_fused(level, 1.0, a, b, 0.0, to, Epilogue::default());
                assert_eq!(c, vec![k as f32; m * n], "{level} {m} x {k} x {n}");
            }
        }
    }
}

/// Columns of B may lie anywhere, and a caller may ask for what comes after the product in the place of the next panel.
#[test]
fn other_strides_and_what_a_caller_asks_for_change_no_bit_of_parts() {
    let (m, k, n) = (530, 513, 260);
    let (a, b) = (normals::<f32>(1, m * k), normals::<f32>(2, k * n));
    let mut apart = vec![f32::NAN; 2 * k * n];
    for (&x, at) in b.iter().zip(apart.iter_mut().step_by(2)) {
        *at = x;
    }
    let a = MatRef::row_major(&a, m, k);
    let (b, apart) = (
        MatRef::row_major(&b, k, n),
        MatRef::strided(&apart, k, n, 2 * n, 2),
    );
    for level in nd_testing::levels() {
        let product = |b, soon: Fetch| {
            let mut c = vec![f32::NAN; m * n];
            let to = MatMut::row_major(&mut c, m, n);
            multiply_fetching(level, 1.0, a, b, 0.0, to, soon);
            c
        };
        let expected = product(b, Fetch::default());
        assert!(expected.iter().all(|x| x.is_finite()));
        assert_eq!(product(apart, Fetch::default()), expected, "{level}");
        assert_eq!(product(b, Fetch::of(a)), expected, "{level}");
    }
}

/// The last block of rows is lower, and lies further apart.
#[test]
fn a_lower_last_block_of_a_widened_operand_has_room() {
    for level in nd_testing::levels() {
        for (m, k, n) in [(520, 136, 8), (1028, 70, 8), (1548, 47, 8), (520, 1950, 64)] {
            let a: Vec<f16> = (0..m * k).map(|i| f16::from_f32((i % 5) as f32)).collect();
            let b: Vec<f16> = (0..k * n).map(|i| f16::from_f32((i % 3) as f32)).collect();
            let wide = |x: &[f16]| x.iter().map(|x| x.to_f32()).collect::<Vec<f32>>();
            let (wide_a, wide_b) = (wide(&a), wide(&b));
            let mut expected = vec![0.0_f32; m * n];
            let (a, wide_a) = (
                MatRef::row_major(&a, k, m).t(),
                MatRef::row_major(&wide_a, k, m).t(),
            );
            let (b, wide_b) = (
                MatRef::row_major(&b, k, n),
                MatRef::row_major(&wide_b, k, n),
            );
            let to = MatMut::row_major(&mut expected, m, n);
            multiply_fused(level, 1.0, wide_a, wide_b, 0.0, to, Epilogue::default());
            for multiply in [multiply_half, multiply_half_parallel] {
                let mut c = vec![0.0_f32; m * n];
                let to = MatMut::row_major(&mut c, m, n);
                let threads = nd_core::Threads::new(Some(2)).unwrap();
                threads.install(|| {
                    multiply(
                        level,
                        Precision::F16,
                        1.0,
                        a,
                        b,
                        0.0,
                        to,
                        Epilogue::default(),
                    );
                });
                assert_eq!(c, expected, "{level} {m} x {k} x {n}");
            }
        }
    }
}

#[test]
fn parts_of_a_large_product_have_the_bits_of_small_ones() {
    for level in nd_testing::levels() {
        if level == SimdLevel::Scalar {
            continue;
        }
        // Parts of unequal height; a narrow last panel; a second block of k; A and B by columns; and more columns than wait at once.
        for (sizes, layouts) in [
            ([523, 513, 258], [false, false]),
            ([1031, 700, 261], [false, true]),
            ([1100, 530, 300], [true, false]),
            ([1050, 400, 270], [true, true]),
            ([516, 512, 2310], [false, false]),
        ] {
            check::<f32>(level, sizes, layouts);
            check::<f64>(level, sizes, layouts);
        }
    }
}
