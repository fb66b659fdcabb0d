//! A waterfall of factors: each stage begins where the one before it ended, on a logarithmic axis.

use super::{LEFT, RIGHT, WIDTH, document, text};
use crate::report::significant;

/// A stage.
#[derive(Clone, Debug)]
pub struct Stage {
    /// What was turned on.
    pub label: String,
    /// How many times as fast the step became; below one it became slower.
    pub factor: f64,
}

const TOP: f64 = 58.0;
const PLOT: f64 = 190.0;
/// The share of a column that its bar takes.
const SHARE: f64 = 0.6;

/// A chart of stages and of what they come to; nothing where there are none.
#[must_use]
pub fn waterfall(title: &str, stages: &[Stage]) -> String {
    if stages.is_empty() {
        return String::new();
    }
    let mut ends = vec![1.0];
    for stage in stages {
        ends.push(ends[ends.len() - 1] * stage.factor);
    }
    let total = ends[ends.len() - 1];
    let most = ends.iter().copied().fold(2.0, f64::max);
    let least = ends.iter().copied().fold(1.0, f64::min);
    let y = |value: f64| {
        let share = (value / least).log10() / (most / least).log10();
        TOP + PLOT * (1.0 - share)
    };
    let column = (WIDTH - LEFT - RIGHT) / (stages.len() + 1) as f64;
    let mut body = text(16.0, 26.0, "heading", "start", title);
    for tick in [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0] {
        if (least..=most).contains(&tick) {
            let at = y(tick);
            body += &format!(
                "<path class=\"grid\" d=\"M{LEFT:.1} {at:.1}H{:.1}\"/>\n",
                WIDTH - RIGHT
            );
            body += &text(LEFT - 8.0, at + 4.0, "label", "end", &format!("{tick}x"));
        }
    }
    let sum = Stage {
        label: "together".to_owned(),
        factor: total,
    };
    let columns = stages.iter().chain([&sum]).enumerate();
    for (i, stage) in columns {
        let is_sum = i == stages.len();
        let (from, to) = if is_sum {
            (1.0, total)
        } else {
            (ends[i], ends[i + 1])
        };
        let (above, below) = (y(from.max(to)), y(from.min(to)));
        let left = LEFT + column * (i as f64 + (1.0 - SHARE) / 2.0);
        let class = match (is_sum, to >= from) {
            (true, _) => "bar-one",
            (false, true) => "bar-two",
            (false, false) => "bar-four",
        };
        body += &format!(
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{above:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>\n",
            column * SHARE,
            (below - above).max(1.5)
        );
        let middle = left + column * SHARE / 2.0;
        let words = format!("{}x", significant(stage.factor));
        body += &text(middle, above - 6.0, "value", "middle", &words);
        body += &text(middle, TOP + PLOT + 20.0, "label", "middle", &stage.label);
        if !is_sum {
            let at = y(to);
            body += &format!(
                "<path class=\"cut\" d=\"M{:.1} {at:.1}h{:.1}\"/>\n",
                left + column * SHARE,
                column * (1.0 - SHARE)
            );
        }
    }
    document(TOP + PLOT + 34.0, title, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_end_where_the_sum_does() {
        let stage = |label: &str, factor| Stage {
            label: label.to_owned(),
            factor,
        };
        let svg = waterfall("t", &[stage("a", 10.0), stage("b", 0.5), stage("c", 4.0)]);
        assert!(svg.contains("20.0x") && svg.contains("together"), "{svg}");
        assert_eq!(svg.matches("bar-four\"").count(), 1, "one stage is slower");
        assert!(!svg.contains("NaN"));
        assert_eq!(waterfall("t", &[]), "");
    }
}
