//! The command line: what exists, and one clear message about what does not.

mod bench;
mod measure;
mod profile;
mod topics;

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

pub(crate) use bench::BenchRequest;
pub(crate) use measure::{Check, PeersRequest, ValidateRequest};
pub(crate) use profile::{Kind, ProfileRequest};
pub(crate) use topics::Topic;

use crate::instructions::Build;
use topics::COMMANDS;

/// A command line that was understood.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    /// Usage of everything, or of one command.
    Help(Option<Topic>),
    /// The version of the workspace.
    Version,
    /// The main job.
    Bench(Box<BenchRequest>),
    /// Every claim, measured.
    Validate(Box<ValidateRequest>),
    /// The tables of the documents.
    Report {
        /// The validation to take as the record.
        file: Option<PathBuf>,
        /// Only say which tables differ.
        check: bool,
    },
    /// NeuralForecast beside us.
    Peers(PeersRequest),
    /// Where a workload spends its time and memory.
    Profile(Box<ProfileRequest>),
    /// The tools and the machine.
    Doctor,
    /// The house rules.
    Tidy,
    /// Every check and the tests.
    Ci(CiRequest),
    /// Counts of instructions beside those of the repository.
    Instructions {
        /// Of which build.
        build: Build,
        /// Replace those of the repository.
        update: bool,
    },
    /// Each crate alone, outside the workspace.
    Standalone,
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

/// Checks of `ci` that need tools or minutes that not every machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CiRequest {
    /// The tests on aarch64.
    pub(crate) neon: bool,
    /// The counts of instructions.
    pub(crate) instructions: bool,
    /// Each crate alone.
    pub(crate) standalone: bool,
}

/// Understands the arguments after the program's name.
///
/// # Errors
/// A message that names what was found and lists what exists.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut words = vec!["cargo xtask".to_owned()];
    words.extend(
        arguments
            .iter()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    let mut parser = lexopt::Parser::from_args(arguments);
    let word = match parser.next().map_err(|error| error.to_string())? {
        None | Some(Long("help") | Short('h')) => return Ok(Command::Help(None)),
        Some(Long("version") | Short('V')) => return Ok(Command::Version),
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
        return help(&mut parser).map(Command::Help);
    }
    match topic_of(&word)? {
        Topic::Bench => bench::bench(&mut parser),
        Topic::Profile => profile::profile(&mut parser),
        Topic::Validate => measure::validate(&mut parser, &words),
        Topic::Report => measure::report(&mut parser),
        Topic::Peers => measure::peers(&mut parser),
        topic => plain(&mut parser, topic),
    }
}

/// `help`, or `help COMMAND`, and nothing behind it.
fn help(parser: &mut lexopt::Parser) -> Result<Option<Topic>, String> {
    let mut topic = None;
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Value(word) if topic.is_none() => topic = Some(topic_of(&word.to_string_lossy())?),
            other => {
                return Err(format!(
                    "help takes the name of one command, found {}",
                    describe(&other)
                ));
            }
        }
    }
    Ok(topic)
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
    let known = topic.switches();
    let mut given = Vec::new();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Long("help") | Short('h') => return Ok(Command::Help(Some(topic))),
            Long(name) if known.contains(&name) => given.push(name.to_owned()),
            other => {
                let known = known.iter().map(|name| format!("--{name}, "));
                return Err(format!(
                    "unknown option {}; this command knows: {}--help",
                    describe(&other),
                    known.collect::<String>()
                ));
            }
        }
    }
    let has = |name: &str| given.iter().any(|given| given == name);
    Ok(match topic {
        Topic::Bench | Topic::Profile | Topic::Validate | Topic::Report | Topic::Peers => {
            unreachable!("it has a parser of its own")
        }
        Topic::Doctor => Command::Doctor,
        Topic::Tidy => Command::Tidy,
        Topic::Ci => Command::Ci(CiRequest {
            neon: has("neon"),
            instructions: has("instructions"),
            standalone: has("standalone"),
        }),
        Topic::Instructions => Command::Instructions {
            build: if has("tests") {
                Build::Tests
            } else {
                Build::Release
            },
            update: has("update"),
        },
        Topic::Standalone => Command::Standalone,
        Topic::TestNeon => Command::TestNeon {
            short: has("short"),
        },
        Topic::Accuracy => Command::Accuracy,
        Topic::Fmt => Command::Fmt {
            check: has("check"),
        },
        Topic::Lint => Command::Lint,
        Topic::Doc => Command::Doc,
    })
}

