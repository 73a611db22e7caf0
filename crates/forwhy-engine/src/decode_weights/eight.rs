//! y = x W^T with the weights in 8 bits, for the few rows of a decoding step: a quarter of the bytes
//! that [`crate::few`] reads, and integer products that are exact.
//!
//! 1. [`Eight::new`] rounds the weights of every linear layer: each [`GROUP`] consecutive weights of a
//!    row share a scale, the largest magnitude over 127. That is the only loss worth the name.
//! 2. [`Matrix8::fwd`] rounds the rows of x to 16 bits, the largest magnitude of a row over 32,767.
//! 3. A tile multiplies [`HIGH`] rows of x with [`WIDE`] rows of W: integer sums over a group, which are
//!    scaled and added in f32, in an order that depends neither on the other rows nor on the threads.
//!
//! What is not finite in W or in x stays so in y: its scale is then not a number.
#![allow(unsafe_code, reason = "threads write interleaved columns of y; vector instructions")]

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::buffer::Shared;
use crate::linear::Linear;
use crate::llama::plan::Plan;
use crate::simd::{self, Level, add_eight};

/// Weights that share a scale.
const GROUP: usize = 128;
/// Codes that one instruction multiplies.
const STEP: usize = 16;
/// Rows of W in a tile.
const WIDE: usize = 2;
/// Rows of x in a tile.
const HIGH: usize = 4;
/// Rows of W that are one unit of parallel work.
const UNIT: usize = 64;
/// Largest code of a weight.
const MOST_W: f32 = 127.0;
/// Largest code of an input. A group's sum stays below 2^31 in each of its eight lanes.
const MOST_X: f32 = 32_767.0;

/// The linear layers of a model in 8 bits, by their place in the flat buffer.
pub(crate) struct Eight(BTreeMap<usize, Matrix8>);

impl Eight {
    /// From the weights of all layers.
    pub(crate) fn new(plan: &Plan, w: &[f32]) -> Self {
        Eight(plan.linears().map(|layer| (layer.at, Matrix8::new(layer, w))).collect())
    }

    /// The weights of one layer.
    pub(crate) fn of(&self, layer: Linear) -> &Matrix8 {
        &self.0[&layer.at]
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |m: &Matrix8| size_of_val(&m.codes[..]) + size_of_val(&m.scales[..]);
        self.0.values().map(bytes).sum()
    }
}

/// A matrix `out` x `inp`: rows of codes, padded to whole steps with zeros, and of scales.
pub(crate) struct Matrix8 {
    inp: usize,
    out: usize,
    codes: Vec<[i8; STEP]>,
    scales: Vec<f32>,
}

/// Rows of x in 16 bits, padded in the same way, with a scale each.
struct Inputs {
    codes: Vec<[i16; STEP]>,
    scales: Vec<f32>,
}

impl Matrix8 {
    fn new(layer: Linear, w: &[f32]) -> Self {
        let Linear { at, out, inp, .. } = layer;
        let (steps, groups) = (inp.div_ceil(STEP), inp.div_ceil(GROUP));
        let (mut codes, mut scales) = (vec![[0; STEP]; out * steps], vec![0.0; out * groups]);
        let to = codes.par_chunks_mut(steps).zip(scales.par_chunks_mut(groups));
        w[at..][..out * inp].par_chunks(inp).zip(to).for_each(|(w, (codes, scales))| {
            let groups = w.chunks(GROUP).zip(codes.chunks_mut(GROUP / STEP)).zip(scales);
            groups.for_each(|((w, codes), scale)| {
                *scale = encode(w, codes.as_flattened_mut(), MOST_W, |code| code as i8);
            });
        });
        Matrix8 { inp, out, codes, scales }
    }

    /// y[r,out] = x[r,inp] W^T, or y += it.
    pub(crate) fn fwd(&self, x: &[f32], y: &mut [f32], add: bool) {
        let (steps, groups) = (self.inp.div_ceil(STEP), self.inp.div_ceil(GROUP));
        let x = &Inputs::new(x, self.inp);
        let y = Shared::new(y);
        let units = self.codes.par_chunks(UNIT * steps).zip(self.scales.par_chunks(UNIT * groups));
        units.enumerate().for_each(|(unit, (codes, scales))| {
            let out = self.out;
            columns(&Part { codes, scales, steps, groups, x, out, first: unit * UNIT, add }, &y);
        });
    }
}

