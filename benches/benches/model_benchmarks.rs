//! Training steps and single forecasts of the training workloads.
//!
//! `cargo bench -p nd-bench --bench model_benchmarks -- [FILTER]`. Criterion prints windows a second. The package's features say what
//! is on: `--no-default-features` is the baseline, on a sixteenth of the windows, because a whole step takes it up to a minute.

#![forbid(unsafe_code)]

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use nd_bench::sides::{Optimization, Side};
use nd_bench::workloads::training::TRAINING;
use nd_core::Threads;
use nd_models::train::Inference;
use nd_models::train::sampler::WindowIndex;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args();
    let switches = nd_bench::switches_of_features!();
    let side = Side::Library(switches);
    for workload in TRAINING {
        let slow = !switches.has(Optimization::Simd);
        let windows = if slow {
            (workload.windows / 16).max(2)
        } else {
            workload.windows
        };
        let mut group = criterion.benchmark_group(workload.name);
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements(windows as u64));
        group.bench_function("training step", |bencher| {
            let prepared = workload.prepare().expect("the workloads can be built");
            let source = prepared.source().expect("the workloads have windows");
            let mut runner = side.runner(&prepared, &source).expect("there are threads");
            bencher.iter(|| runner.step(windows).expect("the loss is finite"));
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function("forecast of one window", |bencher| {
            let prepared = workload.prepare().expect("the workloads can be built");
            let source = prepared.source().expect("the workloads have windows");
            let options = switches.options();
            let trainer = prepared
                .trainer(&source, options)
                .expect("there are threads");
            let forward = trainer.forward(prepared.scaler());
            let inference = Inference::default();
            let window = [WindowIndex {
                group: 0,
                window: 0,
            }];
            let mut out = vec![0.0; forward.forecast_len()];
            let threads = Threads::new(Some(1)).expect("there is a thread");
            bencher.iter(|| {
                threads.install(|| inference.forecast(&forward, &window, &mut out));
            });
        });
        group.finish();
    }
    criterion.final_summary();
}
