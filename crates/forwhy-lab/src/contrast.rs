//! Comparisons of arms on one evaluation: a table of seeds by kinds, taken together honestly.
//!
//! The value in a cell is the mean over the kind's instances of (margin with the bait - margin in
//! the twin), nats a token. A contrast subtracts two arms of the same seed, so that what the seed
//! did to the organism cancels. Kinds are the clusters; seeds are averaged within kinds first.

use std::collections::BTreeMap;

use forwhy_core::results::{
    Direction, Estimate, Interval, KindValue, Maybe, SeedValue, Test, Verdict,
};
use forwhy_stats::StatsError;
use forwhy_stats::cluster::{ClusterMean, SeedsByClusters, means_by_cluster, seeds_by_clusters};
use forwhy_stats::power::smallest_detectable;
use forwhy_stats::resample::sign_flip;

use crate::unit::Unit;

/// Chance of finding an effect of the "smallest detectable" size.
const POWER: f64 = 0.8;
/// Two-sided error rate that goes with it.
const ALPHA: f64 = 0.05;

/// Values of one arm: `rows[seed][kind]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    pub(crate) seeds: Vec<u64>,
    pub(crate) rows: Vec<Vec<f64>>,
}

/// Which of an instance's margins goes into a table.
pub(crate) type Pick = fn(&crate::unit::InstanceMargin) -> f64;

/// Mean over instances for each of `kinds`, in their order; an error names what is missing.
pub(crate) fn kind_means(unit: &Unit, kinds: &[String], pick: Pick) -> Result<Vec<f64>, String> {
    let items = unit.measured.margins.iter().map(|m| (m.kind.as_str(), pick(m)));
    let means = means_by_cluster(items).map_err(|e| e.to_string())?;
    let value = |kind: &String| {
        let found = means.get(kind.as_str()).copied();
        found.ok_or_else(|| format!("{} has no margin of kind {kind}", unit.key.folder()))
    };
    kinds.iter().map(value).collect()
}

impl Table {
    /// The table of `units`, one a seed.
    pub(crate) fn new(units: &[&Unit], kinds: &[String], pick: Pick) -> Result<Self, String> {
        let rows = units.iter().map(|u| kind_means(u, kinds, pick)).collect::<Result<_, _>>()?;
        Ok(Table { seeds: units.iter().map(|u| u.key.seed).collect(), rows })
    }

    /// `f(self, other)` cell by cell, over the seeds that both have; an error if there is none.
    pub(crate) fn zip(&self, other: &Table, f: fn(f64, f64) -> f64) -> Result<Table, String> {
        let theirs: BTreeMap<u64, &Vec<f64>> =
            other.seeds.iter().copied().zip(&other.rows).collect();
        let mut joint = Table { seeds: Vec::new(), rows: Vec::new() };
        for (seed, row) in self.seeds.iter().zip(&self.rows) {
            if let Some(theirs) = theirs.get(seed) {
                joint.seeds.push(*seed);
                joint.rows.push(row.iter().zip(*theirs).map(|(a, b)| f(*a, *b)).collect());
            }
        }
        if joint.seeds.is_empty() { Err("the two sides share no seed".into()) } else { Ok(joint) }
    }

    /// What the intervals of this table are over, in words.
    pub(crate) fn label(&self) -> String {
        match self.seeds.len() {
            1 => "this checkpoint, over kinds".into(),
            n => format!("{n} seeds averaged, over kinds"),
        }
    }

    /// Estimates over kinds and over seeds.
    pub(crate) fn combine(&self, confidence: f64) -> Result<SeedsByClusters, StatsError> {
        seeds_by_clusters(&self.rows, confidence)
    }
}

/// An estimate with its interval over `unit`s ("kinds", "seeds").
pub(crate) fn estimate(mean: &ClusterMean, unit: &str) -> Estimate {
    let method = format!("t over {} {unit}", mean.clusters);
    let interval = Interval { lo: mean.interval.lo, hi: mean.interval.hi, method };
    Estimate { value: mean.mean, interval: Maybe::Known(interval) }
}

