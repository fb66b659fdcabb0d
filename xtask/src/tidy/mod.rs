//! House rules that no lint knows.
//!
//! In its simple form: read every tracked file, let each rule say where it is broken and what to do, print that as
//! `file:line: what to do`. A rule is a function from the [`Tree`] to findings, with a bad and a good sample in its
//! tests; a new one is such a function and a line in [`RULES`].
//! Known weakness: Rust is read line by line behind a mask of comments and strings, not parsed; what a macro writes is
//! not seen.

mod commands;
mod constants;
mod dependencies;
mod generated;
mod links;
mod references;
mod rust;
mod source;
mod suites;
mod text;
mod tree;

use std::fmt;

use tree::Tree;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    message: String,
    /// From 1; 0 for a whole file.
    line: usize,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// Findings of one kind in one file that are shown; the others are counted.
const SHOWN: usize = 5;

type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: &[Rule] = &[
    text::whitespace,
    text::machine_paths,
    text::size,
    rust::length,
    rust::unfinished_words,
    rust::allow_without_reason,
    rust::ignore_without_reason,
    rust::unsafe_without_safety,
    rust::forbid_unsafe,
    rust::module_prose,
    links::links,
    references::references,
    constants::constants,
    suites::suites,
    generated::generated,
];

/// Checks every rule and prints what is broken.
pub(crate) fn tidy() -> Result<(), String> {
    let tree = Tree::of_workspace()?;
    let mut findings: Vec<_> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    findings.extend(dependencies::dependencies(&tree)?);
    findings.extend(commands::commands(&tree)?);
    findings.sort();
    for place in findings.chunk_by(|a, b| a.path == b.path && a.message == b.message) {
        for finding in place.iter().take(SHOWN) {
            println!("{finding}");
        }
        if place.len() > SHOWN {
            println!(
                "{}: the same in {} more lines",
                place[0].path,
                place.len() - SHOWN
            );
        }
    }
    match findings.len() {
        0 => {
            println!(
                "tidy: {} files, {} rules, nothing to do",
                tree.files.len(),
                RULES.len() + 2
            );
            Ok(())
        }
        1 => Err("tidy found 1 place to mend".to_owned()),
        n => Err(format!("tidy found {n} places to mend")),
    }
}
