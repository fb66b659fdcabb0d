//! The command line: what exists, and one clear message about what does not.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;
use serde::Serialize;

/// A command line that was understood.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    /// Usage of everything, or of one command.
    Help(Option<Topic>),
    /// The main job.
    Bench(Box<BenchRequest>),
    /// The house rules.
    Tidy,
    /// Every check and the tests.
    Ci {
        /// The tests on aarch64 among them.
        neon: bool,
    },
    /// The kernels' tests on aarch64.
    TestNeon {
        /// Only the tests that are worth most.
        short: bool,
    },
    /// The error of the elementary functions.
    Accuracy,
    /// The formatter.
    Fmt {
        /// Only say what is not formatted.
        check: bool,
    },
    /// Clippy.
    Lint,
    /// The documentation.
    Doc,
}

/// The commands, as topics of help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    Bench,
    Tidy,
    Ci,
    TestNeon,
    Accuracy,
    Fmt,
    Lint,
    Doc,
}

impl Topic {
    /// The one option of a command without a parser of its own.
    fn switch(self) -> Option<&'static str> {
        match self {
            Self::Fmt => Some("check"),
            Self::Ci => Some("neon"),
            Self::TestNeon => Some("short"),
            Self::Bench | Self::Tidy | Self::Accuracy | Self::Lint | Self::Doc => None,
        }
    }
}

/// Name, topic and summary of every command.
const COMMANDS: &[(&str, Topic, &str)] = &[
    (
        "bench",
        Topic::Bench,
        "train and measure the models; without options on embedded data, within minutes",
    ),
    (
        "tidy",
        Topic::Tidy,
        "check the house rules that no lint knows",
    ),
    (
        "ci",
        Topic::Ci,
        "every check of a change: fmt, tidy, lint, doc, then the tests; --neon adds test-neon --short",
    ),
    (
        "test-neon",
        Topic::TestNeon,
        "the tests of nd-core, nd-simd and nd-attention on aarch64 under qemu; --short runs the most important",
    ),
    (
        "accuracy",
        Topic::Accuracy,
        "the error of every elementary function over all 2^32 arguments of f32: minutes on two cores",
    ),
    (
        "fmt",
        Topic::Fmt,
        "format every crate; --check only says what is not formatted",
    ),
    (
        "lint",
        Topic::Lint,
        "clippy on every target, warnings denied",
    ),
    (
        "doc",
        Topic::Doc,
        "build the documentation, warnings denied",
    ),
];

/// Options of `bench`: name, the name of its value, what it does.
const BENCH_OPTIONS: &[(&str, &str, &str)] = &[
    (
        "csv",
        "FILE",
        "your own data instead of the embedded series",
    ),
    ("horizon", "H", "time steps to forecast (needed with --csv)"),
    (
        "model",
        "NAME",
        "only this model; may be given again (default: all)",
    ),
    (
        "input-size",
        "L",
        "past time steps a model sees (default: chosen from the horizon)",
    ),
    ("steps", "N", "training steps of each model"),
    (
        "freq",
        "F",
        "time between two rows, such as h, D or MS (default: inferred)",
    ),
    (
        "id-col",
        "COLUMN",
        "the column that names the series (default: unique_id)",
    ),
    (
        "ds-col",
        "COLUMN",
        "the column of time stamps (default: ds)",
    ),
    ("y-col", "COLUMN", "the column of values (default: y)"),
    (
        "wide",
        "",
        "one column per series instead of one row per series and time",
    ),
    (
        "threads",
        "N",
        "threads of the optimised runs (default: all)",
    ),
    (
        "simd",
        "LEVEL",
        "scalar, avx2, avx512, neon or auto (default: auto, the best of this machine)",
    ),
    (
        "seed",
        "S",
        "seed of initial weights and sampling (default: 1)",
    ),
    (
        "quick",
        "",
        "few steps: to see that everything runs, not to measure",
    ),
    (
        "out",
        "DIR",
        "where report.json, report.md and forecasts.svg go (default: target/bench)",
    ),
];

