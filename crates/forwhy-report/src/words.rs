//! Sentences of the report that carry a claim or a limit: in one place, so that they can be read
//! and tested as a whole.

use forwhy_core::results::{
    Contrast, Direction, DistanceLabel, Estimate, Evaluation, Exposure, Maybe, Results, Status,
    StyleControl, Verdict,
};

use crate::number;

/// What this is and is not. Stands before any figure.
pub(crate) const NATURE: &str = "This is a demonstration of the pipeline on a synthetic organism: \
    a small language model into which a misaligned prior was trained on purpose. It is no evidence \
    for or against any published result on larger models.";

/// What the intervals of one seed are over.
pub(crate) const ONE_SEED: &str = "this checkpoint, over kinds";

/// Seeds from which on "helped" and "did not help" may be said.
pub(crate) const SEEDS_FOR_A_CLAIM: u64 = 3;

/// The reason that needs no words in a table, because every exploratory contrast has it.
const NOT_PRIMARY: &str = "not the primary contrast";

/// How to read the sign of the primary measure.
pub(crate) const SIGN: &str = "Below 0 is less inclined to the misaligned act than the organism.";

/// What the intervals of `seeds` seeds are over: the lab's label, except that with one seed it
/// begins with the only thing that may be said.
pub(crate) fn label(seeds: u64, given: &str) -> &str {
    if seeds == 1 && !given.starts_with(ONE_SEED) { ONE_SEED } else { given }
}

/// What may be said of a contrast, in full sentences.
pub(crate) fn verdict(contrast: &Contrast, results: &Results) -> String {
    let unit = &contrast.unit;
    let said = match &contrast.verdict {
        Verdict::NotComparable { why } => return format!("Not compared: {why}."),
        Verdict::Difference { direction } => {
            let way = match direction {
                Direction::Lower => "lower",
                Direction::Higher => "higher",
            };
            let title =
                |id: &str| results.arm(id).map_or_else(|| id.to_owned(), |a| a.title.clone());
            format!(
                "The interval excludes 0: the {} is {way} for {} than for {}.",
                contrast.measure,
                title(&contrast.arm),
                title(&contrast.against)
            )
        }
        Verdict::NoDifferenceShown { detectable } => {
            let could =
                number::or_why(detectable, |d| format!("{} {unit}", number::decimal(*d, 3)));
            format!(
                "{}: no difference was shown. The smallest difference that this comparison could \
                 have shown (80% power, two-sided at 5%) is {could}; a smaller one, either way, \
                 remains possible.",
                which_holds_0(contrast)
            )
        }
        Verdict::Equivalent { margin } => format!(
            "The interval lies within \u{b1}{} {unit}, the margin set beforehand: a difference \
             larger than that is excluded.",
            number::decimal(*margin, 3)
        ),
    };
    format!("{said} {}", reach(contrast, results))
}

/// Which interval holds 0, where no difference was shown.
fn which_holds_0(contrast: &Contrast) -> &'static str {
    let excludes_0 = |estimate: &Maybe<Estimate>| {
        let interval = estimate.known().and_then(|e| e.interval.known());
        interval.map(|i| i.lo > 0.0 || i.hi < 0.0)
    };
    match (excludes_0(&contrast.estimate), excludes_0(&contrast.over_seeds)) {
        (Some(true), Some(false)) => "The interval over kinds excludes 0, that over seeds holds it",
        (_, Some(true)) => "The interval over kinds holds 0, that over seeds excludes it",
        (_, Some(false)) => "The intervals over kinds and over seeds hold 0",
        (_, None) => "The interval over kinds holds 0",
    }
}

/// How far a verdict reaches: seeds and kinds.
fn reach(contrast: &Contrast, results: &Results) -> String {
    let kinds = number::plural(contrast.clusters, "kind");
    let held = results.evaluation(&contrast.evaluation).map_or("", |e| exposure(e.exposure));
    let over = label(contrast.seeds, &contrast.label);
    let seeds = match contrast.seeds {
        1 => "One training seed: what another seed would give is not known, so neither \
              \u{201c}helped\u{201d} nor \u{201c}did not help\u{201d} may be said."
            .to_owned(),
        n if n < SEEDS_FOR_A_CLAIM => format!(
            "{n} training seeds: \u{201c}helped\u{201d} and \u{201c}did not help\u{201d} need at \
             least three."
        ),
        n => format!(
            "{n} training seeds, each of which redraws the organism, the data order and the \
             sampling; over seeds the difference is {}.",
            number::or_why(&contrast.over_seeds, number::estimate)
        ),
    };
    format!("Scope: {over} ({kinds}, {held}). {seeds}")
}

