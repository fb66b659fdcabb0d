//! Claims of speed and memory, and the rule by which they hold.
//!
//! In its simple form: `docs/claims.toml` is a list of sentences, each with the bench that measures it and the number it promises. A
//! factor fails when none of the interval of the measured median reaches it, however wide that is. It holds when all of it does, unless the
//! interval is wider than a share (`WIDEST`) of its median and than its distance from the bound. Else there is no verdict: measure on
//! a quieter machine, or more rounds.

use std::collections::BTreeMap;
use std::path::Path;

use nd_core::SimdLevel;

use super::claims_file;
use super::schema::{Outcome, Verdict, WorkloadSteps};
use crate::kernels::{Case, cases};
use crate::machine::cores;
use crate::sides::Side;
use crate::statistics::{Interval, Measure};
use crate::turns::{Effort, Turns};
use crate::workloads::training::TRAINING;

/// The widest interval that allows a verdict wherever its bound is, as a share of its median.
const WIDEST: f64 = 0.25;
/// The kinds of benches that take a workload's name.
const STEP: &str = "step";
const MEMORY: &str = "memory";
const LATENCY: &str = "latency";
const THROUGHPUT: &str = "throughput";
/// The kind that takes a kernel's.
const KERNEL: &str = "kernel";

/// One entry of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claim {
    /// A short name.
    pub name: String,
    /// The claim in words.
    pub claim: String,
    /// `kind/name`: what measures it.
    pub bench: String,
    /// The side that is claimed to be fast or small; `all` where nothing is said.
    pub candidate: Option<String>,
    /// The factors over other sides that it must reach.
    pub against: BTreeMap<String, f64>,
    /// The largest value allowed.
    pub maximum: Option<f64>,
    /// The smallest value allowed.
    pub minimum: Option<f64>,
    /// Cores without which the claim says nothing.
    pub cores: Option<usize>,
}

/// Reads a file of claims and checks that everything in it exists.
///
/// # Errors
/// The file cannot be read or understood, or names what does not exist: the message lists what does.
pub fn read(path: &Path) -> Result<Vec<Claim>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn parse(text: &str) -> Result<Vec<Claim>, String> {
    let claims = claims_file::parse(text)?;
    for claim in &claims {
        check(claim).map_err(|error| format!("the claim {:?}: {error}", claim.name))?;
    }
    Ok(claims)
}

/// What a claim's bench is.
enum Bench<'a> {
    /// A kind and a workload.
    Workload(&'a str, &'static str),
    Kernel(Case),
}

fn check(claim: &Claim) -> Result<(), String> {
    let bench = bench(&claim.bench)?;
    if claim.against.is_empty() && claim.maximum.is_none() && claim.minimum.is_none() {
        return Err("it promises nothing: give against, maximum or minimum".to_owned());
    }
    match bench {
        Bench::Kernel(case) => {
            let mut names = vec!["scalar".to_owned()];
            names.extend((case.make)().plain.map(|(name, _)| name.to_owned()));
            let unknown = claim.against.keys().find(|name| !names.contains(name));
            match unknown {
                None => Ok(()),
                Some(name) => Err(format!(
                    "{} has no baseline {name:?}; it has: {}",
                    claim.bench,
                    names.join(", ")
                )),
            }
        }
        Bench::Workload(..) => {
            let sides = claim.against.keys().chain(&claim.candidate);
            sides
                .into_iter()
                .try_for_each(|side| side.parse::<Side>().map(|_| ()))
        }
    }
}

fn bench(name: &str) -> Result<Bench<'_>, String> {
    let kinds = [STEP, MEMORY, LATENCY, THROUGHPUT];
    if let Some((kind, rest)) = name.split_once('/') {
        if kinds.contains(&kind)
            && let Some(workload) = TRAINING.iter().find(|w| w.name == rest)
        {
            return Ok(Bench::Workload(kind, workload.name));
        }
        if kind == KERNEL
            && let Some(case) = cases().into_iter().find(|case| case.name == rest)
        {
            return Ok(Bench::Kernel(case));
        }
    }
    let workloads: Vec<_> = TRAINING.iter().map(|w| w.name).collect();
    let kernels: Vec<_> = cases().into_iter().map(|case| case.name).collect();
    Err(format!(
        "there is no bench {name:?}; there are {}, each with /{}; and {KERNEL}/ with one of: {}",
        kinds.join(", "),
        workloads.join(", /"),
        kernels.join("; ")
    ))
}

