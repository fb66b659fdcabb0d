//! Charts: forecasts against what happened (here), bars, waterfalls and curves (each in its file).
//!
//! One section per workload, one small panel per model on common axes, so that lines of different models never cover
//! each other; a few models have wider panels. The file follows the reader's light or dark theme by a media query, in plain
//! colours: programs that know neither media queries nor variables of CSS show the light one. Nothing is drawn where nothing
//! was observed.

mod axis;
mod bars;
mod curve;
mod times;
mod waterfall;

pub use bars::{Bar, bars};
pub use curve::{Curve, curves};
pub use waterfall::{Stage, waterfall};

use crate::page::escaped;
use crate::report::{ForecastExample, ModelResult, Workload, significant};
use axis::Axis;
use times::{label_width, time_labels};

/// Panels side by side, at most.
const COLUMNS: usize = 4;
/// The height of a panel beside none, one, two or three others.
const HEIGHTS: [f64; COLUMNS] = [300.0, 220.0, 164.0, 132.0];
/// Space left of the first panel, for the labels of its axis.
const LEFT: f64 = 68.0;
const RIGHT: f64 = 24.0;
/// Between two panels.
const GAP: f64 = 22.0;
/// Above each panel, for its title.
const TITLE: f64 = 30.0;
/// Below each panel, for the labels of its axis.
const BELOW: f64 = 34.0;
/// Above each section, for its heading and legend.
const HEADING: f64 = 62.0;
/// How far beyond what happened the axis follows a forecast, in shares of the range of what happened.
const ASTRAY: f64 = 0.4;
/// The width of the file.
const WIDTH: f64 = 1022.0;

