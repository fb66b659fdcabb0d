//! The report as Markdown.

use super::Report;
use super::table::{HEADERS, description, rows, without_naive};

/// The text of `report.md`.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let machine = &report.machine;
    let mut out = format!(
        "# Measured by `{}`\n\n{}, {} on {} of {} cores, {}, {}, commit {}, {}, {:.0} s.\n",
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
    for workload in &report.workloads {
        out += &format!("\n## {}\n\n{}.\n\n", workload.name, description(workload));
        out += &line(&HEADERS.map(str::to_owned));
        out += "|---|---:|---:|---:|---:|---:|---:|---:|---:|\n";
        for row in rows(workload) {
            out += &line(&row);
        }
        if let Some(why) = without_naive(workload) {
            out += &format!("\n{why}\n");
        }
        for notice in &workload.notices {
            out += &format!("\nNote: {notice}.\n");
        }
        for failure in &workload.failures {
            out += &format!(
                "\n{} could not be trained: {}\n",
                failure.model, failure.message
            );
        }
    }
    if let Some(warning) = machine.load_warning() {
        out += &format!("\n{warning}\n");
    }
    out += &format!(
        "\nTimes are medians; `report.json` has the smallest value and the spread of each. Test MAE is the mean absolute \
         error over the forecasts of each series' last rows, which training has not seen; \"vs naive\" divides it by that \
         of the seasonal naive forecast of the same rows. Peak MiB is the largest resident memory of a process that trains and tests this \
         model alone.\n\nBaseline: {}\n\n![Forecasts](forecasts.svg)\n",
        report.baseline
    );
    out
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn every_table_has_as_many_cells_as_headers() {
        let text = markdown(&sample());
        let tables: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(tables.len(), 3);
        let bars = HEADERS.len() + 1;
        assert!(
            tables.iter().all(|line| line.matches('|').count() == bars),
            "{text}"
        );
    }

    #[test]
    fn command_machine_and_baseline_are_named() {
        let report = sample();
        let text = markdown(&report);
        for part in [
            &report.command,
            &report.machine.cpu,
            &report.baseline,
            &report.machine.rustc,
        ] {
            assert!(text.contains(part.as_str()), "{part} is missing in {text}");
        }
    }
}
