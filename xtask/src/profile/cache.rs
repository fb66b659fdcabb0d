//! A simulated cache hierarchy: cachegrind runs the workload once and counts.
//!
//! valgrind knows AVX2 and no AVX-512, so the AVX2 path runs, on one thread and with an eighth of the windows; a miss rate hardly
//! depends on either. The simulated caches have the sizes of this machine where valgrind can find them out.

use std::path::Path;
use std::process::Command;

use crate::run::output;

/// What is said above every result.
pub(super) const NOTE: &str = "Simulated by cachegrind: the AVX2 path (valgrind knows no AVX-512), one thread, an eighth of the windows \
of a training step, preparation and one repetition after a first one.";

/// What cachegrind counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cache {
    /// Lines of its summary: what, and how much.
    pub(super) summary: Vec<(String, String)>,
    /// Instructions and function, the largest first.
    pub(super) functions: Vec<(String, String)>,
}

/// Runs cachegrind and cg_annotate and writes `cache_analysis.txt`.
pub(super) fn profile(exercise: &Path, name: &str, out: &Path) -> Result<Cache, String> {
    let recorded = out.join("cachegrind.out");
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=cachegrind", "--cache-sim=yes", "--branch-sim=yes"])
        .arg(format!("--cachegrind-out-file={}", recorded.display()))
        .arg(exercise)
        .args([name, "--light", "--threads", "1"])
        .args(["--warmup", "1", "--repeats", "1"]);
    if cfg!(target_arch = "x86_64") {
        command.env("ND_SIMD", "avx2");
    }
    let ran = command
        .output()
        .map_err(|error| format!("valgrind could not be started: {error}"))?;
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    if !ran.status.success() {
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        return Err(format!("valgrind ended with {}: {last:?}", ran.status));
    }
    let summary = summary(&said);
    let annotated = output(Command::new("cg_annotate").arg("--auto=no").arg(&recorded))?;
    let annotated = super::stacks::readable_text(&annotated);
    let lines: Vec<String> = summary
        .iter()
        .map(|(what, n)| format!("{what}: {n}"))
        .collect();
    let text = format!("{NOTE}\n\n{}\n\n{annotated}", lines.join("\n"));
    std::fs::write(out.join("cache_analysis.txt"), text)
        .map_err(|error| format!("cache_analysis.txt cannot be written: {error}"))?;
    Ok(Cache {
        summary,
        functions: functions(&annotated),
    })
}

/// The lines `==12== D1  misses:  3 (2 rd + 1 wr)` with a colon behind their label.
fn summary(said: &str) -> Vec<(String, String)> {
    said.lines()
        .filter_map(|line| line.strip_prefix("==")?.split_once("== ").map(|(_, l)| l))
        .filter_map(|line| line.split_once(':'))
        .filter(|(label, _)| {
            label.contains("refs") || label.contains("rate") || label.contains("misses")
        })
        .map(|(label, value)| {
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            (words(label), words(value))
        })
        .collect()
}

/// The table of functions: counts in columns, the first of them instructions, then `file:function`.
fn functions(annotated: &str) -> Vec<(String, String)> {
    annotated
        .lines()
        .filter_map(|line| {
            let (counts, name) = line.rsplit_once(")  ").or_else(|| line.rsplit_once("  "))?;
            let name = name.trim();
            let instructions = counts.split_whitespace().next()?;
            let is_count = instructions.starts_with(|c: char| c.is_ascii_digit());
            let file = name.split_once(':')?;
            (is_count && !file.1.is_empty()).then(|| {
                let share = counts
                    .split_once('(')
                    .and_then(|(_, rest)| rest.split_once(')'));
                let share = share.map_or("", |(share, _)| share.trim());
                (format!("{instructions} ({share})"), file.1.to_owned())
            })
        })
        .take(20)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_read() {
        let said = "==7== Cachegrind, a cache\n==7== I   refs:      1,234\n==7== D1  misses:    56  (40 rd   + 16 wr)\n\
                    ==7== D1  miss rate:  1.2% (  1.0%     +   1.5%  )\n--7-- warning: x: y\n";
        let found = summary(said);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0], ("I refs".to_owned(), "1,234".to_owned()));
        assert_eq!(found[1].1, "56 (40 rd + 16 wr)");
    }

    #[test]
    fn functions_are_read() {
        let text = "Ir  file:function\n\n80,000 (80.00%)  12 (1.00%)  lib.rs:nd_simd::matmul::f\n1,000 ( 1.00%)  0  ???:memcpy\n";
        let found = functions(text);
        assert_eq!(
            found[0],
            (
                "80,000 (80.00%)".to_owned(),
                "nd_simd::matmul::f".to_owned()
            )
        );
    }
}
