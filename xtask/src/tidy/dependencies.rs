//! Every crate we depend on is listed with its reason, and their number stays small.
//!
//! `docs/dependencies.md` has one table row per crate. Asked for are the crates that a manifest names, and those that
//! the trees of [`COUNTED`] bring along. The second column of a crate that a manifest names lists the packages that do. Cargo is asked for a fixed platform, so that the answer is the same everywhere.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::tree::{File, Tree};
use crate::run::{cargo, list, output, packages, text};

/// Where the reasons are.
const LIST: &str = "docs/dependencies.md";
/// The platform whose tree is listed.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
/// Crates whose whole tree is listed, and the number of crates it may have, itself included.
const COUNTED: [(&str, usize); 2] = [("nd-simd", 45), ("nd-models", 85)];

/// The packages of ours whose manifests name a crate.
type Asked = BTreeMap<String, BTreeSet<String>>;

/// What stands in the second column beside the packages, for a crate that only tests need.
const TESTS_ONLY: &str = "tests only";

/// Compares the list with what cargo says.
pub(super) fn dependencies(tree: &Tree) -> Result<Vec<Finding>, String> {
    let packages = packages()?;
    let ours: BTreeSet<&str> = packages
        .iter()
        .map(|package| text(package, "name"))
        .collect();
    let mut asked = Asked::new();
    for package in &packages {
        // What comes from nowhere is ours.
        let others = list(package, "dependencies")
            .iter()
            .filter(|d| d["source"].is_string());
        for dependency in others {
            let by = asked
                .entry(text(dependency, "name").to_owned())
                .or_default();
            by.insert(text(package, "name").to_owned());
        }
    }
    let mut used: BTreeSet<String> = asked.keys().cloned().collect();
    let mut findings = Vec::new();
    for (name, most) in COUNTED {
        let arguments = [
            "tree",
            "--locked",
            "--package",
            name,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--target",
            PLATFORM,
        ];
        let crates = unique_crates(&output(&mut cargo(&arguments))?);
        if let Some(finding) = too_many(name, crates.len(), most) {
            findings.push(finding);
        }
        used.extend(
            crates
                .iter()
                .map(|(name, _)| name.clone())
                .filter(|name| !ours.contains(name.as_str())),
        );
    }
    findings.extend(compare(tree.get(LIST), &used, &asked));
    Ok(findings)
}

/// Names and versions in the output of `cargo tree --prefix none`; a crate that occurs again is marked `(*)` there.
fn unique_crates(tree: &str) -> BTreeSet<(String, String)> {
    tree.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        })
        .collect()
}

fn too_many(name: &str, found: usize, most: usize) -> Option<Finding> {
    (found > most).then(|| {
        let message = format!(
            "the tree of {name} has {found} crates, more than {most}: do without one, or raise COUNTED in xtask with the reason"
        );
        Finding::new("Cargo.toml", 0, message)
    })
}

/// Rows against crates.
fn compare(list: Option<&File>, used: &BTreeSet<String>, asked: &Asked) -> Vec<Finding> {
    let Some(list) = list else {
        return vec![Finding::new(
            LIST,
            0,
            "the list of dependencies is missing: write it",
        )];
    };
    let mut findings = Vec::new();
    let mut listed = BTreeSet::new();
    for (line, text) in list.lines() {
        let Some((name, by, reason)) = row(text) else {
            continue;
        };
        if let Some(packages) = asked.get(name) {
            let listed: BTreeSet<&str> = by.split(", ").filter(|&by| by != TESTS_ONLY).collect();
            if !listed
                .iter()
                .copied()
                .eq(packages.iter().map(String::as_str))
            {
                let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
                let message = format!(
                    "{name} is asked for by {}: write that into the second column",
                    packages.join(", ")
                );
                findings.push(Finding::new(LIST, line, message));
            }
        }
        if !used.contains(name) {
            findings.push(Finding::new(
                LIST,
                line,
                format!("nothing depends on {name} any more: remove the row"),
            ));
        }
        if reason.is_empty() {
            findings.push(Finding::new(
                LIST,
                line,
                format!("{name} has no reason: give one"),
            ));
        }
        if !listed.insert(name.to_owned()) {
            findings.push(Finding::new(
                LIST,
                line,
                format!("{name} is listed twice: keep one row"),
            ));
        }
    }
    for name in used.difference(&listed) {
        findings.push(Finding::new(
            LIST,
            0,
            format!("{name} is used but not listed: add a row with its reason"),
        ));
    }
    findings
}

/// The crate, the second and the last column of a table row that begins with a name in backticks.
fn row(text: &str) -> Option<(&str, &str, &str)> {
    let inner = text.trim().strip_prefix('|')?.strip_suffix('|')?;
    let (first, rest) = inner.split_once('|')?;
    let name = first.trim().strip_prefix('`')?.strip_suffix('`')?;
    let by = rest.split('|').next().unwrap_or_default().trim();
    let reason = rest.rsplit('|').next().unwrap_or_default().trim();
    Some((name, by, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_list_and_the_tree_must_agree() {
        let text = "| crate | by | why |\n|---|---|---|\n| `a` | us | it is needed |\n| `b` | us | |\n| `gone` | us | was |\n| `a` | us | again |\n";
        let file = File::new(LIST, text.as_bytes());
        let found = compare(Some(&file), &used(&["a", "b", "c"]), &Asked::new());
        let lines: Vec<_> = found.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [4, 5, 6, 0], "{found:?}");
        let good = File::new(LIST, b"| `a` | us | it is needed |\n");
        assert_eq!(compare(Some(&good), &used(&["a"]), &Asked::new()), []);
        assert_eq!(compare(None, &used(&["a"]), &Asked::new()).len(), 1);
    }

    #[test]
    fn the_second_column_names_who_asks() {
        let asked = Asked::from([("a".to_owned(), used(&["one", "two"]))]);
        for (by, findings) in [
            ("one, two", 0),
            ("two, one, tests only", 0),
            ("one", 1),
            ("one, two, three", 1),
            ("", 1),
        ] {
            let text = format!("| `a` | {by} | it is needed |\n| `b` | a | brought along |\n");
            let file = File::new(LIST, text.as_bytes());
            let found = compare(Some(&file), &used(&["a", "b"]), &asked);
            assert_eq!(found.len(), findings, "{by}: {found:?}");
        }
    }

    #[test]
    fn crates_are_counted_once() {
        let tree = "a v1.0.0\nb v2.0.0\na v1.0.0 (*)\na v2.0.0\n\n";
        assert_eq!(unique_crates(tree).len(), 3);
        assert!(too_many("x", 46, 45).is_some());
        assert!(too_many("x", 45, 45).is_none());
    }
}
