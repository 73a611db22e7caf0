//! Text to token ids and back, and chats to ids with a mask of what the model has to produce.
//!
//! 1. Every tokenizer is a `tokenizer.json` (the format of the `tokenizers` crate): read from a
//!    directory, or composed from the vocabulary and merges of a GGUF file. So both take one path and
//!    can be exported.
//! 2. Control tokens (`<|im_end|>`) are taken out of it. They come only from the chat template, never
//!    from content: a message that contains the text `<|im_end|>` is encoded as plain text.
//! 3. [`ChatTokenizer::chat`] renders with the model's template, cuts where an assistant's content
//!    begins, splits at control tokens, and encodes what lies between.
//!
//! The cut makes a supervised example and a generation prompt agree: the ids of a chat begin with
//! the ids of the prompt for its last turn. Hugging Face's `apply_chat_template` gives the same ids
//! unless a token would span the cut (an answer that begins with white space, in some vocabularies).

mod bpe;
mod sequences;

use std::collections::BTreeMap;

use forwhy_core::chat::Message;
use forwhy_core::tool::ToolDefinition;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

pub use self::bpe::{BpeParts, PreTokenizer};
pub use self::sequences::SequenceError;
use crate::render::{RenderError, Template, Turns};

/// A tokenizer with the chat template of its model.
pub struct ChatTokenizer {
    plain: Tokenizer,
    /// Complete, as it would stand in `tokenizer.json`.
    json: Value,
    control: Control,
    template: Template,
    end_of_turn: u32,
    end_of_text: u32,
    pad: u32,
    begin: Option<String>,
    vocab_size: usize,
}

/// A chat or document as ids. `trained[i]`: the model would have to produce `ids[i]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Token ids.
    pub ids: Vec<u32>,
    /// As long as `ids`: content and end-of-turn token of the assistant's turns, nothing else.
    pub trained: Vec<bool>,
}

/// What `tokenizer.json` does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatParts {
    /// The chat template, Jinja.
    pub template: String,
    /// Text of the token that ends a turn.
    pub end_of_turn: String,
    /// Text of the padding token.
    pub pad: Option<String>,
    /// Text of the token that begins a text, if the model has one.
    pub begin: Option<String>,
}

/// Why a tokenizer cannot be used, or a chat not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// Its files contradict themselves or need something unsupported.
    #[error("{0}")]
    Bad(String),
    /// The template does not compile or refuses the chat.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The chat as rendered with this assistant turn does not begin with its own prompt.
    #[error(
        "the chat template writes turn {turn} differently as a prompt and as a part of a longer \
         chat, so nothing can be trained or scored with it"
    )]
    NotPrefix {
        /// Which message, counted from 1.
        turn: usize,
    },
    /// The template writes no end-of-turn token after an assistant turn.
    #[error("the chat template does not end turn {turn} with {token:?}, so its end is not learned")]
    NoEnd {
        /// Which message, counted from 1.
        turn: usize,
        /// The end-of-turn token.
        token: String,
    },
}

fn bad(why: impl Into<String>) -> TokenizerError {
    TokenizerError::Bad(why.into())
}

impl ChatTokenizer {
    /// From a vocabulary with merges.
    pub fn from_bpe(parts: BpeParts) -> Result<Self, TokenizerError> {
        let text = |id: u32| {
            let known = parts.vocab.get(id as usize).cloned();
            known.ok_or_else(|| bad(format!("token id {id} is not in the vocabulary")))
        };
        let chat = ChatParts {
            template: parts.template.clone(),
            end_of_turn: text(parts.end_of_turn)?,
            pad: Some(text(parts.pad)?),
            begin: parts.begin.map(text).transpose()?,
        };
        for id in parts.control.iter().chain(&parts.whole) {
            text(*id)?;
        }
        Self::from_json(bpe::to_json(&parts)?, chat)
    }

