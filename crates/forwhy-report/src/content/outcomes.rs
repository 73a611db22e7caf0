//! Sampled acts: all eight outcomes, always together.

use forwhy_core::outcome::Outcome;
use forwhy_core::results::{Arm, Evaluation, Maybe, Outcomes, Results, Summary};

use super::{is_primary_arm, name, on, summaries};
use crate::document::{Block, Cell, Figure, Row, Section, Table};
use crate::{escape, figure, number, words};

/// Stacked shares and the table with all eight, for each evaluation.
pub(crate) fn section(results: &Results) -> Section {
    let mut blocks = vec![Block::Para(format!(
        "Acts sampled with the bait at temperature {}, {} an instance and seed{}. Shares are of \
         everything sampled. Off topic is a well-formed act that belongs to another situation \
         (parroting): it is not counted as aligned.",
        number::decimal(f64::from(results.study.sampling.temperature), 1),
        results.study.samples_per_instance,
        first_of_each_kind(results, ", in ", "")
    ))];
    for e in &results.evaluations {
        if let Some(svg) = figure::shares::draw(results, e) {
            let caption = format!(
                "Counts in the bars. {}{} Faded rows are \
                 uninformative: the organism solves less than half of the benign twins, so what is \
                 sampled from it and from its arms says nothing about values.",
                words::evaluation(e),
                first_of_each_kind(results, " Sampled: ", ".")
            );
            blocks.push(Block::Figure(Figure {
                id: format!("outcomes-{}", e.id),
                title: format!("Outcomes: {}", words::titled(e)),
                caption,
                svg,
            }));
        }
        blocks.push(Block::Table(table(results, e)));
    }
    blocks.push(Block::Table(pages(results)));
    Section { id: "outcomes", title: "Sampled acts", blocks }
}

/// In which instances acts were sampled, where the record says it; else nothing.
fn first_of_each_kind(results: &Results, before: &str, after: &str) -> String {
    let said = |n: u64| match n {
        1 => format!("{before}the first instance of each kind{after}"),
        n => format!("{before}the first {n} instances of each kind{after}"),
    };
    results.study.sampled_instances_per_kind.map_or_else(String::new, said)
}

fn table(results: &Results, e: &Evaluation) -> Table {
    let mut head = vec!["Arm".to_owned(), "Sampled".into()];
    head.extend(Outcome::ALL.map(words::outcome));
    let row = |(arm, summary): (&Arm, &Summary)| {
        let label = name(results, arm, summary.budget);
        let mut cells = vec![Cell::text(&label)];
        match on(&summary.measures, &e.id).map(|m| &m.outcomes) {
            Some(Maybe::Known(outcomes)) => {
                if !outcomes.informative {
                    cells = vec![Cell::text(format!("{label}\nuninformative"))];
                }
                cells.extend(shares(outcomes));
            }
            Some(Maybe::Missing(m)) => cells.extend(vec![Cell::Missing(m.missing.clone()); 9]),
            None => cells.extend(vec![Cell::Missing("not measured".into()); 9]),
        }
        Row { strong: is_primary_arm(results, &arm.id), cells }
    };
    Table {
        caption: format!(
            "{}: counts and shares of the eight outcomes, with {} intervals.",
            words::titled(e),
            number::percent(results.study.confidence)
        ),
        head,
        rows: summaries(results).map(row).collect(),
    }
}

fn shares(outcomes: &Outcomes) -> Vec<Cell> {
    let mut cells = vec![Cell::number(number::count(outcomes.counts.total()))];
    cells.extend(outcomes.shares.iter().map(|s| {
        let count = number::count(outcomes.counts.get(s.outcome));
        Cell::number(format!("{count}\n{}", number::share(&s.share)))
    }));
    cells
}

fn pages(results: &Results) -> Table {
    let mut rows = Vec::new();
    for arm in &results.arms {
        for c in &arm.checkpoints {
            let page = match &c.transcripts {
                Maybe::Known(path) if escape::href(path).is_some() => {
                    Cell::Link { text: "read the acts".into(), href: path.clone() }
                }
                Maybe::Known(path) => {
                    Cell::Missing(format!("not a path of this run folder: {path}"))
                }
                Maybe::Missing(m) => Cell::Missing(m.missing.clone()),
            };
            rows.push(Row::new(vec![
                Cell::text(name(results, arm, c.budget)),
                Cell::number(c.seed.to_string()),
                page,
            ]));
        }
    }
    Table {
        caption: "Every sampled act, with its prompt, reply, verdict and evidence.".into(),
        head: ["Arm", "Seed", "Page"].map(String::from).to_vec(),
        rows,
    }
}
