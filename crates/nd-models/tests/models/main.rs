//! What models do, in one program: linking the networks into one for each file would take longer than the tests.
//!
//! `cargo test -p nd-models --test models parity::` runs the tests of one file. What counts the process's memory is beside this.

#[path = "../common/mod.rs"]
mod common;
mod forecaster;
mod limits;
mod mistakes;
mod mixed_precision;
mod own_loss;
mod parallel_models;
mod parity;
mod parity_losses;
mod processes;
mod recurrent;
mod same_bits;
#[path = "../support/mod.rs"]
mod support;
mod zoo_contract;