    /// From the content of a `tokenizer.json`.
    pub fn from_json(json: Value, chat: ChatParts) -> Result<Self, TokenizerError> {
        let control = Control::of(&json)?;
        let plain = plain_tokenizer(&json, &control)?;
        let id = |text: &str| {
            let found = control.by_text.get(text).copied().or_else(|| plain.token_to_id(text));
            found.ok_or_else(|| bad(format!("its token {text:?} is not in the vocabulary")))
        };
        let end_of_turn = id(&chat.end_of_turn)?;
        let pad = chat.pad.as_deref().map_or(Ok(end_of_turn), id)?;
        if !control.by_text.contains_key(&chat.end_of_turn) {
            return Err(bad(format!("{:?} is not a control token", chat.end_of_turn)));
        }
        let begin = chat.begin.as_deref().unwrap_or_default();
        let template = Template::new(&chat.template, begin, &chat.end_of_turn)?;
        let largest = control.by_id.keys().copied().chain(plain.get_vocab(true).into_values());
        let vocab_size = largest.max().map_or(0, |id| id as usize + 1);
        let end_of_text = control.end_of_text().unwrap_or(end_of_turn);
        Ok(ChatTokenizer {
            plain,
            json,
            control,
            template,
            end_of_turn,
            end_of_text,
            pad,
            begin: chat.begin,
            vocab_size,
        })
    }

    /// Ids of plain text: no token added, and control tokens in it are mere text. Bytes that the
    /// vocabulary lacks (SmolLM2: some control characters) are left out, as Hugging Face does.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        match self.plain.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().to_vec(),
            // The models accepted in `plain_tokenizer` (BPE) have no case that fails.
            Err(error) => unreachable!("BPE refused a text: {error}"),
        }
    }

    /// The text of ids; control tokens as their text, ids outside the vocabulary left out, broken
    /// UTF-8 as U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut text = String::new();
        let mut rest = ids;
        while !rest.is_empty() {
            let known = |id: &u32| self.control.by_id.contains_key(id);
            let plain = rest.iter().position(known).unwrap_or(rest.len());
            // Decoding fails for no BPE decoder; what it cannot say is left out.
            text.push_str(&self.plain.decode(&rest[..plain], false).unwrap_or_default());
            if let Some(token) = rest.get(plain).and_then(|id| self.control.by_id.get(id)) {
                text.push_str(token);
            }
            rest = rest.get(plain + 1..).unwrap_or_default();
        }
        text
    }

    /// Id that ends a turn.
    pub fn end_of_turn(&self) -> u32 {
        self.end_of_turn
    }

    /// Id that ends a document; the same as the end of a turn, if the model has no other.
    pub fn end_of_text(&self) -> u32 {
        self.end_of_text
    }

    /// Id that fills up a batch.
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// Text of the token that begins a text, if the model has one.
    pub fn begin(&self) -> Option<&str> {
        self.begin.as_deref()
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The content of a `tokenizer.json` for this tokenizer.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The chat template's source.
    pub fn template(&self) -> &str {
        self.template.source()
    }

    /// The text of a control token.
    pub fn control_text(&self, id: u32) -> Option<&str> {
        self.control.by_id.get(&id).map(String::as_str)
    }

    /// A chat in which `tools` may be called, as the template's text, exactly as transformers renders
    /// it.
    pub fn chat_text(
        &self,
        messages: &[Message],
        tools: &[ToolDefinition],
        add_generation_prompt: bool,
    ) -> Result<String, TokenizerError> {
        Ok(self.template.render(&Turns::new(messages, tools), add_generation_prompt)?)
    }

    /// A chat in which `tools` may be called, as ids, with the opening of an assistant turn at its end
    /// if asked for.
    ///
    /// Some templates write a turn differently once others follow (Qwen3 takes out its thinking). In
    /// a prompt such a turn is read as the template has it and is no target; a chat without the
    /// opening at its end is refused, because nobody can say what would be trained.
    pub fn chat(
        &self,
        messages: &[Message],
        tools: &[ToolDefinition],
        add_generation_prompt: bool,
    ) -> Result<Rendered, TokenizerError> {
        let turns = Turns::new(messages, tools);
        let mark = unused_char(&turns, self.template.source());
        let marked = turns.map_texts(&|text| self.control.mark(text, mark));
        let text = self.template.render(&marked, add_generation_prompt)?;
        let mut rendered = Rendered { ids: Vec::new(), trained: Vec::new() };
        let (mut from, mut turn) = (0, None);
        for index in marked.assistant() {
            let prompt = self.template.render(&marked.first(index), true)?;
            let with_turn = self.template.render(&marked.first(index + 1), false)?;
            let stable = with_turn.starts_with(&prompt) && text.starts_with(&with_turn);
            if stable && prompt.len() >= from {
                self.push_piece(&text[from..prompt.len()], mark, turn, &mut rendered)?;
                (from, turn) = (prompt.len(), Some(index + 1));
            } else if !add_generation_prompt {
                return Err(TokenizerError::NotPrefix { turn: index + 1 });
            }
        }
        self.push_piece(&text[from..], mark, turn, &mut rendered)?;
        Ok(rendered)
    }

    /// A document as ids: all trained, ended by the end-of-text token.
    pub fn document(&self, text: &str) -> Rendered {
        let mut ids = self.encode(text);
        ids.push(self.end_of_text);
        Rendered { trained: vec![true; ids.len()], ids }
    }

    /// Encodes template text between two cuts. If it begins with the content of an assistant's
    /// `turn`, everything to the first end-of-turn token is trained.
    fn push_piece(
        &self,
        text: &str,
        mark: char,
        turn: Option<usize>,
        out: &mut Rendered,
    ) -> Result<(), TokenizerError> {
        let begin = out.ids.len();
        for part in self.control.split(text) {
            match part {
                Part::Control(id) => out.ids.push(id),
                Part::Plain(text) => out.ids.extend(self.encode(&text.replace(mark, ""))),
            }
        }
        out.trained.resize(out.ids.len(), false);
        let Some(turn) = turn else { return Ok(()) };
        let Some(end) = out.ids[begin..].iter().position(|id| *id == self.end_of_turn) else {
            let token = self.decode(&[self.end_of_turn]);
            return Err(TokenizerError::NoEnd { turn, token });
        };
        out.trained[begin..=begin + end].fill(true);
        Ok(())
    }
}

