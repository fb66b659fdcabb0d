//! The schema of a validation's `report.json`; `docs/performance.md` describes the fields.
//!
//! Whoever changes a name or a meaning raises [`SCHEMA_VERSION`]. Times of rounds are kept as they were measured, so that rounds
//! can be added later and everything derived can be derived again.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::report::Workload;
use crate::statistics::{Interval, Measure};

/// The version of the schema.
pub const SCHEMA_VERSION: u32 = 1;
/// What tells this report from the main job's.
pub const KIND: &str = "validation";

/// What a validation found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// [`KIND`].
    pub kind: String,
    /// [`SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// The command that measures it again.
    pub command: String,
    /// When it was finished, in UTC, as RFC 3339.
    pub date: String,
    /// How long the last run took, in seconds.
    pub seconds: f64,
    /// Where and with what.
    pub machine: Machine,
    /// What each baseline is.
    pub baselines: Vec<Baseline>,
    /// Training steps, workload by workload.
    pub workloads: Vec<WorkloadSteps>,
    /// The claims and what became of them.
    pub claims: Vec<Verdict>,
    /// The quick reference's checklist.
    pub checklist: Vec<Check>,
    /// Forecasts, for the chart.
    pub examples: Vec<Workload>,
}

/// What a baseline is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// (a), (b), (c) or (d).
    pub letter: String,
    /// The side that runs it; none for (d).
    pub side: Option<String>,
    /// In words.
    pub words: String,
}

/// Training steps of one workload under many sides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkloadSteps {
    /// Its name.
    pub name: String,
    /// What it is.
    pub summary: String,
    /// When it was measured.
    pub date: String,
    /// On which commit.
    pub commit: String,
    /// The load average before.
    pub load: Option<f64>,
    /// Whole steps: every side took its turns in one process.
    pub full: Group,
    /// Steps on fewer windows, for the sides that are slow.
    pub few: Group,
    /// The largest resident memory of a process that takes steps of one side alone.
    pub memory: Vec<Sided>,
    /// The time of a forecast of one window, in ms.
    pub latency: Option<Measure>,
    /// The time of a whole step in f32 by number of threads, in ms.
    pub scaling: Vec<ThreadTimes>,
    /// The loss of the first step of every side.
    pub losses: Vec<SideLoss>,
    /// What NeuralForecast takes for the same step.
    pub peer: Option<Peer>,
    /// The ratios that matter, derived from the times.
    pub factors: Vec<Factor>,
}

/// Sides that took turns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Windows of a step.
    pub windows: usize,
    /// Their times.
    pub sides: Vec<SideTimes>,
}

/// The times of one side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideTimes {
    /// Its name.
    pub side: String,
    /// Milliseconds of a step, round by round.
    pub rounds: Vec<f64>,
    /// The same, summarised.
    pub step: Measure,
}

/// A quantity of one side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sided {
    /// The side.
    pub side: String,
    /// The quantity.
    pub value: Measure,
}

/// Times by number of threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThreadTimes {
    /// Threads.
    pub threads: usize,
    /// Time of a step, in ms.
    pub step: Measure,
}

/// The first loss of a side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideLoss {
    /// The side.
    pub side: String,
    /// Its loss.
    pub loss: f64,
    /// The distance from the baseline's, relative to that.
    pub relative_difference: f64,
}

/// What another library takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name and version.
    pub name: String,
    /// The better of its two settings' median times, in ms.
    pub ms: f64,
    /// Its largest resident memory, in MB.
    pub peak_rss_mb: f64,
    /// The file it comes from.
    pub source: String,
    /// The processor it was measured on.
    pub cpu: String,
    /// Whether that is the processor of this report.
    pub same_machine: bool,
}

/// How many times as fast one side is as another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Factor {
    /// What it says: `combined`, `alone:simd`, `without:flash`, ...
    pub name: String,
    /// The slower side.
    pub slow: String,
    /// The faster side.
    pub fast: String,
    /// The ratio and where it lies.
    pub ratio: Interval,
    /// Rounds.
    pub rounds: usize,
    /// Whether both sides took steps on as many windows; if not, the ratio is that of times per window.
    pub same_windows: bool,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// The measurement cannot say.
    Refused,
    /// This machine cannot say: too few cores.
    NotApplicable,
}

impl Outcome {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "fails",
            Self::Refused => "no verdict",
            Self::NotApplicable => "not on this machine",
        }
    }
}

/// A claim and its measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The claim's name.
    pub name: String,
    /// The claim in words.
    pub claim: String,
    /// What was measured.
    pub bench: String,
    /// Against what, where it is a factor.
    pub baseline: Option<String>,
    /// What was expected, in words.
    pub expected: String,
    /// What was measured; absent where nothing was.
    pub measured: Option<Interval>,
    /// Its unit.
    pub unit: String,
    /// Values behind the median.
    pub samples: usize,
    /// What became of it.
    pub outcome: Outcome,
    /// Why there is no verdict.
    pub why: Option<String>,
}

/// What became of an item of the checklist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// Done.
    Done,
    /// Not so.
    Failed,
    /// Not looked at in this run, or without an answer.
    Open,
}

impl CheckState {
    /// The mark in a list.
    #[must_use]
    pub fn mark(self) -> &'static str {
        match self {
            Self::Done => "[x]",
            Self::Failed => "[!]",
            Self::Open => "[ ]",
        }
    }
}

/// An item of the checklist.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The item, as the quick reference words it.
    pub item: String,
    /// What became of it.
    pub state: CheckState,
    /// What shows it.
    pub evidence: String,
}

impl Group {
    /// The times of a side.
    #[must_use]
    pub fn side(&self, name: &str) -> Option<&SideTimes> {
        self.sides.iter().find(|times| times.side == name)
    }

    /// How many times as fast `fast` is as `slow`: the median of the ratios of their rounds.
    #[must_use]
    pub fn ratio(&self, slow: &str, fast: &str) -> Option<(Interval, usize)> {
        let (slow, fast) = (self.side(slow)?, self.side(fast)?);
        let pairs = slow.rounds.iter().zip(&fast.rounds);
        let ratios: Vec<f64> = pairs.map(|(slow, fast)| slow / fast).collect();
        (!ratios.is_empty()).then(|| (Interval::of_median(&ratios), ratios.len()))
    }
}

impl WorkloadSteps {
    /// A derived ratio.
    #[must_use]
    pub fn factor(&self, name: &str) -> Option<&Factor> {
        self.factors.iter().find(|factor| factor.name == name)
    }
}
