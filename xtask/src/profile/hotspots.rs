//! `hotspots.md`: where the time goes, how urgent each part is, and what to try next.

use super::components::{Component, Priority, advice, component, shares};
use super::cpu::Cpu;
use super::stacks::short;
use super::{Findings, cache};

/// Functions that are listed.
const LISTED: usize = 20;
/// Characters of a function's name.
const NAME: usize = 110;

/// A function among the top: share of the samples, component, name.
pub(super) struct Function {
    pub(super) share: f64,
    pub(super) component: Component,
    pub(super) name: String,
}

/// The functions in which most samples were taken.
pub(super) fn top(cpu: &Cpu) -> Vec<Function> {
    let total = cpu.stacks.total().max(1) as f64;
    let functions = cpu.stacks.functions();
    functions
        .into_iter()
        .take(LISTED)
        .map(|(name, count)| Function {
            share: count as f64 / total,
            component: most_common(cpu, name),
            name: short(name, NAME),
        })
        .collect()
}

/// The component that most samples of this innermost function belong to.
fn most_common(cpu: &Cpu, name: &str) -> Component {
    let mut counts = [0u64; Component::ALL.len()];
    for (frames, count) in cpu.stacks.iter() {
        if frames.last().is_some_and(|frame| frame == name) {
            counts[component(frames) as usize] += count;
        }
    }
    let largest = (0..counts.len()).max_by_key(|&i| counts[i]);
    largest.map_or(Component::Other, |i| Component::ALL[i])
}

/// The document.
pub(super) fn markdown(found: &Findings) -> String {
    let mut out = format!("# Hotspots: {}\n\n{}\n\n", found.workload, found.what);
    if let Some(cpu) = &found.cpu {
        cpu_part(&mut out, cpu);
    }
    if let Some(memory) = &found.memory {
        out += "## Memory\n\n";
        for (what, value) in memory.rows() {
            out += &format!("* {what}: {value}\n");
        }
        out += "\nThe largest at the peak:\n\n| amount | asked for by |\n|---:|---|\n";
        for (amount, name) in &memory.consumers {
            out += &format!("| {amount} | {} |\n", cell(&short(name, NAME)));
        }
        out += "\n";
    }
    if let Some(found) = &found.cache {
        out += &format!("## Caches and branches\n\n{}\n\n", cache::NOTE);
        for (what, value) in &found.summary {
            out += &format!("* {what}: {value}\n");
        }
        out += "\n";
    }
    for line in &found.notes {
        out += &format!("* {line}\n");
    }
    out.trim_end().to_owned() + "\n"
}

fn cpu_part(out: &mut String, cpu: &Cpu) {
    let shares = shares(&cpu.stacks);
    *out += &format!(
        "## Time by component\n\n{} samples of {}, {} more while the workload was prepared left out. The expected shares are the quick reference's, for a transformer; priority: \
         above 20 % critical, above 10 % high, from 5 % medium, below low.\n\n\
         | component | measured | expected | priority |\n|---|---:|---:|---|\n",
        cpu.stacks.total(),
        cpu.event,
        cpu.prepared
    );
    for (component, share) in &shares {
        let expected = component
            .expected()
            .map_or_else(|| "-".to_owned(), |(low, high)| format!("{low}-{high} %"));
        *out += &format!(
            "| {component} | {:.1} % | {expected} | {} |\n",
            share * 100.0,
            Priority::of(*share)
        );
    }
    *out += "\n## What to try next\n\n";
    for (rank, (component, share, text)) in advice(&shares).into_iter().enumerate() {
        *out += &format!(
            "{}. **{component}** ({:.1} %, {}). {text}\n",
            rank + 1,
            share * 100.0,
            Priority::of(share)
        );
    }
    *out += &format!(
        "\n## The {LISTED} functions in which most time is spent\n\n| share | component | function |\n|---:|---|---|\n"
    );
    for function in top(cpu) {
        *out += &format!(
            "| {:.1} % | {} | {} |\n",
            function.share * 100.0,
            function.component,
            cell(&function.name)
        );
    }
    *out += "\n";
}

/// Code inside a table.
fn cell(name: &str) -> String {
    format!("`{}`", name.replace('|', "/"))
}

#[cfg(test)]
mod tests {
    use super::super::stacks::Stacks;
    use super::*;

    #[test]
    fn the_document_has_the_table_the_priorities_and_the_functions() {
        let script =
            "1 nd_simd::matmul::f\n2 main\n\n".repeat(6) + &"1 malloc\n2 main\n\n".repeat(4);
        let found = Findings {
            workload: "NHITS".to_owned(),
            what: "a step".to_owned(),
            cpu: Some(Cpu {
                stacks: Stacks::of_perf_script(&script),
                event: "cpu-clock".to_owned(),
                prepared: 0,
                said: String::new(),
            }),
            ..Findings::default()
        };
        let text = markdown(&found);
        for part in [
            "| Matrix multiplication | 60.0 % | 40-60 % | critical |",
            "| Memory | 40.0 % | 5-10 % | critical |",
            "1. **Matrix multiplication** (60.0 %, critical).",
            "| 40.0 % | Memory | `malloc` |",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