/// The text of `cargo xtask --version`.
pub(crate) fn version() -> String {
    format!("neuro-divergent workspace {}", env!("CARGO_PKG_VERSION"))
}

/// The text of `cargo xtask help`.
pub(crate) fn usage(topic: Option<Topic>) -> String {
    let mut out = String::new();
    match topic {
        None => {
            out += "The commands of the Neuro-Divergent workspace.\n\nUsage: cargo xtask COMMAND [OPTIONS]\n\nCommands:\n";
            for (name, _, summary) in COMMANDS {
                out += &format!("  {name:<13} {summary}\n");
            }
            out += "  help          this text, or more about one command: cargo xtask help bench\n";
            out += "  --version     the version of the workspace\n";
        }
        Some(topic) => {
            for (name, _, summary) in COMMANDS.iter().filter(|(_, t, _)| *t == topic) {
                out += &format!("cargo xtask {name}: {summary}\n");
            }
        }
    }
    let more = match topic {
        Some(Topic::Bench) => Some((bench::TEXT, bench::OPTIONS)),
        Some(Topic::Profile) => Some((profile::TEXT, profile::OPTIONS)),
        Some(Topic::Validate) => Some((measure::VALIDATE_TEXT, measure::VALIDATE)),
        Some(Topic::Peers) => Some((measure::PEERS_TEXT, measure::PEERS)),
        _ => None,
    };
    if let Some((text, options)) = more {
        out += text;
        for (name, value, summary) in options {
            let option = format!("--{name} {value}");
            out += &format!("  {option:<18} {summary}\n");
        }
    }
    if topic == Some(Topic::Bench) {
        for (name, value, summary) in bench::RESULTS {
            let option = format!("--{name} {value}");
            out += &format!("  {option:<18} {summary}\n");
        }
    }
    out
}

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
        assert_eq!(parse_words("--version"), Ok(Command::Version));
        assert_eq!(parse_words("-V"), Ok(Command::Version));
        assert_eq!(parse_words("tidy"), Ok(Command::Tidy));
        assert_eq!(parse_words("ci"), Ok(Command::Ci(CiRequest::default())));
        let all = CiRequest {
            neon: true,
            instructions: true,
            standalone: true,
        };
        let line = "ci --neon --instructions --standalone";
        assert_eq!(parse_words(line), Ok(Command::Ci(all)));
        assert_eq!(
            parse_words("instructions --update"),
            Ok(Command::Instructions {
                build: Build::Release,
                update: true
            })
        );
        assert_eq!(
            parse_words("instructions --tests"),
            Ok(Command::Instructions {
                build: Build::Tests,
                update: false
            })
        );
        assert_eq!(parse_words("standalone"), Ok(Command::Standalone));
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
            error.contains("bnech") && error.contains("bench, validate"),
            "{error}"
        );
        let error = parse_words("bench --hroizon 3").unwrap_err();
        assert!(
            error.contains("--hroizon") && error.contains("--horizon H"),
            "{error}"
        );
        let error = parse_words("lint --check").unwrap_err();
        assert!(error.contains("--check"), "{error}");
        for line in ["bench extra", "help bench extra", "help bench --extra"] {
            let error = parse_words(line).unwrap_err();
            assert!(error.contains("extra"), "{error}");
        }
    }

    #[test]
    fn values_are_checked_before_anything_is_built() {
        let error = parse_words("bench --csv a.csv").unwrap_err();
        assert!(error.contains("--horizon"), "{error}");
        let error = parse_words("bench --horizon 4").unwrap_err();
        assert!(error.contains("--csv"), "{error}");
        let error = parse_words("bench --csv a.csv --horizon four").unwrap_err();
        assert!(error.contains("four"), "{error}");
        for line in [
            "bench --threads 0",
            "bench --threads 1025",
            "bench --threads 100000",
            "bench --steps 1",
            "bench --csv a.csv --horizon 0",
            "bench --csv a.csv --horizon 9223372036854775808",
            "bench --csv a.csv --horizon 18446744073709551615",
            "bench --csv a.csv --horizon 4 --input-size 9223372036854775807",
            "bench --csv a.csv --horizon 4 --input-size 99999999999999999999",
            "bench --csv a.csv --horizon -4",
        ] {
            let error = parse_words(line).unwrap_err();
            let word = line.rsplit(' ').next().unwrap();
            assert!(
                error.contains("a whole number from") && error.contains(word),
                "{error}"
            );
        }
        for option in ["--csv", "--out"] {
            let error = parse(["bench", option, ""].map(OsString::from)).unwrap_err();
            assert!(
                error.starts_with(option) && error.contains("empty"),
                "{error}"
            );
        }
        let error = parse_words("bench --gaps mask").unwrap_err();
        assert!(error.contains("--csv"), "{error}");
        let error = parse_words("bench --seed").unwrap_err();
        assert!(error.contains("--seed"), "{error}");
    }

    #[test]
    fn every_option_reaches_the_request() {
        let line = "bench --csv a.csv --horizon 24 --model NHITS --model MLP --input-size 96 --steps 5 --freq h \
                    --id-col i --ds-col d --y-col v --wide --delimiter ; --decimal comma --encoding latin-1 \
                    --duplicates last --gaps keep --missing zero --ignore z --threads 2 --simd avx2 --seed 7 --quick --out there";
        let Ok(Command::Bench(request)) = parse_words(line) else {
            panic!("{line} is understood")
        };
        let json = request.to_json();
        let given = json.as_object().unwrap().values();
        assert!(
            given
                .clone()
                .all(|value| !value.is_null() && value != false),
            "{json}"
        );
        assert_eq!(given.count(), bench::OPTIONS.len());
        assert_eq!(request.models, ["NHITS", "MLP"]);
        assert_eq!(request.ignore, ["z"]);
    }

    #[test]
    fn profiles_and_their_options_are_understood() {
        let Ok(Command::Profile(request)) = parse_words("profile") else {
            panic!("profile is a command")
        };
        assert_eq!(request.kinds, [Kind::Cpu, Kind::Memory, Kind::Cache]);
        assert_eq!(request.workloads, ["PatchTST"]);
        let line =
            "profile cpu --workload NHITS --workload LSTM --seconds 3 --threads 1 --out there";
        let Ok(Command::Profile(request)) = parse_words(line) else {
            panic!("{line} is understood")
        };
        assert_eq!(request.kinds, [Kind::Cpu]);
        assert_eq!(request.workloads, ["NHITS", "LSTM"]);
        assert_eq!((request.seconds, request.threads), (3, Some(1)));
        assert_eq!(request.out.as_deref(), Some("there".as_ref()));
        for (line, part) in [
            ("profile gpu", "cpu, memory, cache, all"),
            ("profile cpu memory", "--workload NAME"),
            ("profile --wrokload x", "--workload NAME"),
            ("profile --seconds 0", "from 1 to 600"),
            ("profile --workload", "--workload"),
        ] {
            let error = parse_words(line).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(parse_words("doctor"), Ok(Command::Doctor));
        let usage = usage(Some(Topic::Profile));
        assert!(
            profile::OPTIONS
                .iter()
                .all(|(name, ..)| usage.contains(&format!("--{name}")))
        );
    }

    #[test]
    fn a_suite_and_what_becomes_of_its_results() {
        let line = "bench simd --json a.json --save x --compare y --threshold 7.5% --quick";
        let Ok(Command::Bench(request)) = parse_words(line) else {
            panic!("{line} is understood")
        };
        assert_eq!(request.suite.as_deref(), Some("simd"));
        assert_eq!(request.threshold, Some(0.075));
        assert_eq!(request.save.as_deref(), Some("x"));
        for (line, words) in [
            ("bench simt", "the suites are: simd"),
            ("bench simd --model NHITS", "--model"),
            ("bench --threshold 5%", "--compare"),
            ("bench --compare a --threshold much", "much"),
            ("bench --save a/b", "a/b"),
        ] {
            let error = parse_words(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn validations_reports_and_peers_are_understood() {
        let line = "validate --workload NHITS --rounds 2 --skip-tests";
        let Ok(Command::Validate(request)) = parse_words(line) else {
            panic!("{line} is understood")
        };
        assert_eq!((request.workloads.len(), request.rounds), (1, Some(2)));
        assert_eq!(request.command, format!("cargo xtask {line}"));
        let report = Command::Report {
            file: Some("a.json".into()),
            check: false,
        };
        assert_eq!(parse_words("report a.json"), Ok(report));
        for (line, words) in [
            ("validate --round 2", "--rounds N"),
            ("validate --rounds 0", "from 1"),
            ("validate --add --no-steps", "--no-steps"),
            ("report a b", "\"b\""),
            ("peers --pyhton x", "--python FILE"),
        ] {
            let error = parse_words(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn usage_names_every_command_and_option() {
        let all = usage(None);
        assert!(COMMANDS.iter().all(|(name, ..)| all.contains(name)));
        let bench = usage(Some(Topic::Bench));
        assert!(
            bench::OPTIONS
                .iter()
                .all(|(name, ..)| bench.contains(&format!("--{name}")))
        );
    }
}
