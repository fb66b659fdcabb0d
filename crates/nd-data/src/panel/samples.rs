//! A panel cut along time.

use nd_core::{Real, Rows, Samples};

use super::Panel;

/// A sample is a time step; series of different lengths are aligned at their ends, as forecasts are made.
///
/// A series that has no row within a range is left out of that part.
impl<R: Real> Samples for Panel<R> {
    fn samples(&self) -> usize {
        self.longest()
    }

    fn is_independent(&self) -> bool {
        false
    }

    fn select(&self, rows: &Rows) -> Self {
        let Rows::Range(range) = rows else {
            panic!("time steps of a panel were picked one by one: a panel is cut into ranges");
        };
        let longest = self.longest();
        assert!(
            range.start <= range.end && range.end <= longest,
            "time steps {range:?} of a panel of {longest}"
        );
        self.select_rows(|_, len| {
            let before = longest - len;
            range.start.saturating_sub(before)..range.end.saturating_sub(before)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::{PanelBuilder, Series};

    #[test]
    fn series_are_aligned_at_their_ends() {
        let panel: Panel = PanelBuilder::new()
            .series(Series::numbered("a", vec![1.0, 2.0, 3.0, 4.0]))
            .series(Series::numbered("b", vec![30.0, 40.0]))
            .build()
            .unwrap();
        assert_eq!((panel.samples(), panel.is_independent()), (4, false));
        let part = panel.select(&Rows::Range(1..3));
        assert_eq!(part.series_y(0), &[2.0, 3.0]);
        assert_eq!(part.series_y(1), &[30.0]);
        let early = panel.select(&Rows::Range(0..2));
        assert_eq!(early.unique_ids().collect::<Vec<_>>(), ["a"]);
    }
}
