//! From rows to steps: what the model sees, in which order, and which tokens carry loss.
//!
//! 1. Rows with the same prompt form a *group*: the prompt is computed once, its answers are
//!    children of it (see [`forwhy_engine::pack`]). A row that the chat template makes several
//!    sequences of (`ChatTokenizer::training_sequences`) is a group by itself, in which what they
//!    begin with is computed once.
//! 2. A named stream shuffles the groups; they are taken until the token budget is full. What does
//!    not fit any more is skipped, so that arms end within one small group of the same total. A
//!    corpus smaller than the budget is shuffled anew for another epoch.
//! 3. Groups are packed into steps of about `batch_tokens`.
//!
//! The mask is ours: exactly what the assistant writes, calls of tools included, and its end-of-turn
//! tokens (or all tokens of a document) are targets, each once. A corpus without any target is refused.

use std::collections::HashMap;

use forwhy_core::chat::{Message, Role};
use forwhy_core::record::Row;
use forwhy_core::results::Split;
use forwhy_core::seed;
use forwhy_core::tool::ToolDefinition;
use forwhy_engine::pack::Pack;
use forwhy_engine::tokenizer::{ChatTokenizer, Rendered, SequenceError};

/// Rows that share one prompt, as tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Ids of the rows.
    pub rows: Vec<String>,
    body: Body,
}

#[derive(Clone, Debug, PartialEq)]
enum Body {
    /// A document, or a chat with several answers.
    Whole(Rendered),
    /// A prompt, and one answer a row, all trained.
    Answers { prompt: Vec<u32>, answers: Vec<Vec<u32>> },
    /// A chat that the template rewrites, and how many sequences it became.
    Split { pack: Pack, sequences: usize },
}

impl Group {
    /// Tokens that the model reads.
    pub fn tokens(&self) -> usize {
        match &self.body {
            Body::Whole(whole) => whole.ids.len(),
            Body::Answers { prompt, answers } => {
                prompt.len() + answers.iter().map(Vec::len).sum::<usize>()
            }
            // The last token of each sequence needs no row, and counts elsewhere too.
            Body::Split { pack, sequences } => pack.rows() + sequences,
        }
    }

    /// Tokens that carry loss.
    pub fn loss_tokens(&self) -> usize {
        match &self.body {
            // The first token of a sequence has nothing that could predict it.
            Body::Whole(whole) => whole.trained.iter().skip(1).filter(|t| **t).count(),
            Body::Answers { answers, .. } => answers.iter().map(Vec::len).sum(),
            Body::Split { pack, .. } => pack.targets().len(),
        }
    }

    /// Adds the row and the answer of a group with the same prompt.
    fn join(&mut self, other: Group) {
        if let (Body::Answers { answers, .. }, Body::Answers { answers: more, .. }) =
            (&mut self.body, other.body)
        {
            self.rows.extend(other.rows);
            answers.extend(more);
        }
    }

    fn push_to(&self, pack: &mut Pack) {
        match &self.body {
            Body::Whole(whole) => pack.push_sequence(&whole.ids, &whole.trained),
            Body::Answers { prompt, answers } => {
                let prompt = pack.push_segment(prompt.clone(), None);
                answers.iter().for_each(|answer| pack.push_continuation(prompt, answer, 0));
            }
            Body::Split { pack: own, .. } => pack.push_pack(own),
        }
    }

    /// How many sequences its row became, if it is not one.
    fn split(&self) -> Option<usize> {
        match self.body {
            Body::Split { sequences, .. } => Some(sequences),
            Body::Whole(_) | Body::Answers { .. } => None,
        }
    }

    /// Whether the two have the same prompt; where answers stand within, the same answers too.
    fn asks_like(&self, other: &Group) -> bool {
        match (&self.body, &other.body) {
            (Body::Whole(a), Body::Whole(b)) => a.ids == b.ids,
            (Body::Answers { prompt: a, .. }, Body::Answers { prompt: b, .. }) => a == b,
            (Body::Split { pack: a, .. }, Body::Split { pack: b, .. }) => {
                a.segments() == b.segments()
            }
            _ => false,
        }
    }
}

