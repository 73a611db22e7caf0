//! What a design could show, before or after the data: detectable differences, sample sizes, and
//! when "no effect" may be said.

use crate::cluster::ClusterMean;
use crate::distribution::{bisect, noncentral_t_cdf, normal_quantile, t_cdf, t_quantile};
use crate::{StatsError, open_unit};

/// Power of the two-sided t test of a mean over `clusters`, when the true mean is `effect` and the
/// clusters' standard deviation `sd`: the noncentral t distribution, both tails. `sd` is taken as
/// known, so with an estimated `sd` the figure is an approximation.
pub fn power_over_clusters(
    effect: f64,
    sd: f64,
    clusters: usize,
    alpha: f64,
) -> Result<f64, StatsError> {
    open_unit("alpha", alpha)?;
    check_design(sd, clusters)?;
    Ok(power_at(effect.abs() / sd * (clusters as f64).sqrt(), clusters as f64 - 1.0, alpha))
}

/// The smallest true mean that a two-sided t test at `alpha` finds with chance `power`, in the unit
/// of `sd`. With `alpha` 0.05 and `power` 0.8 this is what a null result states.
pub fn smallest_detectable(
    sd: f64,
    clusters: usize,
    alpha: f64,
    power: f64,
) -> Result<f64, StatsError> {
    open_unit("alpha", alpha)?;
    open_unit("power", power)?;
    check_design(sd, clusters)?;
    if power <= alpha {
        let expected = "above alpha, which no effect at all reaches";
        return Err(StatsError::OutOfRange { what: "power", got: power, expected });
    }
    let df = clusters as f64 - 1.0;
    let mut hi = 4.0;
    while power_at(hi, df, alpha) < power {
        hi *= 2.0;
    }
    let shift = bisect(0.0, hi, |shift| power_at(shift, df, alpha) < power);
    Ok(shift * sd / (clusters as f64).sqrt())
}

fn power_at(shift: f64, df: f64, alpha: f64) -> f64 {
    let critical = t_quantile(1.0 - alpha / 2.0, df);
    1.0 - noncentral_t_cdf(critical, df, shift) + noncentral_t_cdf(-critical, df, shift)
}

fn check_design(sd: f64, clusters: usize) -> Result<(), StatsError> {
    if clusters < 2 {
        return Err(StatsError::TooFew { unit: "clusters", got: clusters, need: 2 });
    }
    if !(sd > 0.0 && sd.is_finite()) {
        return Err(StatsError::OutOfRange { what: "sd", got: sd, expected: "above 0" });
    }
    Ok(())
}

/// Whether "no effect" may be said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Equivalence {
    /// The larger p of the two one-sided t tests (Schuirmann 1987).
    pub p: f64,
    /// Whether the interval of the estimate lies within the margin: the stricter rule, which the
    /// report uses (a 95% interval, where the two tests at 5% need a 90% one).
    pub interval_within: bool,
}

/// Two one-sided tests that the mean lies between `-margin` and `margin`.
pub fn equivalence(estimate: &ClusterMean, margin: f64) -> Result<Equivalence, StatsError> {
    if !(margin > 0.0 && margin.is_finite()) {
        return Err(StatsError::OutOfRange { what: "margin", got: margin, expected: "above 0" });
    }
    let error = estimate.standard_error();
    let below = t_cdf((estimate.mean - margin) / error, estimate.df());
    let above = t_cdf((-margin - estimate.mean) / error, estimate.df());
    Ok(Equivalence { p: below.max(above), interval_within: estimate.interval.within(margin) })
}

/// Trials an arm to tell rate `a` from rate `b`, two-sided at `alpha`, normal approximation with
/// the pooled variance under the null (Fleiss, no continuity correction), times `design_effect`
/// for clustering, rounded up.
pub fn trials_for_two_rates(
    a: f64,
    b: f64,
    alpha: f64,
    power: f64,
    design_effect: f64,
) -> Result<u64, StatsError> {
    open_unit("rate", a)?;
    open_unit("rate", b)?;
    open_unit("alpha", alpha)?;
    open_unit("power", power)?;
    if a == b {
        let expected = "another rate than the first";
        return Err(StatsError::OutOfRange { what: "the second rate", got: b, expected });
    }
    if !(design_effect >= 1.0 && design_effect.is_finite()) {
        let (what, got, expected) = ("design effect", design_effect, "at least 1");
        return Err(StatsError::OutOfRange { what, got, expected });
    }
    let pooled = (a + b) / 2.0;
    let under_null = normal_quantile(1.0 - alpha / 2.0) * (2.0 * pooled * (1.0 - pooled)).sqrt();
    let under_other = normal_quantile(power) * (a * (1.0 - a) + b * (1.0 - b)).sqrt();
    let trials = ((under_null + under_other) / (a - b)).powi(2);
    Ok((trials * design_effect).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::mean_over_clusters;

    #[test]
    fn telling_22_from_15_percent_takes_482_an_arm() {
        assert_eq!(trials_for_two_rates(0.22, 0.15, 0.05, 0.8, 1.0).unwrap(), 482);
        assert_eq!(trials_for_two_rates(0.15, 0.22, 0.05, 0.8, 2.0).unwrap(), 964);
        assert!(trials_for_two_rates(0.2, 0.2, 0.05, 0.8, 1.0).is_err());
    }

    #[test]
    fn detectable_differences_have_the_power_they_promise() {
        for clusters in [2, 3, 12, 60] {
            let effect = smallest_detectable(0.2, clusters, 0.05, 0.8).unwrap();
            let power = power_over_clusters(effect, 0.2, clusters, 0.05).unwrap();
            assert!((power - 0.8).abs() < 1e-9, "{clusters}: {power}");
        }
        let none = power_over_clusters(0.0, 1.0, 12, 0.05).unwrap();
        assert!((none - 0.05).abs() < 1e-9);
        assert!(smallest_detectable(0.0, 12, 0.05, 0.8).is_err());
    }

    #[test]
    fn no_effect_is_said_only_within_the_margin() {
        let estimate = mean_over_clusters(&[0.01, -0.02, 0.0, 0.015, -0.005], 0.95).unwrap();
        let near = equivalence(&estimate, 0.05).unwrap();
        assert!(near.interval_within && near.p < 0.025);
        let far = equivalence(&estimate, 0.01).unwrap();
        assert!(!far.interval_within && far.p > 0.05);
        assert!(equivalence(&estimate, 0.0).is_err());
    }
}