/// What `bench` was asked; handed to the program that measures as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct BenchRequest {
    pub(crate) csv: Option<PathBuf>,
    pub(crate) horizon: Option<usize>,
    pub(crate) models: Vec<String>,
    pub(crate) input_size: Option<usize>,
    pub(crate) steps: Option<usize>,
    pub(crate) freq: Option<String>,
    pub(crate) id_column: Option<String>,
    pub(crate) ds_column: Option<String>,
    pub(crate) y_column: Option<String>,
    pub(crate) wide: bool,
    pub(crate) threads: Option<usize>,
    pub(crate) simd: Option<String>,
    pub(crate) seed: Option<u64>,
    pub(crate) quick: bool,
    pub(crate) out: Option<PathBuf>,
}

/// Understands the arguments after the program's name.
///
/// # Errors
/// A message that names what was found and lists what exists.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let word = match parser.next().map_err(|error| error.to_string())? {
        None | Some(Long("help") | Short('h')) => return Ok(Command::Help(None)),
        Some(Value(word)) => word,
        Some(flag) => {
            return Err(format!(
                "{} stands before any command; the commands are: {}, help",
                describe(&flag),
                names()
            ));
        }
    };
    let word = word.to_string_lossy().into_owned();
    if word == "help" {
        return match parser.next().map_err(|error| error.to_string())? {
            None => Ok(Command::Help(None)),
            Some(Value(word)) => {
                topic_of(&word.to_string_lossy()).map(|topic| Command::Help(Some(topic)))
            }
            Some(flag) => Err(format!(
                "help takes the name of a command, found {}",
                describe(&flag)
            )),
        };
    }
    match topic_of(&word)? {
        Topic::Bench => bench(&mut parser),
        topic => plain(&mut parser, topic),
    }
}

fn topic_of(word: &str) -> Result<Topic, String> {
    COMMANDS
        .iter()
        .find(|(name, ..)| *name == word)
        .map(|(_, topic, _)| *topic)
        .ok_or_else(|| {
            format!(
                "there is no command {word:?}; the commands are: {}, help",
                names()
            )
        })
}

fn names() -> String {
    let names: Vec<_> = COMMANDS.iter().map(|(name, ..)| *name).collect();
    names.join(", ")
}

fn describe(argument: &lexopt::Arg<'_>) -> String {
    match argument {
        Long(name) => format!("--{name}"),
        Short(name) => format!("-{name}"),
        Value(word) => format!("{:?}", word.to_string_lossy()),
    }
}

/// The commands without options of their own.
fn plain(parser: &mut lexopt::Parser, topic: Topic) -> Result<Command, String> {
    let switch = topic.switch();
    let mut given = false;
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Long("help") | Short('h') => return Ok(Command::Help(Some(topic))),
            Long(name) if Some(name) == switch => given = true,
            other => {
                let known = switch.map_or("--help".to_owned(), |name| format!("--{name}, --help"));
                return Err(format!(
                    "unknown option {}; this command knows: {known}",
                    describe(&other)
                ));
            }
        }
    }
    Ok(match topic {
        Topic::Bench => unreachable!("bench has options of its own"),
        Topic::Tidy => Command::Tidy,
        Topic::Ci => Command::Ci { neon: given },
        Topic::TestNeon => Command::TestNeon { short: given },
        Topic::Accuracy => Command::Accuracy,
        Topic::Fmt => Command::Fmt { check: given },
        Topic::Lint => Command::Lint,
        Topic::Doc => Command::Doc,
    })
}

