//! Dot plot: change of the margin from the organism, one row a kind, one mark an arm. The two arms
//! of the primary contrast are filled and joined.

use forwhy_core::results::{Arm, Evaluation, Kind, Results, Summary};

use super::{Anchor, Axis, SERIES, Svg, WIDTH, cut, marker};
use crate::content::{is_primary_arm, on, primary, summaries};
use crate::{number, words};

const ROW: f64 = 27.0;
const LABELS: f64 = 210.0;

/// One arm's marks: a change for each kind, where there is one.
struct Series<'a> {
    arm: &'a Arm,
    main: bool,
    changes: Vec<Option<f64>>,
}

/// The plot, or nothing if no arm has changes on this evaluation.
pub(crate) fn draw(results: &Results, evaluation: &Evaluation) -> Option<String> {
    let series = series(results, evaluation);
    let mut values: Vec<f64> =
        series.iter().flat_map(|s| s.changes.iter().flatten()).copied().collect();
    if values.is_empty() {
        return None;
    }
    values.push(0.0);
    let axis = Axis::over(&values, (LABELS, WIDTH - 20.0))?;
    let top = legend_height(&series);
    let bottom = top + evaluation.kinds.len() as f64 * ROW + 6.0;
    let mut svg = Svg::new(bottom + 46.0);
    legend(&mut svg, &series);
    for tick in axis.ticks() {
        let x = axis.at(tick);
        svg.line("grid", (x, top), (x, bottom + 4.0));
        svg.text(
            "muted",
            (x, bottom + 20.0),
            Anchor::Middle,
            &number::decimal(tick, axis.decimals()),
        );
    }
    svg.line("zero", (axis.at(0.0), top), (axis.at(0.0), bottom + 4.0));
    for (i, kind) in evaluation.kinds.iter().enumerate() {
        row(&mut svg, &axis, top + (i as f64 + 0.5) * ROW + 3.0, (i, kind), &series);
    }
    let under = "\u{2190} less inclined to the misaligned act \u{b7} nats/token \u{b7} more inclined \u{2192}";
    svg.text("muted", ((LABELS + WIDTH - 20.0) / 2.0, bottom + 40.0), Anchor::Middle, under);
    let name = format!("Change from the organism by kind, {}", evaluation.title);
    let description = format!(
        "{} by {}, {}. The same figures stand in the table below.",
        number::plural(evaluation.kinds.len() as u64, "kind"),
        number::plural(series.len() as u64, "arm"),
        words::exposure(evaluation.exposure)
    );
    Some(svg.finish(&format!("kinds-{}", evaluation.id), &name, &description))
}

/// Arms with changes, at the primary contrast's budget, the primary's two last (drawn on top).
fn series<'a>(results: &'a Results, evaluation: &Evaluation) -> Vec<Series<'a>> {
    let budget = primary(results).and_then(|c| c.budget);
    let shown = |summary: &Summary| summary.budget.is_none() || summary.budget == budget;
    let mut all: Vec<Series<'a>> = summaries(results)
        .filter(|(_, summary)| shown(summary))
        .filter_map(|(arm, summary)| {
            let margins = on(&summary.measures, &evaluation.id)?.margins.known()?;
            let change = |kind: &Kind| {
                let found = margins.by_kind.iter().find(|k| k.kind == kind.id)?;
                found.change.known().copied()
            };
            let changes: Vec<Option<f64>> = evaluation.kinds.iter().map(change).collect();
            let any = changes.iter().any(Option::is_some);
            any.then(|| Series { arm, main: is_primary_arm(results, &arm.id), changes })
        })
        .collect();
    let rank = |s: &Series<'_>| match primary(results) {
        Some(c) if c.arm == s.arm.id => 0,
        Some(c) if c.against == s.arm.id => 1,
        _ => 2,
    };
    all.sort_by_key(rank);
    all
}

const PER_LINE: usize = 4;

fn legend_height(series: &[Series<'_>]) -> f64 {
    14.0 + series.len().div_ceil(PER_LINE) as f64 * 22.0
}

fn legend(svg: &mut Svg, series: &[Series<'_>]) {
    let width = WIDTH / PER_LINE as f64;
    for (i, s) in series.iter().enumerate() {
        let (x, y) = ((i % PER_LINE) as f64 * width + 8.0, (i / PER_LINE) as f64 * 22.0 + 12.0);
        svg.path(&class(i, s), &marker(i, (x, y), 5.0), "");
        let words = if s.main { "strong" } else { "" };
        svg.text(words, (x + 13.0, y + 4.5), Anchor::Start, &cut(&s.arm.title, 32));
    }
}

fn class(index: usize, series: &Series<'_>) -> String {
    format!("dot {}s{}", if series.main { "full " } else { "" }, index % SERIES)
}

fn row(svg: &mut Svg, axis: &Axis, y: f64, (i, kind): (usize, &Kind), series: &[Series<'_>]) {
    svg.text("", (LABELS - 14.0, y + 4.5), Anchor::End, &cut(&kind.title, 30));
    svg.line("row", (LABELS, y), (WIDTH - 20.0, y));
    let main: Vec<f64> = series.iter().filter(|s| s.main).filter_map(|s| s.changes[i]).collect();
    if let [a, b] = main[..] {
        svg.line("join", (axis.at(a), y), (axis.at(b), y));
    }
    for (index, s) in series.iter().enumerate().rev() {
        if let Some(change) = s.changes[i] {
            let tip = format!("{}, {}: {}", s.arm.title, kind.title, number::signed(change, 3));
            let r = if s.main { 5.5 } else { 4.5 };
            svg.path(&class(index, s), &marker(index, (axis.at(change), y), r), &tip);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture;

    #[test]
    fn the_organism_has_no_change_and_no_marks() {
        let results = fixture::results();
        let svg = super::draw(&results, &results.evaluations[0]).unwrap();
        assert!(!svg.contains("Organism"));
        assert!(svg.contains("Difficult advice, Blackmail"));
    }
}
