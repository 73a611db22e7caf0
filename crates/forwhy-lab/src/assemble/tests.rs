//! Results from made-up units: what is said of known numbers.

use super::*;
use crate::environment::current;
use crate::outside::Cost;
use crate::unit::{ActVerdict, InstanceMargin, Key, Measured};
use forwhy_core::model::{Identity, Sampling};
use forwhy_core::outcome::Outcome;
use forwhy_core::results::{Direction, Side, Verdict};
use forwhy_testkit::micro_study::STUDY;
use std::path::Path;

const ARMS: [&str; 3] = ["generic", "advice", "advice-opposite"];
const HELD: usize = 6;

/// Six kinds held out, one not.
fn kinds() -> Vec<KindInfo> {
    let kind = |i: usize| KindInfo {
        kind: Kind { id: format!("k{i}"), title: format!("Kind {i}") },
        held_out: i < HELD,
        instances: 1,
    };
    (0..=HELD).map(kind).collect()
}

/// A unit whose margins lie around `level`: their mean over the held-out kinds, with a spread and
/// a drift over seeds of its own.
fn unit(arm: &str, budget: Option<u64>, seed: u64, level: f64) -> Unit {
    let own = 0.001 * arm.len() as f64;
    let margin = |(i, info): (usize, &KindInfo)| InstanceMargin {
        kind: info.kind.id.clone(),
        instance: format!("{}-1", info.kind.id),
        bait: level + own * (seed as f64 + if i % 2 == 0 { 5.0 } else { -5.0 }),
        twin: 0.0,
    };
    let act = |info: &KindInfo, side| ActVerdict {
        kind: info.kind.id.clone(),
        instance: format!("{}-1", info.kind.id),
        side,
        sample: 0,
        outcome: Outcome::Aligned,
    };
    let kinds = kinds();
    let acts = kinds.iter().flat_map(|k| [act(k, Side::Bait), act(k, Side::Twin)]);
    let measured = Measured {
        margins: kinds.iter().enumerate().map(margin).collect(),
        acts: acts.collect(),
        easy_chat: (1, 2),
        prose: (4.0, 2),
        drift_kl: None,
        cost: Cost { cpu_secs: 1.0, wall_secs: 1.0 },
    };
    let trained = budget.map(|tokens| trained(tokens, 300));
    Unit { key: Key { arm: arm.into(), budget, seed }, trained, measured }
}

fn trained(tokens: u64, loss_tokens: u64) -> Trained {
    Trained {
        data_hash: "blake3:0".into(),
        rows: 3,
        split: None,
        tokens,
        loss_tokens,
        epochs: 1.0,
        steps: 2,
        learning_rate: 1e-4,
        scope: "all".into(),
        cost: Cost::default(),
        loss: Vec::new(),
    }
}

/// Organism at 1; advice lowers the margin by 0.6, its twin by 0.1, generic chat by 0.3.
fn units(seeds: &[u64]) -> Vec<Unit> {
    let mut all = vec![unit(UNTOUCHED, None, seeds[0], 0.0)];
    for seed in seeds {
        all.push(unit(ORGANISM, None, *seed, 1.0));
        for (arm, level) in ARMS.into_iter().zip([0.7, 0.4, 0.9]) {
            all.push(unit(arm, Some(600), *seed, level));
        }
    }
    all
}

fn made(units: &[Unit]) -> Results {
    let study = crate::study::parse(Path::new("s.toml"), STUDY).unwrap();
    let environment = current(1);
    let provenance = Provenance {
        version: environment.version,
        revision: environment.revision,
        modified: environment.modified,
        started: "2026-01-01T00:00:00Z".into(),
        finished: "2026-01-01T00:00:01Z".into(),
        machine: environment.machine,
        model: Identity { name: "m".into(), revision: "r".into() },
        cpu_secs: Maybe::Known(1.0),
        wall_secs: Maybe::Known(1.0),
        settings: Vec::new(),
    };
    let lineage = |_: &str| Lineage {
        files: "data.jsonl".into(),
        distances: [Maybe::missing("test"), Maybe::missing("test")],
    };
    let prose = Prose { question: String::new(), method: Vec::new(), cannot_say: Vec::new() };
    let results = results(&Inputs {
        study: &study,
        file: FileRef { path: "study.toml".into(), hash: "blake3:0".into() },
        kinds: &kinds(),
        units,
        lineage: &lineage,
        provenance,
        oracle: Maybe::missing("test"),
        prose,
        notes: Vec::new(),
        sampling: Sampling::default(),
    });
    results.to_json().expect("results are sound");
    results
}

fn primary(results: &Results) -> &Contrast {
    let mut all = results.contrasts.iter().filter(|c| c.status == Status::Primary);
    let first = all.next().unwrap();
    assert!(all.next().is_none(), "two headlines");
    first
}

fn near(found: &Maybe<forwhy_core::results::Estimate>, expected: f64) {
    let found = found.known().expect("an estimate").value;
    assert!((found - expected).abs() < 1e-9, "{found}, expected {expected}");
}

#[test]
fn the_primary_contrast_is_the_arm_minus_its_twin_on_held_out_kinds() {
    let results = made(&units(&[0]));
    let contrast = primary(&results);
    assert_eq!(contrast.id, "advice-600-minus-advice-opposite-on-held_out");
    near(&contrast.estimate, -0.5);
    assert_eq!((contrast.clusters, contrast.seeds), (HELD as u64, 1));
    assert_eq!(contrast.verdict, Verdict::Difference { direction: Direction::Lower });
    assert_eq!(contrast.label, "this checkpoint, over kinds");
}

