//! Pieces of work that a profiler, a cache simulator or a counter of instructions watches.
//!
//! In its simple form: a name, a sentence, and a function that makes its data and calls one repetition as often as it is told.
//! The program `exercise` runs one of them and nothing else, so that what a tool sees is that work and its preparation.
//! They are the training steps of every model, attention, and every case of [`crate::kernels`].
//! Whoever drives an exercise gets the repetition as a closure, so that the data lives on the stack of its preparation and nothing is
//! leaked.

pub mod command;

use std::hint::black_box;

use nd_attention::flash::{FlashAttention, FlashAttentionConfig};
use nd_core::{RunOptions, SimdLevel, Threads};
use nd_models::{ZOO, ZooEntry};
use ndarray::Array3;

use crate::kernels::cases;
use crate::workloads::training::{TRAINING, TrainingWorkload};

/// Calls one repetition as often as it likes.
pub type Drive<'a> = &'a mut (dyn FnMut(&mut dyn FnMut()) + Send);

/// What an exercise may be told.
#[derive(Clone, Copy, Debug)]
pub struct Choices {
    /// SIMD level, threads and the rest.
    pub options: RunOptions,
    /// A training step takes this part of its windows: 1 for all, 8 for an eighth.
    pub divisor: usize,
}

/// A piece of work.
pub struct Exercise {
    /// What it is called for.
    pub name: String,
    /// What one repetition does.
    pub what: String,
    run: Run,
}

enum Run {
    Training(TrainingWorkload),
    Attention { backward: bool },
    Kernel(usize),
}

/// Heads, tokens and channels of the attention exercises: four heads of 512 tokens.
const ATTENTION: (usize, usize, usize) = (4, 512, 64);

/// A model with its defaults, on the windows that most models are trained on.
fn of_default(entry: &ZooEntry) -> TrainingWorkload {
    TrainingWorkload {
        name: entry.name,
        summary: "the model with its defaults, 1024 windows a step, L 96, h 24",
        input_size: 96,
        horizon: 24,
        windows: 1024,
        config: entry.config,
    }
}

/// Every exercise: training steps, attention, kernels.
#[must_use]
pub fn exercises() -> Vec<Exercise> {
    let mut all = Vec::new();
    let others = ZOO
        .iter()
        .filter(|entry| TRAINING.iter().all(|w| w.name != entry.name));
    for workload in TRAINING.iter().copied().chain(others.map(of_default)) {
        all.push(Exercise {
            name: workload.name.to_owned(),
            what: format!("a training step: {}", workload.summary),
            run: Run::Training(workload),
        });
    }
    let (heads, tokens, channels) = ATTENTION;
    for (name, backward) in [
        ("attention", false),
        ("attention forward and backward", true),
    ] {
        all.push(Exercise {
            name: name.to_owned(),
            what: format!("flash attention, {heads} heads, {tokens} tokens, {channels} channels"),
            run: Run::Attention { backward },
        });
    }
    for (index, case) in cases().into_iter().enumerate() {
        all.push(Exercise {
            what: "one call of the kernel".to_owned(),
            name: case.name,
            run: Run::Kernel(index),
        });
    }
    all
}

impl Exercise {
    /// The exercise of this name, in any case of letters.
    ///
    /// # Errors
    /// There is none: a message with those that exist.
    pub fn find(name: &str) -> Result<Self, String> {
        let mut all = exercises();
        match all.iter().position(|e| e.name.eq_ignore_ascii_case(name)) {
            Some(index) => Ok(all.swap_remove(index)),
            None => {
                let names: Vec<&str> = all.iter().map(|e| e.name.as_str()).collect();
                let names = names.join("; ");
                Err(format!("there is no workload {name:?}; there are: {names}"))
            }
        }
    }

    /// Makes the data and hands one repetition to `drive`; the work runs on as many threads as were chosen.
    ///
    /// # Errors
    /// Why the work cannot be done, in one message.
    pub fn run(&self, choices: &Choices, drive: Drive<'_>) -> Result<(), String> {
        let simd = choices.options.simd;
        let threads = || Threads::new(choices.options.threads).map_err(|e| e.to_string());
        match &self.run {
            Run::Training(workload) => training(workload, choices, drive),
            Run::Attention { backward } => {
                threads()?.install(|| attention(simd, *backward, drive));
                Ok(())
            }
            Run::Kernel(index) => {
                threads()?.install(|| {
                    let mut kernel = (cases()[*index].make)();
                    drive(&mut || (kernel.at)(simd));
                });
                Ok(())
            }
        }
    }
}

/// Training steps, as the training loop takes them.
fn training(
    workload: &TrainingWorkload,
    choices: &Choices,
    drive: Drive<'_>,
) -> Result<(), String> {
    let prepared = workload.prepare()?;
    let source = prepared.source()?;
    let mut trainer = prepared.trainer(&source, choices.options)?;
    let windows = (workload.windows / choices.divisor.max(1)).max(1);
    let mut failed = None;
    drive(&mut || {
        if let Err(error) = trainer.step(windows) {
            failed.get_or_insert(error);
        }
    });
    failed.map_or(Ok(()), Err)
}

fn attention(level: SimdLevel, backward: bool, drive: Drive<'_>) {
    let (heads, tokens, channels) = ATTENTION;
    let of = |seed: usize| {
        Array3::<f32>::from_shape_fn((heads, tokens, channels), |(h, i, c)| {
            ((h * 31 + i * 17 + c * 7 + seed) % 29) as f32 / 14.5 - 1.0
        })
    };
    let (q, k, v) = (of(1), of(2), of(3));
    let flash = FlashAttention::new(FlashAttentionConfig {
        use_simd: level != SimdLevel::Scalar,
        ..FlashAttentionConfig::auto(channels)
    });
    let saved = flash.forward_saving(&q, &k, &v);
    drive(&mut || {
        if backward {
            black_box(flash.forward_saving(&q, &k, &v));
            black_box(flash.backward(&q, &k, &v, &saved, &q));
        } else {
            black_box(flash.forward(&q, &k, &v));
        }
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_unknown_ones_list_what_exists() {
        let all = exercises();
        let names: BTreeSet<String> = all.iter().map(|e| e.name.to_lowercase()).collect();
        assert_eq!(names.len(), all.len());
        let Err(message) = Exercise::find("NHITZ") else {
            panic!("NHITZ is no workload")
        };
        assert!(message.contains("NHITZ") && message.contains("PatchTST-long"));
    }

    /// `cargo xtask profile` refuses unknown names with this list before it builds anything.
    #[test]
    fn the_list_of_names_is_up_to_date() {
        let listed = include_str!("../exercises.tsv");
        let expected: String = exercises()
            .iter()
            .map(|exercise| format!("{}\t{}\n", exercise.name, exercise.what))
            .collect();
        assert_eq!(
            listed, expected,
            "write it again: cargo run --release -p nd-bench --bin exercise -- --list > benches/exercises.tsv"
        );
    }

    #[test]
    fn every_training_step_can_be_taken() {
        for exercise in exercises() {
            if !matches!(exercise.run, Run::Training(_)) {
                continue;
            }
            let choices = Choices {
                options: RunOptions {
                    threads: Some(1),
                    ..RunOptions::default()
                },
                divisor: 256,
            };
            let mut count = 0;
            let mut drive = |repetition: &mut dyn FnMut()| {
                repetition();
                repetition();
                count += 2;
            };
            exercise.run(&choices, &mut drive).unwrap();
            assert_eq!(count, 2, "{}", exercise.name);
        }
    }
}
