//! Rust without its comments and the contents of its strings.
//!
//! A scanner of one pass: it knows line and nested block comments, strings, raw strings, and tells a character from a
//! lifetime. Everything masked becomes a space, every line break stays, so line numbers agree with the file's.

/// The code of a file, line for line.
pub(super) fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_comment(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment(&chars, at),
            '"' => string(&chars, at),
            'r' if !after_word(&chars, at) => raw_string(&chars, at).unwrap_or(at),
            '\'' => character(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(
                chars[at..end]
                    .iter()
                    .map(|&c| if c == '\n' { '\n' } else { ' ' }),
            );
            at = end;
        }
    }
    out
}

/// Whether the character before belongs to a name; a `b` of a byte string is none.
fn after_word(chars: &[char], at: usize) -> bool {
    let word = |i: usize| chars[i].is_alphanumeric() || chars[i] == '_';
    match at {
        0 => false,
        1 => word(0) && chars[0] != 'b',
        _ => word(at - 1) && (chars[at - 1] != 'b' || word(at - 2)),
    }
}

fn line_comment(chars: &[char], at: usize) -> usize {
    let len = chars[at..].iter().position(|&c| c == '\n');
    len.map_or(chars.len(), |len| at + len)
}

fn block_comment(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut i = at;
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                i += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    chars.len()
}

fn string(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let mut i = open + 1;
    while i < chars.len() {
        let closed =
            chars[i] == '"' && chars[i + 1..].iter().take_while(|&&c| c == '#').count() >= hashes;
        if closed {
            return Some(i + 1 + hashes);
        }
        i += 1;
    }
    Some(chars.len())
}

/// The end of a character literal; `None` when the quote begins a lifetime.
fn character(chars: &[char], at: usize) -> Option<usize> {
    match chars.get(at + 1)? {
        '\\' => {
            let close = chars[at + 2..].iter().skip(1).position(|&c| c == '\'')?;
            Some(at + 2 + 1 + close + 1)
        }
        _ => (chars.get(at + 2) == Some(&'\'')).then_some(at + 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_masked() {
        let text = "a // b\nc /* d /* e */ f */ g\n\"h \\\" i\" j r#\"k \" l\"# m";
        let code = code_of(text);
        let words: String = code.split_whitespace().collect();
        assert_eq!(words, "acgjm");
        assert_eq!(code.lines().count(), text.lines().count());
        assert_eq!(code.chars().count(), text.chars().count());
    }

    #[test]
    fn characters_are_told_from_lifetimes() {
        let code = code_of("f<'a>('\"', '\\'', 'x', b'\\n', br\"no\") 'b: loop {}");
        assert!(code.contains("<'a>") && code.contains("'b: loop"), "{code}");
        assert!(
            !code.contains("no") && !code.contains('"') && !code.contains('x'),
            "{code}"
        );
    }

    #[test]
    fn names_that_end_in_r_do_not_open_a_raw_string() {
        assert_eq!(code_of("for x in bar(\"y\")"), "for x in bar(   )");
        assert_eq!(code_of("r#type = 1"), "r#type = 1");
    }

    #[test]
    fn what_never_ends_is_masked_to_the_end() {
        assert_eq!(code_of("a \"b\nc").trim_end(), "a");
        assert_eq!(code_of("a /* b\nc").trim_end(), "a");
        assert_eq!(code_of("a r#\"b\nc").trim_end(), "a");
        assert_eq!(code_of("'"), "'");
    }
}