/// Everything that a contrast states about a table of differences.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Conclusion {
    pub(crate) estimate: Maybe<Estimate>,
    pub(crate) by_kind: Vec<KindValue>,
    pub(crate) by_seed: Vec<SeedValue>,
    pub(crate) between_seed_sd: Maybe<f64>,
    pub(crate) over_seeds: Maybe<Estimate>,
    pub(crate) test: Maybe<Test>,
    pub(crate) detectable: Maybe<f64>,
    pub(crate) verdict: Verdict,
}

/// Concludes from differences, `margin` being what counts as no effect.
pub(crate) fn conclude(
    differences: &Table,
    kinds: &[String],
    confidence: f64,
    margin: f64,
) -> Conclusion {
    let by_kind = |values: &[f64]| {
        let value =
            |(kind, value): (&String, &f64)| KindValue { kind: kind.clone(), value: *value };
        kinds.iter().zip(values).map(value).collect()
    };
    let joint = match differences.combine(confidence) {
        Ok(joint) => joint,
        Err(error) => return Conclusion::nothing(&error.to_string()),
    };
    let over_kinds = &joint.over_clusters;
    let detectable = detectable(&joint);
    let seed_values = differences.seeds.iter().zip(&joint.seed_means);
    Conclusion {
        estimate: Maybe::Known(estimate(over_kinds, "kinds")),
        by_kind: by_kind(&joint.cluster_means),
        by_seed: seed_values.map(|(s, v)| SeedValue { seed: *s, value: *v }).collect(),
        between_seed_sd: Maybe::from_option(joint.between_seed_sd, "one seed"),
        over_seeds: match &joint.over_seeds {
            Ok(mean) => Maybe::Known(estimate(mean, "seeds")),
            Err(_) if differences.seeds.len() == 1 => Maybe::missing("one seed"),
            Err(error) => Maybe::missing(error.to_string()),
        },
        test: test(over_kinds, &joint.cluster_means),
        verdict: verdict(&joint, margin, &detectable),
        detectable,
    }
}

impl Conclusion {
    /// Nothing can be said, because of `why`.
    pub(crate) fn nothing(why: &str) -> Self {
        Conclusion {
            estimate: Maybe::missing(why),
            by_kind: Vec::new(),
            by_seed: Vec::new(),
            between_seed_sd: Maybe::missing(why),
            over_seeds: Maybe::missing(why),
            test: Maybe::missing(why),
            detectable: Maybe::missing(why),
            verdict: Verdict::NotComparable { why: why.into() },
        }
    }
}

/// The smallest difference that could have been shown: a difference must show over kinds and, from
/// three seeds on, over seeds too, so it is the larger of the two.
fn detectable(joint: &SeedsByClusters) -> Maybe<f64> {
    let of = |mean: &ClusterMean| smallest_detectable(mean.sd, mean.clusters, ALPHA, POWER);
    let larger = of(&joint.over_clusters).and_then(|kinds| match &joint.over_seeds {
        Ok(seeds) => Ok(kinds.max(of(seeds)?)),
        Err(_) => Ok(kinds),
    });
    larger.map_or_else(|e| Maybe::missing(e.to_string()), Maybe::Known)
}

/// Takes no account of seeds, and says so. Sign flips of the kinds, exact; the t test where there are too many kinds to enumerate.
fn test(over_kinds: &ClusterMean, kind_means: &[f64]) -> Maybe<Test> {
    let (p, method) = match sign_flip(kind_means) {
        Ok(p) => (p, format!("over kinds only: sign flips of {} kinds, exact", kind_means.len())),
        Err(_) => (over_kinds.p, format!("over kinds only: t over {} kinds", over_kinds.clusters)),
    };
    Maybe::Known(Test { p, adjusted: Maybe::missing("not in a family"), method })
}

