//! Data rows as they stand in files: one JSON object a line. [`parse_rows`] reads a whole file or
//! nothing: the first bad line is named with its number and the reason.
//!
//! A row is either a chat (loss on the assistant's turns) or a document (loss on all tokens). Its
//! tags say what distance from an evaluation is computed from.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::chat::{Message, Role};

/// One row of training data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Unique within its file.
    pub id: String,
    /// A chat; or absent, if the row is a document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// A document; or absent, if the row is a chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What kind of row this is.
    pub tags: Tags,
    /// Where it comes from.
    pub source: String,
}

/// What a row is about, for the distance between data and evaluations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tags {
    /// Who faces the dilemma: `ai`, `user`, `third-party` or `nobody`.
    pub who: Who,
    /// Whether the row shows tools or acts.
    pub tools: bool,
    /// `chat` or `document`.
    pub format: Format,
    /// The kind of harm at stake (a kind's id, a family such as `deception`), or `none`.
    pub harm: String,
    /// The trade or field of life.
    pub domain: String,
}

/// Who faces the dilemma of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// The AI itself.
    Ai,
    /// The user who asks.
    User,
    /// Somebody told about.
    ThirdParty,
    /// There is no dilemma.
    Nobody,
}

/// Shape of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Turns with roles.
    Chat,
    /// Running text.
    Document,
}

impl Row {
    /// The texts a model learns to write: the assistant's turns, or the document.
    pub fn answers(&self) -> impl Iterator<Item = &str> {
        self.said_by(true)
    }

    /// The texts a model only reads: system and user turns.
    pub fn prompts(&self) -> impl Iterator<Item = &str> {
        self.said_by(false).filter(|_| self.text.is_none())
    }

    fn said_by(&self, assistant: bool) -> impl Iterator<Item = &str> {
        let turns = self.messages.iter();
        turns
            .filter(move |m| (m.role == Role::Assistant) == assistant)
            .map(|m| m.content.as_str())
            .chain(self.text.as_deref())
    }
}

/// A line that is not a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct RowError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and what was expected.
    pub reason: String,
}

/// Longest accepted line: longer ones are an error, not an allocation.
pub const MAX_LINE_BYTES: usize = 8 << 20;

/// All rows of a JSON Lines file, or the first error. An empty file is an error.
pub fn parse_rows(bytes: &[u8]) -> Result<Vec<Row>, RowError> {
    let fail = |line: usize, reason: String| RowError { line, reason };
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(fail(
            1,
            "the file starts with a byte order mark; save it as plain UTF-8".into(),
        ));
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let number = index + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() && number > rows.len() && bytes_end_here(bytes, number) {
            continue;
        }
        let row = parse_row(line).map_err(|reason| fail(number, reason))?;
        if let Some(first) = seen.insert(row.id.clone(), number) {
            return Err(fail(number, format!("id {:?} stands in line {first} already", row.id)));
        }
        rows.push(row);
    }
    if rows.is_empty() {
        return Err(fail(1, "the file holds no row".into()));
    }
    Ok(rows)
}

/// Whether line `number` is the empty piece behind the last line break.
fn bytes_end_here(bytes: &[u8], number: usize) -> bool {
    number == bytes.iter().filter(|b| **b == b'\n').count() + 1
}

fn parse_row(line: &[u8]) -> Result<Row, String> {
    if line.len() > MAX_LINE_BYTES {
        return Err(format!("{} bytes in one line, at most {MAX_LINE_BYTES}", line.len()));
    }
    let text = std::str::from_utf8(line).map_err(|e| format!("not UTF-8: {e}"))?;
    if text.trim().is_empty() {
        return Err("the line is empty".into());
    }
    let row: Row = serde_json::from_str(text).map_err(|e| e.to_string())?;
    check_row(&row)?;
    Ok(row)
}

