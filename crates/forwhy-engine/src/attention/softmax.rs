//! Row-wise kernels on a block of scores.
//!
//! The softmax runs over blocks of keys (Milakov and Gimelshein 2018): a row keeps the largest score
//! so far and the sum of exponentials below it; where a later block raises the largest, what was
//! summed before shrinks. With one block of keys that is the plain softmax, to the bit.

use crate::simd::{dot, exp, exp_sum, max, multiversion};

/// Which columns of a block of scores [n, width] its rows see: the first ones, one more in each row.
#[derive(Clone, Copy)]
pub(super) struct Mask {
    /// Columns.
    pub(super) width: usize,
    /// Keys in the blocks before this one.
    pub(super) before: usize,
    /// Keys that the first row sees, those before included.
    pub(super) seen: usize,
}

impl Mask {
    /// Columns that row i sees: none if the block lies behind it.
    #[inline(always)]
    fn live(self, i: usize) -> usize {
        (self.seen + i).saturating_sub(self.before).min(self.width)
    }
}

/// A row's softmax, on the way.
#[derive(Clone, Copy)]
pub(super) struct Running {
    /// Largest score so far.
    most: f32,
    /// Sum of e^(score - most) so far.
    pub(super) sum: f32,
    /// What the last block left of sums made before it.
    pub(super) shrink: f32,
}

impl Running {
    pub(super) const START: Running = Running { most: f32::NEG_INFINITY, sum: 0.0, shrink: 1.0 };

    pub(super) fn log_sum_exp(self) -> f32 {
        self.most + self.sum.ln()
    }
}

/// What the gradient of a row's softmax needs.
#[derive(Clone, Copy, Default)]
pub(super) struct RowGradient {
    /// Log-sum-exp of its scores.
    pub(super) lse: f32,
    /// Product of its output and the output's gradient.
    pub(super) along: f32,
}

multiversion! { pub(super) fn dot_row(a: &[f32], b: &[f32]) -> f32 = dot }
multiversion! { pub(super) fn scale_row(x: &mut [f32], k: f32) = scale_body }
multiversion! {
    /// The seen columns of each row of scores become e^(scale s - m), the others 0.
    pub(super) fn softmax_block(s: &mut [f32], mask: Mask, scale: f32, rows: &mut [Running]) = softmax_body
}
multiversion! {
    /// Scores p become probabilities and dp (in `ds`) becomes ds.
    pub(super) fn softmax_gradient(p: &mut [f32], ds: &mut [f32], mask: Mask, scale: f32, rows: &[RowGradient]) = gradient_body
}

#[inline(always)]
fn scale_body<const FMA: bool>(x: &mut [f32], k: f32) {
    x.iter_mut().for_each(|x| *x *= k);
}

#[inline(always)]
fn softmax_body<const FMA: bool>(s: &mut [f32], mask: Mask, scale: f32, rows: &mut [Running]) {
    for (i, (s, row)) in s.chunks_exact_mut(mask.width).zip(rows).enumerate() {
        let (seen, unseen) = s.split_at_mut(mask.live(i));
        // a row that sees none keeps its largest: e^0 = 1 shrinks nothing
        let most = row.most.max(max(seen) * scale);
        let shrink = exp::<FMA>(row.most - most);
        let sum = exp_sum::<FMA>(seen, scale, most);
        unseen.fill(0.0);
        *row = Running { most, sum: row.sum * shrink + sum, shrink };
    }
}

#[inline(always)]
fn gradient_body<const FMA: bool>(
    p: &mut [f32],
    ds: &mut [f32],
    mask: Mask,
    scale: f32,
    rows: &[RowGradient],
) {
    let parts = p.chunks_exact_mut(mask.width).zip(ds.chunks_exact_mut(mask.width)).zip(rows);
    for (i, ((p, ds), row)) in parts.enumerate() {
        let (p, p_unseen) = p.split_at_mut(mask.live(i));
        let (ds, ds_unseen) = ds.split_at_mut(mask.live(i));
        for (p, ds) in p.iter_mut().zip(ds) {
            *p = exp::<FMA>(*p * scale - row.lse);
            *ds = *p * (*ds - row.along) * scale;
        }
        p_unseen.fill(0.0);
        ds_unseen.fill(0.0);
    }
}
