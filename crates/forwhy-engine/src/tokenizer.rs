//! Text to token ids and back, and chats to ids with a mask of what the model has to produce.
//!
//! 1. Every tokenizer is a `tokenizer.json` (the format of the `tokenizers` crate): read from a
//!    directory, or composed from the vocabulary and merges of a GGUF file. So both take one path and
//!    can be exported.
//! 2. Control tokens (`<|im_end|>`) come only from the chat template, never from content: a message
//!    that contains the text `<|im_end|>` is encoded as plain text.
//! 3. [`ChatTokenizer::chat`] renders with the model's template, cuts where an assistant's content
//!    begins, and encodes each piece as it stands behind the one before it.
//!
//! The cut makes a supervised example and a generation prompt agree: the ids of a chat begin with
//! the ids of the prompt for its last turn. Hugging Face's `apply_chat_template` gives the same ids
//! unless a token would span the cut (an answer that begins with white space, in some vocabularies).

mod bpe;
mod codec;
mod control;
mod pieces;
mod sequences;

use std::collections::BTreeSet;
use std::ops::Range;

use forwhy_core::chat::Message;
use forwhy_core::tool::ToolDefinition;
use serde_json::Value;

pub use self::bpe::{BpeParts, PreTokenizer};
use self::codec::Codec;
use self::control::Control;
pub(crate) use self::pieces::merges_of;
pub use self::sequences::SequenceError;
use crate::render::{RenderError, Template, Turns};

/// A tokenizer with the chat template of its model.
pub struct ChatTokenizer {
    codec: Codec,
    /// Complete, as it would stand in `tokenizer.json`.
    json: Value,
    control: Control,
    template: Template,
    end_of_turn: u32,
    end_of_text: u32,
    pad: u32,
    begin: Option<String>,
    /// See [`ChatTokenizer::blanks`].
    blanks: (String, String),
    vocab_size: usize,
}

/// A chat or document as ids. `trained[i]`: the model would have to produce `ids[i]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// Token ids.
    pub ids: Vec<u32>,
    /// As long as `ids`: content and end-of-turn token of the assistant's turns, nothing else.
    pub trained: Vec<bool>,
    /// The text that was encoded, control tokens included.
    pub text: String,
    /// As long as `ids`: where in the text each token ends. A character that several tokens spell
    /// belongs to the first of them.
    pub ends: Vec<usize>,
}

impl Rendered {
    /// The text of some of the tokens. Neighbouring ranges join to the exact text.
    pub fn text_of(&self, range: Range<usize>) -> &str {
        let end = |tokens: usize| tokens.checked_sub(1).map_or(0, |last| self.ends[last]);
        &self.text[end(range.start)..end(range.end)]
    }

