//! What `cargo xtask validate` measures: every claim, against honest baselines, in turns.
//!
//! In its simple form: for each workload take training steps under every side ([`steps`]), for each claim of `docs/claims.toml` hold
//! what was measured against what it promises ([`claims`]), and write the checklist, the sheets and the charts. A
//! workload's section stays in the report until it is measured again, so that a machine can be asked for a few minutes
//! at a time; `--add` adds rounds to it, if they are of the same commit.

pub mod claims;
mod claims_file;
mod html;
mod last;
mod markdown;
pub mod schema;
pub mod sheets;
pub mod steps;
pub mod words;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::machine::{Machine, cores, load_average};
use crate::measure;
use crate::report::{Report, Workload};
use crate::request::Request;
use crate::run::{RunError, now, say, workload_of};
use crate::sides::{Optimization, Side, Switches};
use crate::statistics::Measure;
use crate::workloads::data_sets;
use crate::workloads::training::{TRAINING, TrainingWorkload};
use last::{keep, previous};
use schema::{
    Check, CheckState, KIND, Outcome, Peer, SCHEMA_VERSION, Sided, Validation, WorkloadSteps,
};
use steps::Plan;

pub use last::read;

/// Rounds where nothing else is asked.
const ROUNDS: usize = 3;
/// Models whose forecasts are shown, and the steps they are trained.
const SHOWN: [&str; 4] = ["NLinear", "NHITS", "LSTM", "PatchTST"];
const SHOWN_STEPS: usize = 100;
/// The share by which a ratio may fall below the record's before it counts.
const REGRESSION: f64 = 0.05;
/// The largest relative difference of an f32 side's first loss from the baseline's.
const EPSILON: f64 = 1e-5;

/// The options of `cargo xtask validate`, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValidateRequest {
    /// Names of workloads; empty for all.
    pub workloads: Vec<String>,
    /// Rounds of each workload.
    pub rounds: Option<usize>,
    /// Add the rounds to those of the last report.
    pub add: bool,
    /// Few windows, one round, no verdicts.
    pub quick: bool,
    /// Measure no training steps; judge what the last report holds.
    pub no_steps: bool,
    /// The file of claims.
    pub claims: PathBuf,
    /// The folder of the report.
    pub out: PathBuf,
    /// Items of the checklist that were looked at before, by the words they begin with.
    pub checks: Vec<Check>,
    /// Files with NeuralForecast's times, the first that holds a model counts.
    pub peers: Vec<PathBuf>,
    /// The validation that this one is held against.
    pub record: Option<PathBuf>,
    /// How it was asked for.
    pub command: String,
}

/// Whether the workloads and the claims of a request exist.
///
/// # Errors
/// One of them does not; the message lists what there is.
pub fn check(request: &ValidateRequest) -> Result<(), String> {
    claims::read(&request.claims)?;
    chosen(request)?;
    Ok(())
}

/// Measures, judges, prints and writes.
///
/// # Errors
/// See [`RunError`]; a claim that fails is none.
pub fn run(request: &ValidateRequest) -> Result<Validation, RunError> {
    let (start, load) = (Instant::now(), load_average());
    let claims = claims::read(&request.claims).map_err(RunError::Misused)?;
    let chosen = chosen(request).map_err(RunError::Misused)?;
    Report::prepare(&request.out).map_err(|error| RunError::Misused(format!("--out: {error}")))?;
    let file = request.out.join("report.json");
    let mut workloads = match previous(&file) {
        Ok(previous) => previous,
        Err(error) if request.add => return Err(RunError::Misused(error)),
        Err(error) => {
            eprintln!("note: {error}; it will be replaced");
            Vec::new()
        }
    };
    let options = Side::all_options();
    let machine = Machine::detect(options.simd, cores(), load);
    let plan = Plan {
        rounds: request
            .rounds
            .unwrap_or(if request.quick { 1 } else { ROUNDS }),
        quick: request.quick,
    };
    for workload in chosen {
        let mut steps = steps::measure(workload, plan).map_err(RunError::Failed)?;
        steps.memory = memory(workload, plan)?;
        steps.peer =
            peer(workload.name, &request.peers, &machine.cpu).map_err(RunError::Misused)?;
        steps.date = now();
        steps.commit = machine.commit.clone();
        steps.load = load;
        keep(&mut workloads, steps, request.add).map_err(RunError::Misused)?;
    }
    let place = |name: &str| TRAINING.iter().position(|w| w.name == name);
    workloads.sort_by_key(|steps| place(&steps.name));
    let mut verdicts = Vec::new();
    for claim in &claims {
        let judged = claims::judge(claim, &workloads, request.quick);
        verdicts.extend(judged.map_err(RunError::Misused)?);
    }
    let report = Validation {
        kind: KIND.to_owned(),
        schema_version: SCHEMA_VERSION,
        command: request.command.clone(),
        date: now(),
        seconds: start.elapsed().as_secs_f64(),
        baselines: words::baselines(),
        checklist: checklist(request, &workloads, &verdicts, &machine.cpu),
        examples: examples(request)?,
        machine,
        workloads,
        claims: verdicts,
    };
    write(&request.out, &report).map_err(RunError::Failed)?;
    say(&markdown::markdown(&report));
    say(&format!(
        "Written: {}",
        request
            .out
            .join("{report.html,report.md,report.json}")
            .display()
    ));
    Ok(report)
}

