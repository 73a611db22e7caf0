//! Append-only records, one a line: `<crc32 of the JSON, 8 hex digits> <JSON>\n`.
//!
//! Plain text, so that `less` and `grep` work on it. A record is there when its line is complete and
//! its checksum fits. A torn last line (the process died while writing) costs that record only, and
//! opening for appending removes it. A damaged line elsewhere is reported with file and offset; the
//! others stay readable, also those that a damaged line break has merged into one line.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{FileError, at, atomic};

/// Longest accepted record; a longer line is damage, not an allocation.
pub const MAX_RECORD_BYTES: u64 = 64 << 20;
/// Bytes of a checksum and the space behind it.
const SUM_BYTES: usize = 9;
/// Places in a damaged line, from its end, where a record is looked for.
const MAX_STARTS: usize = 256;

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
}

/// What a walk through a segment met besides good records.
#[derive(Debug, Default)]
pub struct Tail {
    /// A last line that was cut off while it was written.
    pub torn: Option<Damage>,
    /// Damaged lines before the last.
    pub damaged: Vec<Damage>,
    /// Bytes up to and including the last complete line.
    pub end: u64,
    /// The last line is whole but for its line break, which was changed.
    pub(crate) bad_break: bool,
}

/// Takes a record's offset and JSON; an error says why it is none.
pub type Each<'a> = dyn FnMut(u64, &[u8]) -> Result<(), String> + 'a;

/// Reads a segment; a file that does not exist is an empty one.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Records<T>, FileError> {
    let mut records = Vec::new();
    let tail = visit(path, 0, &mut |_, json| {
        records.push(parse(json)?);
        Ok(())
    })?;
    Ok(Records { records, torn: tail.torn, damaged: tail.damaged })
}

/// Gives `each` the records from byte `from` on (the start of a line) one by one, so that a segment
/// of any size needs the memory of one record. A file that does not exist is an empty one.
pub fn visit(path: &Path, from: u64, each: &mut Each) -> Result<Tail, FileError> {
    let mut tail = Tail { end: from, ..Tail::default() };
    let mut file = match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(tail),
        other => other.map_err(at("open", path))?,
    };
    file.seek(SeekFrom::Start(from)).map_err(at("read", path))?;
    let mut lines = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limited = &mut std::io::Read::take(&mut lines, MAX_RECORD_BYTES);
        let size = limited.read_until(b'\n', &mut line).map_err(at("read", path))?;
        if size == 0 {
            return Ok(tail);
        }
        let start = tail.end;
        let bad = |why: &str| Damage { path: path.into(), offset: start, why: why.into() };
        match line.strip_suffix(b"\n") {
            None if (size as u64) < MAX_RECORD_BYTES => {
                let whole = &line[..size - 1];
                if !merged(whole).is_empty() {
                    tail.bad_break = true;
                    tail.take_merged(whole, bad("its line break was changed"), each);
                    return Ok(tail);
                }
                tail.torn = Some(bad("the last record was cut off while it was written"));
                return Ok(tail);
            }
            None => tail.damaged.push(bad("a line longer than any record")),
            Some(line) => match checked(line).and_then(|json| each(start, json)) {
                Ok(()) => {}
                Err(why) => tail.take_merged(line, bad(&why), each),
            },
        }
        tail.end += size as u64;
    }
}

impl Tail {
    /// Reports a damaged line, and keeps the records that stand in it whole.
    fn take_merged(&mut self, line: &[u8], damage: Damage, each: &mut Each) {
        let start = damage.offset;
        self.damaged.push(damage);
        for record in merged(line) {
            let offset = start + (record.as_ptr() as usize - line.as_ptr() as usize) as u64;
            // One of another shape lies in the line that is reported already.
            checked(record).and_then(|json| each(offset, json)).ok();
        }
    }
}

/// The whole records in a line that is none itself: if a line break is changed, two lines become
/// one, and the byte between is no part of either.
fn merged(line: &[u8]) -> Vec<&[u8]> {
    let is_sum = |at: &usize| {
        let (digits, space) = line[*at..*at + SUM_BYTES].split_at(SUM_BYTES - 1);
        space == b" " && digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let starts = (0..(line.len() + 1).saturating_sub(SUM_BYTES)).rev().filter(is_sum);
    let (mut found, mut end) = (Vec::new(), line.len());
    for at in starts.take(MAX_STARTS) {
        if at + SUM_BYTES < end && checked(&line[at..end]).is_ok() {
            found.push(&line[at..end]);
            end = at.saturating_sub(1);
        }
    }
    found.reverse();
    found
}

/// The JSON of a record whose checksum fits.
pub(crate) fn checked(line: &[u8]) -> Result<&[u8], String> {
    let (sum, json) = line.split_at_checked(SUM_BYTES).ok_or("too short for a record")?;
    if sum != sum_of(json) {
        return Err("the checksum does not fit: the record was changed after it was written".into());
    }
    Ok(json)
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|e| format!("the record is of another shape: {e}"))
}

