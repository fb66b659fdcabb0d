//! Runs one piece of work: see [`nd_bench::exercise::command`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    nd_bench::exercise::command::main()
}