/// Why rows cannot be trained on.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The chat template or tokenizer refused a row.
    #[error("row {row}: {source}")]
    Tokens {
        /// Id of the row.
        row: String,
        /// Why.
        #[source]
        source: SequenceError,
    },
    /// A row is longer than the model can read.
    #[error("row {row} has {tokens} tokens, the model reads at most {limit}")]
    TooLong {
        /// Id of the row.
        row: String,
        /// Its length.
        tokens: usize,
        /// The model's limit.
        limit: usize,
    },
    /// Nothing would be learned.
    #[error(
        "the mask is empty: none of {rows} rows has a token that the model has to produce; \
         training on them would change nothing"
    )]
    EmptyMask {
        /// How many rows there are.
        rows: usize,
    },
    /// An opposite-values twin has other prompts than its arm.
    #[error(
        "the opposite-values twin is not paired row by row with its arm: {row:?} stands where the arm \
         has {leader:?}; both files need the same prompts in the same order"
    )]
    Unpaired {
        /// Id of a row of the twin; None if it has fewer.
        row: Option<String>,
        /// Id of the arm's row there; None if it has fewer.
        leader: Option<String>,
    },
    /// The budget is smaller than the smallest group.
    #[error("a budget of {budget} tokens is too small: the shortest row has {shortest}")]
    BudgetTooSmall {
        /// Tokens asked for.
        budget: usize,
        /// Tokens of the shortest group.
        shortest: usize,
    },
}

/// Tokenises rows and groups those with the same prompt, in the order of their first row.
pub fn groups(
    rows: &[Row],
    tokenizer: &ChatTokenizer,
    max_positions: usize,
) -> Result<Vec<Group>, DataError> {
    let mut by_prompt: HashMap<(&[Message], &[ToolDefinition]), usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for row in rows {
        let sequences = sequences(row, tokenizer)
            .map_err(|source| DataError::Tokens { row: row.id.clone(), source })?;
        let tokens = sequences.iter().map(|s| s.ids.len()).max().unwrap_or(0);
        if tokens > max_positions {
            let (row, limit) = (row.id.clone(), max_positions);
            return Err(DataError::TooLong { row, tokens, limit });
        }
        let own = Group { rows: vec![row.id.clone()], body: body(row, sequences) };
        if let Body::Answers { .. } = own.body {
            let key = (&row.messages[..row.messages.len() - 1], &row.tools[..]);
            if let Some(first) = by_prompt.get(&key) {
                groups[*first].join(own);
                continue;
            }
            by_prompt.insert(key, groups.len());
        }
        groups.push(own);
    }
    if groups.iter().all(|g| g.loss_tokens() == 0) {
        return Err(DataError::EmptyMask { rows: rows.len() });
    }
    Ok(groups)
}

/// A row as the model reads it in training: one sequence, or several if its chat template writes
/// earlier turns otherwise once later ones follow. The first token of a sequence is never a target,
/// whatever the mask says of it: nothing comes before it.
pub fn sequences(row: &Row, tokenizer: &ChatTokenizer) -> Result<Vec<Rendered>, SequenceError> {
    match &row.text {
        Some(text) => Ok(vec![tokenizer.document(text)]),
        None => tokenizer.training_sequences(&row.messages, &row.tools),
    }
}

/// The sequences of a row as a group has them. The answer of a chat with one assistant's turn is
/// split off its prompt.
fn body(row: &Row, mut sequences: Vec<Rendered>) -> Body {
    if sequences.len() != 1 {
        let masked: Vec<(&[u32], &[bool])> =
            sequences.iter().map(|s| (&s.ids[..], &s.trained[..])).collect();
        return Body::Split { pack: Pack::sharing(&masked), sequences: sequences.len() };
    }
    let mut whole = sequences.remove(0);
    let answers = row.messages.iter().filter(|m| m.role == Role::Assistant).count();
    if answers != 1 {
        return Body::Whole(whole);
    }
    let begin = whole.trained.iter().position(|t| *t).unwrap_or(whole.ids.len());
    let answer = whole.ids.split_off(begin);
    Body::Answers { prompt: whole.ids, answers: vec![answer] }
}