impl Inputs {
    fn new(x: &[f32], inp: usize) -> Self {
        let (steps, rows) = (inp.div_ceil(STEP), x.len() / inp);
        let (mut codes, mut scales) = (vec![[0; STEP]; rows * steps], vec![0.0; rows]);
        for ((x, codes), scale) in x.chunks(inp).zip(codes.chunks_mut(steps)).zip(&mut scales) {
            *scale = encode(x, codes.as_flattened_mut(), MOST_X, |code| code as i16);
        }
        Inputs { codes, scales }
    }
}

/// Writes x / scale, rounded, into the first codes; gives the scale.
fn encode<C>(x: &[f32], codes: &mut [C], most: f32, code: impl Fn(i32) -> C) -> f32 {
    /// 1.5 2^23: adding it rounds to an integer that stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let (mut largest, mut poison) = (0f32, 0f32);
    for x in x {
        largest = if x.abs() > largest { x.abs() } else { largest };
        poison += x * 0.0;
    }
    let scale = largest / most + poison;
    // of numbers so small that this overflows, nothing is left
    let inverse = if (most / largest).is_finite() { most / largest } else { 0.0 };
    for (x, to) in x.iter().zip(codes) {
        let shifted = x * inverse + ROUND;
        *to = code((shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32));
    }
    scale
}

/// Some columns of y: their rows of W, and all of x.
struct Part<'a> {
    codes: &'a [[i8; STEP]],
    scales: &'a [f32],
    /// Steps and groups of a row.
    steps: usize,
    groups: usize,
    x: &'a Inputs,
    /// Columns of y.
    out: usize,
    /// First of these columns.
    first: usize,
    add: bool,
}

impl Part<'_> {
    /// Row `row` of y at column `at` from the sums over lanes.
    #[inline(always)]
    fn put(&self, y: &Shared, row: usize, at: usize, sums: [f32; 8]) {
        // SAFETY: the columns of one part of W belong to one unit of work.
        let y = unsafe { y.slice(row * self.out + self.first + at, 1) };
        let sum = add_eight(sums) * self.x.scales[row];
        y[0] = if self.add { y[0] + sum } else { sum };
    }
}

fn columns(part: &Part, y: &Shared) {
    match simd::level() {
        // SAFETY: these levels have AVX2 and FMA.
        #[cfg(target_arch = "x86_64")]
        Level::V4 | Level::V3 => unsafe { avx2::columns(part, y) },
        Level::Base => plain(part, y),
    }
}

