//! Matrix products in bf16: operands rounded to bf16 (to nearest, ties to even), sums in f32.
//!
//! 1. [`multiply`] cuts a product into chunks whose packed operands stay in cache: nothing of a weight
//!    is kept in bf16 between products. [`Panels`] are a right operand that is packed once, for decoding:
//!    packing for each product with few rows would take longer than the product.
//! 2. [`pack`] rounds a chunk of an operand into panels of tiles.
//! 3. [`sum`] adds up blocks of 32 x 32 results from panels, by one of three kernels that read the same
//!    tiles: [`amx`], [`avx512`], and [`portable`] for machines that have neither.
//!
//! A panel is 32 rows of the left operand, or 32 columns of the right one. It holds, for every 32 of k,
//! two tiles of 16 rows (columns) each; a tile of the left operand has a row of 32 k for each of its
//! rows, one of the right operand has a row for every two k, in which the pairs of its columns follow
//! each other (Intel 64 manual, vol. 1, ch. 18: the operands of `TDPBF16PS`). Sizes that 32 does not
//! divide are filled up with zeros.
//!
//! Every element is summed in an order that depends on k alone: neither on the threads nor on the other
//! rows and columns.
#![allow(unsafe_code, reason = "kernels read and write matrices through checked pointers")]

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod pack;
mod portable;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use self::pack::{Side, pack};

/// Rows or columns of a block, and k of a step.
const EDGE: usize = 32;
/// Most k that are packed at a time.
const DEPTH: usize = 4096;
/// Steps of k that a block sums before it goes on to the next block: a panel of the right operand
/// then stays in the first-level cache (36 KiB) while blocks of one column follow each other.
const STEPS: usize = 18;
/// Bytes of one packed operand, at most (unless a single panel has more).
const PACKED: usize = 4 << 20;
/// Bytes of left panels that blocks go through for each right panel: they stay in the second-level cache.
const LEFT: usize = 1 << 19;
/// Units of work for each thread.
const UNITS: usize = 4;

/// What sums a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Plain code.
    Portable,
    /// `VDPBF16PS`.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// `TDPBF16PS`.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

impl Kernel {
    /// Whether this processor, and the system on it, can run the kernel.
    pub(crate) fn available(self) -> bool {
        match self {
            Kernel::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => avx512::available(),
            #[cfg(target_arch = "x86_64")]
            Kernel::Amx => avx512::available() && amx::available(),
        }
    }
}

/// 16 x 32 numbers in bf16.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Tile([u16; 16 * EDGE]);

/// An operand: element (line, k) stands at `line * line_step + k * k_step`, and one of the steps is 1.
/// Lines are the rows of the left operand, the columns of the right one.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    ptr: *const f32,
    lines: usize,
    k: usize,
    line_step: usize,
    k_step: usize,
    life: PhantomData<&'a [f32]>,
}

// SAFETY: it is a shared view of f32, which any thread may read.
unsafe impl Sync for Operand<'_> {}

impl Operand<'_> {
    /// # Safety
    /// All elements lie in one allocation that nobody writes to meanwhile.
    pub(crate) unsafe fn new(
        ptr: *const f32,
        (lines, line_step): (usize, usize),
        (k, k_step): (usize, usize),
    ) -> Self {
        assert!(
            line_step == 1 || k_step == 1,
            "an operand has its rows or its columns in one piece"
        );
        Operand { ptr, lines, k, line_step, k_step, life: PhantomData }
    }
}

/// Where a row-major product goes.
pub(crate) struct Target<'a> {
    ptr: *mut f32,
    rows: usize,
    cols: usize,
    step: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: units of work write to blocks that are disjoint.
unsafe impl Sync for Target<'_> {}

impl Target<'_> {
    /// # Safety
    /// All elements lie in one allocation that nobody else touches meanwhile.
    pub(crate) unsafe fn new(ptr: *mut f32, rows: usize, cols: usize, step: usize) -> Self {
        Target { ptr, rows, cols, step, life: PhantomData }
    }
}

/// Packed operands of one product at a time.
#[derive(Default)]
struct Packed {
    left: Vec<Tile>,
    right: Vec<Tile>,
}

thread_local! {
    /// Taken while in use: a thread that waits for others may begin another product meanwhile.
    static PACKED_HERE: Cell<Option<Packed>> = const { Cell::new(None) };
}

/// dst = scale a b, or dst += scale a b; on the pool's threads, or on this one.
pub(crate) fn multiply(
    kernel: Kernel,
    dst: &Target,
    add: bool,
    operands: (Operand, Operand),
    scale: f32,
    pool: bool,
) {
    in_chunks(kernel, (DEPTH, PACKED), dst, add, operands, scale, pool);
}

