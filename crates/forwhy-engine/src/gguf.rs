//! GGUF files (version 2 and 3, little-endian): a model in one file, with quantised weights,
//! vocabulary and chat template. Format: the GGUF specification of the ggml project.
//!
//! 1. [`Gguf::parse`] reads header, metadata and tensor table; every count, length and offset is
//!    checked against the file's size before memory is taken, so a header that promises 2^63
//!    elements costs nothing;
//! 2. [`open`] makes a [`Shape`] and a tokenizer of the metadata and refuses by name what the engine
//!    does not compute (architecture, tensor type, kinds of rotary scaling, unknown tensors);
//! 3. reading a tensor dequantises it ([`crate::quant`]) and, for q and k, undoes the row order in
//!    which llama.cpp stores them.

mod shape;
mod vocabulary;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::quant::Dtype;
use crate::shape::Shape;
use crate::tokenizer::ChatTokenizer;
use crate::weights::{ModelFiles, WeightError, WeightSource, check_finite, hash_files};

/// Most items of all metadata lists together; vocabularies with their merges have under 2 million.
const MAX_ITEMS: u64 = 1 << 22;

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any unsigned or signed integer, or a bool (0 or 1).
    Int(i128),
    /// f32 or f64.
    Float(f64),
    /// UTF-8 text.
    Text(String),
    /// A list; all of one kind.
    List(Vec<Value>),
}

/// One tensor of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// How its elements are stored.
    pub dtype: Dtype,
    /// Rows first (the file stores columns first).
    pub shape: Vec<usize>,
    /// Where its bytes begin, from the file's begin.
    at: u64,
    /// How many bytes.
    bytes: u64,
}

/// A parsed file; tensors are read on demand.
pub struct Gguf {
    path: PathBuf,
    file: File,
    /// Metadata by key.
    pub meta: BTreeMap<String, Value>,
    /// Tensors by their GGUF name.
    pub tensors: BTreeMap<String, Entry>,
}

