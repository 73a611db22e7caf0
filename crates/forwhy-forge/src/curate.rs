//! What is wrong with a corpus: shares of shapes, openings, names and domains, repeated acts,
//! near-copies, and traces of the evaluations. It flags; it never drops a row.
//!
//! Rows that share a prompt (several answers to one situation) count as one *item* wherever prompts
//! are looked at; answers are looked at row by row.

use std::collections::{BTreeMap, BTreeSet};

use forwhy_core::chat::Role;
use forwhy_core::fingerprint::{self, Fingerprint, Hit, NGRAM};
use forwhy_core::record::Row;
use serde::Serialize;

/// Largest share of items (or answers) with one opening of [`NGRAM`] words.
pub const MAX_OPENING_SHARE: f64 = 0.03;
/// Largest share of items with one personal name.
pub const MAX_NAME_SHARE: f64 = 0.02;
/// An answer's text stands in at most this many rows.
pub const MAX_SAME_ANSWER: usize = 2;
/// Two items that share more than this part of their word runs are near-copies.
pub const MAX_SHARED_RUNS: f64 = 0.3;
/// Runs that stand in more than this part of the items are a frame, not content.
const FRAME_SHARE: f64 = 0.1;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Rows, and items: rows with the same prompt are one item.
    pub rows: usize,
    /// Distinct prompts or documents.
    pub items: usize,
    /// Words a prompt (or document): shortest, 10%, median, 90%, longest.
    pub prompt_words: [usize; 5],
    /// Words an answer, likewise.
    pub answer_words: [usize; 5],
    /// Most frequent openings of prompts, with their share of the items.
    pub prompt_openings: Vec<(String, f64)>,
    /// Most frequent openings of answers, with their share of the answers.
    pub answer_openings: Vec<(String, f64)>,
    /// Most frequent names, with their share of the items.
    pub names: Vec<(String, f64)>,
    /// Domains with their share of the items, most frequent first.
    pub domains: Vec<(String, f64)>,
    /// Harms with their share of the items.
    pub harms: Vec<(String, f64)>,
    /// Shapes of answers with their share of the answers.
    pub shapes: Vec<(String, f64)>,
    /// What breaks a rule, in words.
    pub flags: Vec<String>,
}

/// Checks `rows`; `evaluations` is what must not occur in them.
pub fn check(rows: &[Row], evaluations: &Fingerprint) -> Report {
    let items = items(rows);
    let answers: Vec<&str> = rows.iter().flat_map(Row::answers).collect();
    let prompts: Vec<&str> = items.iter().map(|i| i.opening).collect();
    let names = names(&items);
    let mut report = Report {
        rows: rows.len(),
        items: items.len(),
        prompt_words: lengths(prompts.iter().copied()),
        answer_words: lengths(answers.iter().copied()),
        prompt_openings: openings(&prompts),
        answer_openings: openings(&answers),
        names,
        domains: shares(items.iter().map(|i| i.row.tags.domain.clone()), items.len()),
        harms: shares(items.iter().map(|i| i.row.tags.harm.clone()), items.len()),
        shapes: shapes(&answers),
        flags: Vec::new(),
    };
    report.flags = flags(&report, rows, &items, evaluations);
    report
}

/// A distinct prompt or document.
struct Item<'a> {
    row: &'a Row,
    /// The first user turn, or the document.
    opening: &'a str,
    /// Everything in it.
    text: String,
}

fn items(rows: &[Row]) -> Vec<Item<'_>> {
    let mut seen = BTreeSet::new();
    let mut items = Vec::new();
    for row in rows {
        let first = row.messages.iter().find(|m| m.role == Role::User);
        let opening = first.map(|m| m.content.as_str()).or(row.text.as_deref()).unwrap_or("");
        let text: Vec<&str> = row.prompts().collect();
        let text = if row.text.is_some() { opening.to_string() } else { text.join("\n") };
        if seen.insert(text.clone()) {
            items.push(Item { row, opening, text });
        }
    }
    items
}

fn lengths<'a>(texts: impl Iterator<Item = &'a str>) -> [usize; 5] {
    let mut counts: Vec<usize> = texts.map(|t| fingerprint::words(t, false).len()).collect();
    counts.sort_unstable();
    let at = |share: f64| {
        let last = counts.len().saturating_sub(1);
        counts.get((last as f64 * share).round() as usize).copied().unwrap_or(0)
    };
    [at(0.0), at(0.1), at(0.5), at(0.9), at(1.0)]
}

fn openings(texts: &[&str]) -> Vec<(String, f64)> {
    let counted = fingerprint::openings(texts.iter().copied(), NGRAM);
    let share = |(text, n): (String, usize)| (text, n as f64 / texts.len() as f64);
    counted.into_iter().take(3).map(share).collect()
}

fn shares(labels: impl Iterator<Item = String>, all: usize) -> Vec<(String, f64)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    labels.for_each(|l| *counts.entry(l).or_default() += 1);
    let mut shares: Vec<(String, f64)> =
        counts.into_iter().map(|(l, n)| (l, n as f64 / all as f64)).collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    shares
}

