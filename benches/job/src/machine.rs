//! What a measurement was made on and with.

use std::process::Command;

use nd_core::SimdLevel;
use serde::{Deserialize, Serialize};

/// The machine and the build of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The name that the processor gives itself.
    pub cpu: String,
    /// The SIMD level of the optimised runs.
    pub isa: String,
    /// Every SIMD level that the machine can run.
    pub isa_supported: Vec<String>,
    /// Logical cores that this process may use.
    pub cores: usize,
    /// Threads of the optimised runs.
    pub threads: usize,
    /// The operating system and the architecture.
    pub system: String,
    /// The load average of the minute before the run: processes that wanted a core; absent where the system does not say.
    pub load: Option<f64>,
    /// The compiler.
    pub rustc: String,
    /// The commit, with `+` behind it when files were changed since.
    pub commit: String,
}

impl Machine {
    /// Looks at this machine; `isa` and `threads` are those of the optimised runs, `load` is [`load_average`] before them.
    #[must_use]
    pub fn detect(isa: SimdLevel, threads: usize, load: Option<f64>) -> Self {
        Self {
            cpu: cpu_name().unwrap_or_else(|| "unknown".to_owned()),
            isa: isa.to_string(),
            isa_supported: SimdLevel::supported()
                .map(|level| level.to_string())
                .collect(),
            cores: cores(),
            threads,
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            load,
            rustc: first_line("rustc", &["--version"]).unwrap_or_else(|| "unknown".to_owned()),
            commit: commit().unwrap_or_else(|| "unknown".to_owned()),
        }
    }
}

impl Machine {
    /// What to think of times taken while other programs wanted the cores too; `None` when they did not.
    #[must_use]
    pub fn load_warning(&self) -> Option<String> {
        let load = self.load.filter(|&load| load > self.cores as f64)?;
        Some(format!(
            "Warning: the load average was {load:.1} on {} cores when the run began. Other programs took part of the \
             machine: times are too long and ratios uncertain.",
            self.cores
        ))
    }
}

/// The load average of the last minute; `None` where the system does not say.
#[must_use]
pub fn load_average() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Logical cores that this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// The largest resident memory of this process so far in MiB; `None` where the system does not say.
#[must_use]
pub fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    peak_of(&status)
}

/// The line `VmHWM:  1234 kB` of Linux's process status.
fn peak_of(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

fn cpu_name() -> Option<String> {
    if let Ok(text) = std::fs::read_to_string("/proc/cpuinfo") {
        return cpu_name_of(&text);
    }
    first_line("sysctl", &["-n", "machdep.cpu.brand_string"])
}

/// The first `model name : ...` of Linux's list of processors.
fn cpu_name_of(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn commit() -> Option<String> {
    let commit = first_line("git", &["rev-parse", "--short=12", "HEAD"])?;
    let changed = first_line("git", &["status", "--porcelain", "--untracked-files=no"]).is_some();
    Some(if changed { commit + "+" } else { commit })
}

/// The first line that a program writes; `None` when it fails or writes nothing.
fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_memory_is_read_from_the_status() {
        let status = "Name:\tx\nVmPeak:\t  999 kB\nVmHWM:\t    2048 kB\n";
        assert_eq!(peak_of(status), Some(2.0));
        assert_eq!(peak_of("Name:\tx\n"), None);
        if cfg!(target_os = "linux") {
            assert!(peak_memory_mib().is_some_and(|mib| mib > 0.5));
        }
    }

    #[test]
    fn the_processor_names_itself() {
        assert_eq!(
            cpu_name_of("processor : 0\nmodel name\t: Some CPU @ 3 GHz\n").as_deref(),
            Some("Some CPU @ 3 GHz")
        );
        assert_eq!(cpu_name_of("CPU part : 0xd40\n"), None);
    }

    #[test]
    fn this_machine_has_cores_and_a_level() {
        let machine = Machine::detect(SimdLevel::Scalar, 3, Some(0.5));
        assert!(machine.cores >= 1 && machine.threads == 3);
        assert!(machine.isa_supported.contains(&machine.isa));
    }

    #[test]
    fn a_busy_machine_is_warned_of() {
        let mut machine = Machine::detect(SimdLevel::Scalar, 1, load_average());
        machine.cores = 2;
        machine.load = Some(2.0);
        assert_eq!(machine.load_warning(), None);
        machine.load = Some(7.5);
        assert!(
            machine
                .load_warning()
                .is_some_and(|text| text.contains("7.5 on 2 cores"))
        );
        machine.load = None;
        assert_eq!(machine.load_warning(), None);
    }
}
