//! Every figure of `reference.tsv` (by scipy and statsmodels, see `scripts/reference.py`).

use crate::cluster::mean_over_clusters;
use crate::{Interval, agreement, discrete, distribution, power, proportion, resample};

const TABLE: &str = include_str!("../scripts/reference.tsv");

fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace().map(|n| n.parse().unwrap()).collect()
}

fn ends(interval: Interval) -> Vec<f64> {
    vec![interval.lo, interval.hi]
}

fn square(a: &[f64]) -> Vec<Vec<u64>> {
    let side = (a.len() as f64).sqrt() as usize;
    a.chunks(side).map(|row| row.iter().map(|v| *v as u64).collect()).collect()
}

fn computed(name: &str, a: &[f64]) -> Vec<f64> {
    let pairs = |a: &[f64]| a.chunks(2).map(|c| (c[0] as u64, c[1] as u64)).collect::<Vec<_>>();
    match name {
        "ln_gamma" => vec![distribution::ln_gamma(a[0])],
        "beta_cdf" => vec![distribution::beta_cdf(a[0], a[1], a[2])],
        "beta_quantile" => vec![distribution::beta_quantile(a[0], a[1], a[2])],
        "normal_cdf" => vec![distribution::normal_cdf(a[0])],
        "normal_quantile" => vec![distribution::normal_quantile(a[0])],
        "t_cdf" => vec![distribution::t_cdf(a[0], a[1])],
        "t_quantile" => vec![distribution::t_quantile(a[0], a[1])],
        "noncentral_t_cdf" => vec![distribution::noncentral_t_cdf(a[0], a[1], a[2])],
        "wilson" => ends(proportion::wilson(a[0] as u64, a[1] as u64, a[2]).unwrap()),
        "exact" => ends(proportion::exact(a[0] as u64, a[1] as u64, a[2]).unwrap()),
        "zero_excludes_above" => {
            vec![proportion::zero_excludes_above(a[0] as u64, a[1]).unwrap()]
        }
        "mean_over_clusters" => {
            let got = mean_over_clusters(a, 0.95).unwrap();
            vec![got.mean, got.sd, got.interval.lo, got.interval.hi, got.p]
        }
        "sign_flip" => vec![resample::sign_flip(a).unwrap()],
        "equivalence" => {
            let estimate = mean_over_clusters(&a[1..], 0.95).unwrap();
            vec![power::equivalence(&estimate, a[0]).unwrap().p]
        }
        "smallest_detectable" => {
            vec![power::smallest_detectable(a[0], a[1] as usize, 0.05, 0.8).unwrap()]
        }
        "holm" => discrete::holm(a).unwrap(),
        "mcnemar" => vec![discrete::mcnemar(a[0] as u64, a[1] as u64)],
        "kappa" => vec![agreement::kappa(&square(a)).unwrap()],
        "clustered" => {
            let got = proportion::clustered(&pairs(a), 0.95).unwrap();
            vec![got.rate, got.interval.lo, got.interval.hi, got.design_effect.unwrap()]
        }
        other => panic!("reference.tsv names {other}, which this test does not know"),
    }
}

#[test]
fn figures_agree_with_scipy_and_statsmodels() {
    let mut lines = 0;
    for line in TABLE.lines().filter(|l| !l.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let want = numbers(fields[2]);
        let got = computed(fields[0], &numbers(fields[1]));
        assert_eq!(got.len(), want.len(), "{line}");
        for (g, w) in got.iter().zip(&want) {
            assert!((g - w).abs() <= 1e-9 * w.abs().max(1e-3), "{line}\n got {got:?}");
        }
        lines += 1;
    }
    assert!(lines > 70, "only {lines} lines");
}
