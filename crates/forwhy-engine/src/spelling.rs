//! Replies as text while they are written.
//!
//! 1. [`Spelling`] knows the bytes of each token; a character may be spread over several. A reply
//!    continues its prompt: a space at its beginning is the model's own, unless the tokenizer writes
//!    one in front of every text there.
//! 2. [`TextStream`] takes them as they come and gives text that is certain: whole characters, nothing
//!    that may be the beginning of a stop text, nothing from where a tool call may begin.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::tokenizer::ChatTokenizer;

/// The bytes of each token.
pub struct Spelling {
    bytes: Vec<Box<[u8]>>,
    /// Tokens behind which the tokenizer writes a space that the text does not have.
    opening: BTreeSet<u32>,
}

impl Spelling {
    /// Of a tokenizer; ids that it leaves out are spelt with no bytes.
    pub fn of(tokenizer: &ChatTokenizer) -> Self {
        let json = tokenizer.json();
        let bytes = byte_letters();
        let byte_level = has_byte_level(&json["decoder"]);
        let mut spelling = vec![Box::default(); tokenizer.vocab_size()];
        let mut spell = |id: &Value, bytes: Vec<u8>| {
            let place = id.as_u64().and_then(|id| spelling.get_mut(id as usize));
            if let Some(place) = place {
                *place = bytes.into_boxed_slice();
            }
        };
        for (text, id) in json["model"]["vocab"].as_object().into_iter().flatten() {
            spell(id, if byte_level { of_letters(text, &bytes) } else { of_piece(text) });
        }
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            let id = token["id"].as_u64().and_then(|id| u32::try_from(id).ok());
            let text = id.and_then(|id| tokenizer.token(id)).unwrap_or_default();
            let bytes = if byte_level { text.into_bytes() } else { of_piece(&text) };
            spell(&token["id"], bytes);
        }
        Spelling { bytes: spelling, opening: tokenizer.opening().clone() }
    }

    /// The bytes of a token; none of an id outside the vocabulary.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], |bytes| bytes)
    }

    /// The bytes of a token behind another.
    pub fn bytes_behind(&self, before: Option<u32>, id: u32) -> &[u8] {
        let bytes = self.bytes(id);
        match before.is_some_and(|before| self.opening.contains(&before)) {
            true => bytes.strip_prefix(b" ").unwrap_or(bytes),
            false => bytes,
        }
    }

    /// The text of tokens that continue `before`, broken UTF-8 as U+FFFD.
    pub fn text_behind(&self, before: &[u32], ids: &[u32]) -> String {
        let mut last = before.last().copied();
        let mut bytes = Vec::new();
        for id in ids {
            bytes.extend_from_slice(self.bytes_behind(last, *id));
            last = Some(*id);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.bytes.len()
    }
}

fn has_byte_level(decoder: &Value) -> bool {
    let inner = decoder["decoders"].as_array().into_iter().flatten();
    decoder["type"] == "ByteLevel" || inner.into_iter().any(has_byte_level)
}

/// The letter of each byte in GPT-2's byte-level vocabulary: printable bytes stand for themselves,
/// the others for the letters from U+0100 on.
fn byte_letters() -> [char; 256] {
    let mut spare = (0x100u32..).filter_map(char::from_u32);
    let printable = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    std::array::from_fn(|b| match b as u8 {
        b if printable(b) => char::from(b),
        _ => spare.next().unwrap_or_default(),
    })
}

/// A token that is written in byte letters; one with another letter in it (an added token that is
/// also in the vocabulary) means itself.
fn of_letters(text: &str, letters: &[char; 256]) -> Vec<u8> {
    let byte = |c: char| letters.iter().position(|letter| *letter == c).map(|b| b as u8);
    text.chars().map(byte).collect::<Option<Vec<u8>>>().unwrap_or_else(|| text.into())
}

/// A sentencepiece token: `▁` is a space, `<0xNN>` a byte.
fn of_piece(text: &str) -> Vec<u8> {
    let hex = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    match hex.filter(|hex| hex.len() == 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => vec![byte],
        None => text.replace('\u{2581}', " ").into_bytes(),
    }
}

