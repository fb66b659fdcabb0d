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
    let (_, section) = SCALING
        .split_once("\n## What it would be worth\n")
        .expect("the page has a section of the cost model");
    assert!(!section.contains("\n## "), "it is the last one");
    let mut titled = false;
    for line in section.lines() {
        match line {
            title if title.starts_with("### ") => titled = title.starts_with("### Simulated: "),
            rule if rule.starts_with("|---|") => {
                assert!(
                    titled,
                    "a table without a title of its own that says simulated"
                );
                titled = false;
            }
            _ => {}
        }
    }
}

/// A network that looks at the whole batch stays in one process: no column promises it more.
#[test]
fn many_machines_are_simulated_for_networks_of_independent_rows() {
    for work in crate::simulated::WORKLOADS {
        let entry = ZOO.iter().find(|entry| entry.name == work.name);
        let entry = entry.expect("a model of the zoo");
        let dims = nd_models::nn::ModelDims::univariate(96, 24);
        let network = (entry.config)().build::<f32>(&dims).expect("a network");
        assert_eq!(network.coupling(), nd_core::RowCoupling::RowLocal);
        let parameters = network.layout().trainable_count();
        assert_eq!(parameters as f64, work.parameters, "{}", work.name);
    }
}