/// The workloads to measure.
fn chosen(request: &ValidateRequest) -> Result<Vec<&'static TrainingWorkload>, String> {
    if request.no_steps {
        return Ok(Vec::new());
    }
    if request.workloads.is_empty() {
        return Ok(TRAINING.iter().collect());
    }
    let found = request
        .workloads
        .iter()
        .map(|name| TrainingWorkload::find(name));
    found
        .collect::<Result<_, _>>()
        .map_err(|error| format!("--workload: {error}"))
}

/// The sides whose memory tells something; at the best SIMD level, on which it does not depend.
fn memory_sides() -> [Side; 4] {
    [
        Side::Library(Switches::only(Optimization::Simd)),
        Side::Library(Switches::without(Optimization::Flash)),
        Side::ALL_F32,
        Side::ALL,
    ]
}

/// The peak memory of processes that take steps of one side each.
fn memory(workload: &TrainingWorkload, plan: Plan) -> Result<Vec<Sided>, RunError> {
    let mut found = Vec::new();
    for side in memory_sides() {
        let windows = if plan.quick { 2 } else { workload.windows };
        let mib = peak_in_child(workload.name, side, windows).map_err(RunError::Failed)?;
        if let Some(mib) = mib {
            found.push(Sided {
                side: side.to_string(),
                value: Measure::single(mib, "MiB"),
            });
        }
    }
    // Both baselines of the library keep the same arrays.
    if let Some(first) = found.first().cloned() {
        found.push(Sided {
            side: Side::BASELINE.to_string(),
            ..first
        });
    }
    Ok(found)
}

/// Starts this program again for two steps.
fn peak_in_child(workload: &str, side: Side, windows: usize) -> Result<Option<f64>, String> {
    let program = std::env::current_exe()
        .map_err(|error| format!("this program's own path cannot be found: {error}"))?;
    let output = Command::new(program)
        .args([
            "--memory",
            workload,
            &side.to_string(),
            &windows.to_string(),
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("the measuring process could not be started: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "the measuring process ended with {}",
            output.status
        ));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("the measuring process wrote no result: {error}"))
}

/// The peak memory of this process after two steps.
///
/// # Errors
/// There is no such workload or side, or a step cannot be taken.
pub fn memory_here(workload: &str, side: &str, windows: usize) -> Result<Option<f64>, String> {
    let prepared = TrainingWorkload::find(workload)?.prepare()?;
    let source = prepared.source()?;
    let mut runner = side.parse::<Side>()?.runner(&prepared, &source)?;
    for _ in 0..2 {
        runner.step(windows)?;
    }
    Ok(crate::machine::peak_memory_mib())
}

/// A model's times in the files that `benches/peers/neuralforecast/compare.py` writes.
fn peer(model: &str, files: &[PathBuf], cpu: &str) -> Result<Option<Peer>, String> {
    for file in files {
        let name = file.display();
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("the peers' {name} cannot be read: {error}"))?;
        let record: serde_json::Value = serde_json::from_str(&text)
            .map_err(|error| format!("the peers' {name} is not JSON: {error}"))?;
        let results = record["results"].as_array().cloned().unwrap_or_default();
        let Some(found) = results.iter().find(|result| result["model"] == model) else {
            continue;
        };
        let medians = &found["ms_per_step_median"];
        let ms = [&medians["default"], &medians["tuned"]]
            .into_iter()
            .filter_map(serde_json::Value::as_f64)
            .fold(f64::INFINITY, f64::min);
        let theirs = record["cpu"].as_str().unwrap_or("unknown");
        let version = record["versions"]["neuralforecast"].as_str().unwrap_or("");
        return Ok(Some(Peer {
            name: format!("NeuralForecast {version}"),
            ms,
            peak_rss_mb: found["peak_rss_mb"]["tuned"].as_f64().unwrap_or(f64::NAN),
            source: file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            cpu: theirs.to_owned(),
            same_machine: theirs == cpu,
        }));
    }
    Ok(None)
}