/// Opens the model in a GGUF file.
pub fn open(path: &Path) -> Result<ModelFiles, WeightError> {
    let file = Gguf::parse(path)?;
    let shape = shape::shape_of(&file)?;
    let tokenizer = ChatTokenizer::from_bpe(vocabulary::tokenizer_parts(&file)?)
        .map_err(|source| WeightError::Tokenizer { path: path.into(), source })?;
    if tokenizer.vocab_size() != shape.vocab {
        let n = tokenizer.vocab_size();
        let why = format!("{n} tokens in the vocabulary, {} rows of embedding", shape.vocab);
        return Err(WeightError::broken(path, why));
    }
    let name = match file.meta.get("general.name") {
        Some(Value::Text(name)) => name.clone(),
        _ => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let hash = hash_files(&[path.to_path_buf()])?;
    let interleaved = file.text("general.architecture")? == "llama";
    let source = GgufSource { file, shape, interleaved, hash };
    source.check_tensors()?;
    Ok(ModelFiles { name, source: Box::new(source), tokenizer })
}

struct GgufSource {
    file: Gguf,
    shape: Shape,
    /// Whether the rows of q and k are stored in the order of [`unpermute`].
    interleaved: bool,
    hash: String,
}

impl WeightSource for GgufSource {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn read(&self, name: &str, out: &mut [f32]) -> Result<(), WeightError> {
        let stored = shape::stored_name(name).ok_or_else(|| WeightError::NoTensor {
            path: self.file.path.clone(),
            name: name.into(),
        })?;
        self.file.read(&stored, out)?;
        if !self.interleaved {
            // Only llama.cpp's own architecture turns neighbouring pairs.
        } else if name.contains("q_proj") {
            unpermute(out, self.shape.heads, self.shape.head_dim);
        } else if name.contains("k_proj") {
            unpermute(out, self.shape.kv_heads, self.shape.head_dim);
        }
        check_finite(&self.file.path, name, out)
    }

    fn hash(&self) -> String {
        self.hash.clone()
    }
}

impl GgufSource {
    /// Every tensor that the layout needs is there with its shape, and there is no other.
    fn check_tensors(&self) -> Result<(), WeightError> {
        let path = &self.file.path;
        let layout = crate::shape::Layout::new(&self.shape);
        let mut known = std::collections::BTreeSet::new();
        for tensor in layout.tensors() {
            let name = shape::stored_name(&tensor.name).unwrap_or_default();
            let entry = self.file.entry(&name)?;
            if entry.shape != tensor.shape {
                let why = format!(
                    "tensor {name} has shape {:?}, the metadata says {:?}",
                    entry.shape, tensor.shape
                );
                return Err(WeightError::broken(path, why));
            }
            known.insert(name);
        }
        if !self.shape.rope_scaling.is_none() {
            known.insert(shape::ROPE_FACTORS.into());
        }
        match self.file.tensors.keys().find(|name| !known.contains(*name)) {
            None => Ok(()),
            Some(name) => Err(WeightError::unsupported(
                path,
                format!("tensor {name} is not part of a model as this engine computes it"),
            )),
        }
    }
}

/// llama.cpp stores the rows of a head interleaved, (i, half) for (half, i), because its rotary
/// embedding turns neighbouring pairs; ours, as Hugging Face's, turns the two halves. Without this
/// the model still talks, with four times the perplexity.
fn unpermute(rows: &mut [f32], heads: usize, head_dim: usize) {
    let columns = rows.len() / (heads * head_dim);
    let half = head_dim / 2;
    let mut head = vec![0.0; head_dim * columns];
    for stored in rows.chunks_exact_mut(head_dim * columns) {
        for (to, row) in head.chunks_exact_mut(columns).enumerate() {
            let from = (to % half) * 2 + to / half;
            row.copy_from_slice(&stored[from * columns..(from + 1) * columns]);
        }
        stored.copy_from_slice(&head);
    }
}

impl Gguf {
    /// Reads header, metadata and tensor table.
    pub fn parse(path: &Path) -> Result<Self, WeightError> {
        let file = File::open(path).map_err(WeightError::io(path))?;
        let size = file.metadata().map_err(WeightError::io(path))?.len();
        let reader = BufReader::with_capacity(1 << 16, &file);
        let mut cursor = Cursor { reader, path, at: 0, size, items_left: items_of(size) };
        let (meta, tensors) = cursor.header()?;
        Ok(Gguf { path: path.into(), file, meta, tensors })
    }

    /// Reads the tensor with this GGUF name as f32, in the file's row order.
    pub fn read(&self, name: &str, out: &mut [f32]) -> Result<(), WeightError> {
        let entry = self.entry(name)?;
        let size: usize = entry.shape.iter().product();
        if size != out.len() {
            let why = format!("tensor {name} has {size} elements, {} are needed", out.len());
            return Err(WeightError::broken(&self.path, why));
        }
        let mut bytes = vec![0; entry.bytes as usize];
        self.file.read_exact_at(&mut bytes, entry.at).map_err(WeightError::io(&self.path))?;
        entry.dtype.decode(&bytes, out);
        Ok(())
    }

    fn entry(&self, name: &str) -> Result<&Entry, WeightError> {
        let missing = || WeightError::NoTensor { path: self.path.clone(), name: name.into() };
        self.tensors.get(name).ok_or_else(missing)
    }

    fn missing(&self, key: &str, expected: &str) -> WeightError {
        let found = match self.meta.get(key) {
            None => "is missing",
            Some(_) => "has another type",
        };
        WeightError::broken(&self.path, format!("metadata key {key} {found}, expected {expected}"))
    }

    fn text(&self, key: &str) -> Result<&str, WeightError> {
        match self.meta.get(key) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(self.missing(key, "a text")),
        }
    }

    fn float(&self, key: &str) -> Result<f64, WeightError> {
        match self.meta.get(key) {
            Some(Value::Float(x)) if x.is_finite() => Ok(*x),
            _ => Err(self.missing(key, "a finite number")),
        }
    }

    /// A dimension: an integer from 0 to 2^32 - 1.
    fn count(&self, key: &str) -> Result<usize, WeightError> {
        match self.meta.get(key) {
            Some(Value::Int(n)) => {
                let fits = u32::try_from(*n).ok().map(|n| n as usize);
                fits.ok_or_else(|| WeightError::broken(&self.path, format!("{key} is {n}")))
            }
            _ => Err(self.missing(key, "an integer")),
        }
    }

    fn count_or(&self, key: &str, default: usize) -> Result<usize, WeightError> {
        if self.meta.contains_key(key) { self.count(key) } else { Ok(default) }
    }

    fn list(&self, key: &str) -> Result<&[Value], WeightError> {
        match self.meta.get(key) {
            Some(Value::List(items)) => Ok(items),
            _ => Err(self.missing(key, "a list")),
        }
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, WeightError> {
        let texts = self.list(key)?.iter().map(|item| match item {
            Value::Text(text) => Ok(text.clone()),
            _ => Err(self.missing(key, "a list of texts")),
        });
        texts.collect()
    }
}

/// Reads forward and knows how much of the file is left.
struct Cursor<'a> {
    reader: BufReader<&'a File>,
    path: &'a Path,
    at: u64,
    size: u64,
    /// How many items of metadata lists may still come: in memory they are larger than in the file.
    items_left: u64,
}

