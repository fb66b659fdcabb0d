//! The instruction sets that a test run names are there: a run for one cannot pass without it.

use nd_core::SimdLevel;

#[test]
fn the_machine_has_every_required_level() {
    for name in nd_testing::required_isa() {
        if let Ok(level) = name.parse::<SimdLevel>() {
            assert!(level.is_supported() && level <= SimdLevel::best(), "{name}");
        }
    }
}
