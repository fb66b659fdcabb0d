//! The program `exercise`, built as tests are, for `cargo xtask instructions --tests`: the program of the same name outside the tests
//! would have all its crates built a second time, because what tests need changes features of crates that those need.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    nd_bench::exercise::command::main()
}
