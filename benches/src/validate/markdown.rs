//! The validation as Markdown, made for a pull request; what the terminal shows is the same text.

use super::schema::{Validation, WorkloadSteps};
use super::sheets::sheets;
use super::words::{amdahl, combined};
use crate::report::significant;
use crate::sides::Optimization;

/// The text of `report.md`.
pub(super) fn markdown(report: &Validation) -> String {
    let machine = &report.machine;
    let mut out = format!(
        "# Validation by `{}`\n\n{}, {} on {} of {} cores, {}, {}, commit {}, {}, {:.0} s.\n",
        report.command,
        machine.cpu,
        machine.isa,
        machine.threads,
        machine.cores,
        machine.system,
        machine.rustc,
        machine.commit,
        report.date,
        report.seconds,
    );
    if let Some(warning) = machine.load_warning() {
        out += &format!("\n{warning}\n");
    }
    out += "\n## Checklist\n\n";
    for check in &report.checklist {
        out += &format!(
            "- {} {}: {}\n",
            check.state.mark(),
            check.item,
            check.evidence
        );
    }
    out += "\n## Training steps\n\n";
    for steps in &report.workloads {
        for suffix in [":f32", ""] {
            if let Some(sentence) = combined(steps, suffix) {
                out += &format!("- {sentence}\n");
            }
        }
    }
    for steps in &report.workloads {
        out += &workload(steps);
    }
    out += "\n## Claims\n\n| claim | bench | against | expected | measured | verdict |\n|---|---|---|---|---|---|\n";
    for verdict in &report.claims {
        let measured = verdict.measured.map_or("-".to_owned(), |m| {
            let unit = if verdict.unit == "x" {
                "x".to_owned()
            } else {
                format!(" {}", verdict.unit)
            };
            format!(
                "{}{unit} ({}-{}, {} samples)",
                significant(m.median),
                significant(m.low),
                significant(m.high),
                verdict.samples
            )
        });
        let why = verdict
            .why
            .as_ref()
            .map_or(String::new(), |why| format!(": {why}"));
        out += &format!(
            "| {} | {} | {} | {} | {measured} | {}{why} |\n",
            verdict.claim,
            verdict.bench,
            verdict.baseline.as_deref().unwrap_or("-"),
            verdict.expected,
            verdict.outcome.words(),
        );
    }
    out += "\n## Performance comparison\n";
    for sheet in sheets(&report.workloads) {
        out += &format!("\n```text\n{}```\n", sheet.text());
    }
    out += "\n## Baselines\n\n";
    for baseline in &report.baselines {
        out += &format!("- {} {}\n", baseline.letter, baseline.words);
    }
    out += "\nAll sides of a workload took turns in one process. Ratios are medians of the ratios of a round, in brackets their 95 % \
            interval, which with fewer than six rounds is their range.\n";
    out
}

fn workload(steps: &WorkloadSteps) -> String {
    let mut out = format!(
        "\n### {}\n\n{}. Measured on {}, commit {}, load {}.\n\n",
        steps.name,
        steps.summary,
        steps.date,
        steps.commit,
        steps
            .load
            .map_or("unknown".to_owned(), |load| format!("{load:.1}")),
    );
    out += "| side | windows | ms/step | fastest | windows/s | peak MiB | loss of the first step |\n|---|---:|---:|---:|---:|---:|---:|\n";
    for (group, note) in [(&steps.full, ""), (&steps.few, " (few windows)")] {
        for times in &group.sides {
            let memory = steps.memory.iter().find(|m| m.side == times.side);
            let loss = steps.losses.iter().find(|l| l.side == times.side);
            let of_full = note.is_empty();
            out += &format!(
                "| {}{note} | {} | {} | {} | {} | {} | {} |\n",
                times.side,
                group.windows,
                significant(times.step.median),
                significant(times.step.min),
                significant(group.windows as f64 / times.step.median * 1e3),
                memory
                    .filter(|_| of_full)
                    .map_or("-".to_owned(), |m| significant(m.value.median)),
                loss.filter(|_| of_full)
                    .map_or("-".to_owned(), |l| format!("{:.6}", l.loss)),
            );
        }
    }
    out += "\n| optimization | alone | left out costs | stage |\n|---|---:|---:|---:|\n";
    for optimization in Optimization::ALL {
        let name = optimization.name();
        let cell = |kind: &str| {
            steps
                .factor(&format!("{kind}:{name}"))
                .map_or("-".to_owned(), |f| {
                    let mark = if f.same_windows { "" } else { " (per window)" };
                    format!("{:.2}x{mark}", f.ratio.median)
                })
        };
        out += &format!(
            "| {} | {} | {} | {} |\n",
            optimization.title(),
            cell("alone"),
            cell("without"),
            cell("stage")
        );
    }
    if let Some(explanation) = amdahl(steps) {
        out += &format!("\n{explanation}\n");
    }
    if let Some(latency) = &steps.latency {
        out += &format!(
            "\nA forecast of one window takes {} ms.\n",
            significant(latency.median)
        );
    }
    out
}
