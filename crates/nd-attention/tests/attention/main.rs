//! What attention does, in one program, which is linked once for all files.
//!
//! `cargo test -p nd-attention --test attention flash::` runs the tests of one file. What counts the process's memory is beside
//! this, and so are the slice kernels, which the short form on aarch64 runs by themselves.

#[path = "../common/mod.rs"]
mod common;
mod flash;
mod flash_arrays;
mod flash_in_place;
mod golden;
mod half;
mod op;
mod op_half;
mod op_rounded;
mod properties;
mod refusals;
