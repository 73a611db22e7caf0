//! The control tokens of a tokenizer: those that only a chat template may write.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{TokenizerError, bad};

/// The control tokens of a tokenizer.
pub(super) struct Control {
    /// Ids by text.
    pub(super) by_text: BTreeMap<String, u32>,
    /// Texts by id.
    pub(super) by_id: BTreeMap<u32, String>,
}

impl Control {
    /// The special ones among the `added_tokens`.
    pub(super) fn of(json: &Value) -> Result<Self, TokenizerError> {
        let mut control = Control { by_text: BTreeMap::new(), by_id: BTreeMap::new() };
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            let id = token["id"].as_u64().and_then(|id| u32::try_from(id).ok());
            let (Some(id), Some(text)) = (id, token["content"].as_str()) else {
                return Err(bad(format!("an added token without id or content: {token}")));
            };
            if text.is_empty() {
                return Err(bad(format!("added token {id} is empty")));
            }
            if token["special"] == Value::Bool(true) {
                control.by_text.insert(text.into(), id);
                control.by_id.insert(id, text.into());
            }
        }
        Ok(control)
    }

    pub(super) fn end_of_text(&self) -> Option<u32> {
        let names = ["<|endoftext|>", "<|end_of_text|>", "</s>"];
        names.iter().find_map(|name| self.by_text.get(*name).copied())
    }

    /// The first control token in `text`: where, and which; the longest of several at one place.
    fn first<'a>(&'a self, text: &str) -> Option<(usize, &'a str)> {
        let found = self.by_text.keys().filter_map(|t| Some((text.find(t)?, t.as_str())));
        found.min_by_key(|(at, token)| (*at, std::cmp::Reverse(token.len())))
    }

    /// Breaks every control token's text in a content with `mark`, behind its first character.
    pub(super) fn mark(&self, text: &str, mark: char) -> String {
        let (mut content, mut rest) = (String::new(), text);
        while let Some((at, token)) = self.first(rest) {
            let border = at + token.chars().next().map_or(0, char::len_utf8);
            content.push_str(&rest[..border]);
            content.push(mark);
            rest = &rest[border..];
        }
        content + rest
    }
}
