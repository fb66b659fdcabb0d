//! A valid file whose header is mutated over and over, half of the time with a checksum made to fit, so that what
//! lies behind the checksum is reached: reading ends with an error or with a checkpoint, never with a panic.

use nd_core::rng::{Key, Stream};
use serde_json::Value;

use super::properties::{WORDS, refused_or_equal};
use super::{assemble, checksum, load, plain_file, plain_layout, take_apart};

/// A few thousand cases; `ND_FUZZ_CASES` asks for more.
fn cases() -> u64 {
    let asked = std::env::var("ND_FUZZ_CASES").ok();
    asked.map_or(20_000, |text| text.parse().expect("a number of cases"))
}

/// An index below `n`.
fn below(random: &mut Stream, n: usize) -> usize {
    (random.next_u64() % n.max(1) as u64) as usize
}

/// A place between two characters of `text` that are there for JSON: structure or a number.
fn place(random: &mut Stream, text: &str) -> usize {
    let at = below(random, text.len());
    let joints = text.char_indices().skip_while(|&(i, _)| i < at);
    let mut joints = joints.filter(|(_, c)| "{}[]:,\"0123456789".contains(*c));
    joints.next().map_or(0, |(i, _)| i)
}

/// One change of a header.
fn mutate(random: &mut Stream, text: &mut String) {
    let (a, b) = (place(random, text), place(random, text));
    let (from, to) = (a.min(b), a.max(b));
    let near = (from + below(random, 12)).min(text.len());
    let near = (near..=text.len()).find(|&i| text.is_char_boundary(i));
    let near = near.unwrap_or(text.len());
    let word = WORDS[below(random, WORDS.len())];
    match below(random, 8) {
        0 => text.insert_str(from, word),
        1 => text.replace_range(from..near, word),
        2 => text.replace_range(from..near, ""),
        3 => {
            let piece = text[from..to].to_owned();
            text.insert_str(to, &piece);
        }
        4 => text.replace_range(from..to, ""),
        5 => {
            let number = random.next_u64() >> below(random, 64);
            text.replace_range(from..near, &number.to_string());
        }
        _ => {
            // A digit for a digit: offsets, dimensions and counts that are almost right.
            let digits: Vec<_> = text.match_indices(|c: char| c.is_ascii_digit()).collect();
            if let Some(&(i, _)) = digits.get(below(random, digits.len())) {
                text.replace_range(i..=i, &below(random, 10).to_string());
            }
        }
    }
}

/// The file with a fitting checksum, if its header has a place for one.
fn signed(text: &str, data: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let old = value
        .get("__metadata__")?
        .get("checksum")?
        .as_str()?
        .to_owned();
    if old.len() != 16
        || value
            .as_object()?
            .values()
            .any(|record| !record.is_object())
    {
        return None;
    }
    let new = format!("{:016x}", checksum(&value, data));
    Some(assemble(text.replacen(&old, &new, 1).as_bytes(), data))
}

#[test]
fn mutated_headers_never_panic() {
    let layout = plain_layout();
    let (header, data) = take_apart(&plain_file());
    let mut random = Stream::new(Key::new(5));
    let (mut accepted, mut refused) = (0u64, 0u64);
    for _ in 0..cases() {
        let mut text = header.clone();
        for _ in 0..=below(&mut random, 3) {
            mutate(&mut random, &mut text);
        }
        match signed(&text, &data).filter(|_| random.next_u32().is_multiple_of(2)) {
            Some(file) => match load(file, &layout) {
                Ok(_) => accepted += 1,
                Err(_) => refused += 1,
            },
            None => {
                refused_or_equal(assemble(text.as_bytes(), &data));
            }
        }
    }
    // Changed scalars of the state and padding are accepted, all else is not.
    assert!(
        accepted > 0 && refused > accepted,
        "{accepted} and {refused}"
    );
}
