//! y = x W^T for the few rows x of a decoding step.
//!
//! The product is bound by reading W once from memory, so W is neither packed nor copied: tiles of
//! four of its rows meet three rows of x in registers, and the next four rows of W are asked for
//! meanwhile. Every element of y is one dot product, whose order of additions depends neither on the
//! other rows of x nor on the threads: a reply does not depend on its batch mates, to the last bit.
//!
//! W may be a copy in bf16 ([`Half`]), half the bytes to read: it is widened in registers, and all else
//! is as with f32. Weights that bf16 holds lose nothing, and give the same bits.
#![allow(unsafe_code, reason = "threads write interleaved columns of y")]

use std::array;
use std::hint::black_box;

use half::bf16;
use rayon::prelude::*;

use crate::buffer::Shared;
use crate::linear::Linear;
use crate::simd::{Eight, add_eight, fma, fma_eight, multiversion, prefetch};

/// Rows of W in a tile.
const WIDE: usize = 4;
/// Rows of x in a tile: with [`WIDE`] twelve sums, which leave registers for the operands.
const HIGH: usize = 3;
/// Rows of W that are one unit of parallel work.
const UNIT: usize = 64;

impl Linear {
    /// y[r,out] = x[r,inp] W^T, or y += it. Faster than `fwd` up to some 64 rows.
    pub(crate) fn fwd_few(self, w: &[f32], x: &[f32], y: &mut [f32], add: bool) {
        self.few(w, x, y, add, columns);
    }

    /// The same, with the weights in bf16.
    pub(crate) fn fwd_few_half(self, w: &Half, x: &[f32], y: &mut [f32], add: bool) {
        self.few(&w.0, x, y, add, columns_half);
    }

    fn few<W: Sync>(
        self,
        w: &[W],
        x: &[f32],
        y: &mut [f32],
        add: bool,
        columns: fn(Few<W>, &Shared),
    ) {
        let w = &w[self.at..][..self.out * self.inp];
        let y = Shared::new(y);
        let part = |(unit, w): (usize, &[W])| {
            columns(Few { w, x, inp: self.inp, out: self.out, first: unit * UNIT, add }, &y);
        };
        w.par_chunks(UNIT * self.inp).enumerate().for_each(part);
    }
}

/// All weights of a model, rounded to bf16, in the order of the flat buffer.
pub(crate) struct Half(Vec<u16>);

impl Half {
    pub(crate) fn new(w: &[f32]) -> Self {
        Half(w.par_iter().map(|w| bf16::from_f32(*w).to_bits()).collect())
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.0[..])
    }
}

/// A weight as it is stored.
trait Weight: Copy {
    fn float(self) -> f32;
}

impl Weight for f32 {
    #[inline(always)]
    fn float(self) -> f32 {
        self
    }
}

impl Weight for u16 {
    #[inline(always)]
    fn float(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }
}

/// Some columns of y: their rows of W, and all of x.
struct Few<'a, W> {
    w: &'a [W],
    x: &'a [f32],
    inp: usize,
    out: usize,
    /// First column.
    first: usize,
    add: bool,
}

multiversion! { fn columns(few: Few<f32>, y: &Shared) = columns_of_f32 }
multiversion! { fn columns_half(few: Few<u16>, y: &Shared) = columns_of_bf16 }

#[inline(always)]
fn columns_of_f32<const FMA: bool>(few: Few<f32>, y: &Shared) {
    columns_body::<FMA, f32>(few, y);
}

#[inline(always)]
fn columns_of_bf16<const FMA: bool>(few: Few<u16>, y: &Shared) {
    columns_body::<FMA, u16>(few, y);
}

#[inline(always)]
fn columns_body<const FMA: bool, W: Weight>(few: Few<W>, y: &Shared) {
    let rows = few.w.len() / few.inp;
    let whole = rows - rows % WIDE;
    for at in (0..whole).step_by(WIDE) {
        panel::<FMA, WIDE, W>(&few, at, y);
    }
    for at in whole..rows {
        panel::<FMA, 1, W>(&few, at, y);
    }
}

/// Columns `at..at + O` of all rows.
#[inline(always)]
fn panel<const FMA: bool, const O: usize, W: Weight>(few: &Few<W>, at: usize, y: &Shared) {
    let n = few.x.len() / few.inp;
    let whole = n - n % HIGH;
    for row in (0..whole).step_by(HIGH) {
        match row {
            0 => tile::<FMA, true, HIGH, O, W>(few, row, at, y),
            _ => tile::<FMA, false, HIGH, O, W>(few, row, at, y),
        }
    }
    match n - whole {
        2 => tile::<FMA, true, 2, O, W>(few, whole, at, y),
        1 => tile::<FMA, true, 1, O, W>(few, whole, at, y),
        _ => {}
    }
}

