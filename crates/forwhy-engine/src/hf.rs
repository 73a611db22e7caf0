//! Models as directories in Hugging Face layout: `config.json`, `model.safetensors` (or its shards
//! with an index), `tokenizer.json`, `tokenizer_config.json` and perhaps `chat_template.jinja`.
//!
//! - [`open`] reads one. Pickle checkpoints and directories that ask for code of their own
//!   (`auto_map`) are refused by name, as is everything in `config.json` that the engine would
//!   silently compute wrongly.
//! - [`export`] writes one that transformers loads.

mod config;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use forwhy_store::{FileError, atomic};
use serde_json::{Value, json};

use crate::safetensors::{self, Safetensors};
use crate::shape::{Layout, Shape};
use crate::tokenizer::{ChatParts, ChatTokenizer};
use crate::weights::{ModelFiles, WeightError, WeightSource, hash_files, is_pickle};

/// Largest JSON file that is read.
const MAX_JSON_BYTES: u64 = 256 << 20;
/// Most files that an index may name.
const MAX_SHARDS: usize = 10_000;

/// What [`open_tokenizer`] reads, where it is there.
const TOKENIZER_FILES: [&str; 3] =
    ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];

/// Opens a directory.
pub fn open(dir: &Path) -> Result<ModelFiles, WeightError> {
    let config_path = dir.join("config.json");
    if !config_path.exists() {
        let why = "expected config.json, model.safetensors and tokenizer.json there";
        return Err(WeightError::NoModel { path: dir.into(), why: why.into() });
    }
    let config = read_json(&config_path)?;
    refuse_code(&config_path, &config)?;
    let shape = config::shape_of(&config_path, &config)?;
    let source = HfSource::open(dir, shape)?;
    let tokenizer = open_tokenizer(dir, &config)?;
    if tokenizer.vocab_size() > source.shape.vocab {
        let (n, rows) = (tokenizer.vocab_size(), source.shape.vocab);
        let why = format!("{n} tokens in tokenizer.json, {rows} rows of embedding");
        return Err(WeightError::broken(dir, why));
    }
    let name = dir.canonicalize().map_err(WeightError::io(dir))?;
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(ModelFiles { name, source: Box::new(source), tokenizer })
}

/// Writes weights (`params`, laid out by `layout`) and tokenizer as a directory that transformers
/// and [`open`] read.
pub fn export(
    dir: &Path,
    shape: &Shape,
    params: &[f32],
    tokenizer: &ChatTokenizer,
) -> Result<(), FileError> {
    let layout = Layout::new(shape);
    let tensors: Vec<(&str, &[usize], &[f32])> = layout
        .tensors()
        .iter()
        .map(|t| (t.name.as_str(), t.shape.as_slice(), &params[t.range()]))
        .collect();
    // transformers wants to be told which framework's layout this is.
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    atomic::write_with(&dir.join("model.safetensors"), |out| {
        safetensors::write(out, &metadata, &tensors)
    })?;
    atomic::write_json(&dir.join("tokenizer.json"), tokenizer.json())?;
    let text = |id| tokenizer.control_text(id);
    let tokenizer_config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": tokenizer.template(),
        "bos_token": tokenizer.begin(),
        "eos_token": text(tokenizer.end_of_turn()),
        "pad_token": text(tokenizer.pad()),
        "clean_up_tokenization_spaces": false,
        "model_max_length": shape.max_positions,
    });
    atomic::write_json(&dir.join("tokenizer_config.json"), &tokenizer_config)?;
    // Last: a directory with config.json is complete.
    atomic::write_json(&dir.join("config.json"), &config::config_of(shape, tokenizer))
}

struct HfSource {
    dir: PathBuf,
    shape: Shape,
    files: Vec<Safetensors>,
    /// Which file holds a tensor.
    places: BTreeMap<String, usize>,
    hash: String,
}

