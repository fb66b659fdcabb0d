//! Rearrangements against their index formulas.

use nd_core::SimdLevel;
use nd_core::autograd::Accumulate;
use nd_simd::permute;

fn counted(len: usize) -> Vec<f32> {
    (0..len).map(|i| i as f32).collect()
}

#[test]
fn transposes_of_every_edge() {
    for level in nd_testing::levels() {
        for rows in (0..=20).chain([63, 64, 65]) {
            for cols in (0..=20).chain([63, 64, 65]) {
                let x = counted(rows * cols);
                let mut y = vec![f32::NAN; rows * cols];
                permute::transpose(level, &x, rows, cols, &mut y);
                let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                let mut wide_y = vec![f64::NAN; rows * cols];
                permute::transpose(level, &wide, rows, cols, &mut wide_y);
                for i in 0..rows {
                    for j in 0..cols {
                        assert_eq!(y[j * rows + i], x[i * cols + j], "{level} {rows}x{cols}");
                        assert_eq!(
                            wide_y[j * rows + i],
                            wide[i * cols + j],
                            "{level} {rows}x{cols}"
                        );
                    }
                }
            }
        }
    }
}

/// Every order of the axes of a few shapes, by the index formula.
#[test]
fn axes_in_every_order() {
    fn orders(rank: usize) -> Vec<Vec<usize>> {
        if rank == 0 {
            return vec![Vec::new()];
        }
        let shorter = orders(rank - 1);
        let insert = |order: &Vec<usize>, at: usize| {
            let mut order = order.clone();
            order.insert(at, rank - 1);
            order
        };
        shorter
            .iter()
            .flat_map(|order| (0..rank).map(move |at| insert(order, at)))
            .collect()
    }
    for dims in [
        &[][..],
        &[5],
        &[3, 4],
        &[9, 17],
        &[2, 3, 4],
        &[8, 9, 10],
        &[2, 12, 3, 8],
        &[2, 1, 3, 2, 2],
        &[3, 0, 2],
    ] {
        let numel: usize = dims.iter().product();
        let x = counted(numel);
        for axes in orders(dims.len()) {
            let out_dims: Vec<usize> = axes.iter().map(|&axis| dims[axis]).collect();
            let mut expected = vec![f32::NAN; numel];
            for (i, &value) in x.iter().enumerate() {
                let mut rest = i;
                let mut index = vec![0; dims.len()];
                for axis in (0..dims.len()).rev() {
                    index[axis] = rest % dims[axis];
                    rest /= dims[axis];
                }
                let place = axes
                    .iter()
                    .zip(&out_dims)
                    .fold(0, |place, (&axis, size)| place * size + index[axis]);
                expected[place] = value;
            }
            for level in nd_testing::levels() {
                let mut y = vec![f32::NAN; numel];
                permute::permute_axes(level, dims, &axes, &x, &mut y, Accumulate::Write);
                assert_eq!(y, expected, "{level} {dims:?} {axes:?}");
                permute::permute_axes(level, dims, &axes, &x, &mut y, Accumulate::Add);
                let twice: Vec<f32> = expected.iter().map(|x| 2.0 * x).collect();
                assert_eq!(y, twice, "{level} {dims:?} {axes:?}, added");
            }
        }
    }
}

#[test]
#[should_panic(expected = "[0, 0] is no order of the axes of [2, 3]")]
fn an_axis_twice_is_refused() {
    permute::permute_axes(
        SimdLevel::Scalar,
        &[2, 3],
        &[0, 0],
        &[0.0_f32; 6],
        &mut [0.0; 6],
        Accumulate::Write,
    );
}

#[test]
fn rows_are_reversed() {
    for level in nd_testing::levels() {
        for cols in [1, 2, 7, 16, 33, 96] {
            let x = counted(3 * cols);
            let mut y = vec![f32::NAN; 3 * cols];
            permute::reverse_rows(level, cols, &x, &mut y, Accumulate::Write);
            for (x, y) in x.chunks(cols).zip(y.chunks(cols)) {
                assert!(x.iter().rev().eq(y), "{level} {cols}");
            }
            permute::reverse_rows(level, cols, &x, &mut y, Accumulate::Add);
            assert_eq!(y[0], 2.0 * x[cols - 1], "{level} {cols}");
        }
    }
}
