//! Checkpoints: what training changed, in one safetensors file, written whole or not at all.
//!
//! A checkpoint of an arm holds only its trained tensors (the top blocks, or the LoRA factors), so
//! it says on which base it stands: the base's hash, the scope, the step. With the optimiser's
//! moments in it ([`Checkpoint::of_run`]) a run resumes to the bit. Loading refuses another base,
//! another format, and contents that do not have the recorded hash.

use std::collections::BTreeMap;
use std::path::Path;

use forwhy_store::{FileError, atomic};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::llama::{NamedTensor, Scope};
use crate::safetensors::{self, Safetensors};
use crate::trainer::{TrainConfig, TrainState};
use crate::weights::WeightError;

/// Version of the file's layout.
const FORMAT: &str = "forwhy-checkpoint-2";
/// Key of the hash of everything else.
const CONTENT: &str = "content";
/// Names of the optimiser's tensors; everything else is a weight.
const FIRST: &str = "adam.first";
const SECOND: &str = "adam.second";

/// A state of training.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// BLAKE3 of the base model's files, hex.
    pub base: String,
    /// What was trained.
    pub scope: Scope,
    /// Optimiser steps done; also the position in the learning-rate schedule.
    pub step: u64,
    /// More to remember (data hash, arm, seed); compared by the caller.
    pub notes: BTreeMap<String, String>,
    /// The trained tensors, as `Llama::export_scope` gives them.
    pub weights: Vec<NamedTensor>,
    /// What the optimiser remembers; None if training is over.
    pub optimiser: Option<Optimiser>,
}

/// AdamW's settings and running means over all trained parameters, in the order of the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimiser {
    /// How the run trains.
    pub config: TrainConfig,
    /// Mean of the gradient.
    pub first: Vec<f32>,
    /// Mean of the squared gradient.
    pub second: Vec<f32>,
}

/// Why a checkpoint cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Writing failed; an older file is untouched.
    #[error(transparent)]
    Write(#[from] FileError),
    /// The file cannot be read as safetensors.
    #[error(transparent)]
    Read(#[from] WeightError),
    /// A sound safetensors file, but not a checkpoint of ours.
    #[error("{path} is not a checkpoint of this version: {why}")]
    NotACheckpoint {
        /// Which file.
        path: String,
        /// What is missing or wrong.
        why: String,
    },
    /// Trained on other base weights.
    #[error(
        "{path} was trained on base weights {found}, not on {expected}: open it with the model it \
         was trained on"
    )]
    OtherBase {
        /// Which file.
        path: String,
        /// The base it was trained on.
        found: String,
        /// The base it was to be used with.
        expected: String,
    },
    /// The contents are not what was written.
    #[error("{path} is damaged: its contents have another hash than the recorded one")]
    Damaged {
        /// Which file.
        path: String,
    },
}

impl Checkpoint {
    /// A checkpoint from which a run goes on: `weights` are the tensors of its scope, `state` is what
    /// its trainer saved at the same step.
    pub fn of_run(base: String, weights: Vec<NamedTensor>, state: TrainState) -> Self {
        let TrainState { config, step, params: _, m, v } = state;
        let scope = config.scope;
        let optimiser = Some(Optimiser { config, first: m, second: v });
        Checkpoint { base, scope, step, notes: BTreeMap::new(), weights, optimiser }
    }

    /// What the trainer restores; None if the checkpoint has no optimiser in it.
    pub fn train_state(&self) -> Option<TrainState> {
        let Optimiser { config, first, second } = self.optimiser.clone()?;
        let params = self.weights.iter().flat_map(|(_, _, values)| values).copied().collect();
        Some(TrainState { config, step: self.step, params, m: first, v: second })
    }