/// One product after another, without vector instructions by name.
fn plain(part: &Part, y: &Shared) {
    let rows = part.codes.chunks(part.steps).zip(part.scales.chunks(part.groups));
    for (at, (w, scales)) in rows.enumerate() {
        for (row, x) in part.x.codes.chunks(part.steps).enumerate() {
            let mut sums = [0f32; 8];
            let groups = x.chunks(GROUP / STEP).zip(w.chunks(GROUP / STEP)).zip(scales);
            for ((x, w), scale) in groups {
                let mut whole = [0i32; 8];
                for (x, w) in x.iter().zip(w) {
                    for (lane, sum) in whole.iter_mut().enumerate() {
                        let product = |i: usize| i32::from(x[i]) * i32::from(w[i]);
                        *sum += product(2 * lane) + product(2 * lane + 1);
                    }
                }
                sums.iter_mut().zip(whole).for_each(|(sum, whole)| *sum += whole as f32 * scale);
            }
            part.put(y, row, at, sums);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::{GROUP, HIGH, Part, STEP, Shared, WIDE};
    use crate::simd::prefetch;

    /// Steps of a group.
    const STEPS: usize = GROUP / STEP;
    /// Steps of a cache line.
    const LINE: usize = 64 / STEP;

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn columns(part: &Part, y: &Shared) {
        let rows = part.codes.len() / part.steps;
        let whole = rows - rows % WIDE;
        for at in (0..whole).step_by(WIDE) {
            panel::<WIDE>(part, at, y);
        }
        for at in whole..rows {
            panel::<1>(part, at, y);
        }
    }

    /// Columns `at..at + O` of all rows.
    #[target_feature(enable = "avx2,fma")]
    fn panel<const O: usize>(part: &Part, at: usize, y: &Shared) {
        let n = part.x.scales.len();
        let whole = n - n % HIGH;
        for row in (0..whole).step_by(HIGH) {
            match row {
                0 => tile::<true, HIGH, O>(part, row, at, y),
                _ => tile::<false, HIGH, O>(part, row, at, y),
            }
        }
        match n - whole {
            3 => tile::<true, 3, O>(part, whole, at, y),
            2 => tile::<true, 2, O>(part, whole, at, y),
            1 => tile::<true, 1, O>(part, whole, at, y),
            _ => {}
        }
    }

    /// Dot products of R rows of x and O rows of W, without closures, which the compiler would leave
    /// outside, and their bounds with them. With NEXT it asks for the O rows of W behind them.
    #[expect(clippy::needless_range_loop, reason = "an index of several arrays and a place in two")]
    #[target_feature(enable = "avx2,fma")]
    fn tile<const NEXT: bool, const R: usize, const O: usize>(
        part: &Part,
        row: usize,
        at: usize,
        y: &Shared,
    ) {
        let steps = part.steps;
        let x = &part.x.codes[row * steps..][..R * steps];
        let w = &part.codes[at * steps..][..O * steps];
        let mut sums = [[_mm256_setzero_ps(); O]; R];
        for group in 0..part.groups {
            let from = group * STEPS;
            let to = steps.min(from + STEPS);
            let mut whole = [[_mm256_setzero_si256(); O]; R];
            for k in from..to {
                for o in 0..O {
                    // SAFETY: o < O and k < steps; sixteen bytes from an array of sixteen.
                    let right =
                        unsafe { _mm_loadu_si128(w.get_unchecked(o * steps + k).as_ptr().cast()) };
                    let right = _mm256_cvtepi8_epi16(right);
                    for r in 0..R {
                        // SAFETY: r < R and k < steps; 32 bytes from an array of sixteen i16.
                        let left = unsafe {
                            _mm256_loadu_si256(x.get_unchecked(r * steps + k).as_ptr().cast())
                        };
                        whole[r][o] = _mm256_add_epi32(whole[r][o], _mm256_madd_epi16(left, right));
                    }
                }
            }
            for o in 0..O {
                if NEXT {
                    for line in (from..to).step_by(LINE) {
                        prefetch(w.as_ptr().wrapping_add((o + O) * steps + line));
                    }
                }
                let scale = _mm256_set1_ps(part.scales[(at + o) * part.groups + group]);
                for r in 0..R {
                    let sum = _mm256_cvtepi32_ps(whole[r][o]);
                    sums[r][o] = _mm256_fmadd_ps(sum, scale, sums[r][o]);
                }
            }
        }
        // as in the f32 tiles: the sums over lanes must not reshape the loop above
        for (r, sums) in black_box(sums).iter().enumerate() {
            for (o, sum) in sums.iter().enumerate() {
                let mut lanes = [0f32; 8];
                // SAFETY: eight numbers are written to an array of eight.
                unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), *sum) };
                part.put(y, row + r, at + o, lanes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::noise;
    use crate::kernels::Kernels;

    fn matrix(out: usize, inp: usize) -> (Matrix8, Vec<f32>) {
        let w = noise(2 + out * inp, 1);
        (Matrix8::new(Linear { at: 2, out, inp, kernels: Kernels::F32 }, &w), w[2..].to_vec())
    }

    #[test]
    fn products_are_those_of_the_weights_within_the_rounding_to_8_bits() {
        for (out, inp) in [(70, 64), (5, 19), (131, 40), (9, 300), (66, 256)] {
            let (matrix, w) = matrix(out, inp);
            for rows in 1..10 {
                let (x, start) = (noise(rows * inp, 2), noise(rows * out, 3));
                let mut y = start.clone();
                matrix.fwd(&x, &mut y, true);
                for (i, y) in y.iter().enumerate() {
                    let (x, w) = (&x[i / out * inp..][..inp], &w[i % out * inp..][..inp]);
                    let products = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
                    let want = f64::from(start[i]) + products.sum::<f64>();
                    // a weight is off by half a step at most, and here no weight is above 5
                    let most = x.iter().map(|x| f64::from(x.abs())).sum::<f64>() * 5.0 / 254.0;
                    let off = (f64::from(*y) - want).abs();
                    assert!(off < most + 1e-3, "{rows} x {inp} x {out}: off by {off}");
                }
            }
        }
    }

    #[test]
    fn weights_that_8_bits_hold_are_exact_but_for_the_inputs() {
        let (out, inp) = (6, 160);
        // each group has the largest code: the scale is 1
        let weight = |i: usize| match i % inp % GROUP {
            0 => MOST_W,
            _ => (i * 37 % 255) as f32 - MOST_W,
        };
        let w: Vec<f32> = (0..out * inp).map(weight).collect();
        let x: Vec<f32> = (0..inp).map(|i| (i % 15) as f32 * 4681.0 - 32_767.0).collect();
        let (mut y, plain) = (vec![9.0; out], |w: &[f32]| {
            w.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>()
        });
        let matrix = Matrix8::new(Linear { at: 0, out, inp, kernels: Kernels::F32 }, &w);
        matrix.fwd(&x, &mut y, false);
        for (y, w) in y.iter().zip(w.chunks(inp)) {
            let relative = (f64::from(*y) - plain(w)).abs() / plain(w).abs().max(1e6);
            assert!(relative < 1e-5, "{y}, plain loops have {}", plain(w));
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others() {
        let (matrix, _) = matrix(130, 200);
        let x = noise(7 * 200, 2);
        let mut all = vec![0.0; 7 * 130];
        matrix.fwd(&x, &mut all, false);
        for (x, together) in x.chunks(200).zip(all.chunks(130)) {
            let mut alone = vec![9.0; 130];
            matrix.fwd(x, &mut alone, false);
            assert_eq!(alone, together);
        }
    }

    #[test]
    fn vector_instructions_and_plain_loops_agree() {
        let (matrix, _) = matrix(11, 300);
        let x = noise(5 * 300, 2);
        let (mut fast, mut slow) = (vec![0.0; 5 * 11], vec![0.0; 5 * 11]);
        matrix.fwd(&x, &mut fast, false);
        let part = Part {
            codes: &matrix.codes,
            scales: &matrix.scales,
            steps: 300usize.div_ceil(STEP),
            groups: 300usize.div_ceil(GROUP),
            x: &Inputs::new(&x, 300),
            out: 11,
            first: 0,
            add: false,
        };
        plain(&part, &Shared::new(&mut slow));
        for (fast, slow) in fast.iter().zip(&slow) {
            assert!((fast - slow).abs() < 1e-4, "{fast}, {slow}");
        }
    }

    #[test]
    fn what_is_not_finite_stays_so_and_zeros_are_zeros() {
        let layer = Linear { at: 0, out: 2, inp: 32, kernels: Kernels::F32 };
        let mut w = noise(64, 1);
        w[40] = f32::NAN;
        let mut y = [0.0; 2];
        Matrix8::new(layer, &w).fwd(&noise(32, 2), &mut y, false);
        assert!(y[0].is_finite() && y[1].is_nan());
        let mut x = noise(32, 2);
        x[3] = f32::INFINITY;
        Matrix8::new(layer, &noise(64, 1)).fwd(&x, &mut y, false);
        assert!(y.iter().all(|y| y.is_nan()));
        Matrix8::new(layer, &[0.0; 64]).fwd(&[0.0; 32], &mut y, false);
        assert_eq!(y, [0.0; 2]);
    }
}
