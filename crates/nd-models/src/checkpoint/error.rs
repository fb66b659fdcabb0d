//! What can be wrong with a checkpoint file, and how it is said.
//!
//! The outer error knows the file; a [`Fault`] knows the place in it: a byte offset or the name of a tensor.

use std::io;
use std::path::{Path, PathBuf};

/// Why a checkpoint could not be written or read.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refused something.
    #[error("{}: {action} failed: {source}; {advice}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What to do about it.
        advice: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The path leads to something that cannot be a checkpoint.
    #[error("{}: expected a regular file, found {found}; give the path of a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The file to be replaced is protected.
    #[error("{}: the file is read-only; allow writing to it or save under another name", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The contents are damaged, or do not fit the network.
    #[error("{}: {fault}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        fault: Fault,
    },
}

nd_core::debug_as_display!(CheckpointError, Fault);

impl CheckpointError {
    pub(super) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        let advice = match source.kind() {
            io::ErrorKind::NotFound => "check the path; its folder must exist",
            io::ErrorKind::PermissionDenied => "check the permissions of the file and its folder",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free some space; the file from before is as it was"
            }
            io::ErrorKind::ReadOnlyFilesystem => "save to another file system",
            io::ErrorKind::InvalidFilename => "choose another, shorter name",
            io::ErrorKind::OutOfMemory => "the file does not fit into memory",
            _ => "check the disk and try again",
        };
        Self::Io {
            path: path.to_owned(),
            action,
            advice,
            source,
        }
    }

    pub(super) fn content(path: &Path, fault: Fault) -> Self {
        Self::Content {
            path: path.to_owned(),
            fault,
        }
    }

    /// What is wrong with the contents, if that is the trouble.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Content { fault, .. } => Some(fault),
            _ => None,
        }
    }
}

/// What is wrong with the contents of a checkpoint, and where.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Not even the length of the header is there.
    #[error(
        "expected at least 8 bytes, found {found}: the file is empty or cut short; use another checkpoint"
    )]
    TooShort {
        /// Bytes in the file.
        found: usize,
    },
    /// The header is said to be longer than the file, or than any header.
    #[error(
        "byte 0: the header should be {found} bytes long, but at most {most} can be: the file is cut short or no checkpoint"
    )]
    HeaderLength {
        /// What bytes 0 to 7 say.
        found: u64,
        /// What the file, or the format, has room for.
        most: u64,
    },
    /// The header does not begin as JSON objects do.
    #[error("byte 8: expected '{{', the start of the header, found {found}: this is no checkpoint")]
    HeaderStart {
        /// The byte there, or that there is none.
        found: String,
    },
    /// The header is not the JSON that it should be.
    #[error(
        "byte {at}: the header is malformed: {reason}; the file is damaged or no checkpoint, use another"
    )]
    Header {
        /// The byte offset in the file.
        at: usize,
        /// What is wrong.
        reason: String,
    },
    /// A file in the same format about something else.
    #[error(
        "the metadata has no key \"{key}\": the file is in the safetensors format, but no checkpoint of this library",
        key = super::metadata::VERSION
    )]
    Foreign,
    /// Written by another version of the library.
    #[error(
        "format version {found}, but this library reads version {expected}: use the version of the library that wrote it"
    )]
    Version {
        /// What the file says.
        found: String,
        /// What can be read.
        expected: &'static str,
    },
    /// A metadata entry is missing, unknown or wrong.
    #[error("metadata \"{key}\": expected {expected}, found {found}")]
    Metadata {
        /// Its key.
        key: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The tensors take more or fewer bytes than they should.
    #[error(
        "byte {at}: expected {expected} bytes of tensors, found {found}: the file is cut short or something follows it"
    )]
    DataLength {
        /// Where the tensors begin.
        at: usize,
        /// What the metadata or the last tensor says.
        expected: u64,
        /// What is there.
        found: usize,
    },
    /// A tensor lies where it cannot.
    #[error("tensor \"{tensor}\": expected its bytes at {expected}, found {found}")]
    Offsets {
        /// Its name.
        tensor: String,
        /// Where it must lie.
        expected: String,
        /// Where the header says it lies.
        found: String,
    },
    /// A tensor's type is not one that can stand there.
    #[error("tensor \"{tensor}\": expected numbers of type {expected}, found {found}")]
    Dtype {
        /// Its name.
        tensor: String,
        /// The types that can.
        expected: &'static str,
        /// Its type.
        found: String,
    },
    /// A tensor's shape is not that of the parameter, or not possible.
    #[error("tensor \"{tensor}\": expected {expected}, found shape {found}")]
    Shape {
        /// Its name.
        tensor: String,
        /// What fits.
        expected: String,
        /// Its shape.
        found: String,
    },
    /// A tensor is not there.
    #[error(
        "tensor \"{tensor}\": expected {expected}, found {found}; was the file saved from another configuration?"
    )]
    Missing {
        /// Its name.
        tensor: String,
        /// Its shape.
        expected: String,
        /// That it is missing, and what is there in its place.
        found: String,
    },
    /// A tensor is there that belongs to nothing.
    #[error(
        "tensor \"{tensor}\": expected nothing of this name, found {found}; was the file saved from another configuration?"
    )]
    Unexpected {
        /// Its name.
        tensor: String,
        /// Its shape and why nothing claims it.
        found: String,
    },
    /// A number has no place in the type asked for.
    #[error(
        "tensor \"{tensor}\", element {element}: expected a number within the range of f32, found {found}; load it as f64"
    )]
    Range {
        /// Its name.
        tensor: String,
        /// The element, row-major.
        element: usize,
        /// The number.
        found: String,
    },
    /// A number has no place in the format that was asked for.
    #[error(
        "tensor \"{tensor}\", element {element}: expected a number within the range of f16, up to 65504, found {found}; save it in bf16 or f32"
    )]
    TooLarge {
        /// Its name.
        tensor: String,
        /// The element, row-major.
        element: usize,
        /// The number.
        found: String,
    },
    /// The contents are not what was written.
    #[error(
        "expected the checksum {expected:016x}, found {found:016x}: the file is damaged, use another checkpoint"
    )]
    Checksum {
        /// What the metadata says.
        expected: u64,
        /// What the contents give.
        found: u64,
    },
}

/// Names from a file, short enough for a message.
pub(super) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(excerpt("short"), "short");
        let long = "ü".repeat(100);
        assert_eq!(excerpt(&long), format!("{}...", "ü".repeat(80)));
    }

    #[test]
    fn advice_depends_on_the_trouble() {
        let error = |kind: io::ErrorKind| {
            CheckpointError::io(Path::new("a/b"), "creating a file", kind.into()).to_string()
        };
        assert!(error(io::ErrorKind::NotFound).contains("folder must exist"));
        assert!(error(io::ErrorKind::StorageFull).contains("free some space"));
        assert!(error(io::ErrorKind::Other).starts_with("a/b: creating a file failed"));
    }
}