/// Dot products of R rows of x and O rows of W; with NEXT it asks for the O rows of W behind them.
#[inline(always)]
fn tile<'a, const FMA: bool, const NEXT: bool, const R: usize, const O: usize, W: Weight>(
    few: &Few<'a, W>,
    row: usize,
    at: usize,
    y: &Shared,
) {
    let (chunks, inp) = (few.inp / 8, few.inp);
    // slices of one length that the compiler knows: a check of bounds in the loop would cost it registers
    fn line<T>(of: &[T], at: usize, inp: usize, chunks: usize) -> &[[T; 8]] {
        &of[at * inp..][..inp].as_chunks().0[..chunks]
    }
    let x: [&'a [Eight]; R] = array::from_fn(|r| line(few.x, row + r, inp, chunks));
    let w: [&'a [[W; 8]]; O] = array::from_fn(|o| line(few.w, at + o, inp, chunks));
    let mut sums = [[[0f32; 8]; O]; R];
    for k in 0..chunks {
        let mut left = [[0f32; 8]; R];
        for r in 0..R {
            left[r] = x[r][k];
        }
        for o in 0..O {
            let mut right = [0f32; 8];
            for lane in 0..8 {
                right[lane] = w[o][k][lane].float();
            }
            if NEXT {
                prefetch(w[o].as_ptr().wrapping_add(k + O * chunks));
            }
            for r in 0..R {
                sums[r][o] = fma_eight::<FMA>(left[r], right, sums[r][o]);
            }
        }
    }
    // the sums over lanes would otherwise reshape the loop above into slower instructions
    for (r, sums) in black_box(sums).iter().enumerate() {
        // SAFETY: the columns of one part of W belong to one unit of work.
        let y = unsafe { y.slice((row + r) * few.out + few.first + at, O) };
        for ((o, y), sum) in y.iter_mut().enumerate().zip(sums) {
            let mut sum = add_eight(*sum);
            for i in chunks * 8..inp {
                let w = few.w[(at + o) * inp + i].float();
                sum = fma::<FMA>(few.x[(row + r) * inp + i], w, sum);
            }
            *y = if few.add { *y + sum } else { sum };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::noise;
    use crate::kernels::Kernels;

    #[test]
    fn every_number_of_rows_and_sizes_that_no_tile_divides_agree_with_plain_loops() {
        for (out, inp) in [(70, 64), (5, 19), (131, 40)] {
            let layer = Linear { at: 2, out, inp, kernels: Kernels::F32 };
            let w = noise(2 + out * inp, 1);
            for rows in 1..9 {
                let (x, start) = (noise(rows * inp, 2), noise(rows * out, 3));
                let mut y = start.clone();
                layer.fwd_few(&w, &x, &mut y, true);
                for (i, y) in y.iter().enumerate() {
                    let (x, w) = (&x[i / out * inp..], &w[2 + i % out * inp..]);
                    let plain = |i: usize| f64::from(x[i]) * f64::from(w[i]);
                    let want = f64::from(start[i]) + (0..inp).map(plain).sum::<f64>();
                    assert!((f64::from(*y) - want).abs() < 1e-4, "{rows} x {inp} x {out}");
                }
            }
        }
    }

    #[test]
    fn weights_that_bf16_holds_give_the_bits_of_f32() {
        for (out, inp) in [(70, 64), (5, 19)] {
            let layer = Linear { at: 2, out, inp, kernels: Kernels::F32 };
            let w: Vec<f32> =
                noise(2 + out * inp, 1).iter().map(|w| bf16::from_f32(*w).to_f32()).collect();
            let half = Half::new(&w);
            assert_eq!(half.bytes(), 2 * w.len());
            for rows in [1, 2, 3, 7] {
                let x = noise(rows * inp, 2);
                let (mut y, mut other) = (noise(rows * out, 3), noise(rows * out, 3));
                layer.fwd_few(&w, &x, &mut y, true);
                layer.fwd_few_half(&half, &x, &mut other, true);
                assert_eq!(y, other, "{rows} x {inp} x {out}");
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others() {
        let layer = Linear { at: 0, out: 130, inp: 72, kernels: Kernels::F32 };
        let (w, x) = (noise(130 * 72, 1), noise(7 * 72, 2));
        let mut all = vec![0.0; 7 * 130];
        layer.fwd_few(&w, &x, &mut all, false);
        for (x, together) in x.chunks(72).zip(all.chunks(130)) {
            let mut alone = vec![9.0; 130];
            layer.fwd_few(&w, x, &mut alone, false);
            assert_eq!(alone, together);
        }
    }
}