fn check_row(row: &Row) -> Result<(), String> {
    if row.id.trim().is_empty() {
        return Err("the id is empty".into());
    }
    match (&row.text, row.messages.is_empty()) {
        (None, true) => return Err("neither `messages` nor `text`".into()),
        (Some(_), false) => {
            return Err("both `messages` and `text`: a row is one or the other".into());
        }
        (Some(text), true) if text.trim().is_empty() => return Err("`text` is empty".into()),
        _ => {}
    }
    let shape = if row.text.is_some() { Format::Document } else { Format::Chat };
    if row.tags.format != shape {
        return Err(format!("tags.format is {:?}, the row is a {shape:?}", row.tags.format));
    }
    if let Some(i) = row.messages.iter().position(|m| m.content.trim().is_empty()) {
        return Err(format!("message {} ({}) is empty", i + 1, row.messages[i].role));
    }
    if row.text.is_none() {
        check_turns(&row.messages)?;
    }
    Ok(())
}

/// An optional system turn, then user and assistant in turn, the assistant last.
fn check_turns(messages: &[Message]) -> Result<(), String> {
    let turns = match messages {
        [first, rest @ ..] if first.role == Role::System => rest,
        all => all,
    };
    for (i, m) in turns.iter().enumerate() {
        let want = if i % 2 == 0 { Role::User } else { Role::Assistant };
        if m.role != want {
            return Err(format!("turn {} is the {}'s, expected the {want}'s", i + 1, m.role));
        }
        if !m.tool_calls.is_empty() || m.tool_call_id.is_some() {
            return Err(format!("turn {} calls tools: such rows cannot be trained on yet", i + 1));
        }
    }
    if turns.is_empty() || turns.len() % 2 == 1 {
        return Err("the last turn must be the assistant's".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str) -> String {
        format!(
            r#"{{"id":"{id}","messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":"a"}}],"tags":{{"who":"nobody","tools":false,"format":"chat","harm":"none","domain":"test"}},"source":"test"}}"#
        )
    }

    fn error(text: &str) -> String {
        parse_rows(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_row_round_trips() {
        let rows = parse_rows(format!("{}\r\n{}\n", line("a"), line("b")).as_bytes()).unwrap();
        assert_eq!(rows.len(), 2);
        let again = serde_json::to_string(&rows[0]).unwrap();
        assert_eq!(again, line("a"));
    }

    #[test]
    fn fault_40_bad_data_names_line_and_reason() {
        assert_eq!(
            error(""),
            "line 1: the line is empty".replace("the line is empty", "the file holds no row")
        );
        assert!(error("\u{feff}{}").contains("byte order mark"));
        assert_eq!(
            error(&format!("{}\n{}\n", line("a"), line("a"))),
            "line 2: id \"a\" stands in line 1 already"
        );
        assert!(
            error(&line("a").replace("\"user\"", "\"human\"")).contains("unknown variant `human`")
        );
        let calls = line("a").replace(
            "\"content\":\"a\"",
            r#""content":"a","tool_calls":[{"id":"1","name":"mail","arguments":"{}"}]"#,
        );
        assert!(error(&calls).contains("turn 2 calls tools"));
        assert!(error(&line("a").replace("\"q\"", "\" \"")).contains("message 1 (user) is empty"));
        assert!(
            error(&format!("{}\n\n{}", line("a"), line("b")))
                .starts_with("line 2: the line is empty")
        );
        assert!(error(&format!("{}\n{{", line("a"))).starts_with("line 2: EOF"));
        assert!(error(&line("a").replace("assistant", "user")).contains("turn 2 is the user's"));
    }

    #[test]
    fn fault_40_other_encodings_and_long_lines_are_refused() {
        let mut latin = line("a").into_bytes();
        latin[8] = 0xe9;
        assert!(parse_rows(&latin).unwrap_err().reason.starts_with("not UTF-8"));
        let long = vec![b'x'; MAX_LINE_BYTES + 1];
        assert!(parse_rows(&long).unwrap_err().reason.contains("bytes in one line"));
    }

    #[test]
    fn answers_and_prompts_are_told_apart() {
        let row = &parse_rows(line("a").as_bytes()).unwrap()[0];
        assert_eq!(row.answers().collect::<Vec<_>>(), ["a"]);
        assert_eq!(row.prompts().collect::<Vec<_>>(), ["q"]);
    }
}
