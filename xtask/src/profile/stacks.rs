//! Samples of call stacks: read from perf, named, counted.
//!
//! `perf script` writes a paragraph per sample, innermost frame first. Equal stacks are one entry here, outermost frame first,
//! which is also the form of `stacks.folded`, the text that flame graph programs read.

use std::collections::BTreeMap;

/// Equal stacks and how often each was seen.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Stacks {
    counts: BTreeMap<Vec<String>, u64>,
}

/// A frame without a name.
const UNKNOWN: &str = "[unknown]";

impl Stacks {
    /// Reads the output of `perf script -F ip,sym`: frames one a line, samples divided by empty lines.
    pub(super) fn of_perf_script(text: &str) -> Self {
        let mut stacks = Self::default();
        let mut frames = Vec::new();
        for line in text.lines().chain([""]) {
            if let Some(frame) = frame(line) {
                frames.push(frame);
            } else if !frames.is_empty() {
                frames.reverse();
                stacks.add(std::mem::take(&mut frames), 1);
            }
        }
        stacks
    }

    /// Without the stacks that have a frame in which one of the words occurs, and how many samples those were.
    pub(super) fn without(self, words: &[&str]) -> (Self, u64) {
        let before = self.total();
        let has = |frames: &[String]| frames.iter().any(|f| words.iter().any(|w| f.contains(w)));
        let counts = self.counts.into_iter().filter(|(frames, _)| !has(frames));
        let rest = Self {
            counts: counts.collect(),
        };
        let left_out = before - rest.total();
        (rest, left_out)
    }

    fn add(&mut self, frames: Vec<String>, count: u64) {
        *self.counts.entry(frames).or_default() += count;
    }

    /// Stacks, outermost frame first, and their counts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[String], u64)> {
        self.counts.iter().map(|(frames, &n)| (&frames[..], n))
    }

    /// All samples.
    pub(super) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// One line a stack: frames divided by semicolons, a space, the count.
    pub(super) fn folded(&self) -> String {
        let mut out = String::new();
        for (frames, count) in self.iter() {
            let frames: Vec<String> = frames.iter().map(|f| f.replace(';', ":")).collect();
            out += &format!("{} {count}\n", frames.join(";"));
        }
        out
    }

    /// The innermost frames and how often each was seen, the most frequent first.
    pub(super) fn functions(&self) -> Vec<(&str, u64)> {
        let mut counts = BTreeMap::<&str, u64>::new();
        for (frames, count) in &self.counts {
            if let Some(frame) = frames.last() {
                *counts.entry(frame).or_default() += count;
            }
        }
        let mut functions: Vec<_> = counts.into_iter().collect();
        functions.sort_by_key(|&(name, count)| (std::cmp::Reverse(count), name));
        functions
    }
}

/// The function's name in a line `  address name`; `None` for an empty line.
fn frame(line: &str) -> Option<String> {
    let (address, name) = match line.trim().split_once(' ') {
        Some((address, name)) => (address, name.trim()),
        None => (line.trim(), ""),
    };
    if address.is_empty() {
        return None;
    }
    Some(match name {
        "" | UNKNOWN => UNKNOWN.to_owned(),
        name => readable(name),
    })
}

/// A function's name as Rust writes it, without hashes.
pub(super) fn readable(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// A text in which every mangled name is readable.
pub(super) fn readable_text(text: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.' || c == '$';
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if rest.starts_with("_R") || rest.starts_with("_ZN") {
            out += &readable(&rest[..word]);
        } else {
            out += &rest[..word];
        }
        let gap = rest[word..].find(is_word).unwrap_or(rest.len() - word);
        out += &rest[word..word + gap];
        rest = &rest[word + gap..];
    }
    out
}

