//! Splitting a panel by time, and the protocol of the long-horizon benchmarks.
//!
//! The simple version: rows before one border train, rows up to a second validate, rows up to a third test. Windows of
//! the later parts begin `L` rows before their border, so the number of test windows does not depend on `L`. The panel
//! stays whole: [`Borders::val_size`] and [`Borders::test_size`] say to [`WindowConfig`](crate::WindowConfig) what to keep.

use nd_core::Real;

use crate::error::DataError;
use crate::panel::Panel;
use crate::scaler::{LocalScaler, LocalScalerKind};

/// The rows at which the parts of each series end.
///
/// ```
/// use nd_data::split::Borders;
/// let ett = Borders::ETT_HOURLY;
/// assert_eq!(ett.test_size() - 96 + 1, 2785);
/// assert_eq!(Borders::ratios(1000, 0.7, 0.2)?.val_size(), 100);
/// # Ok::<(), nd_data::DataError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Borders {
    /// Training rows: those before this one.
    pub train_end: usize,
    /// Validation rows: from there to before this one.
    pub val_end: usize,
    /// Test rows: from there to before this one; later rows are unused.
    pub test_end: usize,
}

impl Borders {
    /// ETTh1 and ETTh2: 12, 4 and 4 months of 30 days, hourly.
    pub const ETT_HOURLY: Self = Self {
        train_end: 8640,
        val_end: 11520,
        test_end: 14400,
    };
    /// ETTm1 and ETTm2: the same, every 15 minutes.
    pub const ETT_QUARTER_HOURLY: Self = Self {
        train_end: 34_560,
        val_end: 46_080,
        test_end: 57_600,
    };

    /// Shares of `rows`: training and test rows are rounded down, validation takes the rest.
    ///
    /// The protocol of the other data sets is `ratios(rows, 0.7, 0.2)`.
    ///
    /// # Errors
    /// [`DataError::InvalidOption`] for shares outside 0 to 1 or of more than everything.
    pub fn ratios(rows: usize, train: f64, test: f64) -> Result<Self, DataError> {
        let possible = train >= 0.0 && test >= 0.0 && train + test <= 1.0;
        if !possible {
            return Err(DataError::InvalidOption {
                option: "ratios",
                expected: "two shares from 0 to 1 with a sum of at most 1".into(),
                found: format!("{train} and {test}"),
            });
        }
        let train_end = (rows as f64 * train) as usize;
        let val_end = rows - (rows as f64 * test) as usize;
        // Rounding can make the two meet but not cross.
        Ok(Self {
            train_end: train_end.min(val_end),
            val_end,
            test_end: rows,
        })
    }

    /// Rows for validation.
    #[must_use]
    pub fn val_size(&self) -> usize {
        self.val_end - self.train_end
    }

    /// Rows for testing.
    #[must_use]
    pub fn test_size(&self) -> usize {
        self.test_end - self.val_end
    }

    /// The rows of a panel up to the last border, every series scaled by the mean and the population standard deviation
    /// of its training rows; and the scaler, to map forecasts back.
    ///
    /// The published errors of the long-horizon benchmarks are those of such scaled values.
    ///
    /// # Errors
    /// [`DataError::InvalidOption`] if the borders do not ascend or a series has too few rows.
    pub fn scaled<R: Real>(&self, panel: &Panel<R>) -> Result<(Panel<R>, LocalScaler), DataError> {
        let invalid = |expected: &str, found: String| DataError::InvalidOption {
            option: "borders",
            expected: expected.into(),
            found,
        };
        let ascending =
            0 < self.train_end && self.train_end <= self.val_end && self.val_end <= self.test_end;
        if !ascending {
            return Err(invalid(
                "0 < train_end <= val_end <= test_end",
                format!("{self:?}"),
            ));
        }
        for series in 0..panel.n_series() {
            let rows = panel.series_len(series);
            if rows < self.test_end {
                let found = format!("{rows} in series `{}`", panel.unique_id(series));
                return Err(invalid(
                    &format!("at least {} rows per series", self.test_end),
                    found,
                ));
            }
        }
        let train = panel.select_rows(|_, _| 0..self.train_end);
        let scaler = LocalScaler::fit(&train, LocalScalerKind::Standard);
        let mut scaled = panel.select_rows(|_, _| 0..self.test_end);
        scaler.transform(&mut scaled)?;
        Ok((scaled, scaler))
    }
}

/// The windows that are left if the last, incomplete batch is dropped.
///
/// The LTSF-Linear paper scored its test windows like that with batches of 32, PatchTST with batches of 128; later code
/// scores all windows.
///
/// # Panics
/// If the batch is empty.
#[must_use]
#[track_caller]
pub fn complete_batches(windows: usize, batch: usize) -> usize {
    assert!(batch > 0, "a batch of 0 windows");
    windows / batch * batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::{PanelBuilder, Series};

    #[test]
    fn ratios_cover_every_row_once() {
        for rows in [0, 1, 9, 10, 52_696, 26_304] {
            let borders = Borders::ratios(rows, 0.7, 0.2).unwrap();
            assert_eq!(borders.train_end, (rows as f64 * 0.7) as usize);
            assert_eq!(borders.test_size(), (rows as f64 * 0.2) as usize);
            assert_eq!(
                borders.train_end + borders.val_size() + borders.test_size(),
                rows
            );
        }
        assert!(Borders::ratios(10, 0.9, 0.2).is_err());
        assert!(Borders::ratios(10, f64::NAN, 0.2).is_err());
    }

    #[test]
    fn statistics_are_those_of_the_training_rows() {
        let panel = PanelBuilder::new()
            .series(Series::numbered("a", vec![1.0, 3.0, 100.0, 200.0, 7.0]))
            .build()
            .unwrap();
        let borders = Borders {
            train_end: 2,
            val_end: 3,
            test_end: 4,
        };
        let (scaled, scaler) = borders.scaled(&panel).unwrap();
        assert_eq!(scaled.series_y(0), &[-1.0, 1.0, 98.0, 198.0]);
        let mut z = [98.0];
        scaler.inverse("a", &mut z).unwrap();
        assert_eq!(z, [100.0]);
        assert!(
            Borders {
                test_end: 6,
                ..borders
            }
            .scaled(&panel)
            .is_err()
        );
        assert!(
            Borders {
                train_end: 0,
                ..borders
            }
            .scaled(&panel)
            .is_err()
        );
    }
}
