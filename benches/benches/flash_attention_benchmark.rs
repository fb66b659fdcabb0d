//! Flash attention beside standard attention, what a user of ndarray writes, and recorded times of peers.
//!
//! `cargo bench -p nd-bench --bench flash_attention_benchmark -- [FILTER]`. Criterion prints floating-point operations as elements, so
//! Gelem/s are GFLOP/s. Everything runs on one thread, flash attention on two as well. Without a filter it takes about five minutes;
//! `cargo xtask bench attention --quick` leaves the long cases out and takes less than one.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use nd_bench::attention::{
    Contestant, Inputs, Pass, RECORDED, Threading, cases, flash, flash_half, naive_forward,
    standard,
};

/// Makes a contestant from the inputs.
type Make = Box<dyn Fn(&Arc<Inputs>) -> Contestant>;

/// Scores from which on only flash attention runs: the others would need gigabytes.
const MOST_SCORES: usize = 1 << 27;

/// Set by `cargo xtask bench --quick`.
const QUICK_ENV: &str = "ND_BENCH_QUICK";

/// The same in a quick run: calls of the others take a tenth of a second and more, ten of them at least.
const MOST_SCORES_QUICK: usize = 1 << 23;

/// Scores of the longest case of a quick run.
const LONGEST_QUICK: usize = 1 << 25;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(200))
        .without_plots()
        .configure_from_args();
    let quick = std::env::var_os(QUICK_ENV).is_some();
    let most = if quick {
        println!(
            "A quick run: flash attention alone above {MOST_SCORES_QUICK} scores, nothing above {LONGEST_QUICK}."
        );
        MOST_SCORES_QUICK
    } else {
        MOST_SCORES
    };
    for case in cases() {
        let size = case.size;
        let scores = size.batch * size.heads * size.tokens.pow(2);
        if quick && scores > LONGEST_QUICK {
            continue;
        }
        let mut group = criterion.benchmark_group(case.name());
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements(case.flops() as u64));
        let mut inputs = None;
        let mut contestants: Vec<(&str, Make)> = vec![
            (
                "flash",
                Box::new(move |inputs| flash(case, inputs, Threading::One)),
            ),
            (
                "flash, two threads",
                Box::new(move |inputs| flash(case, inputs, Threading::Two)),
            ),
        ];
        contestants.push((
            "flash, bf16",
            Box::new(move |inputs| flash_half(case, inputs, Threading::One)),
        ));
        if scores <= most {
            contestants.push((
                "standard",
                Box::new(move |inputs| standard(case, inputs, Threading::One)),
            ));
            if case.pass == Pass::Forward {
                contestants.push((
                    "ndarray",
                    Box::new(move |inputs| naive_forward(case.causal, inputs)),
                ));
            }
        }
        let mut ran = false;
        for (name, make) in contestants {
            group.bench_function(name, |bencher| {
                // Data is made when a benchmark of the case runs: criterion's filter may leave it out.
                let mut contestant = make(inputs.get_or_insert_with(|| Inputs::new(size)));
                bencher.iter(&mut contestant.run);
                ran = true;
            });
        }
        group.finish();
        let recorded = RECORDED
            .iter()
            .find(|row| (row.size, row.causal, row.pass) == (case.size, case.causal, case.pass));
        if let (true, Some(recorded)) = (ran, recorded) {
            let times: Vec<String> = recorded
                .times
                .iter()
                .map(|(who, ms)| format!("{who} {ms} ms"))
                .collect();
            println!(
                "recorded on one core of an AMD EPYC (Zen 4): {}\n",
                times.join(", ")
            );
        }
    }
    criterion.final_summary();
}