/// The kernel inside the wrappers that bring it to an instruction set: `<pulp::..>::vectorize::imp::<.. kernel ..>`.
fn unwrapped(name: &str) -> &str {
    if !name.starts_with("<pulp::") {
        return name;
    }
    let Some(at) = name.find("nd_") else {
        return name;
    };
    let inner = name[at..].trim_start_matches("nd_simd::dispatch::Call<");
    let mut open = 0;
    for (at, c) in inner.char_indices() {
        match c {
            '<' | '(' | '[' => open += 1,
            ',' if open == 0 => return &inner[..at],
            '>' | ')' | ']' if open == 0 => return &inner[..at],
            '>' if inner[..at].ends_with('-') => {}
            '>' | ')' | ']' => open -= 1,
            _ => {}
        }
    }
    inner
}

/// A name that fits into `most` characters, without the wrappers of instruction sets: generic arguments are left out, the innermost first; then the end is cut.
pub(super) fn short(name: &str, most: usize) -> String {
    let name = unwrapped(name);
    let fits = |name: &String| name.chars().count() <= most;
    let mut candidates = [9, 4, 3, 2, 1]
        .into_iter()
        .map(|depth| without(name, depth));
    if let Some(found) = candidates.find(fits) {
        return found;
    }
    let flat = without(name, 1);
    let cut: String = flat.chars().take(most.saturating_sub(1)).collect();
    cut + "…"
}

/// The name without what stands inside more than `depth` pairs of angle brackets.
fn without(name: &str, depth: usize) -> String {
    let (mut out, mut open, mut before) = (String::new(), 0usize, ' ');
    for c in name.chars() {
        let is_arrow = c == '>' && before == '-';
        before = c;
        if c == '>' && !is_arrow {
            open = open.saturating_sub(1);
        }
        if open <= depth {
            out.push(c);
        }
        if c == '<' {
            open += 1;
        }
    }
    out.replace("<>", "<..>")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "\t  55d1 inner\n\t  44c0 outer::f\n\n\n\t 55d1 inner\n\t 44c0 outer::f\n\n\t 77 [unknown]\n";

    #[test]
    fn equal_stacks_are_one() {
        let stacks = Stacks::of_perf_script(SCRIPT);
        assert_eq!(stacks.total(), 3);
        assert_eq!(stacks.folded(), "[unknown] 1\nouter::f;inner 2\n");
        assert_eq!(stacks.functions(), [("inner", 2), ("[unknown]", 1)]);
        assert_eq!(Stacks::of_perf_script("").total(), 0);
        let (rest, left_out) = stacks.without(&["outer"]);
        assert_eq!((rest.total(), left_out), (1, 2));
    }

    #[test]
    fn names_are_readable() {
        assert_eq!(readable("_RNvCs1234_7mycrate3foo"), "mycrate::foo");
        assert_eq!(
            readable_text("12% _RNvCs1234_7mycrate3foo (x)"),
            "12% mycrate::foo (x)"
        );
        assert_eq!(readable_text("a  b\n"), "a  b\n");
    }

    #[test]
    fn long_names_are_cut_where_it_hurts_least() {
        let name = "a::f::<b::G<c::H<k::L>>, d::I<e::J>>";
        assert_eq!(short(name, 40), name);
        assert_eq!(short(name, 34), "a::f::<b::G<c::H<..>>, d::I<e::J>>");
        assert_eq!(short(name, 30), "a::f::<b::G<..>, d::I<..>>");
        assert_eq!(short(name, 12), "a::f::<b::G…");
        assert_eq!(short("f::<fn(x) -> y>::g", 18), "f::<fn(x) -> y>::g");
        let wrapped = "<pulp::x86::v4::V4>::vectorize::imp::<nd_simd::dispatch::Call<nd_simd::optim::Pass<f32>, pulp::x86::v4::V4>>";
        assert_eq!(short(wrapped, 100), "nd_simd::optim::Pass<f32>");
        let twice = "<pulp::V4>::vectorize::imp::<<pulp::V4 as pulp::Simd>::vectorize::Impl<nd_simd::Micro<pulp::V4, 3>>>";
        assert_eq!(short(twice, 100), "nd_simd::Micro<pulp::V4, 3>");
        assert_eq!(short("<pulp::V4>::f", 100), "<pulp::V4>::f");
    }
}
