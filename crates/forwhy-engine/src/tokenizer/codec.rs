//! Text to token ids and back with the `tokenizers` crate, for a text that may stand anywhere in a
//! longer one.
//!
//! 1. [`Codec::of`] reads `tokenizer.json`. Vocabulary and merges come without control tokens, so
//!    that no text becomes one; added tokens are looked for apart from them.
//! 2. What depends on the place of a text is taken out: sentencepiece tokenizers write a space in
//!    front of a text ([`Prefix`]), and in pieces of a chat that would be a space too many.
//! 3. [`Codec::encode`] splits at added tokens, puts the space where it stands if the whole chat is
//!    encoded at once, and merges. Flags of added tokens (`lstrip`, `rstrip`, `single_word`,
//!    `normalized`) act as in the crate, because it does the splitting.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokenizers::{
    AddedVocabulary, Decoder as _, Encoding, Model as _, NormalizedString, Normalizer,
    NormalizerWrapper, OffsetType, PreTokenizer as _, Tokenizer,
};

use super::control::Control;
use super::pieces::SPACE;
use super::{TokenizerError, bad};

/// Where a tokenizer writes a space that the text does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    /// Nowhere: byte-level tokenizers, and Metaspace with `never`.
    Never,
    /// In front of the text, unless it has one (Metaspace with `first`).
    First,
    /// In front of the text and behind each added token, unless there is one (Metaspace with
    /// `always`).
    Always,
    /// In front of the text and behind each added token that is not normalized, even where there is
    /// one (a normalizer that prepends: what transformers calls legacy).
    Legacy,
}

/// A tokenizer that knows where a text stands.
pub(super) struct Codec {
    /// Vocabulary, merges, steps and decoder; no added token, and no space in front.
    plain: Tokenizer,
    /// The normalizer as it stands in the file.
    normalizer: Option<NormalizerWrapper>,
    /// Finds the added tokens that are text.
    text_tokens: AddedVocabulary,
    /// Finds those and the control tokens.
    all_tokens: AddedVocabulary,
    prefix: Prefix,
    /// Added tokens behind which the space is written again.
    opening: BTreeSet<u32>,
}

/// A token, and where in the text it ends.
pub(super) struct Placed {
    pub(super) id: u32,
    /// Byte offset.
    pub(super) end: usize,
}

