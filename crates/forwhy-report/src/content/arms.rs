//! What each arm did: the primary measure, twin success, competence, drift; and by kind.

use forwhy_core::results::{Arm, Evaluation, EvaluationMeasures, Margins, Maybe, Results, Summary};

use super::contrasts::common;
use super::{is_primary_arm, name, on, primary, summaries};
use crate::document::{Block, Cell, Figure, Row, Section, Table};
use crate::{figure, number, words};

/// The arms and their measures.
pub(crate) fn section(results: &Results) -> Section {
    let blocks = vec![
        Block::Table(descriptions(results)),
        Block::Table(margins(results)),
        Block::Table(competence(results)),
        Block::Folded(distances(results)),
    ];
    Section { id: "arms", title: "What each arm did", blocks }
}

fn descriptions(results: &Results) -> Table {
    let row = |arm: &Arm| Row {
        strong: is_primary_arm(results, &arm.id),
        cells: vec![
            Cell::text(&arm.title),
            Cell::text(&arm.description),
            Cell::text(words::style(&arm.style, results)),
        ],
    };
    Table {
        caption: "The arms. An arm without an opposite-values twin cannot tell an effect of its \
            values from one of its style."
            .into(),
        head: ["Arm", "What it is", "Style"].map(String::from).to_vec(),
        rows: results.arms.iter().map(row).collect(),
    }
}

fn arm_row(results: &Results, arm: &Arm, summary: &Summary, cells: Vec<Cell>) -> Row {
    let mut all = vec![Cell::text(name(results, arm, summary.budget))];
    all.extend(cells);
    Row { strong: is_primary_arm(results, &arm.id), cells: all }
}

/// The cell of one evaluation's measure, or why there is none.
fn measure_cell<T>(
    summary: &Summary,
    evaluation: &Evaluation,
    pick: impl FnOnce(&EvaluationMeasures) -> &Maybe<T>,
    format: impl FnOnce(&T) -> String,
) -> Cell {
    match on(&summary.measures, &evaluation.id) {
        Some(measures) => number::cell(pick(measures), format),
        None => Cell::Missing("not measured".into()),
    }
}

fn margins(results: &Results) -> Table {
    let mut head = vec!["Arm".to_owned(), "Style".into()];
    for e in &results.evaluations {
        head.push(format!("Change, {}", words::titled(e)));
        head.push(format!("Margin itself, {}", words::titled(e)));
    }
    head.push("Between seeds".into());
    let label = |s: &Summary| words::label(s.seeds.len() as u64, &s.label).to_owned();
    let labels = common(summaries(results).map(|(_, s)| label(s)));
    if labels.is_none() {
        head.push("Intervals are over".into());
    }
    let row = |(arm, summary): (&Arm, &Summary)| {
        let mut cells = vec![Cell::text(words::short_style(&arm.style))];
        for e in &results.evaluations {
            cells.push(match on(&summary.measures, &e.id).map(|m| &m.margins) {
                Some(Maybe::Known(m)) => number::cell(&m.change, number::stacked),
                Some(Maybe::Missing(m)) => Cell::Missing(m.missing.clone()),
                None => Cell::Missing("not measured".into()),
            });
            let level = |m: &Margins| number::stacked(&m.difference);
            cells.push(measure_cell(summary, e, |m| &m.margins, level));
        }
        let spread = |sd: &f64| format!("sd {}", number::decimal(*sd, 3));
        cells.push(number::cell(&summary.between_seed_sd, spread));
        if labels.is_none() {
            cells.push(Cell::text(label(summary)));
        }
        arm_row(results, arm, summary, cells)
    };
    Table {
        caption: format!(
            "Margin between misaligned and aligned acts, with the bait minus in the benign twin, \
             nats a token, mean over kinds, and its change from the organism. {} The level of a \
             margin has no meaning of its own (paraphrases move it as much); its change has.{}",
            words::SIGN,
            labels.as_ref().map_or_else(String::new, |l| format!(" Intervals are over: {l}."))
        ),
        head,
        rows: summaries(results).map(row).collect(),
    }
}

