//! `cargo xtask doctor`: what this machine has, and whether it is quiet enough to measure on.
//!
//! In its simple form: the version of every tool, what the processor can do, its clock, and how evenly the same piece of work
//! takes the same time. The clock is measured with a chain of multiplications, each of which waits for the one before and takes
//! three cycles on every x86-64 and most aarch64 processors of the last ten years; what the system says of it stands beside.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::run::say;
use crate::tools::TOOLS;

/// Cycles from one multiplication of the chain to the next.
const CYCLES: f64 = 3.0;
/// Multiplications of one piece of work: about a millisecond.
const CHAIN: u32 = 1 << 20;
/// Pieces of work that are timed.
const PIECES: usize = 400;
/// Pieces that may be slower than [`SLOW`] before the machine counts as noisy, as a share.
const MANY: f64 = 0.05;
/// A piece is slow when it takes this much longer than the median.
const SLOW: f64 = 1.05;

/// Prints everything.
pub(crate) fn doctor() -> Result<(), String> {
    say("Tools");
    let mut missing = 0;
    for tool in TOOLS {
        match tool.version() {
            Some(version) => say(&format!("  {:<22} {version}", tool.program)),
            None => {
                missing += 1;
                say(&format!(
                    "  {:<22} missing; it is for {}: {}",
                    tool.program, tool.purpose, tool.install
                ));
            }
        }
    }
    say(&format!("\nMachine\n  {}", machine_line()));
    let cpuinfo = read("/proc/cpuinfo");
    if let Some(flags) = features(&cpuinfo) {
        say(&format!("  features: {flags}"));
    }
    for (label, file) in [
        ("governor", "cpu0/cpufreq/scaling_governor"),
        ("highest clock, kHz", "cpu0/cpufreq/cpuinfo_max_freq"),
        ("L1d", "cpu0/cache/index0/size"),
        ("L2", "cpu0/cache/index2/size"),
        ("L3", "cpu0/cache/index3/size"),
    ] {
        let text = read(&format!("/sys/devices/system/cpu/{file}"));
        if !text.trim().is_empty() {
            say(&format!("  {label}: {}", text.trim()));
        }
    }
    say(&format!(
        "  samples: {}",
        sampling(&read("/proc/sys/kernel/perf_event_paranoid"))
    ));
    let stolen_before = stolen(&read("/proc/stat"));
    let times = pieces();
    let stolen_after = stolen(&read("/proc/stat"));
    say(&format!(
        "\nClock\n  measured: {:.2} GHz, by a chain of multiplications",
        clock(&times)
    ));
    if let Some(said) = value(&cpuinfo, "cpu MHz") {
        say(&format!("  said by the system: {said} MHz"));
    }
    say("\nNoise");
    let warnings = warnings(
        &times,
        load(),
        cores(),
        stolen_before.zip(stolen_after).map(|(a, b)| b - a),
    );
    if warnings.is_empty() {
        say(&format!(
            "  quiet: {} equal pieces of work took equal time",
            times.len()
        ));
    }
    for warning in &warnings {
        say(&format!("  warning: {warning}"));
    }
    if missing > 0 {
        say(&format!(
            "\n{missing} of {} tools are missing; the commands that need them say so.",
            TOOLS.len()
        ));
    }
    Ok(())
}

