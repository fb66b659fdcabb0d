//! Training steps in f32, bf16 and f16, and the passes of the loss scaler.
//!
//! `cargo bench -p nd-bench --bench mixed_precision_benchmark -- [FILTER]`. For ratios taken in turns, which a machine that
//! slows down for a while disturbs less, use the program `mixed-precision`.

#![forbid(unsafe_code)]

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use nd_amp::GradScaler;
use nd_bench::workloads::training::TRAINING;
use nd_core::{Precision, RunOptions};

/// Numbers of a gradient: those of a large network, 16 MiB.
const LEN: usize = 1 << 22;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args();
    for workload in TRAINING {
        let mut group = criterion.benchmark_group(workload.name);
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements(workload.windows as u64));
        let prepared = workload.prepare().expect("a workload of the table");
        let source = prepared.source().expect("windows");
        for precision in Precision::ALL {
            // Made when the benchmark runs: criterion's filter may leave it out.
            let mut trainer = None;
            group.bench_function(precision.to_string(), |bencher| {
                let trainer = trainer.get_or_insert_with(|| {
                    let options = RunOptions {
                        precision,
                        ..RunOptions::default()
                    };
                    prepared.trainer(&source, options).expect("threads")
                });
                bencher.iter(|| trainer.step(workload.windows).expect("a finite step"));
            });
        }
        group.finish();
    }
    let mut group = criterion.benchmark_group("scaler");
    group.throughput(Throughput::Bytes(4 * LEN as u64));
    let mut gradients = vec![1.0f32; LEN];
    let scaler = GradScaler::new(1.0, 2.0, 0.5, 2000);
    group.bench_function("has_overflow", |bencher| {
        bencher.iter(|| scaler.has_overflow(&gradients));
    });
    group.bench_function("unscale_in_place", |bencher| {
        bencher.iter(|| scaler.unscale_in_place(&mut gradients));
    });
    group.finish();
    criterion.final_summary();
}
