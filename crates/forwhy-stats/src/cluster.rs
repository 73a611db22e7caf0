//! Means and differences with one value a cluster: t intervals on (clusters - 1) degrees.
//!
//! 1. Average the instances of each kind ([`means_by_cluster`]).
//! 2. One seed: [`mean_over_clusters`] or [`difference_over_clusters`]; the interval says
//!    "this checkpoint, over kinds".
//! 3. Several seeds: [`seeds_by_clusters`] averages over seeds in each kind first, and gives the
//!    spread between seeds apart, with an interval over seeds from three on.

use std::collections::BTreeMap;

use crate::distribution::{t_quantile, t_two_sided};
use crate::{Interval, StatsError, all_finite, open_unit};

/// A mean of cluster values with its t interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClusterMean {
    /// Mean of the cluster values, each with the same weight.
    pub mean: f64,
    /// Standard deviation between clusters (n - 1).
    pub sd: f64,
    /// Number of clusters.
    pub clusters: usize,
    /// t interval on `clusters - 1` degrees of freedom.
    pub interval: Interval,
    /// Two-sided p of mean 0 by the t test.
    pub p: f64,
}

impl ClusterMean {
    /// Standard error of the mean.
    pub fn standard_error(&self) -> f64 {
        self.sd / (self.clusters as f64).sqrt()
    }

    /// Degrees of freedom.
    pub fn df(&self) -> f64 {
        self.clusters as f64 - 1.0
    }
}

/// Mean of the values of each cluster, in the order of the keys.
pub fn means_by_cluster<K: Ord>(
    items: impl IntoIterator<Item = (K, f64)>,
) -> Result<BTreeMap<K, f64>, StatsError> {
    let mut sums: BTreeMap<K, (f64, f64)> = BTreeMap::new();
    for (index, (key, value)) in items.into_iter().enumerate() {
        if !value.is_finite() {
            return Err(StatsError::NotFinite { index });
        }
        let entry = sums.entry(key).or_default();
        *entry = (entry.0 + value, entry.1 + 1.0);
    }
    Ok(sums.into_iter().map(|(key, (sum, n))| (key, sum / n)).collect())
}

/// Mean over clusters, one value each.
pub fn mean_over_clusters(values: &[f64], confidence: f64) -> Result<ClusterMean, StatsError> {
    open_unit("confidence", confidence)?;
    all_finite(values)?;
    let n = values.len();
    if n < 2 {
        return Err(StatsError::TooFew { unit: "clusters", got: n, need: 2 });
    }
    let (mean, sd) = mean_and_sd(values);
    // Equal up to rounding is equal: the spread of rounding errors is no spread.
    if sd <= 1e-12 * values.iter().fold(0.0, |m: f64, v| m.max(v.abs())) {
        return Err(StatsError::NoSpread { n });
    }
    let df = n as f64 - 1.0;
    let error = sd / (n as f64).sqrt();
    let half = t_quantile(0.5 + confidence / 2.0, df) * error;
    let interval = Interval { lo: mean - half, hi: mean + half };
    Ok(ClusterMean { mean, sd, clusters: n, interval, p: t_two_sided(mean / error, df) })
}

/// Mean over clusters of `left - right`, paired by position.
pub fn difference_over_clusters(
    left: &[f64],
    right: &[f64],
    confidence: f64,
) -> Result<ClusterMean, StatsError> {
    mean_over_clusters(&paired(left, right)?, confidence)
}

/// `left - right`, paired by position.
pub fn paired(left: &[f64], right: &[f64]) -> Result<Vec<f64>, StatsError> {
    if left.len() != right.len() {
        let (left, right) = (left.len(), right.len());
        return Err(StatsError::Unpaired { what: "paired difference", left, right });
    }
    Ok(left.iter().zip(right).map(|(l, r)| l - r).collect())
}

/// A table of seeds by clusters, taken together.
#[derive(Clone, Debug, PartialEq)]
pub struct SeedsByClusters {
    /// Mean over clusters of the mean over seeds: the interval is over clusters only.
    pub over_clusters: ClusterMean,
    /// Mean over seeds of each cluster.
    pub cluster_means: Vec<f64>,
    /// Mean over clusters of each seed.
    pub seed_means: Vec<f64>,
    /// Standard deviation of `seed_means`; `None` with one seed.
    pub between_seed_sd: Option<f64>,
    /// Interval over seeds; from three seeds on.
    pub over_seeds: Result<ClusterMean, StatsError>,
}

