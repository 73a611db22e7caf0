//! An operand's numbers, rounded to bf16 and put into the tiles of its panels.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::{EDGE, Kernel, Operand, Tile};

/// Rows (columns) of a tile.
const LINES: usize = EDGE / 2;

/// Which operand of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// What of a matrix goes into a tile: `rows` x `cols` numbers, its rows `step` apart. Rows are lines of
/// the operand, or k where `down` is set.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) ptr: *const f32,
    pub(super) step: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// k runs down the matrix: the tile takes 32 of its rows and 16 of its columns, not 16 and 32.
    pub(super) down: bool,
    /// The pairs of the tile are transposed.
    pub(super) flip: bool,
    pub(super) scale: f32,
}

/// Fills `tiles` with the panels of `lines` and `k` of the operand, times `scale`.
pub(super) fn pack(
    kernel: Kernel,
    (side, operand): (Side, Operand),
    scale: f32,
    (lines, k): (&Range<usize>, &Range<usize>),
    threads: usize,
    tiles: &mut Vec<Tile>,
) {
    let panel = 2 * k.len().div_ceil(EDGE);
    let len = lines.len().div_ceil(EDGE) * panel;
    if tiles.len() < len {
        tiles.resize(len, Tile([0; LINES * EDGE]));
    }
    let fill = |(index, tiles): (usize, &mut [Tile])| {
        let first = lines.start + index * EDGE;
        for (at, tile) in tiles.iter_mut().enumerate() {
            let (line, k_at) = (first + at % 2 * LINES, k.start + at / 2 * EDGE);
            let lines = LINES.min(lines.end.saturating_sub(line));
            let source =
                source(side, operand, (line, lines), (k_at, EDGE.min(k.end - k_at)), scale);
            // SAFETY: the source lies within the operand, and the kernel is available.
            unsafe { write(kernel, source, tile) };
        }
    };
    let panels = &mut tiles[..len];
    match threads {
        1 => panels.chunks_mut(panel).enumerate().for_each(fill),
        _ => panels.par_chunks_mut(panel).enumerate().for_each(fill),
    }
}

fn source(
    side: Side,
    operand: Operand,
    (line, lines): (usize, usize),
    (k, depth): (usize, usize),
    scale: f32,
) -> Source {
    let ptr = operand.ptr.wrapping_add(line * operand.line_step + k * operand.k_step);
    let down = operand.k_step != 1;
    let (step, rows, cols) =
        if down { (operand.k_step, depth, lines) } else { (operand.line_step, lines, depth) };
    Source { ptr, step, rows, cols, down, flip: down == (side == Side::Left), scale }
}

/// # Safety
/// The source may be read, and the kernel is available.
unsafe fn write(kernel: Kernel, source: Source, tile: &mut Tile) {
    match kernel {
        // SAFETY: as promised by the caller.
        Kernel::Portable => unsafe { write_portable(source, tile) },
        // SAFETY: as above; both kernels need these instructions.
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 | Kernel::Amx => unsafe { avx512::write(source, tile) },
    }
}

/// # Safety
/// The source may be read.
unsafe fn write_portable(source: Source, Tile(tile): &mut Tile) {
    let Source { ptr, step, rows, cols, down, flip, scale } = source;
    for i in 0..LINES {
        for j in 0..EDGE {
            let (row, col) = if down { (2 * i + j % 2, j / 2) } else { (i, j) };
            let inside = row < rows && col < cols;
            // SAFETY: read only within the source.
            let x = if inside { unsafe { ptr.add(row * step + col).read() } } else { 0.0 };
            let at = if flip { j / 2 * EDGE + 2 * i + j % 2 } else { i * EDGE + j };
            tile[at] = bf16::from_f32(x * scale).to_bits();
        }
    }
}