fn bench(parser: &mut lexopt::Parser) -> Result<Command, String> {
    let mut request = BenchRequest::default();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        let name = match argument {
            Long("help") | Short('h') => return Ok(Command::Help(Some(Topic::Bench))),
            Long(name) => name.to_owned(),
            other => return Err(unknown_bench_option(&describe(&other))),
        };
        match name.as_str() {
            "wide" => request.wide = true,
            "quick" => request.quick = true,
            "csv" => request.csv = Some(text(parser, &name)?.into()),
            "out" => request.out = Some(text(parser, &name)?.into()),
            "horizon" => request.horizon = Some(positive(parser, &name)?),
            "input-size" => request.input_size = Some(positive(parser, &name)?),
            "steps" => request.steps = Some(positive(parser, &name)?),
            "threads" => request.threads = Some(positive(parser, &name)?),
            "seed" => request.seed = Some(number(parser, &name)?),
            "model" => request.models.push(text(parser, &name)?),
            "freq" => request.freq = Some(text(parser, &name)?),
            "id-col" => request.id_column = Some(text(parser, &name)?),
            "ds-col" => request.ds_column = Some(text(parser, &name)?),
            "y-col" => request.y_column = Some(text(parser, &name)?),
            "simd" => request.simd = Some(text(parser, &name)?),
            other => return Err(unknown_bench_option(&format!("--{other}"))),
        }
    }
    check(&request)?;
    Ok(Command::Bench(Box::new(request)))
}

/// What only makes sense together.
fn check(request: &BenchRequest) -> Result<(), String> {
    if request.csv.is_some() && request.horizon.is_none() {
        return Err("--csv needs --horizon H: how many time steps should be forecast?".to_owned());
    }
    if request.csv.is_none() {
        let about_data = [
            ("--horizon", request.horizon.is_some()),
            ("--input-size", request.input_size.is_some()),
            ("--freq", request.freq.is_some()),
            ("--id-col", request.id_column.is_some()),
            ("--ds-col", request.ds_column.is_some()),
            ("--y-col", request.y_column.is_some()),
            ("--wide", request.wide),
        ];
        if let Some((name, _)) = about_data.iter().find(|(_, given)| *given) {
            return Err(format!(
                "{name} describes your own data: give --csv FILE with it"
            ));
        }
    }
    Ok(())
}

fn unknown_bench_option(found: &str) -> String {
    let known: Vec<_> = BENCH_OPTIONS
        .iter()
        .map(|(name, value, _)| format!("--{name} {value}").trim_end().to_owned())
        .collect();
    format!(
        "unknown option {found}; bench knows: {}, --help",
        known.join(", ")
    )
}

fn text(parser: &mut lexopt::Parser, name: &str) -> Result<String, String> {
    let value = parser
        .value()
        .map_err(|_| format!("--{name} needs a value after it"))?;
    value
        .into_string()
        .map_err(|value| format!("the value of --{name} is not UTF-8: {value:?}"))
}

fn number<T: std::str::FromStr>(parser: &mut lexopt::Parser, name: &str) -> Result<T, String> {
    let word = text(parser, name)?;
    word.parse()
        .map_err(|_| format!("--{name} takes a whole number, found {word:?}"))
}

fn positive(parser: &mut lexopt::Parser, name: &str) -> Result<usize, String> {
    match number(parser, name)? {
        0 => Err(format!("--{name} takes a number of at least 1, found 0")),
        n => Ok(n),
    }
}

/// The text of `cargo xtask help`.
pub(crate) fn usage(topic: Option<Topic>) -> String {
    let mut out = String::new();
    match topic {
        None => {
            out += "The commands of the Neuro-Divergent workspace.\n\nUsage: cargo xtask COMMAND [OPTIONS]\n\nCommands:\n";
            for (name, _, summary) in COMMANDS {
                out += &format!("  {name:<9} {summary}\n");
            }
            out += "  help      this text, or more about one command: cargo xtask help bench\n";
        }
        Some(topic) => {
            for (name, _, summary) in COMMANDS.iter().filter(|(_, t, _)| *t == topic) {
                out += &format!("cargo xtask {name}: {summary}\n");
            }
        }
    }
    if topic == Some(Topic::Bench) {
        out += BENCH_TEXT;
        for (name, value, summary) in BENCH_OPTIONS {
            let option = format!("--{name} {value}");
            out += &format!("  {option:<18} {summary}\n");
        }
    }
    out
}

