//! The table of attention in docs/performance.md: flash attention beside standard attention, what a user of ndarray writes, and the
//! peak of multiply-adds, in turns.
//!
//! ```text
//! attention [--filter TEXT] [--seconds S] [--rounds N] [--sparse] [--serve]
//! ```
//!
//! A line is a shape and a pass. *x standard* and *x ndarray* are speeds of flash attention over theirs, on one thread, median over
//! rounds; *causal* is the time under a causal mask over that without, *x standard* behind it against standard attention with the
//! same mask; *two threads* the speed of two over that of one; *bf16* the speed with inputs in bf16. `--sparse` prints the time of block-sparse attention, relative to the
//! full one and divided by the share of blocks that are kept. With `--serve` a script in another language takes turns with us: it writes
//! `CASE\tSECONDS\tTHREADS`, " bf16" behind the case if inputs shall be, and reads the seconds of one call.

#![forbid(unsafe_code)]

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::Instant;

use nd_attention::flash::{BlockMask, Mask};
use nd_bench::attention::{
    Case, Contestant, Inputs, Pass, SIZES, Size, Threading, agree, cases, flash, flash_half,
    flash_masked, naive_forward, standard,
};
use nd_bench::limits;
use nd_bench::turns::{Effort, Turns};
use nd_core::SimdLevel;

struct Arguments {
    filter: String,
    effort: Effort,
    sparse: bool,
    serve: bool,
}

const USAGE: &str =
    "usage: attention [--filter TEXT] [--seconds S] [--rounds N] [--sparse] [--serve]";

fn parse() -> Result<Arguments, String> {
    use lexopt::prelude::{Long, ValueExt};
    let mut found = Arguments {
        filter: String::new(),
        effort: Effort::default(),
        sparse: false,
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
            Long("sparse") => found.sparse = true,
            Long("serve") => found.serve = true,
            other => return Err(other.unexpected().to_string()),
        }
    }
    if found.effort.rounds == 0 {
        return Err("--rounds 0: a measurement needs at least one round".to_owned());
    }
    Ok(found)
}

/// The line of a shape and a pass.
fn line(size: Size, pass: Pass, effort: Effort) -> Result<String, String> {
    let inputs = Inputs::new(size);
    let of = |causal| Case { size, causal, pass };
    let mut full = vec![
        flash(of(false), &inputs, Threading::One),
        standard(of(false), &inputs, Threading::One),
        flash(of(false), &inputs, Threading::Two),
    ];
    if pass == Pass::Forward {
        full.push(naive_forward(false, &inputs));
    }
    let mut causal = vec![
        flash(of(true), &inputs, Threading::One),
        standard(of(true), &inputs, Threading::One),
    ];
    let (naive, half) = (full.len() > 3, full.len());
    full.push(flash_half(of(false), &inputs, Threading::One));
    let name = of(false).name();
    agree(&mut full).map_err(|error| format!("{name}: {error}"))?;
    agree(&mut causal).map_err(|error| format!("{name}, causal: {error}"))?;
    let causal_at = full.len();
    full.append(&mut causal);
    let limit = full.len();
    let level = SimdLevel::current();
    let mut amount = 0.0;
    let turns = Turns::take(limit + 1, effort, |i| match full.get_mut(i) {
        Some(contestant) => (contestant.run)(),
        None => amount = (0..32).map(|_| limits::multiply_adds(level)).sum(),
    });
    let ratio = |fast: usize, slow: usize| {
        let ratio = turns.speed_ratio(fast, slow);
        format!("{:.2} ({:.2}-{:.2})", ratio.median, ratio.low, ratio.high)
    };
    let speed = of(false).flops() / turns.median(0);
    let peak = amount / turns.median(limit);
    Ok(format!(
        "| {name} | {:.2} | {:.0} | {:.0} % | {} | {} | {:.2} | {} | {:.2} | {:.2} |",
        turns.median(0) * 1e3,
        speed * 1e-9,
        100.0 * speed / peak,
        ratio(0, 1),
        if naive {
            format!("{:.1}", turns.speed_ratio(0, 3).median)
        } else {
            "-".to_owned()
        },
        1.0 / turns.speed_ratio(causal_at, 0).median,
        ratio(causal_at, causal_at + 1),
        turns.speed_ratio(2, 0).median,
        turns.speed_ratio(half, 0).median,
    ))
}