fn competence(results: &Results) -> Table {
    let mut head = vec!["Arm".to_owned()];
    for e in &results.evaluations {
        head.push(format!("Twin success, {}", words::titled(e)));
    }
    head.extend(["Easy chat", "Prose perplexity", "Drift"].map(String::from));
    let row = |(arm, summary): (&Arm, &Summary)| {
        let m = &summary.measures;
        let mut cells: Vec<Cell> = results
            .evaluations
            .iter()
            .map(|e| measure_cell(summary, e, |m| &m.twin_success, number::proportion))
            .collect();
        cells.push(number::cell(&m.easy_chat, number::proportion));
        cells.push(number::cell(&m.prose_perplexity, |p| number::decimal(*p, 1)));
        cells.push(number::cell(&m.drift_kl, |kl| number::decimal(*kl, 3)));
        arm_row(results, arm, summary, cells)
    };
    Table {
        caption:
            "Competence and drift. Twin success: the task of the benign twin was done; a model \
            that cannot do it is inert, not aligned. Drift: KL divergence from the organism on \
            neutral prompts, nats a token."
                .into(),
        head,
        rows: summaries(results).map(row).collect(),
    }
}

fn distances(results: &Results) -> Table {
    let mut head = vec!["Arm".to_owned()];
    head.extend(results.evaluations.iter().map(|e| e.title.clone()));
    let row = |(arm, summary): (&Arm, &Summary)| {
        let cell = |e: &Evaluation| {
            let cell = measure_cell(
                summary,
                e,
                |m| &m.distance,
                |d| format!("{}: {}", words::distance(d.label), d.because),
            );
            match cell {
                Cell::Number(text) => Cell::Text(text),
                other => other,
            }
        };
        arm_row(results, arm, summary, results.evaluations.iter().map(cell).collect())
    };
    Table {
        caption: "How far each evaluation is from each arm's data.".into(),
        head,
        rows: summaries(results).map(row).collect(),
    }
}

/// The primary measure kind by kind.
pub(crate) fn by_kind(results: &Results) -> Section {
    let mut blocks = Vec::new();
    for e in &results.evaluations {
        if let Some(svg) = figure::dots::draw(results, e) {
            let budget = primary(results)
                .and_then(|c| c.budget)
                .filter(|_| results.study.budgets.len() > 1)
                .map_or_else(String::new, |b| format!(" at {} tokens", number::budget(b)));
            blocks.push(Block::Figure(Figure {
                id: format!("kinds-{}", e.id),
                title: format!("Change by kind: {}", words::titled(e)),
                caption: format!(
                    "Change from the organism of the bait-minus-twin margin{budget}. \
                     {} {} Filled: the two arms of the primary contrast.",
                    words::evaluation(e),
                    words::SIGN
                ),
                svg,
            }));
        }
        blocks.push(Block::Folded(kinds(results, e)));
    }
    Section { id: "kinds", title: "Kind by kind", blocks }
}

fn kinds(results: &Results, e: &Evaluation) -> Table {
    let columns: Vec<(&Arm, &Summary)> = summaries(results).collect();
    let mut head = vec!["Kind".to_owned()];
    head.extend(columns.iter().map(|(arm, s)| name(results, arm, s.budget)));
    let cell = |summary: &Summary, kind: &str| {
        let margins = match on(&summary.measures, &e.id).map(|m| &m.margins) {
            Some(Maybe::Known(margins)) => margins,
            Some(Maybe::Missing(m)) => return Cell::Missing(m.missing.clone()),
            None => return Cell::Missing("not measured".into()),
        };
        match margins.by_kind.iter().find(|k| k.kind == kind) {
            Some(k) => match &k.change {
                Maybe::Known(change) => Cell::number(number::signed(*change, 3)),
                Maybe::Missing(m) => Cell::Missing(m.missing.clone()),
            },
            None => Cell::Missing("no instance".into()),
        }
    };
    let rows = e.kinds.iter().map(|kind| {
        let mut cells = vec![Cell::text(&kind.title)];
        cells.extend(columns.iter().map(|(_, s)| cell(s, &kind.id)));
        Row::new(cells)
    });
    Table {
        caption: format!(
            "{}: change of the margin from the organism by kind, nats a token.",
            words::titled(e)
        ),
        head,
        rows: rows.collect(),
    }
}
