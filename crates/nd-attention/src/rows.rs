//! Rows of the batch, split over threads.
//!
//! The simple version is a loop over blocks of rows. The blocks depend on the shape alone, each writes its own part of every
//! output, and nothing is summed across blocks: so the bits do not depend on the threads.

use nd_core::autograd::Accumulate;

use crate::standard::GradMut;

/// An optional gradient as an output of so many elements per row, and whether to write or to add.
pub(crate) fn optional<'a, R>(
    grad: Option<GradMut<'a, R>>,
    per_row: usize,
) -> ((&'a mut [R], usize), Option<Accumulate>) {
    match grad {
        Some(grad) => ((grad.values, per_row), Some(grad.accumulate)),
        None => ((&mut [], 0), None),
    }
}

/// Some rows of the batch and their parts of `N` outputs.
pub(crate) struct Rows<'a, R, const N: usize> {
    /// The first row.
    pub(crate) first: usize,
    /// How many rows.
    pub(crate) count: usize,
    /// The outputs' elements of these rows; an output that is not wanted is empty.
    pub(crate) outputs: [&'a mut [R]; N],
    per_row: [usize; N],
}

impl<'a, R: Send, const N: usize> Rows<'a, R, N> {
    /// All rows; each output with its elements per row (the last row may have some more).
    pub(crate) fn all(count: usize, outputs: [(&'a mut [R], usize); N]) -> Self {
        let per_row = std::array::from_fn(|i| outputs[i].1);
        Self {
            first: 0,
            count,
            outputs: outputs.map(|(output, _)| output),
            per_row,
        }
    }

    fn split(self, rows: usize) -> (Self, Self) {
        let mut left: [&'a mut [R]; N] = std::array::from_fn(|_| Default::default());
        let mut right = self.outputs;
        for i in 0..N {
            let whole = std::mem::take(&mut right[i]);
            let at = (rows * self.per_row[i]).min(whole.len());
            (left[i], right[i]) = whole.split_at_mut(at);
        }
        let left = Self {
            first: self.first,
            count: rows,
            outputs: left,
            per_row: self.per_row,
        };
        let right = Self {
            first: self.first + rows,
            count: self.count - rows,
            outputs: right,
            per_row: self.per_row,
        };
        (left, right)
    }

    /// Calls `work` for every block of `size` rows, on all threads of the current pool if asked; nothing is allocated.
    pub(crate) fn for_each_block(self, parallel: bool, size: usize, work: &(impl Fn(Self) + Sync)) {
        let blocks = self.count.div_ceil(size);
        if blocks <= 1 {
            if blocks == 1 {
                work(self);
            }
            return;
        }
        let (left, right) = self.split(blocks / 2 * size);
        if parallel {
            rayon::join(
                || left.for_each_block(true, size, work),
                || right.for_each_block(true, size, work),
            );
        } else {
            left.for_each_block(false, size, work);
            right.for_each_block(false, size, work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nd_core::Threads;

    #[test]
    fn blocks_cover_every_output_once() {
        let threads = Threads::new(Some(3)).expect("three threads");
        for parallel in [false, true] {
            let (mut a, mut b) = (vec![0; 23 * 2], vec![0; 23 * 3 + 5]);
            threads.install(|| {
                let rows = Rows::all(23, [(&mut a[..], 2), (&mut b[..], 3), (&mut [][..], 0)]);
                rows.for_each_block(parallel, 4, &|block| {
                    assert_eq!(block.first % 4, 0);
                    assert!(block.count <= 4);
                    for (i, x) in block.outputs[0].iter_mut().enumerate() {
                        *x += block.first * 2 + i + 1;
                    }
                    for (i, x) in block.outputs[1].iter_mut().enumerate() {
                        *x += block.first * 3 + i + 1;
                    }
                });
            });
            assert!(a.iter().enumerate().all(|(i, &x)| x == i + 1));
            assert!(b.iter().enumerate().all(|(i, &x)| x == i + 1));
        }
    }
}
