//! Plain series as windows: the last `L` values of each are what a model sees.

use nd_core::{BatchLayout, BatchMut, WindowSource};
use nd_data::WindowScaler;
use nd_parallel::BoxError;

/// The pasts of some series, each of which is one window.
pub(super) struct Histories<'a> {
    pub(super) series: &'a [Vec<f32>],
    pub(super) layout: BatchLayout,
    pub(super) scaler: WindowScaler,
}

impl Histories<'_> {
    /// Checks that every series has something to forecast from.
    pub(super) fn check(&self) -> Result<(), BoxError> {
        for series in self.series {
            if let Some(t) = series.iter().position(|y| y.is_infinite()) {
                let found = series[t];
                return Err(format!("value {t} of the series is {found}: values are finite, or NaN where nothing was observed").into());
            }
            if self.seen(series).iter().all(|y| y.is_nan()) {
                return Err(format!(
                    "the last {} values of the series have no observed one: a forecast needs at least one",
                    self.layout.input_size
                )
                .into());
            }
        }
        Ok(())
    }

    /// The values that the model sees.
    fn seen<'s>(&self, series: &'s [f32]) -> &'s [f32] {
        &series[series.len().saturating_sub(self.layout.input_size)..]
    }
}

impl WindowSource<f32> for Histories<'_> {
    fn layout(&self) -> BatchLayout {
        self.layout
    }

    fn groups(&self) -> usize {
        self.series.len()
    }

    fn windows(&self, _: usize) -> usize {
        1
    }

    fn gather(&self, group: usize, window: usize, row: BatchMut<'_, f32>) {
        assert!(window == 0, "window {window} of a series that has one");
        let series = &self.series[group];
        let seen = self.seen(series);
        let (padding, inputs) = row
            .insample_y
            .split_at_mut(self.layout.input_size - seen.len());
        let (no_mask, mask) = row.insample_mask.split_at_mut(padding.len());
        no_mask.fill(0.0);
        // Until the inputs are written, their memory holds the observed ones for the statistics, which move them about.
        let mut count = 0;
        for (&y, mask) in seen.iter().zip(mask) {
            *mask = if y.is_nan() { 0.0 } else { 1.0 };
            if !y.is_nan() {
                inputs[count] = y;
                count += 1;
            }
        }
        let statistics = self.scaler.statistics(&mut inputs[..count]);
        // As in a panel: a missing value is the last observed one, or the first observed one at the beginning.
        let before = &series[..series.len() - seen.len()];
        let is_observed = |y: &&f32| !y.is_nan();
        let earlier = before.iter().rev().find(is_observed);
        let first = earlier.or_else(|| seen.iter().find(is_observed));
        let mut last = first.copied().unwrap_or(0.0);
        for (input, &y) in inputs.iter_mut().zip(seen) {
            if !y.is_nan() {
                last = y;
            }
            *input = last;
        }
        padding.fill(0.0);
        self.scaler.transform(statistics, row.insample_y);
        row.outsample_y.fill(0.0);
        row.outsample_mask.fill(0.0);
        row.outsample_original.fill(0.0);
        (row.loc[0], row.scale[0]) = self.scaler.loc_scale(statistics);
    }
}
