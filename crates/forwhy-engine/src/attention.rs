//! Causal grouped-query attention over the segments of a pack, forward and backward, in blocks of
//! query rows.
//!
//! A block sees all its keys at once (block x keys scores, in cache), so no online softmax is needed,
//! and nothing of size t x t is stored: the backward pass rebuilds the scores from the log-sum-exp of
//! each row. A unit of parallel work is, forward, a segment and a key/value head; backward, a whole tree
//! of segments, which add to the same dk and dv: so sums do not depend on the number of threads.
#![allow(unsafe_code, reason = "units write to interleaved columns of shared matrices")]

use rayon::prelude::*;

use crate::buffer::Shared;
use crate::kernels::Kernels;
use crate::linear::{Mat, MatMut, Split};
use crate::pack::{Rows, Span};
use crate::shape::Shape;
use crate::simd::{dot, exp, exp_sum, max, multiversion};

/// Scores of a block: they should stay in the second-level cache.
const BLOCK_SCORES: usize = 1 << 16;

/// Sizes of the attention of a model.
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    heads: usize,
    kv_heads: usize,
    d: usize,
    kernels: Kernels,
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

/// A block of query rows of one head: where it lies and what it sees.
struct Block {
    /// Its first row.
    row: usize,
    /// Its rows.
    n: usize,
    /// Offset of the head in a row of q (or of the output).
    head: usize,
    /// Rows of keys: the ancestors', then its own segment's up to the block's end.
    keys: Vec<(usize, usize)>,
    /// Number of keys.
    width: usize,
    /// Keys that the first row sees.
    live: usize,
}

