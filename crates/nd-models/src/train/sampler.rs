//! Which windows a step sees.
//!
//! In its simple form: shuffle the groups (series) once an epoch, take the next `batch_size` of them, and draw
//! `windows_batch_size` of their windows at random: without replacement when there are enough, with replacement
//! otherwise. That is what NeuralForecast does, except that it lists all windows and shuffles the list; here a window is
//! a number below the sum of the groups' counts, and a subset is drawn by Floyd's algorithm (Bentley and Floyd,
//! "A sample of brilliance", CACM 1987) with a bit for each window, so a step costs as many draws as it takes windows.

use nd_core::rng::Stream;
use nd_core::train_state::SamplerState;
use nd_core::{Real, WindowSource};

/// A window of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowIndex {
    /// The group: a series for univariate networks.
    pub group: usize,
    /// The window within the group.
    pub window: usize,
}

/// Draws the windows of each step; memory is kept between steps.
#[derive(Debug, Default)]
pub struct Sampler {
    windows: Vec<WindowIndex>,
    groups: Vec<u32>,
    /// How many windows the groups up to each have.
    ends: Vec<u64>,
    taken: Vec<u64>,
}

impl Sampler {
    /// Draws the windows of the next step and moves the state on; an empty slice when the source has no windows.
    ///
    /// `count` is the number of windows; `None` takes every window of the step's groups, in order.
    pub fn draw<R: Real>(
        &mut self,
        source: &dyn WindowSource<R>,
        state: &mut SamplerState,
        groups_per_step: usize,
        count: Option<usize>,
    ) -> &[WindowIndex] {
        self.windows.clear();
        if source.total_windows() == 0 {
            return &self.windows;
        }
        let mut stream = Stream::resume(state.stream);
        // Groups without windows (series that are too short) may fill a whole step; such a step is passed over.
        let total = loop {
            self.next_groups(source, state, &mut stream, groups_per_step.max(1));
            match self.ends.last() {
                Some(&total) if total > 0 => break total,
                _ => {}
            }
        };
        match count {
            None => (0..total).for_each(|index| self.push(index)),
            Some(count) if total < count as u64 => {
                for _ in 0..count {
                    let index = stream.below(total);
                    self.push(index);
                }
            }
            Some(count) => self.draw_subset(&mut stream, total, count as u64),
        }
        state.stream = stream.position();
        &self.windows
    }

    fn next_groups<R: Real>(
        &mut self,
        source: &dyn WindowSource<R>,
        state: &mut SamplerState,
        stream: &mut Stream,
        groups_per_step: usize,
    ) {
        if state.epoch.is_empty() {
            state.epoch.extend(0..source.groups() as u32);
            for i in (1..state.epoch.len()).rev() {
                state.epoch.swap(i, stream.below(i as u64 + 1) as usize);
            }
        }
        let rest = state.epoch.len().saturating_sub(groups_per_step);
        self.groups.clear();
        self.groups.extend(state.epoch.drain(rest..));
        // In the order of the panel: what is drawn depends on the set of groups, not on the order of the shuffle.
        self.groups.sort_unstable();
        self.ends.clear();
        let mut end = 0;
        for &group in &self.groups {
            end += source.windows(group as usize) as u64;
            self.ends.push(end);
        }
    }

    fn push(&mut self, index: u64) {
        let at = self.ends.partition_point(|&end| end <= index);
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        self.windows.push(WindowIndex {
            group: self.groups[at] as usize,
            window: (index - start) as usize,
        });
    }