/// As [`multiply`], in chunks of at most `depth` k and `bytes` of a packed operand.
fn in_chunks(
    kernel: Kernel,
    (depth, bytes): (usize, usize),
    dst: &Target,
    add: bool,
    (a, b): (Operand, Operand),
    scale: f32,
    pool: bool,
) {
    assert!(a.k == b.k && dst.rows == a.lines && dst.cols == b.lines, "matrix sizes differ");
    assert!(a.k > 0 || dst.rows * dst.cols == 0, "a product over nothing");
    assert!(kernel.available(), "{kernel:?} kernels are chosen only where the processor has them");
    let threads = if pool { rayon::current_num_threads() } else { 1 };
    let mut packed = PACKED_HERE.take().unwrap_or_default();
    for k in chunks(0..a.k, depth) {
        let most = lines_of(k.len(), bytes);
        for cols in chunks(0..dst.cols, most) {
            pack(kernel, (Side::Right, b), 1.0, (&cols, &k), threads, &mut packed.right);
            for rows in chunks(0..dst.rows, most) {
                // left panels that all fit are packed once
                if cols.start == 0 || dst.rows > most {
                    pack(kernel, (Side::Left, a), scale, (&rows, &k), threads, &mut packed.left);
                }
                let part = Part {
                    kernel,
                    left: &packed.left,
                    right: &packed.right,
                    right_steps: 0..k.len().div_ceil(EDGE),
                    right_panel: k.len().div_ceil(EDGE),
                    dst,
                    rows,
                    cols: cols.clone(),
                };
                part.sum(add || k.start > 0, threads);
            }
        }
    }
    PACKED_HERE.set(Some(packed));
}

/// A right operand in bf16, all of it.
pub(crate) struct Panels {
    kernel: Kernel,
    tiles: Vec<Tile>,
    lines: usize,
    k: usize,
}

impl Panels {
    /// Packed on the pool's threads.
    pub(crate) fn new(kernel: Kernel, b: Operand) -> Self {
        assert!(
            kernel.available(),
            "{kernel:?} kernels are chosen only where the processor has them"
        );
        let (lines, k, mut tiles) = (b.lines, b.k, Vec::new());
        let threads = rayon::current_num_threads();
        pack(kernel, (Side::Right, b), 1.0, (&(0..lines), &(0..k)), threads, &mut tiles);
        Panels { kernel, tiles, lines, k }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.tiles[..])
    }

    /// dst = a b, or dst += a b, b being these panels; on the pool's threads. The bits are those of
    /// [`multiply`].
    pub(crate) fn multiply(&self, dst: &Target, add: bool, a: Operand) {
        assert!(
            a.k == self.k && self.k > 0 && dst.rows == a.lines && dst.cols == self.lines,
            "matrix sizes differ"
        );
        let (kernel, threads) = (self.kernel, rayon::current_num_threads());
        let mut packed = PACKED_HERE.take().unwrap_or_default();
        for k in chunks(0..a.k, DEPTH) {
            for rows in chunks(0..dst.rows, lines_of(k.len(), PACKED)) {
                pack(kernel, (Side::Left, a), 1.0, (&rows, &k), threads, &mut packed.left);
                let part = Part {
                    kernel,
                    left: &packed.left,
                    right: &self.tiles,
                    right_steps: k.start / EDGE..k.end.div_ceil(EDGE),
                    right_panel: a.k.div_ceil(EDGE),
                    dst,
                    rows,
                    cols: 0..dst.cols,
                };
                part.sum(add || k.start > 0, threads);
            }
        }
        PACKED_HERE.set(Some(packed));
    }
}

/// Lines of `k` numbers that `bytes` hold in bf16: whole panels, at least one.
fn lines_of(k: usize, bytes: usize) -> usize {
    (bytes / (2 * k.next_multiple_of(EDGE)) / EDGE).max(1) * EDGE
}

/// `range` in pieces of `most`.
fn chunks(range: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(most).map(move |at| at..end.min(at + most))
}

/// A part of the result whose operands are packed.
struct Part<'a> {
    kernel: Kernel,
    /// Panels of the steps at hand.
    left: &'a [Tile],
    right: &'a [Tile],
    /// The steps at hand within a right panel, which has `right_panel` of them.
    right_steps: Range<usize>,
    right_panel: usize,
    dst: &'a Target<'a>,
    rows: Range<usize>,
    cols: Range<usize>,
}