/// Forecasts of some models on the embedded series.
fn examples(request: &ValidateRequest) -> Result<Vec<Workload>, RunError> {
    let job = |model: &str| measure::Job {
        request: Request {
            quick: true,
            steps: Some(if request.quick { 5 } else { SHOWN_STEPS }),
            ..Request::default()
        },
        data_set: 0,
        model: model.to_owned(),
    };
    let sets = data_sets(&Request::default()).map_err(RunError::Failed)?;
    let Some(set) = sets.first() else {
        return Ok(Vec::new());
    };
    let mut workload = workload_of(set);
    for model in SHOWN {
        let result = measure::measure(set, &job(model)).map_err(RunError::Failed)?;
        workload.results.push(result);
    }
    Ok(vec![workload])
}

/// The nine items of the quick reference, each with its evidence.
fn checklist(
    request: &ValidateRequest,
    workloads: &[WorkloadSteps],
    verdicts: &[schema::Verdict],
    cpu: &str,
) -> Vec<Check> {
    let given = |item: &str| {
        let found = request
            .checks
            .iter()
            .find(|check| item.starts_with(&check.item));
        found.map_or(
            Check {
                item: item.to_owned(),
                state: CheckState::Open,
                evidence: "not looked at in this run".to_owned(),
            },
            |check| Check {
                item: item.to_owned(),
                ..check.clone()
            },
        )
    };
    let judged = |item: &str, of: &dyn Fn(&schema::Verdict) -> bool| {
        let of: Vec<_> = verdicts.iter().filter(|verdict| of(verdict)).collect();
        let count = |outcome| of.iter().filter(|v| v.outcome == outcome).count();
        let (holds, fails) = (count(Outcome::Holds), count(Outcome::Fails));
        let state = match (holds, fails) {
            (_, 1..) => CheckState::Failed,
            (n, 0) if n == of.len() && n > 0 => CheckState::Done,
            _ => CheckState::Open,
        };
        let failed: Vec<_> = of
            .iter()
            .filter(|v| v.outcome != Outcome::Holds)
            .map(|v| {
                let against = v
                    .baseline
                    .as_ref()
                    .map_or(String::new(), |b| format!(" against {b}"));
                format!("{}{against} ({})", v.name, v.outcome.words())
            })
            .collect();
        let mut evidence = format!("{holds} of {} claims hold", of.len());
        if !failed.is_empty() {
            evidence += &format!("; {}", failed.join(", "));
        }
        Check {
            item: item.to_owned(),
            state,
            evidence,
        }
    };
    let speed = |verdict: &schema::Verdict| !verdict.bench.starts_with("memory/");
    let combined = |verdict: &schema::Verdict| {
        verdict.name.starts_with("combined-") && verdict.baseline.as_deref() == Some("baseline")
    };
    let mut seventy_one = judged("71x combined speedup achieved", &combined);
    let sentences: Vec<_> = workloads
        .iter()
        .filter_map(|steps| words::combined(steps, ":f32"))
        .collect();
    seventy_one.evidence += &format!(". {}", sentences.join(" "));
    vec![
        given("Compilation succeeds (no errors)"),
        given("All tests pass"),
        judged("Benchmarks show expected speedup", &speed),
        accuracy(
            given("Numerical accuracy maintained (epsilon < 1e-5)"),
            workloads,
        ),
        judged("Memory usage reduced as expected", &|verdict| {
            verdict.bench.starts_with("memory/")
        }),
        regressions(request.record.as_deref(), workloads, cpu),
        seventy_one,
        given("Profiling reports generated"),
        given("Documentation updated"),
    ]
}

