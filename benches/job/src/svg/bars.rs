//! Bars of speed-ups on a logarithmic axis, groups of them one below the other.

use super::{LEFT, RIGHT, WIDTH, document, text};
use crate::report::significant;

/// A bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Bars of one group stand together under its name.
    pub group: String,
    /// What the bar is.
    pub label: String,
    /// `one`, `two`, `three` or `four`: its colour.
    pub class: &'static str,
    /// Its length, at least one.
    pub value: f64,
    /// Where the true value lies.
    pub range: (f64, f64),
}

const HEIGHT: f64 = 20.0;
const STEP: f64 = 25.0;
const GROUP: f64 = 16.0;
const TOP: f64 = 46.0;
/// Room for the names of groups and bars.
const NAMES: f64 = LEFT + 200.0;
/// Room right of the longest bar, for its value.
const VALUES: f64 = RIGHT + 130.0;

/// A chart of bars; nothing where there are none.
#[must_use]
pub fn bars(title: &str, bars: &[Bar]) -> String {
    if bars.is_empty() {
        return String::new();
    }
    let most = bars
        .iter()
        .map(|bar| bar.range.1.max(bar.value))
        .fold(2.0, f64::max);
    let decades = most.log10();
    let x = |value: f64| NAMES + (WIDTH - NAMES - VALUES) * (value.max(1.0).log10() / decades);
    let mut body = text(16.0, 26.0, "heading", "start", title);
    let mut y = TOP;
    let mut last = None;
    let mut lines = String::new();
    for bar in bars {
        if last != Some(&bar.group) {
            if last.is_some() {
                y += GROUP;
            }
            lines += &text(16.0, y + 15.0, "title", "start", &bar.group);
            last = Some(&bar.group);
        }
        let (from, to) = (x(1.0), x(bar.value));
        lines += &text(NAMES - 10.0, y + 15.0, "label", "end", &bar.label);
        lines += &format!(
            "<rect class=\"bar-{}\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{HEIGHT:.1}\"/>\n",
            bar.class,
            (to - from).max(1.0)
        );
        let (low, high) = (x(bar.range.0), x(bar.range.1));
        let middle = y + HEIGHT / 2.0;
        lines += &format!("<path class=\"whisker\" d=\"M{low:.1} {middle:.1}H{high:.1}\"/>\n");
        let words = if bar.range.0 < bar.range.1 {
            format!(
                "{}x ({}-{})",
                significant(bar.value),
                significant(bar.range.0),
                significant(bar.range.1)
            )
        } else {
            format!("{}x", significant(bar.value))
        };
        lines += &text(to.max(high) + 8.0, y + 15.0, "value", "start", &words);
        y += STEP;
    }
    for tick in [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0] {
        if tick <= most {
            let at = x(tick);
            body += &format!("<path class=\"grid\" d=\"M{at:.1} {TOP:.1}V{y:.1}\"/>\n");
            body += &text(at, y + 16.0, "label", "middle", &format!("{tick}x"));
        }
    }
    document(y + 28.0, title, &(body + &lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_bars_are_faster_and_groups_are_named_once() {
        let bar = |group: &str, value: f64| Bar {
            group: group.to_owned(),
            label: "x<y".to_owned(),
            class: "one",
            value,
            range: (value * 0.9, value * 1.1),
        };
        let svg = bars("t", &[bar("A", 2.0), bar("A", 80.0), bar("B", 5.0)]);
        let widths: Vec<f64> = svg
            .split("<rect class=\"bar-one\"")
            .skip(1)
            .map(|rest| rest.split("width=\"").nth(1).unwrap())
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert!(widths[0] < widths[2] && widths[2] < widths[1], "{widths:?}");
        assert_eq!(svg.matches(">A<").count(), 1);
        assert!(svg.contains("x&lt;y") && !svg.contains("NaN"));
        assert_eq!(bars("t", &[]), "");
    }
}