impl Attention {
    pub(crate) fn new(shape: &Shape, kernels: Kernels) -> Self {
        Attention { heads: shape.heads, kv_heads: shape.kv_heads, d: shape.head_dim, kernels }
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

    /// Query rows of a block that sees up to `keys` keys.
    fn block_rows(keys: usize) -> usize {
        (BLOCK_SCORES / keys.max(1)).next_power_of_two().clamp(16, 128)
    }

    /// Calls `work` with every block of segments, for the query heads of key/value head `group`.
    fn each_block(self, rows: &Rows, spans: &[usize], group: usize, mut work: impl FnMut(Block)) {
        let share = self.heads / self.kv_heads;
        for span in spans.iter().map(|s| &rows.spans[*s]) {
            let most = Self::block_rows(span.context_len + span.rows.len());
            for row in span.rows.clone().step_by(most) {
                let n = most.min(span.rows.end - row);
                let own = row + n - span.rows.start;
                let mut keys: Vec<_> = span.context.iter().map(|c| (c.start, c.len())).collect();
                match keys.last_mut() {
                    Some((at, len)) if *at + *len == span.rows.start => *len += own,
                    _ => keys.push((span.rows.start, own)),
                }
                let width = span.context_len + own;
                for head in group * share..(group + 1) * share {
                    let (head, keys) = (head * self.d, keys.clone());
                    work(Block { row, n, head, keys, width, live: width - n + 1 });
                }
            }
        }
    }

    /// Each of `parts` with each key/value head.
    fn units(self, parts: usize) -> impl ParallelIterator<Item = (usize, usize)> {
        let kv_heads = self.kv_heads;
        (0..parts * kv_heads)
            .into_par_iter()
            .with_max_len((parts * kv_heads).div_ceil(16 * rayon::current_num_threads()))
            .map(move |unit| (unit / kv_heads, unit % kv_heads))
    }

    fn scratch(rows: &Rows) -> Vec<f32> {
        let block = |s: &Span| {
            let keys = s.context_len + s.rows.len();
            Self::block_rows(keys).min(s.rows.len()) * keys
        };
        vec![0.0; rows.spans.iter().map(block).max().unwrap_or(0)]
    }

    /// qkv[r, (n+2k)d]: rows `[q heads | k heads | v heads]`, turned. out[r, nd]. lse[r, n].
    pub(crate) fn forward(self, rows: &Rows, qkv: &[f32], out: &mut [f32], lse: &mut [f32]) {
        let (out, lse) = (Shared::new(out), Shared::new(lse));
        self.units(rows.spans.len()).for_each_init(
            || Self::scratch(rows),
            |scores, (span, group)| {
                self.each_block(rows, &[span], group, |block| {
                    self.forward_block(&block, group, qkv, scores, (&out, &lse));
                });
            },
        );
    }

    fn forward_block(
        self,
        block: &Block,
        group: usize,
        qkv: &[f32],
        scores: &mut [f32],
        (out, lse): (&Shared, &Shared),
    ) {
        let (n, width, d) = (block.n, block.width, self.d);
        let scores = &mut scores[..n * width];
        self.scores(block, self.k_at(group), qkv, self.q(block, qkv), scores);
        let mut stats = [(0f32, 0f32); 128];
        softmax_block(scores, width, block.live, self.scale(), &mut stats[..n]);
        let mut column = 0;
        for (i, (row, len)) in block.keys.iter().enumerate() {
            let p = Mat::new(&scores[column..], n, *len, width);
            let at = block.row * self.out_width() + block.head;
            // SAFETY: these rows and columns of the output belong to this unit's segment and heads.
            let dst = unsafe { view(out, at, n, d, self.out_width()) };
            let v = self.kv(qkv, *row, *len, self.v_at(group));
            self.multiply(dst, i > 0, p, v);
            column += len;
        }
        for (i, (lse_i, sum)) in stats[..n].iter().enumerate() {
            let at = (block.row + i) * self.out_width() + block.head;
            // SAFETY: as above.
            unsafe { out.slice(at, d) }.iter_mut().for_each(|o| *o *= 1.0 / sum);
            let at = (block.row + i) * self.heads + block.head / d;
            // SAFETY: as above, for the log-sum-exp of these rows and heads.
            let slot = unsafe { lse.slice(at, 1) };
            slot[0] = *lse_i;
        }
    }

    /// dqkv[r, (n+2k)d] becomes the gradient with respect to the turned q, k and v.
    pub(crate) fn backward(self, rows: &Rows, kept: Kept, dout: &[f32], dqkv: &mut [f32]) {
        dqkv.fill(0.0);
        let dqkv = Shared::new(dqkv);
        self.units(rows.trees.len()).for_each_init(
            || (Self::scratch(rows), Self::scratch(rows)),
            |scratch, (tree, group)| {
                self.each_block(rows, &rows.trees[tree], group, |block| {
                    self.backward_block(&block, group, kept, dout, scratch, &dqkv);
                });
            },
        );
    }

    fn backward_block(
        self,
        block: &Block,
        group: usize,
        kept: Kept,
        dout: &[f32],
        (p, ds): &mut (Vec<f32>, Vec<f32>),
        dqkv: &Shared,
    ) {
        let (n, width, d) = (block.n, block.width, self.d);
        let (p, ds) = (&mut p[..n * width], &mut ds[..n * width]);
        let q = self.q(block, kept.qkv);
        let out_at = block.row * self.out_width() + block.head;
        let dout_block = Mat::new(&dout[out_at..], n, d, self.out_width());
        self.scores(block, self.k_at(group), kept.qkv, q, p);
        self.scores(block, self.v_at(group), kept.qkv, dout_block, ds);
        let mut stats = [(0f32, 0f32); 128];
        for (i, stat) in stats[..n].iter_mut().enumerate() {
            let at = out_at + i * self.out_width();
            let lse = kept.lse[(block.row + i) * self.heads + block.head / d];
            *stat = (lse, dot_row(&dout[at..][..d], &kept.out[at..][..d]));
        }
        softmax_gradient(p, ds, width, block.live, self.scale(), &stats[..n]);
        let (step, mut column) = (self.qkv_width(), 0);
        for (i, (row, len)) in block.keys.iter().enumerate() {
            let (p, ds) =
                (Mat::new(&p[column..], n, *len, width), Mat::new(&ds[column..], n, *len, width));
            // SAFETY: the three places lie in rows of this unit's tree: q columns of one of its
            // query heads, k and v columns of its key/value head. They are taken one at a time.
            let at = |row: usize, column: usize, rows: usize| unsafe {
                view(dqkv, row * step + column, rows, d, step)
            };
            let k = self.kv(kept.qkv, *row, *len, self.k_at(group));
            self.multiply(at(block.row, block.head, n), i > 0, ds, k);
            self.multiply(at(*row, self.k_at(group), *len), true, ds.t(), q);
            self.multiply(at(*row, self.v_at(group), *len), true, p.t(), dout_block);
            column += len;
        }
    }

    /// scores[n, keys] = left[n,d] times the keys' (or values') columns at `column`.
    fn scores(self, block: &Block, column: usize, qkv: &[f32], left: Mat, scores: &mut [f32]) {
        let mut at = 0;
        for (row, len) in &block.keys {
            let dst = MatMut::new(&mut scores[at..], block.n, *len, block.width);
            self.multiply(dst, false, left, self.kv(qkv, *row, *len, column).t());
            at += len;
        }
    }

    /// dst = a b, or dst += a b, on this thread: the units are parallel.
    fn multiply(self, dst: MatMut, add: bool, a: Mat, b: Mat) {
        self.kernels.multiply(dst, add, 1.0, (a, b), Split::No);
    }

    fn q<'a>(self, block: &Block, qkv: &'a [f32]) -> Mat<'a> {
        let step = self.qkv_width();
        Mat::new(&qkv[block.row * step + block.head..], block.n, self.d, step)
    }

    fn kv(self, qkv: &[f32], row: usize, len: usize, column: usize) -> Mat<'_> {
        let step = self.qkv_width();
        Mat::new(&qkv[row * step + column..], len, self.d, step)
    }

    fn k_at(self, group: usize) -> usize {
        (self.heads + group) * self.d
    }

    fn v_at(self, group: usize) -> usize {
        (self.heads + self.kv_heads + group) * self.d
    }
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

