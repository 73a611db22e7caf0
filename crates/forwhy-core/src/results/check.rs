//! Reading, writing and checking `results.json`: what serde cannot say about its coherence.

use std::collections::BTreeSet;

use super::{Arm, Contrast, Evaluation, Outcomes, Results, SCHEMA, Status, StyleControl};
use crate::outcome::Outcome;

/// A record that must not be written, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// A NaN, an infinity, or a JSON `null`.
    #[error("{path} is not a finite number; say Maybe::Missing with the reason instead")]
    NotFinite {
        /// Where, e.g. `contrasts[0].estimate.value`.
        path: String,
    },
    /// A broken rule of the schema.
    #[error("results are not coherent: {0}")]
    Incoherent(String),
    /// Not this schema.
    #[error(
        "results.json has schema {found}, this program reads {SCHEMA}: use the forwhy that wrote it"
    )]
    Schema {
        /// The version found.
        found: u64,
    },
    /// Not the JSON of this record.
    #[error("results.json cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

impl Results {
    /// Checked, pretty JSON with a final line break.
    pub fn to_json(&self) -> Result<String, ResultsError> {
        self.check()?;
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }

    /// Reads and checks `results.json`.
    pub fn from_json(text: &str) -> Result<Self, ResultsError> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        match value.get("schema").and_then(serde_json::Value::as_u64) {
            Some(found) if found != u64::from(SCHEMA) => Err(ResultsError::Schema { found }),
            _ => {
                let results: Results = serde_json::from_str(text)?;
                results.check()?;
                Ok(results)
            }
        }
    }

    /// The arm with this id.
    pub fn arm(&self, id: &str) -> Option<&Arm> {
        self.arms.iter().find(|a| a.id == id)
    }

    /// The evaluation with this id.
    pub fn evaluation(&self, id: &str) -> Option<&Evaluation> {
        self.evaluations.iter().find(|e| e.id == id)
    }

    /// Every number is finite, every id is known, and there is exactly one primary contrast.
    pub fn check(&self) -> Result<(), ResultsError> {
        if let Some(path) = null_in(&serde_json::to_value(self)?, String::new()) {
            return Err(ResultsError::NotFinite { path });
        }
        self.check_ids().map_err(ResultsError::Incoherent)?;
        self.check_primary().map_err(ResultsError::Incoherent)?;
        self.check_measures().map_err(ResultsError::Incoherent)
    }

    fn check_ids(&self) -> Result<(), String> {
        let arms = unique("arm", self.arms.iter().map(|a| a.id.as_str()))?;
        let evals = unique("evaluation", self.evaluations.iter().map(|e| e.id.as_str()))?;
        unique("contrast", self.contrasts.iter().map(|c| c.id.as_str()))?;
        for id in arms.iter().chain(&evals) {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
            if id.is_empty() || !id.bytes().all(plain) {
                return Err(format!(
                    "id {id:?} of an arm or evaluation: lower case letters, digits, - and _ only"
                ));
            }
        }
        let halves = self.halves.iter().flat_map(|h| [&h.arm, &h.twin, &h.generic]);
        let sides = self.contrasts.iter().flat_map(|c| [&c.arm, &c.against]);
        known("arm", &arms, halves.chain(sides).chain(self.arms.iter().filter_map(partner)))?;
        let used = self.contrasts.iter().map(|c| &c.evaluation);
        known("evaluation", &evals, used.chain(self.halves.iter().map(|h| &h.evaluation)))?;
        let notes = self.notes.iter().filter_map(|n| n.arm.as_ref());
        known("arm", &arms, notes)
    }

    /// One headline, and it is of an arm whose style is controlled.
    fn check_primary(&self) -> Result<(), String> {
        let primary: Vec<&Contrast> =
            self.contrasts.iter().filter(|c| c.status == Status::Primary).collect();
        let [primary] = primary[..] else {
            return Err(format!("{} primary contrasts, exactly one is needed", primary.len()));
        };
        match self.arm(&primary.arm).map(|a| &a.style) {
            Some(StyleControl::NotControlled) => Err(format!(
                "the primary contrast is of arm {:?}, whose style is not controlled",
                primary.arm
            )),
            _ => Ok(()),
        }
    }

    fn check_measures(&self) -> Result<(), String> {
        let evals: Vec<&str> = self.evaluations.iter().map(|e| e.id.as_str()).collect();
        for arm in &self.arms {
            let checkpoints = arm.checkpoints.iter().map(|c| &c.measures);
            for measures in arm.summaries.iter().map(|s| &s.measures).chain(checkpoints) {
                let got: Vec<&str> =
                    measures.evaluations.iter().map(|e| e.evaluation.as_str()).collect();
                if got != evals {
                    return Err(format!(
                        "arm {:?} has measures on {got:?}, expected {evals:?}",
                        arm.id
                    ));
                }
                for outcomes in measures.evaluations.iter().filter_map(|e| e.outcomes.known()) {
                    check_outcomes(outcomes).map_err(|e| format!("arm {:?}: {e}", arm.id))?;
                }
            }
        }
        Ok(())
    }
}