/// Holds a claim against what was measured, and measures it now if it is about a kernel.
///
/// # Errors
/// The bench does not exist; [`read`] finds that too.
pub fn judge(
    claim: &Claim,
    workloads: &[WorkloadSteps],
    quick: bool,
) -> Result<Vec<Verdict>, String> {
    let candidate = claim.candidate.clone().unwrap_or(Side::ALL.to_string());
    let mut verdicts = Vec::new();
    let few_cores = claim.cores.filter(|&wanted| cores() < wanted);
    let mut push =
        |baseline: Option<&str>, bound: Bound, found: Option<(Interval, usize)>, unit: &str| {
            let expected = bound.words(unit);
            let (outcome, why) = match (few_cores, &found) {
                (Some(wanted), _) => (
                    Outcome::NotApplicable,
                    Some(format!("it needs {wanted} cores")),
                ),
                (None, None) => (Outcome::Refused, Some("it was not measured".to_owned())),
                (None, Some(_)) if quick => (
                    Outcome::Refused,
                    Some("--quick measures too little".to_owned()),
                ),
                (None, Some((interval, _))) => bound.judge(*interval),
            };
            verdicts.push(Verdict {
                name: claim.name.clone(),
                claim: claim.claim.clone(),
                bench: match unit {
                    "x" => format!("{}, {candidate}", claim.bench),
                    _ => claim.bench.clone(),
                },
                baseline: baseline.map(str::to_owned),
                expected,
                samples: found.map_or(0, |(_, samples)| samples),
                measured: found.map(|(interval, _)| interval),
                unit: unit.to_owned(),
                outcome,
                why,
            });
        };
    match bench(&claim.bench)? {
        Bench::Kernel(case) => {
            for (baseline, &factor) in &claim.against {
                let found = (few_cores.is_none()).then(|| kernel(&case, baseline, quick));
                push(Some(baseline), Bound::AtLeast(factor), found, "x");
            }
        }
        Bench::Workload(kind, name) => {
            let steps = workloads.iter().find(|steps| steps.name == name);
            for (baseline, &factor) in &claim.against {
                let found = steps.and_then(|steps| match kind {
                    MEMORY => memory_ratio(steps, baseline, &candidate),
                    _ => time_ratio(steps, baseline, &candidate),
                });
                push(Some(baseline), Bound::AtLeast(factor), found, "x");
            }
            let value = steps.and_then(|steps| value(steps, kind, &candidate));
            let unit = match kind {
                LATENCY => "ms",
                MEMORY => "MiB",
                THROUGHPUT => "windows/s",
                _ => "ms",
            };
            let bounds = [
                claim.maximum.map(Bound::AtMost),
                claim.minimum.map(Bound::AtLeast),
            ];
            for bound in bounds.into_iter().flatten() {
                push(None, bound, value, unit);
            }
        }
    }
    Ok(verdicts)
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn words(self, unit: &str) -> String {
        match self {
            Self::AtLeast(bound) if unit == "x" => format!("at least {bound}x"),
            Self::AtLeast(bound) => format!("at least {bound} {unit}"),
            Self::AtMost(bound) => format!("at most {bound} {unit}"),
        }
    }

    fn judge(self, found: Interval) -> (Outcome, Option<String>) {
        let (sure, possible) = match self {
            Self::AtLeast(bound) => (found.low >= bound, found.high >= bound),
            Self::AtMost(bound) => (found.high <= bound, found.low <= bound),
        };
        let distance = match self {
            Self::AtLeast(bound) => found.low - bound,
            Self::AtMost(bound) => bound - found.high,
        };
        let width = found.high - found.low;
        if !possible {
            return (Outcome::Fails, None);
        }
        if width > WIDEST * found.median && distance < width {
            let why = format!(
                "the spread is too wide: {:.0} % of the median, {:.0} % are allowed so near to the bound",
                100.0 * width / found.median,
                100.0 * WIDEST
            );
            return (Outcome::Refused, Some(why));
        }
        if sure {
            (Outcome::Holds, None)
        } else {
            (
                Outcome::Refused,
                Some("the bound lies within the interval of the measurement".to_owned()),
            )
        }
    }
}

fn time_ratio(steps: &WorkloadSteps, slow: &str, fast: &str) -> Option<(Interval, usize)> {
    let within = |group: &super::schema::Group| group.ratio(slow, fast);
    within(&steps.full).or_else(|| within(&steps.few))
}

fn memory_ratio(steps: &WorkloadSteps, large: &str, small: &str) -> Option<(Interval, usize)> {
    let of = |side: &str| steps.memory.iter().find(|memory| memory.side == side);
    let ratio = of(large)?.value.median / of(small)?.value.median;
    Some((Interval::of_median(&[ratio]), 1))
}

