//! Training steps of one workload under every side, in turns.
//!
//! In its simple form: every side takes its steps round after round, the order of each round starting one side further on. Fast sides
//! take several steps in a round, spread over it between the whole steps of slow ones, so that all sides see the same minutes of
//! the machine; their median counts. A whole step of the baseline takes up to a minute; so the sides that are as slow and that only
//! the ablation needs take their turns on fewer windows, with the baseline among them. How the time of the baseline grows with the
//! windows is in the report, because the one ratio across both groups assumes that it is in proportion.
//!
//! Known weakness: slow sides take no step before the first that counts; asking for memory is lost in their seconds. A side that takes only
//! one or two steps in a part takes them with what the side before it left in the caches: the slower of two sides is a little worse off.

use nd_core::{RunOptions, Threads};
use nd_models::train::inference::Inference;
use nd_models::train::sampler::WindowIndex;

use super::schema::{Factor, Group, SideLoss, SideTimes, ThreadTimes, WorkloadSteps};
use crate::machine::cores;
use crate::plain::Products;
use crate::progress::Progress;
use crate::sides::{Optimization, Runner, Side, Switches};
use crate::statistics::{Interval, Measure};
use crate::workloads::training::{Prepared, TrainingWorkload};

/// Seconds that a fast side works in a round, about.
const ROUND: f64 = 1.2;
/// Steps before the first round of a fast side; one where that takes longer than it works in a round.
const WARM_UP: usize = 3;
/// Steps of a side in a round, at most.
const MOST_STEPS: usize = 24;
/// Parts of a round, in each of which a fast side takes a turn of some steps; a slow side takes its step in one of them.
const PARTS: usize = 4;
/// Forecasts of one window that the latency is the median of.
const FORECASTS: usize = 200;
/// Rounds of the scaling curve.
const SCALING_ROUNDS: usize = 5;

/// What to measure of a workload.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds of both groups.
    pub rounds: usize,
    /// Everything on few windows, to see that it runs.
    pub quick: bool,
}

/// The sides that take whole steps.
fn full_sides() -> Vec<Side> {
    vec![
        Side::BASELINE,
        Side::Plain(Products::Reordered),
        Side::Plain(Products::Ndarray),
        Side::Library(Switches::only(Optimization::Simd)),
        Side::SIMD_FLASH,
        Side::Library(Switches::without(Optimization::Flash)),
        Side::Library(Switches::without(Optimization::Parallel)),
        Side::ALL_F32,
        Side::ALL,
    ]
}

/// The slow sides, on few windows.
fn few_sides() -> Vec<Side> {
    vec![
        Side::BASELINE,
        Side::Library(Switches::only(Optimization::Flash)),
        Side::Library(Switches::only(Optimization::Parallel)),
        Side::Library(Switches::only(Optimization::Half)),
        Side::Library(Switches::without(Optimization::Simd)),
    ]
}

/// Windows of the slow sides' steps.
fn few_windows(workload: &TrainingWorkload) -> usize {
    (workload.windows / 16).max(2)
}

/// Measures a workload; memory, peer and what the run knows about itself are left to the caller.
///
/// # Errors
/// A step that cannot be taken.
pub fn measure(workload: &TrainingWorkload, plan: Plan) -> Result<WorkloadSteps, String> {
    let prepared = workload.prepare()?;
    let few = few_windows(workload);
    let windows = if plan.quick { few } else { workload.windows };
    let (full, losses) = group(&prepared, &full_sides(), windows, plan.rounds)?;
    let (few, _) = group(&prepared, &few_sides(), few, plan.rounds)?;
    let mut steps = WorkloadSteps {
        name: workload.name.to_owned(),
        summary: workload.summary.to_owned(),
        date: String::new(),
        commit: String::new(),
        load: None,
        full,
        few,
        memory: Vec::new(),
        latency: Some(latency(&prepared)?),
        scaling: scaling(&prepared, windows)?,
        losses,
        peer: None,
        factors: Vec::new(),
    };
    derive(&mut steps);
    Ok(steps)
}

