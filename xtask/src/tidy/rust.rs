//! Rules for Rust files.

use super::Finding;
use super::tree::{File, Tree};

/// Lines of a file outside tests; beyond, it is two files.
const LONGEST: usize = 600;
/// Crates in which `unsafe` may stand: buffers, kernels and what counts allocations.
const MAY_BE_UNSAFE: &[&str] = &["nd-core", "nd-simd", "nd-attention", "nd-testing"];
/// Lines of an unfinished statement that may stand between a SAFETY comment and its `unsafe`.
const STATEMENT_LINES: usize = 3;

/// Halves of words that a finished program does without; halves, so that this file is not found itself.
const UNFINISHED: &[(&str, &str)] = &[
    ("to", "do!"),
    ("to", "do:"),
    ("to", "do("),
    ("unimpl", "emented!"),
    ("place", "holder"),
    ("for ", "now"),
    ("simpli", "fied"),
    ("not impl", "emented"),
    ("not yet impl", "emented"),
    ("dum", "my"),
    ("fix", "me"),
    ("xx", "x"),
];

/// Whether a file is a test: in a folder of tests, or named as one.
fn is_test(path: &str) -> bool {
    path.split('/')
        .any(|part| part == "tests" || part == "test")
        || path.ends_with("_test.rs")
        || path.ends_with("_tests.rs")
}

/// Files stay short enough to be read in one go.
pub(super) fn length(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter(|file| !is_test(&file.path))
        .filter_map(|file| {
            let lines = file.text.as_deref().unwrap_or_default().lines().count();
            (lines > LONGEST).then(|| {
                let message =
                    format!("{lines} lines, more than {LONGEST}: split the file by topic");
                Finding::new(&file.path, 0, message)
            })
        })
        .collect()
}

/// No word that announces work to be done.
pub(super) fn unfinished_words(tree: &Tree) -> Vec<Finding> {
    let words: Vec<String> = UNFINISHED.iter().map(|(a, b)| format!("{a}{b}")).collect();
    let (capital, short) = (["TO", "DO"].concat(), ["st", "ub"].concat());
    let mut findings = Vec::new();
    for file in tree.rust() {
        for (line, text) in file.lines() {
            let lower = text.to_lowercase();
            let found = words
                .iter()
                .find(|word| lower.contains(word.as_str()))
                .or_else(|| has_word_end(text, &capital).then_some(&capital))
                .or_else(|| has_word_end(&lower, &short).then_some(&short));
            if let Some(word) = found {
                findings.push(Finding::new(
                    &file.path,
                    line,
                    format!("{word:?} smells of unfinished work: finish it, or say what is meant in other words"),
                ));
            }
        }
    }
    findings
}

/// Whether `word` occurs and no letter follows it.
fn has_word_end(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let next = text[at + word.len()..].chars().next();
        !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// Every exception from a lint says why.
pub(super) fn allow_without_reason(tree: &Tree) -> Vec<Finding> {
    attributes(tree, &["allow(", "expect("], |text| {
        !text.contains("reason")
    })
    .map(|(path, line)| {
        let message = "an allow without its reason: add reason = \"...\"";
        Finding::new(path, line, message)
    })
    .collect()
}

/// Every test that does not run says why.
pub(super) fn ignore_without_reason(tree: &Tree) -> Vec<Finding> {
    attributes(tree, &["ignore"], |text| !text.contains('='))
        .map(|(path, line)| {
            let message = "a test that does not run, without its reason: write #[ignore = \"...\"]";
            Finding::new(path, line, message)
        })
        .collect()
}

/// Attributes that begin with one of `names` and whose code, up to the closing bracket, is `bad`.
fn attributes<'a>(
    tree: &'a Tree,
    names: &'a [&str],
    bad: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = (&'a str, usize)> {
    tree.rust().flat_map(move |file| {
        let lines: Vec<_> = file.code_lines().collect();
        let mut found = Vec::new();
        for (at, (line, text)) in lines.iter().enumerate() {
            let text = text.trim_start();
            let Some(body) = text.strip_prefix("#[").or_else(|| text.strip_prefix("#![")) else {
                continue;
            };
            if !names.iter().any(|name| body.starts_with(name)) {
                continue;
            }
            let mut whole = String::new();
            for (_, text) in &lines[at..] {
                whole += text;
                if whole.matches('[').count() <= whole.matches(']').count() {
                    break;
                }
            }
            if bad(&whole) {
                found.push((file.path.as_str(), *line));
            }
        }
        found
    })
}

/// Every `unsafe` block and impl stands below the reason why it is sound.
pub(super) fn unsafe_without_safety(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        let text: Vec<&str> = file.lines().map(|(_, text)| text.trim()).collect();
        let code: Vec<&str> = file.code_lines().map(|(_, code)| code.trim()).collect();
        for at in 0..code.len() {
            if opens_unsafe(code[at]) && !has_safety(&text, &code, at) {
                let message =
                    "unsafe without a `// SAFETY:` comment directly above: say why it is sound";
                findings.push(Finding::new(&file.path, at + 1, message));
            }
        }
    }
    findings
}

