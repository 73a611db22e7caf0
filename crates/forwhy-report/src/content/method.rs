//! Training, method, oracle, limits and provenance.

use forwhy_core::results::{Arm, Checkpoint, FileRef, Level, Maybe, Oracle, Results, Split};

use super::{headline, name};
use crate::document::{Block, Cell, Figure, Row, Section, Table};
use crate::{figure, number, words};

/// Tokens, steps, time and loss of each checkpoint.
pub(crate) fn training(results: &Results) -> Section {
    let mut blocks = vec![Block::Table(training_table(results))];
    if let Some(svg) = figure::loss::draw(results) {
        blocks.push(Block::Figure(Figure {
            id: "loss".into(),
            title: "Training loss by step".into(),
            caption: "Nats a token, one line a seed. All panels have \
                the same vertical scale. Arms differ in what carries loss, so their levels are not \
                comparable."
                .into(),
            svg,
        }));
    }
    Section { id: "training", title: "Training", blocks }
}

fn training_table(results: &Results) -> Table {
    let mut rows = Vec::new();
    for arm in &results.arms {
        rows.extend(arm.checkpoints.iter().map(|c| training_row(results, arm, c)));
    }
    let head = [
        "Arm",
        "Seed",
        "Tokens",
        "Loss tokens",
        "Rows",
        "Epochs",
        "Steps",
        "Learning rate",
        "Scope",
        "Training time",
        "Evaluation time",
        "Data",
    ];
    Table {
        caption: "Training. Loss tokens are those that the loss was taken on; comparisons of arms \
            whose loss tokens differ by more than 10% are exploratory."
            .into(),
        head: head.map(String::from).to_vec(),
        rows,
    }
}

fn training_row(results: &Results, arm: &Arm, c: &Checkpoint) -> Row {
    let mut cells =
        vec![Cell::text(name(results, arm, c.budget)), Cell::number(c.seed.to_string())];
    let evaluation = time(&c.eval_cpu_secs, &c.eval_wall_secs);
    match &c.training {
        Maybe::Known(t) => cells.extend([
            Cell::number(number::count(t.tokens)),
            Cell::number(number::count(t.loss_tokens)),
            rows_cell(t.rows, t.split),
            Cell::number(number::decimal(t.epochs, 2)),
            Cell::number(number::count(t.steps)),
            Cell::number(format!("{:e}", t.learning_rate)),
            Cell::text(&t.scope),
            time(&t.cpu_secs, &t.wall_secs),
            evaluation,
            Cell::text(file(&t.data)),
        ]),
        Maybe::Missing(m) => {
            cells.extend(vec![Cell::Missing(m.missing.clone()); 8]);
            cells.push(evaluation);
            cells.push(Cell::Missing(m.missing.clone()));
        }
    }
    Row::new(cells)
}

/// Rows, and how many of them the chat template made several sequences of.
fn rows_cell(rows: u64, split: Option<Split>) -> Cell {
    let rows = number::count(rows);
    Cell::number(match split {
        None => rows,
        Some(Split { rows: of_them, sequences }) => {
            let [of_them, sequences] = [of_them, sequences].map(number::count);
            format!("{rows}\n{of_them} of them as {sequences} sequences")
        }
    })
}

/// CPU time over wall time.
fn time(cpu: &Maybe<f64>, wall: &Maybe<f64>) -> Cell {
    let wall = number::or_why(wall, |s| number::seconds(*s));
    number::cell(cpu, |s| format!("{} CPU\n{wall} wall", number::seconds(*s)))
}

/// A file with the start of its hash.
fn file(file: &FileRef) -> String {
    let (kind, hash) = file.hash.split_once(':').unwrap_or(("", &file.hash));
    let start: String = hash.chars().take(12).collect();
    let colon = if kind.is_empty() { "" } else { ":" };
    format!("{}\n{kind}{colon}{start}", file.path)
}

