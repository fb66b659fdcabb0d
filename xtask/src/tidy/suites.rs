//! The facade registers every benchmark suite.

use super::Finding;
use super::tree::Tree;

/// Where the suites are.
const SUITES: &str = "benches/benches/";
/// The manifest through which `cargo bench` in the root finds them.
const FACADE: &str = "crates/neuro-divergent/Cargo.toml";

/// Every file of the suites' folder is a `[[bench]]` of the facade.
pub(super) fn suites(tree: &Tree) -> Vec<Finding> {
    let manifest = tree.get(FACADE).and_then(|file| file.text.as_deref());
    let manifest = manifest.unwrap_or_default();
    let files = tree
        .files
        .iter()
        .filter(|f| f.path.starts_with(SUITES) && f.has_extension(&["rs"]));
    files
        .filter(|file| !manifest.contains(&format!("path = \"../../{}\"", file.path)))
        .map(|file| {
            let name = file.path.trim_start_matches(SUITES).trim_end_matches(".rs");
            let message = format!(
                "`cargo bench --package neuro-divergent` does not find it: add to {FACADE}: \
                 [[bench]] name = \"{name}\", path = \"../../{}\", harness = false",
                file.path
            );
            Finding::new(&file.path, 0, message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_that_is_not_registered_is_found() {
        let manifest = "[[bench]]\nname = \"a\"\npath = \"../../benches/benches/a.rs\"\n";
        let tree = Tree::of(&[
            (FACADE, manifest),
            ("benches/benches/a.rs", ""),
            ("benches/benches/b.rs", ""),
        ]);
        let found = suites(&tree);
        assert_eq!(found.len(), 1);
        assert!(found[0].path.ends_with("b.rs") && found[0].message.contains("name = \"b\""));
    }
}
