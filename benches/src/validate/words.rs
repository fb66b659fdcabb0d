//! What a validation says, in words: the baselines, and why the combined factor is not the product of its parts.

use super::schema::{Baseline, WorkloadSteps};
use crate::plain::Products;
use crate::report::significant;
use crate::sides::{Optimization, Side};

/// The four baselines.
#[must_use]
pub fn baselines() -> Vec<Baseline> {
    let of = |letter: &str, side: Option<Side>, words: &str| Baseline {
        letter: letter.to_owned(),
        side: side.map(|side| side.to_string()),
        words: words.to_owned(),
    };
    vec![
        of(
            "(a)",
            Some(Side::BASELINE),
            "textbook code: this library with everything off. Matrix products are the triple loop over rows, columns and their \
             sum; scalar functions of std and libm; standard attention with all scores in memory; one thread; f32. The same \
             networks written a second time without the library (side plain-ijk) take about as long.",
        ),
        of(
            "(b)",
            Some(Side::Plain(Products::Reordered)),
            "the same with the loops of products in i-k-j order, which rustc vectorises to SSE2: plain code without the \
             library, one thread, f32.",
        ),
        of(
            "(c)",
            Some(Side::Plain(Products::Ndarray)),
            "what a Rust user has today: ndarray's dot (the crate matrixmultiply, with AVX and FMA) and mapv, one thread, f32.",
        ),
        of(
            "(d)",
            None,
            "NeuralForecast on PyTorch, as a user runs it, on all cores: benches/peers, from a record or measured by cargo xtask \
             peers. Only figures of the same processor make a ratio.",
        ),
    ]
}

/// Why the product of the parts differs from what was measured, with the numbers of the workload.
#[must_use]
pub fn amdahl(steps: &WorkloadSteps) -> Option<String> {
    let combined = steps.factor("combined")?.ratio.median;
    let product = steps.product_of_parts()?;
    let mut shares = Vec::new();
    for optimization in Optimization::ALL {
        let alone = steps.factor(&format!("alone:{}", optimization.name()));
        let without = steps.factor(&format!("without:{}", optimization.name()));
        let (Some(alone), Some(without)) = (alone, without) else {
            continue;
        };
        // What it takes away from a step of the baseline, and what its absence adds to an optimised step.
        let before = 100.0 * (1.0 - 1.0 / alone.ratio.median);
        let after = 100.0 * (1.0 - 1.0 / without.ratio.median);
        shares.push(format!(
            "{} takes away {before:.0} % of the baseline's step, and its absence would be {after:.0} % of the step without it",
            optimization.title()
        ));
    }
    let relation = if product > combined * 1.05 {
        "Parts that work on the same time cannot both take it away: what one has made short, the next finds short (Amdahl's law)"
    } else if combined > product * 1.05 {
        "Parts make each other worth more: what one takes away leaves the rest of the step to the other (Amdahl's law read backwards)"
    } else {
        "Here the parts touch different shares of the step, or one that is nearly all of it, so that they multiply"
    };
    let mut out = format!(
        "{}: measured together {}x, the product of the parts {}x. {relation}. {}.",
        steps.name,
        significant(combined),
        significant(product),
        shares.join("; ")
    );
    if let Some(serial) = steps.serial_share() {
        out += &format!(
            " Of a step on one thread, {:.0} % are not shortened by more threads.",
            100.0 * serial
        );
    }
    if let Some(linear) = steps.linearity() {
        out += &format!(
            " A window costs the baseline {:.2} times as much in steps of {} windows as in steps of {}.",
            linear, steps.full.windows, steps.few.windows
        );
    }
    Some(out)
}

/// One sentence with every baseline, for the combined factor in f32 or with everything on.
#[must_use]
pub fn combined(steps: &WorkloadSteps, suffix: &str) -> Option<String> {
    let of = |name: &str| {
        let ratio = steps.factor(&format!("{name}{suffix}"))?.ratio;
        Some(format!(
            "{}x ({}-{}x)",
            significant(ratio.median),
            significant(ratio.low),
            significant(ratio.high)
        ))
    };
    let how = if suffix.is_empty() {
        "with everything on"
    } else {
        "in f32"
    };
    let peer = match &steps.peer {
        Some(peer) if peer.same_machine => {
            let side = if suffix.is_empty() {
                Side::ALL
            } else {
                Side::ALL_F32
            };
            let ours = steps.full.side(&side.to_string())?.step.median;
            format!("{}x against {} (d)", significant(peer.ms / ours), peer.name)
        }
        Some(peer) => format!(
            "{} (d) takes {} ms on another machine ({})",
            peer.name,
            significant(peer.ms),
            peer.cpu
        ),
        None => "(d) not measured".to_owned(),
    };
    Some(format!(
        "{} {how}: {} against textbook loops (a), {} against i-k-j loops (b), {} against ndarray (c), {peer}; rounds: {}.",
        steps.name,
        of("combined")?,
        of("against:b")?,
        of("against:c")?,
        steps.factor(&format!("combined{suffix}"))?.rounds
    ))
}
