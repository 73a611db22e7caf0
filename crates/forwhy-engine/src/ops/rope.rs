//! Rotary positions (Su et al. 2021), in Hugging Face's order: element j turns with j + d/2.

use rayon::prelude::*;

use crate::shape::Shape;
use crate::simd::{fma, multiversion};
use crate::threads::PART_ROWS;

/// Cosines and sines by position, `[t, d/2]` each; grows with the longest sequence seen.
pub(crate) struct Table {
    half: usize,
    /// Angle per position, `[d/2]`.
    rates: Vec<f64>,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Table {
    pub(crate) fn new(shape: &Shape) -> Self {
        let half = shape.head_dim / 2;
        let rate = |j: usize| shape.rope_theta.powf(-(j as f64) / half as f64);
        let rates = (0..half).map(|j| shape.rope_scaling.scaled(rate(j))).collect();
        Table { half, rates, cos: Vec::new(), sin: Vec::new() }
    }

    /// Makes sure that positions below `positions` are there. Angles in f64: at large positions f32
    /// loses the digits that matter.
    pub(crate) fn reach(&mut self, positions: usize) {
        for position in self.cos.len() / self.half..positions {
            for rate in &self.rates {
                let angle = position as f64 * rate;
                self.cos.push(angle.cos() as f32);
                self.sin.push(angle.sin() as f32);
            }
        }
    }
}

/// Which way to turn.
#[derive(Clone, Copy)]
pub(crate) enum Turn {
    /// As the model does.
    Forward,
    /// Back: the gradient.
    Backward,
}

/// Turns the first `heads` heads of each row of `x[r,width]` in place, by its position.
pub(crate) fn turn(table: &Table, positions: &[u32], x: &mut [f32], heads: usize, direction: Turn) {
    if positions.is_empty() {
        return;
    }
    let width = x.len() / positions.len();
    let sign = match direction {
        Turn::Forward => 1.0,
        Turn::Backward => -1.0,
    };
    let parts = x.par_chunks_mut(PART_ROWS * width).zip(positions.par_chunks(PART_ROWS));
    parts.for_each(|(x, positions)| turn_rows(table, positions, x, heads, sign));
}

multiversion! { fn turn_rows(table: &Table, positions: &[u32], x: &mut [f32], heads: usize, sign: f32) = turn_body }

#[inline(always)]
fn turn_body<const FMA: bool>(
    table: &Table,
    positions: &[u32],
    x: &mut [f32],
    heads: usize,
    sign: f32,
) {
    let half = table.half;
    let width = x.len() / positions.len();
    for (row, position) in x.chunks_exact_mut(width).zip(positions) {
        let at = *position as usize * half;
        let (cos, sin) = (&table.cos[at..][..half], &table.sin[at..][..half]);
        for head in row[..heads * 2 * half].chunks_exact_mut(2 * half) {
            let (a, b) = head.split_at_mut(half);
            for (((a, b), c), s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                let (x, y, s) = (*a, *b, s * sign);
                *a = fma::<FMA>(x, *c, -y * s);
                *b = fma::<FMA>(y, *c, x * s);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::{noise, tiny_shape};

    #[test]
    fn turning_back_undoes_turning_and_lengths_stay() {
        let shape = tiny_shape();
        let (width, heads) = (shape.qkv_width(), shape.heads + shape.kv_heads);
        let mut table = Table::new(&shape);
        table.reach(40);
        let positions: Vec<u32> = (0..40).collect();
        let start = noise(40 * width, 5);
        let mut x = start.clone();
        turn(&table, &positions, &mut x, heads, Turn::Forward);
        assert_eq!(x[..width], start[..width], "position 0 does not turn");
        let norm = |x: &[f32]| x.iter().map(|x| f64::from(x * x)).sum::<f64>();
        assert!((norm(&x) / norm(&start) - 1.0).abs() < 1e-6);
        turn(&table, &positions, &mut x, heads, Turn::Backward);
        assert!(x.iter().zip(&start).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}