/// How it was done, and how well the oracle grades.
pub(crate) fn method(results: &Results) -> Section {
    let mut blocks: Vec<Block> = results.prose.method.iter().cloned().map(Block::Para).collect();
    blocks.push(Block::Para(
        "Kinds of temptation are the unit of evidence: instances of one kind are near-copies, so \
         every instance is averaged into its kind, and intervals of differences are t intervals \
         over kinds. Log-probabilities are means per token of the argument text, without the \
         action's prefix and with the end token; phrasings are held out and matched in length."
            .into(),
    ));
    match &results.oracle {
        Maybe::Known(oracle) => blocks.push(Block::Table(oracle_table(oracle))),
        Maybe::Missing(m) => blocks.push(Block::Warning(format!(
            "The oracle that grades sampled acts was not checked against labels given by readers: {}.",
            m.missing
        ))),
    }
    let remarks = results.notes.iter().filter(|n| n.level == Level::Remark);
    let remarks: Vec<String> = remarks.map(|n| headline::note(n, results)).collect();
    if !remarks.is_empty() {
        blocks.push(Block::List(remarks));
    }
    Section { id: "method", title: "Method", blocks }
}

fn oracle_table(oracle: &Oracle) -> Table {
    let row = |name: &str, cell: Cell| Row::new(vec![Cell::text(name), cell]);
    let rows = vec![
        row("Outputs labelled by readers", Cell::number(number::count(oracle.labelled))),
        row("Labelled by", Cell::text(&oracle.labelled_by)),
        row(
            "Sensitivity: labelled misaligned, graded misaligned",
            number::cell(&oracle.sensitivity, number::proportion),
        ),
        row(
            "Specificity: labelled otherwise, graded otherwise",
            number::cell(&oracle.specificity, number::proportion),
        ),
        row("Same one of the eight outcomes", number::cell(&oracle.exact, number::proportion)),
        row(
            "Cohen's kappa over the eight",
            number::cell(&oracle.kappa, |k| number::decimal(*k, 2)),
        ),
        row("Labels", Cell::text(file(&oracle.file))),
    ];
    Table {
        caption: "The oracle that grades sampled acts, against labels given by readers.".into(),
        head: vec!["Check".into(), "Result".into()],
        rows,
    }
}

/// What this run cannot say.
pub(crate) fn limits(results: &Results) -> Section {
    let mut points = words::limits(results);
    points.extend(results.prose.cannot_say.iter().cloned());
    Section { id: "limits", title: "What this run cannot say", blocks: vec![Block::List(points)] }
}

/// What made these numbers.
pub(crate) fn provenance(results: &Results) -> Section {
    let p = &results.provenance;
    let study = &results.study;
    let revision = number::or_why(&p.revision, Clone::clone);
    let modified = match &p.modified {
        Maybe::Known(true) => ", with uncommitted changes".to_owned(),
        Maybe::Known(false) => String::new(),
        Maybe::Missing(m) => format!(", changes unknown ({})", m.missing),
    };
    let seeds: Vec<String> = study.seeds.iter().map(u64::to_string).collect();
    let cpu = number::or_why(&p.machine.cpu, Clone::clone);
    let secs = |v: &Maybe<f64>| number::or_why(v, |s| number::seconds(*s));
    let sampling = &study.sampling;
    let facts = [
        ("Study file", file(&study.file)),
        ("Seeds", seeds.join(", ")),
        ("Start model", format!("{} ({})", p.model.name, p.model.revision)),
        ("forwhy", format!("{}, revision {revision}{modified}", p.version)),
        ("Started, results put together", format!("{}, {}", p.started, p.finished)),
        ("Time", format!("{} CPU, {} wall", secs(&p.cpu_secs), secs(&p.wall_secs))),
        (
            "Machine",
            format!(
                "{}, {cpu}, {}, {}",
                p.machine.system,
                number::plural(p.machine.threads, "thread"),
                p.machine.features.join(" ")
            ),
        ),
        (
            "Sampling",
            format!(
                "temperature {}, top-p {}, top-k {}, at most {} tokens",
                sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens
            ),
        ),
    ];
    let pair = |name: &str, value: &str| Row::new(vec![Cell::text(name), Cell::text(value)]);
    let made = Table {
        caption: "What made these numbers.".into(),
        head: vec!["What".into(), "Value".into()],
        rows: facts.iter().map(|(name, value)| pair(name, value)).collect(),
    };
    let settings = Table {
        caption: "Every setting of the run.".into(),
        head: vec!["Setting".into(), "Value".into()],
        rows: p.settings.iter().map(|s| pair(&s.key, &s.value)).collect(),
    };
    let mut blocks = vec![Block::Table(made)];
    if !settings.rows.is_empty() {
        blocks.push(Block::Folded(settings));
    }
    Section { id: "provenance", title: "Provenance", blocks }
}
