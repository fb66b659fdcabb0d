//! The chart of forecasts against what happened.
//!
//! One section per workload, one small panel per model on common axes, so that lines of different models never cover
//! each other. The file follows the reader's light or dark theme by a media query. Nothing is drawn where nothing was
//! observed.

mod axis;

use crate::report::{ForecastExample, ModelResult, Workload, significant};
use axis::Axis;

/// Panels side by side.
const COLUMNS: usize = 4;
/// The plotting area of a panel.
const PANEL: (f64, f64) = (216.0, 132.0);
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
const WIDTH: f64 = LEFT + COLUMNS as f64 * PANEL.0 + (COLUMNS - 1) as f64 * GAP + RIGHT;

const STYLE: &str = "
  svg { --page: #ffffff; --ink: #1c1f24; --soft: #666d78; --grid: #e6e8ec; --frame: #c3c8d0;
        --actual: #1c1f24; --forecast: #d4541b; --naive: #3d7fc4; --future: #f6f4ee; }
  @media (prefers-color-scheme: dark) {
    svg { --page: #15181d; --ink: #eceef1; --soft: #9aa2ae; --grid: #2a2f37; --frame: #454c57;
          --actual: #eceef1; --forecast: #ff8a4c; --naive: #6cb0f5; --future: #1e2229; }
  }
  text { font: 11px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; fill: var(--soft); }
  .heading { font-size: 16px; font-weight: 600; fill: var(--ink); }
  .title { font-size: 12.5px; font-weight: 600; fill: var(--ink); }
  .page { fill: var(--page); } .future { fill: var(--future); }
  .grid { stroke: var(--grid); stroke-width: 1; }
  .frame { fill: none; stroke: var(--frame); stroke-width: 1; }
  .cut { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 2 3; }
  .line { fill: none; stroke-linejoin: round; stroke-linecap: round; }
  .actual { stroke: var(--actual); stroke-width: 1.4; }
  .forecast { stroke: var(--forecast); stroke-width: 2.2; }
  .naive { stroke: var(--naive); stroke-width: 1.4; stroke-dasharray: 4 3; }
";

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
    let height = y + 8.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" width=\"{WIDTH:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"Forecasts against what happened\">\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"100%\" height=\"100%\"/>\n{body}</svg>\n"
    )
}

fn section_height(workload: &Workload) -> f64 {
    let rows = workload.results.len().div_ceil(COLUMNS) as f64;
    HEADING + rows * (TITLE + PANEL.1 + BELOW) + 14.0
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
        x += 28.0 + 7.0 * label.len() as f64 + 14.0;
    }
    let axis = value_axis(workload);
    for (i, result) in workload.results.iter().enumerate() {
        let (row, column) = (i / COLUMNS, i % COLUMNS);
        let left = LEFT + column as f64 * (PANEL.0 + GAP);
        let above = top + HEADING + row as f64 * (TITLE + PANEL.1 + BELOW) + TITLE;
        out += &panel(workload, result, &axis, (left, above), column == 0);
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

fn panel(
    workload: &Workload,
    result: &ModelResult,
    axis: &Axis,
    (left, top): (f64, f64),
    labelled: bool,
) -> String {
    let example = &result.forecast;
    let place = Place {
        left,
        top,
        axis,
        points: example.actual.len(),
    };
    let cut = example.actual.len() - example.forecast.len();
    let cut_x = place.x(cut as f64 - 0.5);
    let (right, bottom) = (left + PANEL.0, top + PANEL.1);
    let mut out = format!(
        "<rect class=\"future\" x=\"{cut_x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>\n",
        right - cut_x,
        PANEL.1
    );
    for tick in axis.ticks() {
        let y = place.y(tick);
        out += &format!("<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>\n");
        if labelled {
            out += &text(left - 8.0, y + 4.0, "label", "end", &axis.label(tick));
        }
    }
    for (index, anchor) in time_ticks(cut, example.actual.len()) {
        let x = place.x(index as f64);
        out += &format!("<path class=\"grid\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>\n");
        out += &text(
            x,
            bottom + 16.0,
            "label",
            anchor,
            &short_time(&example.ds, index),
        );
    }
    out += &format!("<path class=\"cut\" d=\"M{cut_x:.1} {top:.1}V{bottom:.1}\"/>\n");
    out += &format!(
        "<rect class=\"frame\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>\n",
        PANEL.0, PANEL.1
    );
    // Unique in the file: no two panels share a corner.
    let clip = format!("clip-{left:.0}-{top:.0}");
    out += &format!(
        "<clipPath id=\"{clip}\"><rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/></clipPath>\n\
         <g clip-path=\"url(#{clip})\">\n{}</g>\n",
        PANEL.0,
        PANEL.1,
        lines(example, cut, &place)
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

/// The first row, the first forecast and the last row, and how their labels are anchored.
fn time_ticks(cut: usize, points: usize) -> Vec<(usize, &'static str)> {
    let mut ticks = vec![(0, "start")];
    // Labels of about a third of the panel must not touch each other.
    if cut * 3 > points && (points - cut) * 4 > points {
        ticks.push((cut, "middle"));
    }
    if points > 1 {
        ticks.push((points - 1, "end"));
    }
    ticks
}

/// A time stamp without the part that all of them end in (` 00:00:00` of days, `:00` of seconds).
fn short_time(ds: &[String], index: usize) -> String {
    let stamp = &ds[index];
    let mut common = stamp.len();
    for suffix in ["T00:00:00", " 00:00:00", ":00"] {
        if ds.iter().all(|other| other.ends_with(suffix)) {
            common = stamp.len() - suffix.len();
            break;
        }
    }
    stamp[..common].to_owned()
}

/// Where things of a panel are drawn.
struct Place<'a> {
    left: f64,
    top: f64,
    axis: &'a Axis,
    points: usize,
}

impl Place<'_> {
    fn x(&self, index: f64) -> f64 {
        self.left + PANEL.0 * (index / (self.points.max(2) - 1) as f64).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + PANEL.1 * (1.0 - self.axis.place(value))
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
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
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
    fn time_stamps_lose_what_all_have_in_common() {
        let days: Vec<String> = ["2020-01-01 00:00:00", "2020-01-02 00:00:00"]
            .map(str::to_owned)
            .into();
        assert_eq!(short_time(&days, 1), "2020-01-02");
        let hours: Vec<String> = ["2020-01-01 00:00:00", "2020-01-01 01:00:00"]
            .map(str::to_owned)
            .into();
        assert_eq!(short_time(&hours, 1), "2020-01-01 01:00");
        let numbers: Vec<String> = ["7", "8"].map(str::to_owned).into();
        assert_eq!(short_time(&numbers, 0), "7");
    }
}
