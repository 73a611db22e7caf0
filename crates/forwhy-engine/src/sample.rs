//! Choosing the next token: temperature, then top-k, then nucleus (Holtzman et al. 2020) over what is
//! left. Temperatures below 1e-4 take the likeliest token.

use forwhy_core::model::Sampling;
use forwhy_core::seed::Stream;

use crate::ops::loss;
use crate::simd::{exp_sum, max, multiversion};

/// Temperatures below this are greedy: 1 / t and the logits over it must stay finite.
const GREEDY_BELOW: f32 = 1e-4;
/// Candidates that are sorted before all are.
const FIRST: usize = 512;

/// A sampled token and its log-probability at temperature 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) id: u32,
    pub(crate) logprob: f32,
}

/// Draws a token from `logits[v]`.
pub(crate) fn choose(logits: &[f32], sampling: &Sampling, stream: &mut Stream) -> Choice {
    let id = match sampling.temperature {
        t if t < GREEDY_BELOW => greedy(logits),
        t => {
            let mut weights = logits.to_vec();
            let total = soften(&mut weights, t);
            let unit = stream.unit();
            if sampling.top_k == 0 && sampling.top_p >= 1.0 {
                draw(weights.iter().copied().enumerate(), total, unit)
            } else {
                let kept = keep(&weights, total, sampling);
                let sum = kept.iter().map(|i| f64::from(weights[*i])).sum();
                draw(kept.iter().map(|i| (*i, weights[*i])), sum, unit)
            }
        }
    };
    let logprob = loss::log_probability(&mut logits.to_vec(), &[id], logits.len())[0];
    Choice { id, logprob }
}

