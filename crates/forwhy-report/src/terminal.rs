//! The tables for a terminal, of finished results: plain text, 100 columns, no colour. A cell
//! without a number says why. (While a study runs, the lab says one line a finished unit.)

use forwhy_core::outcome::Outcome;
use forwhy_core::results::{
    Arm, Evaluation, Level, Margins, Maybe, Measures, Results, StyleControl, Summary,
};

use crate::content::{headline, name_within, on, primary, summaries, title_of};
use crate::{escape, figure, number, words};

/// Width of the widest line.
pub(crate) const WIDTH: usize = 100;

/// Column heads of the eight outcomes, in their order.
const OUTCOMES: [&str; 8] =
    ["misal.", "align.", "off t.", "refus.", "no act", "incoh.", "trunc.", "unsc."];

/// All tables.
pub(crate) fn render(results: &Results) -> String {
    let mut out = wrap(&format!("Study {}. {}", results.study.name, words::NATURE));
    for e in &results.evaluations {
        out.push('\n');
        out.push_str(&wrap(&words::evaluation(e)));
        out.push_str(&margins(results, e));
        out.push('\n');
        out.push_str(&outcomes(results, e));
    }
    out.push('\n');
    out.push_str(&found(results));
    out
}

fn margins(results: &Results, e: &Evaluation) -> String {
    let mut out =
        line(["", "change from the organism,", "twin", "easy", "prose", "drift", "style"]);
    out.push_str(&line([
        "arm",
        "nats/token [interval]",
        "success",
        "chat",
        "ppl",
        "KL",
        "control",
    ]));
    for (arm, summary) in summaries(results) {
        let measures = on(&summary.measures, &e.id);
        let change = match measures.map(|m| &m.margins) {
            Some(Maybe::Known(margins)) => change(margins),
            Some(Maybe::Missing(m)) => m.missing.clone(),
            None => "not measured".into(),
        };
        let twin = measures.map_or_else(
            || "-".into(),
            |m| short(&m.twin_success, |p| number::percent(p.share.value)),
        );
        let [chat, prose, drift] = competence(&summary.measures);
        let label = name_within(results, arm, summary.budget, 26);
        out.push_str(&line([&label, &change, &twin, &chat, &prose, &drift, style(arm)]));
    }
    out
}

fn competence(m: &Measures) -> [String; 3] {
    [
        short(&m.easy_chat, |p| format!("{}/{}", p.hits, p.n)),
        short(&m.prose_perplexity, |p| number::decimal(*p, 1)),
        short(&m.drift_kl, |kl| number::decimal(*kl, 3)),
    ]
}

fn change(margins: &Margins) -> String {
    match &margins.change {
        Maybe::Known(e) => number::estimate(e),
        Maybe::Missing(m) => m.missing.clone(),
    }
}

fn style(arm: &Arm) -> &'static str {
    match arm.style {
        StyleControl::NotApplicable => "",
        StyleControl::HasTwin { .. } => "has twin",
        StyleControl::TwinOf { .. } => "is twin",
        StyleControl::NotControlled => "not controlled",
    }
}

/// A value, or a dash; the full report says why.
fn short<T>(value: &Maybe<T>, format: impl FnOnce(&T) -> String) -> String {
    value.known().map_or_else(|| "-".into(), format)
}

fn line(cells: [&str; 7]) -> String {
    let [arm, change, twin, chat, prose, drift, style] = cells;
    let text = format!(
        "{:<26} {:>25} {twin:>8} {chat:>6} {prose:>6} {drift:>6}  {style}",
        cut(arm, 26),
        cut(change, 25)
    );
    format!("{}\n", text.trim_end())
}

fn outcomes(results: &Results, e: &Evaluation) -> String {
    let mut out = outcome_line("sampled acts, counts", "n", OUTCOMES.map(String::from), "");
    for (arm, summary) in summaries(results) {
        out.push_str(&outcome_row(&name_within(results, arm, summary.budget, 24), summary, e));
    }
    out
}

fn outcome_row(label: &str, summary: &Summary, e: &Evaluation) -> String {
    let missing = match on(&summary.measures, &e.id).map(|m| &m.outcomes) {
        Some(Maybe::Known(o)) => {
            let counts = Outcome::ALL.map(|outcome| number::count(o.counts.get(outcome)));
            let mark = if o.informative { "" } else { "uninformative" };
            return outcome_line(label, &number::count(o.counts.total()), counts, mark);
        }
        Some(Maybe::Missing(m)) => &m.missing,
        None => "not measured",
    };
    let text = format!("{:<24} {}", cut(label, 24), cut(missing, WIDTH - 25));
    format!("{}\n", text.trim_end())
}

fn outcome_line(label: &str, n: &str, counts: [String; 8], mark: &str) -> String {
    let cells: Vec<String> = counts.iter().map(|c| format!("{c:>6}")).collect();
    let text = format!("{:<24} {n:>5} {} {mark}", cut(label, 24), cells.join(" "));
    format!("{}\n", text.trim_end())
}

/// Harmless text of at most `limit` characters.
fn cut(text: &str, limit: usize) -> String {
    figure::cut(&escape::terminal(text), limit)
}

fn found(results: &Results) -> String {
    let mut out = String::new();
    if let Some(c) = primary(results) {
        let estimate = number::or_why(&c.estimate, number::estimate);
        let (arm, against) = (title_of(results, &c.arm), title_of(results, &c.against));
        out.push_str(&wrap(&format!("Primary: {arm} minus {against}: {estimate} {}.", c.unit)));
        out.push_str(&wrap(&words::verdict(c, results)));
    }
    for note in results.notes.iter().filter(|n| n.level == Level::Warning) {
        out.push_str(&wrap(&format!("Warning: {}", headline::note(note, results))));
    }
    out.push_str(&wrap(&format!(
        "{} primary and {} exploratory measures were computed.",
        number::count(results.measures.primary),
        number::count(results.measures.exploratory)
    )));
    out
}

/// Lines of at most [`WIDTH`] characters.
fn wrap(text: &str) -> String {
    let mut out = String::new();
    let mut used = 0;
    for word in escape::terminal(text).split_whitespace() {
        let long = word.chars().count();
        if used > 0 && used + 1 + long > WIDTH {
            out.push('\n');
            used = 0;
        }
        if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += long;
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use crate::fixture;

    #[test]
    fn lines_fit_100_columns_and_hold_no_control_characters() {
        for results in [fixture::results(), fixture::three_seeds(), fixture::hostile()] {
            for line in super::render(&results).lines() {
                let long = line.split(' ').any(|word| word.chars().count() > super::WIDTH);
                assert!(line.chars().count() <= super::WIDTH || long, "{line}");
                assert!(!line.contains(char::is_control), "{line:?}");
            }
        }
    }

    #[test]
    fn the_tables_read_as_they_did() {
        insta::assert_snapshot!("terminal", super::render(&fixture::results()));
    }
}
