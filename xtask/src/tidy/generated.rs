//! Tables that are made from records say what these say.

use super::Finding;
use super::tree::Tree;
use crate::report::{DOCUMENTS, RECORDS, Records, made, parse};

/// Every document with tables is as `cargo xtask report` would make it; a record that is not there has empty tables.
pub(super) fn generated(tree: &Tree) -> Vec<Finding> {
    let mut records = Records::default();
    for (file, value) in RECORDS.iter().zip(&mut records.0) {
        let Some(record) = tree.get(file.path).and_then(|file| file.text.as_deref()) else {
            continue;
        };
        match parse(record) {
            Ok(record) => *value = record,
            Err(error) => return vec![Finding::new(file.path, 0, error)],
        }
    }
    let mut findings = Vec::new();
    for document in DOCUMENTS {
        let Some(text) = tree.get(document).and_then(|file| file.text.as_deref()) else {
            continue;
        };
        match made(text, &records) {
            Ok(new) if new == text => {}
            Ok(new) => {
                let mut pairs = text.lines().zip(new.lines());
                let line = pairs.position(|(old, new)| old != new).unwrap_or(0) + 1;
                let message = "the table differs from its record in benches/record: cargo xtask report makes it again";
                findings.push(Finding::new(document, line, message));
            }
            Err(error) => findings.push(Finding::new(document, 0, error)),
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str =
        r#"{"kind": "validation", "schema_version": 1, "machine": {}, "workloads": []}"#;

    #[test]
    fn a_table_that_was_changed_by_hand_is_found() {
        let begin = "# A\n<!-- ablation: made by cargo xtask report -->";
        let end = "<!-- end of ablation -->\n";
        let records = || Records([parse(RECORDED).unwrap(), parse(RECORDED).unwrap()]);
        let good = made(&format!("{begin}\n{end}"), &records()).unwrap();
        let bad = good.replace("| alone |", "| together |");
        assert_ne!(good, bad);
        let of = |text: &str| {
            generated(&Tree::of(&[
                ("README.md", text),
                (RECORDS[0].path, RECORDED),
            ]))
        };
        assert_eq!(of(&good), []);
        assert_eq!(of(&bad)[0].line, 4);
        assert_eq!(generated(&Tree::of(&[("README.md", "no record\n")])), []);
    }
}
