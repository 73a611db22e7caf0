//! Matrix products, in f32 or in bf16 as the chosen kernels have it. `fwd`, `dx` and `dw` are the whole
//! interface of a linear layer.
#![allow(unsafe_code, reason = "the gemm crate takes raw pointers; bounds are checked here")]

use std::marker::PhantomData;

use gemm::Parallelism;

use crate::kernels::Kernels;
use crate::tiles::{self, Operand, Panels, Target};

/// A view of a matrix: element (i, j) stands at `i * row_step + j * col_step`.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a> {
    ptr: *const f32,
    rows: usize,
    cols: usize,
    row_step: usize,
    col_step: usize,
    life: PhantomData<&'a [f32]>,
}

impl<'a> Mat<'a> {
    /// Row-major `rows` x `cols` with rows `step` apart, from the start of `data`.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize, step: usize) -> Self {
        assert!(fits(data.len(), rows, cols, step), "matrix view out of bounds");
        Mat { ptr: data.as_ptr(), rows, cols, row_step: step, col_step: 1, life: PhantomData }
    }

    /// The transposed view.
    pub(crate) fn t(self) -> Self {
        let Mat { rows, cols, row_step, col_step, .. } = self;
        Mat { rows: cols, cols: rows, row_step: col_step, col_step: row_step, ..self }
    }
}

/// A row-major matrix that a product is written to.
pub(crate) struct MatMut<'a> {
    ptr: *mut f32,
    rows: usize,
    cols: usize,
    step: usize,
    life: PhantomData<&'a mut [f32]>,
}

impl<'a> MatMut<'a> {
    /// Row-major `rows` x `cols` with rows `step` apart, from the start of `data`.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, cols: usize, step: usize) -> Self {
        assert!(fits(data.len(), rows, cols, step), "matrix view out of bounds");
        MatMut { ptr: data.as_mut_ptr(), rows, cols, step, life: PhantomData }
    }

    /// As `new`, at a pointer.
    ///
    /// # Safety
    /// All elements of the view lie in one allocation, and nobody else touches them meanwhile.
    pub(crate) unsafe fn at(ptr: *mut f32, rows: usize, cols: usize, step: usize) -> Self {
        MatMut { ptr, rows, cols, step, life: PhantomData }
    }
}

fn fits(len: usize, rows: usize, cols: usize, step: usize) -> bool {
    rows == 0 || cols == 0 || (rows - 1) * step + cols <= len
}

/// Whether a product uses the threads of the pool that it runs in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    /// One thread: the caller is parallel already.
    No,
    /// All threads.
    Pool,
}

impl Kernels {
    /// dst = scale a b, or dst += scale a b.
    pub(crate) fn multiply(
        self,
        dst: MatMut,
        add: bool,
        scale: f32,
        (a, b): (Mat, Mat),
        split: Split,
    ) {
        let Some(kernel) = self.tiles() else { return multiply(dst, add, scale, a, b, split) };
        // SAFETY: the constructors checked (or the caller of `at` promised) that every element lies
        // within its slice, and `dst` is exclusive.
        unsafe {
            let operands = (left(a), right(b));
            tiles::multiply(kernel, &target(&dst), add, operands, scale, split == Split::Pool);
        }
    }
}

/// # Safety
/// As for [`Operand::new`], while the view lives.
unsafe fn left(a: Mat<'_>) -> Operand<'_> {
    // SAFETY: as promised by the caller.
    unsafe { Operand::new(a.ptr, (a.rows, a.row_step), (a.cols, a.col_step)) }
}

/// # Safety
/// As for [`left`].
unsafe fn right(b: Mat<'_>) -> Operand<'_> {
    // SAFETY: as promised by the caller.
    unsafe { Operand::new(b.ptr, (b.cols, b.col_step), (b.rows, b.row_step)) }
}

/// # Safety
/// As for [`Target::new`], while the view lives.
unsafe fn target<'a>(dst: &MatMut<'a>) -> Target<'a> {
    // SAFETY: as promised by the caller.
    unsafe { Target::new(dst.ptr, dst.rows, dst.cols, dst.step) }
}