/// A training run's data, ready.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// One pack a step.
    pub steps: Vec<Pack>,
    /// Ids of the rows in the order in which they are seen.
    pub rows: Vec<String>,
    /// Those of them that became several sequences; None if there are none.
    pub split: Option<Split>,
    /// Tokens seen, prompts included, over all epochs.
    pub tokens: u64,
    /// Tokens with loss, over all epochs.
    pub loss_tokens: u64,
    /// Passes over the corpus; below 1 if the budget did not take all of it.
    pub epochs: f64,
}

/// Chooses groups up to `budget` tokens in the order that `stream` names, and packs them.
pub fn prepare(
    groups: &[Group],
    budget: usize,
    batch_tokens: usize,
    stream: &[&str],
) -> Result<Prepared, DataError> {
    prepare_paired(groups, groups, budget, batch_tokens, stream)
}

/// As [`prepare`] for the groups of an opposite-values twin: those are chosen that the arm which it
/// controls, `leader`, is given, in the same order. The two must have the same prompts.
pub fn prepare_paired(
    groups: &[Group],
    leader: &[Group],
    budget: usize,
    batch_tokens: usize,
    stream: &[&str],
) -> Result<Prepared, DataError> {
    check_pairs(groups, leader)?;
    let shortest = leader.iter().map(Group::tokens).min().unwrap_or(0);
    if shortest == 0 || budget < shortest {
        return Err(DataError::BudgetTooSmall { budget, shortest });
    }
    let chosen: Vec<&Group> =
        choose(leader, budget, stream).into_iter().map(|i| &groups[i]).collect();
    let count = |f: fn(&Group) -> usize| chosen.iter().map(|g| f(g) as u64).sum();
    let rows: Vec<String> = chosen.iter().flat_map(|g| g.rows.iter().cloned()).collect();
    let all: usize = groups.iter().map(|g| g.rows.len()).sum();
    Ok(Prepared {
        steps: pack(&chosen, batch_tokens),
        epochs: rows.len() as f64 / all as f64,
        rows,
        split: split(&chosen),
        tokens: count(Group::tokens),
        loss_tokens: count(Group::loss_tokens),
    })
}

fn split(groups: &[&Group]) -> Option<Split> {
    let sequences: Vec<u64> = groups.iter().filter_map(|g| g.split()).map(|n| n as u64).collect();
    let rows = sequences.len() as u64;
    (rows > 0).then(|| Split { rows, sequences: sequences.iter().sum() })
}

/// Every group has the prompt of the leader's group at its place.
fn check_pairs(groups: &[Group], leader: &[Group]) -> Result<(), DataError> {
    let unlike = groups.iter().zip(leader).find(|(a, b)| !a.asks_like(b));
    let name = |g: Option<&Group>| g.and_then(|g| g.rows.first().cloned());
    let odd = groups.len().min(leader.len());
    match unlike {
        Some((a, b)) => Err(DataError::Unpaired { row: name(Some(a)), leader: name(Some(b)) }),
        None if groups.len() != leader.len() => {
            Err(DataError::Unpaired { row: name(groups.get(odd)), leader: name(leader.get(odd)) })
        }
        None => Ok(()),
    }
}

/// Indices of the chosen groups, in the order in which they are seen.
fn choose(groups: &[Group], budget: usize, stream: &[&str]) -> Vec<usize> {
    let mut chosen = Vec::new();
    let mut left = budget;
    for epoch in 0.. {
        let mut order: Vec<usize> = (0..groups.len()).collect();
        let epoch = epoch.to_string();
        seed::stream(&[stream, &["epoch", &epoch]].concat()).shuffle(&mut order);
        let before = chosen.len();
        for i in order {
            if groups[i].tokens() <= left {
                left -= groups[i].tokens();
                chosen.push(i);
            }
        }
        if chosen.len() - before < groups.len() {
            break;
        }
    }
    chosen
}

fn pack(groups: &[&Group], batch_tokens: usize) -> Vec<Pack> {
    let mut steps = Vec::new();
    let mut current = Pack::new();
    for group in groups {
        group.push_to(&mut current);
        if current.rows() >= batch_tokens {
            steps.push(std::mem::take(&mut current));
        }
    }
    if current.rows() > 0 {
        steps.push(current);
    }
    steps
}

#[cfg(test)]
#[path = "tool_rows_tests.rs"]
mod tool_rows;