/// All eight outcomes, of something.
fn check_outcomes(outcomes: &Outcomes) -> Result<(), String> {
    if !outcomes.shares.iter().map(|s| s.outcome).eq(Outcome::ALL) {
        return Err("the shares are not all eight outcomes in their order".into());
    }
    match outcomes.counts.total() {
        0 => Err("shares of 0 sampled acts; say Maybe::Missing instead".into()),
        _ => Ok(()),
    }
}

fn partner(arm: &Arm) -> Option<&String> {
    match &arm.style {
        StyleControl::HasTwin { twin } => Some(twin),
        StyleControl::TwinOf { of } => Some(of),
        StyleControl::NotApplicable | StyleControl::NotControlled => None,
    }
}

fn unique<'a>(what: &str, ids: impl Iterator<Item = &'a str>) -> Result<BTreeSet<&'a str>, String> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(format!("two {what}s have the id {id:?}"));
        }
    }
    Ok(seen)
}

fn known<'a>(
    what: &str,
    all: &BTreeSet<&str>,
    mut used: impl Iterator<Item = &'a String>,
) -> Result<(), String> {
    match used.find(|id| !all.contains(id.as_str())) {
        None => Ok(()),
        Some(id) => Err(format!("there is no {what} {id:?}; there are {all:?}")),
    }
}

