//! The options of `validate`, `report` and `peers`.

use std::path::PathBuf;

use lexopt::prelude::*;
use serde_json::{Value, json};

use super::{Command, Topic, describe};

/// Options of `validate`: name, the name of its value, what it does.
pub(super) const VALIDATE: &[(&str, &str, &str)] = &[
    (
        "workload",
        "NAME",
        "only this workload's steps; may be given again (default: all); the others stay as the last report has them",
    ),
    ("rounds", "N", "rounds of each workload (default: 3)"),
    (
        "add",
        "",
        "add the rounds to those of the last report, which must be of this commit",
    ),
    (
        "no-steps",
        "",
        "measure no steps: judge the claims by what the last report holds",
    ),
    (
        "skip-tests",
        "",
        "neither build everything nor run the tests for the checklist",
    ),
    ("claims", "FILE", "the claims (default: docs/claims.toml)"),
    (
        "quick",
        "",
        "few windows, one round, no verdicts: to see that everything runs",
    ),
    (
        "out",
        "DIR",
        "where report.html, report.md and report.json go (default: target/validate, target/validate-quick with --quick)",
    ),
];

/// What the usage of `validate` begins with.
pub(super) const VALIDATE_TEXT: &str = "
Measures every claim of docs/claims.toml in turns with its baseline, and goes through the quick reference's checklist.
Training steps of four workloads run under textbook loops (a), i-k-j loops (b), ndarray (c) and the library with each
optimization alone, each left out, and all together. A verdict is refused when the spread is too wide.

A baseline's step takes up to a minute: all four workloads with three rounds take about twenty minutes on two cores,
the tests for the checklist as long. A workload at a time: --workload NHITS --skip-tests.

Options:
";

/// Options of `peers`.
pub(super) const PEERS: &[(&str, &str, &str)] = &[
    (
        "python",
        "FILE",
        "the Python with the pinned requirements (default: .venv/bin/python, then python3)",
    ),
    ("rounds", "N", "rounds of each model (default: 3)"),
    ("steps", "N", "timed steps of a round (default: 20)"),
    (
        "model",
        "NAME",
        "only this model; may be given again (default: NHITS, LSTM, PatchTST)",
    ),
    (
        "data",
        "FILE",
        "ETTh1.csv (default: ../shared/data/ETTh1.csv)",
    ),
];

/// What the usage of `peers` begins with.
pub(super) const PEERS_TEXT: &str = "
Runs NeuralForecast's training steps and ours in turns (benches/peers/neuralforecast) and writes
target/peers/neuralforecast-steps.json, which validate then takes for baseline (d).

Options:
";

/// What `validate` was asked; handed to the program that measures as JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ValidateRequest {
    pub(crate) workloads: Vec<String>,
    pub(crate) rounds: Option<usize>,
    pub(crate) add: bool,
    pub(crate) quick: bool,
    pub(crate) no_steps: bool,
    pub(crate) claims: PathBuf,
    pub(crate) out: PathBuf,
    pub(crate) checks: Vec<Check>,
    pub(crate) peers: Vec<PathBuf>,
    pub(crate) record: Option<PathBuf>,
    pub(crate) command: String,
    pub(crate) skip_tests: bool,
}

impl ValidateRequest {
    /// What the program that measures is told.
    pub(crate) fn to_json(&self) -> Value {
        let check = |check: &Check| json!({ "item": check.item, "state": check.state, "evidence": check.evidence });
        json!({
            "workloads": self.workloads,
            "rounds": self.rounds,
            "add": self.add,
            "quick": self.quick,
            "no_steps": self.no_steps,
            "claims": self.claims,
            "out": self.out,
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
            "peers": self.peers,
            "record": self.record,
            "command": self.command,
        })
    }
}

/// An item of the checklist that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Check {
    pub(crate) item: String,
    pub(crate) state: &'static str,
    pub(crate) evidence: String,
}