multiversion! { fn dot_row(a: &[f32], b: &[f32]) -> f32 = dot }
multiversion! {
    /// Row i of scores[n, width] becomes e^(scale s - m) for its first `live + i` keys, 0 behind them;
    /// `stats[i]` = (log-sum-exp, sum).
    fn softmax_block(s: &mut [f32], width: usize, live: usize, scale: f32, stats: &mut [(f32, f32)]) = softmax_body
}
multiversion! {
    /// Scores p become probabilities and dp (in `ds`) becomes ds; `stats[i]` = (lse, dout . out).
    fn softmax_gradient(p: &mut [f32], ds: &mut [f32], width: usize, live: usize, scale: f32, stats: &[(f32, f32)]) = gradient_body
}

#[inline(always)]
fn softmax_body<const FMA: bool>(
    s: &mut [f32],
    width: usize,
    live: usize,
    scale: f32,
    stats: &mut [(f32, f32)],
) {
    for (i, (row, stat)) in s.chunks_exact_mut(width).zip(stats).enumerate() {
        let (seen, unseen) = row.split_at_mut(live + i);
        let most = max(seen) * scale;
        let sum = exp_sum::<FMA>(seen, scale, most);
        unseen.fill(0.0);
        *stat = (most + sum.ln(), sum);
    }
}