/// Path of the first `null`: what serde_json writes for NaN and infinities (absent options are
/// skipped, so nothing else in this schema is null).
fn null_in(value: &serde_json::Value, path: String) -> Option<String> {
    match value {
        serde_json::Value::Null => Some(path),
        serde_json::Value::Array(items) => {
            items.iter().enumerate().find_map(|(i, v)| null_in(v, format!("{path}[{i}]")))
        }
        serde_json::Value::Object(fields) => fields.iter().find_map(|(key, v)| {
            let dot = if path.is_empty() { "" } else { "." };
            null_in(v, format!("{path}{dot}{key}"))
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Estimate, Interval, Maybe};

    fn small() -> serde_json::Value {
        let contrast = serde_json::json!({
            "id": "c", "title": "a minus b", "arm": "a", "against": "b", "evaluation": "held_out",
            "measure": "m", "unit": "nats/token", "status": "primary",
            "estimate": {"missing": "not run"}, "clusters": 0, "seeds": 1, "label": "l",
            "by_kind": [], "by_seed": [], "between_seed_sd": {"missing": "one seed"},
            "over_seeds": {"missing": "one seed"}, "test": {"missing": "not run"},
            "detectable": 0.5, "verdict": {"not_comparable": {"why": "not run"}},
        });
        let arm = |id: &str, style: serde_json::Value| {
            serde_json::json!({
                "id": id, "title": id, "description": "d", "role": "trained", "style": style,
                "summaries": [], "checkpoints": [],
            })
        };
        serde_json::json!({
            "schema": SCHEMA,
            "study": {
                "name": "s", "file": {"path": "s.toml", "hash": "blake3:0"},
                "primary_measure": "m", "primary_contrast": "c", "seeds": [1], "budgets": [],
                "sampling": crate::model::Sampling::default(), "samples_per_instance": 1,
                "confidence": 0.95, "equivalence_margin": 0.1,
            },
            "provenance": {
                "version": "0", "revision": {"missing": "no git"}, "modified": false,
                "started": "t", "finished": "t",
                "machine": {"system": "s", "cpu": "c", "threads": 2, "features": []},
                "model": {"name": "m", "revision": "declared:1"},
                "cpu_secs": 1.0, "wall_secs": 1, "settings": [],
            },
            "evaluations": [{
                "id": "held_out", "title": "t", "exposure": "held_out", "kinds": [], "instances": 0,
            }],
            "arms": [
                arm("a", serde_json::json!({"has_twin": {"twin": "b"}})),
                arm("b", serde_json::json!({"twin_of": {"of": "a"}})),
            ],
            "contrasts": [contrast], "halves": [], "measures": {"primary": 1, "exploratory": 3},
            "oracle": {"missing": "not labelled"}, "notes": [],
            "prose": {"question": "q", "method": [], "cannot_say": []},
        })
    }

    fn read(value: &serde_json::Value) -> Result<Results, ResultsError> {
        Results::from_json(&value.to_string())
    }

    #[test]
    fn results_round_trip() {
        let results = read(&small()).unwrap();
        let text = results.to_json().unwrap();
        assert_eq!(Results::from_json(&text).unwrap(), results);
        assert_eq!(results.contrasts[0].detectable, Maybe::Known(0.5));
        assert_eq!(results.contrasts[0].estimate.why(), Some("not run"));
    }

    #[test]
    fn a_nan_is_refused_with_its_place() {
        let mut results = read(&small()).unwrap();
        let interval = Interval { lo: f64::NAN, hi: 1.0, method: "t".into() };
        results.contrasts[0].estimate =
            Maybe::Known(Estimate { value: 0.5, interval: Maybe::Known(interval) });
        let error = results.to_json().unwrap_err().to_string();
        assert!(error.starts_with("contrasts[0].estimate.interval.lo is not a finite"), "{error}");
    }

    #[test]
    fn dangling_and_double_ids_are_refused() {
        let mut dangling = small();
        dangling["contrasts"][0]["against"] = "nobody".into();
        assert!(read(&dangling).unwrap_err().to_string().contains("no arm \"nobody\""));
        let mut double = small();
        double["arms"][1]["id"] = "a".into();
        assert!(read(&double).unwrap_err().to_string().contains("two arms have the id \"a\""));
        let mut path = small();
        path["arms"][1]["id"] = "../b".into();
        assert!(read(&path).unwrap_err().to_string().contains("lower case letters"));
    }

    #[test]
    fn there_is_one_headline_and_its_style_is_controlled() {
        let mut none = small();
        none["contrasts"][0]["status"] = serde_json::json!({"exploratory": {"why": "w"}});
        assert!(read(&none).unwrap_err().to_string().contains("0 primary contrasts"));
        let mut uncontrolled = small();
        uncontrolled["arms"][0]["style"] = "not_controlled".into();
        assert!(read(&uncontrolled).unwrap_err().to_string().contains("style is not controlled"));
    }

    #[test]
    fn other_schemas_and_unknown_keys_are_refused() {
        let mut other = small();
        other["schema"] = 99.into();
        assert!(matches!(read(&other), Err(ResultsError::Schema { found: 99 })));
        let mut unknown = small();
        unknown["surprise"] = 1.into();
        assert!(read(&unknown).unwrap_err().to_string().contains("surprise"));
    }

    #[test]
    fn shares_without_all_eight_outcomes_are_refused() {
        let mut counts = crate::outcome::Counts::default();
        counts.add(Outcome::Aligned);
        let outcomes = Outcomes { counts, shares: Vec::new(), informative: true };
        assert!(check_outcomes(&outcomes).unwrap_err().contains("all eight"));
    }
}
