//! Atomic files: written beside their place, synced, renamed over it, and the folder synced. A
//! reader, also one after a crash or on a full disk, sees the old file or the new one.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::{FileError, at};

/// Writes `bytes` to `path`; parent folders are made.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_with(path, |out| out.write_all(bytes))
}

/// As [`write`], with the content produced piece by piece, for files too large to hold twice.
pub fn write_with(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), FileError> {
    let folder = parent(path);
    fs::create_dir_all(folder).map_err(at("create the folder", folder))?;
    let beside = temporary(path);
    let done = fill_and_sync(&beside, fill).map_err(at("write", path));
    if let Err(error) = done {
        // The partial file is ours alone; if it cannot be removed, it is only a leftover.
        fs::remove_file(&beside).ok();
        return Err(error);
    }
    fs::rename(&beside, path).map_err(at("put in place", path))?;
    sync_folder(folder)
}

/// Writes `value` as indented JSON with a final line break.
pub fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(std::io::Error::other)
        .map_err(at("encode as JSON for", path))?;
    text.push(b'\n');
    write(path, &text)
}

/// The whole file, refused above `limit` bytes: by its size before memory is taken, and by what it
/// really gives (a device or a pipe has no size, and a file may grow).
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(at("open", path))?;
    let size = file.metadata().map_err(at("read", path))?.len();
    if size > limit {
        let why = format!("it has {size} bytes, at most {limit} are read");
        return Err(at("read", path)(std::io::Error::other(why)));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    let mut bounded = file.take(limit.saturating_add(1));
    bounded.read_to_end(&mut bytes).map_err(at("read", path))?;
    if bytes.len() as u64 > limit {
        let why = format!("it gives more than the {limit} bytes that are read at most");
        return Err(at("read", path)(std::io::Error::other(why)));
    }
    Ok(bytes)
}

pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parent(path).join(format!(".{name}.{}.part", std::process::id()))
}

fn fill_and_sync(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::with_capacity(1 << 20, File::create(path)?);
    fill(&mut out)?;
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
}

pub(crate) fn sync_folder(folder: &Path) -> Result<(), FileError> {
    let opened = File::open(folder).map_err(at("open the folder", folder))?;
    match opened.sync_all() {
        // Some network file systems cannot sync a folder; the rename itself is still atomic.
        Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
        other => other.map_err(at("sync the folder", folder)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/file.txt");
        write(&path, b"old").unwrap();
        let failed = write_with(&path, |out| {
            out.write_all(b"half")?;
            Err(std::io::Error::other("no more"))
        });
        assert!(failed.unwrap_err().to_string().contains("file.txt: no more"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_above_the_limit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert!(read(&path, 4).unwrap_err().to_string().contains("has 5 bytes"));
    }

    #[test]
    fn a_device_without_end_is_refused() {
        let endless = Path::new("/dev/zero");
        if endless.exists() {
            assert!(
                read(endless, 1 << 16).unwrap_err().to_string().contains("more than the 65536")
            );
        }
    }

    #[test]
    fn fault_5_a_full_disk_is_recognised() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            return;
        }
        let error = File::options().write(true).open(full).unwrap().write_all(b"x").unwrap_err();
        assert!(at("write", full)(error).is_full());
    }
}
