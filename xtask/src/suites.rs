//! `cargo xtask bench SUITE`: the Criterion suites, their results in one report.
//!
//! In its simple form: run `cargo bench --bench NAME` for each suite with a folder of its own, and read the samples that Criterion
//! leaves there. Times are per call; the report has the median, the smallest, the spread and where the median lies.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::{Value, json};

use crate::clock::now;
use crate::compare;
use crate::flags::BenchRequest;
use crate::run::{cargo, output, root, run, target_folder};

/// The version of the schema of a report of suites.
pub(crate) const SCHEMA_VERSION: u32 = 1;
/// What tells it from other reports.
pub(crate) const KIND: &str = "suites";

/// Every suite: its name on the command line, and its bench target.
const SUITES: [(&str, &str); 5] = [
    ("simd", "simd_benchmarks"),
    ("attention", "flash_attention_benchmark"),
    ("parallel", "parallel_benchmarks"),
    ("amp", "mixed_precision_benchmark"),
    ("models", "model_benchmarks"),
];
/// What tells a suite to leave out cases that take long.
const QUICK_ENV: &str = "ND_BENCH_QUICK";

/// All of them.
const ALL: &str = "all";

/// The suites whose bench target the package has.
fn existing() -> impl Iterator<Item = (&'static str, &'static str)> {
    let manifest = include_str!("../../benches/Cargo.toml");
    let has = move |bench: &str| manifest.contains(&format!("name = \"{bench}\""));
    SUITES.into_iter().filter(move |(_, bench)| has(bench))
}

/// The suites behind a name: one, or all.
pub(crate) fn find(name: &str) -> Result<Vec<(&'static str, &'static str)>, String> {
    if name == ALL {
        return Ok(existing().collect());
    }
    let found = existing().find(|(suite, bench)| *suite == name || *bench == name);
    found.map(|suite| vec![suite]).ok_or_else(|| {
        let names: Vec<_> = existing().map(|(suite, _)| suite).collect();
        format!(
            "there is no suite {name:?}; the suites are: {}, {ALL}",
            names.join(", ")
        )
    })
}

/// Runs a suite, writes its report, saves and compares it.
pub(crate) fn bench(request: &BenchRequest, name: &str) -> ExitCode {
    match measure(request, name) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(crate::FAILED)
        }
    }
}

fn measure(request: &BenchRequest, name: &str) -> Result<ExitCode, String> {
    let suites = find(name)?;
    // A mistake in the name of what to compare with should not cost minutes.
    compare::check(request, name)?;
    let folder = request
        .out
        .clone()
        .unwrap_or_else(|| target_folder().join("bench"));
    let mut results = Vec::new();
    for (suite, bench) in suites {
        let home = folder.join("criterion").join(suite);
        match std::fs::remove_dir_all(&home) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("{} cannot be removed: {error}", home.display()));
            }
            _ => {}
        }
        eprintln!("suite {suite} (cargo bench --bench {bench})...");
        let mut command = cargo(&["bench", "--package", "nd-bench", "--bench", bench, "--"]);
        command.env("CRITERION_HOME", &home);
        if request.quick {
            command.args(["--warm-up-time", "0.01", "--measurement-time", "0.02"]);
            command.env(QUICK_ENV, "1");
        }
        run(&mut command)?;
        let mut found = Vec::new();
        collect(&home, &mut found)?;
        found.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
        results.push(json!({ "name": suite, "bench": bench, "results": found }));
    }
    let command = format!(
        "cargo xtask bench {name}{}",
        if request.quick { " --quick" } else { "" }
    );
    let report = json!({
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "date": now(),
        "machine": machine(),
        "suites": results,
    });
    let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())? + "\n";
    let file = folder.join(format!("{name}.json"));
    write(&file, &text)?;
    println!("Written: {}", file.display());
    compare::finish(request, name, &report)
}