/// Ratios of every workload against those of the record, where that is of the same processor.
fn regressions(record: Option<&Path>, workloads: &[WorkloadSteps], cpu: &str) -> Check {
    let of = |state, evidence: String| Check {
        item: "No performance regressions".to_owned(),
        state,
        evidence,
    };
    let Some(file) = record else {
        return of(
            CheckState::Open,
            "there is no record to compare with".to_owned(),
        );
    };
    let record = match read(file) {
        Ok(record) => record,
        Err(error) => return of(CheckState::Open, error),
    };
    if record.machine.cpu != cpu {
        let evidence = format!("the record is of another processor, {}", record.machine.cpu);
        return of(CheckState::Open, evidence);
    }
    let (mut compared, mut slower) = (0, Vec::new());
    for steps in workloads {
        let Some(old) = record.workloads.iter().find(|old| old.name == steps.name) else {
            continue;
        };
        for name in ["against:b:f32", "against:c:f32", "against:b", "against:c"] {
            if let (Some(new), Some(old)) = (steps.factor(name), old.factor(name)) {
                compared += 1;
                if new.ratio.high < old.ratio.low * (1.0 - REGRESSION) {
                    slower.push(format!("{} {name}", steps.name));
                }
            }
        }
    }
    let evidence = format!(
        "{compared} ratios compared with the record of {}",
        record.date
    );
    match (compared, slower.is_empty()) {
        (0, _) => of(
            CheckState::Open,
            "nothing of the record was measured".to_owned(),
        ),
        (_, true) => of(
            CheckState::Done,
            format!("{evidence}; none is lower beyond the noise"),
        ),
        _ => of(
            CheckState::Failed,
            format!("{evidence}; lower: {}", slower.join(", ")),
        ),
    }
}

/// The sides in f32 must have the baseline's loss.
fn accuracy(mut check: Check, workloads: &[WorkloadSteps]) -> Check {
    let is_f32 = |side: &str| match side.parse::<Side>() {
        Ok(Side::Library(switches)) => !switches.has(Optimization::Half),
        _ => true,
    };
    let losses = || workloads.iter().flat_map(|steps| &steps.losses);
    let worst = |half: bool| {
        let of = losses().filter(|loss| is_f32(&loss.side) != half);
        of.map(|loss| loss.relative_difference).fold(0.0, f64::max)
    };
    if losses().next().is_none() {
        return check;
    }
    let (single, half) = (worst(false), worst(true));
    if single >= EPSILON {
        check.state = CheckState::Failed;
    }
    let kernels = std::mem::take(&mut check.evidence);
    check.evidence = format!(
        "first losses of all sides in f32 differ by at most {single:.1e}, with bf16 by {half:.1e}; kernels: {kernels}"
    );
    check
}

fn write(folder: &Path, report: &Validation) -> Result<(), String> {
    let json = serde_json::to_string_pretty(report)
        .map_err(|error| format!("the report cannot be written as JSON: {error}"))?;
    for (name, text) in [
        ("report.json", json + "\n"),
        ("report.md", markdown::markdown(report)),
        ("report.html", html::html(report)),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, text)
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_workloads_are_told_what_there_is() {
        let request = ValidateRequest {
            workloads: vec!["NHITZ".to_owned()],
            claims: Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/claims.toml"),
            ..ValidateRequest::default()
        };
        assert!(check(&request).unwrap_err().contains("NHITZ"));
        let Err(RunError::Misused(message)) = run(&request) else {
            panic!("NHITZ is no workload")
        };
        assert!(
            message.contains("--workload") && message.contains("NHITS"),
            "{message}"
        );
    }

    #[test]
    fn the_recorded_peers_are_read_and_not_taken_for_this_machine() {
        let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("record/neuralforecast-steps.json");
        let found = peer("NHITS", std::slice::from_ref(&record), "no such processor");
        let found = found.unwrap().unwrap();
        assert!(found.ms > 0.0 && !found.same_machine && found.name.contains("3.3.0"));
        assert_eq!(peer("nothing", &[record], ""), Ok(None));
    }

    #[test]
    fn the_checklist_has_nine_items() {
        let checks = vec![Check {
            item: "All tests pass".to_owned(),
            state: CheckState::Done,
            evidence: "1000 tests".to_owned(),
        }];
        let request = ValidateRequest {
            checks,
            ..ValidateRequest::default()
        };
        let list = checklist(&request, &[], &[], "");
        assert_eq!(list.len(), 9);
        assert_eq!(list[1].state, CheckState::Done);
        assert_eq!(list[0].state, CheckState::Open);
        assert_eq!(list[6].state, CheckState::Open);
    }
}