impl Codec {
    /// From the content of a `tokenizer.json`. `reserved` are control tokens that no unknown character
    /// may become.
    pub(super) fn of(
        json: &Value,
        control: &Control,
        reserved: &[&str],
    ) -> Result<Self, TokenizerError> {
        let prefix = prefix(json)?;
        let plain = parse(&plain_json(json, control, prefix, reserved))?;
        let normalizer = match prefix {
            Prefix::Legacy => Some(wrapped(&json["normalizer"])?),
            _ => plain.get_normalizer().cloned(),
        };
        let added = json["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
        let is_control = |token: &&Value| token["special"] == Value::Bool(true);
        let text: Vec<&Value> = added.iter().filter(|token| !is_control(token)).collect();
        // A character that is unknown becomes a token that no splitting found.
        let found = added.iter().filter(|token| token["content"] != json["model"]["unk_token"]);
        let ids = found.filter(|token| match prefix {
            Prefix::Never | Prefix::First => false,
            Prefix::Always => true,
            Prefix::Legacy => token["normalized"] != Value::Bool(true),
        });
        let opening = ids.filter_map(|token| Some(token["id"].as_u64()? as u32)).collect();
        let all = added_tokens(&added.iter().collect::<Vec<_>>(), &json["normalizer"], prefix)?;
        Ok(Codec {
            normalizer,
            text_tokens: added_tokens(&text, &json["normalizer"], prefix)?,
            all_tokens: all,
            plain,
            prefix,
            opening,
        })
    }

    /// Ids of a text behind the token `before`, or of a text of its own; control tokens in it are mere
    /// text.
    pub(super) fn encode(&self, text: &str, before: Option<u32>) -> Vec<u32> {
        let opens = self.opens(before);
        unfailing(self.merge(&self.text_tokens, text, None, opens)).get_ids().to_vec()
    }

    /// Tokens of a template's text behind the token `before`. Control tokens are found, but for those
    /// that `mark` breaks; the mark itself is no part of the text that is encoded.
    pub(super) fn encode_marked(&self, text: &str, mark: char, before: Option<u32>) -> Vec<Placed> {
        let opens = self.opens(before);
        let encoding = unfailing(self.merge(&self.all_tokens, text, Some(mark), opens));
        let placed = encoding.get_ids().iter().zip(encoding.get_offsets());
        placed.map(|(id, (_, end))| Placed { id: *id, end: *end }).collect()
    }

    /// The text of ids as Hugging Face decodes a text of its own: the space in front is taken off.
    pub(super) fn decode(&self, ids: &[u32]) -> String {
        let tokens: Vec<String> = ids.iter().filter_map(|id| self.token(*id)).collect();
        match self.plain.get_decoder() {
            // Decoding fails for no decoder that is accepted here.
            Some(decoder) => decoder.decode(tokens).unwrap_or_default(),
            None => tokens.concat(),
        }
    }

    /// The id of a token.
    pub(super) fn id(&self, token: &str) -> Option<u32> {
        let added = self.all_tokens.get_vocab().get(token).copied();
        added.or_else(|| self.plain.get_model().token_to_id(token))
    }

    /// The largest id.
    pub(super) fn largest(&self) -> Option<u32> {
        let added = self.all_tokens.get_vocab().values().copied();
        added.chain(self.plain.get_model().get_vocab().into_values()).max()
    }

    /// A token as it stands in the normalized text.
    pub(super) fn token(&self, id: u32) -> Option<String> {
        let Some(added) = self.all_tokens.get_added_tokens_decoder().get(&id) else {
            return self.plain.get_model().id_to_token(id);
        };
        // With a normalizer that prepends, such a token is found together with its space.
        let mut text = NormalizedString::from(added.content.as_str());
        if let Some(normalizer) = self.normalizer.as_ref().filter(|_| added.normalized) {
            normalizer.normalize(&mut text).ok()?;
        }
        Some(text.get().to_string())
    }

    /// Tokens behind which a text gets a space in front.
    pub(super) fn opening(&self) -> &BTreeSet<u32> {
        &self.opening
    }

    /// Whether a text behind `before` gets a space in front.
    fn opens(&self, before: Option<u32>) -> bool {
        before.is_none_or(|id| self.opening.contains(&id))
    }

    fn merge(
        &self,
        added: &AddedVocabulary,
        text: &str,
        mark: Option<char>,
        opens: bool,
    ) -> tokenizers::Result<Encoding> {
        let steps = Steps { codec: self, opens };
        let mut pieces = added.extract_and_normalize(Some(&steps), text);
        pieces.normalize(|piece| {
            if let Some(mark) = mark.filter(|mark| piece.get().contains(*mark)) {
                piece.replace(mark, "")?;
            }
            steps.put_space(piece)
        })?;
        if let Some(step) = self.plain.get_pre_tokenizer() {
            step.pre_tokenize(&mut pieces)?;
        }
        pieces.tokenize(|piece| self.plain.get_model().tokenize(piece.get()))?;
        let offsets = if mark.is_some() { OffsetType::Byte } else { OffsetType::None };
        pieces.into_encoding(None, 0, offsets)
    }
}

/// The steps in which the place of a text matters.
struct Steps<'a> {
    codec: &'a Codec,
    opens: bool,
}

