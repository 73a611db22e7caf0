//! Keys and values of the tokens that a sequence has read, by block, in pages that never move.
//!
//! A page holds [`PAGE`] rows. For each key/value head it has the keys, transposed (`[d, PAGE]`, so
//! that scores of many keys are computed at once), then the values (`[dp / WIDE, PAGE, WIDE]`, where
//! dp is d rounded up to a multiple of [`WIDE`]).

use crate::shape::Shape;

/// Rows of a page.
pub(super) const PAGE: usize = 32;
/// Outputs that are summed at once: rows of values are padded to a multiple.
pub(super) const WIDE: usize = 32;

/// Cached rows, by block.
pub(crate) struct Cache(Vec<Pages>);

/// The rows of one block.
#[derive(Default)]
pub(super) struct Pages {
    pages: Vec<Box<[f32]>>,
    rows: usize,
}

/// Keys and values of one head in a page.
#[derive(Clone, Copy)]
pub(super) struct Page<'a> {
    /// `[d, PAGE]`
    pub(super) keys: &'a [f32],
    /// `[dp / WIDE, PAGE, WIDE]`
    pub(super) values: &'a [f32],
    /// Rows that are written.
    pub(super) rows: usize,
}

/// Elements of a head's keys and of its values in a page.
fn sizes(shape: &Shape) -> (usize, usize) {
    (shape.head_dim * PAGE, PAGE * padded(shape.head_dim))
}

/// Length of a row of values: dp.
pub(super) fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(WIDE)
}

impl Cache {
    /// Of no rows yet.
    pub(crate) fn new(shape: &Shape) -> Self {
        let none = |_| Pages::default();
        Cache((0..shape.layers).map(none).collect())
    }

    /// Adds the keys and values of rows of q, k, v of block `block`.
    pub(crate) fn push(&mut self, shape: &Shape, block: usize, qkv: &[f32]) {
        for row in qkv.chunks_exact(shape.qkv_width()) {
            self.0[block].push(shape, &row[shape.attention_width()..]);
        }
    }

    pub(super) fn of(&self, block: usize) -> &Pages {
        &self.0[block]
    }
}

impl Pages {
    /// Adds a row `[k heads | v heads]`.
    fn push(&mut self, shape: &Shape, row: &[f32]) {
        let ((keys, values), d) = (sizes(shape), shape.head_dim);
        let at = self.rows % PAGE;
        if at == 0 {
            self.pages.push(vec![0f32; (keys + values) * shape.kv_heads].into_boxed_slice());
        }
        self.rows += 1;
        let Some(page) = self.pages.last_mut() else { return };
        let (k, v) = row.split_at(shape.kv_heads * d);
        let heads = page.chunks_exact_mut(keys + values);
        for ((head, k), v) in heads.zip(k.chunks_exact(d)).zip(v.chunks_exact(d)) {
            let (keys, values) = head.split_at_mut(keys);
            for (column, k) in keys.chunks_exact_mut(PAGE).zip(k) {
                column[at] = *k;
            }
            for (column, v) in values.chunks_exact_mut(PAGE * WIDE).zip(v.chunks(WIDE)) {
                column[at * WIDE..][..v.len()].copy_from_slice(v);
            }
        }
    }

    /// The pages, as key/value head `head` sees them.
    pub(super) fn head<'a>(
        &'a self,
        shape: &Shape,
        head: usize,
    ) -> impl Iterator<Item = Page<'a>> + use<'a> {
        let ((keys, values), rows) = (sizes(shape), self.rows);
        self.pages.iter().enumerate().map(move |(index, page)| {
            let page = &page[head * (keys + values)..][..keys + values];
            let (keys, values) = page.split_at(keys);
            Page { keys, values, rows: PAGE.min(rows - index * PAGE) }
        })
    }
}
