//! What measures the claims of the workspace: kernels, attention, threads, precision, and all of them together.
//!
//! In its simple form: do the same work in several ways that take turns, and write down the ratios. The main job's machinery
//! (data sets, trainer, statistics, report, charts) is that of `nd_job`, under the same names here.

#![forbid(unsafe_code)]

pub mod attention;
pub mod defaults;
#[cfg(test)]
mod documents;
pub mod exercise;
pub mod kernels;
pub mod limits;
pub mod parallel;
pub mod phases;
pub mod plain;
pub mod scales;
pub mod sides;
pub mod simulated;
pub mod turns;
pub mod validate;

pub use nd_job::{
    comparison, machine, measure, page, progress, report, request, run, statistics, svg, trainer,
    workloads,
};
