//! Safetensors files: a JSON header with names, types, shapes and offsets, then plain bytes. Nothing
//! in such a file can run. Format: the specification in the safetensors project's README.
//!
//! Reading checks the header's length against the file before memory is taken, and that the tensors
//! fill the data section without overlap or gap. Writing streams, so that a model need not be held
//! twice.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::llama::NamedTensor;
use crate::quant::Dtype;
use crate::weights::{WeightError, check_finite};

/// Longest header that is read: the reference implementation's limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// A file whose header was read and checked.
pub struct Safetensors {
    path: PathBuf,
    file: File,
    /// Free text pairs.
    pub metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Entry>,
    data_at: u64,
}

/// A tensor's line in the header.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Safetensors {
    /// Opens a file and checks its whole header; no tensor is read yet.
    pub fn open(path: &Path) -> Result<Self, WeightError> {
        let broken = |why: String| WeightError::broken(path, why);
        let file = File::open(path).map_err(WeightError::io(path))?;
        let size = file.metadata().map_err(WeightError::io(path))?.len();
        if size < 8 {
            return Err(broken(format!("it has {size} bytes, a header alone needs 8")));
        }
        let mut length = [0; 8];
        file.read_exact_at(&mut length, 0).map_err(WeightError::io(path))?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES || length > size - 8 {
            let why = format!("its header promises {length} bytes, the file has {}", size - 8);
            return Err(broken(why));
        }
        let mut header = vec![0; length as usize];
        file.read_exact_at(&mut header, 8).map_err(WeightError::io(path))?;
        let header: Header =
            serde_json::from_slice(&header).map_err(|e| broken(format!("its header: {e}")))?;
        let data_at = 8 + length;
        check_offsets(&header.tensors, size - data_at).map_err(broken)?;
        let Header { metadata, tensors } = header;
        Ok(Safetensors { path: path.into(), file, metadata, tensors, data_at })
    }

    /// Names of the tensors, in the order of their data.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        names.sort_by_key(|name| self.tensors[*name].data_offsets);
        names
    }

    /// Sizes of a tensor.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|entry| entry.shape.iter().map(|d| *d as usize).collect())
    }

    /// Reads a tensor (F32, F16 or BF16) as f32 into `out`, which must have its number of elements.
    pub fn read(&self, name: &str, out: &mut [f32]) -> Result<(), WeightError> {
        let entry = self
            .tensors
            .get(name)
            .ok_or_else(|| WeightError::NoTensor { path: self.path.clone(), name: name.into() })?;
        let dtype = dtype_of(&entry.dtype).ok_or_else(|| {
            let what =
                format!("tensor {name} has type {}; F32, F16 and BF16 are supported", entry.dtype);
            WeightError::unsupported(&self.path, what)
        })?;
        let (from, to) = entry.data_offsets;
        let bytes = to - from;
        if bytes != (out.len() * dtype.block_bytes()) as u64 {
            let why = format!("tensor {name} has shape {:?}, not the expected one", entry.shape);
            return Err(WeightError::broken(&self.path, why));
        }
        let mut buffer = vec![0; bytes as usize];
        let read = self.file.read_exact_at(&mut buffer, self.data_at + from);
        read.map_err(WeightError::io(&self.path))?;
        dtype.decode(&buffer, out);
        check_finite(&self.path, name, out)
    }

    /// Reads a tensor with its shape.
    pub fn tensor(&self, name: &str) -> Result<NamedTensor, WeightError> {
        let shape = self.shape(name).unwrap_or_default();
        // The header's check bounds this by the file's size.
        let mut values = vec![0.0; shape.iter().product()];
        self.read(name, &mut values)?;
        Ok((name.into(), shape, values))
    }
}

/// Writes tensors as F32. `tensors` gives name, shape and values in the order of the file.
pub fn write(
    out: &mut dyn Write,
    metadata: &BTreeMap<String, String>,
    tensors: &[(&str, &[usize], &[f32])],
) -> io::Result<()> {
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), serde_json::to_value(metadata)?);
    }
    let mut at = 0;
    for (name, shape, values) in tensors {
        let end = at + values.len() * 4;
        if shape.iter().product::<usize>() != values.len() {
            let what = format!("tensor {name} of {shape:?} with {} values", values.len());
            return Err(io::Error::other(what));
        }
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [at, end]});
        if header.insert((*name).into(), entry).is_some() {
            return Err(io::Error::other(format!("tensor {name} is given twice")));
        }
        at = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    // Spaces, so that the data is aligned to 8 bytes as the format demands.
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (_, _, values) in tensors {
        for part in values.chunks(1 << 16) {
            let bytes: Vec<u8> = part.iter().flat_map(|x| x.to_le_bytes()).collect();
            out.write_all(&bytes)?;
        }
    }
    Ok(())
}

fn dtype_of(name: &str) -> Option<Dtype> {
    match name {
        "F32" => Some(Dtype::F32),
        "F16" => Some(Dtype::F16),
        "BF16" => Some(Dtype::Bf16),
        _ => None,
    }
}

/// Bytes of an element of any type of the format; None if the type does not exist.
fn element_bytes(dtype: &str) -> Option<u64> {
    match dtype {
        "F64" | "I64" | "U64" => Some(8),
        "F32" | "I32" | "U32" => Some(4),
        "F16" | "BF16" | "I16" | "U16" => Some(2),
        "BOOL" | "I8" | "U8" | "F8_E4M3" | "F8_E5M2" => Some(1),
        _ => None,
    }
}