const STYLE: &str = "
  text { font: 11px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; fill: #666d78; }
  .heading { font-size: 16px; font-weight: 600; fill: #1c1f24; }
  .title { font-size: 12.5px; font-weight: 600; fill: #1c1f24; }
  .page { fill: #ffffff; } .future { fill: #f6f4ee; }
  .grid { stroke: #e6e8ec; stroke-width: 1; }
  .frame { fill: none; stroke: #c3c8d0; stroke-width: 1; }
  .cut { stroke: #666d78; stroke-width: 1; stroke-dasharray: 2 3; }
  .line { fill: none; stroke-linejoin: round; stroke-linecap: round; }
  .actual { stroke: #1c1f24; stroke-width: 1.4; }
  .forecast { stroke: #d4541b; stroke-width: 2.2; }
  .naive { stroke: #3d7fc4; stroke-width: 1.4; stroke-dasharray: 4 3; }
  .value { fill: #1c1f24; } .whisker { stroke: #1c1f24; stroke-width: 1.2; }
  .bar-one { fill: #d4541b; } .bar-two { fill: #3d7fc4; } .bar-three { fill: #4b9b6b; } .bar-four { fill: #8a63b8; }
  .stroke-one { stroke: #d4541b; stroke-width: 2; } .stroke-two { stroke: #3d7fc4; stroke-width: 2; }
  .stroke-three { stroke: #4b9b6b; stroke-width: 2; } .stroke-four { stroke: #8a63b8; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9aa2ae; } .heading, .title { fill: #eceef1; }
    .page { fill: #15181d; } .future { fill: #1e2229; }
    .grid { stroke: #2a2f37; } .frame { stroke: #454c57; } .cut { stroke: #9aa2ae; }
    .value { fill: #eceef1; } .whisker { stroke: #eceef1; }
    .actual { stroke: #eceef1; } .forecast { stroke: #ff8a4c; } .naive { stroke: #6cb0f5; }
  }
";

/// How the panels of a workload are laid out.
#[derive(Clone, Copy, Debug)]
struct Grid {
    columns: usize,
    /// The plotting area of a panel.
    panel: (f64, f64),
}

impl Grid {
    /// As many panels side by side as there are, and as wide as that leaves room for.
    fn of(models: usize) -> Self {
        let columns = models.clamp(1, COLUMNS);
        let gaps = (columns - 1) as f64 * GAP;
        Self {
            columns,
            panel: (
                (WIDTH - LEFT - RIGHT - gaps) / columns as f64,
                HEIGHTS[columns - 1],
            ),
        }
    }

    /// From the top of one row of panels to that of the next.
    fn row(self) -> f64 {
        TITLE + self.panel.1 + BELOW
    }

    /// The left upper corner of a panel, counted from the first row's.
    fn corner(self, index: usize) -> (f64, f64) {
        let (row, column) = (index / self.columns, index % self.columns);
        let left = LEFT + column as f64 * (self.panel.0 + GAP);
        (left, row as f64 * self.row() + TITLE)
    }
}

/// The text of `forecasts.svg`.
#[must_use]
pub fn forecasts(workloads: &[Workload]) -> String {
    let shown: Vec<&Workload> = workloads.iter().filter(|w| !w.results.is_empty()).collect();
    let mut body = String::new();
    let mut y = 12.0;
    for workload in shown {
        body += &section(workload, y);
        y += section_height(workload);
    }
    document(y + 8.0, "Forecasts against what happened", &body)
}

/// A file of its own: everything between its tags.
fn document(height: f64, title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" width=\"{WIDTH:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"100%\" height=\"100%\"/>\n{body}</svg>\n"
    )
}

fn section_height(workload: &Workload) -> f64 {
    let grid = Grid::of(workload.results.len());
    let rows = workload.results.len().div_ceil(grid.columns) as f64;
    HEADING + rows * grid.row() + 14.0
}

/// The heading, the legend and the panels of a workload.
fn section(workload: &Workload, top: f64) -> String {
    let series = &workload.results[0].forecast.series;
    let mut out = text(
        LEFT,
        top + 20.0,
        "heading",
        "start",
        &format!(
            "{}, {} steps ahead: series {series}",
            workload.name, workload.horizon
        ),
    );
    let mut x = LEFT;
    for (class, label) in [
        ("actual", "what happened"),
        ("forecast", "forecast"),
        ("naive", "seasonal naive"),
    ] {
        let y = top + 41.0;
        out += &format!(
            "<path class=\"line {class}\" d=\"M{x:.1} {:.1}h22\"/>\n",
            y - 4.0
        );
        out += &text(x + 28.0, y, "label", "start", label);
        x += 28.0 + label_width(label) + 20.0;
    }
    let axis = value_axis(workload);
    let grid = Grid::of(workload.results.len());
    for (i, result) in workload.results.iter().enumerate() {
        let (left, above) = grid.corner(i);
        let place = Place {
            left,
            top: top + HEADING + above,
            size: grid.panel,
            axis: &axis,
            points: result.forecast.actual.len(),
        };
        out += &panel(workload, result, &place, i % grid.columns == 0);
    }
    out
}

/// The axis of values that holds what happened in a workload's panels, and forecasts that are not far from it.
///
/// One forecast that has gone astray must not flatten all the others; its line is cut at the panel's edge.
fn value_axis(workload: &Workload) -> Axis {
    let examples = || workload.results.iter().map(|result| &result.forecast);
    let finite = |x: &f64| x.is_finite();
    let truth: Vec<f64> = examples()
        .flat_map(|example| example.actual.iter().flatten().chain(&example.naive))
        .copied()
        .filter(finite)
        .collect();
    let low = truth.iter().copied().fold(f64::INFINITY, f64::min);
    let high = truth.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let room = ASTRAY * (high - low);
    let forecasts = examples()
        .flat_map(|example| &example.forecast)
        .copied()
        .filter(finite)
        .map(|x| {
            if truth.is_empty() {
                x
            } else {
                x.clamp(low - room, high + room)
            }
        });
    Axis::around(truth.iter().copied().chain(forecasts))
}

fn panel(workload: &Workload, result: &ModelResult, place: &Place<'_>, labelled: bool) -> String {
    let example = &result.forecast;
    let (left, top, size) = (place.left, place.top, place.size);
    let cut = example.actual.len() - example.forecast.len();
    let cut_x = place.x(cut as f64 - 0.5);
    let (right, bottom) = (left + size.0, top + size.1);
    let mut out = format!(
        "<rect class=\"future\" x=\"{cut_x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>\n",
        right - cut_x,
        size.1
    );
    for tick in place.axis.ticks() {
        let y = place.y(tick);
        out += &format!("<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>\n");
        if labelled {
            out += &text(left - 8.0, y + 4.0, "label", "end", &place.axis.label(tick));
        }
    }
    for label in time_labels(
        &example.ds,
        cut,
        |index| place.x(index as f64) - left,
        size.0,
    ) {
        let x = place.x(label.index as f64);
        out += &format!("<path class=\"grid\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>\n");
        out += &text(x, bottom + 16.0, "label", label.anchor, &label.words);
    }
    out += &format!("<path class=\"cut\" d=\"M{cut_x:.1} {top:.1}V{bottom:.1}\"/>\n");
    out += &format!(
        "<rect class=\"frame\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>\n",
        size.0, size.1
    );
    // Unique in the file: no two panels share a corner.
    let clip = format!("clip-{left:.0}-{top:.0}");
    out += &format!(
        "<clipPath id=\"{clip}\"><rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/></clipPath>\n\
         <g clip-path=\"url(#{clip})\">\n{}</g>\n",
        size.0,
        size.1,
        lines(example, cut, place)
    );
    out += &text(left, top - 9.0, "title", "start", &result.model);
    let errors = format!(
        "MAE {} (naive {})",
        significant(result.mae.median),
        significant(workload.naive_mae)
    );
    out + &text(right, top - 9.0, "label", "end", &errors)
}

fn lines(example: &ForecastExample, cut: usize, place: &Place<'_>) -> String {
    let whole = |values: &[f64]| -> Vec<Option<f64>> { values.iter().map(|&x| Some(x)).collect() };
    let mut out = line("naive", &whole(&example.naive), cut, place);
    out += &line("actual", &example.actual, 0, place);
    out + &line("forecast", &whole(&example.forecast), cut, place)
}

/// Where things of a panel are drawn.
struct Place<'a> {
    left: f64,
    top: f64,
    /// Width and height.
    size: (f64, f64),
    axis: &'a Axis,
    points: usize,
}

impl Place<'_> {
    fn x(&self, index: f64) -> f64 {
        self.left + self.size.0 * (index / (self.points.max(2) - 1) as f64).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + self.size.1 * (1.0 - self.axis.place(value))
    }
}

/// A line through the values from row `first` on, interrupted where there is none.
fn line(class: &str, values: &[Option<f64>], first: usize, place: &Place<'_>) -> String {
    let mut path = String::new();
    let mut pen = 'M';
    for (i, value) in values.iter().enumerate() {
        match value {
            Some(value) if value.is_finite() => {
                let (x, y) = (place.x((first + i) as f64), place.y(*value));
                path += &format!("{pen}{x:.1} {y:.1}");
                pen = 'L';
            }
            _ => pen = 'M',
        }
    }
    format!("<path class=\"line {class}\" d=\"{path}\"/>\n")
}

fn text(x: f64, y: f64, class: &str, anchor: &str, words: &str) -> String {
    let words = escaped(words);
    format!(
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn every_model_has_a_panel_with_its_lines_and_names_are_escaped() {
        let report = sample();
        let svg = forecasts(&report.workloads);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("NLinear") && svg.contains("a&lt;b") && !svg.contains("a<b"));
        for class in ["line actual", "line forecast", "line naive"] {
            // Once in the legend, once in the panel.
            assert_eq!(svg.matches(&format!("\"{class}\"")).count(), 2, "{class}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_gap_interrupts_the_line() {
        let axis = Axis::around([0.0, 1.0].into_iter());
        let place = Place {
            left: 0.0,
            top: 0.0,
            size: (100.0, 50.0),
            axis: &axis,
            points: 4,
        };
        let path = line(
            "actual",
            &[Some(0.0), None, Some(1.0), Some(f64::NAN)],
            0,
            &place,
        );
        assert_eq!(path.matches('M').count(), 2, "{path}");
        assert_eq!(path.matches('L').count(), 0, "{path}");
    }

    #[test]
    fn values_lie_within_their_panel() {
        let report = sample();
        let axis = value_axis(&report.workloads[0]);
        for value in [1.0, 5.0] {
            assert!((0.0..=1.0).contains(&axis.place(value)));
        }
        let mut astray = report.clone();
        astray.workloads[0].results[0].forecast.forecast[0] = -1e6;
        assert!(value_axis(&astray.workloads[0]).place(5.0) > 0.5);
        let nothing = forecasts(&[]);
        assert!(nothing.contains("</svg>"));
    }

    #[test]
    fn colours_are_plain_and_every_class_has_one() {
        assert!(!STYLE.contains("var(") && !STYLE.contains("--"), "{STYLE}");
        let light = STYLE.split("@media").next().unwrap();
        for class in [
            ".page",
            ".future",
            ".grid",
            ".frame",
            ".cut",
            ".actual",
            ".forecast",
            ".naive",
        ] {
            let rule = light.split(&format!("{class} {{")).nth(1).unwrap();
            assert!(rule.split('}').next().unwrap().contains('#'), "{class}");
        }
    }

    #[test]
    fn panels_fill_the_width_and_do_not_overlap() {
        for models in 1..=9 {
            let grid = Grid::of(models);
            let last = grid.corner(grid.columns - 1).0 + grid.panel.0;
            assert!(
                (last - (WIDTH - RIGHT)).abs() < 1e-9,
                "{models} models end at {last}"
            );
            for model in 0..models {
                let (left, top) = grid.corner(model);
                assert!(left >= LEFT && left + grid.panel.0 <= WIDTH && top >= TITLE);
            }
        }
        assert_eq!(Grid::of(7).columns, 4);
        assert!(Grid::of(1).panel.0 > 900.0);
    }
}
