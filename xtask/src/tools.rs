//! The programs that our commands call: what each is for, and how it is installed.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A program of the system.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    /// Its name, as it is called.
    pub(crate) program: &'static str,
    /// Arguments that make it say its version.
    pub(crate) version: &'static [&'static str],
    /// What we need it for.
    pub(crate) purpose: &'static str,
    /// How it is installed.
    pub(crate) install: &'static str,
}

pub(crate) const PERF: Tool = Tool {
    program: "perf",
    version: &["--version"],
    purpose: "samples of where the processor is (profile cpu)",
    install: "apt-get install linux-perf (Debian), linux-tools-generic (Ubuntu), perf (Fedora)",
};
pub(crate) const HEAPTRACK: Tool = Tool {
    program: "heaptrack",
    version: &["--version"],
    purpose: "allocations, peak and leaks (profile memory)",
    install: "apt-get install heaptrack",
};
pub(crate) const HEAPTRACK_PRINT: Tool = Tool {
    program: "heaptrack_print",
    version: &["--version"],
    purpose: "what heaptrack recorded, as text (profile memory)",
    install: "apt-get install heaptrack",
};
pub(crate) const VALGRIND: Tool = Tool {
    program: "valgrind",
    version: &["--version"],
    purpose: "simulated caches (profile cache) and counts of instructions (instructions)",
    install: "apt-get install valgrind",
};
pub(crate) const CG_ANNOTATE: Tool = Tool {
    program: "cg_annotate",
    version: &["--version"],
    purpose: "what cachegrind recorded, by function (profile cache)",
    install: "apt-get install valgrind",
};

/// Every tool, in the order in which they are listed.
pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        program: "rustc",
        version: &["--version"],
        purpose: "everything",
        install: "https://rustup.rs; rust-toolchain.toml names the version",
    },
    Tool {
        program: "cargo",
        version: &["--version"],
        purpose: "everything",
        install: "https://rustup.rs",
    },
    Tool {
        program: "cargo-fmt",
        version: &["--version"],
        purpose: "the formatter (fmt, ci)",
        install: "rustup component add rustfmt",
    },
    Tool {
        program: "cargo-clippy",
        version: &["--version"],
        purpose: "lints (lint, ci)",
        install: "rustup component add clippy",
    },
    Tool {
        program: "git",
        version: &["--version"],
        purpose: "the list of files (tidy) and the commit in reports",
        install: "apt-get install git",
    },
    PERF,
    HEAPTRACK,
    HEAPTRACK_PRINT,
    VALGRIND,
    CG_ANNOTATE,
    Tool {
        program: "aarch64-linux-gnu-gcc",
        version: &["--version"],
        purpose: "linking for aarch64 (test-neon)",
        install: "apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    },
    Tool {
        program: "qemu-aarch64",
        version: &["--version"],
        purpose: "running the tests on aarch64 (test-neon)",
        install: "apt-get install qemu-user",
    },
    Tool {
        program: "python3",
        version: &["--version"],
        purpose: "other libraries beside ours (benches/peers) and the golden files (tools/golden)",
        install: "apt-get install python3 python3-venv",
    },
    Tool {
        program: "cargo-deny",
        version: &["--version"],
        purpose: "licences and known faults of dependencies (deny.toml)",
        install: "cargo install cargo-deny",
    },
];

impl Tool {
    /// Where the program is, looked for as the system would.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        self.find_in(&std::env::var_os("PATH")?)
    }

    /// The same in the folders of another `PATH`.
    pub(crate) fn find_in(&self, path: &OsStr) -> Option<PathBuf> {
        let name = format!("{}{}", self.program, std::env::consts::EXE_SUFFIX);
        std::env::split_paths(path)
            .map(|folder| folder.join(&name))
            .find(|file| file.is_file())
    }

    /// The first line that it says about its version, wherever it says it; `None` when it is not there or does not start.
    pub(crate) fn version(&self) -> Option<String> {
        self.find()?;
        let output = Command::new(self.program)
            .args(self.version)
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find(|line| !line.trim().is_empty());
        Some(line.unwrap_or("it does not say").trim().to_owned())
    }

    /// The one line about a tool that is not there.
    pub(crate) fn missing(&self) -> String {
        format!(
            "{} is not installed: it is needed for {}; install it with: {}",
            self.program, self.purpose, self.install
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found_and_what_is_not_is_named_in_one_line() {
        let git = TOOLS.iter().find(|tool| tool.program == "git").unwrap();
        assert!(git.find().is_some() && git.version().unwrap().contains("git"));
        let nobody = Tool {
            program: "a-program-nobody-has",
            version: &["--version"],
            purpose: "this test",
            install: "no command",
        };
        assert_eq!((nobody.find(), nobody.version()), (None, None));
        let line = nobody.missing();
        assert!(line.contains("this test") && line.contains("no command"));
        assert_eq!(line.lines().count(), 1);
    }
}
