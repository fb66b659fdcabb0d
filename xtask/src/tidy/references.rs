//! A rule for specifications: a reference imports nothing but std and libm.

use super::Finding;
use super::tree::Tree;

/// Whose paths a reference may name.
const ALLOWED: &[&str] = &["std", "core", "libm", "super", "self"];

/// Whether a file is a specification: in a folder `reference` of a crate's sources, or a file of that name.
fn is_reference(path: &str) -> bool {
    path.starts_with("crates/")
        && path.split_once("/src/").is_some_and(|(_, rest)| {
            let rest = format!("/{rest}");
            rest.ends_with("/reference.rs") || rest.contains("/reference/")
        })
}

/// No path of a reference leads to our own code or to another crate: what shares code with a kernel shares its mistakes.
pub(super) fn references(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust().filter(|file| is_reference(&file.path)) {
        for (line, code) in file.code_lines() {
            if let Some(found) = heads(code).find(|head| !is_allowed(head)) {
                findings.push(Finding::new(
                    &file.path,
                    line,
                    format!("a reference names {found}: it may import nothing but std and libm"),
                ));
            }
        }
    }
    findings
}

/// Beginnings of paths that name a crate or a module: lower-case words before `::` or after `use`, with the word that
/// follows `crate`.
fn heads(code: &str) -> impl Iterator<Item = String> {
    let imported = code.trim_start();
    let imported = imported.strip_prefix("pub ").unwrap_or(imported);
    let imported = imported.strip_prefix("use ").map(|path| {
        let path = path.trim_start_matches("::");
        let end = path.find([';', '{', ',', ' ']).unwrap_or(path.len());
        path[..end].trim_end_matches("::").to_owned()
    });
    let named = code.match_indices("::").filter_map(|(at, _)| {
        let before = &code[..at];
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
            .map_or(0, |i| i + 1);
        let is_head = !before[..start].ends_with("::");
        let rest = &code[at + 2..];
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let is_generic = rest.starts_with('<');
        (is_head && start < at && !is_generic)
            .then(|| format!("{}::{}", &before[start..], &rest[..end]))
    });
    let paths: Vec<String> = imported.into_iter().chain(named).collect();
    paths.into_iter()
}

fn is_allowed(path: &str) -> bool {
    let (head, rest) = path.split_once("::").unwrap_or((path, ""));
    let rest = rest.split("::").next().unwrap_or_default();
    let numeric = ["f64", "f32", "usize", "isize", "u64", "u32", "i64", "i32"];
    let is_type = head.starts_with(char::is_uppercase);
    ALLOWED.contains(&head)
        || numeric.contains(&head)
        || is_type
        || (head == "crate" && rest == "reference")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "crates/nd-simd/src/reference/matmul.rs";

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let findings = references(&Tree::of(&[(path, text)]));
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn other_crates_and_our_own_code_are_found() {
        let bad = "use nd_core::Real;\nuse crate::matmul::{MatMut, MatRef};\nuse std::fmt;\nlet x = crate::lanes::f();\n\
                   use ndarray;\nuse half::bf16;\npub use crate::{math};\nlet y = nd_core::rng::f();\n";
        assert_eq!(lines(PATH, bad), [1, 2, 4, 5, 6, 7, 8]);
        let single = "crates/nd-attention/src/reference.rs";
        assert_eq!(lines(single, "use crate::AttentionShape;\n"), [1]);
    }

    #[test]
    fn std_libm_and_other_references_are_fine() {
        let good = "use std::f64::consts::{PI, SQRT_2};\nuse libm::erfc;\nuse super::softmax;\n\
                    use crate::reference::activations;\nlet x = f64::NEG_INFINITY + libm::erf(std::f64::consts::PI);\n\
                    let v = Vec::with_capacity(3);\nlet s = x.iter().sum::<f64>();\n// crate::matmul\nfn a() -> Self::B {}\n";
        assert_eq!(lines(PATH, good), [0; 0]);
    }

    #[test]
    fn other_files_may_import_what_they_like() {
        let text = "use nd_core::Real;\n";
        for path in [
            "crates/nd-simd/src/softmax.rs",
            "crates/nd-simd/tests/reference.rs",
            "xtask/src/reference.rs",
        ] {
            assert_eq!(lines(path, text), [0; 0]);
        }
    }
}