/// Seeds with a seed-level interval.
pub const MIN_SEEDS: usize = 3;

/// Combines `table[seed][cluster]`.
pub fn seeds_by_clusters(
    table: &[Vec<f64>],
    confidence: f64,
) -> Result<SeedsByClusters, StatsError> {
    let Some(first) = table.first() else {
        return Err(StatsError::TooFew { unit: "seeds", got: 0, need: 1 });
    };
    if let Some(other) = table.iter().find(|row| row.len() != first.len()) {
        let (left, right) = (first.len(), other.len());
        return Err(StatsError::Unpaired { what: "clusters of two seeds", left, right });
    }
    let seeds = table.len();
    let cluster_means: Vec<f64> = (0..first.len())
        .map(|c| table.iter().map(|row| row[c]).sum::<f64>() / seeds as f64)
        .collect();
    let over_clusters = mean_over_clusters(&cluster_means, confidence)?;
    let seed_means: Vec<f64> =
        table.iter().map(|row| row.iter().sum::<f64>() / row.len() as f64).collect();
    let between_seed_sd = (seeds > 1).then(|| mean_and_sd(&seed_means).1);
    let over_seeds = if seeds < MIN_SEEDS {
        Err(StatsError::TooFew { unit: "seeds", got: seeds, need: MIN_SEEDS })
    } else {
        mean_over_clusters(&seed_means, confidence)
    };
    Ok(SeedsByClusters { over_clusters, cluster_means, seed_means, between_seed_sd, over_seeds })
}

fn mean_and_sd(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::normal_quantile;
    use crate::resample::stream::Stream;

    #[test]
    fn clustered_t_intervals_cover_95_percent_at_12_clusters() {
        let mut stream = Stream(7);
        let mut normal = || normal_quantile(stream.unit());
        let runs = 4_000;
        let covered = (0..runs)
            .filter(|_| {
                // Four near-copies in each of 12 kinds: the kind's own effect is shared.
                let items = (0..12).flat_map(|kind| {
                    let shared = normal();
                    let instance = |_| (kind, 0.3 + shared + 0.3 * normal());
                    (0..4).map(instance).collect::<Vec<_>>()
                });
                let means: Vec<f64> = means_by_cluster(items).unwrap().into_values().collect();
                mean_over_clusters(&means, 0.95).unwrap().interval.holds(0.3)
            })
            .count();
        let share = covered as f64 / f64::from(runs);
        assert!((0.938..0.962).contains(&share), "{share}");
    }

    #[test]
    fn equal_values_give_no_interval_of_width_zero() {
        let sum = 0.1 + 0.2;
        assert_eq!(mean_over_clusters(&[0.3, sum, 0.3], 0.95), Err(StatsError::NoSpread { n: 3 }));
        assert_eq!(mean_over_clusters(&[0.0; 4], 0.95), Err(StatsError::NoSpread { n: 4 }));
    }

    #[test]
    fn a_nan_is_an_error() {
        assert_eq!(
            mean_over_clusters(&[0.1, f64::NAN], 0.95),
            Err(StatsError::NotFinite { index: 1 })
        );
        assert!(means_by_cluster([("a", f64::INFINITY)]).is_err());
    }

    #[test]
    fn one_seed_has_no_spread_between_seeds() {
        let one = seeds_by_clusters(&[vec![0.1, 0.4, 0.2]], 0.95).unwrap();
        assert_eq!(one.between_seed_sd, None);
        assert_eq!(one.over_seeds, Err(StatsError::TooFew { unit: "seeds", got: 1, need: 3 }));
        let two = seeds_by_clusters(&[vec![0.1, 0.4], vec![0.3, 0.5]], 0.95).unwrap();
        assert!(two.between_seed_sd.is_some() && two.over_seeds.is_err());
    }

    #[test]
    fn seeds_are_averaged_in_each_cluster_first() {
        let table = [vec![1.0, 2.0, 6.0], vec![3.0, 2.0, 4.0], vec![2.0, 5.0, 2.0]];
        let got = seeds_by_clusters(&table, 0.95).unwrap();
        assert_eq!(got.cluster_means, [2.0, 3.0, 4.0]);
        assert_eq!(got.over_clusters.mean, 3.0);
        assert_eq!(got.seed_means, [3.0, 3.0, 3.0]);
        assert_eq!(got.over_seeds, Err(StatsError::NoSpread { n: 3 }));
        assert!(seeds_by_clusters(&[vec![1.0, 2.0], vec![1.0]], 0.95).is_err());
    }
}
