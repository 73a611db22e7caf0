//! y = x W^T for the few rows x of a decoding step.
//!
//! The product is bound by reading W once from memory, so W is neither packed nor copied: tiles of
//! four of its rows meet three rows of x in registers, and the next four rows of W are asked for
//! meanwhile. Every element of y is one dot product, whose order of additions depends neither on the
//! other rows of x nor on the threads: a reply does not depend on its batch mates, to the last bit.
#![allow(unsafe_code, reason = "threads write interleaved columns of y")]

use std::array;
use std::hint::black_box;

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
        let w = &w[self.at..][..self.out * self.inp];
        let y = Shared::new(y);
        let part = |(unit, w): (usize, &[f32])| {
            columns(Few { w, x, inp: self.inp, out: self.out, first: unit * UNIT, add }, &y);
        };
        w.par_chunks(UNIT * self.inp).enumerate().for_each(part);
    }
}

/// Some columns of y: their rows of W, and all of x.
struct Few<'a> {
    w: &'a [f32],
    x: &'a [f32],
    inp: usize,
    out: usize,
    /// First column.
    first: usize,
    add: bool,
}

multiversion! { fn columns(few: Few, y: &Shared) = columns_body }

#[inline(always)]
fn columns_body<const FMA: bool>(few: Few, y: &Shared) {
    let rows = few.w.len() / few.inp;
    let whole = rows - rows % WIDE;
    for at in (0..whole).step_by(WIDE) {
        panel::<FMA, WIDE>(&few, at, y);
    }
    for at in whole..rows {
        panel::<FMA, 1>(&few, at, y);
    }
}

/// Columns `at..at + O` of all rows.
#[inline(always)]
fn panel<const FMA: bool, const O: usize>(few: &Few, at: usize, y: &Shared) {
    let n = few.x.len() / few.inp;
    let whole = n - n % HIGH;
    for row in (0..whole).step_by(HIGH) {
        match row {
            0 => tile::<FMA, true, HIGH, O>(few, row, at, y),
            _ => tile::<FMA, false, HIGH, O>(few, row, at, y),
        }
    }
    match n - whole {
        2 => tile::<FMA, true, 2, O>(few, whole, at, y),
        1 => tile::<FMA, true, 1, O>(few, whole, at, y),
        _ => {}
    }
}

/// Dot products of R rows of x and O rows of W; with NEXT it asks for the O rows of W behind them.
#[inline(always)]
fn tile<'a, const FMA: bool, const NEXT: bool, const R: usize, const O: usize>(
    few: &Few<'a>,
    row: usize,
    at: usize,
    y: &Shared,
) {
    let (chunks, inp) = (few.inp / 8, few.inp);
    // slices of one length that the compiler knows: a check of bounds in the loop would cost it registers
    let line = |of: &'a [f32], at: usize| &of[at * inp..][..inp].as_chunks().0[..chunks];
    let x: [&[Eight]; R] = array::from_fn(|r| line(few.x, row + r));
    let w: [&[Eight]; O] = array::from_fn(|o| line(few.w, at + o));
    let mut sums = [[[0f32; 8]; O]; R];
    for k in 0..chunks {
        let mut left = [[0f32; 8]; R];
        for r in 0..R {
            left[r] = x[r][k];
        }
        for o in 0..O {
            let right = w[o][k];
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
                sum = fma::<FMA>(few.x[(row + r) * inp + i], few.w[(at + o) * inp + i], sum);
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