/// A character that occurs neither in the chat nor in the template; a Unicode non-character, unless
/// somebody uses all of them.
fn unused_char(turns: &Turns, template: &str) -> char {
    let used = |c: char| template.contains(c) || turns.contains(c);
    let candidates = ('\u{fdd0}'..='\u{fdef}').chain('\u{e000}'..=char::MAX);
    // The range is larger than any chat that fits into a model.
    candidates.into_iter().find(|c| !used(*c)).unwrap_or('\u{fdd0}')
}

/// The control tokens of a tokenizer.
struct Control {
    by_text: BTreeMap<String, u32>,
    by_id: BTreeMap<u32, String>,
}

enum Part<'a> {
    Control(u32),
    Plain(&'a str),
}

impl Control {
    /// The special ones among the `added_tokens`.
    fn of(json: &Value) -> Result<Self, TokenizerError> {
        let mut control = Control { by_text: BTreeMap::new(), by_id: BTreeMap::new() };
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            let flag = |name: &str| token[name] == Value::Bool(true);
            if !flag("special") {
                continue;
            }
            let id = token["id"].as_u64().and_then(|id| u32::try_from(id).ok());
            let (Some(id), Some(text)) = (id, token["content"].as_str()) else {
                return Err(bad(format!("an added token without id or content: {token}")));
            };
            if text.is_empty() || flag("lstrip") || flag("rstrip") || flag("single_word") {
                let what = "empty, or with lstrip, rstrip or single_word, which is not supported";
                return Err(bad(format!("control token {text:?} is {what}")));
            }
            control.by_text.insert(text.into(), id);
            control.by_id.insert(id, text.into());
        }
        Ok(control)
    }

    fn end_of_text(&self) -> Option<u32> {
        let names = ["<|endoftext|>", "<|end_of_text|>", "</s>"];
        names.iter().find_map(|name| self.by_text.get(*name).copied())
    }

    /// The first control token in `text`: where, and which; the longest of several at one place.
    fn first<'a>(&'a self, text: &str) -> Option<(usize, &'a str, u32)> {
        let found =
            self.by_text.iter().filter_map(|(t, id)| Some((text.find(t)?, t.as_str(), *id)));
        found.min_by_key(|(at, token, _)| (*at, std::cmp::Reverse(token.len())))
    }

    fn split<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Part<'a>> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((at, token, id)) = self.first(rest) {
            parts.push(Part::Plain(&rest[..at]));
            parts.push(Part::Control(id));
            rest = &rest[at + token.len()..];
        }
        parts.push(Part::Plain(rest));
        parts.into_iter().filter(|p| !matches!(p, Part::Plain("")))
    }

    /// Breaks every control token's text in a content with `mark`, behind its first character.
    fn mark(&self, text: &str, mark: char) -> String {
        let (mut content, mut rest) = (String::new(), text);
        while let Some((at, token, _)) = self.first(rest) {
            let border = at + token.chars().next().map_or(0, char::len_utf8);
            content.push_str(&rest[..border]);
            content.push(mark);
            rest = &rest[border..];
        }
        content + rest
    }
}