impl Steps<'_> {
    fn is_first(piece: &NormalizedString) -> bool {
        piece.offsets_original().0 == 0
    }

    /// What Metaspace does before it splits.
    fn put_space(&self, piece: &mut NormalizedString) -> tokenizers::Result<()> {
        let due = match self.codec.prefix {
            Prefix::Never | Prefix::Legacy => false,
            Prefix::First => self.opens && Self::is_first(piece),
            Prefix::Always => self.opens || !Self::is_first(piece),
        };
        if due && !piece.is_empty() && !piece.get().starts_with([' ', '\u{2581}']) {
            piece.prepend(SPACE);
        }
        Ok(())
    }
}

/// The normalizer, but for the space in front of a text that continues another.
impl Normalizer for Steps<'_> {
    fn normalize(&self, piece: &mut NormalizedString) -> tokenizers::Result<()> {
        let continues = !self.opens && Self::is_first(piece);
        let bare = self.codec.plain.get_normalizer();
        let normalizer = if continues { bare } else { self.codec.normalizer.as_ref() };
        normalizer.map_or(Ok(()), |normalizer| normalizer.normalize(piece))
    }
}

fn unfailing(encoding: tokenizers::Result<Encoding>) -> Encoding {
    // BPE fails only on an unknown token that is not in its vocabulary, which `plain_json` excludes.
    encoding.unwrap_or_else(|error| unreachable!("BPE refused a text: {error}"))
}

fn parse(json: &Value) -> Result<Tokenizer, TokenizerError> {
    json.to_string().parse().map_err(|e| bad(format!("tokenizer.json cannot be read: {e}")))
}

fn wrapped(normalizer: &Value) -> Result<NormalizerWrapper, TokenizerError> {
    serde_json::from_value(normalizer.clone())
        .map_err(|e| bad(format!("normalizer {normalizer} cannot be read: {e}")))
}

/// The tokenizer without its added tokens, and without anything that it would add.
fn plain_json(json: &Value, control: &Control, prefix: Prefix, reserved: &[&str]) -> Value {
    let mut plain = json.clone();
    for unused in ["added_tokens", "post_processor", "truncation", "padding"] {
        plain[unused] = Value::Null;
    }
    plain["added_tokens"] = json!([]);
    match prefix {
        Prefix::Never => {}
        Prefix::Legacy => {
            let steps = steps(&json["normalizer"], "normalizers");
            let kept: Vec<_> = steps.iter().filter(|step| step["type"] != "Prepend").collect();
            plain["normalizer"] = json!({"type": "Sequence", "normalizers": kept});
        }
        Prefix::First | Prefix::Always => {
            let split = json["pre_tokenizer"]["split"] != Value::Bool(false);
            plain["pre_tokenizer"] = json!({"type": "Metaspace", "replacement": SPACE,
                                            "prepend_scheme": "never", "split": split});
        }
    }
    let model = &mut plain["model"];
    // Random merges are for training a tokenizer away from habits; here equal texts get equal ids.
    model["dropout"] = Value::Null;
    // An unknown byte must not become a token that steers (content could smuggle one in), and BPE
    // fails on one if the token for it is not in the vocabulary.
    let unknown = model["unk_token"].as_str().map(str::to_string);
    let unknown =
        unknown.filter(|t| model["vocab"].get(t).is_some() && !reserved.contains(&t.as_str()));
    if let Some(vocab) = model["vocab"].as_object_mut() {
        let kept = |text: &str| unknown.as_deref() == Some(text);
        vocab.retain(|text, _| kept(text) || !control.by_text.contains_key(text));
    }
    model["unk_token"] = json!(unknown);
    plain
}

/// Finds added tokens, with the ids that the file gives them.
fn added_tokens(
    tokens: &[&Value],
    normalizer: &Value,
    prefix: Prefix,
) -> Result<AddedVocabulary, TokenizerError> {
    let mut vocab = serde_json::Map::new();
    let mut added = Vec::new();
    for token in tokens {
        vocab.insert(token["content"].as_str().unwrap_or_default().into(), token["id"].clone());
        let mut token = (*token).clone();
        // A control token is looked for in the text as it is: content could be normalized to one.
        // Prepending a space is the one step that some files count on.
        if token["special"] == Value::Bool(true) && prefix != Prefix::Legacy {
            token["normalized"] = false.into();
        }
        added.push(token);
    }
    let finder = parse(&json!({
        "version": "1.0", "added_tokens": added, "normalizer": normalizer,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }))?;
    Ok(finder.get_added_vocabulary().clone())
}

