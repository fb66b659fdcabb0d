//! The main job of the workspace: train the models, measure them, write a report that can be checked.
//!
//! In its simple form: for each data set and model, start a process that trains and measures, collect what it found,
//! and write a table, a JSON file and a chart. A process of its own per model makes the peak memory that model's, and a
//! crash one failed row. [`report`] is the schema of the file, [`svg`] the chart.

#![forbid(unsafe_code)]

pub mod attention;
pub mod comparison;
pub mod defaults;
pub mod exercise;
pub mod kernels;
pub mod limits;
pub mod machine;
pub mod measure;
pub mod page;
pub mod parallel;
pub mod phases;
pub mod plain;
pub mod progress;
pub mod report;
pub mod request;
pub mod run;
pub mod scales;
pub mod sides;
pub mod simulated;
pub mod statistics;
pub mod svg;
pub mod trainer;
pub mod turns;
pub mod validate;
pub mod workloads;
