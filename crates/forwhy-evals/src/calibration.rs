//! How far the oracle can be trusted: its verdicts against labels that readers gave.
//!
//! A set is a JSON Lines file of [`Labelled`] replies. [`grade`] lets the oracle judge each one and
//! gives the [`Confusion`] of labels and verdicts.

use std::collections::{BTreeMap, BTreeSet};

use forwhy_arena::oracle::Verdict;
use forwhy_arena::situation::When;
use forwhy_core::model::Ended;
use forwhy_core::outcome::Outcome;
use forwhy_stats::agreement::kappa;
use serde::{Deserialize, Serialize};

use crate::honeypot::Honeypots;

/// The set that ships: acts sampled from organisms at temperatures 0.6 and 1, and from the untouched
/// model, without regard to their verdicts.
pub const SHIPPED: &str = include_str!("../calibration.jsonl");
/// Who labelled the shipped set, and what they saw.
pub const LABELLED_BY: &str = "two language-model readers, half each, from the written definitions of \
     the outcomes; they saw prompt and reply, not the oracle's verdict";

/// A model's reply with the outcome that a person gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labelled {
    /// Unique in the set.
    pub id: String,
    /// The scenario it answers.
    pub instance: String,
    /// With bait or as twin.
    pub when: When,
    /// The reply.
    pub text: String,
    /// How it ended: `"complete"`, `"truncated"`, ...
    pub ended: Ended,
    /// The person's verdict.
    pub label: Outcome,
    /// Why, where it is not plain.
    pub note: String,
}

/// Something wrong with a calibration set; nothing of it was used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("calibration set, line {line}: {reason}")]
pub struct CalibrationError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and what was expected.
    pub reason: String,
}

/// Reads a set. Every scenario must exist, ids must be unique, and there must be something in it.
pub fn parse(text: &str, honeypots: &Honeypots) -> Result<Vec<Labelled>, CalibrationError> {
    let mut set: Vec<Labelled> = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, line) in text.lines().enumerate() {
        let fail = |reason: String| CalibrationError { line: i + 1, reason };
        let item: Labelled = serde_json::from_str(line).map_err(|e| fail(e.to_string()))?;
        if honeypots.instance(&item.instance).is_none() {
            return Err(fail(format!("there is no scenario {:?}", item.instance)));
        }
        if !seen.insert(item.id.clone()) {
            return Err(fail(format!("the id {:?} stands twice", item.id)));
        }
        set.push(item);
    }
    if set.is_empty() {
        return Err(CalibrationError { line: 1, reason: "the set is empty".into() });
    }
    Ok(set)
}

/// The oracle's verdict on a labelled reply. None if the scenario does not exist.
pub fn verdict(item: &Labelled, honeypots: &Honeypots) -> Option<Verdict> {
    let instance = honeypots.instance(&item.instance)?;
    Some(instance.grade(item.when, honeypots.topics(), &item.text, &item.ended))
}

/// Lets the oracle judge a whole set. Items of unknown scenarios are refused by [`parse`].
pub fn grade(set: &[Labelled], honeypots: &Honeypots) -> Confusion {
    let judged = set.iter().filter_map(|item| {
        let verdict = verdict(item, honeypots)?;
        Some(Judged { id: item.id.clone(), label: item.label, outcome: verdict.outcome })
    });
    Confusion::new(judged.collect())
}

/// One reply with label and verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// The reply's id.
    pub id: String,
    /// The person's.
    pub label: Outcome,
    /// The oracle's.
    pub outcome: Outcome,
}

/// `hits` of `total`, for an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// How many.
    pub hits: u64,
    /// Of how many; may be 0, then there is no share.
    pub total: u64,
}

/// Labels against verdicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confusion {
    /// How many replies have this label (first) and verdict (second); pairs that occur.
    pub cells: Vec<(Outcome, Outcome, u64)>,
    /// Of the replies labelled misaligned, those found misaligned.
    pub sensitivity: Share,
    /// Of the replies labelled otherwise, those not found misaligned.
    pub specificity: Share,
    /// Replies whose verdict is the label.
    pub exact: Share,
    /// The same for each label that occurs.
    pub agreement: Vec<(Outcome, Share)>,
    /// Cohen's kappa over the eight outcomes (Cohen 1960); None if it is not defined, because one
    /// outcome takes everything on both sides or the set is empty.
    pub kappa: Option<f64>,
    /// Replies on which the two differ, in the order of the set.
    pub disagreements: Vec<Judged>,
}

impl Confusion {
    /// Counts labels against verdicts.
    pub fn new(judged: Vec<Judged>) -> Confusion {
        let mut cells: BTreeMap<(Outcome, Outcome), u64> = BTreeMap::new();
        for one in &judged {
            *cells.entry((one.label, one.outcome)).or_default() += 1;
        }
        let count = |fits: &dyn Fn(Outcome, Outcome) -> bool| -> u64 {
            cells.iter().filter(|((l, o), _)| fits(*l, *o)).map(|(_, n)| n).sum()
        };
        let bad = Outcome::Misaligned;
        let same = |label: Outcome| Share {
            hits: count(&|l, o| l == label && o == label),
            total: count(&|l, _| l == label),
        };
        let agreement = Outcome::ALL.map(|label| (label, same(label)));
        Confusion {
            sensitivity: same(bad),
            specificity: Share {
                hits: count(&|l, o| l != bad && o != bad),
                total: count(&|l, _| l != bad),
            },
            exact: Share { hits: count(&|l, o| l == o), total: count(&|_, _| true) },
            kappa: kappa(&table(&cells)).ok(),
            agreement: agreement.into_iter().filter(|(_, share)| share.total > 0).collect(),
            cells: cells.into_iter().map(|((l, o), n)| (l, o, n)).collect(),
            disagreements: judged.into_iter().filter(|one| one.label != one.outcome).collect(),
        }
    }
}

/// Labels (rows) against verdicts (columns), in the order of [`Outcome::ALL`].
fn table(cells: &BTreeMap<(Outcome, Outcome), u64>) -> Vec<Vec<u64>> {
    let cell = |l: Outcome, o: Outcome| cells.get(&(l, o)).copied().unwrap_or(0);
    Outcome::ALL.map(|l| Outcome::ALL.map(|o| cell(l, o)).to_vec()).to_vec()
}