/// The checksum of a record as its line begins with it: eight hexadecimal digits and a space.
fn sum_of(json: &[u8]) -> [u8; SUM_BYTES] {
    let sum = crc32fast::hash(json);
    let mut text = [b' '; SUM_BYTES];
    for (i, digit) in text[..SUM_BYTES - 1].iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(sum >> (28 - 4 * i)) as usize & 15];
    }
    text
}

/// Puts a record as its line behind `out`. One that would be longer than [`MAX_RECORD_BYTES`], and so
/// could not be read again, is refused, and `out` stays as it was.
pub fn push_line<T: Serialize>(out: &mut Vec<u8>, record: &T) -> std::io::Result<()> {
    push_line_within(out, record, MAX_RECORD_BYTES)
}

fn push_line_within<T: Serialize>(
    out: &mut Vec<u8>,
    record: &T,
    limit: u64,
) -> std::io::Result<()> {
    let start = out.len();
    out.extend_from_slice(&[b' '; SUM_BYTES]);
    let encoded = serde_json::to_writer(&mut *out, record);
    out.push(b'\n');
    let size = out.len() - start;
    if encoded.is_err() || size as u64 > limit {
        out.truncate(start);
        encoded?;
        let why = format!("a record of {size} bytes, at most {limit} are read again");
        return Err(std::io::Error::other(why));
    }
    let (sum, json) = out[start..].split_at_mut(SUM_BYTES);
    sum.copy_from_slice(&sum_of(&json[..json.len() - 1]));
    Ok(())
}

/// Appends records of one type.
pub struct Appender<T> {
    file: File,
    path: PathBuf,
    kind: PhantomData<fn(&T)>,
}

impl<T: Serialize + DeserializeOwned> Appender<T> {
    /// Opens `path` for appending and gives what it holds already. A torn tail is cut off first, and
    /// a changed line break at the end restored; damage elsewhere is left alone and reported.
    pub fn open(path: &Path) -> Result<(Self, Records<T>), FileError> {
        let mut records = Vec::new();
        let (file, tail) = open_to_append(path, 0, &mut |_, json| {
            records.push(parse(json)?);
            Ok(())
        })?;
        let found = Records { records, torn: tail.torn, damaged: tail.damaged };
        Ok((Appender { file, path: path.into(), kind: PhantomData }, found))
    }

    /// Appends one record and waits until it is on disk. One that is too long to be read again is
    /// refused. If it cannot be written whole, the part
    /// that was written is taken back.
    pub fn append(&mut self, record: &T) -> Result<(), FileError> {
        let mut line = Vec::new();
        push_line(&mut line, record).map_err(at("encode a record for", &self.path))?;
        let before = self.file.metadata().map_err(at("read", &self.path))?.len();
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // Best effort: a part that stays is a torn tail, which the next start removes.
            self.file.set_len(before).ok();
        }
        written.map_err(at("append to", &self.path))
    }
}

/// Opens a segment for appending after a walk from byte `from` on: a torn tail is cut off, and a
/// changed line break at the end restored.
pub(crate) fn open_to_append(
    path: &Path,
    from: u64,
    each: &mut Each,
) -> Result<(File, Tail), FileError> {
    let folder = atomic::parent(path);
    std::fs::create_dir_all(folder).map_err(at("create the folder", folder))?;
    let tail = visit(path, from, each)?;
    let is_new = !path.exists();
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).open(path).map_err(at("open", path))?;
    if tail.torn.is_some() {
        file.set_len(tail.end).map_err(at("cut the torn record off", path))?;
    }
    if tail.bad_break {
        restore_break(path).map_err(at("restore the last line break of", path))?;
    }
    if is_new {
        // Else a crash may take the whole file with all its synced records.
        atomic::sync_folder(folder)?;
    }
    Ok((file, tail))
}

/// Puts a line break in the place of the last byte.
fn restore_break(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let last = file.metadata()?.len().saturating_sub(1);
    file.write_all_at(b"\n", last)?;
    file.sync_data()
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

    #[test]
    fn fault_4_a_changed_line_break_costs_no_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let items = filled(&path);
        let whole = std::fs::read(&path).unwrap();
        for line in 0..3 {
            for other in [b'\x0b', b'a', b'0', b' ', b'"', 0xff] {
                let mut bytes = whole.clone();
                bytes[line_end(&whole, line) - 1] = other;
                crate::atomic::write(&path, &bytes).unwrap();
                let (mut out, found): Items = Appender::open(&path).unwrap();
                assert_eq!(found.records, items, "line {line}, byte {other}");
                assert_eq!((found.damaged.len(), found.torn), (1, None));
                out.append(&items[0]).unwrap();
                let again = read::<String>(&path).unwrap();
                assert_eq!(again.records, [&items[..], &items[..1]].concat());
                assert_eq!(again.damaged.is_empty(), line == 2, "the last break is restored");
            }
        }
    }

    #[test]
    fn a_record_that_could_not_be_read_again_is_refused() {
        let mut line = b"before".to_vec();
        let error = push_line_within(&mut line, &"abc", 14).unwrap_err();
        assert!(error.to_string().contains("15 bytes, at most 14"));
        assert_eq!(line, b"before");
        push_line_within(&mut line, &"abc", 15).unwrap();
        assert_eq!(line.len(), 6 + 15);
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
