//! The program `exercise`: runs one piece of work, for `cargo xtask profile` and `cargo xtask instructions` to watch.
//!
//! ```text
//! exercise NAME [--repeats N | --seconds S] [--warmup N] [--threads N] [--light | --divisor N]
//! exercise --list
//! ```
//!
//! Repetitions that count are calls of `counted_repetitions`, which is never inlined: a tool can collect inside it alone.

use std::process::ExitCode;
use std::time::Instant;

use nd_core::RunOptions;

use super::{Choices, Exercise, exercises};

/// With `--light` a training step has one window in so many: for tools that slow a program down a hundred times.
const LIGHT: usize = 8;

struct Arguments {
    name: String,
    list: bool,
    warmup: usize,
    repeats: usize,
    seconds: Option<f64>,
    choices: Choices,
}

fn parse() -> Result<Arguments, String> {
    use lexopt::prelude::{Long, Value, ValueExt};
    let text = |error: lexopt::Error| error.to_string();
    let mut found = Arguments {
        name: String::new(),
        list: false,
        warmup: 2,
        repeats: 1,
        seconds: None,
        choices: Choices {
            options: RunOptions::default(),
            divisor: 1,
        },
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next().map_err(text)? {
        match argument {
            Value(word) if found.name.is_empty() => found.name = word.string().map_err(text)?,
            Long("list") => found.list = true,
            Long("light") => found.choices.divisor = LIGHT,
            Long(name) => {
                let name = name.to_owned();
                let value = parser.value().map_err(text)?;
                match name.as_str() {
                    "repeats" => found.repeats = value.parse().map_err(text)?,
                    "seconds" => found.seconds = Some(value.parse().map_err(text)?),
                    "divisor" => found.choices.divisor = value.parse().map_err(text)?,
                    "warmup" => found.warmup = value.parse().map_err(text)?,
                    "threads" => {
                        found.choices.options.threads = Some(value.parse().map_err(text)?);
                    }
                    _ => return Err(format!("there is no option --{name}")),
                }
            }
            other => return Err(text(other.unexpected())),
        }
    }
    Ok(found)
}

/// What the command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    match parse().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    if arguments.list {
        for exercise in exercises() {
            println!("{}\t{}", exercise.name, exercise.what);
        }
        return Ok(());
    }
    let exercise = Exercise::find(&arguments.name)?;
    let mut took = (0, 0.0);
    let mut drive = |repetition: &mut dyn FnMut()| {
        for _ in 0..arguments.warmup {
            repetition();
        }
        let start = Instant::now();
        let repeats = counted_repetitions(arguments, start, repetition);
        took = (repeats, start.elapsed().as_secs_f64());
    };
    exercise.run(&arguments.choices, &mut drive)?;
    let (repeats, seconds) = took;
    println!(
        "{{\"repeats\": {repeats}, \"seconds\": {seconds}, \"simd\": \"{}\"}}",
        arguments.choices.options.simd
    );
    Ok(())
}

/// The repetitions that count, and how many they were.
#[inline(never)]
fn counted_repetitions(
    arguments: &Arguments,
    start: Instant,
    repetition: &mut dyn FnMut(),
) -> usize {
    let mut repeats = 0;
    match arguments.seconds {
        None => {
            for _ in 0..arguments.repeats {
                repetition();
                repeats += 1;
            }
        }
        Some(seconds) => {
            while repeats == 0 || start.elapsed().as_secs_f64() < seconds {
                repetition();
                repeats += 1;
            }
        }
    }
    repeats
}
