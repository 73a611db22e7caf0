//! Softmax over the vocabulary: cross-entropy with its gradient, and log-probabilities.

use rayon::prelude::*;

use crate::pack::Target;
use crate::simd::{exp_sum, max, multiversion};

/// Rows of which the losses are kept at a time.
const ROWS: usize = 256;

/// Rows of logits[n,v] become weight * d(-log p(id)) / d logits; returns sum of weight * -log p(id),
/// nats. `targets`: those of each row; where it stands in its pack does not matter.
pub(crate) fn cross_entropy(logits: &mut [f32], targets: &[Target], vocab: usize) -> f64 {
    let parts = logits.chunks_mut(ROWS * vocab).zip(targets.chunks(ROWS));
    let nats = parts.map(|(logits, targets)| {
        let mut losses = [0f64; ROWS];
        let rows = logits.par_chunks_mut(vocab).zip(targets).zip(&mut losses);
        rows.for_each(|((x, target), loss)| *loss = entropy_row(x, target.id, target.weight));
        losses[..targets.len()].iter().sum::<f64>()
    });
    nats.sum()
}

/// log p(id) of each row of logits[n,v], which are used up.
pub(crate) fn log_probability(logits: &mut [f32], ids: &[u32], vocab: usize) -> Vec<f32> {
    let rows = logits.par_chunks_mut(vocab).zip(ids);
    rows.map(|(x, id)| {
        let at = f64::from(x[*id as usize]);
        (at - log_sum_exp(x)) as f32
    })
    .collect()
}

/// log p of each id of `wanted`, row by row of logits[n,v], which are used up.
pub(crate) fn log_probabilities(
    logits: &mut [f32],
    wanted: &[Vec<u32>],
    vocab: usize,
) -> Vec<Vec<f32>> {
    let rows = logits.par_chunks_mut(vocab).zip(wanted);
    rows.map(|(x, ids)| {
        let at: Vec<f64> = ids.iter().map(|id| f64::from(x[*id as usize])).collect();
        let lse = log_sum_exp(x);
        at.into_iter().map(|at| (at - lse) as f32).collect()
    })
    .collect()
}

/// Each row of logits[n,v] becomes log p.
pub(crate) fn log_softmax(logits: &mut [f32], vocab: usize) {
    logits.par_chunks_mut(vocab).for_each(|x| {
        let mut spare = x.to_vec();
        let lse = log_sum_exp(&mut spare);
        x.iter_mut().for_each(|x| *x = (f64::from(*x) - lse) as f32);
    });
}

/// log of the sum of e^x; uses x up.
fn log_sum_exp(x: &mut [f32]) -> f64 {
    let (most, sum) = exponentiate(x);
    f64::from(most) + f64::from(sum).ln()
}

fn entropy_row(x: &mut [f32], id: u32, weight: f32) -> f64 {
    let at = x[id as usize];
    let (most, sum) = exponentiate(x);
    scale_row(x, weight / sum);
    x[id as usize] -= weight;
    let nats = f64::from(most) + f64::from(sum).ln() - f64::from(at);
    nats * f64::from(weight)
}

multiversion! {
    /// x becomes e^(x - m), m its largest element; gives m and the sum.
    fn exponentiate(x: &mut [f32]) -> (f32, f32) = exponentiate_body
}
multiversion! { fn scale_row(x: &mut [f32], k: f32) = scale_body }

#[inline(always)]
fn exponentiate_body<const FMA: bool>(x: &mut [f32]) -> (f32, f32) {
    let most = max(x);
    (most, exp_sum::<FMA>(x, 1.0, most))
}

#[inline(always)]
fn scale_body<const FMA: bool>(x: &mut [f32], k: f32) {
    x.iter_mut().for_each(|x| *x *= k);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::{assert_gradient, noise};

    #[test]
    fn gradients_agree_with_finite_differences() {
        let vocab = 70;
        let x = noise(3 * vocab, 1);
        let targets = [(5, 1.0), (69, 0.0), (0, 2.5)];
        let wanted = targets.map(|(id, weight)| Target { row: 0, id, weight });
        let mut g = x.clone();
        let loss = cross_entropy(&mut g, &wanted, vocab);
        assert_gradient("logits", &x, &g, |x| cross_entropy(&mut x.to_vec(), &wanted, vocab));
        assert!(g[vocab..2 * vocab].iter().all(|g| *g == 0.0), "weight 0 has no gradient");
        let logp = log_probability(&mut x.clone(), &[5, 69, 0], vocab);
        let again = -f64::from(logp[0]) - 2.5 * f64::from(logp[2]);
        assert!((loss - again).abs() < 1e-5, "{loss} {again}");
    }

    #[test]
    fn probabilities_sum_to_one_and_large_logits_do_not_overflow() {
        let mut x = noise(100, 2);
        x.iter_mut().for_each(|x| *x = *x * 100.0 + 5000.0);
        let at = log_probability(&mut x.clone(), &[7], 100)[0];
        log_softmax(&mut x, 100);
        assert_eq!(x[7], at);
        let sum: f64 = x.iter().map(|x| f64::from(*x).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-4, "{sum}");
    }
}
