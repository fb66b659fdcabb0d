//! An axis with round tick values.

/// Ticks that an axis should have, about.
const WANTED_TICKS: f64 = 4.0;

/// A range of values that begins and ends at a tick.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    low: f64,
    step: f64,
    steps: usize,
}

impl Axis {
    /// An axis that holds all values; from 0 to 1 when there are none.
    pub(super) fn around(values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if low == high {
            let room = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            (low, high) = (low - room, high + room);
        }
        let step = round_step((high - low) / WANTED_TICKS);
        let low = (low / step).floor();
        let steps = ((high / step).ceil() - low).max(1.0) as usize;
        Self {
            low: low * step,
            step,
            steps,
        }
    }

    /// The values at which lines are drawn.
    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> {
        (0..=self.steps).map(|i| self.low + i as f64 * self.step)
    }

    /// From 0 at the lower end to 1 at the upper.
    pub(super) fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.steps as f64 * self.step)
    }

    /// A tick's value with as many decimals as the step needs.
    pub(super) fn label(&self, tick: f64) -> String {
        let decimals = (-self.step.log10().floor()).clamp(0.0, 6.0) as usize;
        let rounded = if tick.abs() < self.step * 1e-9 {
            0.0
        } else {
            tick
        };
        if rounded.abs() >= 1e6 {
            format!("{rounded:.2e}")
        } else {
            format!("{rounded:.decimals$}")
        }
    }
}

/// The smallest of 1, 2, 2.5 and 5 times a power of ten that is not below `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0]
        .into_iter()
        .find(|factor| factor * power >= step);
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_the_values() {
        let axis = Axis::around([104.0, 622.0].into_iter());
        let ticks: Vec<f64> = axis.ticks().collect();
        assert_eq!(ticks, [0.0, 200.0, 400.0, 600.0, 800.0]);
        assert_eq!((axis.place(0.0), axis.place(800.0)), (0.0, 1.0));
        assert_eq!(axis.label(200.0), "200");
    }

    #[test]
    fn one_value_and_no_value_have_an_axis() {
        for values in [vec![], vec![0.0], vec![7.0], vec![-3.0, -3.0]] {
            let axis = Axis::around(values.iter().copied());
            assert!(axis.ticks().count() >= 2);
            assert!(
                values.iter().all(|&x| (0.0..=1.0).contains(&axis.place(x))),
                "{axis:?}"
            );
        }
    }

    #[test]
    fn labels_have_the_decimals_they_need() {
        let axis = Axis::around([0.011, 0.029].into_iter());
        let labels: Vec<String> = axis.ticks().map(|tick| axis.label(tick)).collect();
        assert_eq!(labels, ["0.010", "0.015", "0.020", "0.025", "0.030"]);
        let small = Axis::around([-1.0, 1.0].into_iter());
        assert!(
            small
                .ticks()
                .map(|tick| small.label(tick))
                .any(|label| label == "0.0")
        );
    }
}