/// The processor, its cores and the load, in one line.
pub(crate) fn machine_line() -> String {
    let cpuinfo = read("/proc/cpuinfo");
    let name = value(&cpuinfo, "model name").unwrap_or("a processor without a name");
    let load = load().map_or_else(String::new, |load| format!(", load average {load:.1}"));
    format!(
        "{name}, {} cores, {} {}{load}",
        cores(),
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

fn read(file: &str) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn load() -> Option<f64> {
    read("/proc/loadavg")
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// The value of the first line `label : value`.
fn value<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == label)
        .map(|(_, value)| value.trim())
}

/// The features that our kernels ask for, and those that they do not have yet but a reader will look for.
fn features(cpuinfo: &str) -> Option<String> {
    const WANTED: [&str; 14] = [
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512bw",
        "avx512cd",
        "avx512dq",
        "avx512vl",
        "avx512_bf16",
        "avx512_fp16",
        "amx_bf16",
        "asimd",
        "asimdhp",
        "bf16",
    ];
    let flags = value(cpuinfo, "flags").or_else(|| value(cpuinfo, "Features"))?;
    let has: Vec<&str> = flags.split_whitespace().collect();
    let found: Vec<&str> = WANTED
        .into_iter()
        .filter(|flag| has.contains(flag))
        .collect();
    Some(found.join(" "))
}

/// What `perf_event_paranoid` means for a user.
fn sampling(paranoid: &str) -> String {
    match paranoid.trim().parse::<i32>() {
        Ok(level @ ..=2) => {
            format!("perf may sample your own programs (perf_event_paranoid {level})")
        }
        Ok(level) => format!(
            "perf may sample nothing (perf_event_paranoid {level}): `sysctl kernel.perf_event_paranoid=2`, as root"
        ),
        Err(_) => "this system has no perf events".to_owned(),
    }
}

/// Seconds that others took from this virtual machine since it began.
fn stolen(stat: &str) -> Option<f64> {
    let ticks: f64 = stat
        .lines()
        .next()?
        .split_whitespace()
        .nth(8)?
        .parse()
        .ok()?;
    Some(ticks / 100.0)
}

/// The times of equal pieces of work.
fn pieces() -> Vec<Duration> {
    let one = || {
        let start = Instant::now();
        let mut x = black_box(3u64);
        for _ in 0..CHAIN / 8 {
            // Eight links, so that counting costs nothing.
            x = link(link(link(link(link(link(link(link(x))))))));
        }
        black_box(x);
        start.elapsed()
    };
    for _ in 0..20 {
        one();
    }
    (0..PIECES).map(|_| one()).collect()
}

/// A square: a multiplication by a constant would be merged with the next one.
#[inline(always)]
fn link(x: u64) -> u64 {
    x.wrapping_mul(x)
}

fn sorted(times: &[Duration]) -> Vec<f64> {
    let mut seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    seconds.sort_by(f64::total_cmp);
    seconds
}

/// Cycles a second in GHz, from the fastest piece.
fn clock(times: &[Duration]) -> f64 {
    let fastest = sorted(times).first().copied().unwrap_or(f64::NAN);
    CYCLES * f64::from(CHAIN) / fastest / 1e9
}

/// What makes measurements here uncertain.
fn warnings(
    times: &[Duration],
    load: Option<f64>,
    cores: usize,
    stolen: Option<f64>,
) -> Vec<String> {
    let mut out = Vec::new();
    let seconds = sorted(times);
    let median = seconds.get(seconds.len() / 2).copied().unwrap_or(0.0);
    let slow = seconds.iter().filter(|&&s| s > SLOW * median).count();
    let share = slow as f64 / seconds.len().max(1) as f64;
    if share > MANY {
        let worst = seconds.last().copied().unwrap_or(0.0) / median;
        out.push(format!(
            "a noisy machine: {:.0} % of {} equal pieces of work took more than {:.0} % longer than the median, the slowest {worst:.1} \
             times as long; compare only what is measured in turns",
            share * 100.0,
            seconds.len(),
            (SLOW - 1.0) * 100.0
        ));
    }
    if let Some(load) = load.filter(|&load| load > 0.5 * cores as f64) {
        out.push(format!(
            "the load average is {load:.1} on {cores} cores: other programs want them too"
        ));
    }
    let total: f64 = seconds.iter().sum();
    if let Some(stolen) = stolen.filter(|&stolen| stolen > 0.02 * total) {
        out.push(format!("{stolen:.2} s of {total:.1} s were stolen: the host gave this virtual machine's cores to others"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_and_values_are_read() {
        let text = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 fma avx512f\n";
        assert_eq!(value(text, "model name"), Some("Some CPU"));
        assert_eq!(features(text).as_deref(), Some("avx2 fma avx512f"));
        assert_eq!(features("nothing"), None);
        assert_eq!(stolen("cpu  1 2 3 4 5 6 7 250 0 0\n"), Some(2.5));
        assert!(
            sampling("4\n").contains("sysctl") && sampling("2").contains("may sample your own")
        );
        assert!(sampling("").contains("no perf events"));
    }

    #[test]
    fn noise_is_warned_of() {
        let quiet = vec![Duration::from_micros(1000); 100];
        assert_eq!(warnings(&quiet, Some(0.1), 2, Some(0.0)), [""; 0]);
        let mut noisy = quiet.clone();
        noisy[..10].fill(Duration::from_micros(3000));
        let found = warnings(&noisy, Some(3.0), 2, Some(0.05));
        assert_eq!(found.len(), 3);
        assert!(
            found[0].contains("10 % of 100") && found[0].contains("3.0"),
            "{found:?}"
        );
        assert!(found[1].contains("3.0 on 2 cores"));
    }

    #[test]
    fn the_clock_follows_from_the_fastest_piece() {
        let times = [Duration::from_secs_f64(1e-3), Duration::from_secs_f64(2e-3)];
        assert!((clock(&times) - 3.0 * f64::from(CHAIN) * 1e3 / 1e9).abs() < 1e-9);
        assert_eq!(pieces().len(), PIECES);
    }
}