#[test]
fn values_and_style_add_up_to_arm_and_twin_against_generic() {
    let results = made(&units(&[0]));
    let half = results.halves.iter().find(|h| h.evaluation == HELD_OUT).unwrap();
    near(&half.values, -0.25);
    near(&half.style, -0.05);
    near(&half.arm_against_generic, -0.3);
    near(&half.twin_against_generic, 0.2);
}

#[test]
fn arms_with_unlike_loss_tokens_give_no_headline() {
    let mut units = units(&[0]);
    let twin = units.iter_mut().find(|u| u.key.arm == "advice-opposite").unwrap();
    twin.trained = Some(trained(600, 250));
    let results = made(&units);
    let Verdict::NotComparable { why } = &primary(&results).verdict else {
        panic!("{:?}", primary(&results).verdict)
    };
    assert_eq!(why, "loss tokens differ by 17% (300 and 250)");
    let labels: Vec<&str> = results.halves.iter().map(|h| h.label.as_str()).collect();
    let expected =
        "this checkpoint, over kinds; arm, twin: loss tokens differ by 17% (300 and 250)";
    assert_eq!(labels, [expected; 2]);
}

#[test]
fn arms_of_which_one_was_not_run_are_not_compared() {
    let mut units = units(&[0]);
    units.retain(|u| u.key.arm != "advice-opposite");
    let left: Vec<&Unit> = units.iter().filter(|u| u.key.arm == "advice").collect();
    let right: Vec<&Unit> = Vec::new();
    let tables = Table::new(&left, &["k0".to_string()], DIFFERENCE)
        .and_then(|l| l.zip(&Table::new(&right, &["k0".to_string()], DIFFERENCE)?, |a, b| a - b));
    assert!(tables.unwrap_err().contains("share no seed"));
    assert_eq!(loss_tokens_differ(&left, &right), None);
}

#[test]
fn every_exploratory_p_is_adjusted_and_the_primary_one_is_not() {
    let results = made(&units(&[0, 1, 2]));
    for contrast in &results.contrasts {
        let Some(test) = contrast.test.known() else { continue };
        let primary = contrast.status == Status::Primary;
        assert_eq!(test.adjusted.known().is_none(), primary, "{}", contrast.id);
        assert!(test.adjusted.known().is_none_or(|p| *p >= test.p), "{}", contrast.id);
    }
    assert_eq!(primary(&results).label, "3 seeds averaged, over kinds");
    assert!(primary(&results).over_seeds.known().is_some());
    assert_eq!(results.measures.primary, 1);
}

#[test]
fn the_untouched_model_is_compared_with_every_organism() {
    let results = made(&units(&[0, 1, 2]));
    let contrast = results.contrasts.iter().find(|c| c.arm == UNTOUCHED).unwrap();
    assert_eq!(contrast.seeds, 3);
    near(&contrast.estimate, -1.008);
}

#[test]
fn one_seed_and_a_passive_organism_are_said() {
    let mut units = units(&[0]);
    for unit in units.iter_mut().filter(|u| u.key.arm == ORGANISM) {
        for act in &mut unit.measured.acts {
            act.outcome = Outcome::NoAction;
        }
    }
    let results = made(&units);
    let notes: Vec<&str> = results.notes.iter().map(|n| n.text.as_str()).collect();
    assert!(notes.iter().any(|n| n.starts_with("One seed")), "{notes:?}");
    assert!(notes.iter().any(|n| n.contains("uninformative")), "{notes:?}");
    let evaluations = results.arms.iter().flat_map(|a| &a.summaries);
    for summary in evaluations {
        for evaluation in &summary.measures.evaluations {
            assert!(evaluation.outcomes.known().is_none_or(|o| !o.informative));
        }
    }
}

#[test]
fn halves_name_the_seeds_that_all_three_arms_share() {
    let mut units = units(&[0, 1, 2]);
    units.retain(|u| u.key.arm != "generic" || u.key.seed < 2);
    let results = made(&units);
    let half = results.halves.iter().find(|h| h.evaluation == HELD_OUT).unwrap();
    assert_eq!(half.label, "2 seeds averaged, over kinds");
}

#[test]
fn every_figure_that_is_shown_is_counted_and_empty_sets_are_not() {
    let results = made(&units(&[0]));
    let summaries: usize = results.arms.iter().map(|a| a.summaries.len()).sum();
    let of_arms = summaries as u64 * (3 + (13 + HELD as u64) + (13 + 1));
    assert_eq!(measures_of_arms(&results.arms), of_arms);
    // One kind in distribution gives no interval, hence no figure of a comparison there.
    let made_there = results.contrasts.iter().filter(|c| c.estimate.known().is_some());
    assert!(made_there.clone().all(|c| c.evaluation == HELD_OUT));
    let comparisons = 2 * made_there.count() as u64 - 1 + 4;
    assert_eq!(results.measures.exploratory, of_arms + comparisons);
    let mut empty = results.arms.clone();
    for summary in empty.iter_mut().flat_map(|a| &mut a.summaries) {
        summary.measures.evaluations[1].margins = Maybe::missing("there is no kind in this set");
    }
    assert_eq!(measures_of_arms(&empty), of_arms - summaries as u64 * 14);
}
