//! The workspace's own commands: `cargo xtask COMMAND`.
//!
//! In its simple form each command is a few calls of cargo. `tidy` is the exception: it holds the house rules that no
//! lint knows, as small functions over the text of the tracked files. None of our crates is compiled for this one, so
//! that the first answer comes within seconds.

#![forbid(unsafe_code)]

mod bench;
mod ci;
mod clock;
mod compare;
mod doctor;
mod flags;
mod instructions;
mod neon;
mod peers;
mod profile;
mod report;
mod run;
mod standalone;
mod suites;
mod tidy;
mod tools;
mod validate;

use std::process::ExitCode;

use flags::Command;

/// The exit code of a command that found something wrong.
const FAILED: u8 = 1;
/// The exit code of a command line that cannot be understood.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let command = match flags::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(MISUSED);
        }
    };
    let outcome = match command {
        Command::Help(topic) => {
            print!("{}", flags::usage(topic));
            return ExitCode::SUCCESS;
        }
        Command::Version => {
            println!("{}", flags::version());
            return ExitCode::SUCCESS;
        }
        Command::Bench(request) => {
            return match &request.suite {
                Some(suite) => suites::bench(&request, suite),
                None => bench::bench(&request),
            };
        }
        Command::Validate(request) => return validate::validate(&request),
        Command::Report { file, check } => report::report(file.as_ref(), check),
        Command::Peers(request) => return peers::peers(&request),
        Command::Profile(request) => return profile::profile(&request),
        Command::Doctor => doctor::doctor(),
        Command::Tidy => tidy::tidy(),
        Command::Ci(request) => return ci::ci(request),
        Command::Instructions { build, update } => instructions::instructions(build, update),
        Command::Standalone => standalone::standalone(),
        Command::TestNeon { short } => return neon::command(short),
        Command::Accuracy => ci::accuracy(),
        Command::Fmt { check } => ci::fmt(check),
        Command::Lint => ci::lint(),
        Command::Doc => ci::doc(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(FAILED)
        }
    }
}
