//! `--json`, `--save` and `--compare` of `cargo xtask bench`.
//!
//! In its simple form: reports are files; a saved one has a name; two of them have results with the same names, and what is slower
//! than before by more than the threshold, and by more than both measurements' spread, is a regression.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use crate::flags::BenchRequest;
use crate::run::target_folder;
use crate::suites::write;

/// The exit code of a regression.
const REGRESSED: u8 = 2;
/// The share beyond which slower is a regression, where nothing else is asked.
const THRESHOLD: f64 = 0.05;

fn saved_folder() -> PathBuf {
    target_folder().join("bench").join("saved")
}

fn saved_file(name: &str, job: &str) -> PathBuf {
    saved_folder().join(name).join(format!("{job}.json"))
}

/// That what is compared with exists, and is a report of this version.
pub(crate) fn check(request: &BenchRequest, job: &str) -> Result<(), String> {
    match &request.compare {
        None => Ok(()),
        Some(name) => load(name, job).map(|_| ()),
    }
}

/// A time and where it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Time {
    median: f64,
    spread: f64,
}

fn load(name: &str, job: &str) -> Result<BTreeMap<String, Time>, String> {
    let file = saved_file(name, job);
    let text = std::fs::read_to_string(&file).map_err(|error| {
        let mut saved = Vec::new();
        for entry in std::fs::read_dir(saved_folder())
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            if saved_file(&name, job).exists() {
                saved.push(name);
            }
        }
        saved.sort();
        let there = if saved.is_empty() {
            format!("nothing was saved of {job} yet: --save NAME does")
        } else {
            format!("saved of {job} are: {}", saved.join(", "))
        };
        format!(
            "--compare {name}: {} cannot be read: {error}; {there}",
            file.display()
        )
    })?;
    let report: Value = serde_json::from_str(&text)
        .map_err(|error| format!("--compare {name}: {} is not JSON: {error}", file.display()))?;
    times(&report).map_err(|error| format!("--compare {name}: {}: {error}", file.display()))
}

/// The version of the main job's schema.
const MAIN_VERSION: u64 = 1;

/// Every time of a report by its name: of suites, or of the main job.
fn times(report: &Value) -> Result<BTreeMap<String, Time>, String> {
    let is_suites = report["kind"] == crate::suites::KIND;
    let wanted = if is_suites {
        u64::from(crate::suites::SCHEMA_VERSION)
    } else {
        MAIN_VERSION
    };
    if report["schema_version"].as_u64() != Some(wanted) {
        return Err(format!(
            "the report has schema version {}, this program reads version {wanted}: save it again",
            report["schema_version"]
        ));
    }
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let time = |value: &Value| Time {
        median: value["median"].as_f64().unwrap_or(f64::NAN),
        spread: value["spread"].as_f64().unwrap_or(0.0),
    };
    let mut found = BTreeMap::new();
    if is_suites {
        for suite in list(&report["suites"]) {
            for result in list(&suite["results"]) {
                found.insert(
                    format!("{}: {}", text(&suite["name"]), text(&result["id"])),
                    time(&result),
                );
            }
        }
    } else {
        for workload in list(&report["workloads"]) {
            for result in list(&workload["results"]) {
                let name = format!("{}: {}", text(&workload["name"]), text(&result["model"]));
                found.insert(name, time(&result["step"]));
            }
        }
    }
    if found.is_empty() {
        return Err("the report has no results".to_owned());
    }
    Ok(found)
}

/// How a result changed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Slower,
    Faster,
    /// Within the threshold or the noise.
    Same,
}

fn change(before: Time, after: Time, threshold: f64) -> Change {
    // Half of the distance of the quartiles lies on each side of a median.
    let noise = (before.spread + after.spread) / 2.0;
    if after.median > before.median * (1.0 + threshold) && after.median - before.median > noise {
        Change::Slower
    } else if before.median > after.median * (1.0 + threshold)
        && before.median - after.median > noise
    {
        Change::Faster
    } else {
        Change::Same
    }
}