/// What a stream looks out for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Texts that end the reply and are not part of it; not empty.
    pub stop: Vec<String>,
    /// Texts from which on nothing is shown before the end.
    pub hold: Vec<String>,
    /// Whether a reply that begins with `{` is not shown before the end.
    pub hold_object: bool,
}

/// A reply that grows.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    watch: Watch,
    /// Bytes of a character that is not complete.
    partial: Vec<u8>,
    text: String,
    shown: usize,
    /// Where the held part begins.
    held: Option<usize>,
    stopped: bool,
}

impl TextStream {
    /// An empty reply.
    pub fn new(watch: Watch) -> Self {
        TextStream { watch, ..TextStream::default() }
    }

    /// Adds the bytes of a token and gives what may be shown now. Bytes after a stop text are nothing.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        if self.stopped {
            return String::new();
        }
        self.partial.extend_from_slice(bytes);
        let old = self.text.len();
        self.decode(false);
        self.look(old);
        self.show(self.certain())
    }

    /// No byte follows: gives the rest that may be shown. What is held then is [`TextStream::held`].
    pub fn finish(&mut self) -> String {
        let old = self.text.len();
        if !self.stopped {
            self.decode(true);
            self.look(old);
        }
        self.show(self.held.unwrap_or(self.text.len()))
    }

    /// Whether a stop text was reached.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// The reply so far, without the stop text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The part that is held back because a tool call may have begun.
    pub fn held(&self) -> &str {
        &self.text[self.held.unwrap_or(self.text.len())..]
    }

    fn show(&mut self, to: usize) -> String {
        let from = self.shown.min(to);
        self.shown = to.max(from);
        self.text[from..self.shown].to_string()
    }

    /// Moves whole characters from `partial` to `text`, broken ones as U+FFFD.
    fn decode(&mut self, last: bool) {
        loop {
            match std::str::from_utf8(&self.partial) {
                Ok(text) => {
                    self.text.push_str(text);
                    return self.partial.clear();
                }
                Err(error) => {
                    let (good, bad) = (error.valid_up_to(), error.error_len());
                    self.text.push_str(&String::from_utf8_lossy(&self.partial[..good]));
                    let bad = bad.or(last.then_some(self.partial.len() - good));
                    self.partial.drain(..good + bad.unwrap_or(0));
                    if bad.is_none() {
                        return;
                    }
                    self.text.push(char::REPLACEMENT_CHARACTER);
                }
            }
        }
    }

    /// Finds the first stop text and the first mark of a tool call, in what is new since `old`.
    fn look(&mut self, old: usize) {
        if let Some(at) = first(&self.text, &self.watch.stop, old) {
            self.text.truncate(at);
            self.stopped = true;
        }
        if self.held.is_none() {
            self.held = first(&self.text, &self.watch.hold, old);
        }
        if self.held.is_none() && self.watch.hold_object && self.text.trim_start().starts_with('{')
        {
            self.held = Some(0);
        }
    }

    /// How far the text is certain to be shown.
    fn certain(&self) -> usize {
        if let Some(held) = self.held {
            return held;
        }
        if self.watch.hold_object && self.text.trim_start().is_empty() {
            return 0;
        }
        if self.stopped {
            return self.text.len();
        }
        let marks = self.watch.stop.iter().chain(&self.watch.hold);
        let begun = marks.map(|mark| begun(&self.text, mark)).max();
        self.text.len() - begun.unwrap_or(0)
    }
}

/// Where the first of `marks` begins that ends behind `old`.
fn first(text: &str, marks: &[String], old: usize) -> Option<usize> {
    let each = marks.iter().filter_map(|mark| {
        let mut from = old.saturating_sub(mark.len());
        while !text.is_char_boundary(from) {
            from -= 1;
        }
        text[from..].find(mark.as_str()).map(|at| from + at)
    });
    each.min()
}

