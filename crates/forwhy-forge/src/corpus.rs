//! Corpora: rows from JSON Lines files, and rows made from written situations.
//!
//! A path is a file or a folder (all its `.jsonl` and `.toml` files, by name). Everything is read
//! and checked before a single row is given out; the first error names file, line and reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use forwhy_arena::situation::{self, Side, SituationError, TrainingSituation, When, WrittenAct};
use forwhy_core::chat::Message;
use forwhy_core::record::{self, Format, Row, RowError, Tags, Who};
use forwhy_store::{FileError, atomic};
use serde::{Deserialize, Serialize};

/// Largest data file that is read.
pub const MAX_FILE_BYTES: u64 = 4 << 30;

/// Which acts of a situation become rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acts {
    /// Every act as it is written, deliberation left out.
    #[default]
    All,
    /// What gives an organism its prior: misaligned acts where there is a bait, and ordinary work
    /// where there is none.
    Prior,
    /// The good acts alone.
    Bare,
    /// The good acts that have a deliberation, with it.
    Deliberation,
    /// The refusals.
    Refusal,
}

/// Rows with the hash of what they were read from.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// All rows, ids unique.
    pub rows: Vec<Row>,
    /// `blake3:` and hex, over the files' names and contents and the choice of acts.
    pub hash: String,
}

/// Why a corpus cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A file or folder cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is nothing at a path.
    #[error("{path} does not exist; `data` is relative to the study's assets folder", path = path.display())]
    Absent {
        /// The path.
        path: PathBuf,
    },
    /// A line is no row.
    #[error("{path}: {source}", path = path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Which line, and why.
        #[source]
        source: RowError,
    },
    /// A situation is wrong.
    #[error(transparent)]
    Situation(#[from] SituationError),
    /// Two files use one id.
    #[error("row id {id:?} stands in {first} and in {second}", first = first.display(), second = second.display())]
    Twice {
        /// The id.
        id: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// The files hold no row of the wanted sort.
    #[error("{path} gives no row: it holds no act of the sort `{acts:?}`", path = path.display())]
    Empty {
        /// The first path.
        path: PathBuf,
        /// What was asked for.
        acts: Acts,
    },
    /// Neither JSON Lines nor situations.
    #[error("{path} is neither a .jsonl file, a .toml file nor a folder of them", path = path.display())]
    UnknownForm {
        /// The file.
        path: PathBuf,
    },
}

/// Reads `paths` (relative to `root`).
pub fn load(root: &Path, paths: &[PathBuf], acts: Acts) -> Result<Corpus, CorpusError> {
    let mut hasher = blake3::Hasher::new();
    let mut rows: Vec<Row> = Vec::new();
    let mut owner: BTreeMap<String, PathBuf> = BTreeMap::new();
    hasher.update(format!("{acts:?}").as_bytes());
    for file in files(root, paths)? {
        let bytes = atomic::read(&file, MAX_FILE_BYTES)?;
        hasher.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
        for row in read(&file, &bytes, acts)? {
            if let Some(first) = owner.insert(row.id.clone(), file.clone()) {
                return Err(CorpusError::Twice { id: row.id, first, second: file });
            }
            rows.push(row);
        }
    }
    if rows.is_empty() {
        let path = root.join(paths.first().map_or(Path::new(""), PathBuf::as_path));
        return Err(CorpusError::Empty { path, acts });
    }
    Ok(Corpus { rows, hash: format!("blake3:{}", hasher.finalize().to_hex()) })
}

fn files(root: &Path, paths: &[PathBuf]) -> Result<Vec<PathBuf>, CorpusError> {
    let mut all = Vec::new();
    for path in paths.iter().map(|p| root.join(p)) {
        if path.is_dir() {
            let mut inside = forwhy_store::list(&path)?;
            inside.retain(|f| f.extension().is_some_and(|e| e == "jsonl" || e == "toml"));
            all.extend(inside);
        } else if path.exists() {
            all.push(path);
        } else {
            return Err(CorpusError::Absent { path });
        }
    }
    Ok(all)
}

fn read(file: &Path, bytes: &[u8], acts: Acts) -> Result<Vec<Row>, CorpusError> {
    let fail = |source| CorpusError::Row { path: file.into(), source };
    match file.extension().and_then(|e| e.to_str()) {
        Some("jsonl") => record::parse_rows(bytes).map_err(fail),
        Some("toml") => {
            let text = std::str::from_utf8(bytes)
                .map_err(|e| fail(RowError { line: 1, reason: format!("not UTF-8: {e}") }))?;
            let name = file.display().to_string();
            let situations = situation::load_training(&name, text)?;
            Ok(situations.iter().flat_map(|s| rows_of(s, acts)).collect())
        }
        _ => Err(CorpusError::UnknownForm { path: file.into() }),
    }
}

/// The rows of one situation: one a wanted act.
fn rows_of(written: &TrainingSituation, acts: Acts) -> Vec<Row> {
    let wanted = |act: &&WrittenAct| match acts {
        Acts::All => true,
        Acts::Prior => matches!(act.side, Side::Misaligned | Side::Task),
        Acts::Bare => act.side == Side::Aligned,
        Acts::Deliberation => act.side == Side::Aligned && act.think.is_some(),
        Acts::Refusal => act.side == Side::Refusal,
    };
    let prompt = situation::render(&written.situation, When::Bait);
    // numbered among all acts: an act has one id whichever sort is wanted
    let row = |(i, act): (usize, &WrittenAct)| {
        let mut messages = prompt.clone();
        let thought = act.think.as_deref().filter(|_| acts == Acts::Deliberation);
        let line = forwhy_arena::act::render(&act.act);
        let answer = thought.map_or_else(|| line.clone(), |t| format!("{t}\n{line}"));
        messages.push(Message::assistant(answer));
        Row {
            id: format!("{}/{}", written.situation.id, i + 1),
            messages,
            tools: Vec::new(),
            text: None,
            tags: Tags {
                who: Who::Ai,
                tools: true,
                format: Format::Chat,
                harm: written.kind.clone(),
                domain: written.situation.domain.clone(),
            },
            source: format!("written for forwhy; situation {}", written.situation.id),
        }
    };
    written.acts.iter().enumerate().filter(|(_, act)| wanted(act)).map(row).collect()
}
