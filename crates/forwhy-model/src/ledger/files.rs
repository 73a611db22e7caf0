//! Numbered segments of one kind in a folder: `<stem>-00001.seg` and so on. The last is appended to;
//! when it is large a new one begins.

use std::path::{Path, PathBuf};

use forwhy_store::FileError;
use forwhy_store::log::{Log, Syncer};
use forwhy_store::segment::{self, Damage, Tail};

use super::event::Place;

/// A new segment begins behind this many bytes, so that files stay easy to copy and to check.
const ROLL_BYTES: u64 = 256 << 20;

/// Takes a record's place and JSON; an error says why it is none.
pub(super) type EachRecord<'a> = dyn FnMut(Place, &[u8]) -> Result<(), String> + 'a;

/// What a walk met that is no good record.
#[derive(Debug, Default)]
pub struct Found {
    /// The last record of the last segment was cut off while it was written.
    pub torn: Option<Damage>,
    /// Damaged lines.
    pub damaged: Vec<Damage>,
}

impl Found {
    /// A torn line in a segment that is not the last is damage like any other: it was whole once.
    fn take(&mut self, tail: Tail, is_last: bool) {
        self.damaged.extend(tail.damaged);
        match tail.torn {
            Some(torn) if is_last => self.torn = Some(torn),
            Some(torn) => self.damaged.push(torn),
            None => {}
        }
    }
}

/// Path of a segment.
pub(super) fn path(folder: &Path, stem: &str, number: u32) -> PathBuf {
    folder.join(format!("{stem}-{number:05}.seg"))
}

/// Numbers of the segments that are there, ascending.
fn numbers(folder: &Path, stem: &str) -> Result<Vec<u32>, FileError> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(".seg")?.parse().ok()
    };
    let mut numbers: Vec<u32> = forwhy_store::list(folder)?.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Gives `each` all records from `from` on (all, if absent), in order.
pub(super) fn visit(
    folder: &Path,
    stem: &str,
    from: Option<Place>,
    each: &mut EachRecord,
) -> Result<Found, FileError> {
    let mut found = Found::default();
    let first = from.map_or(0, Place::number);
    let numbers: Vec<u32> =
        numbers(folder, stem)?.into_iter().filter(|number| *number >= first).collect();
    for number in &numbers {
        let offset = from.filter(|from| from.number() == *number).map_or(0, Place::offset);
        let tail = segment::visit(&path(folder, stem, *number), offset, &mut |offset, json| {
            each(Place::new(*number, offset).ok_or("the segment is too long")?, json)
        })?;
        found.take(tail, Some(number) == numbers.last());
    }
    Ok(found)
}

/// Segments that are appended to.
#[derive(Debug)]
pub(super) struct Segments {
    folder: PathBuf,
    stem: &'static str,
    number: u32,
    log: Log,
}

impl Segments {
    /// Opens the last segment (or makes the first) after giving `each` all records from `from` on.
    pub(super) fn open(
        folder: &Path,
        stem: &'static str,
        from: Option<Place>,
        each: &mut EachRecord,
    ) -> Result<(Segments, Found), FileError> {
        let mut found = visit(folder, stem, from, each)?;
        let number = numbers(folder, stem)?.last().copied().unwrap_or(1);
        // The walk above has read it all; opening reads only what follows its last whole line.
        let last = path(folder, stem, number);
        let from = found
            .torn
            .as_ref()
            .map_or_else(|| last.metadata().map_or(0, |file| file.len()), |torn| torn.offset);
        let (log, tail) = Log::open(&last, from, &mut |_, _| Ok(()))?;
        found.torn = tail.torn.or(found.torn);
        Ok((Segments { folder: folder.into(), stem, number, log }, found))
    }

    /// Appends lines; gives the segment's number and the offset of the first line.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(u32, u64), FileError> {
        if self.log.end() >= ROLL_BYTES {
            self.log.syncer()?.sync()?;
            let next = path(&self.folder, self.stem, self.number + 1);
            self.log = Log::open(&next, 0, &mut |_, _| Ok(()))?.0;
            self.number += 1;
        }
        Ok((self.number, self.log.write(lines)?))
    }

    /// Where the next record will stand.
    pub(super) fn end(&self) -> Option<Place> {
        Place::new(self.number, self.log.end())
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn syncer(&self) -> Result<Syncer, FileError> {
        self.log.syncer()
    }
}
