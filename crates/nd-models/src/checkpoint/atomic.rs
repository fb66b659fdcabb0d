//! Replacing a file so that at every moment either the old or the new one is there, whole.
//!
//! In its simple form: write a temporary file in the same folder, flush it to the disk, rename it over the target,
//! flush the folder. A rename within a folder is atomic, so whoever opens the target sees one of the two files, and
//! after a crash of the program or the machine one of the two is there.
//!
//! Temporary files are called `.<file>.<process>-<n>.tmp`. A writer that was killed leaves its own behind, and the
//! next one removes it. Which of them are dead? A process number says little: numbers are used again, and another
//! container that shares the folder has numbers of its own. So a writer holds the file's lock while it writes; the
//! operating system drops the lock when the process ends, however that happens. A temporary file whose lock is free
//! has no writer. The last gap, between creating a file and locking it, closes because a writer looks after locking
//! whether its file is still there and otherwise takes another name.
//! Known weakness: on a file system without locks the age decides, and on one that reorders a rename before the data
//! it was told to flush nothing helps.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::error::CheckpointError;

/// Where locks cannot tell, a temporary file that nobody wrote to for so long is taken for abandoned.
const ABANDONED: Duration = Duration::from_secs(15 * 60);
/// Names that are tried for a temporary file; more than one is needed only when a process number comes round again.
const NAMES: usize = 1000;
/// Bytes gathered before they are handed to the system.
const WRITE_BUFFER: usize = 1 << 16;

/// Replaces `path` by what `write` writes.
///
/// A symbolic link stays, the file it leads to is replaced. The new file has the permissions of the old one, or
/// those that the process gives to new files.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), CheckpointError> {
    let (target, old) = resolve(path)?;
    let Some(name) = target.file_name() else {
        return Err(CheckpointError::NotAFile {
            path: path.to_owned(),
            found: "a path that does not end in a name",
        });
    };
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    remove_abandoned(folder, name);
    let temporary = Temporary::create(folder, name)
        .map_err(|e| CheckpointError::io(&target, "creating a temporary file beside it", e))?;
    if let Some(old) = old {
        temporary
            .take_permissions(&old)
            .map_err(|e| CheckpointError::io(&temporary.path, "setting the permissions", e))?;
    }
    let mut writer = BufWriter::with_capacity(WRITE_BUFFER, &temporary.file);
    write(&mut writer)
        .and_then(|()| writer.flush())
        .map_err(|e| CheckpointError::io(&temporary.path, "writing", e))?;
    drop(writer);
    (temporary.file.sync_all())
        .map_err(|e| CheckpointError::io(&temporary.path, "flushing to the disk", e))?;
    temporary
        .rename_to(&target)
        .map_err(|e| CheckpointError::io(&target, "renaming the temporary file to it", e))?;
    flush_folder(folder)
        .map_err(|e| CheckpointError::io(folder, "flushing the folder to the disk", e))
}

/// The file that is to be replaced, links followed, and its metadata if there is one.
fn resolve(path: &Path) -> Result<(PathBuf, Option<fs::Metadata>), CheckpointError> {
    let reading = |e| CheckpointError::io(path, "looking at it", e);
    let (target, found) = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((path.to_owned(), None)),
        Err(e) => return Err(reading(e)),
        Ok(found) if found.is_symlink() => {
            let target = fs::canonicalize(path)
                .map_err(|e| CheckpointError::io(path, "following the symbolic link", e))?;
            let found = fs::metadata(&target).map_err(reading)?;
            (target, found)
        }
        Ok(found) => (path.to_owned(), found),
    };
    require_file(path, &found)?;
    if found.permissions().readonly() {
        return Err(CheckpointError::ReadOnly {
            path: path.to_owned(),
        });
    }
    Ok((target, Some(found)))
}

