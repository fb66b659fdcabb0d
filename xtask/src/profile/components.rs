//! Which part of the library a sample belongs to, and what to do about a part that takes long.
//!
//! In its simple form: the first rule of [`RULES`] whose word occurs in a frame of the stack decides. Rules are asked in order,
//! each about the whole stack, so attention's own products count as attention and not as products.
//! Known weakness: what the compiler has inlined into another function counts as that function.

use std::fmt;

use super::stacks::Stacks;

/// A part of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Component {
    MatrixMultiplication,
    Attention,
    Activations,
    Memory,
    DataLoading,
    Optimizer,
    Norms,
    Recurrent,
    Elementwise,
    Threads,
    Other,
}

impl Component {
    pub(super) const ALL: [Self; 11] = [
        Self::MatrixMultiplication,
        Self::Attention,
        Self::Activations,
        Self::Memory,
        Self::DataLoading,
        Self::Optimizer,
        Self::Norms,
        Self::Recurrent,
        Self::Elementwise,
        Self::Threads,
        Self::Other,
    ];

    /// Per cent of the time that the quick reference expects, for a transformer; `None` where it names none.
    pub(super) fn expected(self) -> Option<(u32, u32)> {
        match self {
            Self::MatrixMultiplication => Some((40, 60)),
            Self::Attention => Some((20, 30)),
            Self::Activations => Some((10, 15)),
            Self::Memory | Self::DataLoading => Some((5, 10)),
            _ => None,
        }
    }

    /// What to look at next when it takes long.
    fn advice(self) -> &'static str {
        match self {
            Self::MatrixMultiplication => {
                "Compare GFLOP/s with the peak: `cargo run --release -p nd-bench --bin kernels -- --filter gemm`. At the peak only \
                 fewer or narrower numbers help: half-precision operands, more windows in a step (wider products), another thread."
            }
            Self::Attention => {
                "Compare `--workload attention` with its products alone. Long sequences: flash attention and its block size; short \
                 ones: heads side by side in lanes. Residual scores keep the matrix of scores: `res_attention: false` does without."
            }
            Self::Activations => {
                "Fuse the activation into the product's store (a linear layer with an activation is one op) and see that no pass \
                 over memory is made for it alone; then the bounds of `math/` say what each function costs."
            }
            Self::Memory => {
                "Run `cargo xtask profile memory`: a steady step should allocate nothing. Page faults at the beginning are the first touch \
                 of buffers that stay; in a steady step they are a buffer that the pool does not keep."
            }
            Self::DataLoading => {
                "Drawing and gathering windows should stay below a few per cent. Look for a scaler or exogenous columns that gather \
                 element by element, and whether the gather runs on all threads."
            }
            Self::Optimizer => {
                "It is bound by memory: seven values a parameter. Fewer passes (norm and update are two), or more windows in a \
                 step, so that it is paid less often."
            }
            Self::Norms => {
                "Forward and backward should be two passes over memory each; a batch norm over few rows is bound by its column sums."
            }
            Self::Recurrent => {
                "Gates between products: see that a batch is wide enough for whole vectors, and that the products beside it are packed once."
            }
            Self::Elementwise => {
                "Passes over memory with little work in them: fuse them into the op before or after, or drop a copy or a permutation."
            }
            Self::Threads => {
                "Threads that wait or look for work: fewer threads (`--threads`), larger shards, or work that is not yet split. Compare \
                 with `--threads 1`."
            }
            Self::Other => "Look at the functions below that no rule knows.",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MatrixMultiplication => "Matrix multiplication",
            Self::Attention => "Attention",
            Self::Activations => "Activations",
            Self::Memory => "Memory",
            Self::DataLoading => "Data loading",
            Self::Optimizer => "Optimizer",
            Self::Norms => "Norms and losses",
            Self::Recurrent => "Recurrent gates",
            Self::Elementwise => "Other passes over memory",
            Self::Threads => "Threads: waiting, stealing",
            Self::Other => "Other",
        })
    }
}

/// Where in a stack a word must stand.
#[derive(Clone, Copy)]
enum In {
    /// At the beginning of the innermost frame, behind an angle bracket or not: that crate's own code.
    Begins,
    /// In the innermost frame.
    Innermost,
    /// In any frame.
    Any,
}

/// A word of a function's name decides; the first rule that applies.
const RULES: &[(In, &str, Component)] = &[
    (In::Innermost, "malloc", Component::Memory),
    (In::Innermost, "calloc", Component::Memory),
    (In::Innermost, "realloc", Component::Memory),
    (In::Innermost, "cfree", Component::Memory),
    (In::Innermost, "_int_free", Component::Memory),
    (In::Innermost, "madvise", Component::Memory),
    (In::Any, "page_fault", Component::Memory),
    (In::Innermost, "clear_page", Component::Memory),
    (In::Innermost, "nd_core::pool", Component::Memory),
    (In::Innermost, "sched_yield", Component::Threads),
    (In::Any, "do_sched_yield", Component::Threads),
    (In::Any, "futex", Component::Threads),
    (In::Innermost, "wait_until_cold", Component::Threads),
    (In::Begins, "rayon", Component::Threads),
    (In::Begins, "crossbeam", Component::Threads),
    (In::Any, "nd_attention", Component::Attention),
    (In::Any, "nd_models::train::gather", Component::DataLoading),
    (In::Any, "nd_models::train::sampler", Component::DataLoading),
    (In::Any, "nd_data", Component::DataLoading),
    (In::Any, "nd_simd::optim", Component::Optimizer),
    (
        In::Innermost,
        "nd_simd::activations",
        Component::Activations,
    ),
    (In::Innermost, "nd_simd::softmax", Component::Activations),
    (In::Innermost, "nd_simd::math", Component::Activations),
    (In::Any, "nd_simd::matmul", Component::MatrixMultiplication),
    (In::Any, "nd_simd::recurrent", Component::Recurrent),
    (In::Any, "nd_simd::activations", Component::Activations),
    (In::Any, "nd_simd::softmax", Component::Activations),
    (In::Any, "nd_simd::norm", Component::Norms),
    (In::Any, "nd_simd::losses", Component::Norms),
    (In::Any, "nd_simd", Component::Elementwise),
    (In::Innermost, "memcpy", Component::Elementwise),
    (In::Innermost, "memmove", Component::Elementwise),
    (In::Innermost, "memset", Component::Elementwise),
    (In::Any, "nd_core", Component::Elementwise),
];

