//! Blocks of query rows, and the blocks of keys that they see one after another.

use std::iter::once;
use std::ops::Range;

use super::softmax::Mask;
use crate::pack::Span;

/// Scores of a block of query rows and a block of keys: they should stay in the second-level cache.
const SCORES: usize = 1 << 16;

/// When keys are cut into blocks.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// A segment whose rows see at most this many keys has one block of keys.
    pub(super) one_block: usize,
    /// Keys of a block, at most, in a segment whose rows see more.
    pub(super) block: usize,
}

impl Limits {
    /// Measured: blocks of 256 to 1,024 keys are equally fast, these take the least memory of those
    /// that are not many.
    pub(super) const USUAL: Limits = Limits { one_block: 1024, block: 512 };
}

/// Query rows of a block, at most.
pub(super) const BLOCK_ROWS: usize = 128;

/// A block of query rows of a segment.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    span: &'a Span,
    /// Its first row.
    pub(super) row: usize,
    /// Its rows.
    pub(super) n: usize,
    /// Keys of a block, at most.
    keys: usize,
}

/// Query rows and keys of the blocks of a segment, at most.
fn sizes(span: &Span, limits: Limits) -> (usize, usize) {
    let keys = span.context_len + span.rows.len();
    let keys = if keys > limits.one_block { limits.block } else { keys };
    ((SCORES / keys).next_power_of_two().clamp(16, BLOCK_ROWS), keys)
}

impl<'a> Block<'a> {
    /// The blocks of a segment, in order.
    pub(super) fn all(span: &'a Span, limits: Limits) -> impl Iterator<Item = Block<'a>> {
        let (rows, keys) = sizes(span, limits);
        span.rows.clone().step_by(rows).map(move |row| Block {
            span,
            row,
            n: rows.min(span.rows.end - row),
            keys,
        })
    }

    /// Scores of the largest block of a segment and its keys.
    pub(super) fn most_scores(span: &Span, limits: Limits) -> usize {
        let (rows, keys) = sizes(span, limits);
        rows.min(span.rows.len()) * keys
    }

    /// Keys that its last row sees.
    fn width(&self) -> usize {
        self.span.context_len + self.row + self.n - self.span.rows.start
    }

    /// Blocks of its keys, about equal; the last row sees some of each.
    pub(super) fn key_blocks(self) -> impl Iterator<Item = KeyBlock<'a>> {
        let width = self.width();
        let each = width.div_ceil(width.div_ceil(self.keys));
        let columns = (0..width).step_by(each).map(move |at| at..width.min(at + each));
        columns.map(move |columns| KeyBlock { block: self, columns })
    }

    /// Rows of its keys: the ancestors', then its own segment's up to its end, neighbours joined.
    fn key_rows(self) -> impl Iterator<Item = Range<usize>> {
        let own = self.span.rows.start..self.row + self.n;
        let (apart, last) = match self.span.context.split_last() {
            Some((last, apart)) if last.end == own.start => (apart, last.start..own.end),
            _ => (&self.span.context[..], own),
        };
        apart.iter().cloned().chain(once(last))
    }
}

/// A block of keys: some columns of the scores of a block of query rows.
pub(super) struct KeyBlock<'a> {
    pub(super) block: Block<'a>,
    columns: Range<usize>,
}

/// Keys that stand in consecutive rows.
pub(super) struct Piece {
    /// The first one's row.
    pub(super) row: usize,
    /// Their number.
    pub(super) len: usize,
    /// The first one's column within the block of keys.
    pub(super) column: usize,
    /// Whether they are the first keys that the query rows meet.
    pub(super) first: bool,
}

impl KeyBlock<'_> {
    /// Its keys, piece by piece.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> {
        let Range { start, end } = self.columns;
        let mut at = 0;
        self.block.key_rows().filter_map(move |rows| {
            let (from, to) = (at.max(start), (at + rows.len()).min(end));
            let row = rows.start + from - at.min(from);
            at += rows.len();
            (from < to).then(|| Piece {
                row,
                len: to - from,
                column: from - start,
                first: from == 0,
            })
        })
    }

    /// Whether it is the first that the query rows meet.
    pub(super) fn is_first(&self) -> bool {
        self.columns.start == 0
    }

    pub(super) fn mask(&self) -> Mask {
        let seen = self.block.width() + 1 - self.block.n;
        Mask { width: self.columns.len(), before: self.columns.start, seen }
    }
}