/// Turns of some sides, and the first loss of each.
fn group(
    prepared: &Prepared,
    sides: &[Side],
    windows: usize,
    rounds: usize,
) -> Result<(Group, Vec<SideLoss>), String> {
    let source = prepared.source()?;
    let name = prepared.workload.name;
    let mut lines = Progress::begin(format!("{name}, {windows} windows a step"));
    let (mut runners, mut times) = (Vec::new(), vec![Vec::new(); sides.len()]);
    let (mut losses, mut steps) = (Vec::new(), Vec::new());
    for side in sides {
        let mut runner = side.runner(prepared, &source)?;
        // The first step of a fast side asks for memory; its loss is that of the initial weights.
        let mut estimate = 0.0;
        let mut first = None;
        if !side.is_slow() {
            for _ in 0..WARM_UP {
                let (seconds, loss) = runner.step(windows)?;
                first.get_or_insert(loss);
                estimate = seconds;
                if seconds > ROUND {
                    break;
                }
            }
        }
        let count = if side.is_slow() {
            1.0
        } else {
            (ROUND / estimate).ceil()
        };
        steps.push((count as usize).clamp(1, MOST_STEPS));
        losses.push(first);
        runners.push(runner);
    }
    for round in 0..rounds {
        let mut of_round = vec![Vec::new(); sides.len()];
        for (i, count) in turns(round, &steps) {
            lines.step(round, rounds, &format!("rounds; {}", sides[i]));
            let loss = turn(&mut runners[i], windows, count, &mut of_round[i])?;
            losses[i].get_or_insert(loss);
        }
        for (times, of_round) in times.iter_mut().zip(&of_round) {
            times.push(Interval::of_median(of_round).median);
        }
    }
    lines.finish(&format!("{rounds} rounds of {} sides", sides.len()));
    let reference = losses.first().copied().flatten().unwrap_or(f64::NAN);
    let losses = sides.iter().zip(losses).map(|(side, loss)| {
        let loss = loss.unwrap_or(f64::NAN);
        SideLoss {
            side: side.to_string(),
            loss,
            relative_difference: (loss - reference).abs() / reference.abs(),
        }
    });
    let named = sides.iter().zip(times);
    let sides = named.filter_map(|(side, rounds)| side_times(&side.to_string(), rounds));
    let sides = sides.collect();
    Ok((Group { windows, sides }, losses.collect()))
}

fn side_times(side: &str, rounds: Vec<f64>) -> Option<SideTimes> {
    Some(SideTimes {
        side: side.to_owned(),
        step: Measure::of(&rounds, "ms")?,
        rounds,
    })
}

/// The turns of a round, as pairs of a side and how many steps it takes: the steps of each side in as equal parts as they make, and
/// those of sides with fewer steps than parts in one part or another by their place, which moves on from round to round.
fn turns(round: usize, steps: &[usize]) -> Vec<(usize, usize)> {
    let sides = steps.len();
    let in_order = (0..PARTS).flat_map(|part| (0..sides).map(move |offset| (part, offset)));
    let turns = in_order.map(|(part, offset)| {
        let side = (round + offset) % sides;
        // The first side of an order takes a single step in the middle of the round.
        let until = |part| (steps[side] * part + (offset + PARTS / 2) % PARTS) / PARTS;
        (side, until(part + 1) - until(part))
    });
    turns.filter(|&(_, steps)| steps > 0).collect()
}

/// Takes some steps, adds the time of each in ms, and returns the loss before the first.
fn turn(
    runner: &mut Runner<'_>,
    windows: usize,
    steps: usize,
    times: &mut Vec<f64>,
) -> Result<f64, String> {
    let mut first = None;
    for _ in 0..steps {
        let (seconds, loss) = runner.step(windows)?;
        first.get_or_insert(loss);
        times.push(seconds * 1e3);
    }
    Ok(first.unwrap_or(f64::NAN))
}

