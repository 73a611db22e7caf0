//! The run folder: plain files, complete and movable.
//!
//! ```text
//! runs/<study>/
//!   study.toml          the study file as it was when the run began
//!   protocol.json       hashes of everything the numbers depend on; a start that differs is refused
//!   environment.json    code revision and machine, one entry a start
//!   lock                who is at work here
//!   units/<unit>/       one a checkpoint: data.jsonl, metrics.jsonl, training.json, checkpoint, acts, measures
//!   transcripts/        pages of the sampled acts
//!   results.json, report.md, report.html
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use forwhy_store::{atomic, lock};
use serde::de::DeserializeOwned;

use forwhy_engine::kernels::{Kernels, VARIABLE};

use crate::environment::Environment;

/// Largest small file that is read (JSON records; not segments or weights).
const SMALL: u64 = 256 << 20;

/// An open, locked run folder.
pub struct RunFolder {
    root: PathBuf,
    _lock: lock::Lock,
    /// A dead process whose lock was taken over.
    pub taken_over_from: Option<lock::Holder>,
}

/// A run folder that belongs to another study or to other inputs: nothing in it was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

/// The protocol's name for what computes the products: f32, or one of the kinds of bf16.
pub(crate) const KERNELS: &str = "kernels";

/// Everything that the numbers depend on: its hash, or what it is, by name.
pub type Protocol = BTreeMap<String, String>;

impl RunFolder {
    /// Locks `root`. A new folder is filled with the study file and the protocol; an old one must
    /// agree with both, or the start is refused with the difference.
    pub fn open(
        root: &Path,
        study_text: &str,
        protocol: &Protocol,
        environment: &Environment,
    ) -> Result<Self> {
        let folder = RunFolder::lock(root)?;
        folder.agree_on_study(study_text)?;
        folder.begin(protocol, environment)?;
        Ok(folder)
    }

    /// The folder of a run that has no study file: it must agree with `protocol` alone.
    pub fn without_study(
        root: &Path,
        protocol: &Protocol,
        environment: &Environment,
    ) -> Result<Self> {
        let folder = RunFolder::lock(root)?;
        folder.begin(protocol, environment)?;
        Ok(folder)
    }

    fn lock(root: &Path) -> Result<Self> {
        let mut lock = lock::acquire(root)?;
        let taken_over_from = lock.taken_over_from.take();
        Ok(RunFolder { root: root.into(), _lock: lock, taken_over_from })
    }

    fn begin(&self, protocol: &Protocol, environment: &Environment) -> Result<()> {
        self.agree_on_protocol(protocol)?;
        let mut starts: Vec<Environment> = self.read_json("environment.json")?.unwrap_or_default();
        if starts.last() != Some(environment) {
            starts.push(environment.clone());
            atomic::write_json(&self.path("environment.json"), &starts)?;
        }
        Ok(())
    }

    /// A path inside the folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Reads a JSON record; None if it is not there yet.
    pub fn read_json<T: DeserializeOwned>(&self, relative: &str) -> Result<Option<T>> {
        let path = self.path(relative);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = atomic::read(&path, SMALL)?;
        let value = serde_json::from_slice(&bytes);
        value.with_context(|| {
            format!("{} is damaged; remove it, and its step is done again", path.display())
        })
    }

    fn agree_on_study(&self, text: &str) -> Result<()> {
        let path = self.path("study.toml");
        if !path.exists() {
            return Ok(atomic::write(&path, text.as_bytes())?);
        }
        let old = atomic::read(&path, SMALL)?;
        let old = String::from_utf8_lossy(&old);
        if old == text {
            return Ok(());
        }
        Err(Refused(format!(
            "the study file has changed since {root} was made:\n{difference}\
             Results of two studies are never mixed: give the study another name, \
             or another folder with --folder.",
            root = self.root.display(),
            difference = difference(&old, text),
        ))
        .into())
    }

