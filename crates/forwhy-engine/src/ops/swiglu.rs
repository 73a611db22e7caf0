//! The gate of the MLP (Shazeer 2020): a = silu(gate) * up.

use rayon::prelude::*;

use crate::simd::{exp, multiversion};

/// Rows a part: one row of the MLP is long enough to share out finely.
const ROWS: usize = 8;

/// a[r,f] from gate_up[r,2f], whose rows hold `[gate | up]`.
pub(crate) fn forward(gate_up: &[f32], a: &mut [f32], mlp: usize) {
    let parts = a.par_chunks_mut(ROWS * mlp).zip(gate_up.par_chunks(ROWS * 2 * mlp));
    parts.for_each(|(a, gate_up)| forward_rows(gate_up, a, mlp));
}

/// In one pass `gate_up` becomes its own gradient, and `da` becomes the recomputed activation a.
pub(crate) fn backward(gate_up: &mut [f32], da: &mut [f32], mlp: usize) {
    let parts = da.par_chunks_mut(ROWS * mlp).zip(gate_up.par_chunks_mut(ROWS * 2 * mlp));
    parts.for_each(|(da, gate_up)| backward_rows(gate_up, da, mlp));
}

multiversion! { fn forward_rows(gate_up: &[f32], a: &mut [f32], mlp: usize) = forward_body }
multiversion! { fn backward_rows(gate_up: &mut [f32], da: &mut [f32], mlp: usize) = backward_body }

#[inline(always)]
fn forward_body<const FMA: bool>(gate_up: &[f32], a: &mut [f32], mlp: usize) {
    for (a, row) in a.chunks_exact_mut(mlp).zip(gate_up.chunks_exact(2 * mlp)) {
        let (gate, up) = row.split_at(mlp);
        for ((a, g), u) in a.iter_mut().zip(gate).zip(up) {
            *a = g / (1.0 + exp::<FMA>(-g)) * u;
        }
    }
}

#[inline(always)]
fn backward_body<const FMA: bool>(gate_up: &mut [f32], da: &mut [f32], mlp: usize) {
    for (da, row) in da.chunks_exact_mut(mlp).zip(gate_up.chunks_exact_mut(2 * mlp)) {
        let (gate, up) = row.split_at_mut(mlp);
        let (da, da_tail) = da.as_chunks_mut::<8>();
        let (gate, gate_tail) = gate.as_chunks_mut::<8>();
        let (up, up_tail) = up.as_chunks_mut::<8>();
        // whole registers are read before any is written: to the compiler the three might overlap,
        // and it would go element by element
        for ((d, g), u) in da.iter_mut().zip(gate).zip(up) {
            let (was_d, was_g, was_u) = (*d, *g, *u);
            let mut made = [[0f32; 8]; 3];
            for lane in 0..8 {
                let all = backward_one::<FMA>(was_d[lane], was_g[lane], was_u[lane]);
                [made[0][lane], made[1][lane], made[2][lane]] = all;
            }
            [*d, *g, *u] = made;
        }
        for ((d, g), u) in da_tail.iter_mut().zip(gate_tail).zip(up_tail) {
            [*d, *g, *u] = backward_one::<FMA>(*d, *g, *u);
        }
    }
}

/// The activation and the gradients of gate and up.
#[inline(always)]
fn backward_one<const FMA: bool>(da: f32, gate: f32, up: f32) -> [f32; 3] {
    let sigmoid = 1.0 / (1.0 + exp::<FMA>(-gate));
    let silu = gate * sigmoid;
    [silu * up, da * up * (sigmoid + silu * (1.0 - sigmoid)), da * silu]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::{assert_gradient, noise};

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (rows, mlp) = (9, 27);
        let (x, dy) = (noise(rows * 2 * mlp, 1), noise(rows * mlp, 2));
        let run = |x: &[f32]| {
            let mut a = vec![0.0; rows * mlp];
            forward(x, &mut a, mlp);
            a
        };
        let loss = |x: &[f32]| {
            let products = run(x).into_iter().zip(&dy).map(|(a, d)| f64::from(a) * f64::from(*d));
            products.sum::<f64>()
        };
        let (mut g, mut a) = (x.clone(), dy.clone());
        backward(&mut g, &mut a, mlp);
        assert_gradient("gate_up", &x, &g, loss);
        let again = run(&x);
        assert!(a.iter().zip(&again).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs()));
    }
}
