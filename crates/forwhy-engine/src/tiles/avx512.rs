//! Tiles written, and blocks summed, with AVX-512 and its bf16 instructions.
//!
//! `VCVTNE2PS2BF16` rounds to nearest even and takes denormal numbers for zero.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_permutexvar_epi16,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_store_si512, _mm512_storeu_ps, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::mem::transmute;

use super::pack::Source;
use super::{EDGE, Tile};

/// Rows of a block that are summed together: with two registers of columns sixteen sums, enough to
/// hide the latency of an addition.
const HIGH: usize = 8;

/// Whether the processor has what is used here.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
}

/// Numbers of bf16 as 32 bits each of two.
#[inline(always)]
fn pairs(x: __m512bh) -> __m512i {
    // SAFETY: both are 64 bytes of which every pattern is valid.
    unsafe { transmute::<__m512bh, __m512i>(x) }
}

#[inline(always)]
fn numbers(x: __m512i) -> __m512bh {
    // SAFETY: as above.
    unsafe { transmute::<__m512i, __m512bh>(x) }
}

/// Writes a tile.
///
/// # Safety
/// [`available`], and the source may be read.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn write(source: Source, tile: &mut Tile) {
    let Source { rows, cols, down, flip, .. } = source;
    let whole = rows * cols == 16 * EDGE;
    // SAFETY: as promised by the caller.
    unsafe {
        match (down, flip, whole) {
            (false, false, true) => write_as::<false, false, true>(source, tile),
            (false, true, true) => write_as::<false, true, true>(source, tile),
            (true, false, true) => write_as::<true, false, true>(source, tile),
            (true, true, true) => write_as::<true, true, true>(source, tile),
            (false, false, false) => write_as::<false, false, false>(source, tile),
            (false, true, false) => write_as::<false, true, false>(source, tile),
            (true, false, false) => write_as::<true, false, false>(source, tile),
            (true, true, false) => write_as::<true, true, false>(source, tile),
        }
    }
}

/// # Safety
/// As for [`write`], and the source is of this kind.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn write_as<const DOWN: bool, const FLIP: bool, const WHOLE: bool>(
    source: Source,
    Tile(tile): &mut Tile,
) {
    let Source { ptr, step, rows, cols, scale, .. } = source;
    let scale = _mm512_set1_ps(scale);
    // 16 numbers of a row, from column `from` on; zero outside
    let load = |row: usize, from: usize| -> __m512 {
        let at = ptr.wrapping_add(row * step + from);
        let inside = if row < rows { cols.saturating_sub(from).min(16) } else { 0 };
        let mask = ((1u32 << inside) - 1) as u16;
        // SAFETY: a whole source has these numbers; of another only what the mask names is read.
        let x =
            unsafe { if WHOLE { _mm512_loadu_ps(at) } else { _mm512_maskz_loadu_ps(mask, at) } };
        _mm512_mul_ps(x, scale)
    };
    let mut lines = [_mm512_setzero_si512(); 16];
    for (i, line) in lines.iter_mut().enumerate() {
        *line = if DOWN {
            let (first, second) = (load(2 * i, 0), load(2 * i + 1, 0));
            _mm512_permutexvar_epi16(interleave(), pairs(_mm512_cvtne2ps_pbh(second, first)))
        } else {
            pairs(_mm512_cvtne2ps_pbh(load(i, 16), load(i, 0)))
        };
    }
    if FLIP {
        lines = transposed(lines);
    }
    for (line, to) in lines.iter().zip(tile.chunks_exact_mut(EDGE)) {
        // SAFETY: 64 bytes of an aligned tile.
        unsafe { _mm512_store_si512(to.as_mut_ptr().cast(), *line) };
    }
}

/// Takes 16-bit numbers 0, 16, 1, 17, ...
#[inline]
#[target_feature(enable = "avx512f")]
fn interleave() -> __m512i {
    const ORDER: [u16; EDGE] = {
        let mut order = [0; EDGE];
        let mut i = 0;
        while i < EDGE {
            order[i] = (i / 2 + i % 2 * 16) as u16;
            i += 1;
        }
        order
    };
    // SAFETY: 64 bytes, at any alignment.
    unsafe { _mm512_loadu_si512(ORDER.as_ptr().cast()) }
}

