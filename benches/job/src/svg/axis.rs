//! An axis with round tick values.

/// Ticks that an axis should have, about.
const WANTED_TICKS: f64 = 4.0;

/// Axes whose largest tick lies outside of these have labels with exponents.
const SMALL: f64 = 1e-3;
const LARGE: f64 = 1e6;
/// Digits behind the point of a label with an exponent, at most.
const MOST_DIGITS: usize = 6;

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

    /// A tick's value with as many decimals as the step needs; values far from one have an exponent.
    pub(super) fn label(&self, tick: f64) -> String {
        let zero = tick.abs() < self.step * 1e-9;
        let tick = if zero { 0.0 } else { tick };
        let largest = self.ticks().map(f64::abs).fold(0.0, f64::max);
        if (SMALL..LARGE).contains(&largest) {
            let decimals = (-self.step.log10().floor()).clamp(0.0, 6.0) as usize;
            return format!("{tick:.decimals$}");
        }
        if zero {
            return "0".to_owned();
        }
        // As few digits as tell it from its neighbours.
        let near = |text: &String| {
            let read = text.parse().unwrap_or(f64::NAN);
            (tick - read).abs() < self.step * 1e-3
        };
        let mut forms = (0..=MOST_DIGITS).map(|digits| format!("{tick:.digits$e}"));
        forms
            .clone()
            .find(near)
            .or(forms.next_back())
            .unwrap_or_default()
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
        let labels = |low: f64, high: f64| -> Vec<String> {
            let axis = Axis::around([low, high].into_iter());
            axis.ticks().map(|tick| axis.label(tick)).collect()
        };
        assert_eq!(labels(-1.0, 1.0), ["-1.0", "-0.5", "0.0", "0.5", "1.0"]);
        assert_eq!(
            labels(0.9e30, 1.1e30),
            ["9e29", "9.5e29", "1e30", "1.05e30", "1.1e30"]
        );
        assert_eq!(
            labels(0.0, 4e-30),
            ["0", "1e-30", "2e-30", "3e-30", "4e-30"]
        );
        let near = labels(5_000_000.0, 5_000_004.0);
        assert_eq!(
            near.iter().collect::<std::collections::BTreeSet<_>>().len(),
            near.len()
        );
    }
}
