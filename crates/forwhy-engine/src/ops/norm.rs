//! RMSNorm (Zhang and Sennrich 2019): y = x / rms(x) * w.

use rayon::prelude::*;

use crate::simd::{dot, dot_scaled, fma, multiversion};
use crate::threads::PART_ROWS;

/// y[r,h] from x[r,h]; keeps 1/rms of each row in `inv[r]` for the backward pass.
pub(crate) fn forward(x: &[f32], w: &[f32], eps: f32, y: &mut [f32], inv: &mut [f32]) {
    let part = PART_ROWS * w.len();
    let parts = y.par_chunks_mut(part).zip(inv.par_chunks_mut(PART_ROWS)).zip(x.par_chunks(part));
    parts.for_each(|((y, inv), x)| forward_rows(x, w, eps, y, inv));
}

/// y again, from the kept 1/rms.
pub(crate) fn again(x: &[f32], w: &[f32], inv: &[f32], y: &mut [f32]) {
    let part = PART_ROWS * w.len();
    let parts = y.par_chunks_mut(part).zip(inv.par_chunks(PART_ROWS)).zip(x.par_chunks(part));
    parts.for_each(|((y, inv), x)| again_rows(x, w, inv, y));
}

/// Partial sums of the gradient of a weight of `h` elements over `rows` rows.
pub(crate) fn partial_sums(rows: usize, h: usize) -> usize {
    rows.div_ceil(PART_ROWS) * h
}

/// What the backward pass reads.
#[derive(Clone, Copy)]
pub(crate) struct Kept<'a> {
    /// Input rows.
    pub(crate) x: &'a [f32],
    /// Weight.
    pub(crate) w: &'a [f32],
    /// 1/rms of each row.
    pub(crate) inv: &'a [f32],
}

/// dx += gradient; the weight's gradient is added to `dw`, if wanted. `sums`: room for
/// [`partial_sums`].
pub(crate) fn backward(
    kept: Kept,
    dy: &[f32],
    dx: &mut [f32],
    dw: Option<&mut [f32]>,
    sums: &mut [f32],
) {
    let h = kept.w.len();
    let part = PART_ROWS * h;
    let rows = dx.par_chunks_mut(part).zip(dy.par_chunks(part)).enumerate();
    let of = |i: usize, rows: usize| Kept {
        x: &kept.x[i * part..][..rows * h],
        inv: &kept.inv[i * PART_ROWS..][..rows],
        ..kept
    };
    let Some(dw) = dw else {
        return rows.for_each(|(i, (dx, dy))| dx_rows(of(i, dy.len() / h), dy, dx));
    };
    // one partial sum a part, added in order: the same for any number of threads
    let sums = &mut sums[..partial_sums(kept.inv.len(), h)];
    sums.fill(0.0);
    rows.zip(sums.par_chunks_mut(h)).for_each(|((i, (dx, dy)), sum)| {
        let kept = of(i, dy.len() / h);
        dx_rows(kept, dy, dx);
        dw_rows(kept, dy, sum);
    });
    for sum in sums.chunks(h) {
        dw.iter_mut().zip(sum).for_each(|(a, b)| *a += b);
    }
}

multiversion! { fn forward_rows(x: &[f32], w: &[f32], eps: f32, y: &mut [f32], inv: &mut [f32]) = forward_body }
multiversion! { fn again_rows(x: &[f32], w: &[f32], inv: &[f32], y: &mut [f32]) = again_body }
multiversion! { fn dx_rows(kept: Kept, dy: &[f32], dx: &mut [f32]) = dx_body }
multiversion! { fn dw_rows(kept: Kept, dy: &[f32], dw: &mut [f32]) = dw_body }

#[inline(always)]
fn forward_body<const FMA: bool>(x: &[f32], w: &[f32], eps: f32, y: &mut [f32], inv: &mut [f32]) {
    let h = w.len();
    for (inv, x) in inv.iter_mut().zip(x.chunks_exact(h)) {
        *inv = 1.0 / (dot::<FMA>(x, x) / h as f32 + eps).sqrt();
    }
    again_body::<FMA>(x, w, inv, y);
}

#[inline(always)]
fn again_body<const FMA: bool>(x: &[f32], w: &[f32], inv: &[f32], y: &mut [f32]) {
    let h = w.len();
    for ((y, x), inv) in y.chunks_exact_mut(h).zip(x.chunks_exact(h)).zip(inv) {
        for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
            *y = x * inv * w;
        }
    }
}

#[inline(always)]
fn dx_body<const FMA: bool>(kept: Kept, dy: &[f32], dx: &mut [f32]) {
    let h = kept.w.len();
    let rows = dx.chunks_exact_mut(h).zip(dy.chunks_exact(h)).zip(kept.x.chunks_exact(h));
    let w = &kept.w[..h];
    for (((dx, dy), x), r) in rows.zip(kept.inv) {
        let s = dot_scaled::<FMA>(dy, w, *r, x) * r * r / h as f32;
        for (((dx, x), dy), w) in dx.iter_mut().zip(x).zip(dy).zip(w) {
            *dx += fma::<FMA>(-s, *x, dy * w * r);
        }
    }
}

#[inline(always)]
fn dw_body<const FMA: bool>(kept: Kept, dy: &[f32], dw: &mut [f32]) {
    let h = dw.len();
    for ((dy, x), r) in dy.chunks_exact(h).zip(kept.x.chunks_exact(h)).zip(kept.inv) {
        for ((dw, dy), x) in dw.iter_mut().zip(dy).zip(x) {
            *dw = fma::<FMA>(dy * r, *x, *dw);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::{assert_gradient, noise};

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (rows, h) = (35, 40);
        let (x, w, dy) = (noise(rows * h, 1), noise(h, 2), noise(rows * h, 3));
        let loss = |x: &[f32], w: &[f32]| {
            let (mut y, mut inv) = (vec![0.0; rows * h], vec![0.0; rows]);
            forward(x, w, 1e-5, &mut y, &mut inv);
            y.iter().zip(&dy).map(|(y, d)| f64::from(*y) * f64::from(*d)).sum::<f64>()
        };
        let (mut y, mut inv) = (vec![0.0; rows * h], vec![0.0; rows]);
        forward(&x, &w, 1e-5, &mut y, &mut inv);
        let (mut dx, mut dw) = (vec![0.0; rows * h], vec![0.0; h]);
        let mut sums = vec![9.0; partial_sums(rows, h)];
        backward(Kept { x: &x, w: &w, inv: &inv }, &dy, &mut dx, Some(&mut dw), &mut sums);
        assert_gradient("x", &x, &dx, |x| loss(x, &w));
        assert_gradient("w", &w, &dw, |w| loss(&x, w));
        let mut second = vec![0.0; rows * h];
        again(&x, &w, &inv, &mut second);
        assert_eq!(y, second);
    }
}
