//! Forest plot: one row a contrast, with its interval over kinds and, where there is one, over
//! seeds.

use forwhy_core::results::{Contrast, Estimate, Evaluation, Maybe, Results, Status, StyleControl};

use super::{Anchor, Axis, Svg, WIDTH, marker};
use crate::content::within;
use crate::{number, words};

const ROW: f64 = 32.0;
const GROUP: f64 = 34.0;
const LABELS: f64 = 350.0;
const VALUES: f64 = 185.0;

/// The plot, or nothing if no contrast in the primary's unit has an estimate.
pub(crate) fn draw(results: &Results) -> Option<String> {
    let groups = groups(results);
    let rows = || groups.iter().flat_map(|(_, contrasts)| contrasts.iter().copied());
    let unit = &rows().next()?.unit;
    let margin = results.study.equivalence_margin.known().copied();
    let mut values = vec![0.0];
    values.extend(margin.iter().flat_map(|m| [-m, *m]));
    for c in rows() {
        values.extend(
            [&c.estimate, &c.over_seeds].into_iter().filter_map(Maybe::known).flat_map(ends),
        );
    }
    let axis = Axis::over(&values, (LABELS, WIDTH - VALUES - 20.0))?;
    let bottom = 10.0 + groups.len() as f64 * GROUP + rows().count() as f64 * ROW;
    let mut svg = Svg::new(bottom + 48.0);
    frame(&mut svg, &axis, bottom, margin);
    let mut y = 10.0;
    for (evaluation, contrasts) in &groups {
        let head = words::titled(evaluation);
        svg.text("group", (0.0, y + 22.0), Anchor::Start, &head);
        y += GROUP;
        for contrast in contrasts {
            row(&mut svg, &axis, y + ROW / 2.0, contrast, results);
            y += ROW;
        }
    }
    let under = format!("difference, {unit} (first arm minus second)");
    svg.text("muted", ((LABELS + WIDTH - VALUES) / 2.0, bottom + 40.0), Anchor::Middle, &under);
    let description = format!(
        "{} with intervals; the same figures stand in the table below.",
        number::plural(rows().count() as u64, "comparison")
    );
    Some(svg.finish("contrasts", "Forest plot of the comparisons", &description))
}

/// Contrasts in the primary's unit that have an estimate, by evaluation.
fn groups(results: &Results) -> Vec<(&Evaluation, Vec<&Contrast>)> {
    let unit = crate::content::primary(results).map(|c| c.unit.as_str());
    let shown = |c: &&Contrast| c.estimate.known().is_some() && Some(c.unit.as_str()) == unit;
    results
        .evaluations
        .iter()
        .map(|e| {
            (e, results.contrasts.iter().filter(|c| c.evaluation == e.id).filter(shown).collect())
        })
        .filter(|(_, contrasts): &(_, Vec<_>)| !contrasts.is_empty())
        .collect()
}

fn ends(estimate: &Estimate) -> Vec<f64> {
    let mut values = vec![estimate.value];
    values.extend(estimate.interval.known().iter().flat_map(|i| [i.lo, i.hi]));
    values
}

fn frame(svg: &mut Svg, axis: &Axis, bottom: f64, margin: Option<f64>) {
    if let Some(margin) = margin {
        let (left, right) = (axis.at(-margin), axis.at(margin));
        let tip = format!("margin set beforehand: \u{b1}{}", number::decimal(margin, 3));
        svg.rect("band", (left, 10.0), (right - left, bottom - 4.0), &tip);
    }
    for tick in axis.ticks() {
        let x = axis.at(tick);
        svg.line("grid", (x, 10.0), (x, bottom + 6.0));
        let text = number::decimal(tick, axis.decimals());
        svg.text("muted", (x, bottom + 22.0), Anchor::Middle, &text);
    }
    svg.line("zero", (axis.at(0.0), 10.0), (axis.at(0.0), bottom + 6.0));
}

fn row(svg: &mut Svg, axis: &Axis, y: f64, contrast: &Contrast, results: &Results) {
    let Maybe::Known(estimate) = &contrast.estimate else { return };
    let main = contrast.status == Status::Primary;
    let uncontrolled =
        results.arm(&contrast.arm).is_some_and(|arm| arm.style == StyleControl::NotControlled);
    let dagger = if uncontrolled { " \u{2020}" } else { "" };
    let label = format!("{}{dagger}", within(results, &contrast.title, contrast.budget, 48));
    let words = if main { "strong" } else { "" };
    svg.text(words, (0.0, y + 4.5), Anchor::Start, &label);
    let class = if main { "ci main" } else { "ci" };
    if let Maybe::Known(i) = &estimate.interval {
        svg.line(class, (axis.at(i.lo), y), (axis.at(i.hi), y));
    }
    if let Some(Maybe::Known(i)) = contrast.over_seeds.known().map(|e| &e.interval) {
        svg.line("seeds", (axis.at(i.lo), y + 9.0), (axis.at(i.hi), y + 9.0));
    }
    let shape = marker(usize::from(main), (axis.at(estimate.value), y), 5.5);
    let tip = format!("{}: {} {}", contrast.title, number::estimate(estimate), contrast.unit);
    svg.path(if main { "point main" } else { "point" }, &shape, &tip);
    svg.text(words, (WIDTH, y + 4.5), Anchor::End, &number::estimate(estimate));
}