/// How many list items are read from a file of `size` bytes: all together take at most twice the
/// file's size and 1 MiB.
fn items_of(size: u64) -> u64 {
    let bytes = size.saturating_mul(2).saturating_add(1 << 20);
    (bytes / size_of::<Value>() as u64).min(MAX_ITEMS)
}

type Header = (BTreeMap<String, Value>, BTreeMap<String, Entry>);

impl Cursor<'_> {
    fn header(&mut self) -> Result<Header, WeightError> {
        if self.size < 24 || self.array::<4>()? != *b"GGUF" {
            let what = "it is not a GGUF file (and not a directory in Hugging Face layout)";
            return Err(WeightError::unsupported(self.path, what));
        }
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            let what = format!("GGUF version {version}; 2 and 3 (little-endian) are supported");
            return Err(WeightError::unsupported(self.path, what));
        }
        // The smallest tensor entry has 24 bytes, the smallest metadata pair 13.
        let tensor_count = self.promised("tensors", 24)?;
        let meta_count = self.promised("metadata pairs", 13)?;
        let mut meta = BTreeMap::new();
        for _ in 0..meta_count {
            let key = self.string()?;
            let kind = self.u32()?;
            let value = self.value(kind, &key)?;
            if meta.insert(key.clone(), value).is_some() {
                return Err(self.broken(format!("metadata key {key} occurs twice")));
            }
        }
        let tensors = self.table(tensor_count, &meta)?;
        Ok((meta, tensors))
    }

    fn table(
        &mut self,
        count: u64,
        meta: &BTreeMap<String, Value>,
    ) -> Result<BTreeMap<String, Entry>, WeightError> {
        let mut tensors = BTreeMap::new();
        for _ in 0..count {
            let (name, entry) = self.entry()?;
            if tensors.insert(name.clone(), entry).is_some() {
                return Err(self.broken(format!("tensor {name} occurs twice")));
            }
        }
        let alignment = match meta.get("general.alignment") {
            None => 32,
            Some(Value::Int(n)) if (1..=1 << 20).contains(n) && n.count_ones() == 1 => *n as u64,
            Some(other) => return Err(self.broken(format!("general.alignment is {other:?}"))),
        };
        self.place(&mut tensors, self.at.next_multiple_of(alignment), alignment)?;
        Ok(tensors)
    }

    fn entry(&mut self) -> Result<(String, Entry), WeightError> {
        let name = self.string()?;
        let dimensions = self.u32()?;
        if !(1..=4).contains(&dimensions) {
            return Err(self.broken(format!("tensor {name} has {dimensions} dimensions")));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64()?);
        }
        let code = self.u32()?;
        let dtype = Dtype::from_ggml(code).map_err(|type_name| {
            let what = format!(
                "tensor {name} has type {type_name}; F32, F16, Q8_0, Q4_0 and Q4_1 are supported"
            );
            WeightError::unsupported(self.path, what)
        })?;
        let at = self.u64()?;
        let elements = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
        let bytes = elements
            .filter(|n| *n > 0 && shape[0] % dtype.block() as u64 == 0)
            .and_then(|n| (n / dtype.block() as u64).checked_mul(dtype.block_bytes() as u64))
            .filter(|bytes| *bytes <= self.size);
        let Some(bytes) = bytes else {
            let why = format!("tensor {name} of {shape:?} ({dtype:?}) is larger than the file");
            return Err(self.broken(why));
        };
        let shape = shape.iter().rev().map(|d| *d as usize).collect();
        Ok((name, Entry { dtype, shape, at, bytes }))
    }

    /// Makes offsets absolute; checks that all tensors lie in the file and none on another.
    fn place(
        &self,
        tensors: &mut BTreeMap<String, Entry>,
        begin: u64,
        alignment: u64,
    ) -> Result<(), WeightError> {
        let mut spans = Vec::new();
        for (name, entry) in tensors.iter_mut() {
            let span =
                entry.at.checked_add(begin).and_then(|a| Some((a, a.checked_add(entry.bytes)?)));
            let Some((from, to)) = span.filter(|(_, to)| *to <= self.size) else {
                return Err(self.broken(format!(
                    "tensor {name} at {} with {} bytes ends behind the file's {} bytes",
                    entry.at, entry.bytes, self.size
                )));
            };
            if entry.at % alignment != 0 {
                return Err(self.broken(format!("tensor {name} is not aligned to {alignment}")));
            }
            entry.at = from;
            spans.push((from, to, name.clone()));
        }
        spans.sort();
        match spans.windows(2).find(|pair| pair[0].1 > pair[1].0) {
            None => Ok(()),
            Some(pair) => {
                Err(self.broken(format!("tensors {} and {} overlap", pair[0].2, pair[1].2)))
            }
        }
    }

    /// A metadata value of GGUF type `kind`.
    fn value(&mut self, kind: u32, key: &str) -> Result<Value, WeightError> {
        if kind != 9 {
            return self.scalar(kind, key);
        }
        let inner = self.u32()?;
        let smallest = match inner {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            _ => return Err(self.broken(format!("{key} is a list of type {inner}"))),
        };
        let count = self.promised(key, smallest)?;
        let Some(left) = self.items_left.checked_sub(count) else {
            let why = format!("the list {key} has {count} items, too many for a file of its size");
            return Err(self.broken(why));
        };
        self.items_left = left;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(self.scalar(inner, key)?);
        }
        Ok(Value::List(items))
    }

    fn scalar(&mut self, kind: u32, key: &str) -> Result<Value, WeightError> {
        Ok(match kind {
            0 | 7 => Value::Int(u8::from_le_bytes(self.array()?).into()),
            1 => Value::Int(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Int(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Int(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Int(u32::from_le_bytes(self.array()?).into()),
            5 => Value::Int(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            8 => Value::Text(self.string()?),
            10 => Value::Int(u64::from_le_bytes(self.array()?).into()),
            11 => Value::Int(i64::from_le_bytes(self.array()?).into()),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return Err(self.broken(format!("metadata key {key} has unknown type {kind}"))),
        })
    }

    /// A count of things of at least `smallest` bytes each, believed only if they can fit.
    fn promised(&mut self, what: &str, smallest: u64) -> Result<u64, WeightError> {
        let count = self.u64()?;
        let left = self.size - self.at;
        match count.checked_mul(smallest) {
            Some(bytes) if bytes <= left => Ok(count),
            _ => Err(self.broken(format!("{count} {what} promised, {left} bytes are left"))),
        }
    }

    fn string(&mut self) -> Result<String, WeightError> {
        let length = self.promised("bytes of text", 1)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|e| self.broken(format!("a text is not UTF-8: {e}")))
    }

    fn u32(&mut self) -> Result<u32, WeightError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, WeightError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WeightError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<(), WeightError> {
        if out.len() as u64 > self.size - self.at {
            return Err(self.broken(format!("it ends at byte {}, in its header", self.size)));
        }
        self.reader.read_exact(out).map_err(WeightError::io(self.path))?;
        self.at += out.len() as u64;
        Ok(())
    }

    fn broken(&self, why: String) -> WeightError {
        WeightError::broken(self.path, why)
    }
}

#[cfg(test)]
#[path = "gguf_tests.rs"]
mod tests;
