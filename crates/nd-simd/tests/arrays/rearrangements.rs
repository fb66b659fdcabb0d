//! Permutations, picking and scattering, sixteen-bit formats, optimizers.

use nd_core::{bf16, f16};
use nd_simd::optim::{self, Adam, RmsProp, Sgd};
use nd_simd::{SimdReal, convert, gather, permute, reference};
use nd_testing::cases::normals;
use ndarray::{Array1, Array2, Array3, ArrayD, Axis, ShapeBuilder, array, s};

use crate::support::{SHAPES, both, close, each_type, layouts, to_f64};

#[test]
fn permutations_of_every_layout() {
    fn check<R: SimdReal>(_: f64) {
        for shape in SHAPES {
            layouts::<R>(shape, |name, x| {
                let y = permute::to_standard(&x);
                assert!(y.is_standard_layout() && y == x, "{shape:?} {name}");
                for axes in [
                    [0, 1, 2],
                    [0, 2, 1],
                    [1, 0, 2],
                    [1, 2, 0],
                    [2, 0, 1],
                    [2, 1, 0],
                ] {
                    let y = permute::permuted(&x, &axes);
                    assert!(y.is_standard_layout());
                    assert!(
                        y == x.view().permuted_axes(axes),
                        "{shape:?} {name} {axes:?}"
                    );
                }
            });
        }
        // More axes than the transposing kernel takes.
        let x = ArrayD::from_shape_vec(vec![2, 1, 3, 2, 1, 2, 3], normals::<R>(1, 72)).unwrap();
        assert_eq!(permute::to_standard(&x.t()), x.t());
    }
    both!(check, 0.0);
}

#[test]
fn rows_and_elements_by_number() {
    fn check<R: SimdReal>(tolerance: f64) {
        let table = Array2::from_shape_vec((3, 6), normals::<R>(1, 18)).unwrap();
        // Not in standard order, repeated numbers.
        let ids = array![[5, 0], [2, 5], [5, 1]];
        for (table, ids) in [(table.t(), ids.view()), (table.t(), ids.t())] {
            let y = gather::embedding(&table, &ids);
            for ((i, j), &id) in ids.indexed_iter() {
                assert_eq!(y.slice(s![i, j, ..]), table.row(id));
            }
            let dtable = gather::embedding_gradient(6, &ids, &y);
            let mut expected = Array2::<f64>::zeros((6, 3));
            for ((i, j), &id) in ids.indexed_iter() {
                for k in 0..3 {
                    expected[[id, k]] += y[[i, j, k]].to_f64();
                }
            }
            close(&dtable, &to_f64(&expected), tolerance, "embedding");
            // Into columns of a wider table.
            let mut wide = Array2::from_elem((6, 5), R::ONE);
            gather::scatter_add(&mut wide.slice_mut(s![.., 1..4]), &ids, &y);
            let added: Vec<f64> = expected.iter().map(|x| x + 1.0).collect();
            close(&wide.slice(s![.., 1..4]), &added, tolerance, "scatter_add");
            assert!(
                wide.column(0)
                    .iter()
                    .chain(&wide.column(4))
                    .all(|&x| x == R::ONE)
            );
        }
        let nothing = Array1::<usize>::zeros(0);
        assert_eq!(gather::embedding(&table, &nothing).dim(), (0, 6));
        let thin = Array2::from_elem((3, 0), R::ONE);
        assert_eq!(gather::embedding(&thin, &array![2, 0]).dim(), (2, 0));
        assert_eq!(
            gather::embedding_gradient(3, &array![2, 0], &thin.slice(s![..2, ..])),
            thin
        );
        for shape in SHAPES.into_iter().filter(|shape| !shape.contains(&0)) {
            layouts::<R>(shape, |name, x| {
                for axis in 0..3 {
                    let (len, mut dims) = (shape[axis], shape);
                    dims[axis] = 2;
                    let ids =
                        Array3::from_shape_fn(dims, |(i, j, k)| (3 * i + 5 * j + 7 * k) % len);
                    let what = format!("{shape:?} {name} axis {axis}");
                    let sizes = (
                        shape[..axis].iter().product(),
                        len,
                        shape[axis + 1..].iter().product(),
                    );
                    let list: Vec<usize> = ids.iter().copied().collect();
                    let y = gather::take_along(&x, &ids, Axis(axis));
                    let exact = reference::gather::take_along(sizes, 2, &to_f64(&x), &list);
                    close(&y, &exact, 0.0, &what);
                    let column_major = {
                        let mut other = Array3::zeros(dims.f());
                        other.assign(&ids);
                        other
                    };
                    let dx = gather::take_along_gradient(&y, &column_major, Axis(axis), len);
                    let exact =
                        reference::gather::take_along_gradient(sizes, 2, &to_f64(&y), &list);
                    close(&dx, &exact, tolerance, &what);
                }
            });
        }
    }
    both!(check, 1e-6);
}

