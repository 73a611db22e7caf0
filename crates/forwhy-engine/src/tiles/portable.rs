//! Blocks summed by plain code: what the other kernels compute, for machines without their
//! instructions. Slower than f32; for tests, and to see elsewhere what bf16 does to a result.

use super::{EDGE, Tile};
use crate::simd::{fma, multiversion};

/// # Safety
/// As for `super::block`.
pub(super) unsafe fn block(
    a: *const Tile,
    b: *const Tile,
    steps: usize,
    c: *mut f32,
    step: usize,
    add: bool,
) {
    // SAFETY: the panels have 2 steps tiles, by the caller's promise.
    let (a, b) = unsafe {
        (std::slice::from_raw_parts(a, 2 * steps), std::slice::from_raw_parts(b, 2 * steps))
    };
    for row in 0..EDGE {
        // SAFETY: a row of the block, the caller's alone.
        let c = unsafe { &mut *c.add(row * step).cast::<[f32; EDGE]>() };
        if !add {
            c.fill(0.0);
        }
        sum_row((a, b), row, c);
    }
}

multiversion! { fn sum_row(panels: (&[Tile], &[Tile]), row: usize, c: &mut [f32; EDGE]) = row_body }

#[inline(always)]
fn row_body<const FMA: bool>((a, b): (&[Tile], &[Tile]), row: usize, c: &mut [f32; EDGE]) {
    let mut sums = *c;
    for (a, b) in a.chunks_exact(2).zip(b.chunks_exact(2)) {
        let a = &a[row / 16].0[row % 16 * EDGE..][..EDGE];
        for (pair, a) in a.chunks_exact(2).enumerate() {
            let (even, odd) = (float(a[0]), float(a[1]));
            for (sums, b) in sums.chunks_exact_mut(16).zip(b) {
                for (sum, b) in sums.iter_mut().zip(b.0[pair * EDGE..][..EDGE].chunks_exact(2)) {
                    *sum = fma::<FMA>(odd, float(b[1]), fma::<FMA>(even, float(b[0]), *sum));
                }
            }
        }
    }
    *c = sums;
}

#[inline(always)]
fn float(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