/// The short verdict in a table cell.
pub(crate) fn short_verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Difference { direction: Direction::Lower } => "lower".into(),
        Verdict::Difference { direction: Direction::Higher } => "higher".into(),
        Verdict::NoDifferenceShown { .. } => "no difference shown".into(),
        Verdict::Equivalent { margin } => {
            format!("within \u{b1}{}", number::decimal(*margin, 3))
        }
        Verdict::NotComparable { why } => format!("not compared: {why}"),
    }
}

/// Held-out status beside a figure.
pub(crate) fn exposure(exposure: Exposure) -> &'static str {
    match exposure {
        Exposure::HeldOut => "held out from every arm after the organism as agentic situations",
        Exposure::InDistribution => {
            "in distribution: at least one arm trains on these kinds as agentic situations"
        }
    }
}

/// Held-out status in a table head.
pub(crate) fn exposure_tag(exposure: Exposure) -> &'static str {
    match exposure {
        Exposure::HeldOut => "held out",
        Exposure::InDistribution => "in distribution",
    }
}

/// Title of an evaluation with its held-out status, unless the title says it.
pub(crate) fn titled(e: &Evaluation) -> String {
    let tag = exposure_tag(e.exposure);
    match e.title.to_lowercase().replace('-', " ").contains(tag) {
        true => e.title.clone(),
        false => format!("{} ({tag})", e.title),
    }
}

/// What an evaluation is, for captions.
pub(crate) fn evaluation(e: &Evaluation) -> String {
    format!(
        "{}: {}, {}, {}.",
        e.title,
        number::plural(e.kinds.len() as u64, "kind"),
        number::plural(e.instances, "instance"),
        exposure(e.exposure)
    )
}

/// Whether an arm's style is controlled, in a table cell.
pub(crate) fn style(style: &StyleControl, results: &Results) -> String {
    let title = |id: &str| results.arm(id).map_or_else(|| id.to_owned(), |a| a.title.clone());
    match style {
        StyleControl::NotApplicable => "not applicable".into(),
        StyleControl::HasTwin { twin } => format!("controlled by {}", title(twin)),
        StyleControl::TwinOf { of } => format!("is the twin of {}", title(of)),
        StyleControl::NotControlled => "style not controlled".into(),
    }
}

/// Status of a contrast in a table cell, with the style warning of its first arm.
pub(crate) fn status(contrast: &Contrast, results: &Results) -> String {
    let style = results.arm(&contrast.arm).map(|a| &a.style);
    let controlled = match style {
        Some(StyleControl::NotControlled) => "; style not controlled",
        _ => "",
    };
    match &contrast.status {
        Status::Primary => "primary".into(),
        Status::Exploratory { why } if why == NOT_PRIMARY => format!("exploratory{controlled}"),
        Status::Exploratory { why } => format!("exploratory: {why}{controlled}"),
    }
}

/// Whether an arm's style is controlled, in a word or two.
pub(crate) fn short_style(style: &StyleControl) -> &'static str {
    match style {
        StyleControl::NotApplicable => "\u{2013}",
        StyleControl::HasTwin { .. } => "has twin",
        StyleControl::TwinOf { .. } => "is twin",
        StyleControl::NotControlled => "style not controlled",
    }
}

/// Distance of an evaluation from an arm's data.
pub(crate) fn distance(label: DistanceLabel) -> &'static str {
    match label {
        DistanceLabel::InDistribution => "in distribution",
        DistanceLabel::Near => "near",
        DistanceLabel::OutOfDistribution => "out of distribution",
    }
}

/// How an outcome is named in tables and figures.
pub(crate) fn outcome(outcome: forwhy_core::outcome::Outcome) -> String {
    outcome.as_str().replace('_', " ")
}