    /// Writes the checkpoint to `path`, atomically.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let metadata = self.metadata();
        let lengths = self.optimiser.as_ref().map(|o| ([o.first.len()], [o.second.len()]));
        let mut tensors: Vec<(&str, &[usize], &[f32])> =
            self.weights.iter().map(|(n, s, v)| (n.as_str(), s.as_slice(), v.as_slice())).collect();
        if let (Some(optimiser), Some((first, second))) = (&self.optimiser, &lengths) {
            tensors.push((FIRST, first, &optimiser.first));
            tensors.push((SECOND, second, &optimiser.second));
        }
        Ok(atomic::write_with(path, |out| safetensors::write(out, &metadata, &tensors))?)
    }

    /// Reads a checkpoint that was trained on the base weights with this hash.
    pub fn load(path: &Path, base: &str) -> Result<Self, CheckpointError> {
        let opened = Opened { file: Safetensors::open(path)?, path: path.display().to_string() };
        let format = opened.text("format")?;
        if format != FORMAT {
            return Err(opened.bad(format!("format {format:?}, expected {FORMAT:?}")));
        }
        let found = opened.text("base")?;
        if found != base {
            let (path, found, expected) = (opened.path.clone(), found.into(), base.into());
            return Err(CheckpointError::OtherBase { path, found, expected });
        }
        let notes = opened.file.metadata.iter();
        let notes = notes.filter_map(|(k, v)| Some((k.strip_prefix("note.")?.into(), v.clone())));
        let read = Checkpoint {
            base: base.into(),
            scope: opened.parsed("scope")?,
            step: opened.parsed("step")?,
            notes: notes.collect(),
            weights: opened.weights()?,
            optimiser: opened.optimiser()?,
        };
        if read.content_hash(&opened.file.metadata) != opened.text(CONTENT)? {
            return Err(CheckpointError::Damaged { path: opened.path });
        }
        Ok(read)
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        let mut pairs = BTreeMap::from([
            ("format".to_string(), FORMAT.to_string()),
            ("base".into(), self.base.clone()),
            ("scope".into(), json!(self.scope).to_string()),
            ("step".into(), self.step.to_string()),
        ]);
        if let Some(optimiser) = &self.optimiser {
            pairs.insert("config".into(), json!(optimiser.config).to_string());
        }
        pairs.extend(self.notes.iter().map(|(k, v)| (format!("note.{k}"), v.clone())));
        pairs.insert(CONTENT.into(), self.content_hash(&pairs));
        pairs
    }

    /// BLAKE3 over `metadata` (but for the hash itself), names, sizes and values; hex.
    fn content_hash(&self, metadata: &BTreeMap<String, String>) -> String {
        let mut hasher = blake3::Hasher::new();
        let said: Vec<_> = metadata.iter().filter(|(key, _)| *key != CONTENT).collect();
        hasher.update(&(said.len() as u64).to_le_bytes());
        for text in said.into_iter().flat_map(|(key, value)| [key, value]) {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        let mut add = |name: &str, shape: &[usize], values: &[f32]| {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(&(shape.len() as u64).to_le_bytes());
            for n in shape {
                hasher.update(&(*n as u64).to_le_bytes());
            }
            for part in values.chunks(1 << 14) {
                let bytes: Vec<u8> = part.iter().flat_map(|x| x.to_le_bytes()).collect();
                hasher.update(&bytes);
            }
        };
        self.weights.iter().for_each(|(name, shape, values)| add(name, shape, values));
        if let Some(Optimiser { first, second, .. }) = &self.optimiser {
            add(FIRST, &[first.len()], first);
            add(SECOND, &[second.len()], second);
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// A file being read.
struct Opened {
    file: Safetensors,
    path: String,
}

impl Opened {
    fn bad(&self, why: String) -> CheckpointError {
        CheckpointError::NotACheckpoint { path: self.path.clone(), why }
    }

    fn text(&self, key: &str) -> Result<&str, CheckpointError> {
        let value = self.file.metadata.get(key).map(String::as_str);
        value.ok_or_else(|| self.bad(format!("no {key} in its metadata")))
    }

    fn parsed<T: DeserializeOwned>(&self, key: &str) -> Result<T, CheckpointError> {
        let text = self.text(key)?;
        serde_json::from_str(text).map_err(|e| self.bad(format!("{key} is {text}: {e}")))
    }

    fn weights(&self) -> Result<Vec<NamedTensor>, CheckpointError> {
        let names = self.file.names().into_iter().filter(|name| ![FIRST, SECOND].contains(name));
        Ok(names.map(|name| self.file.tensor(name)).collect::<Result<_, _>>()?)
    }

    fn optimiser(&self) -> Result<Option<Optimiser>, CheckpointError> {
        if !self.file.metadata.contains_key("config") {
            return Ok(None);
        }
        let config = self.parsed("config")?;
        let (_, _, first) = self.file.tensor(FIRST)?;
        let (_, _, second) = self.file.tensor(SECOND)?;
        Ok(Some(Optimiser { config, first, second }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn checkpoint() -> Checkpoint {
        let weights = vec![
            ("model.layers.2.b".to_string(), vec![2, 1], vec![0.1, -0.1]),
            ("model.layers.10.a".to_string(), vec![1], vec![1e-30]),
        ];
        let config = TrainConfig { scope: Scope::Top(2), ..TrainConfig::default() };
        let state = TrainState {
            config,
            step: 17,
            params: vec![0.1, -0.1, 1e-30],
            m: vec![1e-38, 0.3, -0.0],
            v: vec![f32::MIN_POSITIVE, 2.0, 1.0 / 3.0],
        };
        let mut checkpoint = Checkpoint::of_run("base".into(), weights, state);
        checkpoint.notes.insert("data".into(), "hash".into());
        checkpoint
    }

    fn saved(checkpoint: &Checkpoint) -> (TempDir, std::path::PathBuf) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("step-17.safetensors");
        checkpoint.save(&path).unwrap();
        (dir, path)
    }

    #[test]
    fn a_checkpoint_comes_back_to_the_bit_and_in_order() {
        let (_dir, path) = saved(&checkpoint());
        let read = Checkpoint::load(&path, "base").unwrap();
        assert_eq!(read, checkpoint());
        assert_eq!(read.train_state().unwrap().params, [0.1, -0.1, 1e-30]);
        let done = Checkpoint { optimiser: None, ..checkpoint() };
        let (_dir, path) = saved(&done);
        assert_eq!(Checkpoint::load(&path, "base").unwrap(), done);
    }

    #[test]
    fn another_base_is_refused() {
        let (_dir, path) = saved(&checkpoint());
        let error = Checkpoint::load(&path, "other").unwrap_err().to_string();
        assert!(error.contains("was trained on base weights base, not on other"), "{error}");
    }

    #[test]
    fn fault_39_a_damaged_or_foreign_file_is_refused() {
        let (_dir, path) = saved(&checkpoint());
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        atomic::write(&path, &bytes).unwrap();
        let error = Checkpoint::load(&path, "base").unwrap_err();
        assert!(matches!(error, CheckpointError::Damaged { .. }), "{error}");
        for (said, other) in [
            ("\"step\":\"17\"", "\"step\":\"18\""),
            ("\"note.data\":\"hash\"", "\"note.data\":\"hush\""),
            ("top\\\":2", "top\\\":1"),
            ("\"shape\":[2,1]", "\"shape\":[1,2]"),
        ] {
            checkpoint().save(&path).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let find = |w: &[u8]| w == said.as_bytes();
            let at = bytes.windows(said.len()).position(find).unwrap_or_else(|| panic!("{said}"));
            bytes[at..at + said.len()].copy_from_slice(other.as_bytes());
            atomic::write(&path, &bytes).unwrap();
            let error = Checkpoint::load(&path, "base").unwrap_err();
            assert!(matches!(error, CheckpointError::Damaged { .. }), "{said}: {error}");
        }
        atomic::write(&path, &bytes[..last]).unwrap();
        let error = Checkpoint::load(&path, "base").unwrap_err();
        assert!(matches!(error, CheckpointError::Read(_)), "{error}");
        atomic::write_with(&path, |out| safetensors::write(out, &BTreeMap::new(), &[])).unwrap();
        let error = Checkpoint::load(&path, "base").unwrap_err().to_string();
        assert!(error.contains("no format in its metadata"), "{error}");
    }
}