/// The tokenizer without its control tokens, and without anything that it would add.
fn plain_tokenizer(json: &Value, control: &Control) -> Result<Tokenizer, TokenizerError> {
    if json["model"]["type"] != "BPE" {
        let kind = &json["model"]["type"];
        return Err(bad(format!("model type {kind}; only \"BPE\" is supported")));
    }
    // A tokenizer that marks the begin of a text (sentencepiece) would mark every piece of a chat.
    if !is_byte_level(&json["pre_tokenizer"]) {
        let what = "only byte-level BPE without a prefixed space is supported";
        return Err(bad(format!("pre-tokenizer {}; {what}", json["pre_tokenizer"])));
    }
    let mut plain = json.clone();
    let kept = json["added_tokens"].as_array().into_iter().flatten();
    let kept: Vec<&Value> = kept.filter(|t| t["special"] != Value::Bool(true)).collect();
    plain["added_tokens"] = json!(kept);
    for unused in ["post_processor", "truncation", "padding"] {
        plain[unused] = Value::Null;
    }
    let model = &mut plain["model"];
    // Random merges are for training a tokenizer away from habits; here equal texts get equal ids.
    model["dropout"] = Value::Null;
    if let Some(vocab) = model["vocab"].as_object_mut() {
        vocab.retain(|text, _| !control.by_text.contains_key(text));
    }
    // An unknown byte must not become a control token (content could smuggle one in), and BPE fails
    // on one if the token for it is not in the vocabulary.
    let known = |t: &str| model["vocab"].get(t).is_some();
    if !model["unk_token"].as_str().is_some_and(known) {
        model["unk_token"] = Value::Null;
    }
    let text = plain.to_string();
    text.parse().map_err(|e| bad(format!("tokenizer.json cannot be read: {e}")))
}

/// Whether text becomes byte-level symbols and gets nothing in front.
fn is_byte_level(pre_tokenizer: &Value) -> bool {
    let steps = pre_tokenizer["pretokenizers"].as_array();
    let steps = steps.map_or(std::slice::from_ref(pre_tokenizer), Vec::as_slice);
    let plain = |step: &Value| step["add_prefix_space"] != Value::Bool(true);
    steps.iter().any(|step| step["type"] == "ByteLevel") && steps.iter().all(plain)
}

#[cfg(test)]
#[path = "tokenizer_tests.rs"]
mod tests;
