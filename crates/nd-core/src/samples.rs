//! Data that can be cut into folds.
//!
//! In its simple form: a table with a number of rows, of which some are copied out. Rows of one kind of data are
//! independent of each other (patients, windows), and any of them may be picked; rows of another are points in time, and
//! only ranges make sense.
//!
//! Known weakness: a part is a copy, so folds that are trained at the same time hold their rows several times.

use std::ops::Range;

use ndarray::{Array, Axis, RemoveAxis};

/// Rows of some data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Neighbours, in their order.
    Range(Range<usize>),
    /// Rows picked one by one, in this order.
    Picked(Vec<usize>),
}

impl Rows {
    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::Picked(rows) => rows.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every row in turn.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let (range, picked) = match self {
            Self::Range(range) => (range.clone(), &[][..]),
            Self::Picked(rows) => (0..0, &rows[..]),
        };
        range.chain(picked.iter().copied())
    }
}

/// Data made of rows that can be told apart: what cross-validation cuts.
///
/// ```
/// use nd_core::samples::{Rows, Samples};
/// let data = vec![10, 11, 12, 13];
/// assert_eq!(data.samples(), 4);
/// assert_eq!(data.select(&Rows::Range(1..3)), [11, 12]);
/// assert_eq!(data.select(&Rows::Picked(vec![3, 0])), [13, 10]);
/// ```
pub trait Samples: Sized + Send + Sync {
    /// The number of rows; for time series the number of time steps of the longest.
    fn samples(&self) -> usize;

    /// Whether rows may be picked and shuffled. Rows of a time series may not: what comes after a row tells about it.
    fn is_independent(&self) -> bool {
        true
    }

    /// A copy of some rows.
    ///
    /// # Panics
    /// A row is not there, or rows were picked from data whose rows are not independent.
    #[must_use]
    fn select(&self, rows: &Rows) -> Self;
}

impl<T: Clone + Send + Sync> Samples for Vec<T> {
    fn samples(&self) -> usize {
        self.len()
    }

    fn select(&self, rows: &Rows) -> Self {
        match rows {
            Rows::Range(range) => self[range.clone()].to_vec(),
            Rows::Picked(rows) => rows.iter().map(|&row| self[row].clone()).collect(),
        }
    }
}

/// Rows are those of the first axis.
impl<A: Clone + Send + Sync, D: RemoveAxis> Samples for Array<A, D> {
    fn samples(&self) -> usize {
        self.len_of(Axis(0))
    }

    fn select(&self, rows: &Rows) -> Self {
        match rows {
            Rows::Range(range) => self
                .slice_axis(Axis(0), range.clone().into())
                .as_standard_layout()
                .into_owned(),
            // A view has only ndarray's `select`.
            Rows::Picked(rows) => self.view().select(Axis(0), rows),
        }
    }
}

/// Inputs beside targets: the same rows of both.
impl<A: Samples, B: Samples> Samples for (A, B) {
    fn samples(&self) -> usize {
        let (rows, others) = (self.0.samples(), self.1.samples());
        assert!(
            rows == others,
            "the two parts of the data have {rows} and {others} rows"
        );
        rows
    }

    fn is_independent(&self) -> bool {
        self.0.is_independent() && self.1.is_independent()
    }

    fn select(&self, rows: &Rows) -> Self {
        (self.0.select(rows), self.1.select(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn arrays_and_pairs_are_cut_along_their_rows() {
        let x = array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]];
        let data = (x, vec!['a', 'b', 'c']);
        assert_eq!(data.samples(), 3);
        let (x, y) = data.select(&Rows::Range(1..3));
        assert_eq!((x, y), (array![[3.0, 4.0], [5.0, 6.0]], vec!['b', 'c']));
        let (x, y) = data.select(&Rows::Picked(vec![2, 0]));
        assert_eq!((x, y), (array![[5.0, 6.0], [1.0, 2.0]], vec!['c', 'a']));
    }

    #[test]
    fn rows_are_counted_and_listed() {
        let range = Rows::Range(2..5);
        let picked = Rows::Picked(vec![4, 1]);
        assert_eq!((range.len(), picked.len()), (3, 2));
        assert_eq!(range.iter().collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(picked.iter().collect::<Vec<_>>(), [4, 1]);
        assert!(Rows::Range(3..3).is_empty() && !picked.is_empty());
    }
}