/// dst = scale a b, or dst += scale a b, in f32 whatever kernels are chosen.
pub(crate) fn multiply(dst: MatMut, add: bool, scale: f32, a: Mat, b: Mat, split: Split) {
    assert!(a.cols == b.rows && dst.rows == a.rows && dst.cols == b.cols, "matrix sizes differ");
    if dst.rows == 0 || dst.cols == 0 {
        return;
    }
    let threads = rayon::current_num_threads();
    let parallelism = match split {
        Split::Pool if threads > 1 => Parallelism::Rayon(threads),
        _ => Parallelism::None,
    };
    let step = |n: usize| n as isize;
    // SAFETY: the constructors checked (or the caller of `at` promised) that every element lies
    // within its slice; `dst` is exclusive, and all values of f32 are valid.
    unsafe {
        gemm::gemm(
            dst.rows,
            dst.cols,
            a.cols,
            dst.ptr,
            1,
            step(dst.step),
            add,
            a.ptr,
            step(a.col_step),
            step(a.row_step),
            b.ptr,
            step(b.col_step),
            step(b.row_step),
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Where the weight of a linear layer lies in the flat buffer (`out` x `inp`, row-major), and what
/// computes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Linear {
    /// Offset, in elements.
    pub(crate) at: usize,
    /// Outputs.
    pub(crate) out: usize,
    /// Inputs.
    pub(crate) inp: usize,
    /// What its products are computed with.
    pub(crate) kernels: Kernels,
}

impl Linear {
    /// The weight in the flat buffer `w`.
    pub(crate) fn of(self, w: &[f32]) -> Mat<'_> {
        Mat::new(&w[self.at..][..self.out * self.inp], self.out, self.inp, self.inp)
    }

    /// y[r,out] = x[r,inp] W^T, or y += it.
    pub(crate) fn fwd(self, w: &[f32], x: &[f32], y: &mut [f32], add: bool) {
        let rows = x.len() / self.inp;
        let (x, y) =
            (Mat::new(x, rows, self.inp, self.inp), MatMut::new(y, rows, self.out, self.out));
        self.kernels.multiply(y, add, 1.0, (x, self.of(w).t()), Split::Pool);
    }

    /// The weight in bf16 panels for [`Linear::fwd_panels`]; None where its products are f32's.
    pub(crate) fn panels(self, w: &[f32]) -> Option<Panels> {
        let kernel = self.kernels.tiles()?;
        let w = self.of(w).t();
        // SAFETY: the view was checked, and is borrowed while it is packed.
        Some(unsafe { Panels::new(kernel, right(w)) })
    }

    /// y[r,out] = x[r,inp] W^T, or y += it, with the weight in panels. The bits are those of `fwd`.
    pub(crate) fn fwd_panels(self, panels: &Panels, x: &[f32], y: &mut [f32], add: bool) {
        let rows = x.len() / self.inp;
        let (x, y) =
            (Mat::new(x, rows, self.inp, self.inp), MatMut::new(y, rows, self.out, self.out));
        // SAFETY: as in `Kernels::multiply`.
        unsafe { panels.multiply(&target(&y), add, left(x)) };
    }

    /// dx[r,inp] = dy[r,out] W.
    pub(crate) fn dx(self, w: &[f32], dy: &[f32], dx: &mut [f32]) {
        let rows = dy.len() / self.out;
        let dx = MatMut::new(dx, rows, self.inp, self.inp);
        let dy = Mat::new(dy, rows, self.out, self.out);
        self.kernels.multiply(dx, false, 1.0, (dy, self.of(w)), Split::Pool);
    }

    /// dW[out,inp] = dy[r,out]^T x[r,inp], or dW += it. `g` is the gradient of this weight alone.
    pub(crate) fn dw(self, dy: &[f32], x: &[f32], g: &mut [f32], add: bool) {
        let rows = dy.len() / self.out;
        let g = MatMut::new(g, self.out, self.inp, self.inp);
        let dy = Mat::new(dy, rows, self.out, self.out);
        let x = Mat::new(x, rows, self.inp, self.inp);
        self.kernels.multiply(g, add, 1.0, (dy.t(), x), Split::Pool);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7 + 3) % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn the_three_products_agree_with_plain_loops() {
        let layer = Linear { at: 3, out: 4, inp: 6, kernels: Kernels::F32 };
        let (w, x, dy) = (ramp(3 + 24), ramp(5 * 6), ramp(5 * 4));
        let weight = |o: usize, i: usize| w[3 + o * 6 + i];
        let mut y = vec![1.0; 5 * 4];
        layer.fwd(&w, &x, &mut y, true);
        let mut dx = vec![9.0; 5 * 6];
        layer.dx(&w, &dy, &mut dx);
        let mut g = vec![9.0; 24];
        layer.dw(&dy, &x, &mut g, false);
        for r in 0..5 {
            for o in 0..4 {
                let want: f32 = (0..6).map(|i| x[r * 6 + i] * weight(o, i)).sum();
                assert_eq!(y[r * 4 + o], want + 1.0);
            }
            for i in 0..6 {
                let want: f32 = (0..4).map(|o| dy[r * 4 + o] * weight(o, i)).sum();
                assert_eq!(dx[r * 6 + i], want);
            }
        }
        for o in 0..4 {
            for i in 0..6 {
                let want: f32 = (0..5).map(|r| dy[r * 4 + o] * x[r * 6 + i]).sum();
                assert_eq!(g[o * 6 + i], want);
            }
        }
    }
}