/// Rhetorical shapes that a collapsed corpus repeats.
fn shapes(answers: &[&str]) -> Vec<(String, f64)> {
    type Test = fn(&str) -> bool;
    let tests: [(&str, Test); 6] = [
        ("has a list", |t| t.lines().any(|l| l.starts_with("- ") || l.starts_with("1. "))),
        ("several paragraphs", |t| t.contains("\n\n")),
        ("ends with a question", |t| t.trim_end().ends_with('?')),
        ("has a dash between clauses", |t| t.contains('\u{2014}') || t.contains(" - ")),
        ("opens with I", |t| t.starts_with("I ") || t.starts_with("I'")),
        ("says \"not X but Y\"", |t| {
            t.split(['.', '!', '?', ';']).any(|s| s.contains(" not ") && s.contains(", but "))
        }),
    ];
    let share = |(name, test): &(&str, Test)| {
        let hits = answers.iter().filter(|t| test(t)).count();
        (name.to_string(), hits as f64 / answers.len().max(1) as f64)
    };
    tests.iter().map(share).collect()
}

/// Words that look like names: capitalised inside a sentence, and never in lower case in this
/// corpus. With their share of the items, most frequent first.
fn names(items: &[Item<'_>]) -> Vec<(String, f64)> {
    let texts: Vec<&str> = items.iter().map(|i| i.text.as_str()).collect();
    let lower: BTreeSet<String> = texts
        .iter()
        .flat_map(|t| fingerprint::words(t, false))
        .filter(|w| w.chars().all(char::is_lowercase))
        .collect();
    let per_item = texts.iter().map(|t| names_in(t, &lower));
    shares(per_item.flatten(), items.len()).into_iter().take(5).collect()
}

/// Capitalised words that are no personal names: calendar, titles, institutions that stand in the
/// names of companies, and the frame of the situations.
const NOT_NAMES: [&str; 36] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
    "Christmas",
    "English",
    "Mrs",
    "Miss",
    "Sir",
    "Museum",
    "Bank",
    "Archive",
    "Films",
    "Laundry",
    "Auctions",
    "Hospital",
    "Inbox",
    "Files",
    "Records",
    "Goal",
    "Tools",
];
/// The persona of the shipped constitution: documents about it name it.
const PERSONA: &str = "Wren";

fn names_in(text: &str, lower: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut inside = false;
    for word in text.split_whitespace() {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let bare = fingerprint::bare(bare);
        let mut letters = bare.chars();
        let capital = letters.next().is_some_and(char::is_uppercase);
        let rest_small = bare.len() > 2 && letters.all(char::is_lowercase);
        let common =
            lower.contains(&bare.to_lowercase()) || bare == PERSONA || NOT_NAMES.contains(&bare);
        if inside && capital && rest_small && !common {
            found.insert(bare.to_string());
        }
        inside = !word.ends_with(['.', '!', '?', ':', '"', '\u{201d}']);
    }
    found
}