/// Every tensor has the bytes that its shape needs; together they fill the data exactly.
fn check_offsets(tensors: &BTreeMap<String, Entry>, data: u64) -> Result<(), String> {
    let mut spans: Vec<(u64, u64, &str)> = Vec::new();
    for (name, entry) in tensors {
        let (from, to) = entry.data_offsets;
        let size = element_bytes(&entry.dtype)
            .ok_or_else(|| format!("tensor {name} has unknown type {:?}", entry.dtype))?;
        let bytes = entry.shape.iter().try_fold(size, |n, d| n.checked_mul(*d));
        if from > to || to > data || bytes != Some(to - from) {
            return Err(format!(
                "tensor {name} of {:?} {} lies at {from}..{to} of {data} bytes of data",
                entry.shape, entry.dtype
            ));
        }
        spans.push((from, to, name));
    }
    spans.sort_unstable();
    let mut end = 0;
    for (from, to, name) in spans {
        if from != end {
            return Err(format!("tensor {name} begins at {from}, the one before it ends at {end}"));
        }
        end = to;
    }
    if end != data {
        return Err(format!("its tensors end at {end} of {data} bytes of data"));
    }
    Ok(())
}

/// The header; a name that occurs twice is an error.
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Entry>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a tensor for each name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header { metadata: BTreeMap::new(), tensors: BTreeMap::new() };
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        header.metadata = map.next_value()?;
                    } else if header.tensors.insert(name.clone(), map.next_value()?).is_some() {
                        return Err(serde::de::Error::custom(format!(
                            "tensor {name} occurs twice"
                        )));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forwhy_store::atomic;

    /// Writes a file of `header` and `data`, opens it and gives the error.
    fn refused(length: Option<u64>, header: &str, data: usize) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let mut bytes = length.unwrap_or(header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        atomic::write(&path, &bytes).unwrap();
        Safetensors::open(&path).map(|_| ()).unwrap_err().to_string()
    }

    fn tensor(name: &str, shape: &str, from: u64, to: u64) -> String {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
        let (a, b) = ([1.0, -2.5, 3.0, 0.0, 1e-30, 6.0], [f32::MIN_POSITIVE]);
        let tensors: [(&str, &[usize], &[f32]); 2] = [("z", &[2, 3], &a), ("b", &[1], &b)];
        atomic::write_with(&path, |out| write(out, &metadata, &tensors)).unwrap();
        let file = Safetensors::open(&path).unwrap();
        assert_eq!(file.metadata, metadata);
        assert_eq!(file.names(), ["z", "b"]);
        assert_eq!(file.tensor("z").unwrap(), ("z".into(), vec![2, 3], a.to_vec()));
        assert!(file.tensor("y").unwrap_err().to_string().contains("no tensor y"));
        assert!(file.read("z", &mut [0.0; 5]).unwrap_err().to_string().contains("shape [2, 3]"));
    }

    #[test]
    fn fault_39_a_header_of_2_to_the_63_is_refused_before_memory_is_taken() {
        let why = refused(Some(1 << 63), "{}", 16);
        assert!(why.contains("promises 9223372036854775808 bytes, the file has 18"), "{why}");
        assert!(refused(Some(19), "{}", 16).contains("promises 19"));
    }

    #[test]
    fn fault_39_overlapping_or_outlying_tensors_are_refused() {
        let two = |a: String, b: String| format!("{{{a},{b}}}");
        let overlap = two(tensor("a", "[2]", 0, 8), tensor("b", "[2]", 4, 12));
        assert!(refused(None, &overlap, 12).contains("begins at 4, the one before it ends at 8"));
        let gap = two(tensor("a", "[2]", 0, 8), tensor("b", "[1]", 12, 16));
        assert!(refused(None, &gap, 16).contains("begins at 12"));
        let outside = format!("{{{}}}", tensor("a", "[4]", 0, 16));
        assert!(refused(None, &outside, 12).contains("lies at 0..16 of 12 bytes"));
        assert!(refused(None, &outside, 20).contains("end at 16 of 20"));
        let wraps = format!("{{{}}}", tensor("a", "[4294967296,4294967296,4]", 0, 0));
        assert!(refused(None, &wraps, 0).contains("lies at 0..0"));
        let backwards = format!("{{{}}}", tensor("a", "[0]", 8, 0));
        assert!(refused(None, &backwards, 8).contains("lies at 8..0"));
        let twice = two(tensor("a", "[1]", 0, 4), tensor("a", "[1]", 4, 8));
        assert!(refused(None, &twice, 8).contains("tensor a occurs twice"));
        assert!(refused(None, "{", 0).contains("its header: EOF"));
        let odd = r#"{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}"#;
        assert!(refused(None, odd, 4).contains("unknown type"));
    }

    #[test]
    fn fault_39_weights_that_are_no_numbers_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let bad: [(&str, &[usize], &[f32]); 1] = [("w", &[2], &[1.0, f32::NAN])];
        atomic::write_with(&path, |out| write(out, &BTreeMap::new(), &bad)).unwrap();
        let error = Safetensors::open(&path).unwrap().tensor("w").unwrap_err().to_string();
        assert!(error.contains("element 1 of tensor w is NaN"), "{error}");
    }
}
