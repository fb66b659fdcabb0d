//! Bounds that a document repeats are those of the code.

use super::Finding;
use super::tree::Tree;

/// The document that lists error bounds and tolerances.
const DOCUMENT: &str = "docs/numerics.md";

/// Every table row ``| `NAME` | value |`` names a constant of the code, with its value.
pub(super) fn constants(tree: &Tree) -> Vec<Finding> {
    let Some(document) = tree.get(DOCUMENT) else {
        return vec![Finding::new(
            DOCUMENT,
            0,
            "the list of error bounds is missing: write it",
        )];
    };
    let mut findings = Vec::new();
    for (line, text) in document.lines() {
        let Some((name, value)) = row(text) else {
            continue;
        };
        let message = match value_of(tree, name) {
            None => format!("no constant is called {name}: remove the row or correct the name"),
            Some(found) if found != value => {
                format!("{name} is {found} in the code, not {value}: correct one of them")
            }
            Some(_) => continue,
        };
        findings.push(Finding::new(DOCUMENT, line, message));
    }
    findings
}

fn row(text: &str) -> Option<(&str, &str)> {
    let mut cells = text.trim().strip_prefix('|')?.split('|').map(str::trim);
    let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
    Some((name, cells.next()?))
}

/// What stands behind `const NAME: type =`.
fn value_of<'a>(tree: &'a Tree, name: &str) -> Option<&'a str> {
    let declaration = format!("const {name}:");
    tree.rust()
        .flat_map(|file| file.code_lines())
        .find_map(|(_, code)| {
            let rest = &code[code.find(&declaration)? + declaration.len()..];
            Some(rest.split_once('=')?.1.trim().trim_end_matches(';'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(table: &str) -> Tree {
        let code = "pub const EXP_MAX_ULP: f64 = 1.1;\n";
        Tree::of(&[(DOCUMENT, table), ("crates/a/src/lib.rs", code)])
    }

    #[test]
    fn values_that_differ_and_names_that_are_gone_are_found() {
        let bad =
            tree("| constant | value |\n|---|---|\n| `EXP_MAX_ULP` | 1.0 | x |\n| `GONE` | 2 |\n");
        let lines: Vec<_> = constants(&bad)
            .into_iter()
            .map(|finding| finding.line)
            .collect();
        assert_eq!(lines, [3, 4]);
        assert_eq!(constants(&tree("| `EXP_MAX_ULP` | 1.1 | x |\n")), []);
        assert_eq!(constants(&Tree::of(&[])).len(), 1);
    }
}
