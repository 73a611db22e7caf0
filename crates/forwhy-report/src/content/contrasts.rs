//! Every comparison of two arms, and the values and style halves.

use forwhy_core::results::{Contrast, Halves, Results, Status};

use super::title_of;
use crate::document::{Block, Cell, Figure, Row, Section, Table};
use crate::{figure, number, words};

/// Forest plot, table of contrasts, halves.
pub(crate) fn section(results: &Results) -> Section {
    let mut blocks = Vec::new();
    if let Some(svg) = figure::forest::draw(results) {
        blocks.push(Block::Figure(Figure {
            id: "contrasts".into(),
            title: "Differences between arms".into(),
            caption: "Thick line: interval over kinds. Dashed line below \
                it: interval over seeds, where there are at least three. Diamond: the primary \
                contrast; circles are exploratory. Shaded: the margin set beforehand. A dagger \
                marks arms whose style is not controlled."
                .into(),
            svg,
        }));
    }
    blocks.push(Block::Table(table(results)));
    if results.halves.is_empty() {
        blocks.push(Block::Para(
            "No arm of this study has an opposite-values twin, so no effect can be split into \
             values and style."
                .into(),
        ));
    } else {
        blocks.push(Block::Table(halves(results)));
    }
    Section { id: "contrasts", title: "Comparisons", blocks }
}

fn table(results: &Results) -> Table {
    let head = [
        "Comparison",
        "Measured on",
        "Status",
        "Difference",
        "Over seeds",
        "Kinds, seeds",
        "p",
        "p (Holm)",
        "Could show",
        "Says",
    ];
    let what = match common(results.contrasts.iter().map(|c| (&c.measure, &c.unit))) {
        Some((measure, unit)) => format!(" of the {measure}, {unit}"),
        None => String::new(),
    };
    Table {
        caption: format!(
            "All comparisons{what}: first arm minus second. Intervals are over kinds, with one \
             value a kind; p is over kinds only, p (Holm) is corrected for the family of \
             exploratory comparisons. \
             \u{201c}Could show\u{201d} is the smallest difference that 80% power could have shown."
        ),
        head: head.map(String::from).to_vec(),
        rows: results.contrasts.iter().map(|c| row(c, results)).collect(),
    }
}

/// The one value of all items, if there is only one.
pub(crate) fn common<T: PartialEq>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.all(|item| item == first).then_some(first)
}

fn row(contrast: &Contrast, results: &Results) -> Row {
    let adjusted = match contrast.test.known() {
        Some(test) => number::cell(&test.adjusted, |p| number::p_value(*p)),
        None => number::cell(&contrast.test, |_| String::new()),
    };
    let cells = vec![
        Cell::text(title(contrast, results)),
        Cell::text(measured_on(contrast, results)),
        Cell::text(words::status(contrast, results)),
        number::cell(&contrast.estimate, number::stacked),
        number::cell(&contrast.over_seeds, number::stacked),
        Cell::number(format!("{}, {}", contrast.clusters, contrast.seeds)),
        number::cell(&contrast.test, |t| number::p_value(t.p)),
        adjusted,
        number::cell(&contrast.detectable, |d| number::decimal(*d, 3)),
        Cell::text(words::short_verdict(&contrast.verdict)),
    ];
    Row { strong: contrast.status == Status::Primary, cells }
}

/// Title of a contrast, with the budget where the study has several.
pub(crate) fn title(contrast: &Contrast, results: &Results) -> String {
    match contrast.budget {
        Some(budget) if results.study.budgets.len() > 1 => {
            format!("{}, {} tokens", contrast.title, number::budget(budget))
        }
        _ => contrast.title.clone(),
    }
}

fn measured_on(contrast: &Contrast, results: &Results) -> String {
    let on = results.evaluation(&contrast.evaluation).map(words::titled);
    let on = on.unwrap_or_else(|| contrast.evaluation.clone());
    match common(results.contrasts.iter().map(|c| (&c.measure, &c.unit))) {
        Some(_) => on,
        None => format!("{on}: {}, {}", contrast.measure, contrast.unit),
    }
}

fn halves(results: &Results) -> Table {
    Table {
        caption: "Values and style. Values = (arm \u{2212} twin) / 2; style = (arm + twin) / 2 \
            \u{2212} generic. The twin has the same prompts, style and length and recommends the \
            opposite, so what both do alike is not an effect of values."
            .into(),
        head: [
            "Arm",
            "Twin",
            "Measured on",
            "Values",
            "Style",
            "Arm \u{2212} generic",
            "Twin \u{2212} generic",
            "Intervals are over",
        ]
        .map(String::from)
        .to_vec(),
        rows: results.halves.iter().map(|h| half(h, results)).collect(),
    }
}

fn half(h: &Halves, results: &Results) -> Row {
    let budget = match h.budget {
        Some(budget) if results.study.budgets.len() > 1 => {
            format!(", {} tokens", number::budget(budget))
        }
        _ => String::new(),
    };
    let on = results.evaluation(&h.evaluation).map(words::titled);
    let on = on.unwrap_or_else(|| h.evaluation.clone());
    let seeds = results.study.seeds.len() as u64;
    Row::new(vec![
        Cell::text(format!("{}{budget}", title_of(results, &h.arm))),
        Cell::text(title_of(results, &h.twin)),
        Cell::text(format!("{on}, {}", h.unit)),
        number::cell(&h.values, number::stacked),
        number::cell(&h.style, number::stacked),
        number::cell(&h.arm_against_generic, number::stacked),
        number::cell(&h.twin_against_generic, number::stacked),
        Cell::text(words::label(seeds, &h.label)),
    ])
}