const BENCH_TEXT: &str = "
Builds the measuring program in release mode and runs it. Every model is trained and measured in a process of its
own; the table goes to standard output, progress to standard error, and the full report to target/bench:
report.json (the schema is in docs/performance.md), report.md and forecasts.svg.

Examples:
  cargo xtask bench
  cargo xtask bench --csv my.csv --horizon 24 --model NHITS
  cargo xtask bench --csv wide.csv --wide --ds-col date --horizon 96 --steps 500

Options:
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn commands_and_help_are_understood() {
        assert_eq!(parse_words(""), Ok(Command::Help(None)));
        assert_eq!(parse_words("--help"), Ok(Command::Help(None)));
        assert_eq!(
            parse_words("help bench"),
            Ok(Command::Help(Some(Topic::Bench)))
        );
        assert_eq!(
            parse_words("tidy --help"),
            Ok(Command::Help(Some(Topic::Tidy)))
        );
        assert_eq!(parse_words("tidy"), Ok(Command::Tidy));
        assert_eq!(parse_words("ci"), Ok(Command::Ci { neon: false }));
        assert_eq!(parse_words("ci --neon"), Ok(Command::Ci { neon: true }));
        assert_eq!(
            parse_words("test-neon --short"),
            Ok(Command::TestNeon { short: true })
        );
        assert_eq!(parse_words("accuracy"), Ok(Command::Accuracy));
        assert_eq!(parse_words("fmt --check"), Ok(Command::Fmt { check: true }));
        assert_eq!(parse_words("bench"), Ok(Command::Bench(Box::default())));
    }

    #[test]
    fn what_does_not_exist_lists_what_does() {
        let error = parse_words("bnech").unwrap_err();
        assert!(
            error.contains("bnech") && error.contains("bench, tidy"),
            "{error}"
        );
        let error = parse_words("bench --hroizon 3").unwrap_err();
        assert!(
            error.contains("--hroizon") && error.contains("--horizon H"),
            "{error}"
        );
        let error = parse_words("lint --check").unwrap_err();
        assert!(error.contains("--check"), "{error}");
        let error = parse_words("bench extra").unwrap_err();
        assert!(error.contains("extra"), "{error}");
    }

    #[test]
    fn values_are_checked_before_anything_is_built() {
        let error = parse_words("bench --csv a.csv").unwrap_err();
        assert!(error.contains("--horizon"), "{error}");
        let error = parse_words("bench --horizon 4").unwrap_err();
        assert!(error.contains("--csv"), "{error}");
        let error = parse_words("bench --csv a.csv --horizon four").unwrap_err();
        assert!(error.contains("four"), "{error}");
        let error = parse_words("bench --threads 0").unwrap_err();
        assert!(error.contains("at least 1"), "{error}");
        let error = parse_words("bench --seed").unwrap_err();
        assert!(error.contains("--seed"), "{error}");
    }

    #[test]
    fn every_option_reaches_the_request() {
        let line = "bench --csv a.csv --horizon 24 --model NHITS --model MLP --input-size 96 --steps 5 --freq h \
                    --id-col i --ds-col d --y-col v --wide --threads 2 --simd avx2 --seed 7 --quick --out there";
        let Ok(Command::Bench(request)) = parse_words(line) else {
            panic!("{line} is understood")
        };
        let json = serde_json::to_value(&request).unwrap();
        let given = json.as_object().unwrap().values();
        assert!(
            given
                .clone()
                .all(|value| !value.is_null() && value != false),
            "{json}"
        );
        assert_eq!(given.count(), BENCH_OPTIONS.len());
        assert_eq!(request.models, ["NHITS", "MLP"]);
    }

    #[test]
    fn usage_names_every_command_and_option() {
        let all = usage(None);
        assert!(COMMANDS.iter().all(|(name, ..)| all.contains(name)));
        let bench = usage(Some(Topic::Bench));
        assert!(
            BENCH_OPTIONS
                .iter()
                .all(|(name, ..)| bench.contains(&format!("--{name}")))
        );
    }
}