#[test]
fn sixteen_bit_formats() {
    // Every bf16 and f16 comes back, from views of any layout.
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let shape = (256, 256);
    let brains = Array2::from_shape_vec(shape, all.iter().map(|&b| bf16::from_bits(b)).collect());
    let halves = Array2::from_shape_vec(shape, all.iter().map(|&b| f16::from_bits(b)).collect());
    let (brains, halves) = (brains.unwrap(), halves.unwrap());
    fn same<R: SimdReal>(brains: &Array2<bf16>, halves: &Array2<f16>) {
        for slice in [s![.., ..;1], s![..;-1, ..;3], s![..;2, 3..40]] {
            let (brains, halves) = (brains.slice(slice), halves.slice(slice));
            let back = convert::to_bf16(&convert::from_bf16::<R, _>(&brains));
            for (a, b) in brains.iter().zip(&back) {
                assert!(a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()));
            }
            let back = convert::to_f16(&convert::from_f16::<R, _>(&halves.t()));
            for (a, b) in halves.t().iter().zip(&back) {
                assert!(a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()));
            }
        }
    }
    same::<f32>(&brains, &halves);
    same::<f64>(&brains, &halves);
    // Just above and below a tie of neighbours: rounding twice would go wrong.
    let tie = 1.0 + 2f64.powi(-8);
    let x = Array1::from_vec(vec![
        tie,
        tie + 1e-12,
        tie - 1e-12,
        -tie - 1e-12,
        1e300,
        1e-300,
    ]);
    let found: Vec<f64> = convert::to_bf16(&x).iter().map(|x| x.to_f64()).collect();
    let up = 1.0 + 2f64.powi(-7);
    assert_eq!(found, [1.0, up, 1.0, -up, f64::INFINITY, 0.0]);
    let tie = 1.0 + 2f64.powi(-11);
    let x = array![
        tie,
        tie + 1e-12,
        -tie + 1e-12,
        2f64.powi(-25) + 1e-20,
        2f64.powi(-25)
    ];
    let found: Vec<f64> = convert::to_f16(&x).iter().map(|x| x.to_f64()).collect();
    let up = 1.0 + 2f64.powi(-10);
    assert_eq!(found, [1.0, up, -1.0, 2f64.powi(-24), 0.0]);
}

#[test]
fn optimizers_of_every_layout() {
    fn check<R: SimdReal>(tolerance: f64) {
        let adam = Adam {
            lr: 0.1,
            decoupled_decay: 0.1,
            step: 3,
            ..Adam::default()
        };
        let sgd = Sgd {
            lr: 0.1,
            momentum: 0.9,
            weight_decay: 0.01,
            nesterov: true,
        };
        let rmsprop = RmsProp {
            lr: 0.1,
            alpha: 0.9,
            eps: 1e-8,
            weight_decay: 0.0,
        };
        for shape in SHAPES {
            layouts::<R>(shape, |name, gradient| {
                let what = format!("{shape:?} {name}");
                let noise = |seed| {
                    let values = normals::<R>(seed, shape.iter().product());
                    Array3::from_shape_vec(shape, values).unwrap()
                };
                // In the layout of the gradient, and in another.
                for same in [true, false] {
                    let place = |x: Array3<R>| {
                        if same {
                            let mut like = gradient.to_owned();
                            like.assign(&x);
                            like
                        } else {
                            x
                        }
                    };
                    let start = [
                        place(noise(1)),
                        place(noise(2)),
                        place(noise(3).mapv(|x| x * x)),
                    ];
                    let g = to_f64(&gradient);
                    let mut exact = [to_f64(&start[0]), to_f64(&start[1]), to_f64(&start[2])];
                    reference::optim::adam(
                        [adam.lr, adam.eps],
                        [adam.beta1, adam.beta2],
                        [adam.coupled_decay, adam.decoupled_decay],
                        3.0,
                        1.0,
                        &g,
                        &mut exact,
                    );
                    let [mut w, mut m, mut v] = start.clone();
                    optim::adam(adam, &gradient, &mut w, &mut m, &mut v);
                    for (got, exact) in [&w, &m, &v].into_iter().zip(&exact) {
                        close(got, exact, tolerance, &what);
                    }
                    let mut exact = [to_f64(&start[0]), to_f64(&start[1])];
                    let rates = [sgd.lr, sgd.momentum, sgd.weight_decay];
                    reference::optim::sgd(rates, sgd.nesterov, 1.0, &g, &mut exact);
                    let [mut w, mut u, _] = start.clone();
                    optim::sgd(sgd, &gradient, &mut w, &mut u);
                    close(&w, &exact[0], tolerance, &what);
                    close(&u, &exact[1], tolerance, &what);
                    let mut exact = [to_f64(&start[0]), to_f64(&start[2])];
                    let rates = [rmsprop.lr, rmsprop.alpha, rmsprop.eps, rmsprop.weight_decay];
                    reference::optim::rmsprop(rates, 1.0, &g, &mut exact);
                    let [mut w, _, mut v] = start.clone();
                    optim::rmsprop(rmsprop, &gradient, &mut w, &mut v);
                    close(&w, &exact[0], tolerance, &what);
                    close(&v, &exact[1], tolerance, &what);
                }
                let norm = to_f64(&gradient).iter().map(|g| g * g).sum::<f64>().sqrt();
                let mut padded =
                    Array3::from_elem((shape[0], shape[1], shape[2] + 1), R::from_f64(7.0));
                padded.slice_mut(s![.., .., 1..]).assign(&gradient);
                let mut part = padded.slice_mut(s![.., .., 1..]);
                let found = optim::clip_by_norm([&mut *part], 0.5);
                assert!((found - norm).abs() <= tolerance * (1.0 + norm), "{what}");
                let factor = if norm > 0.5 { 0.5 / norm } else { 1.0 };
                let clipped: Vec<f64> = to_f64(&gradient).iter().map(|g| g * factor).collect();
                close(&part, &clipped, tolerance, &what);
                assert!(
                    padded
                        .index_axis(Axis(2), 0)
                        .iter()
                        .all(|&x| x == R::from_f64(7.0))
                );
            });
        }
        let mut bad = Array1::from_vec(vec![R::ONE, R::from_f64(f64::NAN)]);
        assert!(optim::clip_by_norm([&mut *bad], 0.5).is_nan() && bad[0] == R::ONE);
    }
    both!(check, 1e-5);
}
