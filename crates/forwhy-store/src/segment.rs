//! Append-only records, one a line: `<crc32 of the JSON, 8 hex digits> <JSON>\n`.
//!
//! Plain text, so that `less` and `grep` work on it. A record is there when its line is complete and
//! its checksum fits. A torn last line (the process died while writing) costs that record only, and
//! opening for appending removes it. A damaged line elsewhere is reported with file and offset; the
//! others stay readable.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{FileError, at};

/// Longest accepted record; a longer line is damage, not an allocation.
pub const MAX_RECORD_BYTES: u64 = 64 << 20;

/// A line that holds no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}, byte {offset}: {why}", path = path.display())]
pub struct Damage {
    /// The segment.
    pub path: PathBuf,
    /// Where the line starts.
    pub offset: u64,
    /// What is wrong with it.
    pub why: String,
}

/// What a segment holds.
#[derive(Debug)]
pub struct Records<T> {
    /// The good records in order.
    pub records: Vec<T>,
    /// A last line that was cut off while it was written.
    pub torn: Option<Damage>,
    /// Damaged lines before the last.
    pub damaged: Vec<Damage>,
    /// Bytes up to and including the last complete line.
    end: u64,
}

/// Reads a segment; a file that does not exist is an empty one.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Records<T>, FileError> {
    let mut all = Records { records: Vec::new(), torn: None, damaged: Vec::new(), end: 0 };
    let file = match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(all),
        other => other.map_err(at("open", path))?,
    };
    let mut lines = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limited = &mut std::io::Read::take(&mut lines, MAX_RECORD_BYTES);
        let size = limited.read_until(b'\n', &mut line).map_err(at("read", path))?;
        if size == 0 {
            return Ok(all);
        }
        let bad = |why: &str| Damage { path: path.into(), offset: all.end, why: why.into() };
        match line.strip_suffix(b"\n") {
            None if (size as u64) < MAX_RECORD_BYTES => {
                all.torn = Some(bad("the last record was cut off while it was written"));
                return Ok(all);
            }
            None => all.damaged.push(bad("a line longer than any record")),
            Some(line) => match decode(line) {
                Ok(record) => all.records.push(record),
                Err(why) => all.damaged.push(bad(&why)),
            },
        }
        all.end += size as u64;
    }
}

fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    let (sum, json) = line.split_at_checked(9).ok_or("too short for a record")?;
    if sum != format!("{:08x} ", crc32fast::hash(json)).as_bytes() {
        return Err("the checksum does not fit: the record was changed after it was written".into());
    }
    serde_json::from_slice(json).map_err(|e| format!("the record is of another shape: {e}"))
}

/// Appends records of one type.
pub struct Appender<T> {
    file: File,
    path: PathBuf,
    kind: PhantomData<fn(&T)>,
}

impl<T: Serialize + DeserializeOwned> Appender<T> {
    /// Opens `path` for appending and gives what it holds already. A torn tail is cut off first;
    /// damage elsewhere is left alone and reported.
    pub fn open(path: &Path) -> Result<(Self, Records<T>), FileError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(at("create the folder", folder))?;
        }
        let records = read(path)?;
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).open(path).map_err(at("open", path))?;
        if records.torn.is_some() {
            file.set_len(records.end).map_err(at("cut the torn record off", path))?;
        }
        Ok((Appender { file, path: path.into(), kind: PhantomData }, records))
    }

    /// Appends one record and waits until it is on disk. If it cannot be written whole, the part
    /// that was written is taken back.
    pub fn append(&mut self, record: &T) -> Result<(), FileError> {
        let json = serde_json::to_string(record)
            .map_err(std::io::Error::other)
            .map_err(at("encode a record for", &self.path))?;
        let line = format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
        let before = self.file.metadata().map_err(at("read", &self.path))?.len();
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // Best effort: a part that stays is a torn tail, which the next start removes.
            self.file.set_len(before).ok();
        }
        written.map_err(at("append to", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Items = (Appender<String>, Records<String>);

    fn filled(path: &Path) -> Vec<String> {
        let items: Vec<String> = ["one", "two\nlines", "drei \u{1F980}"].map(String::from).into();
        let (mut out, _): Items = Appender::open(path).unwrap();
        items.iter().for_each(|i| out.append(i).unwrap());
        items
    }

    #[test]
    fn records_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let items = filled(&path);
        assert_eq!(read::<String>(&path).unwrap().records, items);
        assert!(read::<String>(&dir.path().join("none")).unwrap().records.is_empty());
    }

    #[test]
    fn fault_3_a_tear_at_any_byte_costs_only_the_last_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let items = filled(&path);
        let whole = std::fs::read(&path).unwrap();
        let last = whole[..whole.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
        for cut in last..whole.len() {
            crate::atomic::write(&path, &whole[..cut]).unwrap();
            let torn = read::<String>(&path).unwrap();
            assert_eq!(torn.records, items[..2], "cut at {cut}");
            assert_eq!(torn.torn.is_some(), cut > last);
            let (mut out, _): Items = Appender::open(&path).unwrap();
            out.append(&items[2]).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn fault_4_a_flipped_bit_names_file_and_offset_and_spares_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let items = filled(&path);
        let whole = std::fs::read(&path).unwrap();
        let (start, end) = (line_end(&whole, 0), line_end(&whole, 1) - 1);
        for at in start..end {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                crate::atomic::write(&path, &bytes).unwrap();
                let found = read::<String>(&path).unwrap();
                assert_eq!(
                    found.records,
                    [items[0].clone(), items[2].clone()],
                    "byte {at} bit {bit}"
                );
                assert_eq!(found.damaged[0].offset, start as u64);
                assert!(found.damaged[0].to_string().contains(", byte "));
            }
        }
    }

    fn line_end(bytes: &[u8], line: usize) -> usize {
        bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(line).unwrap().0 + 1
    }

    #[test]
    fn fault_5_a_full_disk_is_an_error_that_says_so() {
        let full = Path::new("/dev/full");
        if full.exists() {
            let file = OpenOptions::new().append(true).open(full).unwrap();
            let mut out = Appender { file, path: full.into(), kind: PhantomData };
            let error = out.append(&"x".to_string()).unwrap_err();
            assert!(error.is_full(), "{error}");
        }
    }
}