#[inline(always)]
fn gradient_body<const FMA: bool>(
    p: &mut [f32],
    ds: &mut [f32],
    width: usize,
    live: usize,
    scale: f32,
    stats: &[(f32, f32)],
) {
    let rows = p.chunks_exact_mut(width).zip(ds.chunks_exact_mut(width)).zip(stats);
    for (i, ((p, ds), (lse, along))) in rows.enumerate() {
        let (p, p_unseen) = p.split_at_mut(live + i);
        let (ds, ds_unseen) = ds.split_at_mut(live + i);
        for (p, ds) in p.iter_mut().zip(ds) {
            *p = exp::<FMA>(*p * scale - lse);
            *ds = *p * (*ds - along) * scale;
        }
        p_unseen.fill(0.0);
        ds_unseen.fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::{assert_gradient, noise, tiny_shape};
    use crate::pack::Pack;

    /// Two trees; one has grandchildren and more rows than a block.
    fn pack() -> Pack {
        let mut pack = Pack::new();
        let root = pack.push_segment(vec![1; 150], None);
        let child = pack.push_segment(vec![1; 5], Some(root));
        pack.push_segment(vec![1; 3], None);
        pack.push_segment(vec![1; 4], Some(root));
        pack.push_segment(vec![1; 6], Some(child));
        pack
    }

    struct Run {
        out: Vec<f32>,
        lse: Vec<f32>,
    }

    fn run(qkv: &[f32], rows: &Rows) -> Run {
        let shape = tiny_shape();
        let r = rows.ids.len();
        let mut run =
            Run { out: vec![0.0; r * shape.attention_width()], lse: vec![0.0; r * shape.heads] };
        Attention::new(&shape, Kernels::F32).forward(rows, qkv, &mut run.out, &mut run.lse);
        run
    }

    /// Plain loops in f64, with visibility taken from the definition.
    fn plain(qkv: &[f32], pack: &Pack) -> Vec<f64> {
        let (shape, rows) = (tiny_shape(), pack.resolve(&tiny_shape()).unwrap());
        let (d, w) = (shape.head_dim, shape.qkv_width());
        let at = |row: usize, head: usize, j: usize| f64::from(qkv[row * w + head * d + j]);
        let mut out = Vec::new();
        for (s, span) in rows.spans.iter().enumerate() {
            let mut family = vec![s];
            while let Some(parent) = pack.segments()[family[family.len() - 1]].parent {
                family.push(parent);
            }
            for row in span.rows.clone() {
                let seen =
                    |k: &usize| *k <= row && family.iter().any(|f| rows.spans[*f].rows.contains(k));
                let keys: Vec<usize> = (0..rows.ids.len()).filter(seen).collect();
                for head in 0..shape.heads {
                    let (k, v) = (shape.heads + head / 2, shape.heads + shape.kv_heads + head / 2);
                    let score = |key: &usize| {
                        (0..d).map(|j| at(row, head, j) * at(*key, k, j)).sum::<f64>()
                            / (d as f64).sqrt()
                    };
                    let p: Vec<f64> = keys.iter().map(|key| score(key).exp()).collect();
                    let sum: f64 = p.iter().sum();
                    for j in 0..d {
                        let mixed = p.iter().zip(&keys).map(|(p, key)| p * at(*key, v, j));
                        out.push(mixed.sum::<f64>() / sum);
                    }
                }
            }
        }
        out
    }

    #[test]
    fn a_row_sees_its_ancestors_and_its_own_past_and_nothing_else() {
        let (pack, shape) = (pack(), tiny_shape());
        let rows = pack.resolve(&shape).unwrap();
        let qkv = noise(pack.rows() * shape.qkv_width(), 1);
        let want = plain(&qkv, &pack);
        let got = run(&qkv, &rows).out;
        assert_eq!(got.len(), want.len());
        let worst =
            got.iter().zip(&want).map(|(g, w)| (f64::from(*g) - w).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-5, "{worst}");
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (pack, shape) = (pack(), tiny_shape());
        let rows = pack.resolve(&shape).unwrap();
        let qkv = noise(pack.rows() * shape.qkv_width(), 1);
        let dout = noise(pack.rows() * shape.attention_width(), 2);
        let kept = run(&qkv, &rows);
        let mut dqkv = vec![7.0; qkv.len()];
        let attention = Attention::new(&shape, Kernels::F32);
        let reads = Kept { qkv: &qkv, out: &kept.out, lse: &kept.lse };
        attention.backward(&rows, reads, &dout, &mut dqkv);
        assert_gradient("qkv", &qkv, &dqkv, |x| {
            let products = run(x, &rows).out.into_iter().zip(&dout);
            products.map(|(o, d)| f64::from(o) * f64::from(*d)).sum()
        });
    }
}
