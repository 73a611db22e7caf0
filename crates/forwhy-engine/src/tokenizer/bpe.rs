//! BPE tokenizers in parts, as GGUF files hold them, made into a `tokenizer.json`.

use serde_json::{Value, json};

use super::pieces;
use super::{TokenizerError, bad};

/// A BPE tokenizer in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpeParts {
    /// Token texts, in order of their ids.
    pub vocab: Vec<String>,
    /// Merge rules `left right`, first first.
    pub merges: Vec<String>,
    /// How text is cut before merging.
    pub pre: PreTokenizer,
    /// Ids of control tokens.
    pub control: Vec<u32>,
    /// Ids of tokens that are never cut, but are text all the same (`<tool_call>`).
    pub whole: Vec<u32>,
    /// Id that ends a turn.
    pub end_of_turn: u32,
    /// Id that fills up a batch.
    pub pad: u32,
    /// Id that begins a text, if the model has one.
    pub begin: Option<u32>,
    /// Id that stands for what the vocabulary lacks, if there is one.
    pub unknown: Option<u32>,
    /// The chat template, Jinja.
    pub template: String,
}

/// How text is cut into pieces within which tokens are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreTokenizer {
    /// GPT-2's rule, and digits one by one.
    SmolLm,
    /// Up to three digits together; a piece that is a token is not cut further.
    Llama3,
    /// Digits one by one; text is brought to Unicode's composed form (NFC) first.
    Qwen2,
    /// Sentencepiece's: not at all. Spaces are written as U+2581, and what the vocabulary lacks as
    /// bytes.
    Pieces {
        /// Whether a text gets a space in front.
        prefix: bool,
    },
}

impl PreTokenizer {
    /// `pre_tokenizer` in `tokenizer.json`.
    fn pre_tokenizer(self) -> Value {
        let digits = match self {
            PreTokenizer::Pieces { .. } => return Value::Null,
            PreTokenizer::SmolLm => {
                let digits = json!({"type": "Digits", "individual_digits": true});
                return sequence([digits, byte_level(true)]);
            }
            PreTokenizer::Llama3 => r"\p{N}{1,3}",
            PreTokenizer::Qwen2 => r"\p{N}",
        };
        let pattern = [
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|",
            digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ];
        let split = json!({"type": "Split", "pattern": {"Regex": pattern.concat()},
                           "behavior": "Isolated", "invert": false});
        sequence([split, byte_level(false)])
    }

    fn normalizer(self) -> Value {
        match self {
            PreTokenizer::Pieces { prefix } => pieces::normalizer(prefix),
            PreTokenizer::Qwen2 => json!({"type": "NFC"}),
            PreTokenizer::SmolLm | PreTokenizer::Llama3 => Value::Null,
        }
    }

    fn decoder(self) -> Value {
        match self {
            PreTokenizer::Pieces { prefix } => pieces::decoder(prefix),
            _ => byte_level(true),
        }
    }
}

fn sequence(steps: [Value; 2]) -> Value {
    json!({"type": "Sequence", "pretokenizers": steps})
}

fn byte_level(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

/// A complete `tokenizer.json`. The ids of `control`, `whole` and `unknown` are in the
/// vocabulary.
pub(super) fn to_json(parts: &BpeParts) -> Result<Value, TokenizerError> {
    let mut vocab = serde_json::Map::new();
    for (id, token) in parts.vocab.iter().enumerate() {
        if vocab.insert(token.clone(), id.into()).is_some() {
            return Err(bad(format!("token {token:?} occurs twice in the vocabulary")));
        }
    }
    let merges = parts.merges.iter().map(|merge| {
        let pair = merge.split_once(' ').filter(|(_, right)| !right.contains(' '));
        pair.map(|(left, right)| json!([left, right]))
            .ok_or_else(|| bad(format!("merge {merge:?} is not two tokens with one space between")))
    });
    let merges = merges.collect::<Result<Vec<_>, _>>()?;
    let added = |ids: &[u32], special: bool| {
        let token = |id: &u32| {
            json!({"id": id, "content": parts.vocab[*id as usize], "single_word": false,
                   "lstrip": false, "rstrip": false, "normalized": false, "special": special})
        };
        ids.iter().map(token).collect::<Vec<_>>()
    };
    let added = [added(&parts.control, true), added(&parts.whole, false)].concat();
    let pieces = matches!(parts.pre, PreTokenizer::Pieces { .. });
    let unknown = parts.unknown.map(|id| &parts.vocab[id as usize]);
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added,
        "normalizer": parts.pre.normalizer(),
        "pre_tokenizer": parts.pre.pre_tokenizer(),
        "post_processor": if pieces { Value::Null } else { byte_level(true) },
        "decoder": parts.pre.decoder(),
        "model": {"type": "BPE", "dropout": null, "unk_token": unknown,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": pieces, "byte_fallback": pieces,
                  "ignore_merges": parts.pre == PreTokenizer::Llama3,
                  "vocab": vocab, "merges": merges},
    }))
}