/// A grid of blocks of 128 x 128 scores, one of `every` kept, evenly spread.
fn grid(tokens: usize, every: usize) -> BlockMask {
    const BLOCK: usize = 128;
    let side = tokens / BLOCK;
    let kept = (0..side * side)
        .map(|at| (at / side + at % side).is_multiple_of(every))
        .collect();
    BlockMask::new(BLOCK, BLOCK, side, kept)
}

/// Block-sparse against full attention.
fn sparse(effort: Effort) {
    println!("| case | kept | time of full | over the share kept |\n|---|---|---|---|");
    let size = Size::new(1, 8, 4096, 64);
    let inputs = Inputs::new(size);
    for pass in [Pass::Forward, Pass::Both] {
        let case = Case {
            size,
            causal: false,
            pass,
        };
        let every = [2, 4, 8, 16];
        let mut contestants = vec![flash(case, &inputs, Threading::One)];
        let mut shares = Vec::new();
        for every in every {
            let blocks = grid(size.tokens, every);
            shares.push(blocks.density());
            let mask = Mask {
                blocks: Some(blocks),
                ..Mask::default()
            };
            contestants.push(flash_masked(case, &inputs, Threading::One, mask));
        }
        let turns = Turns::take(contestants.len(), effort, |i| (contestants[i].run)());
        for (i, share) in shares.iter().enumerate() {
            let time = 1.0 / turns.speed_ratio(i + 1, 0).median;
            println!(
                "| {} | {:.2} % | {:.2} % | {:.2} |",
                case.name(),
                100.0 * share,
                100.0 * time,
                time / share
            );
        }
    }
}

/// Answers lines `CASE\tSECONDS\tTHREADS`.
fn serve() -> std::io::Result<()> {
    let mut current: Option<(String, Contestant)> = None;
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let answer = match answer(&mut current, &line?) {
            Ok(seconds) => format!("{seconds:e}"),
            Err(message) => format!("error: {message}"),
        };
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

fn answer(current: &mut Option<(String, Contestant)>, line: &str) -> Result<f64, String> {
    let parts: Vec<&str> = line.split('\t').collect();
    let &[case, seconds, threads] = &parts[..] else {
        return Err("expected CASE, SECONDS and THREADS with tabs between".to_owned());
    };
    let seconds: f64 = seconds
        .parse()
        .map_err(|_| format!("`{seconds}` is no number of seconds"))?;
    let name = format!("{case}\t{threads}");
    if current.as_ref().is_none_or(|(made, _)| *made != name) {
        let threading = match threads {
            "1" => Threading::One,
            "2" => Threading::Two,
            _ => return Err(format!("one or two threads, not `{threads}`")),
        };
        let (case, half) = match case.strip_suffix(" bf16") {
            Some(case) => (case, true),
            None => (case, false),
        };
        let found = cases()
            .into_iter()
            .find(|known| known.name() == case)
            .ok_or_else(|| format!("no case `{case}`"))?;
        *current = None;
        let inputs = Inputs::new(found.size);
        let contestant = if half {
            flash_half(found, &inputs, threading)
        } else {
            flash(found, &inputs, threading)
        };
        *current = Some((name, contestant));
    }
    let (_, contestant) = current.as_mut().ok_or("a contestant that was just made")?;
    (contestant.run)();
    let start = Instant::now();
    let mut calls = 0u32;
    while calls == 0 || start.elapsed().as_secs_f64() < seconds {
        (contestant.run)();
        calls += 1;
    }
    Ok(start.elapsed().as_secs_f64() / f64::from(calls))
}

fn run(arguments: &Arguments) -> Result<(), String> {
    if arguments.serve {
        return serve().map_err(|error| error.to_string());
    }
    if arguments.sparse {
        sparse(arguments.effort);
        return Ok(());
    }
    println!(
        "| b x h x N x d, pass | ms | GFLOP/s | of the peak | x standard | x ndarray | causal | x standard | two threads | bf16 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for size in SIZES {
        for pass in [Pass::Forward, Pass::Both] {
            let case = Case {
                size,
                causal: false,
                pass,
            };
            // Standard attention would need 4 GiB and more for its scores.
            let small = size.batch * size.heads * size.tokens.pow(2) <= 1 << 28;
            if small && case.name().contains(&arguments.filter) {
                println!("{}", line(size, pass, arguments.effort)?);
            }
        }
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
