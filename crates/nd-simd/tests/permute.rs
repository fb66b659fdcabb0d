//! Rearrangements against their index formulas.

use nd_core::SimdLevel;
use nd_simd::permute;

fn counted(len: usize) -> Vec<f32> {
    (0..len).map(|i| i as f32).collect()
}

#[test]
fn transposes_of_every_edge() {
    for level in SimdLevel::supported() {
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
