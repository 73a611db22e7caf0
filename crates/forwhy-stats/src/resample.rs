//! Sign flips and bootstrap over clusters: they assume less than the t interval.
//!
//! Random draws come from the caller: `draw(n)` gives a number below `n`, each as likely.

use crate::{Interval, StatsError, all_finite, open_unit};

/// Most clusters whose sign flips are enumerated (2^16 sums).
pub const MAX_FLIPPED: usize = 16;

/// Exact two-sided p of "differences of clusters are as likely positive as negative": the share of
/// all 2^n sign patterns whose mean is at least as far from 0 as the observed one. Its smallest
/// possible value is 2^(1-n).
pub fn sign_flip(differences: &[f64]) -> Result<f64, StatsError> {
    all_finite(differences)?;
    let n = differences.len();
    if n < 2 {
        return Err(StatsError::TooFew { unit: "clusters", got: n, need: 2 });
    }
    if n > MAX_FLIPPED {
        return Err(StatsError::TooManyFlips { clusters: n, limit: MAX_FLIPPED });
    }
    let observed = differences.iter().sum::<f64>().abs();
    let scale: f64 = differences.iter().map(|d| d.abs()).sum();
    // Sums of the same numbers in another order differ by rounding; they count as equal.
    let threshold = observed - 1e-12 * scale;
    let extreme = (0_u32..1 << n)
        .filter(|signs| {
            let flipped = |(i, d): (usize, &f64)| if signs >> i & 1 == 1 { -d } else { *d };
            differences.iter().enumerate().map(flipped).sum::<f64>().abs() >= threshold
        })
        .count();
    Ok(extreme as f64 / f64::from(1_u32 << n))
}

/// Percentile bootstrap over clusters: `statistic` sees the positions of the drawn clusters.
///
/// With fewer than about 20 clusters this interval is too narrow; it stands beside the t interval
/// for statistics that have none, it does not replace it.
pub fn bootstrap(
    clusters: usize,
    resamples: usize,
    confidence: f64,
    statistic: impl Fn(&[usize]) -> f64,
    mut draw: impl FnMut(usize) -> usize,
) -> Result<Interval, StatsError> {
    open_unit("confidence", confidence)?;
    if clusters < 2 {
        return Err(StatsError::TooFew { unit: "clusters", got: clusters, need: 2 });
    }
    if resamples < 100 {
        return Err(StatsError::TooFew { unit: "resamples", got: resamples, need: 100 });
    }
    let mut drawn = vec![0; clusters];
    let mut values: Vec<f64> = (0..resamples)
        .map(|_| {
            drawn.iter_mut().for_each(|slot| *slot = draw(clusters));
            statistic(&drawn)
        })
        .collect();
    all_finite(&values)?;
    values.sort_by(f64::total_cmp);
    let alpha = 1.0 - confidence;
    Ok(Interval { lo: quantile(&values, alpha / 2.0), hi: quantile(&values, 1.0 - alpha / 2.0) })
}

/// Linear interpolation between order statistics (Hyndman and Fan's type 7).
fn quantile(sorted: &[f64], p: f64) -> f64 {
    let at = p * (sorted.len() - 1) as f64;
    let low = at.floor() as usize;
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (at - low as f64) * (sorted[high] - sorted[low])
}

#[cfg(test)]
pub(crate) mod stream {
    /// SplitMix64, for simulations in tests.
    pub(crate) struct Stream(pub(crate) u64);

    impl Stream {
        pub(crate) fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        /// Uniform in (0, 1).
        pub(crate) fn unit(&mut self) -> f64 {
            ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
        }

        pub(crate) fn below(&mut self, n: usize) -> usize {
            (self.unit() * n as f64) as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use super::stream::Stream;
    use super::*;

    #[test]
    fn sign_flip_of_clusters_that_all_agree_is_two_patterns() {
        let p = sign_flip(&[0.1, 0.2, 0.3, 0.4, 0.5]).unwrap();
        assert_eq!(p, 2.0 / 32.0);
        assert_eq!(sign_flip(&[0.2, -0.2]).unwrap(), 1.0);
    }

    #[test]
    fn sign_flip_beyond_its_limit_is_refused() {
        assert!(matches!(
            sign_flip(&[1.0; 17]),
            Err(StatsError::TooManyFlips { clusters: 17, limit: 16 })
        ));
        assert!(sign_flip(&[1.0]).is_err());
        assert!(sign_flip(&[1.0, f64::NAN]).is_err());
    }

    #[test]
    fn sign_flip_rejects_one_in_twenty_when_nothing_differs() {
        let mut stream = Stream(3);
        let runs = 1_000;
        let rejected = (0..runs)
            .filter(|_| {
                let differences: Vec<f64> = (0..10).map(|_| stream.unit() - 0.5).collect();
                sign_flip(&differences).unwrap() <= 0.05
            })
            .count();
        assert!((30..=70).contains(&rejected), "{rejected} of {runs}");
    }

    #[test]
    fn bootstrap_of_a_mean_is_near_its_normal_interval() {
        let values: Vec<f64> = (0..40).map(f64::from).collect();
        let mean = |drawn: &[usize]| drawn.iter().map(|i| values[*i]).sum::<f64>() / 40.0;
        let mut stream = Stream(1);
        let got = bootstrap(40, 4_000, 0.95, mean, |n| stream.below(n)).unwrap();
        // Standard error without the n - 1 correction: 11.543 / sqrt(40) = 1.825.
        assert!((got.lo - (19.5 - 1.96 * 1.825)).abs() < 0.25, "{got:?}");
        assert!((got.hi - (19.5 + 1.96 * 1.825)).abs() < 0.25, "{got:?}");
        let mut again = Stream(1);
        let same = bootstrap(40, 4_000, 0.95, mean, |n| again.below(n)).unwrap();
        assert_eq!(got, same);
    }
}