    fn agree_on_protocol(&self, protocol: &Protocol) -> Result<()> {
        let Some(mut old) = self.read_json::<Protocol>("protocol.json")? else {
            return Ok(atomic::write_json(&self.path("protocol.json"), protocol)?);
        };
        // folders from before there was a choice
        if protocol.contains_key(KERNELS) {
            old.entry(KERNELS.into()).or_insert_with(|| Kernels::F32.name().into());
        }
        let names: std::collections::BTreeSet<&String> =
            old.keys().chain(protocol.keys()).collect();
        let lines: String = names
            .into_iter()
            .filter(|name| old.get(*name) != protocol.get(*name))
            .map(|name| {
                let show = |side: &Protocol| side.get(name).cloned().unwrap_or("absent".into());
                format!("  {name}: was {}, is {}\n", show(&old), show(protocol))
            })
            .collect();
        if lines.is_empty() {
            return Ok(());
        }
        Err(Refused(format!(
            "what the numbers depend on has changed since {root} was made:\n{lines}\
             Numbers of two protocols are never mixed: use another folder with --folder, \
             or {what}.",
            root = self.root.display(),
            what = match old.get(KERNELS) == protocol.get(KERNELS) {
                true => "put the old files back".to_string(),
                false => format!("go on with the old ones ({VARIABLE} chooses the kernels)"),
            },
        ))
        .into())
    }
}

/// Lines that stand in one text only, in order, with their numbers.
fn difference(old: &str, new: &str) -> String {
    let only = |text: &str, other: &str, sign: char| -> Vec<String> {
        let there: Vec<&str> = other.lines().collect();
        let lines = text.lines().enumerate().filter(|(_, l)| !there.contains(l));
        lines.map(|(i, l)| format!("  {sign} {:>3}: {l}\n", i + 1)).collect()
    };
    let lines = [only(old, new, '-'), only(new, old, '+')].concat();
    if lines.is_empty() { "  the same lines in another order\n".into() } else { lines.concat() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::current;

    fn open(root: &Path, text: &str, hash: &str) -> Result<RunFolder> {
        let protocol = Protocol::from([("model".to_string(), hash.to_string())]);
        RunFolder::open(root, text, &protocol, &current(1))
    }

    #[test]
    fn fault_7_a_changed_study_is_refused_with_the_difference() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), "a = 1\nb = 2\n", "x").unwrap());
        drop(open(dir.path(), "a = 1\nb = 2\n", "x").unwrap());
        let e = open(dir.path(), "a = 1\nb = 3\n", "x").err().unwrap().to_string();
        assert!(e.contains("  -   2: b = 2\n  +   2: b = 3\n"), "{e}");
    }

    #[test]
    fn fault_7_a_changed_model_is_refused_with_both_hashes() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), "a", "x").unwrap());
        let e = open(dir.path(), "a", "y").err().unwrap().to_string();
        assert!(e.contains("model: was x, is y"), "{e}");
    }

    #[test]
    fn a_folder_goes_on_with_its_own_kernels_only_and_one_without_any_with_f32() {
        let dir = tempfile::tempdir().unwrap();
        let open = |kernels: &[&str]| {
            let entries = kernels.iter().map(|k| (KERNELS.to_string(), k.to_string()));
            RunFolder::without_study(dir.path(), &entries.collect(), &current(1)).map(|_| ())
        };
        open(&[]).unwrap();
        open(&["f32"]).unwrap();
        let refused = open(&["amx"]).unwrap_err().to_string();
        assert!(refused.contains("kernels: was f32, is amx"), "{refused}");
        assert!(refused.contains("FORWHY_KERNELS chooses"), "{refused}");
    }

    #[test]
    fn fault_6_two_processes_on_one_folder() {
        let dir = tempfile::tempdir().unwrap();
        let held = open(dir.path(), "a", "x").unwrap();
        let e = open(dir.path(), "a", "x").err().unwrap().to_string();
        assert!(e.contains(&format!("process {}", std::process::id())), "{e}");
        drop(held);
    }
}