fn opens_unsafe(code: &str) -> bool {
    code.match_indices("unsafe").any(|(at, word)| {
        let before = code[..at].chars().next_back();
        let rest = code[at + word.len()..].trim_start();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            && (rest.starts_with('{') || rest.starts_with("impl"))
    })
}

/// Whether the comment block above the statement of line `at`, or the line itself, says SAFETY.
fn has_safety(text: &[&str], code: &[&str], at: usize) -> bool {
    if text[at].contains("SAFETY:") {
        return true;
    }
    let mut line = at;
    for _ in 0..=STATEMENT_LINES {
        let Some(above) = line.checked_sub(1) else {
            return false;
        };
        if text[above].starts_with("//") {
            return (0..=above)
                .rev()
                .take_while(|&i| text[i].starts_with("//"))
                .any(|i| text[i].contains("SAFETY:"));
        }
        let ended = code[above].is_empty() || code[above].ends_with([';', '}']);
        let outside = code[above].ends_with('{') && code[above].contains("fn ");
        if !text[above].starts_with("#[") && (ended || outside) {
            return false;
        }
        line = above;
    }
    false
}

/// Where `unsafe` has no business, the compiler forbids it.
pub(super) fn forbid_unsafe(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter(|file| {
            let Some((krate, rest)) = crate_of(file) else {
                return false;
            };
            (rest == "src/lib.rs" || rest == "src/main.rs" || rest.starts_with("src/bin/"))
                && !MAY_BE_UNSAFE.contains(&krate)
                && rest.matches('/').count() <= 2
        })
        .filter(|file| {
            !file
                .code_lines()
                .any(|(_, code)| code.trim() == "#![forbid(unsafe_code)]")
        })
        .map(|file| {
            let message = "the crate root lacks #![forbid(unsafe_code)]: add it, or name the crate in xtask's MAY_BE_UNSAFE";
            Finding::new(&file.path, 1, message)
        })
        .collect()
}

/// The crate of a file and the file's path within it.
fn crate_of(file: &File) -> Option<(&str, &str)> {
    match file.path.strip_prefix("crates/") {
        Some(rest) => rest.split_once('/'),
        None => file
            .path
            .split_once('/')
            .filter(|(krate, _)| ["benches", "xtask"].contains(krate)),
    }
}

