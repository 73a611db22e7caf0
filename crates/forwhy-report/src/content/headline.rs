//! The primary contrast first, with everything that limits it.

use forwhy_core::results::{Contrast, Level, Maybe, Note, Results};

use super::{contrasts, primary, title_of};
use crate::document::{Block, Cell, Row, Section, Table};
use crate::{number, words};

/// What was found, and the warnings.
pub(crate) fn section(results: &Results) -> Section {
    let mut blocks = Vec::new();
    if let Some(contrast) = primary(results) {
        blocks.push(lead(contrast, results));
        blocks.push(Block::Para(words::verdict(contrast, results)));
        blocks.push(Block::Table(facts(contrast, results)));
    }
    let warnings = results.notes.iter().filter(|n| n.level == Level::Warning);
    blocks.extend(warnings.map(|n| Block::Warning(note(n, results))));
    Section { id: "found", title: "What was found", blocks }
}

/// A note, with the arm that it is about.
pub(crate) fn note(note: &Note, results: &Results) -> String {
    match &note.arm {
        Some(arm) => format!("{}: {}", title_of(results, arm), note.text),
        None => note.text.clone(),
    }
}

fn lead(contrast: &Contrast, results: &Results) -> Block {
    let figure = match &contrast.estimate {
        Maybe::Known(e) => format!("{} {}", number::estimate(e), contrast.unit),
        Maybe::Missing(m) => format!("no figure: {}", m.missing),
    };
    Block::Lead { what: contrasts::title(contrast, results), figure }
}

fn facts(contrast: &Contrast, results: &Results) -> Table {
    let mut rows = Vec::new();
    let mut fact = |name: &str, value: Cell| rows.push(Row::new(vec![Cell::text(name), value]));
    fact("Measure, fixed beforehand", Cell::text(&results.study.primary_measure));
    fact("Contrast, fixed beforehand", Cell::text(&results.study.primary_contrast));
    if let Some(e) = results.evaluation(&contrast.evaluation) {
        fact("Measured on", Cell::text(words::evaluation(e)));
    }
    if let Maybe::Known(e) = &contrast.estimate {
        let how = number::or_why(&e.interval, |i| i.method.clone());
        let over = words::label(contrast.seeds, &contrast.label);
        let confidence = number::percent(results.study.confidence);
        fact("Interval", Cell::text(format!("{confidence}, {how}: {over}")));
    }
    let unit = &contrast.unit;
    fact("Interval over seeds", as_text(&contrast.over_seeds, number::estimate));
    fact(
        "Spread between seeds",
        as_text(&contrast.between_seed_sd, |sd| {
            format!("standard deviation {} {unit}", number::decimal(*sd, 3))
        }),
    );
    fact(
        "Test of no difference",
        as_text(&contrast.test, |t| format!("p {} ({})", number::p_value(t.p), t.method)),
    );
    fact(
        "Smallest difference it could show",
        as_text(&contrast.detectable, |d| {
            format!("{} {unit} (80% power, two-sided at 5%)", number::decimal(*d, 3))
        }),
    );
    fact(
        "Margin within which it counts as none",
        as_text(&results.study.equivalence_margin, |m| {
            format!("\u{b1}{} {unit}", number::decimal(*m, 3))
        }),
    );
    fact(
        "Measures computed",
        Cell::text(format!(
            "{} primary, {} exploratory",
            number::count(results.measures.primary),
            number::count(results.measures.exploratory)
        )),
    );
    Table {
        caption: "The primary contrast.".into(),
        head: vec!["Fact".into(), "Value".into()],
        rows,
    }
}

fn as_text<T>(value: &Maybe<T>, format: impl FnOnce(&T) -> String) -> Cell {
    match value {
        Maybe::Known(value) => Cell::Text(format(value)),
        Maybe::Missing(m) => Cell::Missing(m.missing.clone()),
    }
}