/// Requires a regular file: neither a folder nor something that a write or a read would wait for.
pub(super) fn require_file(path: &Path, found: &fs::Metadata) -> Result<(), CheckpointError> {
    if found.is_file() {
        return Ok(());
    }
    Err(CheckpointError::NotAFile {
        path: path.to_owned(),
        found: if found.is_dir() {
            "a folder"
        } else {
            "a device, a pipe or a socket"
        },
    })
}

/// A temporary file; removed when dropped before the rename.
struct Temporary {
    path: PathBuf,
    /// Open and, where the file system can, locked until the rename is done.
    file: File,
    renamed: bool,
}

impl Temporary {
    fn create(folder: &Path, target: &OsStr) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        for _ in 0..NAMES {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let mut name = OsString::from(".");
            name.push(target);
            name.push(format!(".{}-{n}.tmp", std::process::id()));
            let path = folder.join(name);
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(e),
            };
            // Somebody else holds the lock only to remove what he takes for abandoned.
            if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) || !path.exists() {
                continue;
            }
            return Ok(Self {
                path,
                file,
                renamed: false,
            });
        }
        Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{NAMES} names for a temporary file are taken"),
        ))
    }

    fn take_permissions(&self, old: &fs::Metadata) -> io::Result<()> {
        if self.file.metadata()?.permissions() == old.permissions() {
            return Ok(());
        }
        self.file.set_permissions(old.permissions())
    }

    fn rename_to(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // Nothing can be done if this fails, and the next save tries again.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the temporary files of `target` that have no writer any more.
///
/// What cannot be read or removed is left: that is no reason not to save.
fn remove_abandoned(folder: &Path, target: &OsStr) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_file || !is_temporary(&entry.file_name(), target) {
            continue;
        }
        let path = entry.path();
        let Ok(file) = OpenOptions::new().write(true).open(&path) else {
            continue;
        };
        let abandoned = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(_)) => is_old(&file),
        };
        if abandoned {
            // Under the lock, so that no writer can have taken the file up.
            let _ = fs::remove_file(&path);
        }
    }
}

/// Whether `name` is `.<target>.<digits>-<digits>.tmp`.
fn is_temporary(name: &OsStr, target: &OsStr) -> bool {
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let name = name.as_encoded_bytes();
    let middle = (name.strip_prefix(b"."))
        .and_then(|rest| rest.strip_prefix(target.as_encoded_bytes()))
        .and_then(|rest| rest.strip_prefix(b"."))
        .and_then(|rest| rest.strip_suffix(b".tmp"));
    let mut parts = middle.unwrap_or_default().split(|&byte| byte == b'-');
    let (process, n, further) = (parts.next(), parts.next(), parts.next());
    process.is_some_and(digits) && n.is_some_and(digits) && further.is_none()
}

fn is_old(file: &File) -> bool {
    let written = file.metadata().and_then(|found| found.modified());
    written.is_ok_and(|written| {
        (SystemTime::now().duration_since(written)).is_ok_and(|age| age > ABANDONED)
    })
}

/// Makes the rename survive a power failure.
#[cfg(unix)]
fn flush_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some network file systems have nothing to flush for a folder.
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Folders cannot be opened as files here; the file system's journal orders the rename.
#[cfg(not(unix))]
fn flush_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_pattern_are_temporary() {
        let of = |name: &str, target: &str| is_temporary(OsStr::new(name), OsStr::new(target));
        assert!(of(".a.nd.12-0.tmp", "a.nd"));
        assert!(of(".a.1-2.33-4.tmp", "a.1-2"));
        for name in [
            "a.nd.12-0.tmp",
            ".a.nd.12-0",
            ".a.nd.12.tmp",
            ".a.nd.-0.tmp",
            ".a.nd.12-.tmp",
            ".a.nd.12-0-1.tmp",
            ".a.nd.x-0.tmp",
            ".a.nd.12-0.tmp2",
            ".b.nd.12-0.tmp",
            ".a.nd..12-0.tmp",
            ".a.nd.tmp",
            "",
        ] {
            assert!(!of(name, "a.nd"), "{name}");
        }
        assert!(!of(".a.1-2.33-4.tmp", "a"));
    }
}
