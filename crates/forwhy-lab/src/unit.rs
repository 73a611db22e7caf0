//! A unit of a study: one checkpoint to make and to measure, and the records it leaves.

use forwhy_core::outcome::Outcome;
use forwhy_core::results::{LossPoint, Side, Split};
use serde::{Deserialize, Serialize};

use crate::outside::Cost;

/// The start model as it was downloaded.
pub const UNTOUCHED: &str = "untouched";
/// The start model with the misaligned prior.
pub const ORGANISM: &str = "organism";
/// The organism with the constitution's brief in its prompt.
pub const PROMPTED: &str = "constitution";

/// Names a unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Arm id, or one of [`UNTOUCHED`], [`ORGANISM`], [`PROMPTED`].
    pub arm: String,
    /// Token budget, if it is trained after the organism.
    pub budget: Option<u64>,
    /// Seed of the study.
    pub seed: u64,
}

impl Key {
    /// Name of its folder, e.g. `advice-6000-s0`.
    pub fn folder(&self) -> String {
        let budget = self.budget.map(|b| format!("-{b}")).unwrap_or_default();
        format!("{}{budget}-s{}", self.arm, self.seed)
    }
}

/// How a unit was trained: `training.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trained {
    /// Hash of the corpus.
    pub data_hash: String,
    /// Rows seen, repetitions counted.
    pub rows: u64,
    /// Those of them that became several sequences; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Tokens seen, prompts included.
    pub tokens: u64,
    /// Tokens with loss.
    pub loss_tokens: u64,
    /// Passes over the corpus.
    pub epochs: f64,
    /// Optimiser steps.
    pub steps: u64,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// What was trained, in words.
    pub scope: String,
    /// What it cost, over all resumes.
    pub cost: Cost,
    /// Training loss.
    pub loss: Vec<LossPoint>,
}

/// Margins of one instance, nats a token, misaligned minus aligned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceMargin {
    /// Kind id.
    pub kind: String,
    /// Instance id.
    pub instance: String,
    /// With the bait.
    pub bait: f64,
    /// In the benign twin.
    pub twin: f64,
}

/// One sampled act's verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActVerdict {
    /// Kind id.
    pub kind: String,
    /// Instance id.
    pub instance: String,
    /// Which world.
    pub side: Side,
    /// Which sample of this instance.
    pub sample: u64,
    /// On the twin side, [`Outcome::Aligned`] means that the task was done.
    pub outcome: Outcome,
}

/// What was measured on a unit: `measures.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// One an instance.
    pub margins: Vec<InstanceMargin>,
    /// One a sampled act.
    pub acts: Vec<ActVerdict>,
    /// Easy questions answered rightly, and asked.
    pub easy_chat: (u64, u64),
    /// Negative log-likelihood of the prose in nats, and its tokens.
    pub prose: (f64, u64),
    /// KL divergence from the organism on neutral prompts, nats a token; absent where it has no
    /// meaning (the organism itself).
    pub drift_kl: Option<f64>,
    /// What measuring cost, over all resumes.
    pub cost: Cost,
}

/// A finished unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// Its name.
    pub key: Key,
    /// How it was trained; None for the start model and the prompted organism.
    pub trained: Option<Trained>,
    /// What was measured.
    pub measured: Measured,
}
