//! Intervals, tests and power for rates and clustered differences.
//!
//! The unit of evidence is the *kind* of temptation: instances of one kind are near-copies, so an
//! interval over instances is too narrow. Hence:
//!
//! 1. rates: [`proportion`] (Wilson, exact, exact with the spread over kinds);
//! 2. differences: [`cluster`] (one value a kind, t interval over kinds, seeds averaged first);
//! 3. tests that assume less: [`resample`] (sign flips, bootstrap), [`discrete`] (McNemar, Holm);
//! 4. what could have been seen: [`power`]; whether two people agree: [`agreement`].
//!
//! Nothing here draws random numbers by itself, and nothing returns NaN: what cannot be computed
//! is a [`StatsError`] that says why.

pub mod agreement;
pub mod cluster;
pub mod discrete;
pub mod distribution;
pub mod power;
pub mod proportion;
#[cfg(test)]
mod reference;
pub mod resample;

/// Why a figure cannot be computed. The message can stand in a report.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// Nothing was observed.
    #[error("{what} of nothing: there are 0 trials")]
    NoTrials {
        /// Which figure.
        what: &'static str,
    },
    /// More successes than trials.
    #[error("{hits} hits of {trials} trials")]
    TooManyHits {
        /// Successes.
        hits: u64,
        /// Trials.
        trials: u64,
    },
    /// Too few values for a spread.
    #[error("{got} {unit} give no interval, at least {need} are needed")]
    TooFew {
        /// What was counted, in the plural.
        unit: &'static str,
        /// How many there are.
        got: usize,
        /// How many are needed.
        need: usize,
    },
    /// All values are equal: an interval of width zero would claim certainty.
    #[error("all {n} values are equal: their spread, and so an interval, is unknown")]
    NoSpread {
        /// How many values.
        n: usize,
    },
    /// Lists that belong together have different lengths.
    #[error("{what}: {left} values on one side, {right} on the other")]
    Unpaired {
        /// Which lists.
        what: &'static str,
        /// Length of the first.
        left: usize,
        /// Length of the second.
        right: usize,
    },
    /// A NaN or infinity came in.
    #[error("value {index} is not a finite number")]
    NotFinite {
        /// Position, counted from 0.
        index: usize,
    },
    /// A parameter outside its range.
    #[error("{what} is {got}, expected {expected}")]
    OutOfRange {
        /// Which parameter.
        what: &'static str,
        /// Its value.
        got: f64,
        /// The range.
        expected: &'static str,
    },
    /// More clusters than an exact test can enumerate.
    #[error("{clusters} clusters: 2^{clusters} sign flips are too many, at most 2^{limit}")]
    TooManyFlips {
        /// How many clusters.
        clusters: usize,
        /// The limit.
        limit: usize,
    },
    /// Two raters who both use one single label agree by construction.
    #[error("kappa is undefined: both raters gave one and the same label to everything")]
    OneLabel,
}

/// An interval of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
}

impl Interval {
    /// Whether `value` lies in it, ends included.
    pub fn holds(&self, value: f64) -> bool {
        self.lo <= value && value <= self.hi
    }

    /// Whether it lies strictly between `-margin` and `margin`.
    pub fn within(&self, margin: f64) -> bool {
        -margin < self.lo && self.hi < margin
    }
}

/// Checks a probability that must not be 0 or 1, such as a confidence.
fn open_unit(what: &'static str, got: f64) -> Result<f64, StatsError> {
    if got > 0.0 && got < 1.0 {
        return Ok(got);
    }
    Err(StatsError::OutOfRange { what, got, expected: "between 0 and 1, both excluded" })
}

/// Checks that all values are finite.
fn all_finite(values: &[f64]) -> Result<(), StatsError> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(index) => Err(StatsError::NotFinite { index }),
    }
}
