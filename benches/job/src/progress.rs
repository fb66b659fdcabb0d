//! Lines on standard error while something takes long.

use std::time::{Duration, Instant};

/// How often a line appears, at most.
const INTERVAL: Duration = Duration::from_secs(2);

/// Reports how far a task is, at most every two seconds and at its end.
#[derive(Debug)]
pub struct Progress {
    label: String,
    start: Instant,
    last: Instant,
}

impl Progress {
    /// Begins a task; its first line appears after two seconds.
    #[must_use]
    pub fn begin(label: impl Into<String>) -> Self {
        let now = Instant::now();
        Self {
            label: label.into(),
            start: now,
            last: now,
        }
    }

    /// Says that `done` of `all` steps are over, and what else there is to say, if the last line is old enough.
    pub fn step(&mut self, done: usize, all: usize, what: &str) {
        if self.last.elapsed() >= INTERVAL {
            self.last = Instant::now();
            eprintln!("{}", self.line(done, all, what));
        }
    }

    /// Says what came out, with the time it took.
    pub fn finish(self, outcome: &str) {
        eprintln!(
            "{}: {outcome} ({})",
            self.label,
            seconds(self.start.elapsed())
        );
    }

    fn line(&self, done: usize, all: usize, what: &str) -> String {
        let elapsed = seconds(self.start.elapsed());
        let comma = if what.is_empty() { "" } else { ", " };
        format!("{}: {done} of {all}{comma}{what} ({elapsed})", self.label)
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_how_far_and_how_long() {
        let progress = Progress::begin("NHITS");
        let line = progress.line(3, 10, "loss 0.5");
        assert!(line.starts_with("NHITS: 3 of 10, loss 0.5 (0."), "{line}");
        assert!(progress.line(3, 10, "").starts_with("NHITS: 3 of 10 ("));
    }
}
