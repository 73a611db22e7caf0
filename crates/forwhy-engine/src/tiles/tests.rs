//! Every kernel that this machine has, against sums in f64 of operands rounded beforehand.

use half::bf16;

use super::*;
use crate::checks::noise;

/// Those that this machine can run.
#[allow(clippy::print_stderr, reason = "what was not tested is said")]
fn kernels() -> Vec<Kernel> {
    let all = [
        Kernel::Portable,
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512,
        #[cfg(target_arch = "x86_64")]
        Kernel::Amx,
    ];
    let (here, missing): (Vec<Kernel>, Vec<Kernel>) = all.into_iter().partition(|k| k.available());
    if !missing.is_empty() {
        eprintln!("not run, for want of a processor that has them: {missing:?}");
    }
    here
}

fn rounded(x: f32) -> f64 {
    f64::from(bf16::from_f32(x).to_f32())
}

/// A matrix of `lines` lines of k, which lie along its rows, or down its columns.
struct Matrix {
    data: Vec<f32>,
    lines: usize,
    k: usize,
    down: bool,
}

impl Matrix {
    fn new(lines: usize, k: usize, down: bool, seed: u64) -> Self {
        Matrix { data: noise((lines + 3) * (k + 5), seed), lines, k, down }
    }

    fn steps(&self) -> (usize, usize) {
        if self.down { (1, self.lines + 3) } else { (self.k + 5, 1) }
    }

    fn at(&self, line: usize, k: usize) -> f32 {
        let (line_step, k_step) = self.steps();
        self.data[line * line_step + k * k_step]
    }

    fn operand(&self) -> Operand<'_> {
        let (line_step, k_step) = self.steps();
        // SAFETY: `new` made room for all lines with their gaps.
        unsafe { Operand::new(self.data.as_ptr(), (self.lines, line_step), (self.k, k_step)) }
    }
}

/// The product's row length is seven more than it has columns. `small`: in very small chunks.
#[derive(Clone, Copy)]
struct How {
    add: bool,
    scale: f32,
    pool: bool,
    small: bool,
}

const PLAIN: How = How { add: false, scale: 1.0, pool: false, small: false };

fn run(kernel: Kernel, (a, b): (&Matrix, &Matrix), c: &mut [f32], how: How) {
    let step = b.lines + 7;
    assert!(c.len() >= a.lines * step);
    // SAFETY: within c, as was just seen.
    let target = unsafe { Target::new(c.as_mut_ptr(), a.lines, b.lines, step) };
    let operands = (a.operand(), b.operand());
    match how.small {
        false => multiply(kernel, &target, how.add, operands, how.scale, how.pool),
        // 64 k and 64 lines at a time
        true => in_chunks(kernel, (64, 8192), &target, how.add, operands, how.scale, how.pool),
    }
}

fn check(kernel: Kernel, (m, n, k): (usize, usize, usize), down: (bool, bool), how: How) {
    let (a, b) = (Matrix::new(m, k, down.0, 1), Matrix::new(n, k, down.1, 2));
    let (step, how) = (n + 7, How { scale: 0.25, ..how });
    let start = noise((m + 1) * step, 3);
    let mut c = start.clone();
    run(kernel, (&a, &b), &mut c, how);
    for (i, got) in c.iter().enumerate() {
        let (row, col) = (i / step, i % step);
        if row >= m || col >= n {
            assert_eq!(*got, start[i], "a number outside the target");
            continue;
        }
        let products = |k| rounded(a.at(row, k) * how.scale) * rounded(b.at(col, k));
        let sum: f64 = (0..k).map(products).sum();
        let want = sum + if how.add { f64::from(start[i]) } else { 0.0 };
        let size: f64 = (0..k).map(|k| products(k).abs()).sum();
        let off = (want - f64::from(*got)).abs();
        let within = 1e-5 * (size + 1.0);
        assert!(off < within, "{kernel:?} {m} x {n} x {k} {down:?}: {got}, expected {want}");
    }
}

#[test]
fn products_of_any_size_and_direction_are_sums_of_rounded_numbers() {
    for kernel in kernels() {
        for sizes in
            [(1, 1, 1), (32, 32, 32), (33, 31, 47), (5, 70, 129), (64, 96, 640), (100, 3, 65)]
        {
            for down in [(false, false), (false, true), (true, false), (true, true)] {
                check(kernel, sizes, down, PLAIN);
                check(kernel, sizes, down, How { add: true, ..PLAIN });
            }
        }
    }
}

#[test]
fn chunks_of_k_and_of_lines_meet_without_a_gap() {
    for kernel in kernels() {
        check(kernel, (3, 35, DEPTH + 70), (false, true), How { add: true, ..PLAIN });
        for (sizes, add) in [((150, 200, 150), false), ((40, 140, 70), true), ((130, 3, 64), false)]
        {
            check(kernel, sizes, (true, false), How { add, small: true, ..PLAIN });
        }
    }
}

#[test]
fn an_element_has_the_same_bits_on_any_threads_and_among_any_others() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for kernel in kernels() {
        let (a, b) = (Matrix::new(75, 700, false, 1), Matrix::new(140, 700, true, 2));
        const ADD: How = How { add: true, ..PLAIN };
        let (step, start) = (147, noise(75 * 147, 3));
        let mut one = start.clone();
        run(kernel, (&a, &b), &mut one, ADD);
        let mut three = start.clone();
        pool.install(|| run(kernel, (&a, &b), &mut three, How { pool: true, ..ADD }));
        assert_eq!(one, three, "{kernel:?}");
        // the first row alone stands in a block of its own
        let alone = Matrix { lines: 1, ..Matrix::new(75, 700, false, 1) };
        let mut first = start.clone();
        run(kernel, (&alone, &b), &mut first, ADD);
        assert_eq!(first[..140], one[..140], "{kernel:?}");
        assert_eq!(first[step..], start[step..]);
    }
}

#[test]
fn panels_packed_once_give_the_bits_of_a_product() {
    for kernel in kernels() {
        for (m, n, k) in [(1, 70, 96), (16, 33, 700), (40, 35, DEPTH + 70)] {
            let (a, b) = (Matrix::new(m, k, false, 1), Matrix::new(n, k, false, 2));
            let panels = Panels::new(kernel, b.operand());
            assert_eq!(panels.bytes(), 2 * n.next_multiple_of(32) * k.next_multiple_of(32));
            let start = noise(m * (n + 7), 3);
            for add in [false, true] {
                let (mut want, mut got) = (start.clone(), start.clone());
                run(kernel, (&a, &b), &mut want, How { add, ..PLAIN });
                // SAFETY: m rows of n + 7, which are ours.
                let target = unsafe { Target::new(got.as_mut_ptr(), m, n, n + 7) };
                panels.multiply(&target, add, a.operand());
                assert_eq!(got, want, "{kernel:?} {m} x {n} x {k}");
            }
        }
    }
}

#[test]
fn an_empty_product_writes_nothing() {
    for kernel in kernels() {
        let (a, b) = (Matrix::new(0, 5, false, 1), Matrix::new(4, 5, false, 2));
        let mut c = vec![3.0; 20];
        run(kernel, (&a, &b), &mut c, PLAIN);
        assert_eq!(c, [3.0; 20]);
    }
}
