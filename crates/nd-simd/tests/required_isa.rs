//! A run that names instruction sets in `ND_REQUIRE_ISA` has them, and the dispatcher really chooses them.

use nd_simd::matmul::Bf16Engine;
use nd_simd::{Isa, Kernel, SimdLevel, dispatch};

struct AskLevel;

impl Kernel for AskLevel {
    type Output = SimdLevel;
    #[inline(always)]
    fn run<S: Isa>(self, _: S) -> SimdLevel {
        S::LEVEL
    }
}

#[test]
fn every_required_level_is_there_and_runs() {
    let levels: Vec<SimdLevel> = nd_testing::levels().collect();
    for name in nd_testing::required_isa() {
        if let Ok(level) = name.parse::<SimdLevel>() {
            assert!(levels.contains(&level), "{name} is not among {levels:?}");
            assert_eq!(dispatch(level, AskLevel), level);
        }
    }
}

/// The tiles need more than the processor: the system's word and its permission.
#[test]
fn required_tiles_may_be_used_and_multiply() {
    let features = nd_simd::detect_cpu_features();
    eprintln!("{features}");
    for name in nd_testing::required_isa() {
        match name.as_str() {
            "amxbf16" => {
                assert!(features.has_amx_bf16, "{features}");
                assert_eq!(Bf16Engine::best(), Bf16Engine::Amx);
            }
            "avx512bf16" => assert!(Bf16Engine::Dot.is_supported(), "{features}"),
            _ => {}
        }
    }
}

/// Without an order the dispatcher takes the best level, and no required level is better than that.
#[test]
fn the_dispatcher_chooses_the_best_level() {
    let best = SimdLevel::best();
    for name in nd_testing::required_isa() {
        if let Ok(level) = name.parse::<SimdLevel>() {
            assert!(level <= best, "{name} is required, {best} is the best");
        }
    }
    let chosen = SimdLevel::current();
    let wanted = SimdLevel::from_env().unwrap().unwrap_or(best);
    assert_eq!(chosen, wanted);
    assert_eq!(dispatch(chosen, AskLevel), wanted);
    // One write, which no other test can interrupt: `cargo xtask test-neon` looks for it.
    let line = format!("the dispatcher chose {chosen} among {:?}", levels());
    eprintln!("{line}");
}

fn levels() -> Vec<String> {
    nd_testing::levels()
        .map(|level| level.to_string())
        .collect()
}
