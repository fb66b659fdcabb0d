//! Damage at random: a damaged file is refused, or says the same as before.

use std::path::Path;
use std::sync::LazyLock;

use nd_core::autograd::Params;
use nd_models::checkpoint::RawCheckpoint;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{
    Loaded, assemble, assert_same_state, bits, bytes_of, load, plain_file, plain_layout,
    rich_layout, rich_state, take_apart,
};

static VALID: LazyLock<Vec<u8>> = LazyLock::new(plain_file);

/// Refused, or equal to the valid file in all that it says.
pub(super) fn refused_or_equal(bytes: Vec<u8>) -> bool {
    let layout = plain_layout();
    let Ok((config, params, state)): Result<Loaded, _> = load(bytes, &layout) else {
        return true;
    };
    let (expected, expected_params, expected_state) = load(VALID.clone(), &layout).unwrap();
    assert_eq!(
        (config, bits(params.flat())),
        (expected, bits(expected_params.flat()))
    );
    match (state, expected_state) {
        (Some(state), Some(expected)) => assert_same_state(&state, &expected),
        _ => panic!("the state is gone"),
    }
    false
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let mut equal = Vec::new();
    for at in 0..VALID.len() {
        for bit in 0..8 {
            let mut bytes = VALID.clone();
            bytes[at] ^= 1 << bit;
            if !refused_or_equal(bytes) {
                equal.push(at);
            }
        }
        assert!(refused_or_equal(VALID[..at].to_vec()), "cut at {at}");
        if at > 0 {
            // The front missing.
            assert!(refused_or_equal(VALID[at..].to_vec()), "begun at {at}");
        }
    }
    // A space that becomes a tab or a line break leaves the same JSON; nothing else passes.
    let (header, _) = take_apart(&VALID);
    let padding = 8 + header.trim_end().len()..8 + header.len();
    assert!(equal.iter().all(|at| padding.contains(at)), "{equal:?}");
}

#[test]
fn every_pair_of_swapped_data_bytes_is_noticed() {
    let (header, data) = take_apart(&VALID);
    for i in 0..data.len() {
        for j in 0..i {
            if data[i] == data[j] {
                continue;
            }
            let mut data = data.clone();
            data.swap(i, j);
            assert!(
                refused_or_equal(assemble(header.as_bytes(), &data)),
                "{i} and {j}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn bytes_changed_cut_and_inserted(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        insert in prop::option::of((any::<prop::sample::Index>(), vec(any::<u8>(), 1..20))),
    ) {
        let mut bytes = VALID.clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some((at, new)) = insert {
            let at = at.index(bytes.len());
            bytes.splice(at..at, new);
        }
        if let Some(at) = cut {
            bytes.truncate(at.index(bytes.len()));
        }
        refused_or_equal(bytes);
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(RawCheckpoint::parse(bytes, Path::new("any")).is_err());
    }

    #[test]
    fn any_header(header in vec(any::<u8>(), 0..200), data in vec(any::<u8>(), 0..40)) {
        let mut text = b"{".to_vec();
        text.extend(header);
        prop_assert!(RawCheckpoint::parse(assemble(&text, &data), Path::new("any")).is_err());
    }

    /// Words of the format in any order come deeper than bytes do.
    #[test]
    fn any_words(
        words in vec(prop::sample::select(WORDS.to_vec()), 0..60),
        data in vec(any::<u8>(), 0..40),
    ) {
        let text = format!("{{{}}}", words.concat());
        let _ = RawCheckpoint::parse(assemble(text.as_bytes(), &data), Path::new("any"));
        // As the record of a tensor in a header that is otherwise whole.
        let (header, data) = take_apart(&VALID);
        let text = header.replacen('}', &format!("}},\"params.x\":{}", words.concat()), 1);
        refused_or_equal(assemble(text.as_bytes(), &data));
    }
}

proptest! {
    // Every case is flushed to the disk.
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_parameters_come_back(seed: u64, values in vec(any::<u32>(), 35), wide: bool) {
        let layout = rich_layout();
        let weight = layout.find("linear.weight").unwrap();
        if wide {
            let mut params = Params::<f64>::init(&layout, seed);
            for (slot, x) in params.get_mut(weight).iter_mut().zip(&values) {
                *slot = f64::from_bits(u64::from(*x) << 32 | seed >> 32);
            }
            let bytes = bytes_of(&params, Some(&rich_state(&layout)));
            let raw = RawCheckpoint::parse(bytes, Path::new("any")).unwrap();
            prop_assert_eq!(bits(raw.params::<f64>(&layout).unwrap().flat()), bits(params.flat()));
        } else {
            let mut params = Params::<f32>::init(&layout, seed);
            for (slot, x) in params.get_mut(weight).iter_mut().zip(&values) {
                *slot = f32::from_bits(*x);
            }
            let (_, back, _) = load(bytes_of(&params, None), &layout).unwrap();
            let found: Vec<_> = back.flat().iter().map(|x| x.to_bits()).collect();
            let expected: Vec<_> = params.flat().iter().map(|x| x.to_bits()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}

/// What headers are made of.
pub(super) const WORDS: [&str; 34] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"__metadata__\"",
    "\"params.w\"",
    "\"params.b\"",
    "\"dtype\"",
    "\"shape\"",
    "\"data_offsets\"",
    "\"F32\"",
    "\"U32\"",
    "\"I64\"",
    "0",
    "1",
    "4",
    "24",
    "-1",
    "0.5",
    "18446744073709551615",
    "18446744073709551616",
    "1e99",
    "null",
    "true",
    "\"\"",
    "\"\\u0000\"",
    "\"neuro_divergent\"",
    "\"1\"",
    "\"config\"",
    "\"checksum\"",
    " ",
    "\n",
];
