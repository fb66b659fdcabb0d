//! Rules for every text file: white space, paths of somebody's machine, size.

use super::Finding;
use super::tree::Tree;

/// Files whose form is not ours: cargo writes the lock file.
const GENERATED: &[&str] = &["Cargo.lock"];
/// What git should not carry, in bytes: 1 MiB.
const LARGEST: u64 = 1 << 20;
/// Folders at the root of somebody's machine.
const MACHINE_FOLDERS: &[&str] = &["work", "farm", "root", "tmp", "home", "Users"];

/// No tabs, no space at the end of a line, one line break at the end of a file.
pub(super) fn whitespace(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        let Some(text) = &file.text else { continue };
        if GENERATED.contains(&file.path.as_str()) || text.is_empty() {
            continue;
        }
        for (line, words) in file.lines() {
            if words.ends_with('\r') {
                findings.push(Finding::new(
                    &file.path,
                    line,
                    "the line ends in CR LF: store it with LF alone",
                ));
            } else if words.ends_with([' ', '\t']) {
                findings.push(Finding::new(
                    &file.path,
                    line,
                    "white space at the end of the line: remove it",
                ));
            }
            if words.contains('\t') && !file.has_extension(&["tsv"]) {
                findings.push(Finding::new(
                    &file.path,
                    line,
                    "a tab: write spaces, or the escape in a string",
                ));
            }
        }
        let last = text.split('\n').count();
        if !text.ends_with('\n') {
            findings.push(Finding::new(
                &file.path,
                last,
                "the last line has no line break: add one",
            ));
        } else if text.ends_with("\n\n") {
            findings.push(Finding::new(
                &file.path,
                last,
                "empty lines at the end of the file: remove them",
            ));
        }
    }
    findings
}

/// The project says nothing about the machine of whoever wrote it.
pub(super) fn machine_paths(tree: &Tree) -> Vec<Finding> {
    let needles: Vec<String> = MACHINE_FOLDERS
        .iter()
        .map(|folder| format!("/{folder}/"))
        .collect();
    let mut findings = Vec::new();
    for file in &tree.files {
        if GENERATED.contains(&file.path.as_str()) {
            continue;
        }
        for (line, words) in file.lines() {
            if let Some(found) = needles
                .iter()
                .find(|needle| words.contains(needle.as_str()))
            {
                findings.push(Finding::new(
                    &file.path,
                    line,
                    format!(
                        "{found} is a path of one machine: write paths relative to the workspace"
                    ),
                ));
            }
        }
    }
    findings
}

/// Large files do not belong in the history.
pub(super) fn size(tree: &Tree) -> Vec<Finding> {
    tree.files
        .iter()
        .filter(|file| file.bytes > LARGEST)
        .map(|file| {
            let message = format!(
                "{} KiB, more than 1024: keep large data outside the repository",
                file.bytes >> 10
            );
            Finding::new(&file.path, 0, message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_found_where_it_is() {
        let bad = Tree::of(&[
            ("a.md", "one \ntwo\n"),
            ("b.rs", "\tx\n"),
            ("c.toml", "x"),
            ("d.txt", "x\r\n"),
            ("e.md", "x\n\n"),
        ]);
        let found: Vec<_> = whitespace(&bad)
            .into_iter()
            .map(|f| (f.path, f.line))
            .collect();
        let wanted = [
            ("a.md", 1),
            ("b.rs", 1),
            ("c.toml", 1),
            ("d.txt", 1),
            ("e.md", 3),
        ];
        assert_eq!(found, wanted.map(|(path, line)| (path.to_owned(), line)));
        let good = Tree::of(&[
            ("a.md", "one\n  two\n"),
            ("Cargo.lock", "x \n"),
            ("d.tsv", "a\tb\n"),
            ("empty.rs", ""),
        ]);
        assert_eq!(whitespace(&good), []);
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        let path = ["", "root", "data.csv"].join("/");
        let bad = Tree::of(&[("a.md", &format!("see\n{path}\n"))]);
        let found = machine_paths(&bad);
        assert_eq!((found.len(), found[0].line), (1, 2));
        let good = Tree::of(&[("a.md", "see ../shared/data and crates/root.rs\n")]);
        assert_eq!(machine_paths(&good), []);
    }

    #[test]
    fn large_files_are_found() {
        let bytes = vec![b'x'; (1 << 20) + 1];
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(size(&Tree::of(&[("a.bin", &text)])).len(), 1);
        assert_eq!(size(&Tree::of(&[("a.bin", &text[1..])])), []);
    }
}
