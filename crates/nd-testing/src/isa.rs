//! The instruction sets that a test run covers, and those that it must cover.
//!
//! Tests go over the levels that the machine has; a level that it lacks would silently not be tested. So a run that is
//! meant for an instruction set names it in `ND_REQUIRE_ISA`, and every test that asks for the levels fails on a
//! machine without it.

use nd_core::SimdLevel;

/// The environment variable that names the instruction sets a run must cover, with commas between them: the levels of
/// [`SimdLevel`], and beside them `avx512bf16` and `amxbf16`.
pub const REQUIRE_ISA_ENV: &str = "ND_REQUIRE_ISA";

/// The environment variable that names the only levels a run goes over, with commas between them. For runs under an
/// emulator, which leave the scalar level to the machine itself.
pub const ONLY_LEVELS_ENV: &str = "ND_TEST_LEVELS";

/// The dot product of bf16 pairs, which is beside the levels.
const BF16_DOT: &str = "avx512bf16";
/// Products of tiles of bf16. What the processor has is not enough for them: nd-simd's test of required instruction sets asks whether
/// the system lets this process use them.
const BF16_TILES: &str = "amxbf16";

/// The levels of this machine, slowest first, as every test of kernels goes over them; of these [`ONLY_LEVELS_ENV`] chooses.
///
/// # Panics
/// [`REQUIRE_ISA_ENV`] or [`ONLY_LEVELS_ENV`] names an instruction set that this machine lacks.
#[track_caller]
pub fn levels() -> impl Iterator<Item = SimdLevel> {
    let required = required_isa();
    let list = std::env::var(ONLY_LEVELS_ENV).unwrap_or_default();
    let only = match check(&list, |name| {
        name.parse::<SimdLevel>().ok().map(SimdLevel::is_supported)
    }) {
        Ok(names) => names,
        Err(message) => panic!("{ONLY_LEVELS_ENV}={list}: {message}"),
    };
    for level in SimdLevel::supported() {
        assert!(
            chosen(level, &only) || !required.contains(&level.to_string()),
            "{REQUIRE_ISA_ENV} requires {level}, and {ONLY_LEVELS_ENV}={list} leaves it out: name it there, or clear the variable"
        );
    }
    SimdLevel::supported().filter(move |level| chosen(*level, &only))
}

/// Whether a run goes over a level; over all where none is named.
fn chosen(level: SimdLevel, only: &[String]) -> bool {
    only.is_empty() || only.contains(&level.to_string())
}

/// The instruction sets that [`REQUIRE_ISA_ENV`] names; none when it is not set.
///
/// # Panics
/// This machine lacks one, or there is no such instruction set.
#[track_caller]
pub fn required_isa() -> Vec<String> {
    let list = std::env::var(REQUIRE_ISA_ENV).unwrap_or_default();
    match check(&list, has_isa) {
        Ok(names) => names,
        Err(message) => panic!("{REQUIRE_ISA_ENV}={list}: {message}"),
    }
}

/// Whether this machine has an instruction set; `None` when there is none of this name.
fn has_isa(name: &str) -> Option<bool> {
    if name == BF16_DOT {
        #[cfg(target_arch = "x86_64")]
        return Some(SimdLevel::Avx512.is_supported() && is_x86_feature_detected!("avx512bf16"));
        #[cfg(not(target_arch = "x86_64"))]
        return Some(false);
    }
    if name == BF16_TILES {
        #[cfg(target_arch = "x86_64")]
        {
            // AMX-BF16 and AMX-TILE, in EDX of leaf 7; the detection macro does not know them.
            const TILES: u32 = 1 << 22 | 1 << 24;
            let leaf = std::arch::x86_64::__cpuid_count(7, 0);
            return Some(SimdLevel::Avx512.is_supported() && leaf.edx & TILES == TILES);
        }
        #[cfg(not(target_arch = "x86_64"))]
        return Some(false);
    }
    name.parse::<SimdLevel>().ok().map(SimdLevel::is_supported)
}

fn check(list: &str, has: impl Fn(&str) -> Option<bool>) -> Result<Vec<String>, String> {
    let names = list.split(',').map(|name| name.trim().to_lowercase());
    let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    for name in &names {
        match has(name) {
            Some(true) => {}
            Some(false) => {
                return Err(format!(
                    "this machine has no {name}, so its code was not tested; its best level is {}",
                    SimdLevel::best()
                ));
            }
            None => {
                let known = SimdLevel::ALL.map(|level| level.to_string()).join(", ");
                return Err(format!(
                    "there is no instruction set {name:?}; known are {known}, {BF16_DOT}, {BF16_TILES}"
                ));
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_passes_and_what_is_missing_is_named() {
        let has = |name: &str| match name {
            "scalar" | "avx2" => Some(true),
            "avx512" => Some(false),
            _ => None,
        };
        assert_eq!(check("", has), Ok(vec![]));
        let both = vec!["avx2".to_owned(), "scalar".to_owned()];
        assert_eq!(check("AVX2, scalar,", has), Ok(both));
        let error = check("avx2,avx512", has).unwrap_err();
        assert!(error.contains("no avx512"), "{error}");
        let error = check("sse9", has).unwrap_err();
        assert!(error.contains("sse9") && error.contains("neon"), "{error}");
    }

    #[test]
    fn levels_that_are_named_are_the_only_ones() {
        let only = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            SimdLevel::ALL
                .into_iter()
                .filter(move |level| chosen(*level, &names))
                .count()
        };
        assert_eq!(only(&[]), SimdLevel::ALL.len());
        assert_eq!(only(&["scalar"]), 1);
        assert_eq!(only(&["avx2", "neon"]), 2);
    }

    #[test]
    fn one_architecture_lacks_the_other() {
        let foreign = if cfg!(target_arch = "aarch64") {
            "avx2"
        } else {
            "neon"
        };
        assert!(check(foreign, has_isa).is_err());
        assert!(check("scalar", has_isa).is_ok());
        assert_eq!(has_isa(BF16_DOT).is_some(), has_isa("avx512").is_some());
        assert_eq!(has_isa(BF16_TILES).is_some(), has_isa("avx512").is_some());
    }
}
