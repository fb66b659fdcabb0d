//! Documents say what the code has.

use nd_models::zoo::ZOO;

const README: &str = include_str!("../../README.md");
const PERFORMANCE: &str = include_str!("../../docs/performance.md");
const SCALING: &str = include_str!("../../docs/scaling.md");

#[test]
fn the_readme_lists_every_model_and_no_other() {
    let table = README
        .split("## Models")
        .nth(1)
        .and_then(|section| section.split("\n## ").next())
        .expect("the README has a section on models");
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let listed: Vec<&str> = rows
        .map(|row| row[2..].split(' ').next().unwrap_or(""))
        .collect();
    let known: Vec<&str> = ZOO.iter().map(|entry| entry.name).collect();
    assert_eq!(listed, known);
}

#[test]
fn the_schema_of_the_report_is_described() {
    let version = crate::report::SCHEMA_VERSION;
    assert!(PERFORMANCE.contains(&format!("| `schema_version` | {version};")));
}

#[test]
fn the_tables_of_many_machines_are_those_of_the_model() {
    let tables = crate::simulated::tables();
    assert!(
        SCALING.contains(&tables),
        "docs/scaling.md differs from what `parallel simulate` prints:\n{tables}"
    );
    let mut titles = SCALING.lines().filter(|line| line.starts_with("### "));
    assert!(titles.all(|title| title.starts_with("### Simulated: ")));
}
