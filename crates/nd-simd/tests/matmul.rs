//! Matrix products against the plain loop: every block edge, stride, scale and level.

use nd_core::{Real, SimdLevel};
use nd_simd::SimdReal;
use nd_simd::activations::{Activation, activation_in_place};
use nd_simd::matmul::{
    Epilogue, Fetch, MatMut, MatRef, Packed, StackMut, StackRef, multiply, multiply_fetching,
    multiply_fused, multiply_fused_parallel, multiply_parallel, multiply_stack,
    multiply_stack_parallel, multiply_vector,
};
use nd_simd::reference;

/// The reference of views, rounded once.
fn gemm<R: Real>(alpha: R, a: MatRef<'_, R>, b: MatRef<'_, R>, beta: R, mut c: MatMut<'_, R>) {
    let (m, k, n) = (c.rows(), a.cols(), c.cols());
    let mut old = Vec::with_capacity(m * n);
    for at in 0..m * n {
        old.push(c.at_mut(at / n, at % n).to_f64());
    }
    let product = reference::matmul::gemm(
        (m, k, n),
        alpha.to_f64(),
        |i, p| a.at(i, p).to_f64(),
        |p, j| b.at(p, j).to_f64(),
        beta.to_f64(),
        |i, j| old[i * n + j],
    );
    for (at, value) in product.into_iter().enumerate() {
        *c.at_mut(at / n, at % n) = R::from_f64(value);
    }
}

/// Whole numbers small enough that every sum below is exact in f32.
fn whole<R: Real>(len: usize, seed: usize) -> Vec<R> {
    (0..len)
        .map(|i| R::from_f64(((i * 7 + seed * 13 + i / 11) % 9) as f64 - 4.0))
        .collect()
}

/// Numbers of both signs with a full significand.
fn real<R: Real>(len: usize, seed: u64) -> Vec<R> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        R::unit_from_bits(state.rotate_left(17)) - R::from_f64(0.5)
    };
    (0..len).map(|_| next()).collect()
}

/// How a matrix lies in its slice.
#[derive(Clone, Copy, Debug)]
enum Layout {
    RowMajor,
    ColMajor,
    /// Rows further apart than they are long.
    Padded,
    /// No unit stride at all.
    Sparse,
}

const LAYOUTS: [Layout; 4] = [
    Layout::RowMajor,
    Layout::ColMajor,
    Layout::Padded,
    Layout::Sparse,
];

impl Layout {
    fn strides(self, rows: usize, cols: usize) -> (usize, usize) {
        match self {
            Self::RowMajor => (cols.max(1), 1),
            Self::ColMajor => (1, rows.max(1)),
            Self::Padded => (cols + 5, 1),
            Self::Sparse => (2 * cols + 3, 2),
        }
    }

    fn len(self, rows: usize, cols: usize) -> usize {
        let (row, col) = self.strides(rows, cols);
        if rows * cols == 0 {
            0
        } else {
            (rows - 1) * row + (cols - 1) * col + 1
        }
    }

    fn view<R: Real>(self, data: &[R], rows: usize, cols: usize) -> MatRef<'_, R> {
        let (row, col) = self.strides(rows, cols);
        MatRef::strided(data, rows, cols, row, col)
    }

    fn view_mut<R: Real>(self, data: &mut [R], rows: usize, cols: usize) -> MatMut<'_, R> {
        let (row, col) = self.strides(rows, cols);
        MatMut::strided(data, rows, cols, row, col)
    }
}

struct Case {
    shape: (usize, usize, usize),
    layouts: [Layout; 3],
    alpha: f64,
    beta: f64,
}

