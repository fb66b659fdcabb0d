//! Links between documents: the file is there, and so is the heading.

use super::Finding;
use super::tree::{File, Tree};

/// Every relative link of a Markdown file leads somewhere.
pub(super) fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| file.has_extension(&["md"])) {
        for (line, text) in prose(file) {
            for target in targets(&text) {
                if let Some(message) = broken(tree, file, target) {
                    findings.push(Finding::new(&file.path, line, message));
                }
            }
        }
    }
    findings
}

/// Lines outside code fences, with inline code masked.
fn prose(file: &File) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut out = Vec::new();
    for (line, text) in file.lines() {
        if text.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let mut masked = String::new();
            for (i, part) in text.split('`').enumerate() {
                if i % 2 == 0 {
                    masked += part;
                } else {
                    masked.extend(part.chars().map(|_| ' '));
                }
            }
            out.push((line, masked));
        }
    }
    out
}

/// What stands between `](` and `)`.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("](").filter_map(|(at, _)| {
        let rest = &text[at + 2..];
        rest.find(')').map(|end| rest[..end].trim())
    })
}

fn broken(tree: &Tree, from: &File, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, heading) = match target.split_once('#') {
        Some((path, heading)) => (path, Some(heading)),
        None => (target, None),
    };
    let path = if path.is_empty() {
        from.path.clone()
    } else {
        resolve(&from.path, path)
    };
    if !tree.has(&path) {
        return Some(format!(
            "the link leads to {path}, which does not exist: mend or remove it"
        ));
    }
    let heading = heading?;
    let found = tree.get(&path).is_some_and(|file| {
        file.lines()
            .filter(|(_, text)| text.starts_with('#'))
            .any(|(_, text)| slug(text.trim_start_matches('#')) == heading)
    });
    (!found).then(|| {
        format!("the link leads to the heading #{heading} of {path}, which does not exist")
    })
}

/// The path of `target` as seen from the folder of `from`.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A heading as it stands in links: lower case, dashes for spaces, no punctuation.
fn slug(heading: &str) -> String {
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_links_are_found() {
        let bad = Tree::of(&[
            (
                "docs/a.md",
                "[b](b.md)\n[c](../c.md#no-such)\n[d](#nowhere)\n",
            ),
            ("c.md", "# There is\n"),
        ]);
        let lines: Vec<_> = links(&bad)
            .into_iter()
            .map(|finding| finding.line)
            .collect();
        assert_eq!(lines, [1, 2, 3]);
    }

    #[test]
    fn good_links_code_and_addresses_pass() {
        let good = Tree::of(&[
            (
                "docs/a.md",
                "# One `two`, three\n[c](../c.md#there-is), [folder](../docs), [x](https://x.y/z), [s](#one-two-three)\n`[n](no.md)`\n```\n[n](no.md)\n```\n",
            ),
            ("c.md", "## There is\n"),
        ]);
        assert_eq!(links(&good), []);
    }
}
