//! The main job of the workspace: train the models, measure them, write a report that can be checked.
//!
//! In its simple form: for each data set and model, start a process that trains and measures, collect what it found,
//! and write a table, a JSON file and a chart. A process of its own per model makes the peak memory that model's, and a
//! crash one failed row. [`report`] is the schema of the file, [`svg`] the chart.
//!
//! It is a package of its own because it is built before a new user's first figure: what measures single claims is in
//! nd-bench, which builds on this.

#![forbid(unsafe_code)]

pub mod comparison;
pub mod machine;
pub mod measure;
pub mod page;
pub mod progress;
pub mod report;
pub mod request;
pub mod run;
pub mod statistics;
pub mod svg;
pub mod trainer;
pub mod workloads;
