//! What the commands are, in one table.

/// The commands, as topics of help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    Bench,
    Validate,
    Report,
    Peers,
    Profile,
    Doctor,
    Tidy,
    Ci,
    Instructions,
    Standalone,
    TestNeon,
    Accuracy,
    Fmt,
    Lint,
    Doc,
}

impl Topic {
    /// The options of a command without a parser of its own.
    pub(super) fn switches(self) -> &'static [&'static str] {
        match self {
            Self::Fmt => &["check"],
            Self::Ci => &["neon", "instructions", "standalone"],
            Self::Instructions => &["tests", "update"],
            Self::TestNeon => &["short"],
            Self::Bench
            | Self::Validate
            | Self::Report
            | Self::Peers
            | Self::Profile
            | Self::Doctor
            | Self::Tidy
            | Self::Standalone
            | Self::Accuracy
            | Self::Lint
            | Self::Doc => &[],
        }
    }
}

/// Name, topic and summary of every command.
pub(super) const COMMANDS: &[(&str, Topic, &str)] = &[
    (
        "bench",
        Topic::Bench,
        "train and measure the models; without options on embedded data, within minutes; or a suite of benchmarks",
    ),
    (
        "validate",
        Topic::Validate,
        "measure every claim against honest baselines, and go through the checklist",
    ),
    (
        "report",
        Topic::Report,
        "make the tables of README and docs/performance.md from the record; report FILE takes a validation as the record",
    ),
    (
        "peers",
        Topic::Peers,
        "NeuralForecast's training steps beside ours, where it is installed",
    ),
    (
        "profile",
        Topic::Profile,
        "where a workload spends its time, memory and cache misses: cpu, memory, cache or all",
    ),
    (
        "doctor",
        Topic::Doctor,
        "the tools, the processor and its clock, and whether the machine is quiet",
    ),
    (
        "tidy",
        Topic::Tidy,
        "check the house rules that no lint knows",
    ),
    (
        "ci",
        Topic::Ci,
        "every check of a change: fmt, tidy, lint, doc, then the tests; --neon, --instructions (those of the tests) and --standalone add more",
    ),
    (
        "instructions",
        Topic::Instructions,
        "count the instructions of kernels and training steps: more than 3 % from the record fails; --update replaces it; --tests: of the build that tests use",
    ),
    (
        "standalone",
        Topic::Standalone,
        "package each crate and run its README outside the workspace",
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