/// The component of a stack, outermost frame first.
pub(super) fn component(frames: &[String]) -> Component {
    let innermost = frames
        .last()
        .map_or("", |frame| frame.trim_start_matches('<'));
    let applies = |place: In, word: &str| match place {
        In::Begins => innermost.starts_with(word),
        In::Innermost => innermost.contains(word),
        In::Any => frames.iter().any(|frame| frame.contains(word)),
    };
    RULES
        .iter()
        .find(|(place, word, _)| applies(*place, word))
        .map_or(Component::Other, |(.., component)| *component)
}

/// The share of all samples that each component has, in the order of [`Component::ALL`].
pub(super) fn shares(stacks: &Stacks) -> Vec<(Component, f64)> {
    let total = stacks.total().max(1) as f64;
    let mut counts = [0u64; Component::ALL.len()];
    for (frames, count) in stacks.iter() {
        counts[component(frames) as usize] += count;
    }
    Component::ALL
        .into_iter()
        .zip(counts.map(|count| count as f64 / total))
        .collect()
}

/// How urgent a share of the time is, by the rule of the quick reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    Critical,
    High,
    Medium,
    Low,
}

impl Priority {
    pub(super) fn of(share: f64) -> Self {
        match share {
            share if share > 0.20 => Self::Critical,
            share if share > 0.10 => Self::High,
            share if share >= 0.05 => Self::Medium,
            _ => Self::Low,
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        })
    }
}

/// What to try next: the components that are not of low priority, the largest first.
pub(super) fn advice(shares: &[(Component, f64)]) -> Vec<(Component, f64, &'static str)> {
    let mut large: Vec<_> = shares
        .iter()
        .filter(|(_, share)| Priority::of(*share) != Priority::Low)
        .map(|&(component, share)| (component, share, component.advice()))
        .collect();
    large.sort_by(|a, b| b.1.total_cmp(&a.1));
    large
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(frames: &[&str]) -> Component {
        let frames: Vec<String> = frames.iter().map(|f| (*f).to_owned()).collect();
        component(&frames)
    }

    #[test]
    fn the_stack_decides() {
        use Component::*;
        assert_eq!(
            of(&["main", "nd_simd::matmul::kernel"]),
            MatrixMultiplication
        );
        assert_eq!(
            of(&["nd_attention::flash", "nd_simd::matmul::kernel"]),
            Attention
        );
        assert_eq!(
            of(&["nd_simd::recurrent::lstm", "nd_simd::matmul::f"]),
            MatrixMultiplication
        );
        assert_eq!(of(&["nd_simd::recurrent::lstm", "gates"]), Recurrent);
        assert_eq!(
            of(&["nd_simd::ops::linear", "<nd_simd::activations::Gelu>::map"]),
            Activations
        );
        assert_eq!(
            of(&["nd_models::train::gather::gather", "memcpy"]),
            DataLoading
        );
        assert_eq!(
            of(&[
                "nd_attention::flash",
                "asm_exc_page_fault",
                "clear_page_erms"
            ]),
            Memory
        );
        assert_eq!(of(&["x", "rayon_core::sleep"]), Threads);
        assert_eq!(
            of(&["x", "<rayon_core::registry::WorkerThread>::find_work"]),
            Threads
        );
        assert_eq!(
            of(&["nd_simd::matmul::f", "g::<rayon::join>"]),
            MatrixMultiplication
        );
        assert_eq!(of(&["main", "f"]), Other);
        assert_eq!(of(&[]), Other);
    }

    #[test]
    fn the_priority_follows_the_rule() {
        use Priority::*;
        for (share, priority) in [
            (0.21, Critical),
            (0.20, High),
            (0.11, High),
            (0.10, Medium),
            (0.05, Medium),
            (0.049, Low),
        ] {
            assert_eq!(Priority::of(share), priority, "{share}");
        }
    }

    #[test]
    fn shares_add_up_and_small_ones_get_no_advice() {
        let stacks = Stacks::of_perf_script(
            &("1 nd_simd::matmul::f\n\n".repeat(97) + "2 f\n\n3 g\n\n4 malloc\n"),
        );
        let shares = shares(&stacks);
        assert!((shares.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-12);
        let advice = advice(&shares);
        assert_eq!(advice.len(), 1);
        assert_eq!(advice[0].0, Component::MatrixMultiplication);
    }

    #[test]
    fn every_component_stands_at_its_place() {
        for (index, component) in Component::ALL.into_iter().enumerate() {
            assert_eq!(component as usize, index);
        }
    }
}