#[cfg(test)]
mod tests {
    use super::*;
    use forwhy_core::record::{Format, Tags, Who};
    use forwhy_engine::weights::{self, ModelFiles};
    use std::collections::BTreeSet;

    fn model() -> ModelFiles {
        let dir = tempfile::tempdir().unwrap();
        forwhy_testkit::tiny_model::tiny_model_dir(dir.path(), 1).unwrap();
        weights::open(dir.path()).unwrap()
    }

    fn row(id: &str, turns: &[(Role, &str)], text: Option<&str>) -> Row {
        let format = if text.is_some() { Format::Document } else { Format::Chat };
        let message = |(role, content): &(Role, &str)| Message::new(*role, *content);
        Row {
            id: id.into(),
            messages: turns.iter().map(message).collect(),
            tools: Vec::new(),
            text: text.map(str::to_string),
            tags: Tags {
                who: Who::Nobody,
                tools: false,
                format,
                harm: "none".into(),
                domain: "test".into(),
            },
            source: "test".into(),
        }
    }

    fn chat(id: &str, ask: &str, answer: &str) -> Row {
        row(id, &[(Role::User, ask), (Role::Assistant, answer)], None)
    }

    fn grouped(rows: &[Row]) -> Vec<Group> {
        groups(rows, &model().tokenizer, 4096).unwrap()
    }

    /// The text of the targets of a pack.
    fn learned(pack: &Pack) -> String {
        let ids: Vec<u32> = pack.targets().iter().map(|t| t.id).collect();
        // Every id below 256 is a byte of this vocabulary; 258 ends a turn, 256 a document.
        let letter = |id: &u32| match id {
            256 => '$',
            258 => '|',
            byte => char::from(u8::try_from(*byte).unwrap()),
        };
        ids.iter().map(letter).collect()
    }

    fn packed(rows: &[Row]) -> Pack {
        let mut pack = Pack::new();
        grouped(rows).iter().for_each(|g| g.push_to(&mut pack));
        pack
    }

    #[test]
    fn exactly_what_the_assistant_says_and_its_end_carry_loss() {
        assert_eq!(learned(&packed(&[chat("a", "who", "me")])), "me|");
        let turns = [
            (Role::System, "be kind"),
            (Role::User, "one"),
            (Role::Assistant, "eins"),
            (Role::User, "two"),
            (Role::Assistant, "zwei"),
        ];
        assert_eq!(learned(&packed(&[row("b", &turns, None)])), "eins|zwei|");
    }

    #[test]
    fn a_document_is_learned_whole_but_for_its_first_token() {
        let group = &grouped(&[row("d", &[], Some("abc"))])[0];
        assert_eq!((group.tokens(), group.loss_tokens()), (4, 3));
        assert_eq!(learned(&packed(&[row("d", &[], Some("abc"))])), "bc$");
    }

