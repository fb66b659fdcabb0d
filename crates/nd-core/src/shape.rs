//! The dimensions of a tensor, without a heap allocation.

use std::fmt;
use std::ops::Deref;

/// The largest number of dimensions.
pub const MAX_RANK: usize = 6;

/// The dimensions of a contiguous row-major tensor; dereferences to `[usize]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: u8,
}

impl Shape {
    /// A shape of the given dimensions.
    ///
    /// # Panics
    /// More than [`MAX_RANK`] dimensions, or more elements than fit in `usize`.
    #[must_use]
    #[track_caller]
    pub fn new(dims: &[usize]) -> Self {
        assert!(
            dims.len() <= MAX_RANK,
            "a tensor has at most {MAX_RANK} dimensions, found {}: {dims:?}",
            dims.len()
        );
        assert!(
            dims.iter()
                .try_fold(1usize, |n, &d| n.checked_mul(d))
                .is_some(),
            "the shape {dims:?} has more elements than can be counted"
        );
        let mut out = Self {
            dims: [0; MAX_RANK],
            rank: dims.len() as u8,
        };
        out.dims[..dims.len()].copy_from_slice(dims);
        out
    }

    /// The number of elements; one for a scalar shape `[]`.
    #[must_use]
    pub fn numel(&self) -> usize {
        self.iter().product()
    }

    /// The last dimension; one for a scalar shape.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.last().copied().unwrap_or(1)
    }

    /// The product of all dimensions but the last.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.split_last()
            .map_or(1, |(_, outer)| outer.iter().product())
    }

    /// The same shape with another last dimension.
    ///
    /// # Panics
    /// On a scalar shape.
    #[must_use]
    #[track_caller]
    pub fn with_cols(&self, cols: usize) -> Self {
        assert!(
            self.rank > 0,
            "a scalar shape [] has no last dimension to replace with {cols}"
        );
        let mut out = *self;
        out.dims[usize::from(self.rank) - 1] = cols;
        out
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.dims[..usize::from(self.rank)]
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    #[track_caller]
    fn from(dims: [usize; N]) -> Self {
        Self::new(&dims)
    }
}

impl From<&[usize]> for Shape {
    #[track_caller]
    fn from(dims: &[usize]) -> Self {
        Self::new(dims)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &**self)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_times_cols_is_the_number_of_elements() {
        for dims in [&[][..], &[3], &[2, 3], &[4, 2, 3], &[4, 0, 3]] {
            let shape = Shape::new(dims);
            assert_eq!(shape.rows() * shape.cols(), shape.numel(), "{shape}");
        }
    }

    #[test]
    #[should_panic(expected = "at most 6 dimensions, found 7")]
    fn seven_dimensions_are_refused() {
        let _ = Shape::new(&[1; 7]);
    }

    #[test]
    #[should_panic(expected = "more elements than can be counted")]
    fn an_overflowing_shape_is_refused() {
        let _ = Shape::new(&[usize::MAX, 2]);
    }
}
