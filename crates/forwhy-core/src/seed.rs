//! Named random streams: a draw is identified by (run, arm, item, purpose), never by an order of
//! execution, so that a resumed or reordered run draws the same numbers.
//!
//! The seed of a stream is BLAKE3 over the length-prefixed names; the generator is PCG-64 (XSL RR),
//! whose stream is fixed by its specification.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng as _, SeedableRng};

/// A stream of random numbers.
pub struct Stream(Pcg64);

/// The stream named by `path`, e.g. `["seed 0", "advice", "row order"]`.
pub fn stream(path: &[&str]) -> Stream {
    let mut hasher = blake3::Hasher::new();
    for part in path {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    Stream(Pcg64::from_seed(*hasher.finalize().as_bytes()))
}

/// A 64-bit seed for an interface that wants a number (a request to a model), named by `path`.
pub fn number(path: &[&str]) -> u64 {
    stream(path).bits()
}

impl Stream {
    /// The stream of a plain number, for requests that carry one.
    pub fn from_number(seed: u64) -> Self {
        stream(&["number", &seed.to_string()])
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1) with 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in 0..n (Lemire's multiply-shift with rejection). `n` must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "below(0)");
        let n = n as u64;
        let threshold = n.wrapping_neg() % n;
        loop {
            let wide = u128::from(self.bits()) * u128::from(n);
            if wide as u64 >= threshold {
                return (wide >> 64) as usize;
            }
        }
    }

    /// Standard normal (Box-Muller, one of the two values).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Shuffles in place (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_the_same_numbers_for_ever() {
        assert_eq!(number(&["run", "arm", "item"]), number(&["run", "arm", "item"]));
        assert_eq!(number(&["forwhy"]), FIRST_OF_FORWHY);
    }
    const FIRST_OF_FORWHY: u64 = 1_778_992_983_124_091_653;

    #[test]
    fn the_border_between_names_counts() {
        assert_ne!(number(&["ab", "c"]), number(&["a", "bc"]));
    }

    #[test]
    fn shuffle_keeps_the_items_and_moves_them() {
        let mut items: Vec<usize> = (0..50).collect();
        stream(&["shuffle"]).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn normal_has_mean_0_and_variance_1() {
        let mut s = stream(&["normal"]);
        let draws: Vec<f64> = (0..20_000).map(|_| s.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let var = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (var - 1.0).abs() < 0.05, "{mean} {var}");
    }
}
