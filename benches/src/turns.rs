//! Functions timed in turns, and the ratio of their times.
//!
//! In its simple form: call each function often enough for the clock, one after the other, round after round, and keep every
//! round. Each round begins with another function. A machine that slows down for a while slows all of them, so the ratio of two times of one round is
//! much steadier than either, and its median over rounds steadier still.
//!
//! Known weakness: a turn is preceded by one call that is not timed, so what is measured is the work with warm caches.

use std::ops::RangeInclusive;
use std::time::Instant;

use crate::statistics::Interval;

/// Seconds from which on a call is not preceded by another.
const LONG: f64 = 0.02;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds at least.
    pub rounds: usize,
    /// Seconds after which no further round begins, once there are enough.
    pub seconds: f64,
    /// Seconds that one turn takes at least; the clock itself costs some 50 ns.
    pub turn: f64,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            rounds: 15,
            seconds: 0.5,
            turn: 2e-4,
        }
    }
}

/// The times of all rounds.
#[derive(Clone, Debug)]
pub struct Turns {
    /// Seconds per call, by function and then by round.
    seconds: Vec<Vec<f64>>,
}

impl Turns {
    /// Times the functions `0..count`; `call(i)` calls the `i`-th once.
    pub fn take(count: usize, effort: Effort, mut call: impl FnMut(usize)) -> Self {
        Self::rounds_of(count, effort, |i, calls| {
            let start = Instant::now();
            for _ in 0..calls {
                call(i);
            }
            start.elapsed().as_secs_f64() / calls as f64
        })
    }

    /// As [`Turns::take`], for calls whose results are looked at and freed while the clock stands: `keep` has each of them.
    ///
    /// The clock is read twice for every call, so calls should take some microseconds at least.
    pub fn take_apart<T>(
        count: usize,
        effort: Effort,
        mut call: impl FnMut(usize) -> T,
        mut keep: impl FnMut(usize, T),
    ) -> Self {
        Self::rounds_of(count, effort, |i, calls| {
            let mut seconds = 0.0;
            for _ in 0..calls {
                let start = Instant::now();
                let found = call(i);
                seconds += start.elapsed().as_secs_f64();
                keep(i, found);
            }
            seconds / calls as f64
        })
    }

    /// `time(i, calls)` takes the seconds of one call of the `i`-th function, the mean over so many.
    fn rounds_of(count: usize, effort: Effort, mut time: impl FnMut(usize, usize) -> f64) -> Self {
        // Calls in a turn, and whether one more is made before it: a long call warms the caches itself.
        let plan: Vec<(usize, bool)> = (0..count)
            .map(|i| {
                time(i, 1);
                let estimate = time(i, 1).min(time(i, 1));
                let calls = (effort.turn / estimate.max(1e-9)).ceil().clamp(1.0, 1e6);
                (calls as usize, estimate < LONG)
            })
            .collect();
        let mut seconds = vec![Vec::new(); count];
        let start = Instant::now();
        let mut round = 0;
        while round < effort.rounds || start.elapsed().as_secs_f64() < effort.seconds {
            for offset in 0..count {
                let i = (round + offset) % count;
                let (calls, warm_up) = plan[i];
                if warm_up {
                    time(i, 1);
                }
                seconds[i].push(time(i, calls));
            }
            round += 1;
        }
        Self { seconds }
    }

