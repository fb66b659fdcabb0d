//! The table of kernels in docs/performance.md: every kernel at every level of this machine, in turns, on one thread.
//!
//! ```text
//! kernels [--filter TEXT] [--seconds S] [--rounds N]
//! ```
//!
//! Products are given in GFLOP/s and as a share of the peak of multiply-adds, the rest in nanoseconds per element and, for the widest
//! level, GB/s and their share of the speed of a copy of as much memory. The ratio is the speed of the widest level over the
//! scalar one, median over rounds with its 95 % interval; "plain" is the same over another plain loop, where there is one.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use nd_bench::kernels::{Case, Work, cases};
use nd_bench::limits;
use nd_bench::turns::{Effort, Turns};
use nd_core::{Buffer, SimdLevel};

struct Arguments {
    filter: String,
    effort: Effort,
}

fn parse() -> Result<Arguments, String> {
    use lexopt::prelude::{Long, ValueExt};
    let mut found = Arguments {
        filter: String::new(),
        effort: Effort::default(),
    };
    let text = |error: lexopt::Error| error.to_string();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next().map_err(text)? {
        let Long(name) = argument else {
            return Err(argument.unexpected().to_string());
        };
        let name = name.to_owned();
        let value = parser.value().map_err(text)?;
        match name.as_str() {
            "filter" => found.filter = value.string().map_err(text)?,
            "seconds" => found.effort.seconds = value.parse().map_err(text)?,
            "rounds" => found.effort.rounds = value.parse().map_err(text)?,
            _ => return Err(format!("unknown option --{name}")),
        }
    }
    if found.effort.rounds == 0 {
        return Err("--rounds 0: a measurement needs at least one round".to_owned());
    }
    Ok(found)
}

/// The line of a case; the turns are the levels, the plain loop if there is one, and the limit.
fn line(case: &Case, levels: &[SimdLevel], effort: Effort) -> String {
    let mut run = (case.make)();
    let widest = levels.len() - 1;
    let plain = usize::from(run.plain.is_some());
    let count = levels.len() + plain + 1;
    let copied = match case.work {
        Work::Flops(_) => 0,
        Work::Elements { moved, .. } => moved / 2,
    };
    let (from, mut to) = (Buffer::<f32>::zeroed(copied), Buffer::<f32>::zeroed(copied));
    let mut amount = 0.0;
    let turns = Turns::take(count, effort, |i| match (levels.get(i), &mut run.plain) {
        (Some(&level), _) => (run.at)(level),
        (None, Some((_, plain))) if i == levels.len() => plain(),
        (None, _) if copied > 0 => amount = limits::copy(&from, &mut to),
        (None, _) => amount = limits::multiply_adds(levels[widest]),
    });
    let limit = amount / turns.median(count - 1);
    let (speeds, share): (Vec<String>, f64) = match case.work {
        Work::Flops(flops) => (
            (0..levels.len())
                .map(|i| format!("{:.1}", flops / turns.median(i) * 1e-9))
                .collect(),
            flops / turns.median(widest) / limit,
        ),
        Work::Elements { count, moved } => (
            (0..levels.len())
                .map(|i| format!("{:.3}", turns.median(i) / count as f64 * 1e9))
                .collect(),
            4.0 * moved as f64 / turns.median(widest) / limit,
        ),
    };
    let ratio = turns.speed_ratio(widest, 0);
    let beside = match plain {
        0 => "-".to_owned(),
        _ => format!("{:.1}", turns.speed_ratio(widest, levels.len()).median),
    };
    format!(
        "| {} | {} | {:.0} % | {:.1} | {:.1}-{:.1} | {beside} |",
        case.name,
        speeds.join(" | "),
        100.0 * share,
        ratio.median,
        ratio.low,
        ratio.high
    )
}

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!(
                "error: {message}\nusage: kernels [--filter TEXT] [--seconds S] [--rounds N]"
            );
            return ExitCode::from(2);
        }
    };
    let levels: Vec<SimdLevel> = SimdLevel::supported().collect();
    let names: Vec<String> = levels.iter().map(ToString::to_string).collect();
    let mut kind = None;
    for case in cases() {
        if !case.name.contains(&arguments.filter) {
            continue;
        }
        let is_product = matches!(case.work, Work::Flops(_));
        if kind != Some(is_product) {
            kind = Some(is_product);
            let unit = if is_product {
                "GFLOP/s"
            } else {
                "ns per element"
            };
            println!("\n{unit}\n");
            println!(
                "| kernel | {} | share of limit | ratio | 95 % | plain |",
                names.join(" | ")
            );
            println!("|---|{}---|---|---|---|", "---|".repeat(names.len()));
        }
        println!("{}", line(&case, &levels, arguments.effort));
    }
    if kind.is_none() {
        eprintln!("error: no kernel's name contains `{}`", arguments.filter);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