/// Writes a file and the folder above it.
pub(crate) fn write(file: &Path, text: &str) -> Result<(), String> {
    let failed = |error| format!("{} cannot be written: {error}", file.display());
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(file, text).map_err(failed)
}

/// Every `new/sample.json` below a folder, as a result.
fn collect(folder: &Path, found: &mut Vec<Value>) -> Result<(), String> {
    let entries = std::fs::read_dir(folder)
        .map_err(|error| format!("{} cannot be read: {error}", folder.display()))?;
    let mut folders: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    for folder in folders {
        if folder.ends_with("new") {
            let sample = read(&folder.join("sample.json"))?;
            let bench = read(&folder.join("benchmark.json"))?;
            found.push(result(&bench, &sample)?);
        } else {
            collect(&folder, found)?;
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{} is not JSON: {error}", file.display()))
}

/// One benchmark of Criterion's: times in nanoseconds a call.
fn result(bench: &Value, sample: &Value) -> Result<Value, String> {
    let id = bench["full_id"].as_str().unwrap_or("unnamed");
    let numbers = |name: &str| -> Vec<f64> {
        let values = sample[name].as_array();
        values
            .into_iter()
            .flatten()
            .filter_map(Value::as_f64)
            .collect()
    };
    let pairs = numbers("times").into_iter().zip(numbers("iters"));
    let mut times: Vec<f64> = pairs.map(|(time, count)| time / count).collect();
    times.sort_by(f64::total_cmp);
    if times.is_empty() {
        return Err(format!("{id} has no samples"));
    }
    let quantile = |q: f64| {
        let place = q * (times.len() - 1) as f64;
        let (below, share) = (place.floor() as usize, place.fract());
        let above = (below + 1).min(times.len() - 1);
        times[below] + share * (times[above] - times[below])
    };
    Ok(json!({
        "id": id,
        "median": quantile(0.5),
        "min": times[0],
        "spread": quantile(0.75) - quantile(0.25),
        "samples": times.len(),
        "unit": "ns",
        "throughput": bench["throughput"],
    }))
}

/// Where it was measured.
fn machine() -> Value {
    let line = |command: &mut Command| output(command).map(|text| text.trim().to_owned());
    let cpu = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
    let load = std::fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    let mut git = Command::new("git");
    git.current_dir(root())
        .args(["rev-parse", "--short=12", "HEAD"]);
    let mut isa = Vec::new();
    #[cfg(target_arch = "x86_64")]
    for (name, has) in [
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("avx512", std::is_x86_feature_detected!("avx512f")),
        ("avx512-bf16", std::is_x86_feature_detected!("avx512bf16")),
    ] {
        if has {
            isa.push(name);
        }
    }
    if cfg!(target_arch = "aarch64") {
        isa.push("neon");
    }
    json!({
        "cpu": cpu,
        "isa": isa,
        "cores": std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "load": load,
        "rustc": line(Command::new("rustc").arg("--version")).ok(),
        "commit": line(&mut git).ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_suite_is_told_what_there_is() {
        assert_eq!(find("simd").unwrap(), [("simd", "simd_benchmarks")]);
        assert_eq!(find("simd_benchmarks").unwrap().len(), 1);
        assert!(find("all").unwrap().len() >= 2);
        let error = find("simt").unwrap_err();
        assert!(
            error.contains("simt") && error.contains("simd, "),
            "{error}"
        );
    }

    #[test]
    fn a_result_is_that_of_the_samples() {
        let bench = json!({"full_id": "gemm/avx2", "throughput": {"Elements": 7}});
        let sample = json!({"times": [30.0, 10.0, 40.0], "iters": [10.0, 10.0, 10.0]});
        let found = result(&bench, &sample).unwrap();
        assert_eq!(found["id"], "gemm/avx2");
        assert_eq!(
            (&found["median"], &found["min"]),
            (&json!(3.0), &json!(1.0))
        );
        assert!(result(&bench, &json!({})).is_err());
    }
}