/// Every module begins by saying in prose what it is.
pub(super) fn module_prose(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter(|file| {
            crate_of(file).is_some_and(|(_, rest)| rest.starts_with("src/"))
                && !is_test(&file.path)
                && !file.path.ends_with("/tests.rs")
        })
        .filter(|file| {
            let text = file.text.as_deref().unwrap_or_default();
            !text.starts_with("//! ")
        })
        .map(|file| {
            let message = "the file does not begin with //! prose: say first what the module is";
            Finding::new(&file.path, 1, message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: &[Finding]) -> Vec<usize> {
        findings.iter().map(|finding| finding.line).collect()
    }

    fn of(text: &str) -> Tree {
        Tree::of(&[("crates/nd-core/src/a.rs", text)])
    }

    #[test]
    fn long_files_are_found_outside_tests() {
        let long = "x\n".repeat(601);
        assert_eq!(length(&of(&long)).len(), 1);
        assert_eq!(length(&of(&long[2..])), []);
        let tests = [
            ("a/tests/b.rs", long.as_str()),
            ("a/src/b_tests.rs", &long),
            ("a.md", &long),
        ];
        assert_eq!(length(&Tree::of(&tests)), []);
    }

    #[test]
    fn words_of_unfinished_work_are_found() {
        for (a, b) in UNFINISHED {
            let bad = format!("fn a() {{}}\n// {a}{b}\n");
            assert_eq!(lines(&unfinished_words(&of(&bad))), [2], "{bad}");
        }
        let bad = format!("// a {}{} here\nlet {}{} = 1;\n", "TO", "DO", "st", "ub");
        assert_eq!(lines(&unfinished_words(&of(&bad))), [1, 2]);
        assert_eq!(
            unfinished_words(&of("// stubborn, method, fortnight\n")),
            []
        );
    }

    #[test]
    fn allow_and_ignore_need_reasons() {
        let bad =
            "#[allow(unused)]\nfn a() {}\n#![allow(\n    dead_code,\n)]\n#[ignore]\nfn b() {}\n";
        assert_eq!(lines(&allow_without_reason(&of(bad))), [1, 3]);
        assert_eq!(lines(&ignore_without_reason(&of(bad))), [6]);
        let good = "#[allow(\n    unused,\n    reason = \"why\"\n)]\n#[ignore = \"needs a file\"]\nfn a() {}\n// #[ignore]\n";
        assert_eq!(allow_without_reason(&of(good)), []);
        assert_eq!(ignore_without_reason(&of(good)), []);
    }

    #[test]
    fn unsafe_needs_its_reason_directly_above() {
        let bad = "fn a() {\n    unsafe { b() }\n}\nunsafe impl Send for C {}\n// SAFETY: far away\nlet x = 1;\nlet y = unsafe { b() };\n";
        assert_eq!(lines(&unsafe_without_safety(&of(bad))), [2, 4, 7]);
        let good = "// SAFETY: sound\n// because.\nlet x =\n    unsafe { b() };\n// SAFETY: plain data\n#[cfg(a)]\nunsafe impl Send for C {}\n// unsafe { }\nunsafe fn d() {}\n// SAFETY: a mask\nSelf {\n    a,\n    b: unsafe { c() },\n};\nlet s = \"unsafe { }\";\n";
        assert_eq!(unsafe_without_safety(&of(good)), []);
    }

    #[test]
    fn crate_roots_forbid_unsafe() {
        let bad = [
            ("crates/nd-data/src/lib.rs", "//! Data.\n"),
            ("xtask/src/main.rs", "// #![forbid(unsafe_code)]\n"),
        ];
        assert_eq!(forbid_unsafe(&Tree::of(&bad)).len(), 2);
        let good = [
            (
                "crates/nd-data/src/lib.rs",
                "//! Data.\n#![forbid(unsafe_code)]\n",
            ),
            ("crates/nd-simd/src/lib.rs", "//! Kernels.\n"),
            ("crates/nd-data/src/csv/lib.rs", ""),
        ];
        assert_eq!(forbid_unsafe(&Tree::of(&good)), []);
    }

    #[test]
    fn modules_begin_with_prose() {
        assert_eq!(lines(&module_prose(&of("use a;\n"))), [1]);
        assert_eq!(module_prose(&of("//! What it is.\n")), []);
        let tests = [
            ("crates/a/tests/b.rs", "use a;\n"),
            ("crates/a/src/tests.rs", "use a;\n"),
        ];
        assert_eq!(module_prose(&Tree::of(&tests)), []);
    }
}