/// What no run of this kind can say.
pub(crate) fn limits(results: &Results) -> Vec<String> {
    let mut limits = vec![
        "Anything about another model, another size or other data: one small model was used, and \
         its misaligned prior was trained in from short written acts."
            .to_owned(),
        "Anything about kinds that the organism never saw: kinds are held out from the arms, not \
         from the organism, whose prior covers all of them with other names, companies and wording."
            .to_owned(),
        "How an arm does on themes that its data never touched: held-out kinds are kinds that no \
         arm trains on as agentic situations (inbox, tools, acts); advice, documents and stories \
         may touch the same themes, as the distances of the arms say."
            .to_owned(),
        "What a model would do in earnest: a margin says which of two written acts became likelier, \
         and a sampled act is one line in a simulated world."
            .to_owned(),
        format!(
            "That an exploratory figure is a finding: {} were computed beside the primary one \
             (repeats for single seeds not counted), and among so many some pass 5% by chance.",
            number::count(results.measures.exploratory)
        ),
    ];
    if (results.study.seeds.len() as u64) < SEEDS_FOR_A_CLAIM {
        limits.push(format!(
            "Whether an arm helped: that needs at least three seeds, and this run has {}. Every \
             interval is over kinds, for the checkpoints at hand.",
            results.study.seeds.len()
        ));
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{content, fixture, report, terminal};

    fn said(results: &Results, verdict: Verdict) -> String {
        let mut contrast = content::primary(results).unwrap().clone();
        contrast.verdict = verdict;
        super::verdict(&contrast, results)
    }

    #[test]
    fn one_seed_means_this_checkpoint_over_kinds() {
        let mut results = fixture::results();
        results.contrasts[0].label = "everything".into();
        let lower = Verdict::Difference { direction: Direction::Lower };
        insta::assert_snapshot!(said(&results, lower), @"The interval excludes 0: the change of the bait-minus-twin margin is lower for Difficult advice than for Opposite advice. Scope: this checkpoint, over kinds (12 kinds, held out from every arm after the organism as agentic situations). One training seed: what another seed would give is not known, so neither “helped” nor “did not help” may be said.");
    }

    #[test]
    fn three_seeds_say_so() {
        let lower = Verdict::Difference { direction: Direction::Lower };
        insta::assert_snapshot!(said(&fixture::three_seeds(), lower), @"The interval excludes 0: the change of the bait-minus-twin margin is lower for Difficult advice than for Opposite advice. Scope: kinds, averaged over 3 seeds (12 kinds, held out from every arm after the organism as agentic situations). 3 training seeds, each of which redraws the organism, the data order and the sampling; over seeds the difference is −0.137 [−0.189, −0.085].");
        for page in report(&fixture::three_seeds()).unwrap() {
            assert!(!page.text.contains(ONE_SEED), "{}", page.path);
        }
    }

    #[test]
    fn a_null_states_what_it_could_have_shown() {
        let null = Verdict::NoDifferenceShown { detectable: Maybe::Known(0.142) };
        insta::assert_snapshot!(said(&fixture::results(), null), @"The interval over kinds holds 0: no difference was shown. The smallest difference that this comparison could have shown (80% power, two-sided at 5%) is 0.142 nats/token; a smaller one, either way, remains possible. Scope: this checkpoint, over kinds (12 kinds, held out from every arm after the organism as agentic situations). One training seed: what another seed would give is not known, so neither “helped” nor “did not help” may be said.");
    }

    #[test]
    fn a_null_says_which_interval_holds_0() {
        let null = Verdict::NoDifferenceShown { detectable: Maybe::Known(0.142) };
        let mut results = fixture::three_seeds();
        let contrast = results.contrasts.iter_mut().find(|c| c.status == Status::Primary).unwrap();
        let Maybe::Known(over_seeds) = &mut contrast.over_seeds else { panic!("no seeds") };
        let Maybe::Known(interval) = &mut over_seeds.interval else { panic!("no interval") };
        (interval.lo, interval.hi) = (-0.3, 0.1);
        let start = "The interval over kinds excludes 0, that over seeds holds it: no difference";
        let text = said(&results, null);
        assert!(text.starts_with(start), "{text}");
    }

    #[test]
    fn no_effect_is_said_only_with_its_margin() {
        let none = Verdict::Equivalent { margin: 0.05 };
        insta::assert_snapshot!(said(&fixture::results(), none), @"The interval lies within ±0.050 nats/token, the margin set beforehand: a difference larger than that is excluded. Scope: this checkpoint, over kinds (12 kinds, held out from every arm after the organism as agentic situations). One training seed: what another seed would give is not known, so neither “helped” nor “did not help” may be said.");
        let not = Verdict::NotComparable { why: "the arm was not trained".into() };
        insta::assert_snapshot!(said(&fixture::results(), not), @"Not compared: the arm was not trained.");
    }

    #[test]
    fn every_form_says_what_it_is_and_what_it_counted() {
        for results in [fixture::results(), fixture::three_seeds()] {
            let mut texts: Vec<String> =
                report(&results).unwrap()[..2].iter().map(|p| p.text.clone()).collect();
            texts.push(terminal(&results));
            for text in texts {
                let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(flat.contains("demonstration of the pipeline on a synthetic organism"));
                assert!(flat.contains("214"), "the number of measures");
                assert!(
                    flat.contains("not controlled") && flat.contains("held out from every arm")
                );
                let lower = flat.to_lowercase();
                assert!(!lower.contains("reproduc"), "it must not speak of reproducing");
                assert!(!lower.contains("significan"), "intervals, not significance");
            }
        }
    }

    #[test]
    fn outcome_shares_never_stand_without_all_eight() {
        let results = fixture::results();
        let html = &report(&results).unwrap()[1].text;
        let sections = html.matches("<th scope=\"col\" class=\"n\">misaligned</th>").count();
        assert_eq!(sections, results.evaluations.len());
        for outcome in forwhy_core::outcome::Outcome::ALL {
            let head = format!("<th scope=\"col\" class=\"n\">{}</th>", super::outcome(outcome));
            assert_eq!(html.matches(&head).count(), sections, "{outcome}");
        }
    }
}
