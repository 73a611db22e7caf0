//! Causal grouped-query attention over the segments of a pack, forward and backward, in blocks of
//! query rows and blocks of keys.
//!
//! 1. A block of query rows meets its keys block by block ([`block`]); the scores of two blocks stay in
//!    cache, and nothing of size t x t is stored. Up to 1,024 keys are one block.
//! 2. Forward, the softmax runs over the blocks of keys ([`softmax`]), and what was summed of the output
//!    shrinks with it; the log-sum-exp of each row is kept.
//! 3. Backward, the same blocks: their scores are rebuilt from the log-sum-exp (Dao et al. 2022).
//!
//! A unit of parallel work is, forward, a segment and a key/value head; backward, a whole tree of
//! segments, which add to the same dk and dv: so sums do not depend on the number of threads.
#![allow(unsafe_code, reason = "units write to interleaved columns of shared matrices")]

mod block;
mod softmax;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use self::block::{BLOCK_ROWS, Block, KeyBlock, Piece};
use self::softmax::{RowGradient, Running, dot_row, scale_row, softmax_block, softmax_gradient};
use crate::buffer::Shared;
use crate::linear::{Mat, MatMut, Split, multiply};
use crate::pack::Rows;
use crate::shape::Shape;
use crate::threads::PerThread;

/// Sizes of the attention of a model.
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    heads: usize,
    kv_heads: usize,
    d: usize,
}

/// What the backward pass reads.
#[derive(Clone, Copy)]
pub(crate) struct Kept<'a> {
    /// Turned q, k, v.
    pub(crate) qkv: &'a [f32],
    /// Output of the forward pass.
    pub(crate) out: &'a [f32],
    /// Log-sum-exp of each row and head.
    pub(crate) lse: &'a [f32],
}

/// `rows` rows of `cols` elements, `step` apart.
///
/// # Safety
/// They belong to the caller's unit alone.
unsafe fn view<'a>(
    shared: &'a Shared,
    at: usize,
    rows: usize,
    cols: usize,
    step: usize,
) -> MatMut<'a> {
    // SAFETY: exclusive by the caller's promise; the check of the bounds is in `at`.
    unsafe { MatMut::at(shared.at(at, (rows - 1) * step + cols), rows, cols, step) }
}

impl Attention {
    pub(crate) fn new(shape: &Shape) -> Self {
        Attention { heads: shape.heads, kv_heads: shape.kv_heads, d: shape.head_dim }
    }

    /// qkv[r, (n+2k)d]: rows `[q heads | k heads | v heads]`, turned. out[r, nd]. lse[r, n].
    pub(crate) fn forward(
        self,
        rows: &Rows,
        qkv: &[f32],
        out: &mut [f32],
        lse: &mut [f32],
        scratch: &mut PerThread,
    ) {
        scratch.reserve(largest_block(rows));
        let (out, lse) = (Shared::new(out), Shared::new(lse));
        self.units(rows.spans.len()).for_each(|(span, group)| {
            scratch.with(|scores| {
                self.each_block(rows, &[span], group, |block, head| {
                    self.forward_block((block, head), qkv, scores, (&out, &lse));
                });
            });
        });
    }

    /// dqkv[r, (n+2k)d] becomes the gradient with respect to the turned q, k and v.
    pub(crate) fn backward(
        self,
        rows: &Rows,
        kept: Kept,
        dout: &[f32],
        dqkv: &mut [f32],
        scratch: &mut PerThread,
    ) {
        let scores = largest_block(rows);
        scratch.reserve(2 * scores);
        dqkv.fill(0.0);
        let dqkv = Shared::new(dqkv);
        self.units(rows.trees.len()).for_each(|(tree, group)| {
            scratch.with(|scratch| {
                let (p, ds) = scratch.split_at_mut(scores);
                self.each_block(rows, &rows.trees[tree], group, |block, head| {
                    self.backward_block((block, head), kept, dout, (&mut *p, &mut *ds), &dqkv);
                });
            });
        });
    }

    /// Each of `parts` with each key/value head.
    fn units(self, parts: usize) -> impl ParallelIterator<Item = (usize, usize)> {
        let kv_heads = self.kv_heads;
        (0..parts * kv_heads)
            .into_par_iter()
            .with_max_len((parts * kv_heads).div_ceil(16 * rayon::current_num_threads()))
            .map(move |unit| (unit / kv_heads, unit % kv_heads))
    }

    /// Calls `work` with every block of segments and each query head of key/value head `group`.
    fn each_block(
        self,
        rows: &Rows,
        spans: &[usize],
        group: usize,
        mut work: impl FnMut(Block, usize),
    ) {
        let share = self.share();
        for block in spans.iter().flat_map(|span| Block::all(&rows.spans[*span])) {
            (group * share..(group + 1) * share).for_each(|head| work(block, head));
        }
    }

