//! The quick reference's "Performance Comparison" sheets, one for each optimization and one for all of them.

use super::schema::WorkloadSteps;
use crate::machine::cores;
use crate::report::significant;
use crate::sides::{Optimization, Side, Switches};

/// A sheet: the same work without and with an optimization.
#[derive(Clone, Debug, PartialEq)]
pub struct Sheet {
    /// What is compared.
    pub title: String,
    /// What the baseline is.
    pub baseline: String,
    /// Windows trained on in a second, before and after.
    pub throughput: (f64, f64),
    /// Milliseconds of training for a window, before and after.
    pub latency: (f64, f64),
    /// The largest resident memory, before and after.
    pub memory: Option<(f64, f64)>,
    /// The factor of time.
    pub speedup: f64,
    /// The factor that was aimed at.
    pub target: f64,
}

/// The workload on which an optimization is shown: where it has something to do.
fn shown_on(optimization: Optimization) -> &'static str {
    match optimization {
        Optimization::Simd => "NHITS",
        Optimization::Flash | Optimization::Half => "PatchTST-long",
        Optimization::Parallel => "PatchTST",
    }
}

/// The quick reference's targets; that of threads depends on the cores.
fn target(optimization: Optimization) -> f64 {
    match optimization {
        Optimization::Simd | Optimization::Flash => 2.0,
        Optimization::Half => 1.5,
        Optimization::Parallel => match cores() {
            1 => 1.0,
            2..=3 => 1.8,
            4..=7 => 3.5,
            8..=15 => 6.5,
            _ => 10.0,
        },
    }
}

/// The combined target.
const COMBINED: f64 = 71.0;

/// The sheets of what was measured.
#[must_use]
pub fn sheets(workloads: &[WorkloadSteps]) -> Vec<Sheet> {
    let mut sheets = Vec::new();
    for optimization in Optimization::ALL {
        let steps = workloads.iter().find(|w| w.name == shown_on(optimization));
        let Some(steps) = steps else { continue };
        let (slow, fast, words) = match optimization {
            Optimization::Simd => (
                Side::BASELINE,
                Side::Library(Switches::only(optimization)),
                "textbook loops (a), everything else off",
            ),
            _ => (
                Side::Library(Switches::without(optimization)),
                Side::ALL,
                "everything else on",
            ),
        };
        let title = format!("{} ({})", optimization.title(), steps.name);
        sheets.extend(sheet(steps, title, words, slow, fast, target(optimization)));
    }
    for steps in workloads {
        let title = format!("All optimizations ({})", steps.name);
        let words = "textbook loops (a), standard attention, one thread, f32";
        sheets.extend(sheet(
            steps,
            title,
            words,
            Side::BASELINE,
            Side::ALL,
            COMBINED,
        ));
    }
    sheets
}

fn sheet(
    steps: &WorkloadSteps,
    title: String,
    baseline: &str,
    slow: Side,
    fast: Side,
    target: f64,
) -> Option<Sheet> {
    let names = [slow, fast].map(|side| side.to_string());
    let (speedup, _) = steps.full.ratio(&names[0], &names[1])?;
    let ms = |name: &str| Some(steps.full.side(name)?.step.median);
    let (before, after) = (ms(&names[0])?, ms(&names[1])?);
    let windows = steps.full.windows as f64;
    let memory = |name: &str| {
        let found = steps.memory.iter().find(|memory| memory.side == name)?;
        Some(found.value.median)
    };
    Some(Sheet {
        title,
        baseline: baseline.to_owned(),
        throughput: (windows / before * 1e3, windows / after * 1e3),
        latency: (before / windows, after / windows),
        memory: memory(&names[0]).zip(memory(&names[1])),
        speedup: speedup.median,
        target,
    })
}

impl Sheet {
    /// Whether the target was met.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.speedup >= self.target
    }

    /// The sheet as the quick reference draws it.
    #[must_use]
    pub fn text(&self) -> String {
        let title = format!("Performance Comparison: {}", self.title);
        let change =
            |(before, after): (f64, f64)| format!("{:+.0} %", 100.0 * (after / before - 1.0));
        let rate = |x: f64| format!("{} windows/s", significant(x));
        let (ms, mib) = (
            |x: f64| format!("{} ms/window", significant(x)),
            |x: f64| format!("{} MiB", significant(x)),
        );
        let mut out = format!("{title}\n{}\n\n", "=".repeat(title.chars().count()));
        let memory = |value: Option<f64>| value.map_or("not measured".to_owned(), mib);
        out += &format!("Baseline ({}):\n", self.baseline);
        out += &format!("  - Throughput: {}\n", rate(self.throughput.0));
        out += &format!("  - Latency: {}\n", ms(self.latency.0));
        out += &format!("  - Memory: {}\n\n", memory(self.memory.map(|m| m.0)));
        out += "Optimised:\n";
        let (throughput, latency) = (change(self.throughput), change(self.latency));
        out += &format!(
            "  - Throughput: {}  ({throughput})\n",
            rate(self.throughput.1)
        );
        out += &format!("  - Latency: {}  ({latency})\n", ms(self.latency.1));
        match self.memory {
            Some(pair) => out += &format!("  - Memory: {}  ({})\n\n", mib(pair.1), change(pair)),
            None => out += "  - Memory: not measured\n\n",
        }
        out += &format!("Speedup: {:.2}x\n", self.speedup);
        if let Some((before, after)) = self.memory {
            out += &format!("Memory Reduction: {:.2}x\n", before / after);
        }
        let met = if self.is_met() { "yes" } else { "no" };
        out + &format!("\nTarget Met: {met} (at least {}x)\n", self.target)
    }
}