/// A single quantity: its median, from its smallest value to the third quartile or so.
fn value(steps: &WorkloadSteps, kind: &str, candidate: &str) -> Option<(Interval, usize)> {
    let around = |measure: &Measure| {
        let interval = Interval {
            low: measure.median - measure.spread,
            median: measure.median,
            high: measure.median + measure.spread,
        };
        (interval, measure.samples)
    };
    match kind {
        LATENCY => steps.latency.as_ref().map(around),
        MEMORY => {
            let memory = steps.memory.iter().find(|m| m.side == candidate)?;
            Some(around(&memory.value))
        }
        STEP => Some(around(&steps.full.side(candidate)?.step)),
        _ => {
            let rounds = &steps.full.side(candidate)?.rounds;
            let windows = steps.full.windows as f64;
            let rates: Vec<f64> = rounds.iter().map(|ms| windows / ms * 1e3).collect();
            Some((Interval::of_median(&rates), rates.len()))
        }
    }
}

/// A kernel at the best level against the scalar level or another plain loop, in turns.
fn kernel(case: &Case, baseline: &str, quick: bool) -> (Interval, usize) {
    let mut run = (case.make)();
    let effort = Effort {
        rounds: if quick { 3 } else { 15 },
        seconds: if quick { 0.0 } else { 0.5 },
        ..Effort::default()
    };
    let turns = Turns::take(2, effort, |i| match (&mut run.plain, i) {
        (_, 0) => (run.at)(SimdLevel::best()),
        (Some((name, plain)), _) if *name == baseline => plain(),
        _ => (run.at)(SimdLevel::Scalar),
    });
    (turns.speed_ratio(0, 1), turns.rounds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repositorys_claims_name_what_exists() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/claims.toml");
        let claims = read(&path).unwrap();
        assert!(claims.len() > 8);
    }

    #[test]
    fn what_does_not_exist_is_listed() {
        let of = |bench: &str, rest: &str| {
            parse(&format!(
                "[[claim]]\nname = \"n\"\nclaim = \"c\"\nbench = \"{bench}\"\n{rest}\n"
            ))
        };
        let error = of("step/NHITZ", "maximum = 1.0").unwrap_err();
        assert!(
            error.contains("NHITZ") && error.contains("/PatchTST-long"),
            "{error}"
        );
        let error = of("kernel/gemm 1 x 2", "maximum = 1.0").unwrap_err();
        assert!(error.contains("gemm 512 x 512 x 512"), "{error}");
        let error = of("step/NHITS", "against = { fastest = 2.0 }").unwrap_err();
        assert!(
            error.contains("fastest") && error.contains("plain-ikj"),
            "{error}"
        );
        let error = of("kernel/gemm 512 x 512 x 512", "against = { numpy = 2.0 }").unwrap_err();
        assert!(
            error.contains("numpy") && error.contains("scalar"),
            "{error}"
        );
        let error = of("step/NHITS", "").unwrap_err();
        assert!(error.contains("promises nothing"), "{error}");
        let error = of("step/NHITS", "maximun = 1.0").unwrap_err();
        assert!(error.contains("maximun"), "{error}");
        assert!(parse("claim = 1").is_err());
        assert!(parse("").unwrap_err().contains("no claim"));
    }

    #[test]
    fn a_wide_spread_has_no_verdict() {
        let interval = |low, median, high| Interval { low, median, high };
        let at_least = |bound, found| Bound::AtLeast(bound).judge(found).0;
        assert_eq!(at_least(71.0, interval(72.0, 75.0, 80.0)), Outcome::Holds);
        assert_eq!(at_least(71.0, interval(60.0, 65.0, 70.0)), Outcome::Fails);
        assert_eq!(at_least(71.0, interval(70.0, 75.0, 80.0)), Outcome::Refused);
        assert_eq!(
            at_least(71.0, interval(72.0, 90.0, 120.0)),
            Outcome::Refused
        );
        assert_eq!(at_least(121.0, interval(72.0, 90.0, 120.0)), Outcome::Fails);
        // As wide, and further away than that.
        assert_eq!(at_least(20.0, interval(72.0, 90.0, 120.0)), Outcome::Holds);
        let at_most = |bound, found| Bound::AtMost(bound).judge(found).0;
        assert_eq!(at_most(10.0, interval(1.0, 1.1, 1.2)), Outcome::Holds);
        assert_eq!(at_most(1.0, interval(1.1, 1.2, 1.3)), Outcome::Fails);
        assert_eq!(at_most(2.0, interval(1.0, 1.2, 1.8)), Outcome::Refused);
        assert_eq!(at_most(3.0, interval(1.0, 1.2, 1.8)), Outcome::Holds);
    }

    #[test]
    fn a_kernel_is_measured_against_its_baseline() {
        let case = cases().into_iter().find(|c| c.name == "gemm 64 x 64 x 64");
        let Some(case) = case else {
            return;
        };
        let (ratio, rounds) = kernel(&case, "scalar", true);
        assert!(ratio.low > 0.0 && rounds >= 3);
    }
}