    /// How many rounds there were.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.seconds.first().map_or(0, Vec::len)
    }

    /// The median time of a call of the `i`-th function, in seconds.
    #[must_use]
    pub fn median(&self, i: usize) -> f64 {
        Interval::of_median(&self.seconds[i]).median
    }

    /// How many times as fast as `slow` the function `fast` is: the median over rounds of the ratios of their times.
    #[must_use]
    pub fn speed_ratio(&self, fast: usize, slow: usize) -> Interval {
        Interval::of_median(&self.ratios(fast, slow).collect::<Vec<_>>())
    }

    /// The same over the rounds in which `fast_probe` was as many times as fast as `slow_probe` as `expected` says, and how many those were:
    /// the rounds in which the machine gave a probe of it what it can have, in both of its turns. `None` if there was no such round.
    #[must_use]
    pub fn speed_ratio_when(
        &self,
        (fast, slow): (usize, usize),
        (fast_probe, slow_probe): (usize, usize),
        expected: RangeInclusive<f64>,
    ) -> Option<(usize, Interval)> {
        let rounds: Vec<f64> = self
            .ratios(fast, slow)
            .zip(self.ratios(fast_probe, slow_probe))
            .filter_map(|(ratio, probe)| expected.contains(&probe).then_some(ratio))
            .collect();
        (!rounds.is_empty()).then(|| (rounds.len(), Interval::of_median(&rounds)))
    }

    /// The ratio of the times of two functions, round by round.
    fn ratios(&self, fast: usize, slow: usize) -> impl Iterator<Item = f64> {
        let rounds = self.seconds[slow].iter().zip(&self.seconds[fast]);
        rounds.map(|(slow, fast)| slow / fast)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_has_its_turn_in_every_round() {
        let mut order = Vec::new();
        let effort = Effort {
            rounds: 4,
            seconds: 0.0,
            turn: 0.0,
        };
        let turns = Turns::take(3, effort, |i| order.push(i));
        assert!(turns.seconds.iter().all(|times| times.len() == 4));
        // Three calls each to estimate, then two each a round, which begins with the next function.
        let rounds = [0, 1, 2, 1, 2, 0, 2, 0, 1, 0, 1, 2].map(|i| [i, i]);
        assert_eq!(order[9..], *rounds.as_flattened());
    }

    #[test]
    fn the_ratio_is_that_of_neighbouring_times() {
        let turns = Turns {
            seconds: vec![vec![1.0, 10.0, 100.0], vec![2.0, 20.0, 300.0]],
        };
        let ratio = turns.speed_ratio(0, 1);
        assert_eq!((ratio.median, ratio.low, ratio.high), (2.0, 2.0, 3.0));
        assert_eq!(turns.median(1), 20.0);
    }

    #[test]
    fn rounds_of_a_machine_that_was_not_free_are_left_out() {
        let turns = Turns {
            seconds: vec![
                vec![4.0, 4.0, 4.0, 4.0, 9.0],
                vec![2.0, 4.0, 2.5, 1.0, 1.0],
                vec![2.0, 2.0, 2.0, 2.0, 5.0],
                vec![1.0, 2.0, 1.0, 1.0, 1.0],
            ],
        };
        // Missing in the turn of the fast one is a core; in that of the slow one, a part of its own.
        let when = |expected| turns.speed_ratio_when((1, 0), (3, 2), expected);
        let (rounds, ratio) = when(1.9..=2.1).unwrap();
        assert_eq!((rounds, ratio.median), (3, 2.0));
        assert!(when(2.1..=2.2).is_none());
    }

    #[test]
    fn what_is_done_with_results_is_not_timed() {
        let (mut calls, mut kept) = (0, 0);
        let effort = Effort {
            rounds: 3,
            seconds: 0.0,
            turn: 0.0,
        };
        let turns = Turns::take_apart(
            2,
            effort,
            |i| {
                calls += 1;
                i
            },
            |i, found| {
                assert_eq!(i, found);
                kept += 1;
                std::thread::sleep(std::time::Duration::from_millis(2));
            },
        );
        assert!(calls == kept && calls > 2 * 3);
        // The median: the system may take the processor away from a call.
        assert!(turns.median(0) < 1e-3 && turns.median(1) < 1e-3);
    }

    #[test]
    fn more_work_takes_longer() {
        let turns = Turns::take(2, Effort::default(), |i| {
            let mut x = std::hint::black_box(1u64);
            for _ in 0..[100, 3000][i] {
                x = std::hint::black_box(x.wrapping_mul(3));
            }
        });
        assert!(turns.speed_ratio(0, 1).low > 2.0);
    }
}
