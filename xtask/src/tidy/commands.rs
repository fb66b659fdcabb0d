//! Commands in documents exist.
//!
//! Every line of a fenced block marked `sh` that calls cargo is held against what there is: `cargo xtask ...` is parsed as if it were
//! typed, and packages, benchmarks, programs, examples, tests and features of other calls are looked up in what cargo says.

use std::collections::BTreeSet;
use std::ffi::OsString;

use serde_json::Value;

use super::Finding;
use super::tree::Tree;
use crate::run::{list, packages, text};

/// Kinds and names: `("bench", "simd_benchmarks")`, `("package", "nd-simd")`, `("feature", "simd")`.
type Known = BTreeSet<(String, String)>;

/// Options without a value.
const FLAGS: [&str; 10] = [
    "--release",
    "--no-default-features",
    "--all-features",
    "--workspace",
    "--lib",
    "--doc",
    "--quiet",
    "--locked",
    "--bins",
    "--all-targets",
];
/// Calls of cargo that are looked into.
const CALLS: [&str; 5] = ["bench", "build", "run", "test", "clippy"];

/// Checks the commands of every document.
pub(super) fn commands(tree: &Tree) -> Result<Vec<Finding>, String> {
    Ok(check(tree, &known(&packages()?)))
}

fn known(packages: &[Value]) -> Known {
    let mut known = Known::new();
    for package in packages {
        known.insert(("package".to_owned(), text(package, "name").to_owned()));
        for feature in package["features"]
            .as_object()
            .into_iter()
            .flat_map(|f| f.keys())
        {
            known.insert(("feature".to_owned(), feature.clone()));
        }
        for target in list(package, "targets") {
            for kind in list(target, "kind").iter().filter_map(Value::as_str) {
                known.insert((kind.to_owned(), text(target, "name").to_owned()));
            }
        }
    }
    known
}

fn check(tree: &Tree, known: &Known) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_ours = |path: &str| {
        path == "README.md" || path.starts_with("docs/") || path.starts_with("crates/")
    };
    let documents = tree
        .files
        .iter()
        .filter(|f| is_ours(&f.path) && f.has_extension(&["md"]));
    for file in documents {
        let mut inside = false;
        for (line, text) in file.lines() {
            if let Some(kind) = text.trim_start().strip_prefix("```") {
                inside = !inside && kind.trim() == "sh";
            } else if inside && let Some(message) = wrong(text, known) {
                findings.push(Finding::new(&file.path, line, message));
            }
        }
    }
    findings
}

/// What is wrong with a line of a shell.
fn wrong(line: &str, known: &Known) -> Option<String> {
    // A variable before the command, and a comment behind it.
    let line = line.split(" #").next().unwrap_or_default();
    let is_assignment = |word: &&str| word.contains('=') && !word.starts_with('-');
    let mut words = line.split_whitespace().skip_while(is_assignment);
    if words.next() != Some("cargo") {
        return None;
    }
    let call = words.next()?;
    let words: Vec<&str> = words.collect();
    if call == "xtask" {
        return crate::flags::parse(words.iter().map(OsString::from)).err();
    }
    if !CALLS.contains(&call) {
        return Some(format!(
            "`cargo {call}` is not among the calls that are checked: {CALLS:?}"
        ));
    }
    let mut words = words.into_iter().take_while(|&word| word != "--");
    while let Some(word) = words.next() {
        let kind = match word {
            "--package" | "-p" => "package",
            "--features" => "feature",
            "--bench" => "bench",
            "--bin" => "bin",
            "--example" => "example",
            "--test" => "test",
            "--release" if call == "bench" => {
                return Some("`cargo bench` refuses --release: it is always optimised".to_owned());
            }
            word if FLAGS.contains(&word) => continue,
            word => {
                return Some(format!(
                    "cargo {call}: {word} is not an option that is checked"
                ));
            }
        };
        let value = words.next().unwrap_or_default().trim_matches(['"', '\'']);
        for name in value.split(',') {
            if !known.contains(&(kind.to_owned(), name.to_owned())) {
                return Some(format!("there is no {kind} {name:?}: correct the command"));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known_here() -> Known {
        [("package", "nd-simd"), ("bench", "b"), ("feature", "simd")]
            .map(|(kind, name)| (kind.to_owned(), name.to_owned()))
            .into()
    }

    #[test]
    fn commands_that_do_not_exist_are_found() {
        let text = "```sh\ncargo bench --bench a\ncargo xtask bnech\ncargo bench --release\nX=1 cargo test -p nd-smid\n\
                    cargo build --features \"simd,gpu\"\ncargo frobnicate\n```\n";
        let findings = check(&Tree::of(&[("docs/a.md", text)]), &known_here());
        let lines: Vec<usize> = findings.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn what_exists_passes_and_other_languages_are_left_alone() {
        let text = "```sh\n# a comment\ncargo bench --package nd-simd --bench b --features simd -- gemm\ncargo xtask tidy # rules\n\
                    ls\n```\n```text\ncargo nonsense\n```\n```rust\ncargo xtask no\n```\n";
        assert_eq!(check(&Tree::of(&[("README.md", text)]), &known_here()), []);
        assert_eq!(
            check(
                &Tree::of(&[("benches/x.md", "```sh\ncargo nonsense\n```\n")]),
                &known_here()
            ),
            []
        );
    }
}
