//! The rows of a workload, and the table on the terminal.

use super::format::{count, ratio, significant};
use super::{ModelResult, Workload};

/// The columns of every table.
pub(super) const HEADERS: [&str; 9] = [
    "model",
    "parameters",
    "steps",
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
        count(result.training_steps),
        significant(result.step.median),
        count(result.throughput.median.round() as usize),
        significant(result.mae.median),
        if workload.naive_mae > 0.0 {
            ratio(result.mae.median / workload.naive_mae)
        } else {
            "-".to_owned()
        },
        match &result.peak_memory {
            Some(memory) => significant(memory.median),
            None => "not measured".to_owned(),
        },
        match &result.speedup {
            Some(speedup) => format!(
                "{}x ({}-{}x, {} turns)",
                significant(speedup.ratio.median),
                significant(speedup.interval.low),
                significant(speedup.interval.high),
                speedup.ratio.samples
            ),
            None => "not measured".to_owned(),
        },
    ]
}

/// What a workload is, in one line.
pub(super) fn description(workload: &Workload) -> String {
    format!(
        "{}: {} series, {} rows in all, frequency {}, horizon {}, input {}, season {}, {} test windows a series, seasonal \
         naive MAE {}",
        workload.source,
        count(workload.series),
        count(workload.rows),
        workload.frequency,
        workload.horizon,
        workload.input_size,
        workload.season,
        workload.test_windows,
        significant(workload.naive_mae),
    )
}

/// Why a workload has no ratio to the naive forecast; `None` when it has one.
pub(super) fn without_naive(workload: &Workload) -> Option<&'static str> {
    let exact = workload.naive_mae == 0.0;
    exact.then_some("\"vs naive\" is \"-\": the seasonal naive forecast makes no error here, so nothing can be divided by it.")
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
    if let Some(why) = without_naive(workload) {
        out += &format!("{why}\n");
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
            "NLinear",
            "2,328",
            "100",
            "1.50",
            "170,667",
            "0.500",
            "0.33",
            "31.2",
            "10.0x (9.00-11.0x, 3 turns)",
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
        assert!(terminal_table(workload).contains("\"vs naive\" is \"-\""));
        let row = &rows(workload)[0];
        assert_eq!(
            row[6..],
            ["-", "not measured", "not measured"].map(str::to_owned)
        );
    }

    #[test]
    fn columns_are_aligned_and_failures_named() {
        let report = sample();
        let table = terminal_table(&report.workloads[0]);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[1].len(), lines[2].len(), "{table}");
        assert_eq!(lines[1].len(), lines[3].len(), "{table}");
        assert!(lines[0].contains("season 2, 1 test windows"), "{table}");
        assert!(!table.contains("\"-\""), "{table}");
        assert!(table.contains("LSTM: too few rows"), "{table}");
    }
}
