//! One process at a time on a folder.
//!
//! The file `lock` in the folder is locked with `flock`, which the kernel releases when its holder
//! dies, and holds the holder's pid and host. A second process is refused with that name. If the
//! lock is free but names a process of *another host*, the kernel's word is not enough (some network
//! file systems keep locks per host), and the folder is refused until a person removes the file.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::{FileError, at};

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Name of the machine.
    pub host: String,
}

/// A folder that could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process is at work there.
    #[error(
        "{folder} is in use by process {pid} on {host}; wait for it or stop it, nothing was changed",
        folder = folder.display(), pid = holder.pid, host = holder.host
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// Who holds it.
        holder: Holder,
    },
    /// A process of another host held it last and did not release it.
    #[error(
        "{folder} was last used by process {pid} on {host}, which did not end cleanly, and from here \
         it cannot be seen whether it still runs; if it does not, remove {folder}/lock",
        folder = folder.display(), pid = holder.pid, host = holder.host
    )]
    OtherHost {
        /// The folder.
        folder: PathBuf,
        /// Who held it.
        holder: Holder,
    },
    /// The lock file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A held lock; released when dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// The dead holder whose lock was taken over, if there was one.
    pub taken_over_from: Option<Holder>,
}

/// Locks `folder` (made if absent) or says who holds it.
pub fn acquire(folder: &Path) -> Result<Lock, LockError> {
    std::fs::create_dir_all(folder).map_err(at("create the folder", folder))?;
    let path = folder.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(at("open", &path))?;
    let free = match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => true,
        Err(Errno::WOULDBLOCK) => false,
        Err(error) => return Err(at("lock", &path)(error.into()).into()),
    };
    let named = read_holder(&mut file).map_err(at("read", &path))?;
    let folder = folder.to_path_buf();
    if !free {
        let unknown = Holder { pid: 0, host: "an unknown host".into() };
        return Err(LockError::Held { folder, holder: named.unwrap_or(unknown) });
    }
    let me = Holder { pid: std::process::id(), host: host() };
    if let Some(holder) = named.clone().filter(|h| h.host != me.host) {
        return Err(LockError::OtherHost { folder, holder });
    }
    write_holder(&mut file, &me).map_err(at("write", &path))?;
    Ok(Lock { file, taken_over_from: named })
}

impl Drop for Lock {
    fn drop(&mut self) {
        // An empty lock file means: ended cleanly. If this fails, the next process takes over.
        self.file.set_len(0).ok();
    }
}

fn read_holder(file: &mut File) -> std::io::Result<Option<Holder>> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(4096).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text).ok())
}

fn write_holder(file: &mut File, holder: &Holder) -> std::io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(serde_json::to_string(holder)?.as_bytes())?;
    file.sync_all()
}

/// The name of this machine.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_6_the_second_is_refused_with_pid_and_host() {
        let dir = tempfile::tempdir().unwrap();
        let first = acquire(dir.path()).unwrap();
        let error = acquire(dir.path()).unwrap_err().to_string();
        let me = format!("in use by process {} on {}", std::process::id(), host());
        assert!(error.contains(&me), "{error}");
        drop(first);
        assert_eq!(acquire(dir.path()).unwrap().taken_over_from, None);
    }

    #[test]
    fn fault_6_the_lock_of_a_dead_process_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let dead = Holder { pid: 999_999, host: host() };
        let path = dir.path().join("lock");
        crate::atomic::write_json(&path, &dead).unwrap();
        assert_eq!(acquire(dir.path()).unwrap().taken_over_from, Some(dead));
    }

    #[test]
    fn fault_6_a_process_of_another_host_is_not_declared_dead() {
        let dir = tempfile::tempdir().unwrap();
        let other = Holder { pid: 1, host: "elsewhere".into() };
        crate::atomic::write_json(&dir.path().join("lock"), &other).unwrap();
        let error = acquire(dir.path()).unwrap_err();
        assert!(matches!(error, LockError::OtherHost { .. }), "{error}");
    }
}