/// What `peers` was asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PeersRequest {
    pub(crate) python: Option<PathBuf>,
    pub(crate) rounds: Option<usize>,
    pub(crate) steps: Option<usize>,
    pub(crate) models: Vec<String>,
    pub(crate) data: Option<PathBuf>,
}

/// Understands the options of `validate`.
pub(super) fn validate(parser: &mut lexopt::Parser, words: &[String]) -> Result<Command, String> {
    let mut request = ValidateRequest {
        command: words.join(" "),
        ..ValidateRequest::default()
    };
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        let name = match argument {
            Long("help") | Short('h') => return Ok(Command::Help(Some(Topic::Validate))),
            Long(name) => name.to_owned(),
            other => return Err(unknown("validate", &describe(&other), VALIDATE)),
        };
        match name.as_str() {
            "workload" => request.workloads.push(text(parser, &name)?),
            "rounds" => request.rounds = Some(count(parser, &name)?),
            "add" => request.add = true,
            "no-steps" => request.no_steps = true,
            "skip-tests" => request.skip_tests = true,
            "quick" => request.quick = true,
            "claims" => request.claims = text(parser, &name)?.into(),
            "out" => request.out = text(parser, &name)?.into(),
            other => return Err(unknown("validate", &format!("--{other}"), VALIDATE)),
        }
    }
    if request.add && request.no_steps {
        return Err("--add adds rounds, --no-steps measures none: give one of them".to_owned());
    }
    Ok(Command::Validate(Box::new(request)))
}

/// Understands the options of `peers`.
pub(super) fn peers(parser: &mut lexopt::Parser) -> Result<Command, String> {
    let mut request = PeersRequest::default();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        let name = match argument {
            Long("help") | Short('h') => return Ok(Command::Help(Some(Topic::Peers))),
            Long(name) => name.to_owned(),
            other => return Err(unknown("peers", &describe(&other), PEERS)),
        };
        match name.as_str() {
            "python" => request.python = Some(text(parser, &name)?.into()),
            "data" => request.data = Some(text(parser, &name)?.into()),
            "model" => request.models.push(text(parser, &name)?),
            "rounds" => request.rounds = Some(count(parser, &name)?),
            "steps" => request.steps = Some(count(parser, &name)?),
            other => return Err(unknown("peers", &format!("--{other}"), PEERS)),
        }
    }
    Ok(Command::Peers(request))
}

/// `report [FILE] [--check]`
pub(super) fn report(parser: &mut lexopt::Parser) -> Result<Command, String> {
    let (mut file, mut check) = (None, false);
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Long("help") | Short('h') => return Ok(Command::Help(Some(Topic::Report))),
            Long("check") => check = true,
            Value(word) if file.is_none() => file = Some(word.into()),
            other => {
                return Err(format!(
                    "report takes the report.json of a validation and --check, found {}",
                    describe(&other)
                ));
            }
        }
    }
    Ok(Command::Report { file, check })
}

fn unknown(command: &str, found: &str, options: &[(&str, &str, &str)]) -> String {
    let known: Vec<_> = options
        .iter()
        .map(|(name, value, _)| format!("--{name} {value}").trim_end().to_owned())
        .collect();
    format!(
        "unknown option {found}; {command} knows: {}, --help",
        known.join(", ")
    )
}

fn text(parser: &mut lexopt::Parser, name: &str) -> Result<String, String> {
    let value = parser
        .value()
        .map_err(|_| format!("--{name} needs a value after it"))?;
    let text = value
        .into_string()
        .map_err(|value| format!("the value of --{name} is not UTF-8: {value:?}"))?;
    if text.is_empty() {
        return Err(format!("--{name} takes a name, found an empty text"));
    }
    Ok(text)
}

fn count(parser: &mut lexopt::Parser, name: &str) -> Result<usize, String> {
    let word = text(parser, name)?;
    let number = word.parse().ok().filter(|n| (1..=1000).contains(n));
    number.ok_or_else(|| format!("--{name} takes a whole number from 1 to 1000, found {word:?}"))
}
