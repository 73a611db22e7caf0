//! Sentencepiece's merges: its files give every piece a score and merge what makes the best piece,
//! `tokenizer.json` gives pairs in the order in which they are merged.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

/// How sentencepiece tokenizers write a space.
pub(super) const SPACE: &str = "\u{2581}";

/// The merges `left right` of scored pieces, in the order that transformers gives them. Pieces of
/// `whole` (control tokens, bytes, tokens that are never cut) are neither parts nor results.
pub(crate) fn merges_of(vocab: &[String], scores: &[f64], whole: &[u32]) -> Vec<String> {
    let whole: HashSet<u32> = whole.iter().copied().collect();
    let is_whole = |id: usize| whole.contains(&(id as u32));
    let ids: HashMap<&str, usize> =
        vocab.iter().enumerate().map(|(id, t)| (t.as_str(), id)).collect();
    let cut = |text: &str, at: usize| {
        let (left, right) = (ids.get(&text[..at])?, ids.get(&text[at..])?);
        Some((*left, *right)).filter(|(left, right)| !is_whole(*left) && !is_whole(*right))
    };
    let mut merges = Vec::new();
    for (id, text) in vocab.iter().enumerate().filter(|(id, _)| !is_whole(*id)) {
        let borders = text.char_indices().map(|(at, _)| at).skip(1);
        let mut pairs: Vec<_> = borders.filter_map(|at| cut(text, at)).collect();
        pairs.sort_unstable();
        merges.extend(pairs.into_iter().map(|pair| (scores[id], pair)));
    }
    let length = |id: usize| vocab[id].chars().count();
    let lengths = |(left, right): (usize, usize)| (length(left), length(right));
    // Stable: of equal ones the piece that comes first in the vocabulary stays first.
    merges.sort_by(|(a, one), (b, other)| {
        let order = b.partial_cmp(a).unwrap_or(Ordering::Equal);
        order.then_with(|| lengths(*other).cmp(&lengths(*one)))
    });
    merges.iter().map(|(_, (l, r))| format!("{} {}", vocab[*l], vocab[*r])).collect()
}

/// The normalizer that writes spaces, and one in front if there is a `prefix`.
pub(super) fn normalizer(prefix: bool) -> Value {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    match prefix {
        true => json!({"type": "Sequence",
                       "normalizers": [{"type": "Prepend", "prepend": SPACE}, replace]}),
        false => replace,
    }
}

/// What undoes [`normalizer`] and joins bytes to characters.
pub(super) fn decoder(prefix: bool) -> Value {
    let mut steps = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}
