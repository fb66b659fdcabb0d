//! The table on standard output, and the same as JSON.

use std::path::Path;

use nd_bench::machine::Machine;
use nd_bench::report::significant;
use nd_core::SimdLevel;
use serde::Serialize;

use crate::row::Outcome;

/// Outcomes, printed as they come.
#[derive(Default)]
pub(crate) struct Table {
    outcomes: Vec<Outcome>,
}

#[derive(Serialize)]
struct Record<'a> {
    machine: Machine,
    rows: &'a [Outcome],
}

impl Table {
    /// Prints a line, and the head of its group before the first.
    pub(crate) fn add(&mut self, outcome: Outcome) {
        let previous = self.outcomes.last();
        if previous.is_none_or(|last| last.group != outcome.group) {
            self.summary();
            println!(
                "\n{} ({}, {} thread(s))\n",
                outcome.group, outcome.unit, outcome.threads
            );
            println!(
                "| row | ours | ns/element | share of limit | fastest peer | ours / peer | 95 % | all peers |"
            );
            println!("|---|---|---|---|---|---|---|---|");
        }
        println!("{}", line(&outcome));
        self.outcomes.push(outcome);
    }

    /// The geometric mean of the last group's ratios.
    fn summary(&self) {
        let Some(last) = self.outcomes.last() else {
            return;
        };
        let group = self
            .outcomes
            .iter()
            .filter(|outcome| outcome.group == last.group);
        let ratios: Vec<f64> = group
            .filter_map(|outcome| outcome.against.as_ref())
            .map(|against| against.ratio.median)
            .collect();
        if ratios.is_empty() {
            return;
        }
        let mean = ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64;
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        println!(
            "\n{}: {} rows, geometric mean of ours / fastest peer {:.2}, least {least:.2}",
            last.group,
            ratios.len(),
            mean.exp()
        );
    }

    /// Prints the summary of the last group.
    pub(crate) fn finish(&self) {
        self.summary();
    }

    /// Writes everything to a file.
    pub(crate) fn write(
        &self,
        file: &Path,
        level: SimdLevel,
        load: Option<f64>,
    ) -> Result<(), String> {
        let threads = self
            .outcomes
            .iter()
            .map(|outcome| outcome.threads)
            .max()
            .unwrap_or(1);
        let record = Record {
            machine: Machine::detect(level, threads, load),
            rows: &self.outcomes,
        };
        let text = serde_json::to_string_pretty(&record).map_err(|error| error.to_string())?;
        std::fs::write(file, text + "\n").map_err(|error| format!("{}: {error}", file.display()))
    }
}

fn line(outcome: &Outcome) -> String {
    let ours = outcome.speeds[0].value;
    let peers: Vec<String> = outcome.speeds[1..]
        .iter()
        .map(|speed| format!("{} {}", speed.name, significant(speed.value)))
        .collect();
    let (peer, ratio, interval) = match &outcome.against {
        None => ("-", "-".to_owned(), "-".to_owned()),
        Some(against) => (
            against.peer,
            format!("{:.2}", against.ratio.median),
            format!("{:.2}-{:.2}", against.ratio.low, against.ratio.high),
        ),
    };
    format!(
        "| {} | {} | {} | {:.0} % of {} | {peer} | {ratio} | {interval} | {} |",
        outcome.row,
        significant(ours),
        outcome
            .ns_per_element
            .map_or("-".to_owned(), |ns| format!("{ns:.3}")),
        100.0 * ours / outcome.limit,
        significant(outcome.limit),
        peers.join(", ")
    )
}