fn check_exact<R: SimdReal>(level: SimdLevel, case: &Case) {
    let &Case {
        shape: (m, k, n),
        layouts: [la, lb, lc],
        alpha,
        beta,
    } = case;
    let (alpha, beta) = (R::from_f64(alpha), R::from_f64(beta));
    let a = whole::<R>(la.len(m, k), 1);
    let b = whole::<R>(lb.len(k, n), 2);
    // With beta = 0 the old C must not matter, whatever it is.
    let nan = R::from_f64(f64::NAN);
    let old = if beta == R::ZERO {
        vec![nan; lc.len(m, n)]
    } else {
        whole::<R>(lc.len(m, n), 3)
    };
    let (mut expected, mut found) = (old.clone(), old);
    let (a, b) = (la.view(&a, m, k), lb.view(&b, k, n));
    gemm(alpha, a, b, beta, lc.view_mut(&mut expected, m, n));
    multiply(level, alpha, a, b, beta, lc.view_mut(&mut found, m, n));
    for (i, (x, y)) in expected.iter().zip(&found).enumerate() {
        assert!(
            x == y || (x.is_nan() && y.is_nan()),
            "{level} {} {m}x{k}x{n} {la:?} {lb:?} {lc:?} alpha {alpha} beta {beta}: element {i} is {y}, not {x}",
            R::DTYPE
        );
    }
}

const EDGES: [usize; 9] = [0, 1, 3, 7, 16, 31, 33, 64, 65];

#[test]
fn every_block_edge_is_exact() {
    for level in nd_testing::levels() {
        for m in EDGES {
            for n in EDGES {
                for k in EDGES {
                    let case = Case {
                        shape: (m, k, n),
                        layouts: [Layout::RowMajor; 3],
                        alpha: 1.0,
                        beta: 0.0,
                    };
                    check_exact::<f32>(level, &case);
                    check_exact::<f64>(level, &case);
                }
            }
        }
    }
}

#[test]
fn every_number_of_rows_and_columns_is_exact() {
    for level in nd_testing::levels() {
        for size in 0..=70 {
            for (m, n) in [(size, 37), (37, size)] {
                let layouts = [Layout::RowMajor; 3];
                let case = Case {
                    shape: (m, 5, n),
                    layouts,
                    alpha: 1.0,
                    beta: 1.0,
                };
                check_exact::<f32>(level, &case);
                check_exact::<f64>(level, &case);
            }
        }
    }
}

