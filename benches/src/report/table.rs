//! The rows of a workload, and the table on the terminal.

use super::format::{count, significant};
use super::{ModelResult, Workload};

/// The columns of every table.
pub(super) const HEADERS: [&str; 8] = [
    "model",
    "parameters",
    "ms/step",
    "windows/s",
    "test MAE",
    "vs naive",
    "peak MiB",
    "vs baseline",
];

/// One row per model, in the order of the columns.
pub(super) fn rows(workload: &Workload) -> Vec<[String; HEADERS.len()]> {
    workload
        .results
        .iter()
        .map(|result| row(workload, result))
        .collect()
}

fn row(workload: &Workload, result: &ModelResult) -> [String; HEADERS.len()] {
    [
        result.model.clone(),
        count(result.parameters),
        significant(result.step.median),
        count(result.throughput.median.round() as usize),
        significant(result.mae.median),
        if workload.naive_mae > 0.0 {
            format!("{:.2}", result.mae.median / workload.naive_mae)
        } else {
            "-".to_owned()
        },
        match &result.peak_memory {
            Some(memory) => significant(memory.median),
            None => "not measured".to_owned(),
        },
        match &result.speedup {
            Some(speedup) => format!("{}x", significant(speedup.ratio.median)),
            None => "not measured".to_owned(),
        },
    ]
}

/// What a workload is, in one line.
pub(super) fn description(workload: &Workload) -> String {
    format!(
        "{}: {} series, {} rows in all, frequency {}, horizon {}, input {}, seasonal naive MAE {}",
        workload.source,
        count(workload.series),
        count(workload.rows),
        workload.frequency,
        workload.horizon,
        workload.input_size,
        significant(workload.naive_mae),
    )
}

/// The table of a workload with aligned columns.
#[must_use]
pub fn terminal_table(workload: &Workload) -> String {
    let rows = rows(workload);
    let widths: Vec<usize> = (0..HEADERS.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([HEADERS[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &[&str]| {
        let mut out = format!("{:<width$}", cells[0], width = widths[0]);
        for (cell, width) in cells.iter().zip(&widths).skip(1) {
            out += &format!("  {cell:>width$}");
        }
        out.trim_end().to_owned() + "\n"
    };
    let mut out = format!("{}\n", description(workload));
    let head = line(&HEADERS);
    out += &head;
    out += &format!("{}\n", "-".repeat(head.trim_end().chars().count()));
    for row in &rows {
        out += &line(&row.each_ref().map(String::as_str));
    }
    for failure in &workload.failures {
        out += &format!("{}: {}\n", failure.model, failure.message);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn a_row_says_what_was_measured() {
        let report = sample();
        let rows = rows(&report.workloads[0]);
        let wanted = [
            "NLinear", "2,328", "1.50", "170,667", "0.500", "0.33", "31.2", "10.0x",
        ];
        assert_eq!(rows[0], wanted.map(str::to_owned));
    }

    #[test]
    fn what_was_not_measured_is_said_so() {
        let mut report = sample();
        let workload = &mut report.workloads[0];
        workload.results[0].peak_memory = None;
        workload.results[0].speedup = None;
        workload.naive_mae = 0.0;
        let row = &rows(workload)[0];
        assert_eq!(
            row[5..],
            ["-", "not measured", "not measured"].map(str::to_owned)
        );
    }

    #[test]
    fn columns_are_aligned_and_failures_named() {
        let report = sample();
        let table = terminal_table(&report.workloads[0]);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[1].len(), lines[3].len(), "{table}");
        assert!(table.contains("LSTM: too few rows"), "{table}");
    }
}