/// A difference must show over kinds and, where there are three seeds or more, over seeds too; "no
/// effect" likewise.
fn verdict(joint: &SeedsByClusters, margin: f64, detectable: &Maybe<f64>) -> Verdict {
    let kinds = joint.over_clusters.interval;
    let seeds = joint.over_seeds.as_ref().ok().map(|m| m.interval);
    let excludes_0 = !kinds.holds(0.0) && seeds.is_none_or(|s| !s.holds(0.0));
    let no_effect = kinds.within(margin) && seeds.is_none_or(|s| s.within(margin));
    if no_effect {
        Verdict::Equivalent { margin }
    } else if excludes_0 {
        let lower = joint.over_clusters.mean < 0.0;
        Verdict::Difference { direction: if lower { Direction::Lower } else { Direction::Higher } }
    } else {
        Verdict::NoDifferenceShown { detectable: detectable.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("kind-{i}")).collect()
    }

    fn table(rows: &[&[f64]]) -> Table {
        Table {
            seeds: (0..rows.len() as u64).collect(),
            rows: rows.iter().map(|r| r.to_vec()).collect(),
        }
    }

    const CLEAR: [f64; 6] = [-0.5, -0.4, -0.6, -0.45, -0.55, -0.5];

    #[test]
    fn one_seed_with_a_clear_shift_is_a_difference_of_this_checkpoint() {
        let t = table(&[&CLEAR]);
        assert_eq!(t.label(), "this checkpoint, over kinds");
        let c = conclude(&t, &kinds(6), 0.95, 0.05);
        assert_eq!(c.verdict, Verdict::Difference { direction: Direction::Lower });
        assert_eq!(c.over_seeds.why(), Some("one seed"));
        let exact = 2.0 / 64.0;
        assert!((c.test.known().unwrap().p - exact).abs() < 1e-12);
    }

    #[test]
    fn three_seeds_that_disagree_show_no_difference_however_clear_the_kinds() {
        let up: Vec<f64> = CLEAR.iter().map(|x| -x * 0.8).collect();
        let t = table(&[&CLEAR, &CLEAR, &up]);
        let c = conclude(&t, &kinds(6), 0.95, 0.05);
        assert!(matches!(c.verdict, Verdict::NoDifferenceShown { .. }), "{:?}", c.verdict);
        assert!(c.over_seeds.known().is_some());
        let over_kinds = conclude(&table(&[&CLEAR]), &kinds(6), 0.95, 0.05).detectable;
        let (all, kinds) = (c.detectable.known().unwrap(), over_kinds.known().unwrap());
        assert!(*all > 5.0 * kinds, "seeds limit what could be shown: {all}, kinds {kinds}");
        assert!(c.test.known().unwrap().method.starts_with("over kinds only"));
    }

    #[test]
    fn no_effect_is_said_only_within_the_margin() {
        let small = [0.01, -0.01, 0.02, -0.02, 0.005, -0.004];
        let c = conclude(&table(&[&small]), &kinds(6), 0.95, 0.05);
        assert_eq!(c.verdict, Verdict::Equivalent { margin: 0.05 });
        let c = conclude(&table(&[&small]), &kinds(6), 0.95, 0.005);
        assert!(matches!(c.verdict, Verdict::NoDifferenceShown { .. }));
        assert!(*c.detectable.known().unwrap() > 0.005);
    }

    #[test]
    fn one_kind_gives_no_interval_and_no_verdict() {
        let c = conclude(&table(&[&[0.3]]), &kinds(1), 0.95, 0.05);
        assert!(matches!(c.verdict, Verdict::NotComparable { .. }));
        assert!(c.estimate.known().is_none());
    }

    #[test]
    fn arms_are_paired_by_seed_not_by_position() {
        let a = Table { seeds: vec![0, 2], rows: vec![vec![1.0], vec![5.0]] };
        let b = Table { seeds: vec![2, 1], rows: vec![vec![1.0], vec![9.0]] };
        let joint = a.zip(&b, |a, b| a - b).unwrap();
        assert_eq!((joint.seeds, joint.rows), (vec![2], vec![vec![4.0]]));
        let c = Table { seeds: vec![7], rows: vec![vec![1.0]] };
        assert!(a.zip(&c, |a, b| a - b).is_err());
    }
}
