//! Every kernel of nd-simd at every level of this machine, the scalar level beside it.
//!
//! `cargo bench -p nd-bench --bench simd_benchmarks -- [FILTER]`. Criterion prints elements a second; for products an element is a
//! floating-point operation, so Gelem/s are GFLOP/s. Without a filter it takes about ten minutes; the scalar level, which would need
//! seconds for a call of the largest cases and ten calls at least, is left out of those.

#![forbid(unsafe_code)]

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use nd_bench::kernels::{Work, cases};
use nd_core::SimdLevel;

/// Operations from which on the scalar level is left out: about a second.
const MOST_SCALAR: f64 = 1e9;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(200))
        .without_plots()
        .configure_from_args();
    for case in cases() {
        let mut group = criterion.benchmark_group(&case.name);
        // A scalar product takes as long as ten measurements of another case.
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(match case.work {
            Work::Flops(flops) => Throughput::Elements(flops as u64),
            Work::Elements { count, .. } => Throughput::Elements(count as u64),
        });
        // Data is made when a benchmark of the case runs: criterion's filter may leave it out.
        let mut run = None;
        let large = matches!(case.work, Work::Flops(flops) if flops > MOST_SCALAR);
        for level in SimdLevel::supported() {
            if large && level == SimdLevel::Scalar {
                continue;
            }
            group.bench_function(level.to_string(), |bencher| {
                let run = run.get_or_insert_with(&case.make);
                bencher.iter(|| (run.at)(level));
            });
        }
        if let Some((name, plain)) = run.as_mut().and_then(|run| run.plain.as_mut()) {
            group.bench_function(*name, |bencher| bencher.iter(&mut *plain));
        }
        group.finish();
    }
    criterion.final_summary();
}
