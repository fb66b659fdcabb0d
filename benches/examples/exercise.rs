//! The program `exercise`, built with the crates that tests use, for `cargo xtask instructions --tests`: what tests need changes features of
//! crates, so the program of that name outside the tests would have most of them built a second time.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    nd_bench::exercise::command::main()
}