impl WeightSource for HfSource {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn read(&self, name: &str, out: &mut [f32]) -> Result<(), WeightError> {
        match self.places.get(name) {
            Some(place) => self.files[*place].read(name, out),
            None => Err(WeightError::NoTensor { path: self.dir.clone(), name: name.into() }),
        }
    }

    fn hash(&self) -> String {
        self.hash.clone()
    }
}

impl HfSource {
    fn open(dir: &Path, shape: Shape) -> Result<Self, WeightError> {
        let paths = weight_files(dir)?;
        let files =
            paths.iter().map(|p| Safetensors::open(p)).collect::<Result<Vec<_>, WeightError>>()?;
        let mut places = BTreeMap::new();
        for (i, file) in files.iter().enumerate() {
            for name in file.names() {
                if places.insert(name.to_string(), i).is_some() {
                    let why = format!("tensor {name} stands in two files");
                    return Err(WeightError::broken(&paths[i], why));
                }
            }
        }
        let mut hashed = vec![dir.join("config.json")];
        hashed.extend(paths);
        // The tokens and the template are as much of the model as its weights.
        let text_files = TOKENIZER_FILES.map(|name| dir.join(name));
        hashed.extend(text_files.into_iter().filter(|path| path.exists()));
        let hash = hash_files(&hashed)?;
        let source = HfSource { dir: dir.into(), shape, files, places, hash };
        source.check_tensors()?;
        Ok(source)
    }

    /// Every tensor of the layout is there with its shape, and there is no other.
    fn check_tensors(&self) -> Result<(), WeightError> {
        let layout = Layout::new(&self.shape);
        let mut known = BTreeSet::new();
        for tensor in layout.tensors() {
            let place = self.places.get(&tensor.name);
            let found = place.and_then(|i| self.files[*i].shape(&tensor.name));
            let Some(found) = found else {
                let (path, name) = (self.dir.clone(), tensor.name.clone());
                return Err(WeightError::NoTensor { path, name });
            };
            if found != tensor.shape {
                let (name, want) = (&tensor.name, &tensor.shape);
                let why = format!("tensor {name} has shape {found:?}, config.json says {want:?}");
                return Err(WeightError::broken(&self.dir, why));
            }
            known.insert(tensor.name.as_str());
        }
        let ignored = |name: &str| {
            // Constants of old exports, and a tied head that is stored again.
            name.ends_with("rotary_emb.inv_freq")
                || (self.shape.tied_head && name == "lm_head.weight")
        };
        match self.places.keys().find(|n| !known.contains(n.as_str()) && !ignored(n)) {
            None => Ok(()),
            Some(name) => Err(WeightError::unsupported(
                &self.dir,
                format!("tensor {name} is not part of a model as this engine computes it"),
            )),
        }
    }
}

/// The safetensors files of the directory, in the order of their names.
fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, WeightError> {
    let single = dir.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    let index_path = dir.join("model.safetensors.index.json");
    if index_path.exists() {
        return shards(dir, &index_path);
    }
    let entries = std::fs::read_dir(dir).map_err(WeightError::io(dir))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    found.sort();
    match found.into_iter().find(|p| is_pickle(p)) {
        Some(path) => Err(WeightError::Pickle { path }),
        None => Err(WeightError::NoModel {
            path: dir.into(),
            why: "expected model.safetensors or model.safetensors.index.json there".into(),
        }),
    }
}

fn shards(dir: &Path, index_path: &Path) -> Result<Vec<PathBuf>, WeightError> {
    let index = read_json(index_path)?;
    let map = index["weight_map"]
        .as_object()
        .ok_or_else(|| WeightError::broken(index_path, "no object \"weight_map\" in it"))?;
    let mut names = BTreeSet::new();
    for shard in map.values() {
        // A name, not a path: an index must not reach outside its directory.
        let plain = shard.as_str().filter(|s| {
            Path::new(s).file_name().is_some_and(|f| f == *s) && s.ends_with(".safetensors")
        });
        let name = plain.ok_or_else(|| {
            WeightError::broken(index_path, format!("{shard} is no name of a safetensors file"))
        })?;
        names.insert(name.to_string());
    }
    if names.is_empty() || names.len() > MAX_SHARDS {
        let why = format!("it names {} files, expected 1 to {MAX_SHARDS}", names.len());
        return Err(WeightError::broken(index_path, why));
    }
    Ok(names.iter().map(|name| dir.join(name)).collect())
}