/// The likeliest token, the first of equals.
fn greedy(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, x) in logits.iter().enumerate() {
        if *x > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// Walks along the weights until their running sum passes `unit` of `total`.
fn draw(weights: impl Iterator<Item = (usize, f32)>, total: f64, unit: f64) -> u32 {
    let (mut sum, mut last) = (0.0, 0);
    for (i, weight) in weights.filter(|(_, w)| *w > 0.0) {
        sum += f64::from(weight);
        last = i;
        if sum > unit * total {
            break;
        }
    }
    last as u32
}

/// The tokens that top-k and top-p leave, likeliest first, equals by id.
fn keep(weights: &[f32], total: f64, sampling: &Sampling) -> Vec<usize> {
    let order = |a: &usize, b: &usize| weights[*b].total_cmp(&weights[*a]).then(a.cmp(b));
    let k = if sampling.top_k == 0 { weights.len() } else { sampling.top_k.min(weights.len()) };
    let mut ids: Vec<usize> = (0..weights.len()).collect();
    for first in [FIRST.min(weights.len()), weights.len()] {
        if first < ids.len() {
            ids.select_nth_unstable_by(first - 1, order);
        }
        ids[..first].sort_unstable_by(order);
        let top = &ids[..first.min(k)];
        let mass = if k < weights.len() && k <= first {
            top.iter().map(|i| f64::from(weights[*i])).sum()
        } else {
            total
        };
        let mut sum = 0.0;
        let within = top.iter().position(|i| {
            sum += f64::from(weights[*i]);
            sum >= f64::from(sampling.top_p) * mass
        });
        match within {
            Some(last) if k <= first || k == weights.len() => return top[..=last].to_vec(),
            _ if first >= k => return top.to_vec(),
            _ => {}
        }
    }
    ids.truncate(k);
    ids
}

fn soften(x: &mut [f32], temperature: f32) -> f64 {
    exponentiate(x, 1.0 / temperature);
    x.iter().map(|x| f64::from(*x)).sum()
}

multiversion! {
    /// x becomes e^(scale (x - its largest)).
    fn exponentiate(x: &mut [f32], scale: f32) = exponentiate_body
}

#[inline(always)]
fn exponentiate_body<const FMA: bool>(x: &mut [f32], scale: f32) {
    let most = max(x) * scale;
    exp_sum::<FMA>(x, scale, most);
}

#[cfg(test)]
mod tests {
    use super::*;
    use forwhy_core::seed::stream;

    const P: [f32; 5] = [0.4, 0.1, 0.3, 0.15, 0.05];

    fn shares(sampling: &Sampling) -> Vec<f64> {
        let logits: Vec<f32> = P.iter().map(|p| p.ln() + 3.0).collect();
        let (mut counts, mut draws) = (vec![0.0; 5], stream(&["shares"]));
        for _ in 0..20_000 {
            counts[choose(&logits, sampling, &mut draws).id as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn assert_shares(sampling: Sampling, want: [f64; 5]) {
        let total: f64 = want.iter().sum();
        for (got, want) in shares(&sampling).into_iter().zip(want) {
            assert_eq!(got > 0.0, want > 0.0, "{sampling:?}");
            assert!((got - want / total).abs() < 0.015, "{sampling:?}: {got} {}", want / total);
        }
    }

    #[test]
    fn draws_follow_the_distribution_asked_for() {
        let plain = Sampling::default();
        assert_shares(plain.clone(), P.map(f64::from));
        let squared = P.map(|p| f64::from(p).powi(2));
        assert_shares(Sampling { temperature: 0.5, ..plain.clone() }, squared);
        assert_shares(Sampling { top_k: 2, ..plain.clone() }, [0.4, 0.0, 0.3, 0.0, 0.0]);
        assert_shares(Sampling { top_p: 0.75, ..plain.clone() }, [0.4, 0.0, 0.3, 0.15, 0.0]);
        let both = Sampling { top_k: 3, top_p: 0.5, ..plain.clone() };
        assert_shares(both, [0.4, 0.0, 0.3, 0.0, 0.0]);
        assert_shares(Sampling { temperature: 0.0, ..plain }, [1.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_large_vocabulary_keeps_the_same_tokens_as_a_full_sort() {
        let logits = crate::checks::noise(3000, 1);
        for (top_p, top_k) in [(0.9, 0), (0.2, 0), (1.0, 700), (0.5, 2000), (0.999, 2999)] {
            let sampling = Sampling { top_p, top_k, ..Sampling::default() };
            let mut weights = logits.clone();
            let total = soften(&mut weights, 1.0);
            let mut all: Vec<usize> = (0..3000).collect();
            all.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]).then(a.cmp(b)));
            all.truncate(if top_k == 0 { 3000 } else { top_k });
            let mass: f64 = all.iter().map(|i| f64::from(weights[*i])).sum();
            let mut sum = 0.0;
            let last = all.iter().position(|i| {
                sum += f64::from(weights[*i]);
                sum >= f64::from(top_p) * mass
            });
            all.truncate(last.map_or(all.len(), |l| l + 1));
            assert_eq!(keep(&weights, total, &sampling), all, "{top_p} {top_k}");
        }
    }

    #[test]
    fn temperatures_near_zero_are_greedy() {
        let logits = [-30.0, 40.0, 39.9];
        for temperature in [0.0, f32::MIN_POSITIVE / 8.0, 1e-39, 1e-30, 9e-5] {
            for top_k in [0, 2] {
                let cold = Sampling { temperature, top_k, ..Sampling::default() };
                let ids =
                    (0..50).map(|i| choose(&logits, &cold, &mut stream(&[&i.to_string()])).id);
                assert!(ids.into_iter().all(|id| id == 1), "{temperature}");
            }
        }
    }

    #[test]
    fn the_log_probability_is_that_of_temperature_one() {
        let logits: Vec<f32> = P.iter().map(|p| p.ln() - 8.0).collect();
        let hot = Sampling { temperature: 2.0, top_k: 1, ..Sampling::default() };
        let choice = choose(&logits, &hot, &mut stream(&["one"]));
        assert_eq!(choice.id, 0);
        assert!((choice.logprob - 0.4f32.ln()).abs() < 1e-5);
    }
}
