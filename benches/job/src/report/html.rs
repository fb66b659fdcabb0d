//! The main job's report as one page that needs nothing else.

use super::Report;
use super::table::{HEADERS, description, rows, without_naive};
use crate::page::{escaped, page, table};
use crate::svg::{Bar, bars, forecasts};

/// The text of `report.html`.
#[must_use]
pub fn html(report: &Report) -> String {
    let machine = &report.machine;
    let mut body = format!(
        "<p class=\"meta\">{}, {} on {} of {} cores, {}, {}, commit {}, {}, {:.0} s. Measured by <code>{}</code>.</p>\n",
        escaped(&machine.cpu),
        machine.isa,
        machine.threads,
        machine.cores,
        machine.system,
        escaped(&machine.rustc),
        machine.commit,
        report.date,
        report.seconds,
        escaped(&report.command),
    );
    if let Some(warning) = machine.load_warning() {
        body += &format!("<p class=\"warning\">{}</p>\n", escaped(&warning));
    }
    for workload in &report.workloads {
        body += &format!(
            "<h2>{}</h2>\n<p>{}.</p>\n",
            escaped(&workload.name),
            escaped(&description(workload))
        );
        let rows: Vec<Vec<String>> = rows(workload).into_iter().map(Vec::from).collect();
        body += &table(&HEADERS, &rows);
        let notes = workload
            .notices
            .iter()
            .map(|notice| format!("Note: {notice}."));
        let failures = workload.failures.iter();
        let failures = failures.map(|f| format!("{} could not be trained: {}", f.model, f.message));
        let naive = without_naive(workload).map(str::to_owned);
        for line in notes.chain(failures).chain(naive) {
            body += &format!("<p>{}</p>\n", escaped(&line));
        }
    }
    let speedups: Vec<Bar> = report
        .workloads
        .iter()
        .flat_map(|workload| {
            workload.results.iter().filter_map(|result| {
                let speedup = result.speedup.as_ref()?;
                Some(Bar {
                    group: workload.name.clone(),
                    label: result.model.clone(),
                    class: "one",
                    value: speedup.ratio.median,
                    range: (speedup.interval.low, speedup.interval.high),
                })
            })
        })
        .collect();
    if !speedups.is_empty() {
        body += "<h2>Against the baseline</h2>\n";
        body += &bars("A training step against the baseline", &speedups);
    }
    body += &format!(
        "<p class=\"meta\">Baseline: {}</p>\n",
        escaped(&report.baseline)
    );
    body += "<h2>Forecasts against what happened</h2>\n";
    body += &forecasts(&report.workloads);
    page("Neuro-Divergent: what was measured", &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn a_page_has_tables_charts_and_no_links() {
        let page = html(&sample());
        assert_eq!(page.matches("<svg").count(), 2);
        for part in ["NLinear", "a&lt;b", "too few rows", "textbook loops"] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("<script") && !page.contains("src="));
    }
}