/// Copies the report to where `--json` and `--save` say, and compares it with what `--compare` names.
pub(crate) fn finish(
    request: &BenchRequest,
    job: &str,
    report: &Value,
) -> Result<ExitCode, String> {
    let text = serde_json::to_string_pretty(report).map_err(|error| error.to_string())? + "\n";
    if let Some(file) = &request.json {
        write(file, &text)?;
        println!("Written: {}", file.display());
    }
    // What is compared with may be saved over afterwards.
    let before = match &request.compare {
        Some(name) => Some((name, load(name, job)?)),
        None => None,
    };
    if let Some(name) = &request.save {
        let file = saved_file(name, job);
        write(&file, &text)?;
        println!("Saved as {name}: {}", file.display());
    }
    let Some((name, before)) = before else {
        return Ok(ExitCode::SUCCESS);
    };
    let after = times(report)?;
    let threshold = request.threshold.unwrap_or(THRESHOLD);
    let (text, regressions) = comparison(&before, &after, threshold);
    println!(
        "\nCompared with {name}, threshold {:.1} %:\n{text}",
        100.0 * threshold
    );
    Ok(if regressions == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(REGRESSED)
    })
}

/// What changed, in lines, and how many results are slower.
fn comparison(
    before: &BTreeMap<String, Time>,
    after: &BTreeMap<String, Time>,
    threshold: f64,
) -> (String, usize) {
    let mut out = String::new();
    let mut counts = [0; 3];
    for (name, &after) in after {
        let Some(&before) = before.get(name) else {
            out += &format!("  new     {name}\n");
            continue;
        };
        let change = change(before, after, threshold);
        counts[change as usize] += 1;
        let word = match change {
            Change::Slower => "slower",
            Change::Faster => "faster",
            Change::Same => continue,
        };
        let percent = 100.0 * (after.median / before.median - 1.0);
        out += &format!("  {word}  {percent:+.1} %  {name}\n");
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        out += &format!("  gone    {name}\n");
    }
    let [slower, faster, same] = counts;
    out +=
        &format!("{slower} slower, {faster} faster, {same} the same within threshold and noise\n");
    (out, slower)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn time(median: f64, spread: f64) -> Time {
        Time { median, spread }
    }

    #[test]
    fn slower_means_beyond_threshold_and_noise() {
        assert_eq!(change(time(10.0, 0.1), time(10.4, 0.1), 0.05), Change::Same);
        assert_eq!(
            change(time(10.0, 0.1), time(10.6, 0.1), 0.05),
            Change::Slower
        );
        assert_eq!(change(time(10.0, 1.0), time(10.6, 1.0), 0.05), Change::Same);
        assert_eq!(
            change(time(10.0, 0.1), time(9.0, 0.1), 0.05),
            Change::Faster
        );
    }

    #[test]
    fn a_comparison_names_what_changed() {
        let before = [("a", 1.0), ("b", 1.0), ("c", 1.0)];
        let after = [("a", 1.0), ("b", 2.0), ("d", 1.0)];
        let of = |list: &[(&str, f64)]| -> BTreeMap<String, Time> {
            list.iter()
                .map(|&(n, t)| (n.to_owned(), time(t, 0.0)))
                .collect()
        };
        let (text, slower) = comparison(&of(&before), &of(&after), 0.05);
        assert_eq!(slower, 1);
        for part in [
            "slower  +100.0 %  b",
            "new     d",
            "gone    c",
            "1 the same",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn reports_of_both_kinds_have_times_and_other_versions_are_refused() {
        let measure = json!({"median": 2.0, "spread": 0.5});
        let main = json!({"schema_version": 1, "workloads": [
            {"name": "W", "results": [{"model": "M", "step": measure}]}]});
        assert_eq!(times(&main).unwrap()["W: M"], time(2.0, 0.5));
        let suites = json!({"kind": "suites", "schema_version": 1, "suites": [
            {"name": "simd", "results": [{"id": "i", "median": 2.0, "spread": 0.5}]}]});
        assert_eq!(times(&suites).unwrap()["simd: i"], time(2.0, 0.5));
        let error = times(&json!({"schema_version": 7})).unwrap_err();
        assert!(
            error.contains('7') && error.contains("version 1"),
            "{error}"
        );
    }

    #[test]
    fn what_was_never_saved_is_said_so() {
        let error = load("nobody-saved-this", "main").unwrap_err();
        assert!(
            error.contains("nobody-saved-this") && error.contains("saved of main")
                || error.contains("--save"),
            "{error}"
        );
    }
}
