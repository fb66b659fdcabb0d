//! The parallel calls over real models, on one thread and on all.
//!
//! `cargo bench -p nd-bench --bench parallel_benchmarks -- [FILTER]`. The tables of docs/performance.md come from the program
//! `parallel`, which takes the numbers of threads in turns; this suite keeps criterion's baselines.

#![forbid(unsafe_code)]

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use nd_bench::machine::cores;
use nd_bench::parallel::{config, fitted, forecaster, histories, panel};
use nd_parallel::{
    BoxError, EnsembleAggregation, Folds, Predict, parallel_batch_inference,
    parallel_cross_validation, parallel_ensemble_predict,
};

/// Does nothing: what is left is the call.
struct Empty;

impl Predict<u32, u32> for Empty {
    fn predict(&self, x: &u32) -> Result<u32, BoxError> {
        Ok(*x)
    }
}

fn inference(criterion: &mut Criterion) {
    for (model, samples, chunk_size) in [
        ("DLinear", 16_384, 256),
        ("MLP", 4096, 256),
        ("NHITS", 1024, 256),
        ("PatchTST", 128, 32),
    ] {
        let mut group = criterion.benchmark_group(format!("inference {model}"));
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements(samples as u64));
        let mut made = None;
        for threads in [1, cores()] {
            group.bench_function(format!("{threads} threads"), |bencher| {
                // Made when a benchmark of the group runs: criterion's filter may leave it out.
                let (model, data) = made.get_or_insert_with(|| {
                    let model = fitted(model).expect("a model of the zoo");
                    (model, histories(samples).expect("generated series"))
                });
                let config = config(threads, chunk_size);
                bencher.iter(|| -> Vec<Vec<f32>> {
                    parallel_batch_inference(model, data, &config).expect("predictions")
                });
            });
        }
        group.finish();
    }
}

fn overhead(criterion: &mut Criterion) {
    let data = vec![1; 10_000];
    let mut group = criterion.benchmark_group("empty tasks");
    group.throughput(Throughput::Elements(data.len() as u64));
    for threads in [1, cores()] {
        group.bench_function(format!("{threads} threads"), |bencher| {
            let config = config(threads, 1);
            bencher.iter(|| parallel_batch_inference(&Empty, &data, &config).expect("numbers"));
        });
    }
    group.finish();
}

fn fits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("4 folds of MLP");
    group.sampling_mode(SamplingMode::Flat);
    let model = forecaster("MLP", 5, 128).expect("a model of the zoo");
    let data = panel(1, 2000).expect("generated series");
    for threads in [1, cores()] {
        group.bench_function(format!("{threads} threads"), |bencher| {
            let config = config(threads, 1);
            let folds = Folds::expanding(4).test_samples(24);
            bencher.iter(|| {
                parallel_cross_validation(&model, &data, folds.clone(), &config).expect("scores")
            });
        });
    }
    group.finish();
}

fn ensemble(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ensemble of 4 MLP, 1024 samples");
    group.throughput(Throughput::Elements(1024));
    let mut made = None;
    for threads in [1, cores()] {
        group.bench_function(format!("{threads} threads"), |bencher| {
            let (models, data) = made.get_or_insert_with(|| {
                let models: Vec<_> = (0..4).map(|_| fitted("MLP").expect("a model")).collect();
                (models, histories(1024).expect("generated series"))
            });
            let config = config(threads, 64);
            bencher.iter(|| -> Vec<Vec<f32>> {
                parallel_ensemble_predict(models, data, EnsembleAggregation::Median, &config)
                    .expect("predictions")
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .without_plots()
        .configure_from_args();
    overhead(&mut criterion);
    inference(&mut criterion);
    ensemble(&mut criterion);
    fits(&mut criterion);
    criterion.final_summary();
}