/// The transpose of 16 x 16 numbers of 32 bits: within quarters of a register first, then the quarters.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(lines: [__m512i; 16]) -> [__m512i; 16] {
    let mut quads = [_mm512_setzero_si512(); 16];
    for (from, to) in lines.as_chunks::<4>().0.iter().zip(quads.as_chunks_mut::<4>().0) {
        let (low, high) = (
            (_mm512_unpacklo_epi32(from[0], from[1]), _mm512_unpacklo_epi32(from[2], from[3])),
            (_mm512_unpackhi_epi32(from[0], from[1]), _mm512_unpackhi_epi32(from[2], from[3])),
        );
        *to = [
            _mm512_unpacklo_epi64(low.0, low.1),
            _mm512_unpackhi_epi64(low.0, low.1),
            _mm512_unpacklo_epi64(high.0, high.1),
            _mm512_unpackhi_epi64(high.0, high.1),
        ];
    }
    // quads[4 q + c], quarter p: column 4 p + c of lines 4 q .. 4 q + 4
    let mut result = [_mm512_setzero_si512(); 16];
    for c in 0..4 {
        let (q0, q1, q2, q3) = (quads[c], quads[4 + c], quads[8 + c], quads[12 + c]);
        let even = (_mm512_shuffle_i32x4::<0x88>(q0, q1), _mm512_shuffle_i32x4::<0x88>(q2, q3));
        let odd = (_mm512_shuffle_i32x4::<0xdd>(q0, q1), _mm512_shuffle_i32x4::<0xdd>(q2, q3));
        result[c] = _mm512_shuffle_i32x4::<0x88>(even.0, even.1);
        result[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd.0, odd.1);
        result[8 + c] = _mm512_shuffle_i32x4::<0xdd>(even.0, even.1);
        result[12 + c] = _mm512_shuffle_i32x4::<0xdd>(odd.0, odd.1);
    }
    result
}

/// # Safety
/// [`available`], and as for `super::block`.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn block(
    a: *const Tile,
    b: *const Tile,
    steps: usize,
    c: *mut f32,
    step: usize,
    add: bool,
) {
    for first in (0..EDGE).step_by(HIGH) {
        // SAFETY: HIGH rows of the block; their half of the left panel's tiles.
        unsafe {
            let a = a.add(first / 16).cast::<i32>().add(first % 16 * 16);
            rows(a, b, steps, c.add(first * step), step, add);
        }
    }
}

/// [`HIGH`] rows of a block; `a` points at the first of them in the first of every second tile.
///
/// # Safety
/// As for [`block`].
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn rows(
    mut a: *const i32,
    b: *const Tile,
    steps: usize,
    c: *mut f32,
    step: usize,
    add: bool,
) {
    /// Pairs in a tile.
    const PAIRS: usize = 16 * 16;
    let mut sums = [[_mm512_setzero_ps(); 2]; HIGH];
    // SAFETY: rows of the block, of 32 numbers; `steps` times two tiles of either panel.
    unsafe {
        for (row, sums) in sums.iter_mut().enumerate().filter(|_| add) {
            let c = c.add(row * step);
            *sums = [_mm512_loadu_ps(c), _mm512_loadu_ps(c.add(16))];
        }
        let mut b = b.cast::<i32>();
        for _ in 0..steps {
            for pair in 0..16 {
                let at = b.add(pair * 16);
                let right =
                    [_mm512_loadu_si512(at.cast()), _mm512_loadu_si512(at.add(PAIRS).cast())];
                for (row, sums) in sums.iter_mut().enumerate() {
                    let left = numbers(_mm512_set1_epi32(*a.add(row * 16 + pair)));
                    sums[0] = _mm512_dpbf16_ps(sums[0], left, numbers(right[0]));
                    sums[1] = _mm512_dpbf16_ps(sums[1], left, numbers(right[1]));
                }
            }
            a = a.add(2 * PAIRS);
            b = b.add(2 * PAIRS);
        }
        for (row, sums) in sums.iter().enumerate() {
            let c = c.add(row * step);
            _mm512_storeu_ps(c, sums[0]);
            _mm512_storeu_ps(c.add(16), sums[1]);
        }
    }
}
