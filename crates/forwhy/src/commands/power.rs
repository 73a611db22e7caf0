//! `forwhy power`.

use anyhow::Result;
use forwhy_stats::power::trials_for_two_rates;

use super::{input, print};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// One rate, e.g. 22%.
    #[arg(long, value_parser = percent)]
    from: f64,
    /// The other, e.g. 15%.
    #[arg(long, value_parser = percent)]
    to: f64,
    /// Variance over clusters divided by that of independent acts.
    #[arg(long, default_value_t = 1.0)]
    design_effect: f64,
    /// Two-sided error rate.
    #[arg(long, default_value_t = 0.05)]
    alpha: f64,
    /// Chance of finding the difference.
    #[arg(long, default_value_t = 0.8)]
    power: f64,
}

pub(crate) fn run(a: &Arguments) -> Result<()> {
    let n = input(trials_for_two_rates(a.from, a.to, a.alpha, a.power, a.design_effect))?;
    print(&format!(
        "{n} acts an arm to tell {:.1}% from {:.1}% (two-sided {}, power {}, design effect {})\n",
        a.from * 100.0,
        a.to * 100.0,
        a.alpha,
        a.power,
        a.design_effect
    ))
}

/// `22%` or `0.22`.
fn percent(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 0.01),
        None => (text, 1.0),
    };
    let value: f64 =
        number.trim().parse().map_err(|e| format!("{text:?} is no rate like 22%: {e}"))?;
    Ok(value * scale)
}