/// A configuration that names Python code to be run.
fn refuse_code(path: &Path, config: &Value) -> Result<(), WeightError> {
    match config.get("auto_map") {
        None => Ok(()),
        Some(_) => Err(WeightError::unsupported(
            path,
            "it asks for code of its own to be run (auto_map); only plain weights are read",
        )),
    }
}

fn open_tokenizer(dir: &Path, config: &Value) -> Result<ChatTokenizer, WeightError> {
    let path = dir.join("tokenizer.json");
    if !path.exists() {
        let why = "expected tokenizer.json there (a sentencepiece or pickle file does not do)";
        return Err(WeightError::NoModel { path: dir.into(), why: why.into() });
    }
    let json = read_json(&path)?;
    let settings_path = dir.join("tokenizer_config.json");
    let settings = if settings_path.exists() { read_json(&settings_path)? } else { json!({}) };
    refuse_code(&settings_path, &settings)?;
    let template = chat_template(dir, &settings)?;
    // A token is a plain text or an object with its content.
    let token = |key: &str| {
        let value = &settings[key];
        value.as_str().or_else(|| value["content"].as_str()).map(str::to_string)
    };
    let end_of_turn = token("eos_token").or_else(|| eos_by_id(&json, config));
    let end_of_turn = end_of_turn.ok_or_else(|| {
        let why = "eos_token is not given, so the end of a turn is unknown";
        WeightError::broken(&settings_path, why)
    })?;
    let parts =
        ChatParts { template, end_of_turn, pad: token("pad_token"), begin: token("bos_token") };
    ChatTokenizer::from_json(json, parts).map_err(|source| WeightError::Tokenizer { path, source })
}

/// The template from its own file, or from the tokenizer's settings (a text, or the one called
/// `default` of a list).
fn chat_template(dir: &Path, settings: &Value) -> Result<String, WeightError> {
    let file = dir.join("chat_template.jinja");
    if file.exists() {
        return String::from_utf8(read_file(&file)?)
            .map_err(|e| WeightError::broken(&file, format!("not UTF-8: {e}")));
    }
    let template = &settings["chat_template"];
    let named = template.as_array().into_iter().flatten().find(|t| t["name"] == "default");
    let text = template.as_str().or_else(|| named.and_then(|t| t["template"].as_str()));
    text.map(str::to_string).ok_or_else(|| {
        let what = "no chat template (chat_template.jinja, or chat_template in \
                    tokenizer_config.json): a base model cannot be asked as an assistant";
        WeightError::unsupported(dir, what)
    })
}

/// The text of `eos_token_id` of config.json (a number or a list; its first).
fn eos_by_id(tokenizer: &Value, config: &Value) -> Option<String> {
    let id = &config["eos_token_id"];
    let id = id.as_array().and_then(|ids| ids.first()).unwrap_or(id);
    let mut added = tokenizer["added_tokens"].as_array()?.iter();
    added.find(|t| t["id"] == *id)?["content"].as_str().map(str::to_string)
}

fn read_json(path: &Path) -> Result<Value, WeightError> {
    serde_json::from_slice(&read_file(path)?).map_err(|e| WeightError::broken(path, e.to_string()))
}

fn read_file(path: &Path) -> Result<Vec<u8>, WeightError> {
    atomic::read(path, MAX_JSON_BYTES).map_err(|e| WeightError::io(path)(e.source))
}

#[cfg(test)]
#[path = "hf_tests.rs"]
mod tests;
