//! What threads are worth; the tables of docs/performance.md and docs/scaling.md.
//!
//! ```text
//! parallel scaling  [--filter TEXT] [--threads N] [--rounds N] [--seconds S]
//! parallel overhead [--threads N] [--rounds N]
//! parallel zoo      [--filter TEXT] [--threads N] [--seconds S]
//! parallel simulate
//! ```
//!
//! `scaling` times each case on 1, 2, 4, 8 and 16 threads, in turns, as far as the machine has cores; the speed-up is the median over
//! rounds with its 95 % interval. Behind it stand the speed-up of multiply-adds that touch no memory, taken in the same rounds, and the
//! median over the rounds in which these had the cores to themselves. `simulate` measures nothing: it prints the cost model's tables.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use nd_bench::machine::{Machine, cores, load_average};
use nd_bench::parallel::{overhead, scaling, zoo};
use nd_bench::simulated;
use nd_bench::statistics::Interval;
use nd_bench::turns::Effort;
use nd_core::SimdLevel;

/// The numbers of threads of the quick reference's table.
const THREADS: [usize; 5] = [1, 2, 4, 8, 16];

struct Arguments {
    command: String,
    filter: String,
    threads: usize,
    effort: Effort,
}

fn parse() -> Result<Arguments, String> {
    use lexopt::prelude::{Long, Value, ValueExt};
    let mut found = Arguments {
        command: String::new(),
        filter: String::new(),
        threads: cores(),
        effort: Effort {
            seconds: 0.3,
            ..Effort::default()
        },
    };
    let text = |error: lexopt::Error| error.to_string();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next().map_err(text)? {
        match argument {
            Value(word) if found.command.is_empty() => {
                found.command = word.string().map_err(text)?;
            }
            Long(name) => {
                let name = name.to_owned();
                let value = parser.value().map_err(text)?;
                match name.as_str() {
                    "filter" => found.filter = value.string().map_err(text)?,
                    "threads" => found.threads = value.parse().map_err(text)?,
                    "rounds" => found.effort.rounds = value.parse().map_err(text)?,
                    "seconds" => found.effort.seconds = value.parse().map_err(text)?,
                    _ => return Err(format!("unknown option --{name}")),
                }
            }
            other => return Err(text(other.unexpected())),
        }
    }
    if found.threads == 0 || found.effort.rounds == 0 {
        return Err("--threads and --rounds are at least 1".to_owned());
    }
    Ok(found)
}

fn main() -> ExitCode {
    let done = parse().and_then(|arguments| match arguments.command.as_str() {
        "scaling" => print_scaling(&arguments),
        "overhead" => print_overhead(&arguments),
        "zoo" => print_zoo(&arguments),
        "simulate" => {
            print!("{}", simulated::tables());
            Ok(())
        }
        other => Err(format!(
            "there is no command {other:?}; use scaling, overhead, zoo or simulate"
        )),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("parallel: {message}");
            ExitCode::from(2)
        }
    }
}

fn print_machine(threads: usize) {
    let machine = Machine::detect(SimdLevel::best(), threads, load_average());
    println!(
        "{}, {} cores, {}, commit {}",
        machine.cpu, machine.cores, machine.isa, machine.commit
    );
    if let Some(warning) = machine.load_warning() {
        println!("{warning}");
    }
    println!();
}

fn print_scaling(arguments: &Arguments) -> Result<(), String> {
    print_machine(arguments.threads);
    let most = arguments.threads.min(cores());
    let counts: Vec<usize> = THREADS.into_iter().filter(|&n| n <= most).collect();
    println!("| work | 1 thread, ms | 2 threads | 4 threads | 8 threads | 16 threads |");
    println!("|---|---|---|---|---|---|");
    scaling::measure(&arguments.filter, &counts, arguments.effort, |row| {
        let cells: Vec<String> = THREADS[1..]
            .iter()
            .map(|threads| match counts.iter().position(|n| n == threads) {
                None => "not measured".to_owned(),
                Some(i) => {
                    let interval =
                        |x: Interval| format!("{:.2}x ({:.2}-{:.2})", x.median, x.low, x.high);
                    let free = row.speed_up_when_free(i).map_or_else(
                        || "no round free".to_owned(),
                        |(rounds, found)| format!("{:.2}x in {rounds} free rounds", found.median),
                    );
                    format!(
                        "{} beside {:.2}x; {free}",
                        interval(row.speed_up(i)),
                        row.limit(i).median
                    )
                }
            })
            .collect();
        let alone = row.alone() * 1e3;
        println!("| {} | {alone:.1} | {} |", row.name, cells.join(" | "));
    })
}

fn print_overhead(arguments: &Arguments) -> Result<(), String> {
    print_machine(arguments.threads);
    println!("| empty task | ns | 95 % |\n|---|---|---|");
    let mut counts = vec![1, arguments.threads];
    counts.dedup();
    for threads in counts {
        let found = overhead::empty_task(threads, arguments.effort.rounds)?;
        let [median, low, high] = [found.median, found.low, found.high].map(|x| x * 1e9);
        println!("| {threads} threads | {median:.0} | {low:.0}-{high:.0} |");
    }
    let (turns, sample) = overhead::chunk_sizes(arguments.threads, arguments.effort)?;
    let best = (0..overhead::CHUNKS.len())
        .map(|i| turns.median(i))
        .fold(f64::INFINITY, f64::min);
    println!(
        "\n| chunk size, {} threads, samples of {:.1} us | ms | of the best |\n|---|---|---|",
        arguments.threads,
        sample * 1e6
    );
    for (i, size) in overhead::CHUNKS.into_iter().enumerate() {
        let median = turns.median(i);
        println!("| {size} | {:.2} | {:.2}x |", median * 1e3, median / best);
    }
    Ok(())
}

fn print_zoo(arguments: &Arguments) -> Result<(), String> {
    print_machine(arguments.threads);
    println!(
        "| model | parameters | one sample, ms | samples/s, 1 thread | samples/s, {} threads |\n|---|---|---|---|---|",
        arguments.threads
    );
    for model in zoo::models().filter(|model| model.contains(&arguments.filter)) {
        let row = zoo::measure(model, arguments.threads, arguments.effort.seconds)?;
        println!(
            "| {model} | {} | {:.4} | {:.0} | {:.0} |",
            row.parameters,
            row.latency.median * 1e3,
            row.one.median,
            row.all.median
        );
    }
    Ok(())
}