/// Where the tokenizer writes a space; an error names what is not supported.
fn prefix(json: &Value) -> Result<Prefix, TokenizerError> {
    if json["model"]["type"] != "BPE" {
        let kind = &json["model"]["type"];
        return Err(bad(format!("model type {kind}; only \"BPE\" is supported")));
    }
    let cut = &json["pre_tokenizer"];
    if is_byte_level(cut) {
        return Ok(Prefix::Never);
    }
    let normalizers = steps(&json["normalizer"], "normalizers");
    let has = |kind: &str| normalizers.iter().any(|step| step["type"] == kind);
    let is_metaspace = cut["type"] == "Metaspace" && cut["replacement"] == SPACE;
    let scheme = cut["prepend_scheme"].as_str().unwrap_or("always");
    let prefix = match (cut.is_null(), is_metaspace, has("Prepend")) {
        (true, _, true) if has("Replace") => Prefix::Legacy,
        (true, _, false) if has("Replace") => Prefix::Never,
        (_, true, false) if scheme == "never" => Prefix::Never,
        (_, true, false) if scheme == "first" => Prefix::First,
        (_, true, false) if scheme == "always" => Prefix::Always,
        _ => {
            let what = "byte-level BPE without a prefixed space is supported, and that of \
                        sentencepiece (Metaspace with \"\u{2581}\", or a normalizer that writes it)";
            let normalizer = &json["normalizer"];
            return Err(bad(format!("pre-tokenizer {cut} with normalizer {normalizer}; {what}")));
        }
    };
    if let Some(step) = normalizers.iter().find(|step| !writes_space(step)) {
        return Err(bad(format!("normalizer {step} without byte-level BPE is not supported")));
    }
    check_decoder(&json["decoder"]).map(|()| prefix)
}

/// Whether text becomes byte-level symbols and gets nothing in front.
fn is_byte_level(pre_tokenizer: &Value) -> bool {
    let steps = steps(pre_tokenizer, "pretokenizers");
    let plain = |step: &Value| step["add_prefix_space"] != Value::Bool(true);
    steps.iter().any(|step| step["type"] == "ByteLevel") && steps.iter().all(plain)
}

fn steps<'a>(value: &'a Value, sequence: &str) -> &'a [Value] {
    match value {
        Value::Null => &[],
        one => one[sequence].as_array().map_or(std::slice::from_ref(one), Vec::as_slice),
    }
}

fn writes_space(normalizer: &Value) -> bool {
    let spaces = normalizer["pattern"]["String"] == " " && normalizer["content"] == SPACE;
    match normalizer["type"].as_str() {
        Some("Prepend") => normalizer["prepend"] == SPACE,
        Some("Replace") => spaces,
        _ => false,
    }
}

/// Only decoders that give a token the text that it has for [`crate::spelling::Spelling`].
fn check_decoder(decoder: &Value) -> Result<(), TokenizerError> {
    let known = |step: &Value| match step["type"].as_str() {
        Some("Metaspace") => step["replacement"] == SPACE,
        Some("Replace") => step["pattern"]["String"] == SPACE && step["content"] == " ",
        Some("Strip") => step["content"] == " ",
        Some("ByteFallback" | "Fuse") => true,
        _ => false,
    };
    let steps = steps(decoder, "decoders");
    let writes_space =
        |step: &Value| matches!(step["type"].as_str(), Some("Metaspace" | "Replace"));
    match steps.iter().all(known) && steps.iter().any(writes_space) {
        true => Ok(()),
        false => Err(bad(format!("decoder {decoder} without byte-level BPE is not supported"))),
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