    /// Keeps the first `tokens`.
    pub fn truncate(&mut self, tokens: usize) {
        self.ids.truncate(tokens);
        self.trained.truncate(tokens);
        self.ends.truncate(tokens);
        self.text.truncate(self.ends.last().copied().unwrap_or(0));
    }
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
        for id in parts.control.iter().chain(&parts.whole).chain(&parts.unknown) {
            text(*id)?;
        }
        Self::from_json(bpe::to_json(&parts)?, chat)
    }

    /// From the content of a `tokenizer.json`.
    pub fn from_json(json: Value, chat: ChatParts) -> Result<Self, TokenizerError> {
        let control = Control::of(&json)?;
        let end_of_text = control.end_of_text();
        let ends = end_of_text.and_then(|id| control.by_id.get(&id)).map(String::as_str);
        let steering = [Some(chat.end_of_turn.as_str()), chat.begin.as_deref(), ends];
        let codec = Codec::of(&json, &control, &steering.map(Option::unwrap_or_default))?;
        let id = |text: &str| {
            let found = codec.id(text);
            found.ok_or_else(|| bad(format!("its token {text:?} is not in the vocabulary")))
        };
        let end_of_turn = id(&chat.end_of_turn)?;
        let pad = chat.pad.as_deref().map_or(Ok(end_of_turn), id)?;
        if !control.by_text.contains_key(&chat.end_of_turn) {
            return Err(bad(format!("{:?} is not a control token", chat.end_of_turn)));
        }
        let begin = chat.begin.as_deref().unwrap_or_default();
        let template = Template::new(&chat.template, begin, &chat.end_of_turn)?;
        let blanks = blanks(&template, &chat.end_of_turn).unwrap_or_default();
        let vocab_size = codec.largest().map_or(0, |id| id as usize + 1);
        let end_of_text = end_of_text.unwrap_or(end_of_turn);
        Ok(ChatTokenizer {
            codec,
            json,
            control,
            template,
            end_of_turn,
            end_of_text,
            pad,
            begin: chat.begin,
            blanks,
            vocab_size,
        })
    }

    /// Ids of a plain text of its own: no token added, and control tokens in it are mere text. Bytes
    /// that the vocabulary lacks (SmolLM2: some control characters) are left out, as Hugging Face does.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.codec.encode(text, None)
    }

    /// Ids of plain text that continues what `before` ends with: it gets no space in front that the
    /// text does not have, where [`ChatTokenizer::encode`] gives one (sentencepiece).
    pub fn encode_behind(&self, before: &[u32], text: &str) -> Vec<u32> {
        self.codec.encode(text, before.last().copied())
    }

    /// The text of ids as Hugging Face decodes them: as a text of its own, from which sentencepiece
    /// tokenizers take a space in front; control tokens as their text, ids outside the vocabulary
    /// left out, broken UTF-8 as U+FFFD. A reply continues a prompt: [`crate::spelling`].
    pub fn decode(&self, ids: &[u32]) -> String {
        self.codec.decode(ids)
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

    /// White space that the template writes before and behind an answer (Llama 2: a space each), and
    /// that the model therefore writes. None of a template that writes more than that (thinking).
    pub fn blanks(&self) -> (&str, &str) {
        (&self.blanks.0, &self.blanks.1)
    }

    /// Text of the token that begins a text, if the model has one.
    pub fn begin(&self) -> Option<&str> {
        self.begin.as_deref()
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// A token as it stands in the normalized text.
    pub(crate) fn token(&self, id: u32) -> Option<String> {
        self.codec.token(id)
    }

    /// Tokens behind which a space is written that the text does not have.
    pub(crate) fn opening(&self) -> &BTreeSet<u32> {
        self.codec.opening()
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
        let mark = self.unused_char(&turns);
        let marked = turns.map_texts(&|text| self.control.mark(text, mark));
        let text = self.template.render(&marked, add_generation_prompt)?;
        let mut rendered = Rendered::default();
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
        let mut document = Rendered::default();
        let mark = unused_in(|c| text.contains(c));
        self.push_text(&self.control.mark(text, mark), mark, &mut document);
        document.ids.push(self.end_of_text);
        document.text.push_str(self.control_text(self.end_of_text).unwrap_or_default());
        document.ends.push(document.text.len());
        document.trained.resize(document.ids.len(), true);
        document
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
        self.push_text(text, mark, out);
        out.trained.resize(out.ids.len(), false);
        let Some(turn) = turn else { return Ok(()) };
        let Some(end) = out.ids[begin..].iter().position(|id| *id == self.end_of_turn) else {
            let token = self.decode(&[self.end_of_turn]);
            return Err(TokenizerError::NoEnd { turn, token });
        };
        out.trained[begin..=begin + end].fill(true);
        Ok(())
    }

    /// Encodes a text in which `mark` breaks what is no control token.
    fn push_text(&self, text: &str, mark: char, out: &mut Rendered) {
        let mut from = 0;
        for token in self.codec.encode_marked(text, mark, out.ids.last().copied()) {
            let to = text.ceil_char_boundary(token.end.clamp(from, text.len()));
            out.text.extend(text[from..to].chars().filter(|c| *c != mark));
            out.ids.push(token.id);
            out.ends.push(out.text.len());
            from = to;
        }
        // What no token spells goes with the last one.
        out.text.extend(text[from..].chars().filter(|c| *c != mark));
        if let Some(end) = out.ends.last_mut() {
            *end = out.text.len();
        }
    }
}

/// What a template writes around an answer, if it is white space.
fn blanks(template: &Template, end_of_turn: &str) -> Option<(String, String)> {
    const ANSWER: &str = "answer";
    let chat = [Message::user("question"), Message::assistant(ANSWER)];
    let turns = Turns::new(&chat, &[]);
    let prompt = template.render(&turns.first(1), true).ok()?;
    let whole = template.render(&turns, false).ok()?;
    let (lead, rest) = whole.strip_prefix(&prompt)?.split_once(ANSWER)?;
    let (tail, _) = rest.split_once(end_of_turn)?;
    let blank = |text: &str| text.trim().is_empty();
    (blank(lead) && blank(tail)).then(|| (lead.to_string(), tail.to_string()))
}

/// A character that is not used; a Unicode non-character, unless somebody uses all of them.
fn unused_in(used: impl Fn(char) -> bool) -> char {
    let candidates = ('\u{fdd0}'..='\u{fdef}').chain('\u{e000}'..=char::MAX);
    // The range is larger than any chat that fits into a model.
    candidates.into_iter().find(|c| !used(*c)).unwrap_or('\u{fdd0}')
}

#[cfg(test)]
#[path = "tokenizer_tests.rs"]
mod tests;
