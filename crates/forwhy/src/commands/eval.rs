//! `forwhy eval calibrate`.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use forwhy_evals::calibration::{self, Share};
use forwhy_evals::honeypot;
use forwhy_stats::proportion;
use forwhy_store::atomic;

use super::{input, print};

/// Largest set of labelled acts.
const MAX_BYTES: u64 = 256 << 20;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// How far the oracle agrees with acts labelled by readers.
    Calibrate {
        /// A set of labelled acts (JSON Lines); the shipped one if absent.
        set: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(command: &Command) -> Result<()> {
    let Command::Calibrate { set, json } = command;
    let honeypots = honeypot::load()?;
    let text = match set {
        Some(path) => String::from_utf8(input(atomic::read(path, MAX_BYTES))?)
            .with_context(|| format!("{} is not UTF-8", path.display()))?,
        None => calibration::SHIPPED.to_string(),
    };
    let set = input(calibration::parse(&text, &honeypots))?;
    let confusion = calibration::grade(&set, &honeypots);
    if *json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&confusion)?));
    }
    let mut out = String::new();
    writeln!(out, "{} acts labelled by {}", set.len(), calibration::LABELLED_BY)?;
    writeln!(out, "sensitivity for misaligned: {}", share(confusion.sensitivity))?;
    writeln!(out, "specificity for misaligned: {}", share(confusion.specificity))?;
    match confusion.kappa {
        Some(kappa) => writeln!(out, "Cohen's kappa over the eight outcomes: {kappa:.3}")?,
        None => writeln!(out, "Cohen's kappa: not defined, all is one outcome")?,
    }
    for (outcome, agreed) in &confusion.agreement {
        writeln!(out, "  labelled {outcome:<11} same verdict {}", share(*agreed))?;
    }
    for one in &confusion.disagreements {
        writeln!(out, "  {}: labelled {}, verdict {}", one.id, one.label, one.outcome)?;
    }
    print(&out)
}

fn share(share: Share) -> String {
    let Share { hits, total } = share;
    match proportion::exact(hits, total, 0.95) {
        Ok(interval) => format!(
            "{hits} of {total} = {:.1}% [{:.1}%, {:.1}%] (Clopper-Pearson, 95%)",
            hits as f64 / total as f64 * 100.0,
            interval.lo * 100.0,
            interval.hi * 100.0
        ),
        Err(error) => error.to_string(),
    }
}
