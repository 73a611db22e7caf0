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

use self::block::{BLOCK_ROWS, Block, KeyBlock, Limits, Piece};
use self::softmax::{RowGradient, Running, dot_row, scale_row, softmax_block, softmax_gradient};
use crate::buffer::{Buf, Shared};
use crate::kernels::Kernels;
use crate::linear::{Mat, MatMut, Split};
use crate::pack::Rows;
use crate::shape::Shape;
use crate::threads::{PART_ROWS, PerThread};

/// Sizes of the attention of a model.
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    heads: usize,
    kv_heads: usize,
    d: usize,
    limits: Limits,
    kernels: Kernels,
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

/// Memory of attention, kept from one call to the next.
pub(crate) struct Scratch {
    /// Scores of the blocks at work.
    scores: PerThread,
    /// Keys and values head by head, `[2k, r, d]`: in qkv their rows lie too far apart for the caches.
    kv: Buf,
    /// Their gradients.
    dkv: Buf,
}

impl Scratch {
    pub(crate) fn empty() -> Self {
        Scratch { scores: PerThread::default(), kv: Buf::zeroed(0), dkv: Buf::zeroed(0) }
    }
}

/// The first `len` elements of a buffer, which grows if it is shorter.
fn reach(buf: &mut Buf, len: usize) -> &mut [f32] {
    if buf.len() < len {
        *buf = Buf::zeroed(len);
    }
    &mut buf[..len]
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
    pub(crate) fn new(shape: &Shape, kernels: Kernels) -> Self {
        let (heads, kv_heads, d) = (shape.heads, shape.kv_heads, shape.head_dim);
        Attention { heads, kv_heads, d, limits: Limits::USUAL, kernels }
    }

    /// qkv[r, (n+2k)d]: rows `[q heads | k heads | v heads]`, turned. out[r, nd]. lse[r, n].
    pub(crate) fn forward(
        self,
        rows: &Rows,
        qkv: &[f32],
        out: &mut [f32],
        lse: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let Scratch { scores, kv, .. } = scratch;
        scores.reserve(self.largest_block(rows));
        let kv = self.gather(qkv, reach(kv, self.kv_len(rows)));
        let (out, lse) = (Shared::new(out), Shared::new(lse));
        self.units(rows.spans.len()).for_each(|(span, group)| {
            scores.with(|scores| {
                self.each_block(rows, &[span], group, |block, head| {
                    self.forward_block((block, head), (qkv, kv), scores, (&out, &lse));
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
        scratch: &mut Scratch,
    ) {
        let Scratch { scores, kv, dkv } = scratch;
        let largest = self.largest_block(rows);
        scores.reserve(2 * largest);
        let kv = self.gather(kept.qkv, reach(kv, self.kv_len(rows)));
        let dkv = reach(dkv, self.kv_len(rows));
        dkv.fill(0.0);
        let (dq, sums) = (Shared::new(dqkv), Shared::new(dkv));
        self.units(rows.trees.len()).for_each(|(tree, group)| {
            scores.with(|scores| {
                let (p, ds) = scores.split_at_mut(largest);
                self.each_block(rows, &rows.trees[tree], group, |block, head| {
                    let written = (&dq, &sums);
                    self.backward_block((block, head), (kept, kv), dout, (p, ds), written);
                });
            });
        });
        self.scatter(dkv, dqkv);
    }

    /// kv[2k, r, d] from qkv[r, (n+2k)d].
    fn gather<'a>(self, qkv: &[f32], kv: &'a mut [f32]) -> &'a [f32] {
        let (step, d) = (self.qkv_width(), self.d);
        let heads = kv.par_chunks_mut(qkv.len() / step * d).enumerate();
        heads.for_each(|(head, kv)| {
            let at = (self.heads + head) * d;
            for (to, from) in kv.chunks_exact_mut(d).zip(qkv.chunks_exact(step)) {
                to.copy_from_slice(&from[at..at + d]);
            }
        });
        kv
    }

    /// The k and v of dqkv[r, (n+2k)d] from dkv[2k, r, d].
    fn scatter(self, dkv: &[f32], dqkv: &mut [f32]) {
        let (step, d) = (self.qkv_width(), self.d);
        let r = dqkv.len() / step;
        let parts = dqkv.par_chunks_mut(PART_ROWS * step).enumerate();
        parts.for_each(|(part, dqkv)| {
            for (row, dqkv) in (part * PART_ROWS..).zip(dqkv.chunks_exact_mut(step)) {
                for (head, to) in dqkv[self.heads * d..].chunks_exact_mut(d).enumerate() {
                    to.copy_from_slice(&dkv[(head * r + row) * d..][..d]);
                }
            }
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
        for block in spans.iter().flat_map(|span| Block::all(&rows.spans[*span], self.limits)) {
            (group * share..(group + 1) * share).for_each(|head| work(block, head));
        }
    }

    fn forward_block(
        self,
        (block, head): (Block, usize),
        (qkv, kv): (&[f32], &[f32]),
        scores: &mut [f32],
        (out, lse): (&Shared, &Shared),
    ) {
        let (n, d, step) = (block.n, self.d, self.out_width());
        let (k, v) = self.kv(kv, head);
        let at = |row: usize| (block.row + row) * step + head * d;
        let q = self.q(qkv, &block, head);
        let mut running = [Running::START; BLOCK_ROWS];
        let running = &mut running[..n];
        for keys in block.key_blocks() {
            let mask = keys.mask();
            let p = &mut scores[..n * mask.width];
            self.scores(&keys, q, k, p);
            softmax_block(p, mask, self.scale(), running);
            for (i, row) in running.iter().enumerate().filter(|_| !keys.is_first()) {
                // SAFETY: these rows and columns of the output belong to this unit's segment and heads.
                scale_row(unsafe { out.slice(at(i), d) }, row.shrink);
            }
            for Piece { row, len, column, first } in keys.pieces() {
                let p = Mat::new(&p[column..], n, len, mask.width);
                // SAFETY: as above.
                let dst = unsafe { view(out, at(0), n, d, step) };
                self.multiply(dst, !first, p, self.rows(v, row, len));
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
        (kept, kv): (Kept, &[f32]),
        dout: &[f32],
        (p, ds): (&mut [f32], &mut [f32]),
        (dq, dkv): (&Shared, &Shared),
    ) {
        let (n, d, step) = (block.n, self.d, self.qkv_width());
        let (k, v) = self.kv(kv, head);
        let (dk_at, dv_at) = self.kv_at(kv.len(), head);
        let rows = self.row_gradients((block, head), kept, dout);
        let q = self.q(kept.qkv, &block, head);
        let out_at = block.row * self.out_width() + head * d;
        let dout = Mat::new(&dout[out_at..], n, d, self.out_width());
        for keys in block.key_blocks() {
            let mask = keys.mask();
            let (p, ds) = (&mut p[..n * mask.width], &mut ds[..n * mask.width]);
            self.scores(&keys, q, k, p);
            self.scores(&keys, dout, v, ds);
            softmax_gradient(p, ds, mask, self.scale(), &rows[..n]);
            for Piece { row, len, column, first } in keys.pieces() {
                let p = Mat::new(&p[column..], n, len, mask.width);
                let ds = Mat::new(&ds[column..], n, len, mask.width);
                // SAFETY: columns of one of this unit's query heads, in rows of its tree.
                let dq = unsafe { view(dq, block.row * step + head * d, n, d, step) };
                self.multiply(dq, !first, ds, self.rows(k, row, len));
                // SAFETY: these two: rows of this unit's tree, of its key/value head.
                let dk = unsafe { view(dkv, dk_at + row * d, len, d, d) };
                self.multiply(dk, true, ds.t(), q);
                // SAFETY: as above.
                let dv = unsafe { view(dkv, dv_at + row * d, len, d, d) };
                self.multiply(dv, true, p.t(), dout);
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

    /// scores[n, keys] = left[n,d] times the keys' rows of right[r,d].
    fn scores(self, keys: &KeyBlock, left: Mat, right: &[f32], scores: &mut [f32]) {
        let (n, width) = (keys.block.n, keys.mask().width);
        for Piece { row, len, column, .. } in keys.pieces() {
            let dst = MatMut::new(&mut scores[column..], n, len, width);
            self.multiply(dst, false, left, self.rows(right, row, len).t());
        }
    }

    /// dst = a b, or dst += a b, on this thread: the units are parallel.
    fn multiply(self, dst: MatMut, add: bool, a: Mat, b: Mat) {
        self.kernels.multiply(dst, add, 1.0, (a, b), Split::No);
    }

    fn q<'a>(self, qkv: &'a [f32], block: &Block, head: usize) -> Mat<'a> {
        let step = self.qkv_width();
        Mat::new(&qkv[block.row * step + head * self.d..], block.n, self.d, step)
    }

    /// Rows of a matrix [r,d].
    fn rows(self, x: &[f32], row: usize, len: usize) -> Mat<'_> {
        Mat::new(&x[row * self.d..], len, self.d, self.d)
    }

    /// k[r,d] and v[r,d] of a query head, in kv[2k, r, d].
    fn kv(self, kv: &[f32], head: usize) -> (&[f32], &[f32]) {
        let (k, v) = self.kv_at(kv.len(), head);
        let len = kv.len() / (2 * self.kv_heads);
        (&kv[k..k + len], &kv[v..v + len])
    }

    /// Where they begin.
    fn kv_at(self, len: usize, head: usize) -> (usize, usize) {
        let k = head / self.share() * (len / (2 * self.kv_heads));
        (k, k + len / 2)
    }

    fn kv_len(self, rows: &Rows) -> usize {
        2 * self.kv_heads * rows.ids.len() * self.d
    }

    /// Query heads that share a key/value head.
    fn share(self) -> usize {
        self.heads / self.kv_heads
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

    /// Scores of the largest block of a pack.
    fn largest_block(self, rows: &Rows) -> usize {
        let scores = |span| Block::most_scores(span, self.limits);
        rows.spans.iter().map(scores).max().unwrap_or(0)
    }
}