/// The time of a forecast of a single window, everything on, on one thread.
fn latency(prepared: &Prepared) -> Result<Measure, String> {
    let source = prepared.source()?;
    let options = RunOptions {
        threads: Some(1),
        ..Side::all_options()
    };
    let trainer = prepared.trainer(&source, options)?;
    let inference = Inference::default();
    let forward = trainer.forward(prepared.scaler());
    let mut out = vec![0.0; forward.forecast_len()];
    let window = [WindowIndex {
        group: 0,
        window: 0,
    }];
    let threads = Threads::new(options.threads).map_err(|error| error.to_string())?;
    let times = threads.install(|| {
        let mut times = Vec::new();
        for _ in 0..FORECASTS {
            let start = std::time::Instant::now();
            inference.forecast(&forward, &window, std::hint::black_box(&mut out));
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times
    });
    Measure::of(&times[FORECASTS / 10..], "ms").ok_or_else(|| "no forecast was timed".to_owned())
}

/// Whole steps in f32 on one thread and more, in turns: powers of two and all cores.
fn scaling(prepared: &Prepared, windows: usize) -> Result<Vec<ThreadTimes>, String> {
    let source = prepared.source()?;
    let most = cores();
    let mut counts: Vec<usize> = (0..usize::BITS)
        .map(|power| 1usize << power)
        .take_while(|&count| count < most)
        .collect();
    counts.push(most);
    let mut runners = Vec::new();
    for &threads in &counts {
        let options = RunOptions {
            threads: Some(threads),
            ..f32_options()
        };
        let mut runner = Runner::Library(Box::new(prepared.trainer(&source, options)?));
        for _ in 0..2 {
            runner.step(windows)?;
        }
        runners.push((runner, Vec::new()));
    }
    for _ in 0..SCALING_ROUNDS {
        for (runner, times) in &mut runners {
            let mut of_round = Vec::new();
            turn(runner, windows, 2, &mut of_round)?;
            times.push(Interval::of_median(&of_round).median);
        }
    }
    let named = counts.into_iter().zip(runners);
    let times = named.filter_map(|(threads, (_, times))| {
        Measure::of(&times, "ms").map(|step| ThreadTimes { threads, step })
    });
    Ok(times.collect())
}

fn f32_options() -> RunOptions {
    Switches::without(Optimization::Half).options()
}

/// Adds the rounds of another run of the same workload.
pub fn add_rounds(steps: &mut WorkloadSteps, more: &WorkloadSteps) {
    for (group, more) in [(&mut steps.full, &more.full), (&mut steps.few, &more.few)] {
        for times in &mut group.sides {
            if let Some(more) = more.side(&times.side) {
                let mut rounds = std::mem::take(&mut times.rounds);
                rounds.extend(&more.rounds);
                if let Some(longer) = side_times(&times.side, rounds) {
                    *times = longer;
                }
            }
        }
    }
    derive(steps);
}

/// The ratios that matter.
fn derive(steps: &mut WorkloadSteps) {
    let mut factors = Vec::new();
    let mut add = |name: String, group: &Group, slow: &Side, fast: &Side| {
        let (slow, fast) = (slow.to_string(), fast.to_string());
        if let Some((ratio, rounds)) = group.ratio(&slow, &fast) {
            factors.push(Factor {
                name,
                slow,
                fast,
                ratio,
                rounds,
                same_windows: true,
            });
        }
    };
    let (full, few) = (&steps.full, &steps.few);
    for (suffix, fast) in [("", Side::ALL), (":f32", Side::ALL_F32)] {
        add(format!("combined{suffix}"), full, &Side::BASELINE, &fast);
        let reordered = Side::Plain(Products::Reordered);
        add(format!("against:b{suffix}"), full, &reordered, &fast);
        let ndarray = Side::Plain(Products::Ndarray);
        add(format!("against:c{suffix}"), full, &ndarray, &fast);
    }
    for optimization in Optimization::ALL {
        let only = Side::Library(Switches::only(optimization));
        let group = if only.is_slow() { few } else { full };
        let name = format!("alone:{}", optimization.name());
        add(name, group, &Side::BASELINE, &only);
        let without = Side::Library(Switches::without(optimization));
        if !without.is_slow() {
            let name = format!("without:{}", optimization.name());
            add(name, full, &without, &Side::ALL);
        }
    }
    let simd = Side::Library(Switches::only(Optimization::Simd));
    let stages = [
        ("simd", Side::BASELINE, simd),
        ("flash", simd, Side::SIMD_FLASH),
        ("parallel", Side::SIMD_FLASH, Side::ALL_F32),
        ("bf16", Side::ALL_F32, Side::ALL),
    ];
    for (name, slow, fast) in stages {
        add(format!("stage:{name}"), full, &slow, &fast);
    }
    // Across the groups: times per window.
    let slow = Side::Library(Switches::without(Optimization::Simd)).to_string();
    let all = Side::ALL.to_string();
    if let (Some(slow_times), Some(fast_times)) = (few.side(&slow), full.side(&all)) {
        let scale = full.windows as f64 / few.windows as f64;
        let pairs = slow_times.rounds.iter().zip(&fast_times.rounds);
        let ratios: Vec<f64> = pairs.map(|(slow, fast)| slow / fast * scale).collect();
        factors.push(Factor {
            name: "without:simd".to_owned(),
            slow,
            fast: all,
            ratio: Interval::of_median(&ratios),
            rounds: ratios.len(),
            same_windows: few.windows == full.windows,
        });
    }
    steps.factors = factors;
}

impl WorkloadSteps {
    /// The product of what the optimizations gain alone.
    #[must_use]
    pub fn product_of_parts(&self) -> Option<f64> {
        Optimization::ALL.into_iter().try_fold(1.0, |product, o| {
            let factor = self.factor(&format!("alone:{}", o.name()))?;
            Some(product * factor.ratio.median)
        })
    }

    /// The time of a baseline step per window in the group of whole steps over that on few windows.
    #[must_use]
    pub fn linearity(&self) -> Option<f64> {
        let name = Side::BASELINE.to_string();
        let per_window =
            |group: &Group| Some(group.side(&name)?.step.median / group.windows as f64);
        Some(per_window(&self.full)? / per_window(&self.few)?)
    }

    /// The share of a step on one thread that more threads do not shorten, from the longest curve (Amdahl's law); `None` on one core.
    #[must_use]
    pub fn serial_share(&self) -> Option<f64> {
        let (first, last) = (self.scaling.first()?, self.scaling.last()?);
        let n = last.threads as f64;
        if last.threads < 2 {
            return None;
        }
        let ratio = last.step.median / first.step.median;
        Some(((ratio - 1.0 / n) / (1.0 - 1.0 / n)).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group_of(windows: usize, sides: &[(Side, &[f64])]) -> Group {
        let sides = sides
            .iter()
            .filter_map(|(side, rounds)| side_times(&side.to_string(), rounds.to_vec()));
        Group {
            windows,
            sides: sides.collect(),
        }
    }

    fn sample() -> WorkloadSteps {
        let only = |o| Side::Library(Switches::only(o));
        let mut steps = WorkloadSteps {
            name: "X".to_owned(),
            summary: String::new(),
            date: String::new(),
            commit: String::new(),
            load: None,
            full: group_of(
                16,
                &[
                    (Side::BASELINE, &[160.0, 320.0, 160.0]),
                    (only(Optimization::Simd), &[16.0, 32.0, 16.0]),
                    (Side::ALL, &[2.0, 4.0, 2.0]),
                ],
            ),
            few: group_of(
                2,
                &[
                    (Side::BASELINE, &[20.0, 20.0, 20.0]),
                    (only(Optimization::Flash), &[10.0, 10.0, 10.0]),
                    (only(Optimization::Parallel), &[10.0, 10.0, 10.0]),
                    (only(Optimization::Half), &[20.0, 20.0, 20.0]),
                    (
                        Side::Library(Switches::without(Optimization::Simd)),
                        &[5.0, 5.0, 5.0],
                    ),
                ],
            ),
            memory: Vec::new(),
            latency: None,
            scaling: Vec::new(),
            losses: Vec::new(),
            peer: None,
            factors: Vec::new(),
        };
        derive(&mut steps);
        steps
    }

    #[test]
    fn every_step_of_a_round_is_in_one_turn() {
        let steps = [1, 24, 1, 1, 3, 2, 1];
        for round in 0..2 * steps.len() {
            let turns = turns(round, &steps);
            for (side, &steps) in steps.iter().enumerate() {
                let taken = turns.iter().filter(|turn| turn.0 == side);
                assert_eq!(taken.clone().map(|turn| turn.1).sum::<usize>(), steps);
                assert_eq!(taken.count(), steps.min(PARTS));
            }
        }
    }

    #[test]
    fn another_side_begins_each_round_and_fast_ones_work_around_slow_ones() {
        let slow = [1; 5];
        let first: std::collections::BTreeSet<usize> = (0..slow.len())
            .map(|round| turns(round, &slow)[0].0)
            .collect();
        assert_eq!(first.len(), slow.len());
        // The steps of the last side before the first one's, over the rounds: from few to all.
        let steps = [1, 1, 1, 4, 12];
        let before = |round| {
            let turns = turns(round, &steps);
            let slow = turns.iter().position(|turn| turn.0 == 0);
            let before = turns[..slow.unwrap()].iter().filter(|turn| turn.0 == 4);
            before.map(|turn| turn.1).sum::<usize>()
        };
        let before: Vec<usize> = (0..steps.len()).map(before).collect();
        let (least, most) = (before.iter().min(), before.iter().max());
        assert!(least <= Some(&3) && most >= Some(&9), "{before:?}");
        // What a validation has: one slow side among nine, and few rounds. The fastest works on both sides of it in each.
        let steps = [1, 1, 5, 7, 7, 24, 16, 12, 24];
        for round in 0..3 {
            let turns = turns(round, &steps);
            let slow = turns.iter().position(|turn| turn.0 == 0).unwrap();
            let fast = |turn: &(usize, usize)| turn.0 == 8;
            assert!(turns[..slow].iter().any(fast) && turns[slow..].iter().any(fast));
        }
    }

    #[test]
    fn ratios_are_those_of_rounds() {
        let steps = sample();
        let factor = |name: &str| steps.factor(name).unwrap().ratio.median;
        assert_eq!(factor("combined"), 80.0);
        assert_eq!(factor("alone:simd"), 10.0);
        assert_eq!(factor("alone:flash"), 2.0);
        // 5 ms on 2 windows are 40 on 16.
        assert_eq!(factor("without:simd"), 20.0);
        assert!(!steps.factor("without:simd").unwrap().same_windows);
        assert_eq!(steps.product_of_parts(), Some(10.0 * 2.0 * 2.0 * 1.0));
        assert_eq!(steps.linearity(), Some(1.0));
        assert_eq!(steps.factor("against:b"), None);
    }

    #[test]
    fn rounds_can_be_added() {
        let mut steps = sample();
        add_rounds(&mut steps, &sample());
        assert_eq!(steps.factor("combined").unwrap().rounds, 6);
        assert_eq!(steps.few.sides[0].rounds.len(), 6);
    }

    #[test]
    fn the_serial_share_is_amdahls() {
        let mut steps = sample();
        let of = |threads, ms| ThreadTimes {
            threads,
            step: Measure::single(ms, "ms"),
        };
        steps.scaling = vec![of(1, 100.0), of(2, 60.0)];
        assert!((steps.serial_share().unwrap() - 0.2).abs() < 1e-12);
        steps.scaling = vec![of(1, 100.0)];
        assert_eq!(steps.serial_share(), None);
    }

    #[test]
    fn a_small_network_is_measured_under_every_side() {
        let small = TrainingWorkload {
            name: "small",
            summary: "",
            input_size: 24,
            horizon: 4,
            windows: 4,
            config: || {
                nd_models::ModelConfig::PatchTst(nd_models::models::PatchTstConfig {
                    encoder_layers: 1,
                    n_heads: 2,
                    hidden_size: 8,
                    linear_hidden_size: 8,
                    ..Default::default()
                })
            },
        };
        let plan = Plan {
            rounds: 2,
            quick: true,
        };
        let steps = measure(&small, plan).unwrap();
        assert_eq!(steps.full.sides.len(), full_sides().len());
        assert!(steps.full.sides.iter().all(|s| s.rounds.len() == 2));
        for factor in [
            "combined:f32",
            "against:b",
            "against:c",
            "stage:bf16",
            "without:simd",
        ] {
            assert!(steps.factor(factor).is_some(), "{factor}");
        }
        let f32_sides = steps
            .losses
            .iter()
            .filter(|l| !matches!(l.side.as_str(), "all" | "no-flash" | "no-parallel"));
        for loss in f32_sides {
            assert!(loss.relative_difference < 1e-5, "{loss:?}");
        }
    }
}
