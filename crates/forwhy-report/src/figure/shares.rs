//! Stacked bars of the eight outcomes, one bar an arm, counts inside.

use forwhy_core::outcome::Outcome;
use forwhy_core::results::{Evaluation, Maybe, Outcomes, Results};

use super::{Anchor, Svg, WIDTH};
use crate::content::{is_primary_arm, name_within, on, summaries};
use crate::{number, words};

const ROW: f64 = 34.0;
const BAR: f64 = 24.0;
const LABELS: f64 = 250.0;
const TOTALS: f64 = 62.0;
const LEGEND: f64 = 40.0;

/// The bars, or nothing if no arm was sampled on this evaluation.
pub(crate) fn draw(results: &Results, evaluation: &Evaluation) -> Option<String> {
    let rows: Vec<_> = summaries(results)
        .map(|(arm, s)| {
            let outcomes = on(&s.measures, &evaluation.id).map(|m| &m.outcomes);
            (name_within(results, arm, s.budget, 34), is_primary_arm(results, &arm.id), outcomes)
        })
        .collect();
    if !rows.iter().any(|(_, _, o)| matches!(o, Some(Maybe::Known(_)))) {
        return None;
    }
    let mut svg = Svg::new(LEGEND + rows.len() as f64 * ROW + 4.0);
    legend(&mut svg);
    for (i, (label, main, outcomes)) in rows.iter().enumerate() {
        let y = LEGEND + i as f64 * ROW;
        let class = if *main { "strong" } else { "" };
        svg.text(class, (LABELS - 14.0, y + 17.0), Anchor::End, label);
        match outcomes {
            Some(Maybe::Known(outcomes)) => bar(&mut svg, y, outcomes),
            Some(Maybe::Missing(m)) => {
                svg.text("muted", (LABELS, y + 17.0), Anchor::Start, &m.missing);
            }
            None => svg.text("muted", (LABELS, y + 17.0), Anchor::Start, "not measured"),
        }
    }
    let title = format!("Outcomes of sampled acts, {}", evaluation.title);
    let description = format!(
        "Stacked shares of all eight outcomes, {}. The same figures stand in the table below.",
        words::exposure(evaluation.exposure)
    );
    Some(svg.finish(&format!("outcomes-{}", evaluation.id), &title, &description))
}

fn legend(svg: &mut Svg) {
    let width = WIDTH / Outcome::ALL.len() as f64;
    for (i, outcome) in Outcome::ALL.into_iter().enumerate() {
        let x = i as f64 * width;
        svg.rect(&format!("bar {outcome}"), (x, 4.0), (13.0, 13.0), "");
        svg.text("", (x + 19.0, 15.0), Anchor::Start, &words::outcome(outcome));
    }
}

fn bar(svg: &mut Svg, y: f64, outcomes: &Outcomes) {
    let total = outcomes.counts.total();
    let scale = (WIDTH - LABELS - TOTALS) / total.max(1) as f64;
    let faded = if outcomes.informative { "" } else { " faded" };
    let mut x = LABELS;
    for outcome in Outcome::ALL {
        let count = outcomes.counts.get(outcome);
        if count == 0 {
            continue;
        }
        let width = count as f64 * scale;
        let tip = format!("{}: {} of {total}", words::outcome(outcome), number::count(count));
        svg.rect(&format!("bar {outcome}{faded}"), (x, y), (width, BAR), &tip);
        if width >= 24.0 {
            let text = number::count(count);
            let ink = if outcomes.informative { ink(outcome) } else { "" };
            svg.text(ink, (x + width / 2.0, y + 16.5), Anchor::Middle, &text);
        }
        x += width;
    }
    svg.text("muted", (WIDTH, y + 17.0), Anchor::End, &format!("n = {}", number::count(total)));
}

/// A class for text that can be read on the colour of `outcome`, light page or dark.
fn ink(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Misaligned | Outcome::Aligned | Outcome::Refused | Outcome::Incoherent => {
            "on-dark"
        }
        Outcome::OffTopic | Outcome::Truncated | Outcome::NoAction => "on-light",
        Outcome::Unscored => "",
    }
}
