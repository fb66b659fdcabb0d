//! The validation as one page that needs nothing else: text, tables and charts in one file.

use super::schema::{Outcome, Validation, WorkloadSteps};
use super::sheets::sheets;
use super::words::{amdahl, combined};
use crate::page::{escaped, page, table};
use crate::report::significant;
use crate::sides::{Optimization, Side};
use crate::svg::{Bar, Curve, Stage, bars, curves, forecasts, waterfall};

/// The text of `report.html`.
pub(super) fn html(report: &Validation) -> String {
    let machine = &report.machine;
    let mut body = format!(
        "<p class=\"meta\">{}, {} on {} of {} cores, {}, {}, commit {}, {}. Measured by <code>{}</code>.</p>\n",
        escaped(&machine.cpu),
        machine.isa,
        machine.threads,
        machine.cores,
        machine.system,
        machine.rustc,
        machine.commit,
        report.date,
        escaped(&report.command),
    );
    if let Some(warning) = machine.load_warning() {
        body += &format!("<p class=\"warning\">{}</p>\n", escaped(&warning));
    }
    body += "<h2>How much faster</h2>\n";
    body += &bars(
        "A training step in f32 against each baseline",
        &speedups(report, ":f32"),
    );
    body += &bars("A training step with everything on", &speedups(report, ""));
    body += "<ul>\n";
    for steps in &report.workloads {
        for suffix in [":f32", ""] {
            if let Some(sentence) = combined(steps, suffix) {
                body += &format!("<li>{}</li>\n", escaped(&sentence));
            }
        }
    }
    body += "</ul>\n<ul class=\"meta\">\n";
    for baseline in &report.baselines {
        body += &format!(
            "<li>{} {}</li>\n",
            baseline.letter,
            escaped(&baseline.words)
        );
    }
    body += "</ul>\n<h2>What each optimization is worth</h2>\n";
    for steps in &report.workloads {
        body += &waterfall(
            &format!("{}: from textbook loops (a) to everything on", steps.name),
            &stages(steps),
        );
        body += &ablation(steps);
        if let Some(words) = amdahl(steps) {
            body += &format!("<p>{}</p>\n", escaped(&words));
        }
    }
    body += "<h2>Threads</h2>\n";
    body += &curves(
        "A step in f32 on more threads, against one",
        &report.workloads.iter().map(curve).collect::<Vec<_>>(),
    );
    body += "<h2>Checklist</h2>\n<ul class=\"checks\">\n";
    for check in &report.checklist {
        body += &format!(
            "<li><b>{} {}</b>: {}</li>\n",
            check.state.mark(),
            escaped(&check.item),
            escaped(&check.evidence)
        );
    }
    body += "</ul>\n<h2>Claims</h2>\n";
    body += &claims(report);
    body += "<h2>Performance comparison</h2>\n<div class=\"sheets\">\n";
    for sheet in sheets(&report.workloads) {
        body += &format!("<pre>{}</pre>\n", escaped(&sheet.text()));
    }
    body += "</div>\n<h2>Forecasts against what happened</h2>\n";
    body += &forecasts(&report.examples);
    page("Neuro-Divergent: validation", &body)
}

/// A bar for each workload and baseline.
fn speedups(report: &Validation, suffix: &str) -> Vec<Bar> {
    let mut found = Vec::new();
    for steps in &report.workloads {
        for (name, letter, class) in [
            ("combined", "textbook loops (a)", "one"),
            ("against:b", "i-k-j loops (b)", "two"),
            ("against:c", "ndarray (c)", "three"),
        ] {
            if let Some(factor) = steps.factor(&format!("{name}{suffix}")) {
                found.push(Bar {
                    group: steps.name.clone(),
                    label: letter.to_owned(),
                    class,
                    value: factor.ratio.median,
                    range: (factor.ratio.low, factor.ratio.high),
                });
            }
        }
        if let Some(peer) = steps.peer.as_ref().filter(|peer| peer.same_machine) {
            let side = if suffix.is_empty() {
                Side::ALL
            } else {
                Side::ALL_F32
            };
            if let Some(ours) = steps.full.side(&side.to_string()) {
                let ratio = peer.ms / ours.step.median;
                found.push(Bar {
                    group: steps.name.clone(),
                    label: "NeuralForecast (d)".to_owned(),
                    class: "four",
                    value: ratio,
                    range: (ratio, ratio),
                });
            }
        }
    }
    found
}

fn stages(steps: &WorkloadSteps) -> Vec<Stage> {
    let stages = Optimization::ALL.map(|optimization| {
        let factor = steps.factor(&format!("stage:{}", optimization.name()))?;
        Some(Stage {
            label: optimization.title().to_owned(),
            factor: factor.ratio.median,
        })
    });
    stages.into_iter().flatten().collect()
}

fn curve(steps: &WorkloadSteps) -> Curve {
    let one = steps.scaling.first().map_or(f64::NAN, |t| t.step.median);
    Curve {
        label: steps.name.clone(),
        points: steps
            .scaling
            .iter()
            .map(|t| (t.threads as f64, one / t.step.median))
            .collect(),
    }
}

fn ablation(steps: &WorkloadSteps) -> String {
    let rows: Vec<Vec<String>> = Optimization::ALL
        .into_iter()
        .map(|optimization| {
            let cell = |kind: &str| {
                let factor = steps.factor(&format!("{kind}:{}", optimization.name()));
                factor.map_or("-".to_owned(), |f| {
                    let mark = if f.same_windows { "" } else { " per window" };
                    format!(
                        "{}x ({}-{}){mark}",
                        significant(f.ratio.median),
                        significant(f.ratio.low),
                        significant(f.ratio.high)
                    )
                })
            };
            vec![
                optimization.title().to_owned(),
                cell("alone"),
                cell("without"),
                cell("stage"),
            ]
        })
        .collect();
    table(
        &[
            "optimization",
            "alone",
            "what leaving it out costs",
            "as a stage of the chart",
        ],
        &rows,
    )
}

fn claims(report: &Validation) -> String {
    let rows: Vec<Vec<String>> = report
        .claims
        .iter()
        .map(|verdict| {
            let unit = if verdict.unit == "x" {
                "x".to_owned()
            } else {
                format!(" {}", verdict.unit)
            };
            let measured = verdict.measured.map_or("-".to_owned(), |m| {
                format!(
                    "{}{unit} ({}-{})",
                    significant(m.median),
                    significant(m.low),
                    significant(m.high)
                )
            });
            let mark = match verdict.outcome {
                Outcome::Holds => "holds",
                other => other.words(),
            };
            let why = verdict
                .why
                .as_ref()
                .map_or(String::new(), |why| format!(": {why}"));
            vec![
                verdict.claim.clone(),
                verdict.bench.clone(),
                verdict.baseline.clone().unwrap_or_default(),
                verdict.expected.clone(),
                measured,
                format!("{mark}{why}"),
            ]
        })
        .collect();
    table(
        &[
            "claim", "bench", "against", "expected", "measured", "verdict",
        ],
        &rows,
    )
}
