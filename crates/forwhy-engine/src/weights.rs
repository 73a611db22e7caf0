//! Weights of a model, whatever file they lie in.
//!
//! 1. [`open`] looks at a path: a GGUF file ([`crate::gguf`]) or a directory in Hugging Face layout
//!    ([`crate::hf`]);
//! 2. both give a [`WeightSource`], which reads one tensor at a time as f32, under its Hugging Face
//!    name and in Hugging Face order;
//! 3. [`load_into`] fills the flat parameter buffer that [`Layout`] describes.
//!
//! Nothing is executed from a model's files, and every count is checked against the file's size
//! before memory is taken.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::shape::{Layout, Shape};
use crate::tokenizer::{ChatTokenizer, TokenizerError};
use crate::{gguf, hf};

/// Where weights come from.
pub trait WeightSource {
    /// Dimensions of the model.
    fn shape(&self) -> &Shape;

    /// Reads the tensor with this Hugging Face name, dequantised, row-major, in Hugging Face order
    /// (rows of q and k not permuted). `out` must have exactly its number of elements.
    fn read(&self, name: &str, out: &mut [f32]) -> Result<(), WeightError>;

    /// BLAKE3 of the source file or files, hex.
    fn hash(&self) -> String;
}

/// An opened model: weights and the tokenizer that belongs to them.
pub struct ModelFiles {
    /// The model's own name, or the file's.
    pub name: String,
    /// Its weights.
    pub source: Box<dyn WeightSource + Send + Sync>,
    /// Its tokenizer with its chat template.
    pub tokenizer: ChatTokenizer,
}

/// Why a model's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// The system refused.
    #[error("cannot read {path}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file contradicts its own format: truncated, corrupt or hostile.
    #[error("{path} is damaged: {why}. Fetch the file again", path = path.display())]
    Broken {
        /// Which file.
        path: PathBuf,
        /// What is wrong in it.
        why: String,
    },
    /// The file is sound, but needs something that this engine does not do.
    #[error("{path} cannot be used: {what}", path = path.display())]
    Unsupported {
        /// Which file.
        path: PathBuf,
        /// What it needs, and what is supported.
        what: String,
    },
    /// A pickle checkpoint: reading one can run any code.
    #[error(
        "{path} is a pickle checkpoint, which can run code when it is read: refused. Convert it to \
         safetensors (transformers: save_pretrained)", path = path.display()
    )]
    Pickle {
        /// Which file.
        path: PathBuf,
    },
    /// Nothing usable at the path.
    #[error("no model at {path}: {why}", path = path.display())]
    NoModel {
        /// Where it was looked for.
        path: PathBuf,
        /// What was expected there.
        why: String,
    },
    /// A tensor that the architecture needs is not in the file.
    #[error("{path} has no tensor {name}", path = path.display())]
    NoTensor {
        /// Which file.
        path: PathBuf,
        /// Name of the tensor in this file.
        name: String,
    },
    /// The tokenizer or the chat template of the model.
    #[error("the tokenizer of {path}: {source}", path = path.display())]
    Tokenizer {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: TokenizerError,
    },
}

impl WeightError {
    pub(crate) fn broken(path: &Path, why: impl Into<String>) -> Self {
        WeightError::Broken { path: path.into(), why: why.into() }
    }

    pub(crate) fn unsupported(path: &Path, what: impl Into<String>) -> Self {
        WeightError::Unsupported { path: path.into(), what: what.into() }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| WeightError::Io { path, source }
    }
}

/// Endings of files that Python's pickle reads and that must not be opened.
const PICKLES: [&str; 7] = ["bin", "pt", "pth", "pkl", "pickle", "ckpt", "joblib"];

/// Opens a GGUF file or a directory in Hugging Face layout.
pub fn open(path: &Path) -> Result<ModelFiles, WeightError> {
    let meta = std::fs::metadata(path).map_err(WeightError::io(path))?;
    if meta.is_dir() {
        return hf::open(path);
    }
    if is_pickle(path) {
        return Err(WeightError::Pickle { path: path.into() });
    }
    if path.extension().is_some_and(|e| e == "safetensors") {
        let why = "give the directory that holds config.json, model.safetensors and tokenizer.json";
        return Err(WeightError::NoModel { path: path.into(), why: why.into() });
    }
    gguf::open(path)
}

/// Whether the name says that Python's pickle wrote the file.
pub(crate) fn is_pickle(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    ending.is_some_and(|e| PICKLES.contains(&e.as_str()))
}

/// Fills `params` (as long as `layout`) with every tensor of `source`. A weight that is NaN or
/// infinite is an error: nothing computed from it would mean anything.
pub fn load_into(
    source: &dyn WeightSource,
    layout: &Layout,
    params: &mut [f32],
) -> Result<(), WeightError> {
    for tensor in layout.tensors() {
        let size: usize = tensor.shape.iter().product();
        let out = &mut params[tensor.at..tensor.at + size];
        source.read(&tensor.name, out)?;
    }
    Ok(())
}

/// Refuses values that are not finite.
pub(crate) fn check_finite(path: &Path, name: &str, values: &[f32]) -> Result<(), WeightError> {
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(i) => Err(WeightError::broken(
            path,
            format!("element {i} of tensor {name} is {}, not a finite number", values[i]),
        )),
    }
}

/// BLAKE3 over the files' lengths and contents, in the given order; hex.
pub(crate) fn hash_files(paths: &[PathBuf]) -> Result<String, WeightError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    for path in paths {
        let mut file = File::open(path).map_err(WeightError::io(path))?;
        let size = file.metadata().map_err(WeightError::io(path))?.len();
        if paths.len() > 1 {
            hasher.update(&size.to_le_bytes());
        }
        loop {
            match file.read(&mut buffer).map_err(WeightError::io(path))? {
                0 => break,
                n => hasher.update(&buffer[..n]),
            };
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}
