//! Files that survive: what every other crate uses to write.
//!
//! - [`atomic`]: a file is there whole or not at all;
//! - [`lock`]: one process at a time on a folder, and a refused one learns who holds it;
//! - [`segment`]: append-only records with a checksum each; a torn tail costs one record;
//! - [`log`]: segments for many records a second, synced in groups and read by place.

pub mod atomic;
pub mod lock;
pub mod log;
pub mod segment;

use std::path::{Path, PathBuf};

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}: {source}", path = path.display())]
pub struct FileError {
    /// What was tried, e.g. `write`.
    pub doing: &'static str,
    /// Where.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: std::io::Error,
}

impl FileError {
    /// Whether the disk (or quota) is full: nothing is lost, the run can go on after freeing space.
    pub fn is_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self.source.kind(), StorageFull | QuotaExceeded)
    }
}

/// Attaches what was tried and where to an I/O error.
pub(crate) fn at(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FileError {
    let path = path.to_path_buf();
    move |source| FileError { doing, path, source }
}

/// The entries of a folder, sorted by name.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = std::fs::read_dir(folder).map_err(at("list", folder))?;
    let paths = entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>();
    let mut paths = paths.map_err(at("list", folder))?;
    paths.sort();
    Ok(paths)
}