#[test]
fn every_layout_and_scale_is_exact() {
    for level in nd_testing::levels() {
        for shape in [
            (1, 40, 9),
            (9, 40, 1),
            (13, 19, 70),
            (65, 3, 17),
            (5, 1, 5),
            (1, 1, 1),
        ] {
            for la in LAYOUTS {
                for lb in LAYOUTS {
                    for lc in LAYOUTS {
                        for (alpha, beta) in [(1.0, 0.0), (-2.0, 1.0), (0.5, -3.0), (0.0, 2.0)] {
                            let case = Case {
                                shape,
                                layouts: [la, lb, lc],
                                alpha,
                                beta,
                            };
                            check_exact::<f32>(level, &case);
                            check_exact::<f64>(level, &case);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn long_sums_cross_the_blocks_of_k() {
    for level in nd_testing::levels() {
        for k in [511, 512, 513, 1025, 2000] {
            for lb in [Layout::RowMajor, Layout::ColMajor, Layout::Padded] {
                let layouts = [Layout::ColMajor, lb, Layout::RowMajor];
                let case = Case {
                    shape: (7, k, 66),
                    layouts,
                    alpha: 1.0,
                    beta: 1.0,
                };
                check_exact::<f32>(level, &case);
                check_exact::<f64>(level, &case);
            }
        }
    }
}

/// Tall enough, with rows of B a page apart, that panels are packed.
#[test]
fn packed_panels_are_exact() {
    for level in nd_testing::levels() {
        for (la, lb) in [
            (Layout::RowMajor, Layout::RowMajor),
            (Layout::ColMajor, Layout::RowMajor),
            (Layout::RowMajor, Layout::Padded),
            (Layout::RowMajor, Layout::ColMajor),
        ] {
            let layouts = [la, lb, Layout::RowMajor];
            check_exact::<f32>(
                level,
                &Case {
                    shape: (260, 9, 1030),
                    layouts,
                    alpha: 1.0,
                    beta: 0.0,
                },
            );
            check_exact::<f64>(
                level,
                &Case {
                    shape: (260, 9, 515),
                    layouts,
                    alpha: 1.0,
                    beta: 1.0,
                },
            );
        }
    }
}

/// `|C - C_f64| <= 16 eps |A| |B|`: a sum of k products in any order errs by at most k eps, and these are fused.
fn check_close<R: SimdReal>(level: SimdLevel, m: usize, k: usize, n: usize) {
    let a = real::<R>(m * k, 5);
    let b = real::<R>(k * n, 6);
    let mut c = vec![R::ZERO; m * n];
    let (av, bv) = (MatRef::row_major(&a, m, k), MatRef::row_major(&b, k, n));
    multiply(
        level,
        R::ONE,
        av,
        bv,
        R::ZERO,
        MatMut::row_major(&mut c, m, n),
    );
    for i in 0..m {
        for j in 0..n {
            let products = (0..k).map(|p| av.at(i, p).to_f64() * bv.at(p, j).to_f64());
            let (sum, size) =
                products.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + f64::abs(x)));
            let error = (c[i * n + j].to_f64() - sum).abs();
            let bound = 16.0 * R::EPSILON.to_f64() * size;
            assert!(
                error <= bound,
                "{level} {} ({i}, {j}): {error:e} > {bound:e}",
                R::DTYPE
            );
        }
    }
}

#[test]
fn real_numbers_are_as_close_as_the_bound() {
    for level in nd_testing::levels() {
        check_close::<f32>(level, 33, 600, 50);
        check_close::<f32>(level, 5, 300, 1);
        check_close::<f32>(level, 1, 300, 70);
        check_close::<f64>(level, 20, 100, 30);
    }
}

#[test]
fn nan_and_infinity_reach_only_their_row_and_column() {
    for level in nd_testing::levels() {
        let (m, k, n) = (14, 9, 40);
        let mut a = whole::<f32>(m * k, 1);
        let mut b = whole::<f32>(k * n, 2);
        a[3 * k + 2] = f32::NAN;
        b[5 * n + 39] = f32::INFINITY;
        a.iter_mut().skip(5).step_by(k).for_each(|x| *x = 1.0);
        let mut c = vec![0.0; m * n];
        let (a, b) = (MatRef::row_major(&a, m, k), MatRef::row_major(&b, k, n));
        let epilogue = Epilogue {
            bias: None,
            activation: Activation::Relu,
        };
        multiply_fused(
            level,
            1.0,
            a,
            b,
            0.0,
            MatMut::row_major(&mut c, m, n),
            epilogue,
        );
        for i in 0..m {
            for j in 0..n {
                let x = c[i * n + j];
                if i == 3 {
                    assert!(x.is_nan(), "{level} ({i}, {j}) is {x}");
                } else if j == 39 {
                    assert_eq!(x, f32::INFINITY, "{level} ({i}, {j})");
                } else {
                    assert!(x.is_finite() && x >= 0.0, "{level} ({i}, {j}) is {x}");
                }
            }
        }
    }
}

#[test]
fn bias_and_relu_come_after_the_whole_sum() {
    for level in nd_testing::levels() {
        for (m, k, n) in [
            (13, 5, 70),
            (6, 1030, 33),
            (4, 64, 1),
            (1, 40, 17),
            (3, 0, 5),
        ] {
            let a = whole::<f32>(m * k, 1);
            let b = whole::<f32>(k * n, 2);
            let bias = whole::<f32>(n, 4);
            let (av, bv) = (MatRef::row_major(&a, m, k), MatRef::row_major(&b, k, n));
            let mut expected = vec![f32::NAN; m * n];
            gemm(1.0, av, bv, 0.0, MatMut::row_major(&mut expected, m, n));
            for (i, x) in expected.iter_mut().enumerate() {
                *x = (*x + bias[i % n]).max(0.0);
            }
            let epilogue = Epilogue {
                bias: Some(&bias),
                activation: Activation::Relu,
            };
            let mut found = vec![f32::NAN; m * n];
            multiply_fused(
                level,
                1.0,
                av,
                bv,
                0.0,
                MatMut::row_major(&mut found, m, n),
                epilogue,
            );
            assert_eq!(found, expected, "{level} {m}x{k}x{n}");
            let mut parallel = vec![f32::NAN; m * n];
            let c = MatMut::row_major(&mut parallel, m, n);
            multiply_fused_parallel(level, 1.0, av, bv, 0.0, c, epilogue);
            assert_eq!(parallel, expected, "{level} {m}x{k}x{n}, parallel");
        }
    }
}

#[test]
fn gemv_is_a_product_with_one_column() {
    for level in nd_testing::levels() {
        for (m, k) in [(1, 1), (5, 31), (9, 64), (6, 100), (0, 4), (3, 0)] {
            let a = whole::<f64>(m * k, 1);
            let x = whole::<f64>(k, 2);
            let av = MatRef::row_major(&a, m, k);
            let mut y = whole::<f64>(m, 3);
            let mut expected = y.clone();
            let xv = MatRef::row_major(&x, k, 1);
            gemm(2.0, av, xv, 1.0, MatMut::row_major(&mut expected, m, 1));
            multiply_vector(level, 2.0, av, &x, 1.0, &mut y);
            assert_eq!(y, expected, "{level} {m}x{k}");
        }
    }
}

/// Heads of `[tokens, heads, dim]`: scores `q k^T`, then `scores v`, written back interleaved.
#[test]
fn stacks_of_interleaved_heads_are_exact() {
    for level in nd_testing::levels() {
        for (tokens, heads, dim) in [(12, 16, 8), (1, 2, 3), (37, 3, 20), (64, 2, 64)] {
            let width = heads * dim;
            let q = whole::<f32>(tokens * width, 1);
            let k = whole::<f32>(tokens * width, 2);
            let head = |x| StackRef::new(MatRef::strided(x, tokens, dim, width, 1), heads, dim);
            let mut scores = vec![f32::NAN; heads * tokens * tokens];
            let mut c = StackMut::contiguous(&mut scores, heads, tokens, tokens);
            multiply_stack(level, 1.0, head(&q), head(&k).t(), 0.0, c);
            let mut out = vec![f32::NAN; tokens * width];
            c = StackMut::new(MatMut::strided(&mut out, tokens, dim, width, 1), heads, dim);
            let weights = StackRef::contiguous(&scores, heads, tokens, tokens);
            multiply_stack(level, 1.0, weights, head(&k), 0.0, c);
            let mut again = vec![f32::NAN; tokens * width];
            c = StackMut::new(
                MatMut::strided(&mut again, tokens, dim, width, 1),
                heads,
                dim,
            );
            multiply_stack_parallel(level, 1.0, weights, head(&k), 0.0, c);
            assert_eq!(out, again, "{level} {tokens} {heads} {dim}");
            for h in 0..heads {
                let mut expected = vec![0.0; tokens * tokens];
                let at = |x| MatRef::strided(x, tokens, dim, width, 1);
                let (qh, kh) = (at(&q[h * dim..]), at(&k[h * dim..]));
                let s = MatMut::row_major(&mut expected, tokens, tokens);
                gemm(1.0, qh, kh.t(), 0.0, s);
                assert_eq!(
                    &scores[h * tokens * tokens..][..tokens * tokens],
                    expected,
                    "{level}"
                );
                let mut o = vec![0.0; tokens * dim];
                let s = MatRef::row_major(&expected, tokens, tokens);
                gemm(1.0, s, kh, 0.0, MatMut::row_major(&mut o, tokens, dim));
                let found = at(&out[h * dim..]);
                for (i, &x) in o.iter().enumerate() {
                    assert_eq!(
                        found.at(i / dim, i % dim),
                        x,
                        "{level} head {h} element {i}"
                    );
                }
            }
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let level = SimdLevel::best();
    for (m, k, n) in [
        (300, 200, 130),
        (20, 700, 515),
        (1, 2000, 3000),
        (3000, 400, 1),
        (97, 64, 1025),
    ] {
        let a = real::<f32>(m * k, 1);
        let b = real::<f32>(k * n, 2);
        for b in [MatRef::row_major(&b, k, n), MatRef::row_major(&b, n, k).t()] {
            let a = MatRef::row_major(&a, m, k);
            let mut serial = vec![f32::NAN; m * n];
            multiply(level, 1.0, a, b, 0.0, MatMut::row_major(&mut serial, m, n));
            for threads in [1, 2, 5] {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let mut c = vec![f32::NAN; m * n];
                pool.install(|| {
                    multiply_parallel(level, 1.0, a, b, 0.0, MatMut::row_major(&mut c, m, n));
                });
                let same = c
                    .iter()
                    .zip(&serial)
                    .all(|(x, y)| x.to_bits() == y.to_bits());
                assert!(same, "{m}x{k}x{n} on {threads} threads");
            }
        }
    }
}

/// The gradient of a weight: k is long beside C, and threads go through it together, part by part.
#[test]
fn tall_products_have_the_bits_of_one_thread() {
    for level in nd_testing::levels() {
        for (m, k, n) in [
            (128, 5003, 70),
            (40, 2600, 130),
            (9, 1 << 15, 5),
            (200, 1024, 56),
        ] {
            let a = real::<f32>(m * k, 1);
            let b = real::<f32>(k * n, 2);
            let bias = real::<f32>(n, 3);
            let old = real::<f32>(m * n, 4);
            let (a, b) = (MatRef::row_major(&a, k, m).t(), MatRef::row_major(&b, k, n));
            for (alpha, beta, activation) in [
                (1.0, 0.0, Activation::Identity),
                (1.0, 1.0, Activation::Relu),
                (1.0, 0.5, Activation::Gelu),
                (0.5, 1.0, Activation::Identity),
            ] {
                let end = Epilogue {
                    bias: Some(&bias),
                    activation,
                };
                let mut serial = old.clone();
                let c = MatMut::row_major(&mut serial, m, n);
                multiply_fused(level, alpha, a, b, beta, c, end);
                for threads in [1, 3] {
                    let threads = nd_core::Threads::new(Some(threads)).unwrap();
                    let mut found = old.clone();
                    threads.install(|| {
                        let c = MatMut::row_major(&mut found, m, n);
                        multiply_fused_parallel(level, alpha, a, b, beta, c, end);
                    });
                    let same = found
                        .iter()
                        .zip(&serial)
                        .all(|(x, y)| x.to_bits() == y.to_bits());
                    assert!(same, "{level} {m}x{k}x{n}, {alpha} {beta}, {threads:?}");
                }
            }
        }
    }
}

/// A row of C has the same bits alone as among others, so a shard computes what the whole batch would.
#[test]
fn rows_do_not_depend_on_their_neighbours() {
    for level in nd_testing::levels() {
        let (m, k, n) = (31, 600, 75);
        let a = real::<f32>(m * k, 1);
        let b = real::<f32>(k * n, 2);
        let (a, b) = (MatRef::row_major(&a, m, k), MatRef::row_major(&b, k, n));
        let mut whole = vec![0.0; m * n];
        multiply(level, 1.0, a, b, 0.0, MatMut::row_major(&mut whole, m, n));
        let mut row = vec![0.0; n];
        for i in 0..m {
            multiply(
                level,
                1.0,
                a.row_block(i, 1),
                b,
                0.0,
                MatMut::row_major(&mut row, 1, n),
            );
            assert_eq!(row, whole[i * n..][..n], "{level} row {i}");
        }
    }
}

#[test]
#[should_panic(expected = "C [2, 4] = A [2, 3] B [5, 4]: the shapes do not fit")]
fn shapes_that_do_not_fit_are_named() {
    let (a, b, mut c) = ([0.0_f32; 6], [0.0; 20], [0.0; 8]);
    let (a, b) = (MatRef::row_major(&a, 2, 3), MatRef::row_major(&b, 5, 4));
    multiply(
        SimdLevel::Scalar,
        1.0,
        a,
        b,
        0.0,
        MatMut::row_major(&mut c, 2, 4),
    );
}

/// A fused activation is the same function as a pass of its own, bit for bit, in every form of the product.
#[test]
fn fused_activations_are_those_of_a_second_pass() {
    for level in nd_testing::levels() {
        for (m, k, n) in [
            (13, 5, 70),
            (6, 1030, 33),
            (40, 64, 1),
            (1, 40, 17),
            (3, 0, 5),
        ] {
            let a = real::<f32>(m * k, 1);
            let b = real::<f32>(k * n, 2);
            let bias = real::<f32>(n, 4);
            let (av, bv) = (MatRef::row_major(&a, m, k), MatRef::row_major(&b, k, n));
            for activation in Activation::ALL {
                let run = |activation, c: &mut [f32]| {
                    let epilogue = Epilogue {
                        bias: Some(&bias),
                        activation,
                    };
                    let c = MatMut::row_major(c, m, n);
                    multiply_fused(level, 0.5, av, bv, 0.0, c, epilogue);
                };
                let mut expected = vec![f32::NAN; m * n];
                run(Activation::Identity, &mut expected);
                activation_in_place(level, activation, &mut expected);
                let mut found = vec![f32::NAN; m * n];
                run(activation, &mut found);
                // Vectors end elsewhere, but each lane computes the same.
                assert!(
                    expected
                        .iter()
                        .zip(&found)
                        .all(|(a, b)| a.to_bits() == b.to_bits() || a == b),
                    "{level} {activation:?} [{m}, {k}] x [{k}, {n}]"
                );
            }
        }
    }
}

#[test]
fn a_prepacked_operand_is_the_same_matrix() {
    for level in nd_testing::levels() {
        for (k, n) in [(1, 1), (7, 33), (64, 16), (100, 1024), (0, 5), (5, 0)] {
            for layout in [
                Layout::RowMajor,
                Layout::ColMajor,
                Layout::Padded,
                Layout::Sparse,
            ] {
                let b = whole::<f64>(layout.len(k, n), 3);
                let b = layout.view(&b, k, n);
                let packed = Packed::new(level, b);
                let view = packed.view();
                assert_eq!((view.rows(), view.cols()), (k, n));
                for i in 0..k {
                    for j in 0..n {
                        assert_eq!(view.at(i, j), b.at(i, j), "{level} {layout:?} ({i}, {j})");
                    }
                }
            }
        }
    }
}

/// One or two rows take another way through memory than many; their sums are the same.
#[test]
fn few_rows_have_the_bits_of_many() {
    for level in nd_testing::levels() {
        for (k, n) in [
            (8, 32),
            (9, 33),
            (127, 40),
            (128, 2050),
            (300, 2100),
            (1030, 70),
        ] {
            for (alpha, beta) in [(1.0, 0.0), (1.0, 1.0), (0.5, 0.25)] {
                let m = 9;
                let (a, b) = (real::<f32>(m * k, 1), real::<f32>(k * n, 2));
                let bias = real::<f32>(n, 3);
                let epilogue = Epilogue {
                    bias: Some(&bias),
                    activation: Activation::Tanh,
                };
                let run = |rows: std::ops::Range<usize>| {
                    let mut c = real::<f32>(m * n, 4)[rows.start * n..rows.end * n].to_vec();
                    let av = MatRef::row_major(&a, m, k).row_block(rows.start, rows.len());
                    let bv = MatRef::row_major(&b, k, n);
                    let cv = MatMut::row_major(&mut c, rows.len(), n);
                    multiply_fused(level, alpha, av, bv, beta, cv, epilogue);
                    c
                };
                let whole = run(0..m);
                for rows in [0..1, 3..4, 3..5, 7..9] {
                    let part = run(rows.clone());
                    let same = part
                        .iter()
                        .zip(&whole[rows.start * n..rows.end * n])
                        .all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(
                        same,
                        "{level} rows {rows:?} of [{m}, {k}] x [{k}, {n}], {alpha}, {beta}"
                    );
                }
            }
        }
    }
}

#[test]
fn asking_ahead_changes_no_bit() {
    let next = real::<f32>(5_000, 9);
    for (m, k, n) in [(1, 5, 3), (7, 300, 20), (33, 64, 112), (300, 17, 130)] {
        // Rows of B far apart.
        let (a, b) = (real::<f32>(m * k, 1), real::<f32>(k * (n + 5), 2));
        let (a, b) = (
            MatRef::row_major(&a, m, k),
            MatRef::strided(&b, k, n, n + 5, 1),
        );
        for level in nd_testing::levels() {
            let [mut plain, mut found] = [(); 2].map(|()| vec![f32::NAN; m * n]);
            multiply(level, 1.5, a, b, 0.0, MatMut::row_major(&mut plain, m, n));
            for soon in [
                Fetch::default(),
                Fetch::of(MatRef::row_major(&next, 50, 100)),
                Fetch::of(MatRef::strided(&next, 3, 20, 70, 1)).then(b),
            ] {
                found.fill(f32::NAN);
                let c = MatMut::row_major(&mut found, m, n);
                multiply_fetching(level, 1.5, a, b, 0.0, c, soon);
                assert!(found == plain, "{m} x {k} x {n} {level} {soon:?}");
            }
        }
    }
}
