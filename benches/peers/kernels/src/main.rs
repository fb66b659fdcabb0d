//! Times nd-simd's kernels in turns with those of other crates, checks that the results agree, and prints who is faster.
//!
//! ```text
//! kernel-peers [--filter TEXT] [--seconds S] [--rounds N] [--simd LEVEL] [--json FILE] [--list]
//! kernel-peers --serve
//! ```
//!
//! Every row runs ours, each peer and the machine's limit in turns, round after round. `ours / peer` is the median over rounds of the
//! ratio of the speeds, with its 95 % interval; above one ours is faster. With `--serve` a script in another language
//! takes turns with us: it writes `ROW\tSECONDS` and reads the seconds of one call.

mod half_products;
mod maps;
mod products;
mod report;
mod row;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use nd_bench::turns::Effort;
use nd_core::SimdLevel;

use row::Plan;

struct Arguments {
    filter: String,
    effort: Effort,
    level: SimdLevel,
    json: Option<PathBuf>,
    list: bool,
    serve: bool,
}

const USAGE: &str = "usage: kernel-peers [--filter TEXT] [--seconds S] [--rounds N] [--simd LEVEL] [--json FILE] [--list] \
                     [--serve]\n--filter keeps the rows whose group or name contains the text";

fn parse() -> Result<Arguments, String> {
    use lexopt::prelude::{Long, ValueExt};
    let mut found = Arguments {
        filter: String::new(),
        effort: Effort::default(),
        level: SimdLevel::best(),
        json: None,
        list: false,
        serve: false,
    };
    let text = |error: lexopt::Error| error.to_string();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next().map_err(text)? {
        match argument {
            Long("filter") => {
                found.filter = parser.value().and_then(|v| v.string()).map_err(text)?
            }
            Long("seconds") => {
                found.effort.seconds = parser.value().and_then(|v| v.parse()).map_err(text)?
            }
            Long("rounds") => {
                found.effort.rounds = parser.value().and_then(|v| v.parse()).map_err(text)?
            }
            Long("simd") => {
                let level: SimdLevel = parser.value().and_then(|v| v.parse()).map_err(text)?;
                found.level = level.require().map_err(|error| error.to_string())?;
            }
            Long("json") => found.json = Some(parser.value().map_err(text)?.into()),
            Long("list") => found.list = true,
            Long("serve") => found.serve = true,
            other => return Err(other.unexpected().to_string()),
        }
    }
    if found.effort.rounds == 0 {
        return Err("--rounds 0: a measurement needs at least one round".to_owned());
    }
    Ok(found)
}

fn plans(arguments: &Arguments) -> Vec<Plan> {
    let mut plans = products::plans(arguments.level);
    plans.extend(half_products::plans(arguments.level));
    plans.extend(maps::plans(arguments.level));
    plans.retain(|plan| {
        plan.group.contains(&arguments.filter) || plan.name.contains(&arguments.filter)
    });
    plans
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let plans = plans(arguments);
    if arguments.list {
        for plan in &plans {
            println!("{}\t{}", plan.group, plan.name);
        }
        return Ok(());
    }
    if plans.is_empty() {
        return Err(format!(
            "no row contains `{}`; --list prints all of them",
            arguments.filter
        ));
    }
    if arguments.serve {
        return serve::serve(&plans).map_err(|error| error.to_string());
    }
    // Pools of our own: rten takes the threads of the current one.
    let pool = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|error| format!("a pool of {threads} threads: {error}"))
    };
    let (one, two) = (pool(1)?, pool(2)?);
    let load = nd_bench::machine::load_average();
    let mut table = report::Table::default();
    for plan in &plans {
        let pool = if plan.threads == 1 { &one } else { &two };
        // Rows hold `Rc`s, so they are made where they run.
        let make = &plan.make;
        let outcome = pool.install(|| make().run(arguments.level, arguments.effort))?;
        table.add(outcome);
    }
    table.finish();
    if let Some(file) = &arguments.json {
        table.write(file, arguments.level, load)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match parse() {
        Err(message) => {
            eprintln!("error: {message}\n{USAGE}");
            ExitCode::from(2)
        }
        Ok(arguments) => match run(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                eprintln!("error: {message}");
                ExitCode::FAILURE
            }
        },
    }
}