    fn forward_block(
        self,
        (block, head): (Block, usize),
        qkv: &[f32],
        scores: &mut [f32],
        (out, lse): (&Shared, &Shared),
    ) {
        let (n, d, step) = (block.n, self.d, self.out_width());
        let at = |row: usize| (block.row + row) * step + head * d;
        let q = self.q(qkv, &block, head);
        let mut running = [Running::START; BLOCK_ROWS];
        let running = &mut running[..n];
        for keys in block.key_blocks() {
            let mask = keys.mask();
            let p = &mut scores[..n * mask.width];
            self.scores(&keys, q, qkv, self.k_at(head), p);
            softmax_block(p, mask, self.scale(), running);
            for (i, row) in running.iter().enumerate().filter(|_| !keys.is_first()) {
                // SAFETY: these rows and columns of the output belong to this unit's segment and heads.
                scale_row(unsafe { out.slice(at(i), d) }, row.shrink);
            }
            for Piece { row, len, column, first } in keys.pieces() {
                let p = Mat::new(&p[column..], n, len, mask.width);
                // SAFETY: as above.
                let dst = unsafe { view(out, at(0), n, d, step) };
                let v = self.kv(qkv, row, len, self.v_at(head));
                multiply(dst, !first, 1.0, p, v, Split::No);
            }
        }
        for (i, row) in running.iter().enumerate() {
            // SAFETY: as above.
            scale_row(unsafe { out.slice(at(i), d) }, 1.0 / row.sum);
            // SAFETY: as above, for the log-sum-exp of these rows and heads.
            let lse = unsafe { lse.slice((block.row + i) * self.heads + head, 1) };
            lse[0] = row.log_sum_exp();
        }
    }

    fn backward_block(
        self,
        (block, head): (Block, usize),
        kept: Kept,
        dout: &[f32],
        (p, ds): (&mut [f32], &mut [f32]),
        dqkv: &Shared,
    ) {
        let (n, d, step) = (block.n, self.d, self.qkv_width());
        let (k_at, v_at) = (self.k_at(head), self.v_at(head));
        let rows = self.row_gradients((block, head), kept, dout);
        let q = self.q(kept.qkv, &block, head);
        let out_at = block.row * self.out_width() + head * d;
        let dout = Mat::new(&dout[out_at..], n, d, self.out_width());
        for keys in block.key_blocks() {
            let mask = keys.mask();
            let (p, ds) = (&mut p[..n * mask.width], &mut ds[..n * mask.width]);
            self.scores(&keys, q, kept.qkv, k_at, p);
            self.scores(&keys, dout, kept.qkv, v_at, ds);
            softmax_gradient(p, ds, mask, self.scale(), &rows[..n]);
            for Piece { row, len, column, first } in keys.pieces() {
                let p = Mat::new(&p[column..], n, len, mask.width);
                let ds = Mat::new(&ds[column..], n, len, mask.width);
                // SAFETY: the three places lie in rows of this unit's tree: q columns of one of its
                // query heads, k and v columns of its key/value head. They are taken one at a time.
                let to = |row: usize, column: usize, rows: usize| unsafe {
                    view(dqkv, row * step + column, rows, d, step)
                };
                let k = self.kv(kept.qkv, row, len, k_at);
                multiply(to(block.row, head * d, n), !first, 1.0, ds, k, Split::No);
                multiply(to(row, k_at, len), true, 1.0, ds.t(), q, Split::No);
                multiply(to(row, v_at, len), true, 1.0, p.t(), dout, Split::No);
            }
        }
    }

    /// Of the rows of a block, and of nothing behind them.
    fn row_gradients(
        self,
        (block, head): (Block, usize),
        kept: Kept,
        dout: &[f32],
    ) -> [RowGradient; BLOCK_ROWS] {
        let mut rows = [RowGradient::default(); BLOCK_ROWS];
        for (row, gradient) in (block.row..block.row + block.n).zip(&mut rows) {
            let at = row * self.out_width() + head * self.d;
            let along = dot_row(&dout[at..][..self.d], &kept.out[at..][..self.d]);
            *gradient = RowGradient { lse: kept.lse[row * self.heads + head], along };
        }
        rows
    }

    /// scores[n, keys] = left[n,d] times the keys' (or values') columns of qkv at `column`.
    fn scores(self, keys: &KeyBlock, left: Mat, qkv: &[f32], column: usize, scores: &mut [f32]) {
        let (n, width) = (keys.block.n, keys.mask().width);
        for piece in keys.pieces() {
            let right = self.kv(qkv, piece.row, piece.len, column).t();
            let dst = MatMut::new(&mut scores[piece.column..], n, piece.len, width);
            multiply(dst, false, 1.0, left, right, Split::No);
        }
    }

    fn q<'a>(self, qkv: &'a [f32], block: &Block, head: usize) -> Mat<'a> {
        let step = self.qkv_width();
        Mat::new(&qkv[block.row * step + head * self.d..], block.n, self.d, step)
    }

    fn kv(self, qkv: &[f32], row: usize, len: usize, column: usize) -> Mat<'_> {
        let step = self.qkv_width();
        Mat::new(&qkv[row * step + column..], len, self.d, step)
    }

    /// Query heads that share a key/value head.
    fn share(self) -> usize {
        self.heads / self.kv_heads
    }

    fn k_at(self, head: usize) -> usize {
        (self.heads + head / self.share()) * self.d
    }

    fn v_at(self, head: usize) -> usize {
        self.k_at(head) + self.kv_heads * self.d
    }

    fn qkv_width(self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.d
    }

    fn out_width(self) -> usize {
        self.heads * self.d
    }

    fn scale(self) -> f32 {
        1.0 / (self.d as f32).sqrt()
    }
}

/// Scores of the largest block of a pack.
fn largest_block(rows: &Rows) -> usize {
    rows.spans.iter().map(Block::most_scores).max().unwrap_or(0)
}
