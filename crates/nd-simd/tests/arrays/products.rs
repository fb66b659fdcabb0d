//! Matrix products into and out of every layout.

use nd_core::Threads;
use nd_simd::{SimdReal, matmul};
use nd_testing::cases::normals;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, s};

use crate::support::{both, close, each_type, layouts, to_f64};

const SIZES: [[usize; 3]; 9] = [
    [3, 4, 5],
    [1, 7, 1],
    [17, 33, 9],
    [0, 3, 2],
    [3, 0, 2],
    [2, 3, 0],
    [1, 1, 1],
    [40, 70, 1],
    [1, 40, 6],
];

/// Views of one shape in every layout.
fn matrices<R: SimdReal>(rows: usize, cols: usize, mut visit: impl FnMut(&str, ArrayView2<'_, R>)) {
    layouts::<R>([1, rows, cols], |name, x| {
        visit(name, x.index_axis_move(Axis(0), 0))
    });
    let x = Array2::from_shape_vec((cols, rows), normals::<R>(7, rows * cols)).unwrap();
    visit("transposed", x.t());
    visit(
        "transposed, backwards",
        x.slice(s![..;-1, ..;-1]).reversed_axes(),
    );
}

/// The textbook product.
fn exact<R: SimdReal>(a: &ArrayView2<'_, R>, b: &ArrayView2<'_, R>) -> Vec<f64> {
    let term = |i: usize, j: usize| {
        (0..a.ncols())
            .map(|p| a[[i, p]].to_f64() * b[[p, j]].to_f64())
            .sum()
    };
    let n = b.ncols();
    (0..a.nrows() * n).map(|at| term(at / n, at % n)).collect()
}

#[test]
fn of_every_layout() {
    fn check<R: SimdReal>(tolerance: f64) {
        for [m, k, n] in SIZES {
            matrices::<R>(m, k, |a_name, a| {
                matrices::<R>(k, n, |b_name, b| {
                    let what = format!("[{m}, {k}] {a_name} times [{k}, {n}] {b_name}");
                    let c = matmul::gemm(&a, &b);
                    assert!(c.is_standard_layout(), "{what}");
                    close(&c, &exact(&a, &b), tolerance * (k as f64 + 1.0), &what);
                    if n == 1 {
                        let x = b.index_axis(Axis(1), 0);
                        let y = matmul::gemv(&a, &x);
                        close(&y, &exact(&a, &b), tolerance * (k as f64 + 1.0), &what);
                        let mut y = Array1::from_elem(2 * m, R::ONE);
                        let mut half = y.slice_mut(s![..;-2]);
                        matmul::gemv_into(R::ONE, &a, &x, R::ONE, &mut half);
                        let added: Vec<f64> = exact(&a, &b).iter().map(|y| y + 1.0).collect();
                        close(&half, &added, tolerance * (k as f64 + 2.0), &what);
                    }
                });
            });
        }
    }
    both!(check, 1e-6);
}

/// The shape of the memory for an `m x n` matrix.
type Memory = fn(usize, usize) -> (usize, usize);

/// A way to see an `m x n` matrix in memory of another shape.
type Into<R> = for<'a> fn(&'a mut Array2<R>, usize, usize) -> ArrayViewMut2<'a, R>;

#[test]
fn into_every_layout() {
    fn check<R: SimdReal>(tolerance: f64) {
        let targets: [(&str, Memory, Into<R>); 7] = [
            ("row-major", |m, n| (m, n), |x, _, _| x.view_mut()),
            (
                "column-major",
                |m, n| (n, m),
                |x, _, _| x.view_mut().reversed_axes(),
            ),
            (
                "backwards",
                |m, n| (m, n),
                |x, _, _| x.slice_mut(s![..;-1, ..;-1]),
            ),
            (
                "column-major, rows backwards",
                |m, n| (n, m),
                |x, _, _| x.slice_mut(s![.., ..;-1]).reversed_axes(),
            ),
            (
                "a range of columns",
                |m, n| (m, n + 4),
                |x, _, n| x.slice_mut(s![.., 1..1 + n]),
            ),
            (
                "with steps",
                |m, n| (2 * m, 3 * n),
                |x, _, _| x.slice_mut(s![..;2, ..;3]),
            ),
            (
                "with steps backwards",
                |m, n| (2 * m, 3 * n),
                |x, _, _| x.slice_mut(s![..;-2, ..;-3]),
            ),
        ];
        for [m, k, n] in SIZES {
            let other = Array2::from_shape_vec((k, n), normals::<R>(3, k * n)).unwrap();
            for (b_name, b) in [
                ("forwards", other.view()),
                ("backwards", other.slice(s![..;-1, ..;-1])),
            ] {
                matrices::<R>(m, k, |a_name, a| {
                    for (name, dim, view) in targets {
                        let what =
                            format!("[{m}, {k}] {a_name} times {b_name} into {name} [{m}, {n}]");
                        let nine = R::from_f64(9.0);
                        let mut memory = Array2::from_elem(dim(m, n), nine);
                        let mut c = view(&mut memory, m, n);
                        assert_eq!(c.dim(), (m, n), "{what}");
                        let (half, two) = (R::from_f64(0.5), R::from_f64(-2.0));
                        matmul::gemm_into(half, &a, &b, two, &mut c);
                        let product = exact(&a, &b);
                        let mixed: Vec<f64> = product.iter().map(|c| 0.5 * c - 18.0).collect();
                        close(&c, &mixed, 4.0 * tolerance * (k as f64 + 1.0), &what);
                        c.fill(R::from_f64(f64::NAN));
                        // What C held is not read.
                        matmul::gemm_into(R::ONE, &a, &b, R::ZERO, &mut c);
                        close(&c, &product, tolerance * (k as f64 + 1.0), &what);
                        c.fill(nine);
                        assert!(memory.iter().all(|&x| x == nine), "{what}: wrote beyond C");
                    }
                });
            }
        }
    }
    both!(check, 1e-6);
}

#[test]
fn threads_change_no_bit() {
    let a = Array2::from_shape_vec((200, 300), normals::<f32>(1, 200 * 300)).unwrap();
    let b = Array2::from_shape_vec((300, 150), normals::<f32>(2, 300 * 150)).unwrap();
    let alone = matmul::gemm(&a, &b);
    close(&alone, &exact(&a.view(), &b.view()), 1e-3, "alone");
    for count in [1, 2, 3] {
        let threads = Threads::new(Some(count)).unwrap();
        assert!(
            threads.install(|| matmul::gemm(&a, &b)) == alone,
            "{count} threads"
        );
    }
    assert_eq!(to_f64(&alone).len(), 200 * 150);
}
