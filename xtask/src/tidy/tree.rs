//! The tracked files of the workspace, read once.

use std::process::Command;

use super::source;
use crate::run::{output, root};

/// A file as rules see it.
#[derive(Debug)]
pub(super) struct File {
    /// From the workspace root, with `/` between folders.
    pub(super) path: String,
    pub(super) bytes: u64,
    /// `None` for what is not text.
    pub(super) text: Option<String>,
    /// Rust without comments and the contents of strings, line for line; `None` for other files.
    pub(super) code: Option<String>,
}

impl File {
    pub(super) fn new(path: &str, bytes: &[u8]) -> Self {
        let text = (!bytes.contains(&0))
            .then(|| std::str::from_utf8(bytes).ok().map(str::to_owned))
            .flatten();
        let code = match &text {
            Some(text) if path.ends_with(".rs") => Some(source::code_of(text)),
            _ => None,
        };
        Self {
            path: path.to_owned(),
            bytes: bytes.len() as u64,
            text,
            code,
        }
    }

    /// Lines with their numbers, from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(self.text.as_deref().unwrap_or_default())
    }

    /// Lines of code with their numbers, from 1.
    pub(super) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(self.code.as_deref().unwrap_or_default())
    }

    pub(super) fn has_extension(&self, extensions: &[&str]) -> bool {
        self.path
            .rsplit_once('.')
            .is_some_and(|(_, found)| extensions.contains(&found))
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split('\n').enumerate().map(|(i, line)| (i + 1, line))
}

/// Every file that is tracked, or new and not ignored.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) files: Vec<File>,
}

impl Tree {
    pub(super) fn of_workspace() -> Result<Self, String> {
        let list = output(Command::new("git").current_dir(root()).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))
        .map_err(|error| format!("tidy asks git for the list of files: {error}"))?;
        let mut files = Vec::new();
        for path in list.split('\0').filter(|path| !path.is_empty()) {
            // A file that is tracked but deleted has nothing to check.
            match std::fs::read(root().join(path)) {
                Ok(bytes) => files.push(File::new(path, &bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("{path} cannot be read: {error}")),
            }
        }
        Ok(Self { files })
    }

    pub(super) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.code.is_some())
    }

    pub(super) fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether a file or a folder has this path.
    pub(super) fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files
            .iter()
            .any(|file| file.path == path || file.path.starts_with(&folder))
    }
}

#[cfg(test)]
impl Tree {
    /// A tree of texts, for tests of rules.
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        Self {
            files: files
                .iter()
                .map(|(path, text)| File::new(path, text.as_bytes()))
                .collect(),
        }
    }
}