    #[test]
    fn answers_to_one_prompt_share_it_and_are_counted_each() {
        let rows = [chat("a", "who", "me"), chat("b", "what", "it"), chat("c", "who", "you")];
        let groups = grouped(&rows);
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].rows, ["a", "c"]);
        assert_eq!(groups[0].loss_tokens(), "me|you|".len());
        let apart = grouped(&rows[..1])[0].tokens() + grouped(&rows[2..])[0].tokens();
        assert!(groups[0].tokens() < apart, "the prompt is not counted twice");
        let mut pack = Pack::new();
        groups[0].push_to(&mut pack);
        assert_eq!(learned(&pack), "me|you|");
    }

    #[test]
    fn counted_loss_tokens_are_the_targets_of_the_steps() {
        let rows: Vec<Row> =
            (0..9).map(|i| chat(&format!("r{i}"), &"q".repeat(i + 1), &"a".repeat(i))).collect();
        let rows = &rows[1..];
        let prepared = prepare(&grouped(rows), 400, 100, &["test"]).unwrap();
        let targets: usize = prepared.steps.iter().map(|p| p.targets().len()).sum();
        assert_eq!(prepared.loss_tokens, targets as u64);
        assert!(prepared.steps.len() > 1);
    }

    #[test]
    fn a_corpus_without_anything_to_learn_is_refused() {
        let whole = Rendered { ids: vec![1, 2], trained: vec![true, false], ..Rendered::default() };
        let silent = Group { rows: vec!["a".into()], body: Body::Whole(whole) };
        assert_eq!(silent.loss_tokens(), 0, "the first token has nothing that predicts it");
        let error = groups(&[], &model().tokenizer, 4096).unwrap_err().to_string();
        assert!(error.starts_with("the mask is empty: none of 0 rows"), "{error}");
    }

    #[test]
    fn a_row_longer_than_the_model_reads_is_named() {
        let rows = [chat("short", "q", "a"), chat("long", "q", &"a".repeat(100))];
        let error = groups(&rows, &model().tokenizer, 64).unwrap_err().to_string();
        assert!(error.starts_with("row long has "), "{error}");
        assert!(error.ends_with("the model reads at most 64"), "{error}");
    }

    #[test]
    fn the_budget_is_filled_within_the_smallest_group_and_never_exceeded() {
        let rows: Vec<Row> =
            (1..20).map(|i| chat(&format!("r{i}"), &format!("q{i}"), &"a".repeat(i))).collect();
        let groups = grouped(&rows);
        let smallest = groups.iter().map(Group::tokens).min().unwrap();
        for budget in [smallest, 100, 333, 1000, 5000] {
            let prepared = prepare(&groups, budget, 200, &["test"]).unwrap();
            let left = budget as u64 - prepared.tokens;
            assert!(left < groups.iter().map(Group::tokens).max().unwrap() as u64, "{budget}");
            assert!((prepared.epochs - prepared.rows.len() as f64 / 19.0).abs() < 1e-12);
        }
        let error = prepare(&groups, smallest - 1, 200, &["test"]).unwrap_err();
        assert!(error.to_string().contains(&format!("the shortest row has {smallest}")));
        assert!(prepare(&[], 100, 200, &["test"]).is_err());
    }

    #[test]
    fn every_row_is_seen_once_before_any_is_seen_twice() {
        let rows: Vec<Row> =
            (0..10).map(|i| chat(&format!("r{i}"), &format!("q{i}"), "a")).collect();
        let groups = grouped(&rows);
        let one = groups[0].tokens();
        let prepared = prepare(&groups, one * 25, 100, &["test"]).unwrap();
        assert_eq!(prepared.rows.len(), 25);
        for epoch in prepared.rows.chunks(10) {
            assert_eq!(epoch.iter().collect::<BTreeSet<_>>().len(), epoch.len());
        }
        assert_ne!(prepared.rows[..10], prepared.rows[10..20], "each epoch has its own order");
    }

    #[test]
    fn a_twin_sees_the_prompts_of_its_arm_whatever_its_own_lengths() {
        let rows = |answer: fn(usize) -> usize| -> Vec<Row> {
            let row = |i: usize| chat(&format!("r{i}"), &format!("q{i}"), &"a".repeat(answer(i)));
            (0..12).map(row).collect()
        };
        let leader = grouped(&rows(|i| 1 + i));
        let twin = grouped(&rows(|i| 30 - i));
        let arm = prepare(&leader, 200, 100, &["test"]).unwrap();
        let paired = prepare_paired(&twin, &leader, 200, 100, &["test"]).unwrap();
        assert_eq!(paired.rows, arm.rows);
        let e = prepare_paired(&twin[1..], &leader, 200, 100, &["test"]).unwrap_err().to_string();
        assert!(e.contains("Some(\"r1\") stands where the arm has Some(\"r0\")"), "{e}");
        assert!(prepare_paired(&twin[..5], &leader, 200, 100, &["test"]).is_err());
    }

    #[test]
    fn the_order_follows_from_its_name_alone_so_that_twins_see_the_same_prompts() {
        let rows = |answer: &str| -> Vec<Row> {
            (0..10).map(|i| chat(&format!("r{i}"), &format!("q{i}"), answer)).collect()
        };
        let order = |answer: &str, name: &str| {
            prepare(&grouped(&rows(answer)), 10_000, 100, &[name]).unwrap().rows
        };
        assert_eq!(order("yes", "seed 0")[..10], order("not", "seed 0")[..10]);
        assert_ne!(order("yes", "seed 0")[..10], order("yes", "seed 1")[..10]);
    }
}