/// Length of the longest end of `text` that is a beginning of `mark`.
fn begun(text: &str, mark: &str) -> usize {
    let lengths = mark.char_indices().map(|(at, _)| at).rev();
    lengths.into_iter().find(|n| text.ends_with(&mark[..*n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn watch(stop: &[&str], hold: &[&str]) -> Watch {
        let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect();
        Watch { stop: texts(stop), hold: texts(hold), hold_object: false }
    }

    /// All pieces that were shown, and the stream at its end.
    fn stream(watch: Watch, tokens: &[&[u8]]) -> (Vec<String>, TextStream) {
        let mut stream = TextStream::new(watch);
        let mut shown: Vec<String> = tokens.iter().map(|bytes| stream.push(bytes)).collect();
        shown.push(stream.finish());
        (shown, stream)
    }

    #[test]
    fn a_character_spread_over_tokens_is_shown_once_and_whole() {
        let (shown, _) = stream(Watch::default(), &[b"a\xf0\x9f", b"\x98", b"\x80b", b"\xc3"]);
        assert_eq!(shown, ["a", "", "\u{1f600}b", "", "\u{fffd}"]);
    }

    #[test]
    fn a_stop_text_across_tokens_is_never_shown() {
        let (shown, stream) = stream(watch(&["STOP"], &[]), &[b"go S", b"T", b"OP on", b"x"]);
        assert_eq!(shown, ["go ", "", "", "", ""]);
        assert!(stream.stopped() && stream.text() == "go ");
        let (shown, stream) = self::stream(watch(&["STOP"], &[]), &[b"go S", b"T", b"ART"]);
        assert_eq!(shown, ["go ", "", "START", ""]);
        assert!(!stream.stopped());
        let (shown, _) = self::stream(watch(&["STOP"], &[]), &[b"go ST"]);
        assert_eq!(shown, ["go ", "ST"]);
    }

    #[test]
    fn nothing_is_shown_from_a_tool_call_on() {
        let (shown, stream) = stream(watch(&["END"], &["<t>"]), &[b"hi <", b"t>{}", b"E", b"ND z"]);
        assert_eq!(shown, ["hi ", "", "", "", ""]);
        assert_eq!((stream.held(), stream.text()), ("<t>{}", "hi <t>{}"));
        let object = Watch { hold_object: true, ..Watch::default() };
        let (shown, stream) = self::stream(object.clone(), &[b" ", b"{\"a\"", b": 1}"]);
        assert_eq!((shown.concat().as_str(), stream.held()), ("", " {\"a\": 1}"));
        let (shown, _) = self::stream(object, &[b" ", b"no {}"]);
        assert_eq!(shown, ["", " no {}", ""]);
    }

    proptest! {
        #[test]
        fn pieces_add_up_to_the_text_of_all_bytes(
            tokens in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5), 0..9),
        ) {
            let refs: Vec<&[u8]> = tokens.iter().map(Vec::as_slice).collect();
            let (shown, stream) = stream(Watch::default(), &refs);
            let whole = tokens.concat();
            prop_assert_eq!(shown.concat(), String::from_utf8_lossy(&whole));
            prop_assert_eq!(stream.text(), String::from_utf8_lossy(&whole));
        }

        #[test]
        fn a_stop_text_cuts_where_it_first_occurs_whatever_the_tokens(
            text in "[abx]{0,30}", cuts in proptest::collection::vec(1usize..4, 30),
        ) {
            let (mut tokens, mut rest) = (Vec::new(), text.as_bytes());
            for cut in cuts {
                let (token, later) = rest.split_at(cut.min(rest.len()));
                tokens.push(token);
                rest = later;
            }
            tokens.push(rest);
            let (shown, stream) = stream(watch(&["abb", "xx"], &[]), &tokens);
            let at = ["abb", "xx"].iter().filter_map(|stop| {
                text.find(stop).map(|at| (at + stop.len(), at))
            });
            // the stop text that is complete first ends the reply, as it would token by token
            let shown = shown.concat();
            match at.min() {
                None => prop_assert_eq!(shown, text),
                Some(_) => {
                    prop_assert!(stream.stopped() && text.starts_with(&shown));
                    prop_assert!(!shown.contains("abb") && !shown.contains("xx"));
                }
            }
        }
    }
}