    /// A uniformly random subset of `count` of the numbers below `total`.
    fn draw_subset(&mut self, stream: &mut Stream, total: u64, count: u64) {
        let words = total.div_ceil(64) as usize;
        if self.taken.len() < words {
            self.taken.resize(words, 0);
        }
        let bit = |index: u64| ((index / 64) as usize, 1u64 << (index % 64));
        let first = total - count;
        for last in first..total {
            let candidate = stream.below(last + 1);
            let (word, mask) = bit(candidate);
            let index = if self.taken[word] & mask == 0 {
                candidate
            } else {
                last
            };
            let (word, mask) = bit(index);
            self.taken[word] |= mask;
            self.push(index);
        }
        self.taken[..words].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nd_core::{BatchLayout, BatchMut};

    struct Counts(Vec<usize>);

    impl WindowSource<f32> for Counts {
        fn layout(&self) -> BatchLayout {
            BatchLayout::univariate(1, 1)
        }

        fn groups(&self) -> usize {
            self.0.len()
        }

        fn windows(&self, group: usize) -> usize {
            self.0[group]
        }

        fn gather(&self, _: usize, _: usize, _: BatchMut<'_, f32>) {}
    }

    fn draw(
        counts: &[usize],
        groups: usize,
        count: Option<usize>,
        steps: usize,
    ) -> Vec<Vec<WindowIndex>> {
        let source = Counts(counts.to_vec());
        let mut state = SamplerState::new(3);
        let mut sampler = Sampler::default();
        (0..steps)
            .map(|_| {
                sampler
                    .draw::<f32>(&source, &mut state, groups, count)
                    .to_vec()
            })
            .collect()
    }

    #[test]
    fn enough_windows_are_drawn_without_replacement() {
        for step in draw(&[50, 0, 30, 100], 32, Some(64), 50) {
            let mut seen = step.clone();
            seen.sort_by_key(|w| (w.group, w.window));
            seen.dedup();
            assert_eq!(seen.len(), 64);
            assert!(step.iter().all(|w| w.window < [50, 0, 30, 100][w.group]));
        }
    }

    #[test]
    fn every_window_is_equally_likely() {
        let (steps, count) = (2000, 20);
        let mut hits = vec![0.0f64; 120];
        for window in draw(&[50, 70], 32, Some(count), steps).concat() {
            hits[window.group * 50 + window.window] += 1.0;
        }
        let expected = (steps * count) as f64 / 120.0;
        let chi2: f64 = hits.iter().map(|h| (h - expected).powi(2) / expected).sum();
        assert!(
            chi2 < 172.0,
            "chi-squared of 119 degrees, p = 0.001: {chi2}"
        );
    }

    #[test]
    fn too_few_windows_are_drawn_with_replacement() {
        for step in draw(&[3, 2], 32, Some(64), 5) {
            assert_eq!(step.len(), 64);
        }
        assert_eq!(draw(&[3, 2], 32, None, 1)[0].len(), 5);
        assert_eq!(draw(&[5], 32, Some(5), 1)[0].len(), 5);
    }

    #[test]
    fn an_epoch_visits_every_group_once() {
        let steps = draw(&[4; 10], 3, Some(4), 8);
        for epoch in steps.chunks(4) {
            let mut groups: Vec<usize> = epoch
                .iter()
                .flat_map(|step| {
                    let mut groups: Vec<usize> = step.iter().map(|w| w.group).collect();
                    groups.sort_unstable();
                    groups.dedup();
                    assert!(groups.len() <= 3);
                    groups
                })
                .collect();
            groups.sort_unstable();
            let mut once = groups.clone();
            once.dedup();
            assert_eq!(
                once, groups,
                "a group is drawn from in one step of an epoch only"
            );
        }
    }

    #[test]
    fn a_step_of_short_series_is_passed_over_and_no_windows_are_no_loop() {
        for step in draw(&[0, 0, 0, 7], 1, Some(2), 20) {
            assert!(step.iter().all(|w| w.group == 3));
        }
        assert!(draw(&[0, 0], 1, Some(2), 1)[0].is_empty());
        assert!(draw(&[], 1, Some(2), 1)[0].is_empty());
    }

    #[test]
    fn a_resumed_sampler_goes_on_with_the_same_windows() {
        let source = Counts(vec![40; 9]);
        let whole = draw(&[40; 9], 2, Some(16), 10);
        let mut state = SamplerState::new(3);
        for (i, expected) in whole.iter().enumerate() {
            // A new sampler each step: all that matters is in the state.
            let mut sampler = Sampler::default();
            let mut copy = state.clone();
            assert_eq!(
                sampler.draw::<f32>(&source, &mut copy, 2, Some(16)),
                expected,
                "step {i}"
            );
            state = copy;
        }
    }
}