impl Part<'_> {
    /// Steps of k.
    fn steps(&self) -> usize {
        self.right_steps.len()
    }

    fn sum(&self, add: bool, threads: usize) {
        let (high, wide) = (self.rows.len().div_ceil(EDGE), self.cols.len().div_ceil(EDGE));
        let steps = self.steps();
        let group = (LEFT / (2 * size_of::<Tile>() * steps.min(STEPS))).clamp(1, high);
        let groups = high.div_ceil(group);
        let shares = if threads > 1 { (UNITS * threads).div_ceil(groups).min(wide) } else { 1 };
        let share = wide.div_ceil(shares);
        let unit = |unit: usize| {
            let (rows, cols) = (unit / shares * group, unit % shares * share);
            self.unit(rows..high.min(rows + group), cols..wide.min(cols + share), add);
        };
        match threads {
            1 => (0..groups).for_each(unit),
            _ => (0..groups * shares).into_par_iter().with_max_len(1).for_each(unit),
        }
    }

    /// The blocks of panels `rows` and `cols`.
    fn unit(&self, rows: Range<usize>, cols: Range<usize>, add: bool) {
        let steps = self.steps();
        let most = steps.div_ceil(steps.div_ceil(STEPS));
        // SAFETY: `multiply` saw that the kernel is available; it is entered and left on this thread.
        unsafe { enter(self.kernel) };
        for k in chunks(0..steps, most) {
            for col in cols.clone() {
                for row in rows.clone() {
                    self.block(row, col, &k, add || k.start > 0);
                }
            }
        }
        // SAFETY: as above.
        unsafe { leave(self.kernel) };
    }

    fn block(&self, row: usize, col: usize, k: &Range<usize>, add: bool) {
        let tiles = |panels: &[Tile], step: usize| panels[2 * step..2 * (step + k.len())].as_ptr();
        let a = tiles(self.left, row * self.steps() + k.start);
        let b = tiles(self.right, col * self.right_panel + self.right_steps.start + k.start);
        let (row, col) = (self.rows.start + row * EDGE, self.cols.start + col * EDGE);
        let high = EDGE.min(self.rows.end - row);
        let wide = EDGE.min(self.cols.end - col);
        // SAFETY: the block lies within the target, whose blocks belong to one unit each; the panels
        // hold 2 k.len() tiles from `a` and `b` on, and the kernel is entered.
        unsafe {
            let at = self.dst.ptr.add(row * self.dst.step + col);
            if high == EDGE && wide == EDGE {
                return block(self.kernel, (a, b), k.len(), at, self.dst.step, add);
            }
            // in the order of a whole block: an element's bits do not depend on where it stands
            let mut whole = [0f32; EDGE * EDGE];
            for row in (0..high).filter(|_| add) {
                at.add(row * self.dst.step).copy_to(whole[row * EDGE..].as_mut_ptr(), wide);
            }
            block(self.kernel, (a, b), k.len(), whole.as_mut_ptr(), EDGE, add);
            for row in 0..high {
                at.add(row * self.dst.step).copy_from(whole[row * EDGE..].as_ptr(), wide);
            }
        }
    }
}

/// # Safety
/// The kernel is available; every `enter` is followed by `leave` on the same thread.
unsafe fn enter(kernel: Kernel) {
    match kernel {
        // SAFETY: the processor has tiles and the system lets this process use them.
        #[cfg(target_arch = "x86_64")]
        Kernel::Amx => unsafe { amx::configure() },
        _ => {}
    }
}

/// # Safety
/// As for [`enter`].
unsafe fn leave(kernel: Kernel) {
    match kernel {
        // SAFETY: as in `enter`.
        #[cfg(target_arch = "x86_64")]
        Kernel::Amx => unsafe { amx::release() },
        _ => {}
    }
}

/// c[32,32], its rows `step` apart, = the product of a left and a right panel over `steps` of k, or
/// += it.
///
/// # Safety
/// The kernel is entered on this thread; the panels have 2 `steps` tiles; c is the caller's alone.
unsafe fn block(
    kernel: Kernel,
    (a, b): (*const Tile, *const Tile),
    steps: usize,
    c: *mut f32,
    step: usize,
    add: bool,
) {
    // SAFETY: as promised by the caller.
    unsafe {
        match kernel {
            Kernel::Portable => portable::block(a, b, steps, c, step, add),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => avx512::block(a, b, steps, c, step, add),
            #[cfg(target_arch = "x86_64")]
            Kernel::Amx => amx::block(a, b, steps, c, step, add),
        }
    }
}
