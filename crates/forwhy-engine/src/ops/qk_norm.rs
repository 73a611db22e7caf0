//! RMSNorm of each query and key head on its own, before positions turn them (Qwen3). One weight of d
//! elements for all query heads, one for all key heads.

use rayon::prelude::*;

use crate::ops::norm::partial_sums;
use crate::shape::Shape;
use crate::simd::{dot, fma, multiversion};
use crate::threads::PART_ROWS;

/// Sizes and weights.
#[derive(Clone, Copy)]
pub(crate) struct QkNorm<'a> {
    /// Width of a row of q, k, v.
    width: usize,
    /// Elements of the query heads and of the key heads, which follow them.
    parts: [usize; 2],
    /// The weights: that of q, then that of k, d each.
    w: &'a [f32],
    eps: f32,
}

impl<'a> QkNorm<'a> {
    /// `w`: both weights, q's first.
    pub(crate) fn new(shape: &Shape, w: &'a [f32]) -> Self {
        let parts = [shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim];
        QkNorm { width: shape.qkv_width(), parts, w, eps: shape.rms_eps }
    }

    /// Elements of q and k in a row.
    fn kept(&self) -> usize {
        self.parts[0] + self.parts[1]
    }

    /// Normalises qkv[r, (n+2k)d] in place. `kept[r, (n+k)d]` gets q and k as they were, unless it is
    /// empty.
    pub(crate) fn forward(&self, qkv: &mut [f32], kept: &mut [f32]) {
        let n = self.kept();
        if !kept.is_empty() {
            for (kept, row) in kept.chunks_exact_mut(n).zip(qkv.chunks_exact(self.width)) {
                kept.copy_from_slice(&row[..n]);
            }
        }
        let parts = qkv.par_chunks_mut(PART_ROWS * self.width);
        parts.for_each(|qkv| forward_rows(*self, qkv));
    }

    /// dqkv becomes the gradient before the norm; the weights' gradient is added to `dw[2d]`, if
    /// wanted. `sums`: room for [`partial_sums`] of 2d elements.
    pub(crate) fn backward(
        &self,
        kept: &[f32],
        dqkv: &mut [f32],
        dw: Option<&mut [f32]>,
        sums: &mut [f32],
    ) {
        let part = PART_ROWS * self.width;
        let rows = dqkv.par_chunks_mut(part).zip(kept.par_chunks(PART_ROWS * self.kept()));
        // one partial sum a part, added in order: the same for any number of threads
        let sums = &mut sums[..partial_sums(kept.len() / self.kept(), self.w.len())];
        sums.fill(0.0);
        let sums_of = sums.par_chunks_mut(self.w.len());
        rows.zip(sums_of).for_each(|((dqkv, kept), sum)| backward_rows(*self, kept, dqkv, sum));
        let Some(dw) = dw else { return };
        for sum in sums.chunks(self.w.len()) {
            dw.iter_mut().zip(sum).for_each(|(a, b)| *a += b);
        }
    }
}

multiversion! { fn forward_rows(norm: QkNorm, qkv: &mut [f32]) = forward_body }
multiversion! { fn backward_rows(norm: QkNorm, kept: &[f32], dqkv: &mut [f32], dw: &mut [f32]) = backward_body }

#[inline(always)]
fn inverse<const FMA: bool>(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot::<FMA>(x, x) / x.len() as f32 + eps).sqrt()
}

#[inline(always)]
fn forward_body<const FMA: bool>(norm: QkNorm, qkv: &mut [f32]) {
    let d = norm.w.len() / 2;
    for row in qkv.chunks_exact_mut(norm.width) {
        let (q, k) = row[..norm.kept()].split_at_mut(norm.parts[0]);
        for (x, w) in [(q, &norm.w[..d]), (k, &norm.w[d..])] {
            for head in x.chunks_exact_mut(d) {
                let inv = inverse::<FMA>(head, norm.eps);
                for (x, w) in head.iter_mut().zip(w) {
                    *x *= inv * w;
                }
            }
        }
    }
}

#[inline(always)]
fn backward_body<const FMA: bool>(norm: QkNorm, kept: &[f32], dqkv: &mut [f32], dw: &mut [f32]) {
    let d = norm.w.len() / 2;
    let rows = dqkv.chunks_exact_mut(norm.width).zip(kept.chunks_exact(norm.kept()));
    for (dy, x) in rows {
        let heads = dy[..norm.kept()].chunks_exact_mut(d).zip(x.chunks_exact(d));
        for (index, (dy, x)) in heads.enumerate() {
            let half = if index * d < norm.parts[0] { 0 } else { d };
            let (w, dw) = (&norm.w[half..half + d], &mut dw[half..half + d]);
            let inv = inverse::<FMA>(x, norm.eps);
            for (((dw, dy), x), w) in dw.iter_mut().zip(dy.iter_mut()).zip(x).zip(w) {
                *dw = fma::<FMA>(*dy * inv, *x, *dw);
                *dy *= w * inv;
            }
            let s = dot::<FMA>(dy, x) * inv * inv / d as f32;
            for (dy, x) in dy.iter_mut().zip(x) {
                *dy = fma::<FMA>(-s, *x, *dy);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::{assert_gradient, noise, tiny_shape};

    #[test]
    fn gradients_agree_with_finite_differences() {
        let shape = Shape { qk_norm: true, ..tiny_shape() };
        let (rows, d) = (35, shape.head_dim);
        let n = rows * shape.qkv_width();
        let (x, w, dy) = (noise(n, 1), noise(2 * d, 2), noise(n, 3));
        let loss = |x: &[f32], w: &[f32]| {
            let mut y = x.to_vec();
            QkNorm::new(&shape, w).forward(&mut y, &mut []);
            y.iter().zip(&dy).map(|(y, d)| f64::from(*y) * f64::from(*d)).sum::<f64>()
        };
        let norm = QkNorm::new(&shape, &w);
        let mut kept = vec![0.0; rows * norm.kept()];
        norm.forward(&mut x.clone(), &mut kept);
        let (mut dx, mut dw) = (dy.clone(), vec![0.0; 2 * d]);
        norm.backward(&kept, &mut dx, Some(&mut dw), &mut vec![9.0; partial_sums(rows, 2 * d)]);
        assert_gradient("x", &x, &dx, |x| loss(x, &w));
        assert_gradient("w", &w, &dw, |w| loss(&x, w));
        let last = shape.qkv_width() - d;
        assert_eq!(dx[last..][..d], dy[last..][..d], "values are not normalised");
    }
}