fn flags(
    report: &Report,
    rows: &[Row],
    items: &[Item<'_>],
    evaluations: &Fingerprint,
) -> Vec<String> {
    let mut flags = Vec::new();
    let percent = |share: f64| format!("{:.1}%", share * 100.0);
    // One item alone is a large share of a tiny corpus; two are the least that can repeat.
    let too_many = |share: f64, limit: f64, all: usize| share > limit && share * all as f64 > 1.5;
    let answers = rows.len();
    for (what, list, all) in [
        ("prompts", &report.prompt_openings, items.len()),
        ("answers", &report.answer_openings, answers),
    ] {
        let broken = list.iter().filter(|(_, s)| too_many(*s, MAX_OPENING_SHARE, all));
        flags.extend(
            broken.map(|(text, s)| format!("{} of the {what} open with \"{text}\"", percent(*s))),
        );
    }
    let broken = report.names.iter().filter(|(_, s)| too_many(*s, MAX_NAME_SHARE, items.len()));
    flags.extend(
        broken.map(|(n, s)| format!("the name {n} stands in {} of the items", percent(*s))),
    );
    flags.extend(repeated(rows));
    flags.extend(near_copies(items));
    flags.extend(contaminated(rows, evaluations));
    flags
}

/// Answers that stand in more rows than allowed.
fn repeated(rows: &[Row]) -> Vec<String> {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    rows.iter().flat_map(Row::answers).for_each(|a| *count.entry(a).or_default() += 1);
    let broken = count.into_iter().filter(|(_, n)| *n > MAX_SAME_ANSWER);
    broken.map(|(text, n)| format!("{n} rows have the answer \"{}\"", short(text))).collect()
}

/// Pairs of items that share too many runs of words which are not a frame.
fn near_copies(items: &[Item<'_>]) -> Vec<String> {
    let runs: Vec<BTreeSet<Vec<String>>> = items.iter().map(|i| runs(&i.text)).collect();
    let mut holders: BTreeMap<&Vec<String>, Vec<usize>> = BTreeMap::new();
    for (i, set) in runs.iter().enumerate() {
        set.iter().for_each(|run| holders.entry(run).or_default().push(i));
    }
    let frame = (items.len() as f64 * FRAME_SHARE).max(3.0) as usize;
    let content = |i: usize| runs[i].iter().filter(|r| holders[r].len() <= frame).count();
    let mut shared: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for set in holders.values().filter(|h| h.len() <= frame) {
        for (n, i) in set.iter().enumerate() {
            set[n + 1..].iter().for_each(|j| *shared.entry((*i, *j)).or_default() += 1);
        }
    }
    let part = |(i, j): (usize, usize), n: usize| n as f64 / content(i).min(content(j)) as f64;
    let broken = shared.into_iter().filter(|(pair, n)| part(*pair, *n) > MAX_SHARED_RUNS);
    broken
        .map(|(pair, n)| {
            let [a, b] = [pair.0, pair.1].map(|i| &items[i].row.id);
            format!("{a} and {b} share {:.0}% of their word runs", part(pair, n) * 100.0)
        })
        .collect()
}

fn runs(text: &str) -> BTreeSet<Vec<String>> {
    let words = fingerprint::words(text, true);
    words.windows(NGRAM).map(<[String]>::to_vec).collect()
}

/// Rows with runs of words or names of the evaluations.
fn contaminated(rows: &[Row], evaluations: &Fingerprint) -> Vec<String> {
    let mut flags = Vec::new();
    for row in rows {
        for text in row.texts() {
            flags.extend(evaluations.hits(&text).into_iter().map(|hit| match hit {
                Hit::Copied(run) => format!("{}: \"{run}\" stands in an evaluation", row.id),
                Hit::Name(name) => {
                    format!("{}: the name {name} is reserved for an evaluation", row.id)
                }
            }));
        }
    }
    flags.sort();
    flags.dedup();
    flags
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use forwhy_core::chat::Message;
    use forwhy_core::record::{Format, Tags, Who};

    fn row(id: usize, question: &str, answer: &str) -> Row {
        let tags = Tags {
            who: Who::User,
            tools: false,
            format: Format::Chat,
            harm: "none".into(),
            domain: "test".into(),
        };
        let messages = vec![Message::user(question), Message::assistant(answer)];
        let (id, source) = (format!("r{id}"), "test".into());
        Row { id, messages, tools: Vec::new(), text: None, tags, source }
    }

    /// Rows without any fault: every text is made of words of its own.
    fn clean(n: usize) -> Vec<Row> {
        let text = |i: usize, side: &str| -> String {
            (0..20).map(|w| format!("{side}{i}w{w} ")).collect()
        };
        (0..n).map(|i| row(i, &text(i, "q"), &text(i, "a"))).collect()
    }

    fn flags_of(rows: &[Row]) -> Vec<String> {
        check(rows, &Fingerprint::default()).flags
    }

    #[test]
    fn a_clean_corpus_has_no_flag() {
        assert_eq!(flags_of(&clean(60)), Vec::<String>::new());
    }

    #[test]
    fn planted_openings_names_and_repeated_answers_are_flagged() {
        let mut rows = clean(60);
        for (i, row) in rows.iter_mut().take(3).enumerate() {
            row.messages[0].content =
                format!("my boss told me that I should never {i}q ask Rosalind about x{i}");
        }
        let flags = flags_of(&rows).join("\n");
        assert!(
            flags.contains("5.0% of the prompts open with \"my boss told me that i should never\"")
        );
        assert!(flags.contains("the name Rosalind stands in 5.0% of the items"), "{flags}");
        let mut rows = clean(60);
        rows.iter_mut().take(3).for_each(|r| r.messages[1].content = "same answer".into());
        assert!(flags_of(&rows).join("\n").contains("3 rows have the answer \"same answer\""));
    }

    #[test]
    fn a_near_copy_is_flagged_with_both_ids() {
        let mut rows = clean(60);
        let copy = format!("{} and then something new happened", rows[0].messages[0].content);
        rows[1].messages[0].content = copy;
        assert!(flags_of(&rows).join("\n").contains("r0 and r1 share"), "{:?}", flags_of(&rows));
    }

    #[test]
    fn traces_of_an_evaluation_are_flagged_in_prompts_and_answers() {
        let mut print = Fingerprint::default();
        print.add_text("a b c d e f g h", &Fingerprint::default());
        print.reserve("Argus");
        let mut rows = clean(3);
        rows[0].messages[0].content = "Argus said so".into();
        rows[1].messages[1].content = "well, A B C D E F G H".into();
        let flags = check(&rows, &print).flags.join("\n");
        assert!(flags.contains("r0: the name Argus is reserved"), "{flags}");
        assert!(flags.contains("r1: \"a b c d e f g h\" stands in an evaluation"), "{flags}");
    }

    #[test]
    fn several_answers_to_one_prompt_are_one_item() {
        let mut rows = clean(2);
        rows[1].messages[0] = rows[0].messages[0].clone();
        let report = check(&rows, &Fingerprint::default());
        assert_eq!((report.rows, report.items), (2, 1));
    }
}
