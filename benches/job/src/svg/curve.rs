//! Curves of speed-up over threads, with the line that would be ideal.

use super::{LEFT, RIGHT, WIDTH, document, text};

/// A curve.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name.
    pub label: String,
    /// Threads, and how many times as fast as one.
    pub points: Vec<(f64, f64)>,
}

const TOP: f64 = 48.0;
const PLOT: f64 = 240.0;
const CLASSES: [&str; 4] = ["one", "two", "three", "four"];
/// Room for the names at the right ends.
const NAMES: f64 = 150.0;

/// A chart of curves; nothing where there is no point.
#[must_use]
pub fn curves(title: &str, curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let most = points().map(|p| p.0).fold(0.0, f64::max);
    if most < 1.0 {
        return String::new();
    }
    let highest = points().map(|p| p.1).fold(most, f64::max);
    let span = (most - 1.0).max(1.0);
    let x = |threads: f64| LEFT + (WIDTH - LEFT - RIGHT - NAMES) * (threads - 1.0) / span;
    let y = |factor: f64| TOP + PLOT * (1.0 - factor / highest);
    let mut body = text(16.0, 26.0, "heading", "start", title);
    for tick in 0..=highest.floor() as usize {
        let at = y(tick as f64);
        body += &format!(
            "<path class=\"grid\" d=\"M{LEFT:.1} {at:.1}H{:.1}\"/>\n",
            WIDTH - RIGHT - NAMES
        );
        body += &text(LEFT - 8.0, at + 4.0, "label", "end", &format!("{tick}x"));
    }
    let mut counts: Vec<f64> = points().map(|p| p.0).collect();
    counts.sort_by(f64::total_cmp);
    counts.dedup();
    for count in counts {
        let words = if count == 1.0 {
            "1 thread".to_owned()
        } else {
            format!("{count} threads")
        };
        body += &text(x(count), TOP + PLOT + 20.0, "label", "middle", &words);
    }
    body += &format!(
        "<path class=\"cut\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>\n",
        x(1.0),
        y(1.0),
        x(most),
        y(most)
    );
    body += &text(x(most) + 10.0, y(most) + 4.0, "label", "start", "ideal");
    // Names side by side with their ends, pushed apart where ends are close.
    let mut ends: Vec<(f64, usize)> = curves
        .iter()
        .enumerate()
        .filter_map(|(i, curve)| Some((y(curve.points.last()?.1), i)))
        .collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut lowest = y(most) + 4.0;
    for (end, i) in ends {
        let curve = &curves[i];
        let class = CLASSES[i % CLASSES.len()];
        let path: Vec<String> = curve
            .points
            .iter()
            .map(|&(threads, factor)| format!("{:.1} {:.1}", x(threads), y(factor)))
            .collect();
        body += &format!(
            "<path class=\"line stroke-{class}\" d=\"M{}\"/>\n",
            path.join("L")
        );
        for &(threads, factor) in &curve.points {
            body += &format!(
                "<circle class=\"bar-{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"/>\n",
                x(threads),
                y(factor)
            );
        }
        lowest = (end + 4.0).max(lowest + 15.0);
        let factor = curve.points.last().map_or(1.0, |p| p.1);
        let words = format!("{} {factor:.2}x", curve.label);
        body += &text(x(most) + 10.0, lowest, "value", "start", &words);
    }
    document(TOP + PLOT + 34.0, title, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_have_names_and_points() {
        let curve = |label: &str, factor| Curve {
            label: label.to_owned(),
            points: vec![(1.0, 1.0), (2.0, factor)],
        };
        let svg = curves("t", &[curve("A", 1.9), curve("B", 1.91)]);
        assert_eq!(svg.matches("<circle").count(), 4);
        assert!(svg.contains("A 1.90x") && svg.contains("ideal") && !svg.contains("NaN"));
        let one = curves(
            "t",
            &[Curve {
                label: "A".to_owned(),
                points: vec![(1.0, 1.0)],
            }],
        );
        assert!(one.contains("1 thread") && !one.contains("NaN"));
        assert_eq!(curves("t", &[]), "");
    }
}
